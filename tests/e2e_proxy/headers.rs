//! What a replica and a client get to see of each other's headers.

use crate::backend::Backend;
use crate::client::{Answer, empty, get, h1, h2, raw, request, request2, send1, send2};
use crate::serving::{Service, Tidegate, file, host};

/// The values of a header as the replica saw it.
fn seen(answer: &Answer, name: &str) -> Vec<String> {
    let json = answer.json();
    let headers = json["headers"].as_array().unwrap();
    let values = headers.iter().filter(|h| h[0] == name).map(|h| h[1].as_str().unwrap().to_owned());
    values.collect()
}

#[tokio::test]
async fn who_forwards_is_replaced_or_appended() {
    let manifests = file(&[Service::new("a")]);
    let given = || {
        request("GET", "a.default.localhost:80", "/headers")
            .header("x-forwarded-for", "1.1.1.1")
            .header("x-forwarded-proto", "https")
            .header("x-forwarded-host", "elsewhere")
            .header("forwarded", "for=1.1.1.1")
            .body(empty())
            .unwrap()
    };
    let tidegate = Tidegate::serve(&manifests);
    let answer = send1(&mut h1(tidegate.address()).await, given()).await;
    let element = "for=127.0.0.1;host=\"a.default.localhost:80\";proto=http";
    assert_eq!(seen(&answer, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen(&answer, "x-forwarded-proto"), ["http"]);
    assert_eq!(seen(&answer, "x-forwarded-host"), ["a.default.localhost:80"]);
    assert_eq!(seen(&answer, "forwarded"), [element]);
    assert_eq!(seen(&answer, "host"), ["a.default.localhost:80"]);

    let tidegate = Tidegate::with(&manifests, &["--trusted-proxies", "10.0.0.0/8,127.0.0.0/8"]);
    let answer = send1(&mut h1(tidegate.address()).await, given()).await;
    assert_eq!(seen(&answer, "x-forwarded-for"), ["1.1.1.1, 127.0.0.1"]);
    assert_eq!(seen(&answer, "x-forwarded-proto"), ["https"]);
    assert_eq!(seen(&answer, "x-forwarded-host"), ["elsewhere"]);
    assert_eq!(seen(&answer, "forwarded"), [format!("for=1.1.1.1, {element}")]);
}

#[tokio::test]
async fn hop_by_hop_and_reserved_names_do_not_pass() {
    let tidegate = Tidegate::serve(&file(&[Service::new("a"), Service::new("c").h2c()]));
    let at = tidegate.address();
    let given = |name: &str| {
        request("GET", &host(name), "/headers")
            .header("connection", "keep-alive, x-hop")
            .header("x-hop", "1")
            .header("keep-alive", "timeout=1")
            .header("proxy-connection", "keep-alive")
            .header("te", "gzip, trailers")
            .header("upgrade", "h2c")
            .header("http2-settings", "AAMAAABk")
            .header("k-proxy-request", "activator")
            .header("k-network-probe", "queue")
            .header("knative-serving-revision", "x")
            .header("knative-serving-namespace", "x")
            .header("knative-serving-tag", "nosuch")
            .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
            .header("x-request-id", "mine")
            .header("x-kept", "yes")
            .body(empty())
            .unwrap()
    };
    for name in ["a", "c"] {
        let answer = send1(&mut h1(at).await, given(name)).await;
        assert_eq!(answer.status, 200);
        for gone in [
            "connection",
            "x-hop",
            "keep-alive",
            "proxy-connection",
            "upgrade",
            "http2-settings",
            "k-proxy-request",
            "k-network-probe",
            "knative-serving-revision",
            "knative-serving-namespace",
            "transfer-encoding",
        ] {
            assert_eq!(seen(&answer, gone), [""; 0], "{gone} to {name}");
        }
        assert_eq!(seen(&answer, "te"), ["trailers"]);
        assert_eq!(seen(&answer, "knative-serving-tag"), ["nosuch"]);
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(seen(&answer, "traceparent"), [parent]);
        assert_eq!(seen(&answer, "x-request-id"), ["mine"]);
        assert_eq!(seen(&answer, "x-kept"), ["yes"]);
    }
    // An id is made where there was none or no usable one, another for each request.
    let made = [get(at, &host("a"), "/headers").await, get(at, &host("a"), "/headers").await];
    let ids: Vec<_> = made.iter().map(|answer| seen(answer, "x-request-id")).collect();
    assert!(ids[0][0].len() >= 16 && ids[0] != ids[1], "{ids:?}");
}

#[tokio::test]
async fn responses_lose_what_was_between_replica_and_proxy() {
    let replica = Backend::saying(
        "HTTP/1.1 200 OK\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\n\
         X-Kept: yes\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let tidegate = Tidegate::serve(&file(&[Service::new("a").at(replica.address)]));
    let answer = get(tidegate.address(), &host("a"), "/").await;
    assert_eq!(answer.text(), "ok");
    for gone in ["connection", "x-hop", "keep-alive"] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
    assert_eq!(answer.header("x-kept"), Some("yes"));
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
}

#[tokio::test]
async fn contradictory_framing_of_a_replica_has_one_meaning() {
    let replica = Backend::saying(
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n\
         8\r\nall of i\r\n1\r\nt\r\n0\r\n\r\n",
    )
    .await;
    let tidegate = Tidegate::serve(&file(&[Service::new("a").at(replica.address)]));
    let answer = get(tidegate.address(), &host("a"), "/").await;
    assert_eq!((answer.status, answer.text()), (200, "all of it"));
    assert_eq!(answer.header("content-length"), None);
}

#[tokio::test]
async fn http2_requests_reach_an_http1_replica_in_its_form() {
    let tidegate = Tidegate::serve(&file(&[Service::new("a"), Service::new("c").h2c()]));
    let mut connection = h2(tidegate.address()).await;
    for (name, version) in [("a", "HTTP/1.1"), ("c", "HTTP/2.0")] {
        let request = request2("GET", &host(name), "/headers?x=1")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(empty())
            .unwrap();
        let answer = send2(&mut connection, request).await;
        let json = answer.json();
        assert_eq!(json["version"], version);
        if name == "a" {
            assert_eq!(json["uri"], "/headers?x=1");
            assert_eq!(seen(&answer, "host"), [host("a")]);
            assert_eq!(seen(&answer, "cookie"), ["a=1; b=2"]);
        } else {
            assert_eq!(json["uri"], "http://c.default.localhost/headers?x=1");
            assert_eq!(seen(&answer, "cookie").join("; "), "a=1; b=2");
        }
    }
}

#[tokio::test]
async fn absolute_form_becomes_a_path() {
    let tidegate = Tidegate::serve(&file(&[Service::new("a")]));
    let sent = "GET http://a.default.localhost/headers?q HTTP/1.1\r\n\
                Host: a.default.localhost\r\nConnection: close\r\n\r\n";
    let answer = raw(tidegate.address(), sent).await.unwrap();
    assert!(answer.contains(r#""uri":"/headers?q""#), "{answer}");
    let sent = "OPTIONS * HTTP/1.1\r\nHost: a.default.localhost\r\nConnection: close\r\n\r\n";
    let answer = raw(tidegate.address(), sent).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "echo has no such path: {answer}");
}
