//! `tidegate logs`: what replicas printed.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use super::args::LogsArgs;
use super::asking;
use super::client::Client;
use super::client::answers::{Line, Logs, Name};

/// How often it is looked for more.
const AGAIN: Duration = Duration::from_millis(300);

/// Shows lines, and goes on if that is wanted.
pub fn run(args: &LogsArgs) -> ExitCode {
    asking(async { show(args).await.map_err(|problem| format!("logs: {problem}")) })
}

async fn show(args: &LogsArgs) -> Result<(), String> {
    let name = Name::new(&args.what);
    let mut client = Client::connect(&args.client).await.map_err(|error| error.to_string())?;
    // The last line that was seen of each revision.
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let mut is_first = true;
    loop {
        let status = client.status().await.map_err(|error| error.to_string())?;
        let revisions = status.revisions_of(&name);
        if revisions.is_empty() && is_first {
            return Err(format!("there is no service or revision {name}"));
        }
        let mut lines = Vec::new();
        for revision in &revisions {
            let after = seen.get(&revision.id()).copied().unwrap_or(0);
            let path = revision.path(&format!("/logs?after={after}"));
            let answer = match client.get(&path).await {
                // It is gone since.
                Err(error) if error.is_unknown() => continue,
                answer => answer.map_err(|error| error.to_string())?,
            };
            let logs: Logs = client.read(answer).map_err(|error| error.to_string())?;
            if let Some(elsewhere) = logs.elsewhere {
                return Err(elsewhere);
            }
            if let Some(line) = logs.lines.last() {
                seen.insert(revision.id(), line.number);
            }
            lines.extend(logs.lines.into_iter().map(|line| (revision.name.clone(), line)));
        }
        lines.sort_by_key(|(_, line)| line.number);
        if is_first && let Some(tail) = args.tail {
            lines.drain(..lines.len().saturating_sub(tail));
        }
        // Nobody reads any more: that is an end, not an error.
        if print(&lines, revisions.len() > 1).is_err() || !args.follow {
            return Ok(());
        }
        is_first = false;
        tokio::time::sleep(AGAIN).await;
    }
}

fn print(lines: &[(String, Line)], several: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (revision, line) in lines {
        let Line { replica, text, stream, .. } = line;
        let mark = if stream == "stderr" { "!" } else { " " };
        if several {
            writeln!(out, "{revision}-{replica}{mark} {text}")?;
        } else {
            writeln!(out, "{replica}{mark} {text}")?;
        }
    }
    out.flush()
}
