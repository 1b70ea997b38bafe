//! Options of the commands that ask a running tidegate.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::https::AdminClientArgs;
use super::parse::{Share, WaitFor, duration, listen_address, share, wait_for};

pub(super) const STATUS_EXAMPLES: &str = "\
Examples:
  tidegate status
  tidegate status --watch
  tidegate status -o json | jq '.revisions[] | {name, ready, waiting}'
  tidegate status --admin 127.0.0.1:9195       a tidegate with another --admin";

pub(super) const WHY_EXAMPLES: &str = "\
Examples:
  tidegate why hello                           each revision of a service that has traffic or replicas
  tidegate why shop/cart-00002                 one revision
  tidegate why 5e3a9c0f2b7d4c1e                a request that waited or was refused, by its X-Request-Id
  tidegate why hello -o json                   the numbers behind it";

pub(super) const WAIT_EXAMPLES: &str = "\
Examples:
  tidegate wait hello                          every revision with traffic has a ready replica
  tidegate wait hello --for revision=hello-00002 --timeout 2m

Exit codes: 0 it is so, 1 it is not, with the reason. A replica is started where there is none.";

pub(super) const RESTART_EXAMPLES: &str = "\
Examples:
  tidegate restart hello                       replace its replicas, without a lost request
  tidegate restart hello --watch               again whenever a file below the working directory changes
  tidegate restart hello --kubernetes          pods of a cluster, by KUBECONFIG";

pub(super) const TRAFFIC_EXAMPLES: &str = "\
Examples:
  tidegate traffic hello hello-00001=90 hello-00002=10
  tidegate traffic hello --to-latest
  tidegate traffic hello --rollback --dry-run  only show what would change
  tidegate traffic shop/cart --to-latest --kubernetes
                                               of a cluster's Service, by KUBECONFIG

It holds, over restarts too, until the `traffic` block in the manifest itself changes.";

pub(super) const LOGS_EXAMPLES: &str = "\
Examples:
  tidegate logs hello                          the last lines of all its replicas
  tidegate logs hello-00002 --tail 20 --follow";

pub(super) const EXPORT_EXAMPLES: &str = "\
Examples:
  tidegate export > backup.yaml
  tidegate serve -f backup.yaml                the same revisions and traffic elsewhere
  kubectl apply --server-side --field-manager=backup -f backup.yaml
                                               and in a cluster
  tidegate export --kubernetes > backup.yaml   of a cluster, by KUBECONFIG
  tidegate restore backup.yaml --check         whether what runs is what the file says

Values of Secrets are left out, and those named in comments, unless --include-secrets is given.";

pub(super) const RESTORE_EXAMPLES: &str = "\
Examples:
  tidegate restore backup.yaml --check

Exit codes: 0 what runs is what the file says, 1 it is not: every difference on a line.";

/// Which tidegate is asked.
#[derive(Args, Clone, Debug)]
pub struct ClientArgs {
    /// The running tidegate's --admin
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_ADMIN", default_value = "127.0.0.1:9095")]
    #[arg(value_parser = listen_address)]
    pub admin: SocketAddr,

    /// How it is known.
    #[command(flatten)]
    pub known: AdminClientArgs,
}

/// Whose commands act on a cluster, and by whose rights.
#[derive(Args, Clone, Copy, Debug)]
pub struct InClusterArgs {
    /// Act on the objects of a cluster, by KUBECONFIG and with its rights, instead of asking a
    /// tidegate
    #[arg(long, short = 'k')]
    pub kubernetes: bool,
}

/// Form of a client command's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// The admin API's answer.
    Json,
    /// The same as YAML.
    Yaml,
}

/// Options of `status`.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// Which tidegate.
    #[command(flatten)]
    pub client: ClientArgs,

    /// Show again and again until interrupted
    #[arg(long, short = 'w')]
    pub watch: bool,

    /// Time between two shows
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub interval: Duration,

    /// Form of the output
    #[arg(long, short = 'o', value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Output,
}

/// Options of `why`.
#[derive(Args, Clone, Debug)]
pub struct WhyArgs {
    /// A service or revision as NAME or NAMESPACE/NAME, or a request's X-Request-Id
    #[arg(value_name = "SERVICE|REVISION|REQUEST-ID")]
    pub what: String,

    /// Which tidegate.
    #[command(flatten)]
    pub client: ClientArgs,

