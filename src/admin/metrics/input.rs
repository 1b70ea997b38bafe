//! What the rest of the program hands in at each scrape.

use std::sync::Arc;
use std::time::Duration;

use super::Family;
use crate::model::{EndpointId, Metric, Reason, RevisionId, ServiceId};
use crate::stats::RevisionStats;

/// Everything one scrape needs.
#[derive(Clone, Debug, Default)]
pub struct MetricsInput {
    /// Name of this instance, as Knative's `pod_name`.
    pub instance: Arc<str>,
    /// Whether this is a sidecar: its classic names are queue-proxy's.
    pub sidecar: bool,
    /// Revisions; those without traffic since the start get no series.
    pub revisions: Vec<RevisionMetrics>,
    /// Requests refused before a revision was known, since the start.
    pub refused: Vec<(Reason, u64)>,
    /// Client connections by listener.
    pub connections: Vec<ConnectionMetrics>,
    /// Services loaded.
    pub services: u64,
    /// Objects of the newest configuration that were not admitted.
    pub rejected_objects: u64,
    /// Log lines dropped since the start.
    pub log_lines_dropped: u64,
    /// Anything else; names begin with `tidegate_`.
    pub extra: Vec<Family>,
}

/// One revision.
#[derive(Clone, Debug)]
pub struct RevisionMetrics {
    /// Its name.
    pub revision: RevisionId,
    /// Its service, if it has one.
    pub service: Option<ServiceId>,
    /// Its configuration.
    pub configuration: Arc<str>,
    /// What was measured.
    pub stats: Arc<RevisionStats>,
    /// Replicas as the decider wants them, before bounds; none before the first decision.
    pub desired: Option<u32>,
    /// Replicas as ordered, after bounds and the steps to zero.
    pub requested: Option<u32>,
    /// Ready replicas, victims included.
    pub ready: u32,
    /// Replicas on their way up.
    pub starting: u32,
    /// Replicas on their way down.
    pub stopping: u32,
    /// The last decision.
    pub autoscaler: Option<AutoscalerMetrics>,
    /// Endpoints and their load.
    pub endpoints: Vec<EndpointMetrics>,
    /// Cold starts by phase: sum of the time since the start, per phase.
    pub cold_start_phases: Vec<(&'static str, Duration)>,
}

/// Values of a revision's last decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AutoscalerMetrics {
    /// What is measured.
    pub metric: Metric,
    /// Average over the stable window.
    pub stable: f64,
    /// Average over the panic window.
    pub panic: f64,
    /// Load per replica aimed at.
    pub target: f64,
    /// Whether it panics.
    pub panic_mode: bool,
    /// Spare capacity less the burst capacity to keep.
    pub excess_burst_capacity: f64,
}

/// One endpoint.
#[derive(Clone, Debug)]
pub struct EndpointMetrics {
    /// Which replica.
    pub id: EndpointId,
    /// Requests it handles now.
    pub in_flight: u64,
}

/// One listener.
#[derive(Clone, Debug)]
pub struct ConnectionMetrics {
    /// Its name, for example `http`.
    pub listener: Arc<str>,
    /// Connections open now.
    pub open: u64,
    /// Connections accepted since the start.
    pub accepted: u64,
}
