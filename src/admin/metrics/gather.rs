//! The `tidegate_*` families.
//!
//! Metrics of requests carry the service; what describes a revision's queue, replicas and
//! autoscaler carries only the revision, whose name is unique, because at a thousand revisions a
//! further label everywhere is a megabyte a scrape. `tidegate_request_concurrency` joins the two.

use std::sync::Arc;

use super::family::{Family, HistogramValue, Kind, Label, Value};
use super::input::{MetricsInput, RevisionMetrics};
use super::process;

// Each bucket costs 100 bytes a revision and scrape: few, and where answers are needed.

/// Buckets of request durations, in milliseconds.
const DURATION_MS: [u64; 8] = [5, 25, 100, 250, 500, 1_000, 2_500, 10_000];
/// Buckets of waiting.
const WAIT_MS: [u64; 4] = [5, 50, 500, 5_000];
/// Buckets of cold starts.
const COLD_START_MS: [u64; 4] = [50, 250, 1_000, 5_000];
const SECONDS_PER_MS: f64 = 0.001;

/// Every own family, in a fixed order.
pub fn own_families(input: &MetricsInput) -> Vec<Family> {
    let mut families = RevisionFamilies::new();
    for revision in input.revisions.iter().filter(|revision| revision.stats.had_traffic()) {
        families.add(revision);
    }
    for (reason, count) in &input.refused {
        let labels = vec![label("reason", reason.token())];
        families.refused.push(&Arc::default(), labels, Value::Whole(*count));
    }
    let mut all = families.into_vec();
    all.extend(program(input));
    all.extend(process::families());
    all.extend(input.extra.iter().cloned());
    all
}

fn label(name: &'static str, value: impl Into<Arc<str>>) -> Label {
    (name, value.into())
}

/// Families of the program as a whole.
fn program(input: &MetricsInput) -> Vec<Family> {
    let gauge =
        |name, help, value| Family::new(name, Kind::Gauge, help).single(Value::Whole(value));
    let mut open = Family::new("tidegate_connections", Kind::Gauge, "Open client connections.");
    let mut accepted = Family::new(
        "tidegate_connections_accepted",
        Kind::Counter,
        "Client connections accepted since the start.",
    );
    for connections in &input.connections {
        let labels = vec![label("listener", Arc::clone(&connections.listener))];
        open.push(&Arc::default(), labels.clone(), Value::Whole(connections.open));
        accepted.push(&Arc::default(), labels, Value::Whole(connections.accepted));
    }
    let mut build = Family::new("tidegate_build_info", Kind::Gauge, "Always 1; the version.");
    let version = label("version", env!("CARGO_PKG_VERSION"));
    build.push(&Arc::default(), vec![version], Value::Whole(1));
    vec![
        open,
        accepted,
        gauge("tidegate_services", "Services loaded.", input.services),
        gauge(
            "tidegate_rejected_objects",
            "Objects of the newest configuration that were not admitted.",
            input.rejected_objects,
        ),
        Family::new(
            "tidegate_log_lines_dropped",
            Kind::Counter,
            "Log lines dropped because standard error is slow.",
        )
        .single(Value::Whole(input.log_lines_dropped)),
        build,
    ]
}

/// Families with series per revision.
struct RevisionFamilies {
    requests: Family,
    duration: Family,
    concurrency: Family,
    in_flight_seconds: Family,
    queue_depth: Family,
    queue_wait: Family,
    cold_start: Family,
    cold_start_phase: Family,
    refused: Family,
    replicas: Family,
    stable: Family,
    panic: Family,
    target: Family,
    panic_mode: Family,
    excess_burst: Family,
    endpoint: Family,
}

impl RevisionFamilies {
    fn new() -> Self {
        let gauge = |name, help| Family::new(name, Kind::Gauge, help);
        let counter = |name, help| Family::new(name, Kind::Counter, help);
        let histogram = |name, help| Family::new(name, Kind::Histogram, help);
        Self {
            requests: counter(
                "tidegate_requests",
                "Ended requests by status; code none: they ended without a response.",
            ),
            duration: histogram(
                "tidegate_request_duration_seconds",
                "From arrival to the end of the response, waiting included.",
            ),
            concurrency: gauge(
                "tidegate_request_concurrency",
                "Requests in flight now, waiting ones included.",
            ),
            in_flight_seconds: counter(
                "tidegate_request_in_flight_seconds",
                "Requests in flight summed over time; its rate is the average concurrency.",
            ),
            queue_depth: gauge("tidegate_queue_depth", "Requests that wait for a replica."),
            queue_wait: histogram(
                "tidegate_queue_wait_seconds",
                "How long requests waited for a replica; those that did not wait are left out.",
            ),
            cold_start: histogram(
                "tidegate_cold_start_seconds",
                "Starts of a revision's first replica, from the order until it is ready.",
            ),
            cold_start_phase: counter(
                "tidegate_cold_start_phase_seconds",
                "Time spent in each phase of cold starts.",
            ),
            refused: counter(
                "tidegate_refused",
                "Requests that tidegate answered itself, by reason.",
            ),
            replicas: gauge("tidegate_revision_replicas", "Replicas by state."),
            stable: gauge(
                "tidegate_autoscaler_stable",
                "Average load of the revision over the stable window.",
            ),
            panic: gauge(
                "tidegate_autoscaler_panic",
                "Average load of the revision over the panic window.",
            ),
            target: gauge("tidegate_autoscaler_target", "Load per replica aimed at."),
            panic_mode: gauge("tidegate_autoscaler_panic_mode", "1 while in panic."),
            excess_burst: gauge(
                "tidegate_autoscaler_excess_burst_capacity",
                "Spare capacity less the burst capacity to keep.",
            ),
            endpoint: gauge("tidegate_endpoint_in_flight", "Requests that an endpoint handles."),
        }
    }

