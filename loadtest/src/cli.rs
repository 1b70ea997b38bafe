//! The command line: one subcommand a question, and the generator as a tool of its own.

mod run;
mod server;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::results::{Machine, Outcome};
use crate::scenario::{
    burst, canary, drain, fairness, from_zero, idle, overhead, overload, peers, rollout, scale,
};
use crate::tidegate;

const EXAMPLES: &str = "\
Examples:
  cargo build --release --workspace
  target/release/loadtest scale                   a day's traffic in four minutes
  target/release/loadtest burst --requests 200    an own number
  target/release/loadtest overhead                beside a direct connection
  target/release/loadtest peers --only get,h2     beside HAProxy, nginx and Envoy
  target/release/loadtest all                     every question, then one page
  target/release/loadtest run http://127.0.0.1:8080/ --rate 1000 --duration 10s

A scenario starts what it needs on free ports of 127.0.0.1, prints a table, writes JSON and SVG to
loadtest-results, and stops what it started, also when it is interrupted.


Exit codes: 0 fine, 1 something failed or did not hold, 64 wrong usage, 130 interrupted.";

/// Load for tidegate: an open-loop generator for any server, and scenarios that each answer one
/// question with a table, JSON and a plot.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send requests to a URL and tell latencies
    #[command(after_help = run::EXAMPLES)]
    Run(Box<run::RunArgs>),
    /// How long does the first request to a service at zero wait, and for what?
    #[command(name = "from_zero")]
    FromZero(from_zero::Args),
    /// How long does a crowd wait that comes all at once?
    Burst(burst::Args),
    /// Do replicas follow the load of a day?
    Scale(scale::Args),
    /// Is anything lost when traffic moves to a new revision?
    Rollout(rollout::Args),
    /// Is a bad new revision taken back?
    Canary(canary::Args),
    /// Is anything lost when tidegate is stopped and started again?
    Drain(drain::Args),
    /// What do many services and connections cost at rest?
    Idle(idle::Args),
    /// What happens when more is asked for than there is?
    Overload(overload::Args),
    /// Do modest services suffer when one is greedy?
    Fairness(fairness::Args),
    /// How much later is an answer through tidegate than directly?
    Overhead(overhead::Args),
    /// What does a request cost in tidegate, and what in other proxies?
    #[command(after_help = peers::EXAMPLES)]
    Peers(peers::Args),
    /// Run every scenario but `peers`, which takes half an hour, then write the report
    All(AllArgs),
    /// Make one HTML page of all results
    Report(ReportArgs),
    /// Serve small answers at little cost: the origin of `peers` and `overhead`
    Origin(server::OriginArgs),
    /// Copy bytes to an address and back: the floor of `peers`
    Copy(server::CopyArgs),
}

/// Commands that `all` does not run.
const NOT_IN_ALL: [&str; 7] = ["run", "all", "report", "help", "peers", "origin", "copy"];

/// Options of `all`.
#[derive(Args, Clone, Debug)]
struct AllArgs {
    #[command(flatten)]
    common: Common,
}

/// Options of `report`.
#[derive(Args, Clone, Debug)]
struct ReportArgs {
    /// Folder with results
    #[arg(long, value_name = "DIR", default_value = "loadtest-results")]
    results: PathBuf,
}

/// Options that all scenarios have.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// The tidegate to measure [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    pub tidegate: Option<PathBuf>,

    /// Folder for results
    #[arg(long, value_name = "DIR", default_value = "loadtest-results")]
    pub results: PathBuf,

    /// The same seed draws the same arrivals
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// What a scenario works with.
#[derive(Clone, Debug)]
pub struct Context {
    /// The tidegate to measure.
    pub tidegate: PathBuf,
    /// What it says of itself and where it runs.
    pub machine: Machine,
    /// Seed of everything that is drawn.
    pub seed: u64,
}

