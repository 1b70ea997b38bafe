//! What the backend is told.

use std::collections::BTreeMap;

use crate::client::{Answer, empty, get, h1, request, send1};
use crate::{Echo, ready};

/// The headers that the backend says it got.
fn seen(answer: &Answer) -> BTreeMap<String, String> {
    let pairs = answer.json()["headers"].take();
    let pairs: Vec<(String, String)> = serde_json::from_value(pairs).unwrap();
    let count = pairs.len();
    let headers: BTreeMap<_, _> = pairs.into_iter().collect();
    assert_eq!(headers.len(), count, "none comes twice: {headers:?}");
    headers
}

#[tokio::test]
async fn any_host_leads_to_the_backend() {
    let echo = Echo::start();
    let sidecar = ready(echo.address, &[]).await;
    for host in ["a.example", "localhost", "10.0.0.7:8012", "[::1]:8012"] {
        let headers = seen(&get(sidecar.address(), host, "/headers").await);
        assert_eq!(headers["host"], host, "{headers:?}");
    }
}

/// `K-Original-Host` is the Host again, the names of the revision are gone, what the activator
/// says stays, and `Forwarded` tells what `X-Forwarded-*` tell.
#[tokio::test]
async fn the_peer_is_believed_as_queue_proxy_does() {
    let echo = Echo::start();
    let sidecar = ready(echo.address, &[]).await;
    let request = request("GET", "10.0.0.7:8012", "/headers")
        .header("k-original-host", "hello.default.example.com")
        .header("k-proxy-request", "activator")
        .header("knative-serving-revision", "hello-00001")
        .header("knative-serving-namespace", "default")
        .header("knative-serving-tag", "blue")
        .header("x-forwarded-for", "1.1.1.1")
        .header("x-forwarded-proto", "https")
        .body(empty())
        .unwrap();
    let headers = seen(&send1(&mut h1(sidecar.address()).await, request).await);
    for (name, expected) in [
        ("host", "hello.default.example.com"),
        ("k-proxy-request", "activator"),
        ("knative-serving-tag", "blue"),
        ("x-forwarded-for", "1.1.1.1, 127.0.0.1"),
        ("x-forwarded-proto", "https"),
    ] {
        assert_eq!(headers[name], expected, "{name}: {headers:?}");
    }
    for name in ["knative-serving-revision", "knative-serving-namespace"] {
        assert!(!headers.contains_key(name), "{name}: {headers:?}");
    }
    let forwarded = &headers["forwarded"];
    assert!(forwarded.starts_with("for=1.1.1.1;proto=https, for=127.0.0.1;"), "{forwarded}");
}
