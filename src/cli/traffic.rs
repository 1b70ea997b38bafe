//! `tidegate traffic`: other shares for a service.

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::{Value, json};

use super::args::TrafficArgs;
use super::client::Client;
use super::client::answers::{Name, Traffic};
use super::{asking, say};

/// What an order changes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Change {
    before: Vec<Traffic>,
    after: Vec<Traffic>,
}

/// Shows what changes, and has it so.
pub fn run(args: &TrafficArgs) -> ExitCode {
    asking(async { order(args).await.map_err(|problem| format!("traffic: {problem}")) })
}

async fn order(args: &TrafficArgs) -> Result<(), String> {
    let name = Name::new(&args.service);
    let mut body = body(args);
    let mut client = Client::connect(&args.client).await.map_err(|error| error.to_string())?;
    let path = name.service_path("/traffic");
    // What is shown first is what would be done: nothing is half done if it cannot be.
    body["dryRun"] = json!(true);
    let planned = client.post(&path, &body).await.map_err(|error| error.to_string())?;
    let change: Change = client.read(planned).map_err(|error| error.to_string())?;
    say(shown(&name, &change));
    if args.dry_run {
        return Ok(());
    }
    body["dryRun"] = json!(false);
    client.post(&path, &body).await.map_err(|error| error.to_string())?;
    Ok(())
}

fn body(args: &TrafficArgs) -> Value {
    if args.rollback {
        return json!({"rollback": true});
    }
    if args.to_latest {
        return json!({"targets": [{"percent": 100}]});
    }
    let targets = args.shares.iter().map(|share| match &share.revision {
        Some(name) => json!({"revisionName": name, "percent": share.percent}),
        None => json!({"percent": share.percent}),
    });
    json!({"targets": targets.collect::<Vec<_>>()})
}

/// Each revision that has or had a share, on a line.
fn shown(name: &Name, change: &Change) -> String {
    let share_in = |shares: &[Traffic], revision: &str| -> u32 {
        let of_it = shares.iter().filter(|share| share.revision == revision);
        of_it.map(|share| u32::from(share.percent)).sum()
    };
    let mut names: Vec<&str> = Vec::new();
    for share in change.before.iter().chain(&change.after) {
        if !names.contains(&share.revision.as_str()) {
            names.push(&share.revision);
        }
    }
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut lines = vec![name.to_string()];
    lines.extend(names.iter().map(|name| {
        let (before, after) = (share_in(&change.before, name), share_in(&change.after, name));
        if before == after {
            return format!("  {name:width$}  {before:3}%");
        }
        format!("  {name:width$}  {before:3}% → {after:3}%")
    }));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn the_difference() {
        let change = json!({
            "before": [{"revision": "a-00001", "percent": 90}, {"revision": "a-2", "percent": 10}],
            "after": [{"revision": "a-3", "percent": 90}, {"revision": "a-2", "percent": 10}],
        });
        let change: Change = serde_json::from_value(change).unwrap();
        expect![[r#"
            default/a
              a-00001   90% →   0%
              a-2       10%
              a-3        0% →  90%"#]]
        .assert_eq(&shown(&Name::new("a"), &change));
    }
}
