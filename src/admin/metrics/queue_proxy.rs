//! The classic names of Knative's queue-proxy (up to 1.18), which a sidecar has: `revision_*` from
//! arrival to the end, `revision_app_*` around the backend alone.

use std::sync::Arc;

use super::family::{Family, HistogramValue, Kind, Label, Value};
use super::input::{MetricsInput, RevisionMetrics};
use super::knative::{LATENCIES_MS, code_labels, revision_labels};
use crate::stats::{CodeCount, HistogramReading};

/// `route_tag` where no part of Knative routes by tag (`pkg/queue/routetag_handler.go`).
const ROUTE_TAG: &str = "kn:disabled";

/// queue-proxy's families.
pub(super) fn families(input: &MetricsInput) -> Vec<Family> {
    let mut whole = Requests::new(
        ["revision_request_count", "revision_request_latencies"],
        ["The number of requests that are routed to queue-proxy.", TIME],
    );
    let mut app = Requests::new(
        ["revision_app_request_count", "revision_app_request_latencies"],
        ["The number of requests that are routed to the backend.", TIME],
    );
    let mut depth = Family::new(
        "revision_queue_depth",
        Kind::Gauge,
        "The current number of items in the serving and waiting queue, or not reported if \
         unlimited concurrency.",
    );
    for revision in input.revisions.iter().filter(|revision| revision.stats.had_traffic()) {
        let labels = labels(input, revision);
        let stats = &revision.stats;
        whole.add(&labels, stats.codes(), &stats.latency());
        let (codes, latency) = stats.app();
        app.add(&labels, codes, &latency);
        let reading = stats.read(stats.clock().now());
        depth.push(&labels, Vec::new(), Value::Whole(reading.in_flight));
    }
    vec![whole.count, whole.latencies, app.count, app.latencies, depth]
}

const TIME: &str = "The response time in milliseconds.";

fn labels(input: &MetricsInput, revision: &RevisionMetrics) -> Arc<[Label]> {
    let pod = [("pod_name", Arc::clone(&input.instance)), ("container_name", "queue-proxy".into())];
    revision_labels(revision).into_iter().chain(pod).collect()
}

struct Requests {
    count: Family,
    latencies: Family,
}

impl Requests {
    fn new([count, latencies]: [&'static str; 2], [help, time]: [&'static str; 2]) -> Self {
        Self {
            count: Family::new(count, Kind::Untyped, help),
            latencies: Family::new(latencies, Kind::Histogram, time),
        }
    }

    fn add(&mut self, labels: &Arc<[Label]>, codes: CodeCount, latency: &HistogramReading) {
        for (code, count) in codes.by_code {
            let mut own = code_labels(code);
            own.push(("route_tag", ROUTE_TAG.into()));
            self.count.push(labels, own, Value::Whole(count));
        }
        let latencies = HistogramValue::new(latency, &LATENCIES_MS, 1.0);
        self.latencies.push(labels, Vec::new(), Value::Histogram(latencies));
    }
}
