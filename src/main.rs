//! The door.

use std::process::ExitCode;

use tidegate::cli::args::Command;
use tidegate::cli::{self, echo, exit};

fn main() -> ExitCode {
    match cli::parse() {
        Ok(Command::Echo(args)) => echo::run(&args),
        Ok(command) => {
            cli::complain(format_args!("this build has no such command: {command:?}"));
            ExitCode::from(exit::USAGE)
        }
        Err(code) => code,
    }
}
