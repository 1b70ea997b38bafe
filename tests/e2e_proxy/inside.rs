//! Hosts that only callers inside see.

use std::net::SocketAddr;

use crate::client::{empty, full, get, h2, post, raw, request2, send2};
use crate::serving::{Service, Tidegate, file};

const VISIBILITY: &str = "networking.knative.dev/visibility";

/// A service for all, one for callers inside, and a further host of that one.
fn services() -> String {
    let mapping = "---\napiVersion: serving.knative.dev/v1beta1\nkind: DomainMapping\n\
                   metadata: {name: shop.example.com}\nspec: {ref: {name: private, kind: Service, \
                   apiVersion: serving.knative.dev/v1}}\n";
    let tagged = "[{revisionName: public-00001, percent: 100, tag: blue}]";
    let public = Service::new("public").env("TARGET", "all").traffic(tagged);
    let private =
        Service::new("private").env("TARGET", "inside").label(VISIBILITY, "cluster-local");
    file(&[public, private]) + mapping
}

fn with(arguments: &[&str]) -> Tidegate {
    Tidegate::with(&services(), &[&["--health-path", "/healthz"][..], arguments].concat())
}

const INSIDE: [(&str, &str); 9] = [
    ("public.default", "Hello all!\n"),
    ("public.default.svc", "Hello all!\n"),
    ("public.default.svc.cluster.local", "Hello all!\n"),
    ("Public.Default.SVC.Cluster.Local.:80", "Hello all!\n"),
    ("blue-public.default", "Hello all!\n"),
    ("blue-public.default.svc.cluster.local", "Hello all!\n"),
    ("private.default", "Hello inside!\n"),
    ("private.default.svc", "Hello inside!\n"),
    ("private.default.svc.cluster.local", "Hello inside!\n"),
];
const OUTSIDE: [(&str, &str); 3] = [
    ("public.default.localhost", "Hello all!\n"),
    ("blue-public.default.localhost", "Hello all!\n"),
    ("shop.example.com", "Hello inside!\n"),
];

/// What a host leads to, by each way that a request can take through the proxy: the direct path,
/// hyper's HTTP/1 and HTTP/2. No status but 200 and 404.
async fn leads_to(at: SocketAddr, host: &str) -> Option<String> {
    let direct = get(at, host, "/").await;
    // A long body is hyper's.
    let long = post(at, host, "/echo", vec![b'x'; 100_000]).await;
    let mut connection = h2(at).await;
    let http2 = request2("GET", host, "/").body(empty()).unwrap();
    let http2 = send2(&mut connection, http2).await;
    let grpc = request2("POST", host, "/x.Y/Z").header("content-type", "application/grpc");
    let grpc = send2(&mut connection, grpc.body(full("")).unwrap()).await;
    let found = direct.status == 200;
    for answer in [&direct, &long, &http2] {
        assert_eq!(answer.status, if found { 200 } else { 404 }, "{host} {}", answer.text());
        assert_eq!(answer.reason(), (!found).then_some("no_route"), "{host}");
    }
    assert_eq!(grpc.reason() == Some("no_route"), !found, "{host}");
    assert_eq!(direct.text(), http2.text());
    if !found {
        let text = direct.text();
        assert!(text.contains("public.default.localhost"), "{text}");
        assert!(!text.contains("  private"), "names what is not seen: {text}");
    }
    found.then(|| direct.text().to_owned())
}

#[tokio::test]
async fn hosts_of_the_cluster_are_unknown_outside() {
    let tidegate = with(&["--http-internal", "127.0.0.1:0"]);
    let (outside, inside) = (tidegate.address(), tidegate.inside[0]);
    for (host, text) in OUTSIDE {
        assert_eq!(leads_to(outside, host).await.as_deref(), Some(text), "{host}");
        assert_eq!(leads_to(inside, host).await.as_deref(), Some(text), "{host}");
    }
    for (host, text) in INSIDE {
        assert_eq!(leads_to(outside, host).await, None, "{host}");
        assert_eq!(leads_to(inside, host).await.as_deref(), Some(text), "{host}");
    }
    assert_eq!(get(inside, "private.default.localhost", "/").await.status, 404);
    // On one connection each host is judged by itself.
    let two = "GET / HTTP/1.1\r\nHost: public.default.localhost\r\n\r\n\
               GET / HTTP/1.1\r\nHost: public.default\r\nConnection: close\r\n\r\n";
    let answers = raw(outside, two).await.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 1, "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 404 ").count(), 1, "{answers}");
    // The health path is ours where no service could be meant.
    assert_eq!(get(outside, "public.default", "/healthz").await.text(), "ready\n");
    assert_ne!(get(inside, "public.default", "/healthz").await.text(), "ready\n");
    tidegate.logged("curl http://public.default.localhost").await;
    let shown = format!("curl http://private.default.svc.cluster.local:{}/", inside.port());
    tidegate.logged(&shown).await;
}

#[tokio::test]
async fn without_such_a_listener_all_hosts_are_everywhere() {
    let tidegate = with(&[]);
    for (host, text) in INSIDE.into_iter().chain(OUTSIDE) {
        assert_eq!(leads_to(tidegate.address(), host).await.as_deref(), Some(text), "{host}");
    }
}

/// The service for addresses is not seen from outside either.
#[tokio::test]
async fn the_default_service_may_be_for_callers_inside_alone() {
    let arguments = ["--http-internal", "127.0.0.1:0", "--default-service"];
    for (name, status) in [("private", 404), ("public", 200)] {
        let tidegate = with(&[&arguments[..], &[name]].concat());
        assert_eq!(get(tidegate.address(), "127.0.0.1", "/").await.status, status, "{name}");
        assert_eq!(get(tidegate.inside[0], "127.0.0.1", "/").await.status, 200, "{name}");
    }
}
