//! `tidegate status`: what a running tidegate is doing, by its admin API.

mod table;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use super::args::{Output, StatusArgs};
use super::client::{Client, ClientError};
use super::paint::Paint;
use super::{asking, written};

/// Shows the state once, or again and again.
pub fn run(args: &StatusArgs) -> ExitCode {
    asking(async {
        loop {
            let shown = match fetch(args).await {
                Ok(text) => show(args, &text),
                Err(problem) if args.watch => show(args, &format!("{problem}\n")),
                Err(problem) => return Err(problem.to_string()),
            };
            // Nobody reads any more (for example `| head`): that is an end, not an error.
            if !args.watch || shown.is_err() {
                return Ok(());
            }
            tokio::time::sleep(args.interval).await;
        }
    })
}

async fn fetch(args: &StatusArgs) -> Result<String, ClientError> {
    let mut client = Client::connect(&args.client).await?;
    let whole = client.whole().await?;
    if let Some(text) = written(&whole, args.output) {
        return Ok(text);
    }
    let status = client.read(whole)?;
    Ok(table::render(&status, Paint::of_stdout()))
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
