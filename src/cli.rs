//! The command line: arguments, client commands over the admin API, output for people.

pub mod args;
mod client;
pub mod echo;
pub mod exit;
pub mod export;
pub mod generated;
pub mod logging;
pub mod logs;
mod paint;
pub mod restart;
pub mod status;
pub mod traffic;
pub mod wait;
pub mod why;

use std::future::Future;
use std::io::{self, Write as _};
use std::process::ExitCode;

use args::{Command, Output};

/// Understands this process' command line.
///
/// # Errors
/// The exit code when nothing is left to do: help was printed (0) or the usage is wrong (64).
pub fn parse() -> Result<Command, ExitCode> {
    args::parse_from(std::env::args_os().collect()).map_err(|error| {
        // A closed output is no reason to fail.
        let _ = error.print();
        let is_error = error.use_stderr();
        if is_error { ExitCode::from(exit::USAGE) } else { ExitCode::SUCCESS }
    })
}

/// Prints a line to standard output.
pub fn say(message: impl std::fmt::Display) {
    let mut out = io::stdout().lock();
    // A closed output is no reason to fail.
    let _ = writeln!(out, "{message}");
    let _ = out.flush();
}

/// Prints what went wrong to standard error.
pub fn complain(message: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "tidegate: {message}");
}

/// Runs a client command; what went wrong is said, with the exit code 1.
pub fn asking(command: impl Future<Output = Result<(), String>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => Err(format!("no event loop: {error}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            complain(problem);
            ExitCode::from(exit::FAILURE)
        }
    }
}

/// An answer as it was given; none where it is to be put in words.
fn written(answer: &serde_json::Value, output: Output) -> Option<String> {
    match output {
        Output::Table => None,
        Output::Json => Some(format!("{answer:#}\n")),
        Output::Yaml => Some(crate::config::yaml::to_text(std::slice::from_ref(answer))),
    }
}
