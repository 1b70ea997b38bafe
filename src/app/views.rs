//! What the admin listener shows, gathered from the live parts at each request.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::admin::metrics::{
    AutoscalerMetrics, ConnectionMetrics, EndpointMetrics, Family, Kind, MetricsInput,
    RevisionMetrics, Value,
};
use crate::admin::view::{
    ColdStartPhaseView, ColdStartsView, DecisionView, DecisionsView, EndpointView, Lines, LogsView,
    MetView, ProblemView, Readiness, RequestView, RevisionView, RevisionsView, ScalingView,
    ServiceView, ServicesView, TagView, TrafficView, Views,
};
use crate::autoscaler::{Autoscaler, Decision};
use crate::cli::logging::{ForwarderCounts, LogHandle};
use crate::local::state::{Health, Memory};
use crate::model::{
    ContainerConcurrency, Metric, Problem, Protocol, RevisionId, ScalingSpec, ServiceSpec, Workload,
};
use crate::proxy::{DrainState, Note, Position, Shared};
use crate::revision::Revision;
use crate::traces::Counts;

use super::canaries;
use super::https::{ShownAt, TlsServers};
use super::live::Live;
use super::orders::Hands;
use super::state::{conditions, families};

/// Families of metrics that somebody else gathers.
pub(super) type MoreFamilies = Box<dyn Fn() -> Vec<Family> + Send + Sync>;

/// What the views look at.
pub(super) struct Sources {
    pub(super) live: Arc<Live>,
    pub(super) autoscaler: Arc<Autoscaler>,
    pub(super) shared: Arc<Shared>,
    /// The data listener that is shown in URLs.
    pub(super) shown_at: ShownAt,
    pub(super) instance: Arc<str>,
    /// None where no state is kept.
    pub(super) memory: Option<Memory>,
    /// What it can be told to do.
    pub(super) hands: Hands,
    /// Metrics of what only this home has.
    pub(super) families: Option<MoreFamilies>,
    pub(super) log: Arc<LogHandle>,
    /// TLS of the listeners.
    pub(super) tls: TlsServers,
}

/// Closures for the admin listener.
pub(super) fn views(sources: Sources) -> Views {
    let sources = Arc::new(sources);
    let s = || Arc::clone(&sources);
    let (a, b, c, d, e, f, g, h) = (s(), s(), s(), s(), s(), s(), s(), s());
    Views {
        readiness: Box::new(move || readiness(&a)),
        services: Box::new(move || b.services()),
        revisions: Box::new(move || RevisionsView {
            revisions: c.live.revisions().iter().map(|r| c.revision(r)).collect(),
        }),
        revision: Box::new(move |id| d.live.revision(id).map(|r| d.revision(&r))),
        decisions: Box::new(move |id| e.decisions(id)),
        logs: Box::new(move |id, lines| g.logs(id, lines)),
        requests: Box::new(move |id| h.requests(id)),
        metrics: Box::new(move || f.metrics()),
    }
}

fn readiness(sources: &Sources) -> Readiness {
    let state = sources.shared.drain_state();
    let word = state.word();
    let state_text = match state {
        DrainState::Starting | DrainState::Serving => word.to_owned(),
        DrainState::Draining | DrainState::Closing => {
            let open = sources.shared.connections() + sources.shared.tunnels();
            format!("{word}: {open} connections left")
        }
    };
    let away = state == DrainState::Serving && sources.backend_is_away();
    if away {
        return Readiness { ready: false, state: "the backend is not ready".to_owned() };
    }
    Readiness { ready: state == DrainState::Serving, state: state_text }
}

/// Series of the collectors that the log goes to; none without any.
fn forwarding(forwarders: &[ForwarderCounts]) -> Vec<Family> {
    let counter = |name, help, count: fn(&ForwarderCounts) -> u64| {
        let mut family = Family::new(name, Kind::Counter, help);
        for forwarder in forwarders {
            let labels = vec![("forwarder", Arc::from(forwarder.forwarder.as_str()))];
            family.push(&Arc::default(), labels, Value::Whole(count(forwarder)));
        }
        family
    };
    if forwarders.is_empty() {
        return Vec::new();
    }
    vec![
        counter("tidegate_log_records_forwarded", "Log records sent to a collector.", |f| f.sent),
        counter(
            "tidegate_log_records_dropped",
            "Log records dropped because a collector was away or slow.",
            |f| f.dropped,
        ),
    ]
}

/// Series of spans; none as long as nothing was traced.
fn traced(counts: Option<Counts>) -> Vec<Family> {
    let Some(Counts { exported, dropped }) = counts else { return Vec::new() };
    let counter =
        |name, help, value| Family::new(name, Kind::Counter, help).single(Value::Whole(value));
    vec![
        counter("tidegate_trace_spans_exported", "Spans that the collector took.", exported),
        counter(
            "tidegate_trace_spans_dropped",
            "Spans dropped because the collector was away or slow, or refused them.",
            dropped,
        ),
    ]
}

fn problem_view(problem: &Problem) -> ProblemView {
    ProblemView { reason: problem.reason.token().to_owned(), message: problem.message.to_string() }
}

