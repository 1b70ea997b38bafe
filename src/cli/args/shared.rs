//! Options that `serve` and `sidecar` have alike.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};

use super::https::HttpsArgs;
use super::parse::{duration, health_path, listen_address, sample};

/// Port of the data listeners when none is given.
const HTTP_PORT: u16 = 8080;

/// Where requests come in, and who serves them.
#[derive(Args, Clone, Debug)]
pub struct ListenArgs {
    /// Where requests come in; none given = the two loopback addresses with port 8080.
    #[arg(help = "Where requests come in; repeatable; port 0 = any free one \
                  [default: 127.0.0.1:8080 and [::1]:8080]")]
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_HTTP", value_delimiter = ',')]
    #[arg(value_parser = listen_address)]
    pub http: Vec<SocketAddr>,

    /// HTTPS.
    #[command(flatten)]
    pub https: HttpsArgs,

    /// Where metrics, health and the JSON API are
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_ADMIN", default_value = "127.0.0.1:9095")]
    #[arg(value_parser = listen_address)]
    pub admin: SocketAddr,

    /// Host names the admin listener may be called by, besides loopback ones; repeatable
    #[arg(long, value_name = "HOST", env = "TIDEGATE_ADMIN_HOST", value_delimiter = ',')]
    pub admin_host: Vec<String>,

    /// Threads that serve requests [default: one per processor]
    #[arg(long, value_name = "N", env = "TIDEGATE_WORKERS")]
    pub workers: Option<NonZeroUsize>,

    /// A further path that answers health checks on the data listeners when the Host is absent,
    /// an IP address or no service's
    #[arg(long, value_name = "PATH", env = "TIDEGATE_HEALTH_PATH", value_parser = health_path)]
    pub health_path: Option<String>,
}

impl ListenArgs {
    /// Addresses to listen on, and whether they were given: a default address that this machine
    /// does not have (no IPv6) is no error.
    pub fn http_addresses(&self) -> (Vec<SocketAddr>, bool) {
        if self.http.is_empty() {
            let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            return (loopback.map(|ip| SocketAddr::new(ip, HTTP_PORT)).to_vec(), false);
        }
        (self.http.clone(), true)
    }

    /// Number of worker threads.
    pub fn worker_count(&self) -> usize {
        self.workers
            .or_else(|| std::thread::available_parallelism().ok())
            .map_or(1, NonZeroUsize::get)
    }
}

/// The way down.
#[derive(Args, Clone, Debug)]
pub struct DrainArgs {
    /// At the end: how long requests may take to finish
    #[arg(long, value_name = "TIME", env = "TIDEGATE_DRAIN_TIMEOUT", default_value = "30s")]
    #[arg(value_parser = duration)]
    pub drain_timeout: Duration,

    /// At the end: how long to go on accepting while /readyz already says no
    #[arg(long, value_name = "TIME", env = "TIDEGATE_DRAIN_DELAY", default_value = "0s")]
    #[arg(value_parser = duration)]
    pub drain_delay: Duration,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// Form of the log on standard error
    #[arg(long, value_name = "FORMAT", env = "TIDEGATE_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,

    /// What is logged: a level, or levels by part, as in `info,tidegate::proxy=debug`
    #[arg(long, value_name = "LEVELS", env = "TIDEGATE_LOG_LEVEL", default_value = "info")]
    pub log_level: String,

    /// Log every request as one JSON line with Knative's request-log fields
    #[arg(long, env = "TIDEGATE_ACCESS_LOG", value_parser = BoolishValueParser::new())]
    pub access_log: bool,

    /// Which part of the requests the access log has, 0 to 1
    #[arg(long, value_name = "PART", env = "TIDEGATE_ACCESS_LOG_SAMPLE", default_value_t = 1.0)]
    #[arg(value_parser = sample)]
    pub access_log_sample: f64,
}
