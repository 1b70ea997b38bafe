//! What is answered before a service is asked.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::client::{Answer, empty, get, h1, h2, raw, read_until, request, request2, send1, send2};
use crate::serving::{Service, Tidegate, file, host};

fn two() -> String {
    file(&[Service::new("a").env("TARGET", "a"), Service::new("b").env("TARGET", "b")])
}

#[tokio::test]
async fn hosts() {
    let tidegate = Tidegate::serve(&two());
    let at = tidegate.address();
    for known in [
        "a.default.localhost",
        "A.Default.LocalHost",
        "a.default.localhost.",
        "a.default.localhost:8080",
        "a.default",
        "a.default.svc",
        "a.default.svc.cluster.local",
    ] {
        assert_eq!(get(at, known, "/").await.text(), "Hello a!\n", "{known}");
    }
    let unknown = get(at, "c.default.localhost", "/").await;
    assert_eq!((unknown.status, unknown.reason()), (404, Some("no_route")));
    for name in ["c.default.localhost", "a.default.localhost", "b.default.localhost"] {
        assert!(unknown.text().contains(name), "{}", unknown.text());
    }
    // Two services, so an address is nobody's.
    let address = get(at, "127.0.0.1", "/").await;
    assert_eq!(address.status, 404);
    assert!(address.text().contains("--default-service"), "{}", address.text());
    let mut connection = h2(at).await;
    let http2 = request2("GET", &host("b"), "/").body(empty()).unwrap();
    assert_eq!(send2(&mut connection, http2).await.text(), "Hello b!\n");
}

#[tokio::test]
async fn malformed_requests_are_refused() {
    let tidegate = Tidegate::serve(&two());
    let at = tidegate.address();
    let refused = [
        ("GET / HTTP/1.1\r\n\r\n", "the Host header is missing"),
        ("GET / HTTP/1.1\r\nHost: a.default\r\nHost: a.default\r\n\r\n", "more than one Host"),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "malformed"),
        ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", "malformed"),
        ("GET / HTTP/1.1\r\nHost: a.default:x\r\n\r\n", "malformed"),
        ("GET http://a.default/ HTTP/1.1\r\nHost: b.default\r\n\r\n", "different hosts"),
        (
            "POST / HTTP/1.1\r\nHost: a.default\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "Transfer-Encoding",
        ),
        ("POST / HTTP/1.1\r\nHost: a.default\r\nContent-Length: 002\r\n\r\nhi", "Content-Length"),
        ("CONNECT a.default:80 HTTP/1.1\r\nHost: a.default:80\r\n\r\n", "CONNECT"),
        ("GET * HTTP/1.1\r\nHost: a.default\r\n\r\n", "OPTIONS"),
    ];
    for (bytes, says) in refused {
        let answer = raw(at, bytes).await.unwrap_or_else(|read| panic!("reset: {bytes:?} {read}"));
        assert!(answer.starts_with("HTTP/1.1 400 "), "{bytes:?}\n{answer}");
        assert!(answer.contains("bad_request: ") && answer.contains(says), "{bytes:?}\n{answer}");
        assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
    }
    // What no parser takes.
    for bytes in [
        "GET / HTTP/1.1\r\nHost : a.default\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.default\r\nX: 1\r\n folded\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.default\r\nContent-Length: +2\r\n\r\nhi",
        "GET / HTTP/1.1\r\nHost: a.default\r\nX: a\0b\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let answer = raw(at, bytes).await.unwrap_or_else(|read| read);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{bytes:?}\n{answer}");
        assert!(answer.contains("tidegate-reason: bad_request"), "{bytes:?}\n{answer}");
    }
    // Nothing of it reached a replica: none was started.
    assert_eq!(tidegate.descendants().len(), 1, "only the guard");
}

#[tokio::test]
async fn two_framings_are_no_way_to_smuggle() {
    let manifests = file(&[Service::new("a"), Service::new("b")]);
    let tidegate = Tidegate::serve(&manifests);
    let smuggled = "POST / HTTP/1.1\r\nHost: a.default\r\nContent-Length: 6\r\n\
                    Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: b.default\r\n\r\n";
    let answer = raw(tidegate.address(), smuggled).await.unwrap_or_else(|read| read);
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
    assert_eq!(tidegate.descendants().len(), 1, "neither request was looked at further");
}

