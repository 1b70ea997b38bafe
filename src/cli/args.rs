//! Command line arguments. Every option can be given by a variable `TIDEGATE_…` as well; the
//! command line wins.

mod client;
mod cluster;
mod estimate;
mod https;
mod parse;
mod plan;
mod shared;
mod sidecar;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use ipnet::IpNet;

use crate::model::ServiceId;
use parse::{host_address, listen_address, network, object_name, run_command};

pub use client::{
    ClientArgs, ExportArgs, InClusterArgs, LogsArgs, Output, RestartArgs, RestoreArgs, StatusArgs,
    TrafficArgs, WaitArgs, WhyArgs,
};
pub use cluster::ClusterArgs;
pub use estimate::{EstimateArgs, EstimateOutput};
pub use https::{AdminArgs, AdminClientArgs, HttpsArgs, TokenArgs};
pub use parse::{HostAddress, RunCommand, Share, StateDir, UpstreamAddress, WaitFor};
pub use plan::{PlanArgs, PlanOutput};
pub use shared::{DrainArgs, ListenArgs, LogArgs, LogFormat};
pub use sidecar::SidecarArgs;

const EXAMPLES: &str = "\
Examples:
  tidegate -f hello.yaml                    serve a manifest, reload it when it changes
  tidegate -f ./manifests                   serve every manifest in a folder
  tidegate -f hello.yaml --run hello='python3 app.py'
                                            say which program an image stands for here
  tidegate validate -f hello.yaml           only check
  tidegate status --watch                   see services, replicas and load
  tidegate why hello                        why it has as many replicas as it has
  tidegate traffic hello --rollback         back to the revision before
  tidegate sidecar --upstream 127.0.0.1:9000 --container-concurrency 4
                                            queue before one program that runs already
  curl http://hello.default.localhost:8080  call a service

Exit codes: 0 fine, 1 failed, 64 wrong usage, 78 configuration with errors.";

const SERVE_EXAMPLES: &str = "\
Examples:
  tidegate serve -f hello.yaml
  tidegate serve -f a.yaml -f b/ --http 0.0.0.0:80 --domain example.com
  tidegate serve -f hello.yaml --run hello='node server.js' --run shop/cart='./cart'
  tidegate serve -f hello.yaml --https :8443 --tls-cert tls.crt --tls-key tls.key
  tidegate serve --kubernetes                                a cluster's objects, as its pod
                                                             or by KUBECONFIG
  TIDEGATE_HTTP=127.0.0.1:0 tidegate serve -f hello.yaml     any free port; see the line
                                                             `listening` on standard output
Each replica is a process that finds its port in the variable PORT. A service without replicas
costs nothing; its first request starts one.";

const VALIDATE_EXAMPLES: &str = "\
Examples:
  tidegate validate -f hello.yaml
  tidegate validate --strict -f ./manifests    also refuse what would only be skipped

Exit codes: 0 no problem, 1 at least one problem, each printed with file, line and field.";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  tidegate completions bash > ~/.local/share/bash-completion/completions/tidegate
  tidegate completions zsh > ~/.zfunc/_tidegate
  tidegate completions fish > ~/.config/fish/completions/tidegate.fish";

const ECHO_EXAMPLES: &str = "\
Examples:
  tidegate echo --port 9001 &
  curl 'http://127.0.0.1:9001/delay?ms=200'          answer after 200 ms
  curl 'http://127.0.0.1:9001/size?bytes=1000000'    a large body
  curl 'http://127.0.0.1:9001/status?code=503'       a status
  curl -N 'http://127.0.0.1:9001/sse?n=5&interval_ms=500'
  curl http://127.0.0.1:9001/whoami                  pid, revision, load
  curl http://127.0.0.1:9001/help                    all paths

