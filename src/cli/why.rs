//! `tidegate why`: why a revision has the replicas it has, or why a request waited or was refused,
//! in words.

mod canary;
mod requests;
mod words;

use std::process::ExitCode;

use serde_json::{Value, json};

use super::args::WhyArgs;
use super::client::answers::{Decisions, Name, Requests, Revision, Status};
use super::client::{Client, ClientError};
use super::{asking, say, written};

/// Says why.
pub fn run(args: &WhyArgs) -> ExitCode {
    asking(async {
        let text = answer(args).await.map_err(|problem| format!("why: {problem}"))?;
        say(text.trim_end());
        Ok(())
    })
}

async fn answer(args: &WhyArgs) -> Result<String, String> {
    let text = |error: ClientError| error.to_string();
    let mut client = Client::connect(&args.client).await.map_err(text)?;
    let whole = client.whole().await.map_err(text)?;
    let status: Status = client.read(whole.clone()).map_err(text)?;
    let name = Name::new(&args.what);
    let revisions = status.revisions_of(&name);
    if revisions.is_empty() && status.service(&name).is_none() {
        return of_request(args, &mut client).await;
    }
    let mut asked = Vec::new();
    for revision in revisions {
        // Others of a service have nothing to explain.
        let has_share = status.services.iter().any(|service| {
            service.namespace == revision.namespace
                && service.traffic.iter().any(|share| share.revision == revision.name)
        });
        if has_share || revision.desired + revision.ready > 0 || name.to_string() == revision.id() {
            let answer = client.get(&revision.path("/decisions")).await.map_err(text)?;
            asked.push((revision, answer));
        }
    }
    if let Some(text) = written(&of_revisions(&whole, &asked), args.output) {
        return Ok(text);
    }
    let mut parts = Vec::new();
    if let Some(problem) = status.service(&name).and_then(|service| service.problem.as_ref()) {
        parts.push(format!("{name} cannot serve: {}: {}\n", problem.reason, problem.message));
    }
    let named = status.service(&name);
    for text in named.into_iter().flat_map(|service| &service.warnings) {
        // What a canary does is told at length.
        if !text.starts_with("Rollout") {
            parts.push(format!("{name}: {text}\n"));
        }
    }
    if let Some(canary) = named.and_then(|service| service.canary.as_ref()) {
        parts.push(canary::explain(&name.to_string(), canary));
    }
    for (revision, answer) in asked {
        let decisions: Decisions = client.read(answer).map_err(text)?;
        parts.push(words::explain(revision, &decisions.decisions));
    }
    Ok(parts.join("\n"))
}

/// The numbers of revisions, as the API has them, with their decisions.
fn of_revisions(whole: &Value, asked: &[(&Revision, Value)]) -> Value {
    let all = whole["revisions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let with_decisions = asked.iter().filter_map(|(revision, answer)| {
        let is_it = |known: &&Value| {
            known["namespace"] == revision.namespace.as_str()
                && known["name"] == revision.name.as_str()
        };
        let mut known = all.iter().find(is_it)?.clone();
        known["decisions"] = answer["decisions"].clone();
        Some(known)
    });
    json!({"revisions": with_decisions.collect::<Vec<_>>()})
}

async fn of_request(args: &WhyArgs, client: &mut Client) -> Result<String, String> {
    let text = |error: ClientError| error.to_string();
    let id = percent_encoding::utf8_percent_encode(&args.what, percent_encoding::NON_ALPHANUMERIC);
    let answer = client.get(&format!("/api/v1/requests/{id}")).await.map_err(text)?;
    let requests: Requests = client.read(answer.clone()).map_err(text)?;
    if requests.requests.is_empty() {
        return Err(format!(
            "{} is no service or revision here, and no request of that X-Request-Id waited or was \
             refused among the last 10,000 that did",
            args.what
        ));
    }
    if let Some(text) = written(&answer, args.output) {
        return Ok(text);
    }
    let told: Vec<String> = requests.requests.iter().map(requests::explain).collect();
    Ok(told.join("\n"))
}