    fn add(&mut self, revision: &RevisionMetrics) {
        let stats = &revision.stats;
        let service = revision.service.as_ref().map_or("".into(), |id| Arc::clone(&id.name));
        let namespace = label("namespace", Arc::clone(&revision.revision.namespace));
        let name = label("revision", Arc::clone(&revision.revision.name));
        let shared: Arc<[Label]> =
            Arc::new([namespace.clone(), label("service", service), name.clone()]);
        let own: Arc<[Label]> = Arc::new([namespace, name]);
        let codes = stats.codes();
        for (code, count) in codes.by_code {
            let code = vec![label("code", code.to_string())];
            self.requests.push(&shared, code, Value::Whole(count));
        }
        if codes.without_response > 0 {
            let code = vec![label("code", "none")];
            self.requests.push(&shared, code, Value::Whole(codes.without_response));
        }
        let reading = stats.read(stats.clock().now());
        self.concurrency.push(&shared, Vec::new(), Value::Whole(reading.in_flight));
        let seconds = reading.area as f64 / 1e9;
        self.in_flight_seconds.push(&shared, Vec::new(), Value::Real(seconds));
        self.queue_depth.push(&shared, Vec::new(), Value::Whole(stats.waiting().into()));

        for (family, labels, reading, bounds) in [
            (&mut self.duration, &shared, stats.latency(), &DURATION_MS[..]),
            (&mut self.queue_wait, &own, stats.queue_wait(), &WAIT_MS[..]),
            (&mut self.cold_start, &own, stats.cold_start(), &COLD_START_MS[..]),
        ] {
            let histogram = HistogramValue::new(&reading, bounds, SECONDS_PER_MS);
            family.push(labels, Vec::new(), Value::Histogram(histogram));
        }
        for (phase, sum) in &revision.cold_start_phases {
            let labels = vec![label("phase", *phase)];
            self.cold_start_phase.push(&own, labels, Value::Real(sum.as_secs_f64()));
        }
        for (reason, count) in stats.refusals() {
            let labels = vec![label("reason", reason.token())];
            self.refused.push(&own, labels, Value::Whole(count));
        }
        self.add_scaling(revision, &own);
    }

    fn add_scaling(&mut self, revision: &RevisionMetrics, shared: &Arc<[Label]>) {
        for (state, count) in [
            ("desired", revision.requested),
            ("ready", Some(revision.ready)),
            ("starting", Some(revision.starting)),
            ("stopping", Some(revision.stopping)),
        ] {
            if let Some(count) = count {
                let labels = vec![label("state", state)];
                self.replicas.push(shared, labels, Value::Whole(count.into()));
            }
        }
        if let Some(autoscaler) = revision.autoscaler {
            for (family, value) in [
                (&mut self.stable, autoscaler.stable),
                (&mut self.panic, autoscaler.panic),
                (&mut self.target, autoscaler.target),
                (&mut self.panic_mode, f64::from(u8::from(autoscaler.panic_mode))),
                (&mut self.excess_burst, autoscaler.excess_burst_capacity),
            ] {
                family.push(shared, Vec::new(), Value::Real(value));
            }
        }
        for endpoint in &revision.endpoints {
            let labels = vec![label("endpoint", Arc::clone(&endpoint.id.0))];
            self.endpoint.push(shared, labels, Value::Whole(endpoint.in_flight));
        }
    }

    fn into_vec(self) -> Vec<Family> {
        vec![
            self.requests,
            self.duration,
            self.concurrency,
            self.in_flight_seconds,
            self.queue_depth,
            self.queue_wait,
            self.cold_start,
            self.cold_start_phase,
            self.refused,
            self.replicas,
            self.stable,
            self.panic,
            self.target,
            self.panic_mode,
            self.excess_burst,
            self.endpoint,
        ]
    }
}
