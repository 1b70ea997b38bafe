//! Spans on their way: what a collector refuses, one that is away, and the end of the program.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::client::get;
use crate::collector::{Collector, Protocol, config, nobody, refusal};
use crate::https::Authority;
use crate::serving::{Service, Tidegate, host, tidegate};

/// A metric's value; none where there is no such series.
async fn metric(tidegate: &Tidegate, name: &str) -> Option<u64> {
    let page = get(tidegate.admin, "localhost", "/metrics").await;
    let page = String::from_utf8(page.body.to_vec()).unwrap();
    page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// Waits until a metric is above a number.
async fn above(tidegate: &Tidegate, name: &str, number: u64) {
    let deadline = tokio::time::Instant::now() + crate::serving::SOON;
    while metric(tidegate, name).await.is_none_or(|value| value <= number) {
        assert!(tokio::time::Instant::now() < deadline, "{name} stays");
    }
}

const EXPORTED: &str = "tidegate_trace_spans_exported_total";
const DROPPED: &str = "tidegate_trace_spans_dropped_total";

#[tokio::test]
async fn what_may_be_tried_again_is_and_what_may_not_is_dropped() {
    let unavailable = || refusal(200, &[("grpc-status", "14")]);
    for (protocol, later, never) in [
        (Protocol::Grpc, unavailable(), refusal(200, &[("grpc-status", "3")])),
        (Protocol::Http, refusal(503, &[("retry-after", "0")]), refusal(400, &[])),
    ] {
        let collector = Collector::refusing(protocol, vec![later, never]).await;
        let service = Service::new("a").yaml();
        let tidegate = Tidegate::serve(&(service + &collector.config("1")));
        // The first attempt is put off, the second one refused for good.
        assert_eq!(get(tidegate.address(), &host("a"), "/headers").await.status, 200);
        above(&tidegate, DROPPED, 0).await;
        let paths = |number: usize| {
            let exports = collector.exports();
            let spans = exports[number].spans();
            spans.map(|span| span.span_id.clone()).collect::<Vec<_>>()
        };
        assert_eq!(paths(0), paths(1), "{protocol:?}: the same again");
        assert_eq!(metric(&tidegate, EXPORTED).await, Some(0));
        assert_eq!(get(tidegate.address(), &host("a"), "/whoami").await.status, 200);
        collector.trace("/whoami").await;
        above(&tidegate, EXPORTED, 0).await;
        assert!(collector.find("/headers").is_none());
        let log = tidegate.log();
        assert_eq!(log.matches("traces do not reach the collector").count(), 1, "{log}");
        tidegate.logged("traces reach the collector again").await;
    }
}

#[tokio::test]
async fn a_collector_that_is_away_costs_no_request_and_is_found_again() {
    let (socket, nobody) = nobody();
    let away = config("http/protobuf", Some(&format!("http://{nobody}")), "1");
    let tidegate = Tidegate::serve(&(Service::new("a").yaml() + &away));
    assert_eq!(get(tidegate.address(), &host("a"), "/whoami").await.status, 200);
    tidegate.logged("traces do not reach the collector").await;
    for _ in 0..20 {
        assert_eq!(get(tidegate.address(), &host("a"), "/headers").await.status, 200);
    }
    let listener = socket.listen(64).unwrap();
    let collector = Collector::listening(listener, Protocol::Http, Vec::new(), None);
    for path in ["/whoami", "/headers"] {
        collector.trace(path).await;
    }
    let log = tidegate.log();
    assert_eq!(log.matches("traces do not reach the collector").count(), 1, "{log}");
    assert_eq!(metric(&tidegate, DROPPED).await, Some(0));
}

#[tokio::test]
async fn the_last_spans_are_sent_before_the_end() {
    for protocol in Protocol::ALL {
        let collector = Collector::start(protocol).await;
        let mut tidegate = Tidegate::serve(&(Service::new("a").yaml() + &collector.config("1")));
        assert_eq!(get(tidegate.address(), &host("a"), "/whoami").await.status, 200);
        tidegate.terminate();
        assert!(tidegate.ended().await.success());
        assert!(collector.find("/whoami").is_some(), "{protocol:?}");
    }
}

#[tokio::test]
async fn a_collector_that_is_away_does_not_hold_the_end_up() {
    let (_kept, nobody) = nobody();
    let away = config("grpc", Some(&format!("http://{nobody}")), "1");
    let mut tidegate = Tidegate::serve(&(Service::new("a").yaml() + &away));
    assert_eq!(get(tidegate.address(), &host("a"), "/").await.status, 200);
    tidegate.terminate();
    assert!(tidegate.ended().await.success());
}

#[tokio::test]
async fn an_answer_in_trailers_only_is_understood() {
    // gRPC's short form: the status is among the headers, and there is no message.
    let collector =
        Collector::refusing(Protocol::Grpc, vec![refusal(200, &[("grpc-status", "0")])]);
    let collector = collector.await;
    let tidegate = Tidegate::serve(&(Service::new("a").yaml() + &collector.config("1")));
    assert_eq!(get(tidegate.address(), &host("a"), "/").await.status, 200);
    above(&tidegate, EXPORTED, 0).await;
    let headers: &HeaderMap = &collector.exports()[0].headers;
    assert_eq!(headers["te"], HeaderValue::from_static("trailers"));
    assert_eq!(headers["content-type"], "application/grpc");
    let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    assert_eq!(collector.exports()[0].path, path);
}

#[tokio::test]
async fn a_collector_by_tls_is_trusted_as_the_machine_trusts() {
    let authority = Authority::new();
    let pair = authority.issue("collector", &["localhost"]);
    for protocol in Protocol::ALL {
        let certificates = CertificateDer::pem_file_iter(&pair.cert).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                certificates.map(Result::unwrap).collect(),
                PrivateKeyDer::from_pem_file(&pair.key).unwrap(),
            )
            .unwrap();
        let alpn: &[u8] = if protocol == Protocol::Grpc { b"h2" } else { b"http/1.1" };
        config.alpn_protocols = vec![alpn.to_vec()];
        let listener = TcpListener::bind("localhost:0").await.unwrap();
        let tls = TlsAcceptor::from(Arc::new(config));
        let collector = Collector::listening(listener, protocol, Vec::new(), Some(tls));
        let endpoint = format!("https://localhost:{}", collector.address.port());
        let folder = tempfile::tempdir().unwrap();
        let manifest = folder.path().join("a.yaml");
        let traced = crate::collector::config(protocol.word(), Some(&endpoint), "1");
        std::fs::write(&manifest, Service::new("a").yaml() + &traced).unwrap();
        let mut command = tidegate();
        command
            .args(["serve", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--state-dir", "none", "-f"])
            .arg(&manifest)
            .env("SSL_CERT_FILE", authority.ca());
        let trusting = Tidegate::spawned(command);
        assert_eq!(get(trusting.address(), &host("a"), "/whoami").await.status, 200);
        collector.trace("/whoami").await;
        drop(trusting);
        // Whom the machine does not know gets nothing.
        let before = collector.exports().len();
        let doubting = Tidegate::files(&[&manifest], &[]);
        assert_eq!(get(doubting.address(), &host("a"), "/whoami").await.status, 200);
        doubting.logged("traces do not reach the collector").await;
        assert_eq!(collector.exports().len(), before);
    }
}