fn metric_word(metric: Metric) -> &'static str {
    match metric {
        Metric::Concurrency => "concurrency",
        Metric::Rps => "rps",
    }
}

fn scaling_view(scaling: &ScalingSpec) -> ScalingView {
    ScalingView {
        stable_window_s: scaling.stable_window.as_secs_f64(),
        panic_window_s: scaling.panic_window.as_secs_f64(),
        panic_threshold: scaling.panic_threshold,
        initial_scale: scaling.initial_scale,
        activation_scale: scaling.activation_scale.unwrap_or(1),
        retention_s: scaling.scale_to_zero_retention.as_secs_f64(),
        scale_down_delay_s: scaling.scale_down_delay.as_secs_f64(),
    }
}

fn cold_starts_view(revision: &Revision) -> ColdStartsView {
    let phase = |(phase, took): (&str, Duration)| ColdStartPhaseView {
        phase: phase.to_owned(),
        total_s: took.as_secs_f64(),
    };
    ColdStartsView {
        count: revision.stats().cold_start().count(),
        last_s: revision.last_cold_start().map(|took| took.as_secs_f64()),
        phases: revision.cold_start_phases().into_iter().map(phase).collect(),
    }
}

impl Sources {
    /// Lines that replicas of a revision printed.
    fn logs(&self, id: &RevisionId, asked: Lines) -> Option<LogsView> {
        self.live.revision(id).map(|_| self.hands.logs(id, asked))
    }

    /// Requests of this identity.
    fn requests(&self, id: &str) -> Vec<RequestView> {
        let clock = self.shared.clock;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let view = |note: Note| {
            let at = since.saturating_sub(clock.now().since(note.arrived));
            let name = |part: fn(&RevisionId) -> &Arc<str>| {
                note.revision.as_ref().map(|id| part(id).to_string()).unwrap_or_default()
            };
            RequestView {
                id: String::from_utf8_lossy(&note.id).into_owned(),
                unix_ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
                namespace: name(|id| &id.namespace),
                revision: name(|id| &id.name),
                waited_ms: note.waited.as_secs_f64() * 1000.0,
                met: MetView {
                    ready: note.met.ready,
                    starting: note.met.starting,
                    waiting: note.met.waiting,
                },
                problem: note.problem.as_ref().map(problem_view),
            }
        };
        self.shared.noted.find(id.as_bytes()).into_iter().map(view).collect()
    }

    /// Whether this is a sidecar whose backend is not ready.
    fn backend_is_away(&self) -> bool {
        self.shared.settings.position == Position::Sidecar
            && self.live.revisions().iter().all(|revision| revision.stats().ready() == 0)
    }

    /// Families of what only this program has.
    fn extra(&self) -> Vec<Family> {
        let mut extra = self.state().as_ref().map(families).unwrap_or_default();
        extra.extend(forwarding(&self.log.forwarded()));
        extra.extend(traced(self.shared.settings.tracer.counts()));
        extra.extend(self.tls.families());
        extra.extend(self.live.canaries.families(&self.live.world()));
        extra.extend(self.families.iter().flat_map(|families| families()));
        extra
    }

    fn url(&self, service: &ServiceSpec, host: &str) -> String {
        self.shown_at.url_of(service, host)
    }

    fn state(&self) -> Option<Health> {
        self.memory.as_ref().map(Memory::health)
    }

    fn services(&self) -> ServicesView {
        let world = self.live.world();
        let services = world
            .services
            .iter()
            .map(|service| ServiceView {
                namespace: service.id.namespace.to_string(),
                name: service.id.name.to_string(),
                // A sidecar's takes any.
                url: self.url(service, service.hosts.first().map_or("localhost", |host| host)),
                hosts: service.hosts.iter().map(ToString::to_string).collect(),
                traffic: service
                    .traffic
                    .iter()
                    .map(|target| TrafficView {
                        revision: target.revision.name.to_string(),
                        percent: target.percent,
                    })
                    .collect(),
                tags: service
                    .tags
                    .iter()
                    .map(|tag| TagView {
                        name: tag.name.to_string(),
                        revision: tag.revision.name.to_string(),
                        url: tag
                            .hosts
                            .first()
                            .map(|host| self.url(service, host))
                            .unwrap_or_default(),
                    })
                    .collect(),
                problem: service.problem.as_ref().map(problem_view),
                warnings: service.warnings.iter().map(ToString::to_string).collect(),
                canary: canaries::view(&self.live, service),
            })
            .collect();
        ServicesView {
            services,
            rejected: world.rejected.iter().map(ToString::to_string).collect(),
            conditions: self.state().as_ref().map(conditions).unwrap_or_default(),
        }
    }

