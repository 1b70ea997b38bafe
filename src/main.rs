//! The door.

use std::process::ExitCode;

use tidegate::app;
use tidegate::cli::args::Command;
use tidegate::cli::{self, echo, export, generated, logs, restart, status, traffic, wait, why};

fn main() -> ExitCode {
    match cli::parse() {
        Ok(Command::Serve(args)) => app::serve(&args),
        Ok(Command::Sidecar(args)) => app::sidecar(&args),
        Ok(Command::Validate(args)) => app::validate(&args),
        Ok(Command::Plan(args)) => app::plan(&args),
        Ok(Command::Estimate(args)) => app::estimate_settings(&args),
        Ok(Command::Echo(args)) => echo::run(&args),
        Ok(Command::Status(args)) => status::run(&args),
        Ok(Command::Why(args)) => why::run(&args),
        Ok(Command::Wait(args)) => wait::run(&args),
        Ok(Command::Restart(args)) if args.cluster.kubernetes => app::cluster::restart(&args),
        Ok(Command::Traffic(args)) if args.cluster.kubernetes => app::cluster::traffic(&args),
        Ok(Command::Export(args)) if args.cluster.kubernetes => app::cluster::export(&args),
        Ok(Command::Restart(args)) => restart::run(&args),
        Ok(Command::Traffic(args)) => traffic::run(&args),
        Ok(Command::Logs(args)) => logs::run(&args),
        Ok(Command::Export(args)) => export::export(&args),
        Ok(Command::Restore(args)) => export::restore(&args),
        Ok(Command::Completions(args)) => generated::completions(&args),
        Ok(Command::Man(args)) => generated::man(&args),
        Ok(Command::Guard(_)) => tidegate::local::guard_main(),
        Err(code) => code,
    }
}
