//! Services whose plain requests are sent to https.

use crate::client::{Answer, call, empty, full, get, h1, h2, raw, request, request2, send1, send2};
use crate::https::Authority;
use crate::serving::{Tidegate, host};

const MANIFESTS: &str = r#"
apiVersion: serving.knative.dev/v1
kind: Service
metadata:
  name: only
  annotations: {networking.knative.dev/http-protocol: Redirected}
spec:
  template:
    spec:
      containers: [{image: app, command: [tidegate, echo]}]
  traffic: [{latestRevision: true, percent: 100, tag: next}]
---
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: both}
spec:
  template:
    spec:
      containers: [{image: app, command: [tidegate, echo]}]
---
apiVersion: serving.knative.dev/v1beta1
kind: DomainMapping
metadata: {name: mapped.test, annotations: {networking.knative.dev/http-protocol: redirected}}
spec: {ref: {kind: Service, name: both, apiVersion: serving.knative.dev/v1}}
"#;

fn serving(authority: &Authority, manifests: &str, arguments: &[&str]) -> Tidegate {
    let pair = authority.issue("a", &["*.default.localhost"]);
    let given = [&["--https", "127.0.0.1:0"][..], &pair.arguments(), arguments].concat();
    Tidegate::with(manifests, &given)
}

fn went(answer: &Answer) -> (u16, Option<&str>) {
    (answer.status, answer.header("location"))
}

#[tokio::test]
async fn path_query_and_port_are_kept_and_posts_stay_posts() {
    let authority = Authority::new();
    let tidegate = serving(&authority, MANIFESTS, &[]);
    let (at, port) = (tidegate.address(), tidegate.https[0].port());
    let url = format!("https://{}:{port}/a%20b/?x=1&y=//", host("only"));
    let answer = get(at, &format!("{}:80", host("ONLY")), "/a%20b/?x=1&y=//").await;
    assert_eq!(went(&answer), (301, Some(url.as_str())));
    assert_eq!(answer.reason(), Some("https_redirect"));
    assert_eq!(answer.text(), format!("https_redirect: this host is at {url}\n"));
    // On one connection: a body that nobody wants does not stand in the way.
    let mut connection = h1(at).await;
    for _ in 0..2 {
        let post = request("POST", &host("only"), "/a%20b/?x=1&y=//").body(full("body")).unwrap();
        assert_eq!(went(&send1(&mut connection, post).await), (308, Some(url.as_str())));
    }
    let asked = request2("GET", &host("only"), "/a%20b/?x=1&y=//").body(empty()).unwrap();
    let answer = send2(&mut h2(at).await, asked).await;
    assert_eq!(went(&answer), (301, Some(url.as_str())));
    let answer = send2(&mut h2(at).await, call(&host("only"), "/s/M").body(empty()).unwrap()).await;
    assert_eq!((answer.status, answer.grpc_status()), (200, Some("9")));
    // Followed, it is served.
    let seen = authority.client(&["http/1.1"]).h1(tidegate.https[0], &host("only")).await;
    let mut seen = seen;
    let answer = send1(&mut seen, request("GET", &host("only"), "/").body(empty()).unwrap()).await;
    assert_eq!(went(&answer), (200, None));
}

#[tokio::test]
async fn which_hosts_are_redirected() {
    let authority = Authority::new();
    let tidegate = serving(&authority, MANIFESTS, &["--default-service", "only"]);
    let at = tidegate.address();
    let status = async |host: &str| get(at, host, "/").await.status;
    for (host, expected) in [
        ("next-only.default.localhost", 301),
        ("localhost:1234", 301),
        ("127.0.0.1", 301),
        ("[::1]", 301),
        ("mapped.test", 301),
        ("only.default", 200),
        ("only.default.svc", 200),
        ("only.default.svc.cluster.local", 200),
        ("both.default.localhost", 200),
        ("nobody.default.localhost", 404),
    ] {
        assert_eq!(status(host).await, expected, "{host}");
    }
    let url = format!("https://[::1]:{}/", tidegate.https[0].port());
    assert_eq!(get(at, "[::1]:80", "/").await.header("location"), Some(url.as_str()));
    let answer = raw(at, "GET / HTTP/1.0\r\n\r\n").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") || answer.starts_with("HTTP/1.0 200 "), "{answer}");
    assert_eq!(get(at, &host("only"), "/.tidegate/ready").await.status, 200, "health is answered");
    assert!(!tidegate.log().contains("https_redirect"), "{}", tidegate.log());
}

#[tokio::test]
async fn the_clusters_default_and_a_services_own_word() {
    let authority = Authority::new();
    let manifests = MANIFESTS.replace("http-protocol: Redirected", "httpOption: enabled")
        + "---\napiVersion: v1\nkind: ConfigMap\n\
           metadata: {name: config-network, namespace: knative-serving}\n\
           data: {http-protocol: Redirected}\n";
    let tidegate = serving(&authority, &manifests, &["--https-port", "443"]);
    let at = tidegate.address();
    assert_eq!(get(at, &host("only"), "/").await.status, 200);
    let answer = get(at, &host("both"), "/x").await;
    let url = format!("https://{}/x", host("both"));
    assert_eq!(went(&answer), (301, Some(url.as_str())), "the port that clients see");
    // Reloaded, it is as everything else is.
    tidegate.write(&manifests.replace("httpOption: enabled", "httpOption: Sometimes"));
    tidegate.logged("write Enabled or Redirected").await;
}

#[tokio::test]
async fn what_a_trusted_proxy_took_by_https_is_not_redirected() {
    let authority = Authority::new();
    for (trusted, expected) in [(&["--trusted-proxies", "127.0.0.0/8"][..], 200), (&[], 301)] {
        let tidegate = serving(&authority, MANIFESTS, trusted);
        let asked = request("GET", &host("only"), "/")
            .header("x-forwarded-proto", "https, http")
            .body(empty())
            .unwrap();
        assert_eq!(send1(&mut h1(tidegate.address()).await, asked).await.status, expected);
        assert_eq!(get(tidegate.address(), &host("only"), "/").await.status, 301);
    }
}

#[tokio::test]
async fn without_https_it_is_served_and_said() {
    let tidegate = Tidegate::serve(MANIFESTS);
    assert_eq!(get(tidegate.address(), &host("only"), "/").await.status, 200);
    tidegate.logged("http-protocol is Redirected, but there is no https").await;
}
