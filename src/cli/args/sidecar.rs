//! Options of `sidecar`.

use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;

use crate::model::ServiceId;

use super::parse::{UpstreamAddress, duration, health_path, object_name, upstream};
use super::shared::{DrainArgs, ListenArgs, LogArgs};

pub(super) const EXAMPLES: &str = "\
Examples:
  tidegate sidecar --upstream 127.0.0.1:9000 --container-concurrency 4
                                               at most 4 requests at once, 40 wait in line
  tidegate sidecar --upstream 9000 --http :8012 --readiness-path /healthz
                                               ready when the program's own check says so
  tidegate sidecar --upstream app:9000 --h2c --timeout 1h
                                               a gRPC server with long streams
  TIDEGATE_UPSTREAM=9000 TIDEGATE_CONTAINER_CONCURRENCY=1 tidegate sidecar
                                               as a container in a pod, see deploy/sidecar.yaml
  curl http://127.0.0.1:8080/.tidegate/ready   200 once the backend answers, 503 until then
Every request goes to the one backend, whatever its Host. What comes while the backend is not ready
waits in line. Metrics are at http://127.0.0.1:9095/metrics, under Knative's names at
/metrics/knative.";

/// Options of `sidecar`.
#[derive(Args, Clone, Debug)]
pub struct SidecarArgs {
    /// The backend: PORT of this machine, IP:PORT or NAME:PORT
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_UPSTREAM", value_parser = upstream)]
    pub upstream: UpstreamAddress,

    /// Requests that the backend gets at the same time; 0 = no limit
    #[arg(long, value_name = "N", env = "TIDEGATE_CONTAINER_CONCURRENCY", default_value_t = 0)]
    pub container_concurrency: u32,

    /// Requests that may wait in line; more are refused at once with 503
    /// [default: 10 × --container-concurrency; 10000 without a limit]
    #[arg(long, value_name = "N", env = "TIDEGATE_QUEUE_DEPTH")]
    pub queue_depth: Option<u32>,

    /// How long a request may wait in line, then 504 [default: as long as --timeout]
    #[arg(long, value_name = "TIME", env = "TIDEGATE_QUEUE_TIMEOUT", value_parser = duration)]
    pub queue_timeout: Option<Duration>,

    /// How long a request may take, waiting included, to the end of its response
    #[arg(long, value_name = "TIME", env = "TIDEGATE_TIMEOUT", default_value = "300s")]
    #[arg(value_parser = duration)]
    pub timeout: Duration,

    /// How long a response's first byte may take, waiting included [default: as long as --timeout]
    #[arg(long, value_name = "TIME", env = "TIDEGATE_RESPONSE_START_TIMEOUT")]
    #[arg(value_parser = duration)]
    pub response_start_timeout: Option<Duration>,

    /// How long a response or an upgraded connection may be without a byte [default: no bound]
    #[arg(long, value_name = "TIME", env = "TIDEGATE_IDLE_TIMEOUT", value_parser = duration)]
    pub idle_timeout: Option<Duration>,

    /// The backend speaks HTTP/2 with prior knowledge (gRPC needs it), not HTTP/1.1
    #[arg(long, env = "TIDEGATE_H2C", value_parser = BoolishValueParser::new())]
    pub h2c: bool,

    /// The backend is ready when a GET of this path answers 200 to 399
    /// [default: when it takes a connection]
    #[arg(long, value_name = "PATH", env = "TIDEGATE_READINESS_PATH", value_parser = health_path)]
    pub readiness_path: Option<String>,

    /// Time between two probes of a backend that is ready; three failures in a row take it out
    #[arg(long, value_name = "TIME", env = "TIDEGATE_READINESS_PERIOD", default_value = "1s")]
    #[arg(value_parser = duration)]
    pub readiness_period: Duration,

    /// What the backend is called in metrics, logs and `tidegate status`
    #[arg(long, value_name = "[NAMESPACE/]NAME", env = "TIDEGATE_NAME", default_value = "backend")]
    #[arg(value_parser = object_name)]
    pub name: ServiceId,

    /// Where it listens.
    #[command(flatten)]
    pub listen: ListenArgs,

    /// How it ends.
    #[command(flatten)]
    pub drain: DrainArgs,

    /// What is logged.
    #[command(flatten)]
    pub log: LogArgs,
}
