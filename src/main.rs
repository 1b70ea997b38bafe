//! The door.

use std::process::ExitCode;

use tidegate::cli::args::Command;
use tidegate::cli::{self, echo, exit, status};

fn main() -> ExitCode {
    match cli::parse() {
        Ok(Command::Echo(args)) => echo::run(&args),
        Ok(Command::Status(args)) => status::run(&args),
        Ok(Command::Serve(_) | Command::Validate(_) | Command::Guard(_)) => {
            cli::complain("this command is not part of this build");
            ExitCode::from(exit::USAGE)
        }
        Err(code) => code,
    }
}
