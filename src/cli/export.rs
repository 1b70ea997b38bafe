//! `tidegate export` and `tidegate restore`: all that is in effect as a file, and whether it is.

use std::fmt::Write as _;
use std::fs;
use std::process::ExitCode;

use serde::Deserialize;
use serde_json::Value;

use super::args::{ClientArgs, ExportArgs, RestoreArgs};
use super::client::Client;
use super::{asking, say};
use crate::config::problem::ConfigProblem;
use crate::config::world::{differences, world_of};
use crate::config::yaml::to_text;

/// What is in effect.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Export {
    items: Vec<Value>,
    omitted: Vec<String>,
}

impl Export {
    fn text(&self) -> String {
        let mut text = to_text(&self.items);
        for omitted in &self.omitted {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# not included: {omitted} (--include-secrets)");
        }
        text
    }
}

/// Prints all that is in effect.
pub fn export(args: &ExportArgs) -> ExitCode {
    asking(async {
        let export = fetch(&args.client, args.include_secrets).await;
        let export = export.map_err(|problem| format!("export: {problem}"))?;
        say(export.text().trim_end());
        Ok(())
    })
}

async fn fetch(args: &ClientArgs, secrets: bool) -> Result<Export, String> {
    let mut client = Client::connect(args).await.map_err(|error| error.to_string())?;
    let path = format!("/api/v1/export?secrets={secrets}");
    let answer = client.get(&path).await.map_err(|error| error.to_string())?;
    client.read(answer).map_err(|error| error.to_string())
}

/// Compares what runs with a file.
pub fn restore(args: &RestoreArgs) -> ExitCode {
    asking(async {
        let found = check(args).await.map_err(|problem| format!("restore: {problem}"))?;
        if found.is_empty() {
            say(format_args!("what runs is what {} says", args.file.display()));
            return Ok(());
        }
        found.iter().for_each(say);
        Err(format!("restore: {} differences", found.len()))
    })
}

async fn check(args: &RestoreArgs) -> Result<Vec<String>, String> {
    let file = args.file.display().to_string();
    let text = fs::read_to_string(&args.file).map_err(|error| format!("{file}: {error}"))?;
    let wrong = |problems: Vec<ConfigProblem>| {
        let texts =
            problems.iter().map(|problem| problem.to_string().replacen("export.yaml", &file, 1));
        texts.collect::<Vec<_>>().join("\n")
    };
    let there = world_of(text).map_err(wrong)?;
    let running = fetch(&args.client, false).await?;
    let here = world_of(running.text()).map_err(wrong)?;
    Ok(differences(&here, &there, "what runs", &file))
}
