//! The metrics pages, read by the real tools: Debian's package `prometheus` has both.
#![expect(clippy::unwrap_used, reason = "tests panic on purpose")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
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

const MISSING: &str = "this test needs promtool and prometheus: install Debian's package \
                       `prometheus`";

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

fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut client = TcpStream::connect(address)?;
    write!(client, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

/// What `promtool check metrics` says of a page; empty when it is content.
fn promtool(page: &str) -> (bool, String) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect(MISSING);
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
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

struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Prometheus asks for OpenMetrics; the counts arrive.
#[tokio::test]
async fn prometheus_scrapes_both_pages() {
    let server = server();
    let folder = tempfile::tempdir().unwrap();
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
    fs::write(folder.path().join("prometheus.yml"), config).unwrap();
    // A free port that prometheus is told: it cannot say which one it took.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let log = fs::File::create(folder.path().join("log")).unwrap();
    let _prometheus = Prometheus(
        Command::new("prometheus")
            .arg("--config.file=prometheus.yml")
            .arg(format!("--web.listen-address={port}"))
            .arg("--storage.tsdb.path=data")
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect(MISSING),
    );
    let query = |query: &str| -> Option<serde_json::Value> {
        let answer = get(port, &format!("/api/v1/query?query={query}")).ok()?;
        // The answer may be chunked: the JSON is what stands between the outermost braces.
        let json = &answer[answer.find('{')?..=answer.rfind('}')?];
        let json: serde_json::Value = serde_json::from_str(json).ok()?;
        Some(json["data"]["result"].clone())
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    let seen = loop {
        let requests = query("sum(tidegate_requests_total)").unwrap_or_default();
        let classic = query("sum(activator_request_count)").unwrap_or_default();
        if let (Some([_]), Some([_])) =
            (requests.as_array().map(Vec::as_slice), classic.as_array().map(Vec::as_slice))
        {
            break (requests, classic);
        }
        if Instant::now() > deadline {
            let log = fs::read_to_string(folder.path().join("log")).unwrap();
            panic!("prometheus does not see the metrics: {requests} {classic}\n{log}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(seen.0[0]["value"][1], "3");
    assert_eq!(seen.1[0]["value"][1], "2", "without the one that had no response");
}
