//! The classic names of Knative's activator and autoscaler (up to 1.18), as existing dashboards
//! spell them. `revision_*` are queue-proxy's own measurements: a sidecar has those instead
//! (`queue_proxy.rs`).
//!
//! The latency histogram has no `response_code` labels: it is kept per revision, not per status.

use std::sync::Arc;

use super::family::{Family, HistogramValue, Kind, Label, Value};
use super::input::{MetricsInput, RevisionMetrics};
use crate::model::Metric;

/// Buckets of `activator_request_latencies`, in milliseconds.
pub(super) const LATENCIES_MS: [u64; 26] = [
    5, 10, 20, 40, 60, 80, 100, 150, 200, 250, 300, 350, 400, 450, 500, 600, 700, 800, 900, 1_000,
    2_000, 5_000, 10_000, 20_000, 50_000, 100_000,
];

/// Labels that all classic names have, by revision.
pub(super) fn revision_labels(revision: &RevisionMetrics) -> [Label; 4] {
    let service = revision.service.as_ref().map_or("unknown".into(), |id| Arc::clone(&id.name));
    [
        ("namespace_name", Arc::clone(&revision.revision.namespace)),
        ("service_name", service),
        ("configuration_name", Arc::clone(&revision.configuration)),
        ("revision_name", Arc::clone(&revision.revision.name)),
    ]
}

/// Labels of a status code.
pub(super) fn code_labels(code: u16) -> Vec<Label> {
    vec![
        ("response_code", code.to_string().into()),
        ("response_code_class", format!("{}xx", code / 100).into()),
    ]
}

/// Every classic family that has a meaning here.
pub fn classic_families(input: &MetricsInput) -> Vec<Family> {
    if input.sidecar {
        return super::queue_proxy::families(input);
    }
    let mut activator = Activator::new();
    let mut autoscaler = Autoscaler::new();
    for revision in input.revisions.iter().filter(|revision| revision.stats.had_traffic()) {
        let labels = revision_labels(revision);
        let container: [Label; 2] =
            [("pod_name", Arc::clone(&input.instance)), ("container_name", "activator".into())];
        let both: Vec<_> = labels.iter().chain(&container).cloned().collect();
        activator.add(revision, &both.into());
        autoscaler.add(revision, &labels.into());
    }
    let mut families = vec![activator.concurrency, activator.count, activator.latencies];
    families.extend(autoscaler.0);
    families
}

struct Activator {
    concurrency: Family,
    count: Family,
    latencies: Family,
}

impl Activator {
    fn new() -> Self {
        Self {
            concurrency: Family::new(
                "activator_request_concurrency",
                Kind::Gauge,
                "Concurrent requests that are routed to the activator.",
            ),
            count: Family::new(
                "activator_request_count",
                Kind::Untyped,
                "The number of requests that are routed to the activator.",
            ),
            latencies: Family::new(
                "activator_request_latencies",
                Kind::Histogram,
                "The response time in milliseconds.",
            ),
        }
    }

    fn add(&mut self, revision: &RevisionMetrics, labels: &Arc<[Label]>) {
        let stats = &revision.stats;
        let reading = stats.read(stats.clock().now());
        self.concurrency.push(labels, Vec::new(), Value::Whole(reading.in_flight));
        for (code, count) in stats.codes().by_code {
            self.count.push(labels, code_labels(code), Value::Whole(count));
        }
        let latencies = HistogramValue::new(&stats.latency(), &LATENCIES_MS, 1.0);
        self.latencies.push(labels, Vec::new(), Value::Histogram(latencies));
    }
}

/// Name and help of the autoscaler's gauges.
const GAUGES: [(&str, &str); 14] = [
    ("autoscaler_desired_pods", "Number of pods autoscaler wants to allocate."),
    ("autoscaler_requested_pods", "Number of pods autoscaler requested."),
    ("autoscaler_actual_pods", "Number of pods that are allocated currently."),
    ("autoscaler_not_ready_pods", "Number of pods that are not ready currently."),
    ("autoscaler_pending_pods", "Number of pods that are pending currently."),
    ("autoscaler_terminating_pods", "Number of pods that are terminating currently."),
    ("autoscaler_excess_burst_capacity", "Excess burst capacity over the stable window."),
    ("autoscaler_panic_mode", "1 if autoscaler is in panic mode, 0 otherwise."),
    ("autoscaler_stable_request_concurrency", "Average of requests over the stable window."),
    ("autoscaler_panic_request_concurrency", "Average of requests over the panic window."),
    ("autoscaler_target_concurrency_per_pod", "Concurrent requests wanted for each pod."),
    ("autoscaler_stable_requests_per_second", "Average of requests a second, stable window."),
    ("autoscaler_panic_requests_per_second", "Average of requests a second, panic window."),
    ("autoscaler_target_requests_per_second", "Requests a second wanted for each pod."),
];

struct Autoscaler([Family; GAUGES.len()]);

impl Autoscaler {
    fn new() -> Self {
        Self(GAUGES.map(|(name, help)| Family::new(name, Kind::Gauge, help)))
    }

    fn add(&mut self, revision: &RevisionMetrics, labels: &Arc<[Label]>) {
        let autoscaler = revision.autoscaler;
        // Only the set that matches the revision's metric exists, as in the original.
        let measured = |metric| autoscaler.filter(|autoscaler| autoscaler.metric == metric);
        let concurrency = measured(Metric::Concurrency);
        let rps = measured(Metric::Rps);
        let count = |count: Option<u32>| count.map(f64::from);
        let values = [
            count(revision.desired),
            count(revision.requested),
            count(Some(revision.ready)),
            count(Some(revision.starting)),
            // A process that is started runs at once: nothing is pending.
            Some(0.0),
            count(Some(revision.stopping)),
            autoscaler.map(|autoscaler| autoscaler.excess_burst_capacity),
            autoscaler.map(|autoscaler| f64::from(u8::from(autoscaler.panic_mode))),
            concurrency.map(|autoscaler| autoscaler.stable),
            concurrency.map(|autoscaler| autoscaler.panic),
            concurrency.map(|autoscaler| autoscaler.target),
            rps.map(|autoscaler| autoscaler.stable),
            rps.map(|autoscaler| autoscaler.panic),
            rps.map(|autoscaler| autoscaler.target),
        ];
        for (family, value) in self.0.iter_mut().zip(values) {
            if let Some(value) = value {
                family.push(labels, Vec::new(), Value::Real(value));
            }
        }
    }
}
