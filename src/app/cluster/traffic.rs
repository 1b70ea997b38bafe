//! Other shares in a Service's `spec.traffic`.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{CLIENT_MANAGER, call, client, name, name_of, revisions, value};
use crate::cli::args::TrafficArgs;
use crate::cli::say;
use crate::cli::traffic::difference;
use crate::config::world::traffic_block;
use crate::kubernetes::kinds::Kind;

/// Shows what changes, and has it so.
pub(super) async fn order(args: &TrafficArgs) -> Result<(), String> {
    let client = client().await?;
    let (namespace, service) = name_of(&args.service, &client);
    let services = Kind::Service.in_namespace(&client, &namespace);
    let object = value(call(services.get(&service)).await?);
    let known = revisions(&client, &namespace, &service).await?;
    let known: Vec<&str> = known.iter().map(name).collect();
    let before = shares(&object);
    let new = match (args.rollback, args.to_latest) {
        (true, _) => vec![(Some(before_newest(&before, &known)?), 100)],
        (_, true) => vec![(None, 100)],
        _ => args.shares.iter().map(|share| (share.revision.clone(), share.percent)).collect(),
    };
    let after = resolved(&new, &known, &object)?;
    say(difference(&format!("{namespace}/{service}"), &before, &after));
    if args.dry_run {
        return Ok(());
    }
    let traffic = traffic_block(object.pointer("/spec/traffic"), &new);
    // Whoever changed it meanwhile would be overruled by what was looked at before.
    let version = &object["metadata"]["resourceVersion"];
    let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"traffic": traffic}});
    let params =
        PatchParams { field_manager: Some(CLIENT_MANAGER.to_owned()), ..Default::default() };
    call(services.patch(&service, &params, &Patch::Merge(&patch))).await.map(drop)
}

/// Shares of the moment, as the Service's status has them.
fn shares(service: &Value) -> Vec<(String, u8)> {
    let entries = service.pointer("/status/traffic").and_then(Value::as_array);
    let share = |entry: &Value| {
        let percent = u8::try_from(entry.get("percent")?.as_u64()?).ok()?;
        Some((entry.get("revisionName")?.as_str()?.to_owned(), percent))
    };
    let shares = entries.into_iter().flatten().filter_map(share);
    shares.filter(|(_, percent)| *percent > 0).collect()
}

/// The revision before the newest one with traffic; known ones oldest first.
fn before_newest(shares: &[(String, u8)], known: &[&str]) -> Result<String, String> {
    let has_share = |revision: &&str| shares.iter().any(|(name, _)| name == revision);
    match known.iter().rposition(has_share) {
        Some(index) if index > 0 => Ok(known[index - 1].to_owned()),
        Some(index) => Err(format!("there is no revision before {}", known[index])),
        None => Err("no revision has traffic yet".to_owned()),
    }
}

/// The same with names, all of which are there.
fn resolved(
    new: &[(Option<String>, u8)],
    known: &[&str],
    service: &Value,
) -> Result<Vec<(String, u8)>, String> {
    let latest = service.pointer("/status/latestReadyRevisionName").and_then(Value::as_str);
    let resolve = |(revision, percent): &(Option<String>, u8)| match revision {
        Some(revision) if known.contains(&revision.as_str()) => Ok((revision.clone(), *percent)),
        Some(revision) => {
            Err(format!("there is no revision {revision}; there are {}", known.join(", ")))
        }
        None => Ok((latest.unwrap_or("the latest revision").to_owned(), *percent)),
    };
    new.iter().map(resolve).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_what_was_before_them() {
        let service = json!({"status": {"latestReadyRevisionName": "a-3", "traffic": [
            {"revisionName": "a-1", "percent": 60}, {"revisionName": "a-2", "percent": 40},
            {"revisionName": "a-3", "tag": "next"},
        ]}});
        let known = ["a-0", "a-1", "a-2", "a-3"];
        let shares = shares(&service);
        assert_eq!(shares, [("a-1".to_owned(), 60), ("a-2".to_owned(), 40)]);
        assert_eq!(before_newest(&shares, &known), Ok("a-1".to_owned()));
        assert!(before_newest(&shares, &["a-2", "a-3"]).unwrap_err().ends_with("before a-2"));
        assert!(before_newest(&[], &known).is_err());
        let all =
            |name: Option<&str>| resolved(&[(name.map(str::to_owned), 100)], &known, &service);
        assert_eq!(all(None), Ok(vec![("a-3".to_owned(), 100)]));
        assert_eq!(all(Some("a-0")), Ok(vec![("a-0".to_owned(), 100)]));
        assert!(all(Some("b")).unwrap_err().contains("there are a-0, a-1"));
    }
}