#[tokio::test]
async fn large_heads() {
    let tidegate = Tidegate::serve(&two());
    let at = tidegate.address();
    let with = |bytes: usize| {
        format!(
            "GET /headers HTTP/1.1\r\nHost: a.default\r\nConnection: close\r\nX-Big: {}\r\n\r\n",
            "x".repeat(bytes)
        )
    };
    let fits = raw(at, with(60 * 1024)).await.unwrap();
    assert!(fits.starts_with("HTTP/1.1 200 "), "{}", &fits[..100.min(fits.len())]);
    let refused = raw(at, with(70 * 1024)).await.unwrap_or_else(|read| read);
    assert!(refused.starts_with("HTTP/1.1 431 "), "{refused:?}");
    let mut connection = h2(at).await;
    let fits = request2("GET", &host("a"), "/").header("x-big", "x".repeat(60 * 1024));
    assert_eq!(send2(&mut connection, fits.body(empty()).unwrap()).await.status, 200);
    let large = request2("GET", &host("a"), "/").header("x-big", "x".repeat(70 * 1024));
    let refused = connection.send_request(large.body(empty()).unwrap()).await;
    assert!(refused.is_err() || refused.is_ok_and(|r| r.status() == 431));
}

#[tokio::test]
async fn health_is_answered_on_the_data_listener() {
    let manifests = file(&[Service::new("only")]);
    let tidegate = Tidegate::with(&manifests, &["--health-path", "/healthz"]);
    let at = tidegate.address();
    let raw10 = raw(at, "GET /.tidegate/ready HTTP/1.0\r\n\r\n").await.unwrap();
    assert!(raw10.starts_with("HTTP/1.0 200 ") && raw10.ends_with("ready\n"), "{raw10}");
    for host in ["only.default.localhost", "nobody.example", "127.0.0.1", "[::1]:80"] {
        let answer = get(at, host, "/.tidegate/ready").await;
        assert_eq!((answer.status, answer.text()), (200, "ready\n"), "{host}");
    }
    let mut connection = h1(at).await;
    let head = request("HEAD", "x", "/.tidegate/ready").body(empty()).unwrap();
    let head = send1(&mut connection, head).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    // Over HTTP/2 a body after HEAD would break the stream.
    let mut connection = h2(at).await;
    for (path, status) in [("/.tidegate/ready", 200), ("/", 404)] {
        let head = request2("HEAD", "nobody.example", path).body(empty()).unwrap();
        let head = send2(&mut connection, head).await;
        assert_eq!((head.status, head.body.len()), (status, 0));
    }
    for host in ["nobody.example", "127.0.0.1"] {
        assert_eq!(get(at, host, "/healthz").await.text(), "ready\n", "{host}");
    }
    let absent = raw(at, "GET /healthz HTTP/1.0\r\n\r\n").await.unwrap();
    assert!(absent.ends_with("ready\n"), "{absent}");
    assert_eq!(tidegate.descendants().len(), 1, "health wakes nobody");
    // A service's own path is the service's.
    assert_eq!(get(at, &host("only"), "/healthz").await.text(), "ok\n");
    assert_eq!(tidegate.descendants().len(), 2, "the guard and a replica");
}

#[tokio::test]
async fn ipv6() {
    let manifests = file(&[Service::new("only")]);
    let tidegate = Tidegate::with(&manifests, &["--http", "[::1]:0", "--http", "127.0.0.1:0"]);
    let at = tidegate.http[0];
    assert!(at.is_ipv6() && tidegate.http[1].is_ipv4());
    let seen = get(at, &format!("[::1]:{}", at.port()), "/headers").await;
    let header = |answer: &Answer, name: &str| -> String {
        let json = answer.json();
        let all = json["headers"].as_array().unwrap().clone();
        let found: Vec<_> = all.iter().filter(|h| h[0] == name).collect();
        assert_eq!(found.len(), 1, "{name}: {json}");
        found[0][1].as_str().unwrap().to_owned()
    };
    assert_eq!(header(&seen, "x-forwarded-for"), "::1");
    let forwarded = format!("for=\"[::1]\";host=\"[::1]:{}\";proto=http", at.port());
    assert_eq!(header(&seen, "forwarded"), forwarded);
    assert_eq!(get(tidegate.http[1], "localhost", "/").await.status, 200);
}

#[tokio::test]
async fn a_client_that_says_nothing_or_half_a_head_is_let_go() {
    let tidegate = Tidegate::serve(&two());
    let at = tidegate.address();
    let began = tokio::time::Instant::now();
    let silent = async { raw(at, "").await };
    let half = async { raw(at, "GET / HTTP/1.1\r\nHost: a.default\r\nX-").await };
    let preface = async { raw(at, "PRI * HT").await };
    // A second head that does not end, behind an answered one.
    let second = async {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(b"GET /.tidegate/ready HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        read_until(&mut stream, "ready\n").await;
        stream.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
        crate::client::rest(&mut stream).await
    };
    let (a, b, c, d) = tokio::join!(silent, half, preface, second);
    for ended in [a, b, c, d] {
        assert!(ended.unwrap_or_else(|read| read).is_empty());
    }
    let took = began.elapsed().as_secs_f64();
    assert!((9.8..12.0).contains(&took), "after {took} s");
}
