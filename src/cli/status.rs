//! `tidegate status`: what a running tidegate is doing, by its admin API.

mod client;
mod table;
mod tls;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use serde::Deserialize;
use serde_json::{Value, json};

use super::args::{Output, StatusArgs};
use super::exit;

/// The parts of the API's answers that the table needs. What is absent counts as empty, so that a
/// client understands a tidegate of another version.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    services: Vec<Service>,
    rejected: Vec<String>,
    conditions: Vec<String>,
    revisions: Vec<Revision>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Service {
    namespace: String,
    name: String,
    url: String,
    traffic: Vec<Traffic>,
    tags: Vec<Tag>,
    problem: Option<Problem>,
    warnings: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Traffic {
    revision: String,
    percent: u8,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Tag {
    name: String,
    revision: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    reason: String,
    message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Revision {
    namespace: String,
    name: String,
    service: Option<String>,
    desired: u32,
    ready: u32,
    in_flight: u64,
    waiting: u32,
    problem: Option<Problem>,
}

/// Shows the state once, or again and again.
pub fn run(args: &StatusArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            super::complain(format_args!("status: {error}"));
            return ExitCode::from(exit::FAILURE);
        }
    };
    runtime.block_on(async {
        loop {
            let shown = match fetch(args).await {
                Ok(text) => show(args, &text),
                Err(problem) if args.watch => show(args, &format!("{problem}\n")),
                Err(problem) => {
                    super::complain(problem);
                    return ExitCode::from(exit::FAILURE);
                }
            };
            // Nobody reads any more (for example `| head`): that is an end, not an error.
            if !args.watch || shown.is_err() {
                return ExitCode::SUCCESS;
            }
            tokio::time::sleep(args.interval).await;
        }
    })
}

async fn fetch(args: &StatusArgs) -> Result<String, client::ClientError> {
    let mut client = client::Client::connect(args.admin, &args.known).await?;
    let mut whole: Value = client.get("/api/v1/services").await?;
    let revisions: Value = client.get("/api/v1/revisions").await?;
    whole["revisions"] = revisions.get("revisions").cloned().unwrap_or_else(|| json!([]));
    if args.output == Output::Json {
        return Ok(format!("{whole:#}\n"));
    }
    let status = serde_json::from_value(whole)
        .map_err(|problem| client::ClientError::Answer(args.admin, problem.to_string()))?;
    Ok(table::render(&status))
}

fn show(args: &StatusArgs, text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if args.watch && out.is_terminal() {
        // To the top, and clear what is below.
        write!(out, "\x1b[H\x1b[2J")?;
    } else if args.watch && args.output == Output::Table {
        writeln!(out)?;
    }
    out.write_all(text.as_bytes())?;
    out.flush()
}
