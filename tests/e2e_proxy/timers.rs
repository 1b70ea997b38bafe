//! The timers: an answer before the response began, a cut after.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::BodyExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use crate::backend::{Backend, head};
use crate::client::{
    call, channel, empty, get, h1, h2, message, raw, request, request2, send1, send2, soon,
};
use crate::serving::{Service, Tidegate, file, host};

/// Timers are looked at ten times a second; the rest is for a busy machine.
const LATE: Duration = Duration::from_millis(900);

async fn timed<F: Future>(future: F) -> (F::Output, Duration) {
    let began = Instant::now();
    let output = future.await;
    (output, began.elapsed())
}

fn around(took: Duration, expected: Duration) {
    let right = took + Duration::from_millis(5) >= expected && took < expected + LATE;
    assert!(right, "{took:?} instead of {expected:?}");
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn before_the_response_began_a_timer_answers() {
    let manifests = file(&[
        Service::new("whole").spec("timeoutSeconds: 1").spec("responseStartTimeoutSeconds: 1"),
        Service::new("start").spec("timeoutSeconds: 5").spec("responseStartTimeoutSeconds: 1"),
        // Never listens, so that the request waits.
        Service::new("cold")
            .spec("timeoutSeconds: 1")
            .spec("responseStartTimeoutSeconds: 1")
            .command(r#"["sleep", "60"]"#),
        Service::new("queue")
            .annotation("tidegate.dev/queue-timeout", "600ms")
            .command(r#"["sleep", "60"]"#),
        Service::new("h2c").h2c().spec("timeoutSeconds: 1").spec("responseStartTimeoutSeconds: 1"),
    ]);
    let tidegate = Tidegate::serve(&manifests);
    let at = tidegate.address();
    let expect = async |name: &str, reasons: &[&str], after: Duration| {
        let (answer, took) = timed(get(at, &host(name), "/delay?ms=4000")).await;
        assert_eq!(answer.status, 504, "{name}: {answer:?}");
        let reason = answer.reason().unwrap();
        assert!(reasons.contains(&reason), "{name}: {reason}");
        assert!(answer.text().starts_with(reason), "{}", answer.text());
        around(took, after);
    };
    let either = ["request_timeout", "response_start_timeout"];
    tokio::join!(
        expect("whole", &either, SECOND),
        expect("start", &["response_start_timeout"], SECOND),
        expect("cold", &either, SECOND),
        expect("queue", &["queue_timeout"], Duration::from_millis(600)),
        expect("h2c", &either, SECOND),
    );
    // The connection is good afterwards: the answer was whole.
    let mut connection = h1(at).await;
    let late = request("GET", &host("start"), "/delay?ms=4000").body(empty()).unwrap();
    assert_eq!(send1(&mut connection, late).await.status, 504);
    let fine = request("GET", &host("start"), "/").body(empty()).unwrap();
    assert_eq!(send1(&mut connection, fine).await.status, 200);
}

/// Backends that begin a response and fall silent.
async fn stalling(head_bytes: &'static str) -> Backend {
    Backend::start(move |_, mut stream| async move {
        head(&mut stream).await;
        tokio::io::AsyncWriteExt::write_all(&mut stream, head_bytes.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await
}

#[tokio::test]
async fn after_the_response_began_it_is_cut_not_appended_to() {
    let chunked =
        stalling("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    let length = stalling("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc").await;
    let close = stalling("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc").await;
    let mut services: Vec<Service> =
        [("chunked", &chunked), ("length", &length), ("close", &close)]
            .map(|(name, replica)| Service::new(name).at(replica.address))
            .into();
    services.push(Service::new("streams"));
    services.push(Service::new("streams2").h2c());
    let timers = |services: Vec<Service>| -> String {
        let timed = services.into_iter().map(|service| {
            service.spec("timeoutSeconds: 1").spec("responseStartTimeoutSeconds: 1")
        });
        file(&timed.collect::<Vec<_>>())
    };
    let tidegate = Tidegate::serve(&timers(services));
    let at = tidegate.address();
    let cut = async |name: &'static str| {
        let path = if name.starts_with("streams") { "/sse?n=0&interval_ms=50" } else { "/" };
        let host = host(name);
        let http11 = async {
            let sent = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let (read, took) = timed(raw(at, sent)).await;
            let read = read.unwrap_or_else(|read| read);
            assert!(read.starts_with("HTTP/1.1 200 "), "{name}: {read}");
            assert!(!read.contains("timeout"), "{name}: appended to: {read}");
            let chunked = read.to_lowercase().contains("transfer-encoding: chunked");
            assert!(!chunked || !read.ends_with("\r\n0\r\n\r\n"), "{name}: looks whole: {read}");
            around(took, SECOND);
        };
        let http10 = async {
            let sent = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
            let (read, took) = timed(raw(at, sent)).await;
            assert!(read.is_err(), "{name}: ended as if it were whole: {read:?}");
            around(took, SECOND);
        };
        let http2 = async {
            let request = request2("GET", &host, path).body(empty()).unwrap();
            let mut connection = h2(at).await;
            let (body, took) = timed(async {
                let response = soon(connection.send_request(request)).await.unwrap();
                soon(response.into_body().collect()).await
            })
            .await;
            assert!(body.is_err(), "{name}: no reset");
            around(took, SECOND);
            // Only the stream was reset.
            let again = request2("GET", "x", "/.tidegate/ready").body(empty()).unwrap();
            assert_eq!(send2(&mut connection, again).await.status, 200);
        };
        tokio::join!(http11, http10, http2);
    };
    tokio::join!(cut("chunked"), cut("length"), cut("close"), cut("streams"), cut("streams2"));
}

#[tokio::test]
async fn a_client_that_takes_nothing_does_not_outlive_the_timer() {
    let manifests = file(&[Service::new("a")
        .spec("timeoutSeconds: 1")
        .spec("responseStartTimeoutSeconds: 1")
        .spec("containerConcurrency: 1")
        .annotation("autoscaling.knative.dev/max-scale", "1")]);
    let tidegate = Tidegate::serve(&manifests);
    let at = tidegate.address();
    for h2in in [false, true] {
        // Much more than all buffers on the way hold; nobody reads.
        let path = "/size?bytes=500000000";
        let mut held: (Option<crate::client::H1>, Option<crate::client::H2>) = (None, None);
        let response = if h2in {
            let connection = held.1.insert(h2(at).await);
            let request = request2("GET", &host("a"), path).body(empty()).unwrap();
            soon(connection.send_request(request)).await.unwrap()
        } else {
            let connection = held.0.insert(h1(at).await);
            let request = request("GET", &host("a"), path).body(empty()).unwrap();
            soon(connection.send_request(request)).await.unwrap()
        };
        // Its slot is the only one.
        let (next, took) = timed(get(at, &host("a"), "/")).await;
        assert!(next.status == 200 || took > Duration::from_millis(900), "{next:?}");
        let next = get(at, &host("a"), "/").await;
        assert_eq!(next.status, 200, "h2={h2in}: the slot was not given back: {next:?}");
        drop(response);
    }
}

#[tokio::test]
async fn silence_is_cut_by_the_idle_timer() {
    let manifests = file(&[
        Service::new("a").spec("idleTimeoutSeconds: 1"),
        Service::new("c").h2c().spec("idleTimeoutSeconds: 1"),
    ]);
    let tidegate = Tidegate::serve(&manifests);
    let at = tidegate.address();
    for name in ["a", "c"] {
        get(at, &host(name), "/").await;
    }
    let falls_silent = async |name: &'static str| {
        let sent =
            format!("GET /sse?n=2&interval_ms=30000 HTTP/1.1\r\nHost: {}\r\n\r\n", host(name));
        let (read, took) = timed(raw(at, sent)).await;
        let read = read.unwrap_or_else(|read| read);
        assert!(read.contains("event 0") && !read.contains("event 1"), "{read}");
        assert!(!read.ends_with("\r\n0\r\n\r\n"), "{read}");
        around(took, SECOND);
    };
    let keeps_talking = async |name: &'static str| {
        let sse = get(at, &host(name), "/sse?n=5&interval_ms=500").await;
        assert_eq!(sse.text().matches("event").count(), 5);
    };
    // Bytes of the client count as well: nothing comes back for a long time.
    let client_talks = async {
        let (mut sender, body) = channel();
        let request = call(&host("c"), "/tidegate.Echo/ClientStream").body(body).unwrap();
        let mut connection = h2(at).await;
        let response = tokio::spawn(async move { send2(&mut connection, request).await });
        for _ in 0..5 {
            sender.send_data(message(b"x")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        drop(sender);
        assert_eq!(soon(response).await.unwrap().grpc_status(), Some("0"));
    };
    let upload_talks = async {
        let (mut sender, body) = channel();
        let request = request("POST", &host("a"), "/headers").body(body).unwrap();
        let mut connection = h1(at).await;
        let response = tokio::spawn(async move { send1(&mut connection, request).await });
        for _ in 0..5 {
            sender.send_data(Bytes::from_static(b"x")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        drop(sender);
        assert_eq!(soon(response).await.unwrap().status, 200);
    };
    tokio::join!(
        falls_silent("a"),
        falls_silent("c"),
        keeps_talking("a"),
        keeps_talking("c"),
        client_talks,
        upload_talks,
    );
}

#[tokio::test]
async fn an_upgraded_connection_has_no_end_but_silence() {
    let manifests = file(&[
        Service::new("free").spec("timeoutSeconds: 1").spec("responseStartTimeoutSeconds: 1"),
        Service::new("idle").spec("idleTimeoutSeconds: 1"),
    ]);
    let tidegate = Tidegate::serve(&manifests);
    let at = tidegate.address();
    let open = async |name: &str| {
        let stream = TcpStream::connect(at).await.unwrap();
        let url = format!("ws://{}/ws", host(name));
        soon(tokio_tungstenite::client_async(url, stream)).await.unwrap().0
    };
    let (mut free, mut idle) = (open("free").await, open("idle").await);
    let lives = async {
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(600)).await;
            free.send(Message::text("x")).await.unwrap();
            assert_eq!(soon(free.next()).await.unwrap().unwrap(), Message::text("x"));
        }
    };
    let ends = async {
        idle.send(Message::text("x")).await.unwrap();
        assert_eq!(soon(idle.next()).await.unwrap().unwrap(), Message::text("x"));
        let (end, took) = timed(async {
            while let Some(Ok(message)) = soon(idle.next()).await {
                if message.is_close() {
                    break;
                }
            }
        })
        .await;
        let () = end;
        around(took, SECOND);
    };
    tokio::join!(lives, ends);
}
