//! `tidegate restart`: other replicas in place of those there are.

mod watching;

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::args::RestartArgs;
use super::client::Client;
use super::client::answers::{Name, Revision};
use super::{asking, say};
use watching::Watching;

/// How soon it is looked again.
const AGAIN: Duration = Duration::from_millis(200);

/// Replaces replicas, once or whenever files change.
pub fn run(args: &RestartArgs) -> ExitCode {
    asking(async {
        let fail = |problem: String| format!("restart: {problem}");
        let watching = args.watch.then(|| Watching::begin(&args.directory)).transpose();
        let Some(mut watching) = watching.map_err(fail)? else {
            return restart(args).await.map_err(fail);
        };
        say(format_args!("looking at {}", args.directory.display()));
        while let Some(path) = watching.changed().await {
            say(format_args!("{} changed", path.display()));
            // What does not start now may after the next change.
            if let Err(problem) = restart(args).await {
                super::complain(fail(problem));
            }
        }
        Ok(())
    })
}

/// Replaces the replicas of a service or revision, and returns once that is done.
async fn restart(args: &RestartArgs) -> Result<(), String> {
    let name = Name::new(&args.what);
    let deadline = Instant::now() + args.timeout;
    let text = |error: super::client::ClientError| error.to_string();
    let mut client = Client::connect(&args.client).await.map_err(text)?;
    let status = client.status().await.map_err(text)?;
    let revisions = status.revisions_of(&name);
    if revisions.is_empty() {
        return Err(format!("there is no service or revision {name}"));
    }
    let running: Vec<&Revision> =
        revisions.into_iter().filter(|known| known.ready + known.starting > 0).collect();
    if running.is_empty() {
        say(format_args!("{name} has no replicas: the next request starts a new one"));
        return Ok(());
    }
    for revision in &running {
        client.post(&revision.path("/restart"), &json!({})).await.map_err(text)?;
        say(format_args!("{}: {} to be replaced", revision.id(), revision.ready));
    }
    loop {
        let status = client.status().await.map_err(text)?;
        let is_among = |known: &&&Revision| running.iter().any(|one| one.id() == known.id());
        let left: Vec<&Revision> = status
            .revisions
            .iter()
            .filter(|known| is_among(&known))
            .filter(|known| known.to_renew > 0)
            .collect();
        let Some(first) = left.first() else {
            say(format_args!("{name} is restarted"));
            return Ok(());
        };
        let stays = "the replicas of before go on serving";
        if let Some(problem) = &first.problem {
            return Err(format!("{}: {}; {stays}", first.id(), problem.short()));
        }
        if Instant::now() >= deadline {
            let (id, left) = (first.id(), first.to_renew);
            return Err(format!("{id}: {left} not replaced within {:?}; {stays}", args.timeout));
        }
        sleep(AGAIN).await;
    }
}
