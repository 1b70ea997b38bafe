//! Hosts that only callers inside see: who comes by TLS comes from outside.

use crate::client::{empty, get, request, request2, send1, send2};
use crate::https::Authority;
use crate::serving::{Service, Tidegate, file};

#[tokio::test]
async fn hosts_of_the_cluster_are_unknown_over_tls() {
    let authority = Authority::new();
    let names = ["*.default.localhost", "a.default.svc.cluster.local"];
    let pair = authority.issue("services", &names);
    let listeners = ["--https", "127.0.0.1:0", "--http-internal", "127.0.0.1:0"];
    let arguments = [&listeners[..], &pair.arguments()].concat();
    let tidegate = Tidegate::with(&file(&[Service::new("a")]), &arguments);
    let at = tidegate.https[0];
    for (host, status) in [("a.default.localhost", 200), ("a.default.svc.cluster.local", 404)] {
        let mut h1 = authority.client(&["http/1.1"]).h1(at, host).await;
        let direct = send1(&mut h1, request("GET", host, "/").body(empty()).unwrap()).await;
        let mut h2 = authority.client(&["h2"]).h2(at, host).await;
        let http2 = send2(&mut h2, request2("GET", host, "/").body(empty()).unwrap()).await;
        assert_eq!((direct.status, http2.status), (status, status), "{host}");
        assert_eq!(get(tidegate.inside[0], host, "/").await.status, 200, "{host}");
    }
}

/// Callers inside come without a load balancer, so nobody sends a PROXY header for them.
#[tokio::test]
async fn callers_inside_send_no_proxy_header() {
    let arguments = ["--http-internal", "127.0.0.1:0", "--proxy-protocol"];
    let tidegate = Tidegate::with(&file(&[Service::new("a")]), &arguments);
    assert_eq!(get(tidegate.inside[0], "a.default", "/").await.status, 200);
}
