//! What the JSON API shows: plain values that the application makes at each request.

use std::collections::BTreeMap;

use serde::Serialize;

use super::metrics::MetricsInput;
use crate::model::RevisionId;

/// Where the admin server gets what it shows. Each closure is called on the admin thread, at each
/// request anew; it must not block.
pub struct Views {
    /// Whether traffic is accepted.
    pub readiness: View<Readiness>,
    /// All services.
    pub services: View<ServicesView>,
    /// All revisions.
    pub revisions: View<RevisionsView>,
    /// One revision.
    pub revision: RevisionQuery<RevisionView>,
    /// Last decisions of a revision, newest first.
    pub decisions: RevisionQuery<DecisionsView>,
    /// Input of both metrics pages.
    pub metrics: View<MetricsInput>,
}

/// A view of everything.
pub type View<T> = Box<dyn Fn() -> T + Send + Sync>;
/// A view of one revision; none when there is no such revision.
pub type RevisionQuery<T> = Box<dyn Fn(&RevisionId) -> Option<T> + Send + Sync>;

impl std::fmt::Debug for Views {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Views").finish_non_exhaustive()
    }
}

/// Whether traffic is accepted, and why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Whether a load balancer may send requests.
    pub ready: bool,
    /// One line, for example `ready`, `starting`, `draining: 3 requests left`.
    pub state: String,
}

/// `GET /api/v1/services`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ServicesView {
    /// Services by name.
    pub services: Vec<ServiceView>,
    /// Objects of the newest configuration that were not admitted, as `validate` prints them.
    pub rejected: Vec<String>,
    /// What needs attention beside services and revisions, one line each.
    pub conditions: Vec<String>,
}

/// A service.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ServiceView {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Where to call it, with port.
    pub url: String,
    /// All its hosts.
    pub hosts: Vec<String>,
    /// Shares of traffic.
    pub traffic: Vec<TrafficView>,
    /// Tags.
    pub tags: Vec<TagView>,
    /// Why it cannot serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<ProblemView>,
    /// Conditions worth knowing that do not stop it.
    pub warnings: Vec<String>,
}

/// A share of traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TrafficView {
    /// Name of the revision.
    pub revision: String,
    /// Per cent.
    pub percent: u8,
}

/// A tag.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TagView {
    /// Its name.
    pub name: String,
    /// Name of the revision.
    pub revision: String,
    /// Where to call it, with port.
    pub url: String,
}

/// Why something cannot serve.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ProblemView {
    /// The token, as in answers, access log and metrics.
    pub reason: String,
    /// What happened and what to do.
    pub message: String,
}

/// `GET /api/v1/revisions`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RevisionsView {
    /// Revisions by name.
    pub revisions: Vec<RevisionView>,
}

/// A revision: what it is and what it does now.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RevisionView {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Name of its service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Name of its configuration.
    pub configuration: String,
    /// `http1` or `h2c`.
    pub protocol: String,
    /// Requests a replica takes at once; 0 = no limit.
    pub container_concurrency: u32,
    /// `concurrency` or `rps`.
    pub metric: String,
    /// Load per replica aimed at.
    pub target: f64,
    /// Least number of replicas.
    pub min_scale: u32,
    /// Greatest number of replicas; none = no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_scale: Option<u32>,
    /// Whether a route leads here.
    pub reachable: bool,
    /// Replicas ordered.
    pub desired: u32,
    /// Ready replicas.
    pub ready: u32,
    /// Replicas on their way up.
    pub starting: u32,
    /// Replicas on their way down.
    pub stopping: u32,
    /// Requests in flight, waiting ones included.
    pub in_flight: u64,
    /// Requests that wait for a replica.
    pub waiting: u32,
    /// Requests that arrived since the start.
    pub requests: u64,
    /// Requests that tidegate answered itself, by reason, since the start.
    pub refused: BTreeMap<String, u64>,
    /// Ready endpoints and victims.
    pub endpoints: Vec<EndpointView>,
    /// Why its replicas cannot be started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<ProblemView>,
}

/// An endpoint.
#[derive(Clone, Debug, Default, Serialize)]
pub struct EndpointView {
    /// Which replica.
    pub id: String,
    /// Where it listens.
    pub address: String,
    /// `ready`, `ejected` or `draining`.
    pub state: String,
    /// Requests it handles now.
    pub in_flight: u64,
}

/// `GET /api/v1/revisions/{namespace}/{name}/decisions`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DecisionsView {
    /// Newest first.
    pub decisions: Vec<DecisionView>,
}

/// One decision of the autoscaler: what went in, what came out, what bounded it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DecisionView {
    /// How long ago, in milliseconds.
    pub age_ms: u64,
    /// Who asked: `tick`, `request`, `queue`.
    pub trigger: String,
    /// `concurrency` or `rps`.
    pub metric: String,
    /// Average over the stable window.
    pub stable: f64,
    /// Average over the panic window.
    pub panic: f64,
    /// Load per replica aimed at.
    pub target: f64,
    /// Ready replicas it was made with.
    pub ready: u32,
    /// Requests that waited.
    pub waiting: u32,
    /// Whether it panics.
    pub panic_mode: bool,
    /// Spare capacity less the burst capacity to keep.
    pub excess_burst_capacity: f64,
    /// Replicas before bounds.
    pub desired: u32,
    /// Replicas ordered.
    pub requested: u32,
    /// What stands between the two, one line each, for example `max-scale 3`.
    pub clamps: Vec<String>,
    /// How often in a row the same decision was made; 1 = once.
    pub times: u64,
}
