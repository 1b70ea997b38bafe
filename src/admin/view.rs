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
    /// Lines that the replicas of a revision printed.
    pub logs: LogsQuery,
    /// Requests of this identity that waited or were refused lately, newest first.
    pub requests: RequestQuery,
    /// Input of both metrics pages.
    pub metrics: View<MetricsInput>,
}

impl Default for Views {
    /// Ready, and nothing to show.
    fn default() -> Self {
        Self {
            readiness: Box::new(|| Readiness { ready: true, state: "ready".to_owned() }),
            services: Box::new(ServicesView::default),
            revisions: Box::new(RevisionsView::default),
            revision: Box::new(|_| None),
            decisions: Box::new(|_| None),
            logs: Box::new(|_, _| None),
            requests: Box::new(|_| Vec::new()),
            metrics: Box::new(MetricsInput::default),
        }
    }
}

/// A view of everything.
pub type View<T> = Box<dyn Fn() -> T + Send + Sync>;
/// A view of one revision; none when there is no such revision.
pub type RevisionQuery<T> = Box<dyn Fn(&RevisionId) -> Option<T> + Send + Sync>;

/// A view of what the replicas of a revision printed; none when there is no such revision.
pub type LogsQuery = Box<dyn Fn(&RevisionId, Lines) -> Option<LogsView> + Send + Sync>;

/// A view of requests of an identity.
pub type RequestQuery = Box<dyn Fn(&str) -> Vec<RequestView> + Send + Sync>;

/// Which lines are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// Only those after the one of this number.
    pub after: u64,
    /// The last so many of them; none = all that are kept.
    pub tail: Option<usize>,
}

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
    /// The new revision that is tried, or was taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryView>,
}

/// A new revision that is tried beside the old one, or was taken back.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CanaryView {
    /// `tried` or `taken_back`.
    pub state: String,
    /// Name of the revision that had the traffic before.
    pub old: String,
    /// Name of the one that is tried.
    pub new: String,
    /// Per cent that it has, or had when it was taken back.
    pub share: u8,
    /// Per cent that both have.
    pub of: u8,
    /// The step it is at, counted from 1.
    pub step: usize,
    /// Per cent at each step.
    pub steps: Vec<u8>,
    /// Points by which the per cent of its requests that fail may be above the old one's.
    pub max_errors: f64,
    /// How many times as long as the old one's its answers may take.
    pub max_latency: f64,
    /// How long the step has been counted, seconds.
    pub over_s: f64,
    /// What was counted of the old and the new one; none before anything was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<[FiguresView; 2]>,
    /// What the step still needs, or why it was taken back.
    pub why: String,
    /// Why it was taken back: `errors`, `median`, `p95` or `cannot_start`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was taken back, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken_back_unix_ms: Option<u64>,
}

/// What was counted of a revision beside another one.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct FiguresView {
    /// Requests that ended, those whose client left not counted.
    pub requests: u64,
    /// Those among them that failed.
    pub errors: u64,
    /// Median of the time that the others took, milliseconds.
    pub median_ms: f64,
    /// What 95 % of them took at most, milliseconds.
    pub p95_ms: f64,
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
    /// Replicas that are still to be replaced by others.
    pub to_renew: u32,
    /// How it is scaled.
    pub scaling: ScalingView,
    /// What its starts from zero took.
    pub cold_starts: ColdStartsView,
    /// Why its replicas cannot be started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<ProblemView>,
}

/// Settings by which a revision is scaled.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ScalingView {
    /// Length of the stable window, seconds.
    pub stable_window_s: f64,
    /// Length of the panic window, seconds.
    pub panic_window_s: f64,
    /// Replicas wanted over those that are ready from which on it panics.
    pub panic_threshold: f64,
    /// Replicas to begin with.
    pub initial_scale: u32,
    /// Replicas to start at once from zero.
    pub activation_scale: u32,
    /// How long the last replica stays after the last request at least, seconds.
    pub retention_s: f64,
    /// How long a lower count has to be wanted before it is ordered, seconds.
    pub scale_down_delay_s: f64,
}

/// Starts from zero since tidegate began.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ColdStartsView {
    /// How many were measured.
    pub count: u64,
    /// How long the last one took, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_s: Option<f64>,
    /// How long all of them took, by phase in their order.
    pub phases: Vec<ColdStartPhaseView>,
}

/// A part of all cold starts.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ColdStartPhaseView {
    /// `spawn` (from the order to the running program) or `ready` (from there to ready).
    pub phase: String,
    /// Sum, seconds.
    pub total_s: f64,
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

/// `GET /api/v1/revisions/{namespace}/{name}/logs`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LogsView {
    /// Oldest first.
    pub lines: Vec<LineView>,
    /// Number of the newest line there is: ask for those after it.
    pub last: u64,
    /// Where the lines are if they are not here: what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<String>,
}

/// A line that a replica printed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LineView {
    /// Its number, ascending over all revisions.
    pub number: u64,
    /// When, in milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// Number of the replica.
    pub replica: u64,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// Without the line's end.
    pub text: String,
}

/// `GET /api/v1/requests/{id}`: a request that waited for a replica, or was refused.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RequestView {
    /// Its `X-Request-Id`.
    pub id: String,
    /// When it arrived, in milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// Namespace of its revision; empty where none was found.
    pub namespace: String,
    /// Name of its revision; empty where none was found.
    pub revision: String,
    /// How long it waited for a place, in milliseconds.
    pub waited_ms: f64,
    /// What it met when it began to wait, or was refused.
    pub met: MetView,
    /// Why it was refused; none = it was served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<ProblemView>,
}

/// What a revision was doing at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MetView {
    /// Ready replicas.
    pub ready: u32,
    /// Replicas on their way up.
    pub starting: u32,
    /// Requests that waited, this one not counted.
    pub waiting: u32,
}