/// A failure of a scenario; told to the user as it is.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Common {
    /// Finds tidegate.
    ///
    /// # Errors
    /// When there is none.
    pub async fn context(&self) -> Result<Context, Failure> {
        let binary = tidegate::binary(self.tidegate.as_deref())?;
        let machine = Machine::this(tidegate::version(&binary).await);
        Ok(Context { tidegate: binary, machine, seed: self.seed })
    }
}

/// Understands the command line and does what it says; the exit code tells how it went.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed output is no reason to fail.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(64) } else { ExitCode::SUCCESS };
        }
    };
    if let Command::Peers(_) = &cli.command {
        crate::peers::place::enter();
    }
    crate::process::raise_file_limit();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    // Whatever was started is stopped where its owner is dropped: here, when a signal ends it.
    let code = runtime.block_on(async {
        tokio::select! {
            result = dispatch(cli.command) => match result {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::FAILURE,
                Err(error) => failed(&*error),
            },
            () = interrupted() => {
                progress("interrupted");
                ExitCode::from(130)
            }
        }
    });
    runtime.shutdown_background();
    code
}

async fn dispatch(command: Command) -> Result<bool, Failure> {
    match command {
        Command::Run(args) => run::run(&args).await,
        Command::FromZero(args) => from_zero::run(&args).await,
        Command::Burst(args) => burst::run(&args).await,
        Command::Scale(args) => scale::run(&args).await,
        Command::Rollout(args) => rollout::run(&args).await,
        Command::Canary(args) => canary::run(&args).await,
        Command::Drain(args) => drain::run(&args).await,
        Command::Idle(args) => idle::run(&args).await,
        Command::Overload(args) => overload::run(&args).await,
        Command::Fairness(args) => fairness::run(&args).await,
        Command::Overhead(args) => overhead::run(&args).await,
        Command::Peers(args) => peers::run(&args).await,
        Command::Origin(args) => server::origin(&args).await,
        Command::Copy(args) => server::copy(&args).await,
        Command::All(args) => all(&args.common).await,
        Command::Report(args) => report(&args.results),
    }
}

/// Every scenario with its own defaults; one that fails does not keep the others from running.
async fn all(common: &Common) -> Result<bool, Failure> {
    let commands = Cli::command();
    let names = commands.get_subcommands().map(clap::Command::get_name);
    let mut well = true;
    for name in names.filter(|name| !NOT_IN_ALL.contains(name)) {
        say(format!("== {name}"));
        let mut arguments: Vec<OsString> = vec!["loadtest".into(), name.into()];
        arguments.extend(["--results".into(), common.results.clone().into()]);
        arguments.extend(["--seed".into(), common.seed.to_string().into()]);
        if let Some(tidegate) = &common.tidegate {
            arguments.extend(["--tidegate".into(), tidegate.clone().into()]);
        }
        let cli = Cli::try_parse_from(arguments)?;
        // Boxed, as this function is among what it calls.
        match Box::pin(dispatch(cli.command)).await {
            Ok(held) => well &= held,
            Err(error) => {
                progress(format!("loadtest: {name}: {error}"));
                well = false;
            }
        }
        say("");
    }
    Ok(report(&common.results)? && well)
}

fn report(folder: &Path) -> Result<bool, Failure> {
    say(format!("wrote {}", crate::report::write(folder)?.display()));
    Ok(true)
}

/// Prints and keeps what a scenario found; returns whether all held that must.
///
/// # Errors
/// When it cannot be written.
pub fn finish(common: &Common, outcome: &Outcome) -> Result<bool, Failure> {
    say(outcome.text().trim_end());
    for path in outcome.write(&common.results)? {
        say(format!("wrote {}", path.display()));
    }
    Ok(outcome.holds())
}

async fn interrupted() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

fn failed(error: &dyn Display) -> ExitCode {
    progress(format!("loadtest: {error}"));
    ExitCode::FAILURE
}

/// Prints to standard output.
pub fn say(text: impl Display) {
    // A closed output is no reason to fail.
    let _ = writeln!(io::stdout(), "{text}");
}

/// Tells how far it is, on standard error.
pub fn progress(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}
