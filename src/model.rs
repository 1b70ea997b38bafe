//! The nouns: values only, no I/O, no lock, no clock. What exists here is valid; [`crate::config`]
//! has checked it.

mod canary;
mod grpc;
mod id;
mod pods;
mod process;
mod revision;
mod scaling;
mod service;
mod tally;
#[cfg(planted)]
pub mod planted;
mod reason;
mod time;

pub use canary::{Canary, CanaryRules, CanaryState, Compared, Evidence, Figures, Harm, TakenBack};
pub use grpc::is_grpc;
pub use id::{EndpointId, ObjectName, RevisionId, ServiceId};
pub use pods::{ObjectReference, PodsSpec};
pub use process::{
    EnvVar, Mount, Probe, ProbeAction, Probes, ProcessSpec, Volume, VolumeFile, Workload,
};
pub use reason::{Problem, Reason};
pub use revision::{
    ContainerConcurrency, Dependency, NoWake, Protocol, QueueSettings, RevisionSpec, Timeouts,
};
pub use scaling::{Aggregation, Metric, ScalingSpec};
pub use service::{CLUSTER_DOMAIN, ServiceSpec, Tag, TrafficTarget, World, is_cluster_local};
pub use tally::{LATENCY_BUCKETS, Latencies, Tally, latency_bucket, latency_bucket_start};
pub(crate) use time::nanos_of;
pub use time::{Nanos, UnixNanos};