HTTP/1.1 and HTTP/2 (prior knowledge) on one port, WebSocket at /ws, gRPC health and echo.
In a manifest: command: [\"tidegate\", \"echo\"]";

/// Serves Knative Service manifests on this machine: proxy, scaling from and to zero, traffic
/// splitting.
///
/// Without a command, `serve` is meant.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, after_help = EXAMPLES, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(super) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve manifests (the default)
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Box<ServeArgs>),
    /// Limit, queue, time and measure requests before one backend that runs already
    #[command(after_help = sidecar::EXAMPLES)]
    Sidecar(Box<SidecarArgs>),
    /// Check manifests and report every problem
    #[command(after_help = VALIDATE_EXAMPLES)]
    Validate(ValidateArgs),
    /// Print in which order services come, by what they depend on
    #[command(after_help = plan::EXAMPLES)]
    Plan(PlanArgs),
    /// Say what settings would have cost under a load that was measured
    #[command(after_help = estimate::EXAMPLES)]
    Estimate(EstimateArgs),
    /// Run the built-in backend, for examples and tests
    #[command(after_help = ECHO_EXAMPLES)]
    Echo(EchoArgs),
    /// Show services, revisions, traffic, replicas and load of a running tidegate
    #[command(after_help = client::STATUS_EXAMPLES)]
    Status(StatusArgs),
    /// Say why a revision has the replicas it has, or why a request waited or was refused
    #[command(after_help = client::WHY_EXAMPLES)]
    Why(WhyArgs),
    /// Wait until a service is ready
    #[command(after_help = client::WAIT_EXAMPLES)]
    Wait(WaitArgs),
    /// Replace the replicas of a service, without a lost request
    #[command(after_help = client::RESTART_EXAMPLES)]
    Restart(RestartArgs),
    /// Change the shares of a service's traffic
    #[command(after_help = client::TRAFFIC_EXAMPLES)]
    Traffic(TrafficArgs),
    /// Show what replicas printed
    #[command(after_help = client::LOGS_EXAMPLES)]
    Logs(LogsArgs),
    /// Write all that is in effect as objects of Kubernetes
    #[command(after_help = client::EXPORT_EXAMPLES)]
    Export(ExportArgs),
    /// Check whether what runs is what an export says
    #[command(after_help = client::RESTORE_EXAMPLES)]
    Restore(RestoreArgs),
    /// Print a shell's completions
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),
    /// Print the manual page, or write those of all commands
    Man(ManArgs),
    /// Started by tidegate itself.
    #[command(name = "__guard", hide = true)]
    Guard(GuardArgs),
}

/// Which manifests.
#[derive(Args, Clone, Debug)]
pub struct Manifests {
    /// File or folder of manifests; repeatable
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true)]
    #[arg(env = "TIDEGATE_FILENAME", value_delimiter = ',')]
    pub files: Vec<PathBuf>,

    /// Domain of the services' hosts: NAME.NAMESPACE.DOMAIN
    #[arg(long, value_name = "DOMAIN", env = "TIDEGATE_DOMAIN", default_value = "localhost")]
    pub domain: String,

    /// Which program a service is on this machine; repeatable (by environment: one a line)
    #[arg(long = "run", value_name = "[NAMESPACE/]NAME=COMMAND", env = "TIDEGATE_RUN")]
    #[arg(value_parser = run_command, value_delimiter = '\n')]
    pub run: Vec<RunCommand>,

    /// Treat what is only warned about (unknown kinds, missing bounds) as an error
    #[arg(long, env = "TIDEGATE_STRICT", value_parser = BoolishValueParser::new())]
    pub strict: bool,
}

/// Options of `serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// A cluster instead of files.
    #[command(flatten)]
    pub cluster: ClusterArgs,

    /// Which manifests.
    #[command(flatten)]
    pub manifests: Manifests,

    /// Where it listens.
    #[command(flatten)]
    pub listen: ListenArgs,

    /// Where callers inside come in, besides --http; repeatable. Hosts that only they are to see
    /// (`hello.default.svc.cluster.local`, all of a service with the visibility `cluster-local`)
    /// are then answered there alone
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_HTTP_INTERNAL", value_delimiter = ',')]
    #[arg(value_parser = listen_address)]
    pub http_internal: Vec<SocketAddr>,

    /// Service for requests to `localhost` or to an IP address
    /// [default: the only one, if there is one]
    #[arg(long, value_name = "[NAMESPACE/]NAME", env = "TIDEGATE_DEFAULT_SERVICE")]
    #[arg(value_parser = object_name)]
    pub default_service: Option<ServiceId>,

    /// Where revisions, traffic and replica counts are remembered over restarts; none = nowhere
    /// [default: a folder of these manifests in $XDG_STATE_HOME/tidegate or
    /// ~/.local/state/tidegate]
    #[arg(long, value_name = "DIR|none", env = "TIDEGATE_STATE_DIR")]
    pub state_dir: Option<StateDir>,

    /// Replicas of all services together
    #[arg(long, value_name = "N", env = "TIDEGATE_MAX_REPLICAS", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub max_replicas: u32,

    /// How it ends.
    #[command(flatten)]
    pub drain: DrainArgs,

    /// Clients whose X-Forwarded-* and Forwarded headers are kept and appended to; repeatable
    #[arg(long, value_name = "CIDR", env = "TIDEGATE_TRUSTED_PROXIES", value_delimiter = ',')]
    #[arg(value_parser = network)]
    pub trusted_proxies: Vec<IpNet>,

    /// What is logged.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Options of `validate`.