    /// Form of the output
    #[arg(long, short = 'o', value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Output,
}

/// Options of `wait`.
#[derive(Args, Clone, Debug)]
pub struct WaitArgs {
    /// The service, as NAME or NAMESPACE/NAME
    #[arg(value_name = "SERVICE")]
    pub service: String,

    /// What is waited for: ready (each revision with traffic has a ready replica), or revision=NAME
    /// (that revision has one)
    #[arg(long = "for", value_name = "ready|revision=NAME", default_value = "ready")]
    #[arg(value_parser = wait_for)]
    pub what: WaitFor,

    /// How long at most
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub timeout: Duration,

    /// Which tidegate.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Options of `restart`.
#[derive(Args, Clone, Debug)]
pub struct RestartArgs {
    /// The service or revision, as NAME or NAMESPACE/NAME
    #[arg(value_name = "SERVICE|REVISION")]
    pub what: String,

    /// Do it again whenever files below the working directory change
    #[arg(long, short = 'w')]
    pub watch: bool,

    /// How long it may take at most
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    pub timeout: Duration,

    /// Folder that --watch looks at
    #[arg(long, value_name = "DIR", default_value = ".", requires = "watch")]
    pub directory: PathBuf,

    /// A cluster instead.
    #[command(flatten)]
    pub cluster: InClusterArgs,

    /// Which tidegate.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Options of `traffic`.
#[derive(Args, Clone, Debug)]
pub struct TrafficArgs {
    /// The service, as NAME or NAMESPACE/NAME
    #[arg(value_name = "SERVICE")]
    pub service: String,

    /// Shares that add up to 100; `@latest` stands for the latest revision
    #[arg(value_name = "REVISION=PERCENT", value_parser = share)]
    #[arg(required_unless_present_any = ["to_latest", "rollback"])]
    pub shares: Vec<Share>,

    /// All to the latest revision, and to those that come after it
    #[arg(long, conflicts_with_all = ["shares", "rollback"])]
    pub to_latest: bool,

    /// All to the revision before the newest one with traffic
    #[arg(long, conflicts_with = "shares")]
    pub rollback: bool,

    /// Only show what would change
    #[arg(long)]
    pub dry_run: bool,

    /// A cluster instead.
    #[command(flatten)]
    pub cluster: InClusterArgs,

    /// Which tidegate.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Options of `export`.
#[derive(Args, Clone, Debug)]
pub struct ExportArgs {
    /// With the values of Secrets: only from a tidegate that asks for a token
    #[arg(long)]
    pub include_secrets: bool,

    /// A cluster instead.
    #[command(flatten)]
    pub cluster: InClusterArgs,

    /// Which tidegate.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Options of `restore`.
#[derive(Args, Clone, Debug)]
pub struct RestoreArgs {
    /// What `tidegate export` wrote
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Compare services, traffic, revisions and settings with what runs
    #[arg(long, required = true)]
    #[arg(
        help = "Compare services, traffic, revisions and settings with what runs. Without it there \
                  is nothing to do here: `tidegate serve -f FILE` or `kubectl apply --server-side --field-manager=backup -f FILE` serves \
                  the file"
    )]
    pub check: bool,

    /// Which tidegate.
    #[command(flatten)]
    pub client: ClientArgs,
}

impl TrafficArgs {
    /// Whether the shares are all of the traffic.
    ///
    /// # Errors
    /// What they lack.
    pub(super) fn check(&self) -> Result<(), String> {
        let sum: u32 = self.shares.iter().map(|share| u32::from(share.percent)).sum();
        if self.shares.is_empty() || sum == 100 {
            return Ok(());
        }
        Err(format!("the shares add up to {sum}, not to 100"))
    }
}

/// Options of `logs`.
#[derive(Args, Clone, Debug)]
pub struct LogsArgs {
    /// The revision or service, as NAME or NAMESPACE/NAME
    #[arg(value_name = "REVISION|SERVICE")]
    pub what: String,

    /// Go on with what is printed from now on
    #[arg(long, short = 'f')]
    pub follow: bool,

    /// Only the last lines [default: all that are kept, 64 KiB of each revision]
    #[arg(long, short = 'n', value_name = "LINES")]
    pub tail: Option<usize>,

    /// Which tidegate.
    #[command(flatten)]
    pub client: ClientArgs,
}
