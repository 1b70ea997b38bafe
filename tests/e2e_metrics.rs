//! The metrics pages, read by the real tools: Debian's package `prometheus` has both.
#![expect(clippy::unwrap_used, reason = "tests panic on purpose")]

#[path = "support/prometheus.rs"]
mod prometheus;

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidegate::admin::metrics::{
    AutoscalerMetrics, ConnectionMetrics, EndpointMetrics, MetricsInput, RevisionMetrics,
};
use tidegate::admin::server::{AdminServer, Config};
use tidegate::admin::view::{DecisionsView, Views};
use tidegate::model::{EndpointId, Metric, Reason, RevisionId, ServiceId};
use tidegate::stats::{Clock, Pokes, RevisionStats};
use tokio::time::Instant;

use prometheus::{Prometheus, get};

fn input() -> MetricsInput {
    let revision = RevisionId::new("default", "hello-00001");
    let pokes = Arc::new(Pokes::default());
    let stats = RevisionStats::new(revision.clone(), Clock::start(), 1, pokes);
    for (millis, status) in [(4, Some(200)), (40, Some(503)), (400, None)] {
        let arrived = stats.clock().now();
        stats.arrive(0, arrived);
        stats.leave(0, arrived, arrived.plus(Duration::from_millis(millis)), status);
    }
    stats.waited(Duration::from_millis(30));
    stats.cold_started(Duration::from_millis(50));
    stats.refused(Reason::Asleep);
    let revision = RevisionMetrics {
        revision,
        service: Some(ServiceId::new("default", "hello")),
        configuration: "hello".into(),
        stats,
        desired: Some(2),
        requested: Some(2),
        ready: 1,
        starting: 1,
        stopping: 0,
        autoscaler: Some(AutoscalerMetrics {
            metric: Metric::Rps,
            stable: 1.0,
            panic: 0.0,
            target: 140.0,
            panic_mode: false,
            excess_burst_capacity: 1e9,
        }),
        endpoints: vec![EndpointMetrics { id: EndpointId::new("hello-00001-1"), in_flight: 0 }],
        cold_start_phases: vec![("spawn", Duration::from_millis(9))],
    };
    MetricsInput {
        instance: "here".into(),
        revisions: vec![revision],
        refused: vec![(Reason::NoRoute, 1)],
        connections: vec![ConnectionMetrics { listener: "http".into(), open: 1, accepted: 2 }],
        services: 1,
        ..MetricsInput::default()
    }
}

fn server() -> AdminServer {
    let input = input();
    let views = Views {
        decisions: Box::new(|_| Some(DecisionsView::default())),
        metrics: Box::new(move || input.clone()),
        ..Views::default()
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    AdminServer::start(Config::new(listener), views).unwrap()
}

/// What `promtool check metrics` says of a page; empty when it is content.
fn promtool(page: &str) -> (bool, String) {
    prometheus::promtool(Path::new("."), &["check", "metrics"], page)
}

#[test]
fn promtool_is_content_with_the_own_names() {
    let server = server();
    let page = get(server.address(), "/metrics").unwrap();
    assert!(page.lines().count() > 60, "{page}");
    let (content, said) = promtool(&page);
    assert!(content && said.is_empty(), "promtool: {said}\n{page}");
}

#[test]
fn promtool_can_read_the_classic_names() {
    let server = server();
    let page = get(server.address(), "/metrics/knative").unwrap();
    assert!(page.contains("activator_request_count{"), "{page}");
    let (_, said) = promtool(&page);
    // Lint would like milliseconds to be seconds; the names are what they are.
    assert!(!said.contains("error while linting"), "promtool: {said}\n{page}");
    assert!(!said.contains("no help text"), "promtool: {said}\n{page}");
}

/// Prometheus asks for OpenMetrics; the counts arrive.
#[tokio::test]
async fn prometheus_scrapes_both_pages() {
    let server = server();
    let admin = server.address();
    let job = |name: &str, path: &str| {
        format!(
            "- job_name: {name}\n  metrics_path: {path}\n  static_configs: \
             [{{targets: ['{admin}']}}]\n"
        )
    };
    let config = format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\nscrape_configs:\n{}{}",
        job("own", "/metrics"),
        job("classic", "/metrics/knative"),
    );
    let prometheus = Prometheus::start(&config);
    let deadline = Instant::now() + Duration::from_secs(30);
    let seen = loop {
        let requests = prometheus.query("sum(tidegate_requests_total)").unwrap_or_default();
        let classic = prometheus.query("sum(activator_request_count)").unwrap_or_default();
        if let ([_], [_]) = (&requests[..], &classic[..]) {
            break (requests, classic);
        }
        if Instant::now() > deadline {
            let log = prometheus.log();
            panic!("prometheus does not see the metrics: {requests:?} {classic:?}\n{log}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(seen.0[0]["value"][1], "3");
    assert_eq!(seen.1[0]["value"][1], "2", "without the one that had no response");
}