    fn revision(&self, revision: &Revision) -> RevisionView {
        let spec = revision.spec();
        let stats = revision.stats();
        let (desired, counts) = self.live.counts(revision.id());
        let reading = stats.read(stats.clock().now());
        let unavailable = match &spec.workload {
            Workload::Unavailable(problem) => Some(problem.clone()),
            Workload::Process(_) | Workload::Static(_) | Workload::Pods(_) => {
                self.live.failure(revision.id())
            }
        };
        RevisionView {
            namespace: spec.id.namespace.to_string(),
            name: spec.id.name.to_string(),
            service: spec.service.as_ref().map(|s| s.name.to_string()),
            configuration: spec.configuration.to_string(),
            protocol: match spec.protocol {
                Protocol::Http1 => "http1",
                Protocol::H2c => "h2c",
            }
            .to_owned(),
            container_concurrency: match spec.container_concurrency {
                ContainerConcurrency::Unlimited => 0,
                ContainerConcurrency::AtMost(limit) => limit.get(),
            },
            metric: metric_word(spec.scaling.metric).to_owned(),
            target: spec.scaling.target_value,
            min_scale: spec.scaling.min_scale,
            max_scale: spec.scaling.max_scale,
            reachable: spec.scaling.reachable,
            desired,
            ready: counts.ready,
            starting: counts.starting,
            stopping: counts.stopping,
            in_flight: reading.in_flight,
            waiting: stats.waiting(),
            requests: reading.arrivals,
            refused: stats.refusals().map(|(r, n)| (r.token().to_owned(), n)).collect(),
            to_renew: revision.to_renew(),
            scaling: scaling_view(&spec.scaling),
            cold_starts: cold_starts_view(revision),
            endpoints: revision
                .endpoints()
                .into_iter()
                .map(|endpoint| EndpointView {
                    id: endpoint.id.to_string(),
                    address: endpoint.address.to_string(),
                    state: endpoint.state.to_owned(),
                    in_flight: u64::from(endpoint.in_flight),
                })
                .collect(),
            problem: unavailable.as_ref().map(problem_view),
        }
    }

    fn decisions(&self, id: &RevisionId) -> Option<DecisionsView> {
        let revision = self.live.revision(id)?;
        let spec = revision.spec();
        let now = revision.stats().clock().now();
        let decisions = self.autoscaler.recent(id);
        let view = |decision: &Decision| {
            let age = Duration::from_nanos(now.0).saturating_sub(decision.at);
            DecisionView {
                age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
                trigger: decision.cause.token().to_owned(),
                metric: metric_word(spec.scaling.metric).to_owned(),
                // Without the sign of a negative zero.
                stable: decision.stable + 0.0,
                panic: decision.panic + 0.0,
                target: spec.scaling.target_value,
                ready: decision.ready,
                waiting: decision.waiting,
                panic_mode: decision.panicking,
                excess_burst_capacity: decision.excess_burst as f64,
                desired: decision.raw,
                requested: decision.desired,
                clamps: decision.clamps.iter().map(|clamp| clamp.token().to_owned()).collect(),
                times: 1,
            }
        };
        Some(DecisionsView { decisions: decisions.iter().rev().map(view).collect() })
    }

    fn metrics(&self) -> MetricsInput {
        let world = self.live.world();
        let revisions = self
            .live
            .revisions()
            .iter()
            .filter(|revision| revision.stats().had_traffic())
            .map(|revision| self.revision_metrics(revision))
            .collect();
        MetricsInput {
            instance: Arc::clone(&self.instance),
            sidecar: self.shared.settings.position == Position::Sidecar,
            revisions,
            refused: self.shared.refusals(),
            connections: self.connections(),
            services: world.services.len() as u64,
            rejected_objects: world.rejected.len() as u64,
            log_lines_dropped: self.log.dropped(),
            extra: self.extra(),
        }
    }

    fn connections(&self) -> Vec<ConnectionMetrics> {
        let of = |secure, listener: &str| ConnectionMetrics {
            listener: listener.into(),
            open: u64::from(self.shared.connections_of(secure)),
            accepted: self.shared.accepted_of(secure),
        };
        let mut connections = vec![of(false, "http")];
        connections.extend(self.tls.https.is_some().then(|| of(true, "https")));
        connections
    }

    fn revision_metrics(&self, revision: &Arc<Revision>) -> RevisionMetrics {
        let spec = revision.spec();
        let (desired, counts) = self.live.counts(revision.id());
        // A sidecar's one replica is never scaled.
        let scaled = self.shared.settings.position == Position::Edge;
        let view = scaled.then(|| self.autoscaler.view(revision.id())).flatten();
        RevisionMetrics {
            revision: spec.id.clone(),
            service: spec.service.clone(),
            configuration: Arc::clone(&spec.configuration),
            stats: Arc::clone(revision.stats()),
            desired: view.as_ref().map(|view| view.wanted),
            requested: Some(desired),
            ready: counts.ready,
            starting: counts.starting,
            stopping: counts.stopping,
            autoscaler: view.map(|view| AutoscalerMetrics {
                metric: spec.scaling.metric,
                stable: view.stable,
                panic: view.panic,
                target: view.target,
                panic_mode: view.panicking,
                excess_burst_capacity: view.excess_burst as f64,
            }),
            endpoints: revision
                .endpoints()
                .into_iter()
                .map(|e| EndpointMetrics { id: e.id, in_flight: u64::from(e.in_flight) })
                .collect(),
            cold_start_phases: revision.cold_start_phases(),
        }
    }
}