#[derive(Args, Clone, Debug)]
pub struct ValidateArgs {
    /// Which manifests.
    #[command(flatten)]
    pub manifests: Manifests,
}

/// Options of `echo`.
#[derive(Args, Clone, Debug)]
pub struct EchoArgs {
    /// Port to listen on, 0 = any free one
    #[arg(long, short = 'p', value_name = "PORT", env = "PORT", default_value_t = 8081)]
    pub port: u16,

    /// Address to listen on, with or without port [default: 127.0.0.1]
    #[arg(long, value_name = "ADDR", value_parser = host_address)]
    #[arg(
        long_help = "Address to listen on: with a port of its own, or without one, and then at \
                       --port. In an image for a cluster: --listen [::] [default: 127.0.0.1]"
    )]
    pub listen: Option<HostAddress>,

    /// Whom `/` greets
    #[arg(long, value_name = "NAME", env = "TARGET", default_value = "World")]
    pub target: String,

    /// How many of 100 requests fail with 500, and gRPC's with INTERNAL: a bad version, to try
    /// things with
    #[arg(long, value_name = "N", env = "FAIL_PERCENT", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=100))]
    pub fail_percent: u8,

    /// Milliseconds by which each answer is later: a slow version
    #[arg(long, value_name = "N", env = "SLOW_MS", default_value_t = 0)]
    pub slow_ms: u64,
}

impl EchoArgs {
    /// Where to listen.
    pub fn address(&self) -> SocketAddr {
        let HostAddress { ip, port } =
            self.listen.unwrap_or(HostAddress { ip: Ipv4Addr::LOCALHOST.into(), port: None });
        SocketAddr::new(ip, port.unwrap_or(self.port))
    }
}

/// Options of `completions`.
#[derive(Args, Clone, Debug)]
pub struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Options of `man`.
#[derive(Args, Clone, Debug)]
pub struct ManArgs {
    /// Write a page of each command into this folder [default: the first page, to standard output]
    #[arg(value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

/// Arguments that tidegate gives to itself.
#[derive(Args, Clone, Debug)]
pub struct GuardArgs {
    /// Passed on as they are.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<OsString>,
}

/// `tidegate echo` parsed by itself: a replica's start is not to pay for the other commands.
#[derive(Debug, Parser)]
#[command(name = "tidegate", bin_name = "tidegate echo", version, after_help = ECHO_EXAMPLES)]
#[command(about = "Run the built-in backend, for examples and tests", max_term_width = 100)]
struct EchoAlone {
    #[command(flatten)]
    echo: EchoArgs,
}

/// The whole command line, as completions, manual pages and the book have it.
pub fn cli() -> clap::Command {
    Cli::command().mut_subcommand("serve", cluster::allow)
}

/// Understands a command line, the program's name first.
///
/// # Errors
/// A text to print; for `--help` and `--version` too.
pub fn parse_from(mut arguments: Vec<OsString>) -> Result<Command, clap::Error> {
    match arguments.get(1).and_then(|first| first.to_str()) {
        Some("echo") => {
            return EchoAlone::try_parse_from(arguments.drain(1..))
                .map(|alone| Command::Echo(alone.echo));
        }
        Some("-h" | "--help" | "-V" | "--version") => {}
        // An option first: the default command is meant.
        Some(first) if first.starts_with('-') => arguments.insert(1, "serve".into()),
        _ => {}
    }
    let matches = cli().try_get_matches_from(arguments)?;
    if let Some(("serve", serve)) = matches.subcommand() {
        cluster::check(serve).map_err(|(kind, text)| cli().error(kind, text))?;
    }
    let command = Cli::from_arg_matches(&matches)?.command;
    if let Command::Traffic(traffic) = &command {
        traffic.check().map_err(|text| cli().error(ErrorKind::ValueValidation, text))?;
    }
    let https = match &command {
        Command::Serve(serve) => Some((&serve.listen.https, serve.cluster.kubernetes)),
        Command::Sidecar(sidecar) => Some((&sidecar.listen.https, false)),
        _ => None,
    };
    let usage = |text| Cli::command().error(ErrorKind::ArgumentConflict, text);
    https.map_or(Ok(()), |(https, in_cluster)| https.check(in_cluster)).map_err(usage)?;
    Ok(command)
}

#[cfg(test)]
#[path = "args/tests.rs"]
mod tests;
