use std::io::{Read as _, Write as _};
use std::net::TcpStream as Client;

use super::super::view::{
    DecisionView, DecisionsView, Readiness, RevisionView, RevisionsView, ServiceView, ServicesView,
};
use super::*;
use crate::admin::metrics::{ConnectionMetrics, MetricsInput};

fn server() -> AdminServer {
    let views = Views {
        readiness: Box::new(|| Readiness { ready: false, state: "draining: 3 left".into() }),
        services: Box::new(|| ServicesView {
            services: vec![ServiceView { name: "hello".into(), ..ServiceView::default() }],
            rejected: vec!["bad.yaml:3: no".into()],
            ..ServicesView::default()
        }),
        revisions: Box::new(|| RevisionsView { revisions: vec![RevisionView::default(); 2] }),
        revision: Box::new(|id| {
            (&*id.name == "hello-00001")
                .then(|| RevisionView { name: id.name.to_string(), ..RevisionView::default() })
        }),
        decisions: Box::new(|id| {
            (&*id.namespace == "shop").then(|| DecisionsView {
                decisions: vec![DecisionView { desired: 7, ..DecisionView::default() }],
            })
        }),
        metrics: Box::new(|| MetricsInput {
            connections: vec![ConnectionMetrics { listener: "http".into(), open: 3, accepted: 4 }],
            ..MetricsInput::default()
        }),
        ..Views::default()
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    AdminServer::start(Config::new(listener), views).unwrap()
}

/// Sends a request that ends its connection; returns the head and the body of the answer.
fn ask(server: &AdminServer, request: &str) -> (String, String) {
    let mut client = Client::connect(server.address()).unwrap();
    let request = format!("{request}Connection: close\r\n\r\n").replace('\n', "\r\n");
    client.write_all(request.replace("\r\r", "\r").as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn get(server: &AdminServer, path: &str) -> (String, String) {
    ask(server, &format!("GET {path} HTTP/1.1\nHost: localhost\n"))
}

fn json(server: &AdminServer, path: &str) -> serde_json::Value {
    let (head, body) = get(server, path);
    assert!(head.contains("\r\ncontent-type: application/json\r\n"), "{head}");
    serde_json::from_str(&body).unwrap()
}

#[test]
fn health() {
    let server = server();
    assert!(get(&server, "/livez").0.starts_with("HTTP/1.1 200 "));
    let (head, body) = get(&server, "/readyz");
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert_eq!(body, "draining: 3 left\n");
}

#[test]
fn views_are_shown_as_json() {
    let server = server();
    let services = json(&server, "/api/v1/services");
    assert_eq!(services["services"][0]["name"], "hello");
    assert_eq!(services["rejected"][0], "bad.yaml:3: no");
    assert_eq!(json(&server, "/api/v1/revisions")["revisions"].as_array().unwrap().len(), 2);
    assert_eq!(json(&server, "/api/v1/revisions/shop/hello-00001")["name"], "hello-00001");
    let decisions = json(&server, "/api/v1/revisions/shop/any/decisions");
    assert_eq!(decisions["decisions"][0]["desired"], 7);
    assert_eq!(json(&server, "/api/v1/revisions/shop/other")["status"], 404);
    assert_eq!(json(&server, "/api/v1/revisions/default/any/decisions")["status"], 404);
}

#[test]
fn metrics_are_negotiated() {
    let server = server();
    let (head, body) = get(&server, "/metrics");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("\ntidegate_connections_accepted_total{listener=\"http\"} 4\n"));
    let accept = "Accept: application/openmetrics-text; version=1.0.0\n";
    let request = format!("GET /metrics HTTP/1.1\nHost: localhost\n{accept}");
    let (head, body) = ask(&server, &request);
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(body.ends_with("# EOF\n"));
    assert!(get(&server, "/metrics/knative").0.starts_with("HTTP/1.1 200 "));
}

#[test]
fn errors_are_json_and_say_what_to_do() {
    let server = server();
    let error = |request: &str| {
        let (head, body) = ask(&server, request);
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert!(body["message"].as_str().is_some_and(|text| text.len() > 10), "{body}");
        assert!(head.starts_with(&format!("HTTP/1.1 {} ", body["status"])), "{head}");
        (body["status"].as_u64().unwrap(), head)
    };
    assert_eq!(error("GET /nothing HTTP/1.1\nHost: localhost\n").0, 404);
    assert_eq!(error("GET /metrics/other HTTP/1.1\nHost: localhost\n").0, 404);
    assert_eq!(error("GET /metrics HTTP/1.1\nHost: evil.example\n").0, 403);
    let origin = "GET /metrics HTTP/1.1\nHost: localhost\nOrigin: http://evil.example\n";
    assert_eq!(error(origin).0, 403);
    let post = "POST /api/v1/services HTTP/1.1\nHost: localhost\n";
    assert_eq!(error(post).0, 415);
    let (status, head) =
        error(&format!("{post}Content-Type: application/json\nContent-Length: 0\n"));
    assert_eq!(status, 405);
    assert!(head.contains("\r\nallow: GET, HEAD\r\n"), "{head}");
}

#[test]
fn head_has_no_body() {
    let server = server();
    let (head, body) = ask(&server, "HEAD /livez HTTP/1.1\nHost: [::1]:1\n");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("content-length: 3"), "{head}");
    assert_eq!(body, "");
}

#[test]
fn a_dropped_server_stops_listening_and_closes_idle_connections() {
    let server = server();
    let address = server.address();
    let mut idle = Client::connect(address).unwrap();
    drop(server);
    assert_eq!(idle.read(&mut [0]).unwrap_or(0), 0);
    assert!(Client::connect(address).is_err());
}

#[test]
fn too_many_requests_at_once_are_refused_not_queued() {
    let server = server();
    let held: Vec<_> = (0..REQUESTS)
        .map(|_| {
            let mut client = Client::connect(server.address()).unwrap();
            let head = "POST /api/v1/services HTTP/1.1\r\nHost: localhost\r\n\
                        Content-Type: application/json\r\nContent-Length: 2\r\n\r\n";
            client.write_all(head.as_bytes()).unwrap();
            client
        })
        .collect();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    // The server takes a moment to have read all those heads.
    while !get(&server, "/livez").0.starts_with("HTTP/1.1 503 ") {
        assert!(tokio::time::Instant::now() < deadline, "never refused");
    }
    for mut client in held {
        client.write_all(b"{}").unwrap();
        let mut status = [0; 12];
        client.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 405");
    }
    assert!(get(&server, "/livez").0.starts_with("HTTP/1.1 200 "), "served again");
}

#[test]
fn an_api_for_the_machine_itself() {
    for (peer, path, expected) in [
        ("127.0.0.1", "/api/v1/services", true),
        ("::1", "/api/v1/services", true),
        ("::ffff:127.0.0.1", "/api/v1/services", true),
        ("10.0.0.7", "/api/v1/services", false),
        ("fd00::7", "/api/v1/revisions/a/b", false),
        ("10.0.0.7", "/metrics", true),
        ("10.0.0.7", "/livez", true),
    ] {
        assert_eq!(is_for(peer.parse().unwrap(), path), expected, "{peer} {path}");
    }
}
