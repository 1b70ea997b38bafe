//! The command line: arguments, client commands over the admin API, output for people.

pub mod args;
pub mod echo;
pub mod exit;
pub mod logging;
pub mod status;

use std::io::{self, Write as _};
use std::process::ExitCode;

use args::Command;

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
