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
    let shares = |shares: Vec<Traffic>| -> Vec<(String, u8)> {
        shares.into_iter().map(|share| (share.revision, share.percent)).collect()
    };
    let (before, after) = (shares(change.before), shares(change.after));
    say(difference(&name.to_string(), &before, &after));
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

/// Shares before and after: each revision that has or had one, on a line.
pub fn difference(service: &str, before: &[(String, u8)], after: &[(String, u8)]) -> String {
    let share_in = |shares: &[(String, u8)], revision: &str| -> u32 {
        let of_it = shares.iter().filter(|(name, _)| name == revision);
        of_it.map(|(_, percent)| u32::from(*percent)).sum()
    };
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in before.iter().chain(after) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut lines = vec![service.to_owned()];
    lines.extend(names.iter().map(|name| {
        let (before, after) = (share_in(before, name), share_in(after, name));
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
        let shares = |shares: [(&str, u8); 2]| shares.map(|(name, share)| (name.to_owned(), share));
        let before = shares([("a-00001", 90), ("a-2", 10)]);
        let after = shares([("a-3", 90), ("a-2", 10)]);
        expect![[r#"
            default/a
              a-00001   90% →   0%
              a-2       10%
              a-3        0% →  90%"#]]
        .assert_eq(&difference("default/a", &before, &after));
    }
}
