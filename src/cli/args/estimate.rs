//! Arguments of `tidegate estimate`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::Manifests;
use super::parse::{duration, object_name};
use crate::model::ServiceId;

pub(super) const EXAMPLES: &str = "\
Examples:
  tidegate estimate -f shop.yaml --load week.json
  tidegate estimate -f shop.yaml --load week.json --set min-scale=1 --set target=50,window=30s
  curl -sG http://prometheus:9090/api/v1/query_range ... | tidegate estimate -f . --load - shop

The load is what Prometheus answers to a range query, each series with the labels namespace and service:
  sum by (namespace, service) (rate(tidegate_request_in_flight_seconds_total[1m]))
or, for a service with the metric rps,
  sum by (namespace, service) (rate(tidegate_requests_total[1m]))
Exit codes: 0 fine, 1 a problem.";

/// Form of an estimate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum EstimateOutput {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Options of `estimate`.
#[derive(Args, Clone, Debug)]
pub struct EstimateArgs {
    /// Which manifests.
    #[command(flatten)]
    pub manifests: Manifests,

    /// Only these [default: all that had load]
    #[arg(value_name = "[NAMESPACE/]NAME", value_parser = object_name)]
    pub services: Vec<ServiceId>,

    /// The load: Prometheus' answer to a range query, a file or `-`
    #[arg(long, value_name = "FILE")]
    pub load: PathBuf,

    /// Other settings to compare with, as annotations `autoscaling.knative.dev/KEY`; may be given
    /// again, each for itself
    #[arg(long = "set", value_name = "KEY=VALUE[,KEY=VALUE]")]
    pub settings: Vec<String>,

    /// How long a replica takes to be ready
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    pub cold_start: Duration,

    /// What a replica costs in an hour
    #[arg(long, value_name = "NUMBER")]
    pub price: Option<f64>,

    /// Form of the output
    #[arg(short = 'o', long, value_enum, default_value_t)]
    pub output: EstimateOutput,
}
