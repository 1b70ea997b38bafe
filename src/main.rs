//! The door.

use std::process::ExitCode;

use tidegate::app;
use tidegate::cli::args::Command;
use tidegate::cli::{self, echo, status};

fn main() -> ExitCode {
    match cli::parse() {
        Ok(Command::Serve(args)) => app::serve(&args),
        Ok(Command::Sidecar(args)) => app::sidecar(&args),
        Ok(Command::Validate(args)) => app::validate(&args),
        Ok(Command::Echo(args)) => echo::run(&args),
        Ok(Command::Status(args)) => status::run(&args),
        Ok(Command::Guard(_)) => tidegate::local::guard_main(),
        Err(code) => code,
    }
}
