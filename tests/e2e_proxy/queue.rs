//! Waiting in line.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::client::{channel, empty, get, h1, h2, read_until, request, request2, send1, soon};
use crate::serving::{Service, Tidegate, file, host, needs, until};

fn one_at_a_time() -> Service {
    Service::new("a")
        .spec("containerConcurrency: 1")
        .annotation("autoscaling.knative.dev/max-scale", "1")
}

/// Waiting requests of the only revision, as the admin listener tells.
async fn waiting(tidegate: &Tidegate) -> u64 {
    let revisions = get(tidegate.admin, "localhost", "/api/v1/revisions").await.json();
    let all = revisions["revisions"].as_array().unwrap().iter();
    all.map(|r| r["waiting"].as_u64().unwrap()).sum()
}

async fn until_waiting(tidegate: &Tidegate, number: u64) {
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        let found = waiting(tidegate).await;
        if found == number {
            return;
        }
        assert!(Instant::now() < deadline, "{found} wait instead of {number}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn first_come_first_served() {
    let tidegate = Tidegate::serve(&file(&[one_at_a_time()]));
    let at = tidegate.address();
    let order: Arc<Mutex<Vec<usize>>> = Arc::default();
    let first = tokio::spawn(async move { get(at, &host("a"), "/delay?ms=1500").await });
    until("a replica", || tidegate.descendants().len() == 2).await;
    until_waiting(&tidegate, 0).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut all = Vec::new();
    let mut shared = h2(at).await;
    for number in 0..24 {
        let order = Arc::clone(&order);
        // Old and new connections, both protocols.
        if number % 3 == 0 {
            let request = request2("GET", &host("a"), "/delay?ms=15").body(empty()).unwrap();
            let answer = shared.send_request(request);
            all.push(tokio::spawn(async move {
                assert_eq!(answer.await.unwrap().status(), 200);
                order.lock().push(number);
            }));
        } else {
            all.push(tokio::spawn(async move {
                assert_eq!(get(at, &host("a"), "/delay?ms=15").await.status, 200);
                order.lock().push(number);
            }));
        }
        until_waiting(&tidegate, number as u64 + 1).await;
    }
    assert_eq!(soon(first).await.unwrap().status, 200);
    for one in all {
        soon(one).await.unwrap();
    }
    assert_eq!(*order.lock(), (0..24).collect::<Vec<_>>());
    let who = get(at, &host("a"), "/whoami").await.json();
    assert_eq!(who["max_in_flight"], 1);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let manifests = file(&[Service::new("a").command(r#"["sleep", "60"]"#)]);
    let tidegate = Tidegate::serve(&manifests);
    let at = tidegate.address();
    let mut connections = Vec::new();
    let mut held = Vec::new();
    for number in 0..10_000 {
        if number % 250 == 0 {
            connections.push(h2(at).await);
        }
        let request = request2("GET", &host("a"), "/").body(empty()).unwrap();
        held.push(connections.last_mut().unwrap().send_request(request));
    }
    until_waiting(&tidegate, 10_000).await;
    for method in ["GET", "POST"] {
        let began = Instant::now();
        let body = vec![0; if method == "POST" { 2_000_000 } else { 0 }];
        let refused = request(method, &host("a"), "/").body(crate::client::full(body)).unwrap();
        let refused = send1(&mut h1(at).await, refused).await;
        assert_eq!((refused.status, refused.reason()), (503, Some("queue_full")), "{refused:?}");
        let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=30).contains(&seconds), "{seconds}");
        assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    }
    let call = crate::client::call(&host("a"), "/x.Y/Z").body(empty()).unwrap();
    let answer = crate::client::send2(&mut h2(at).await, call).await;
    assert!(matches!(answer.grpc_status(), Some("13" | "14")), "{answer:?}");
    // Those who leave make room.
    drop(held);
    drop(connections);
    until_waiting(&tidegate, 0).await;
}

#[tokio::test]
async fn who_leaves_gives_the_place_back() {
    let manifests = file(&[Service::new("a").command(r#"["sleep", "60"]"#)]);
    let tidegate = Tidegate::serve(&manifests);
    let at = tidegate.address();
    // (what is sent, how long the place may be kept)
    let plain = |text: &str| text.replace('\n', "\r\n");
    let cases = [
        ("GET", plain("GET / HTTP/1.1\nHost: a.default\n\n"), 100),
        ("whole POST", plain("POST / HTTP/1.1\nHost: a.default\nContent-Length: 2\n\nhi"), 100),
        ("unread POST", plain("POST / HTTP/1.1\nHost: a.default\nContent-Length: 9000\n\nhi"), 300),
        (
            "chunked",
            plain("POST / HTTP/1.1\nHost: a.default\nTransfer-Encoding: chunked\n\n2\nhi\n0\n\n"),
            300,
        ),
        (
            "pipelined",
            plain("GET / HTTP/1.1\nHost: a.default\n\nGET / HTTP/1.1\nHost: a.default\n\n"),
            300,
        ),
        (
            "expects",
            plain("POST / HTTP/1.1\nHost: a.default\nExpect: 100-continue\nContent-Length: 9\n\n"),
            300,
        ),
    ];
    for (name, bytes, within) in cases {
        for reset in [false, true] {
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.write_all(bytes.as_bytes()).await.unwrap();
            until_waiting(&tidegate, 1).await;
            if reset {
                stream.set_zero_linger().unwrap();
            }
            let began = Instant::now();
            drop(stream);
            until_waiting(&tidegate, 0).await;
            let took = began.elapsed();
            let within = Duration::from_millis(within + 50);
            assert!(took < within, "{name}, reset={reset}: {took:?}");
        }
    }
    let mut connection = h2(at).await;
    for with_body in [false, true] {
        let (_sender, body) = channel();
        let body = if with_body { body } else { empty() };
        let request = request2("POST", &host("a"), "/").body(body).unwrap();
        let response = tokio::spawn(connection.send_request(request));
        until_waiting(&tidegate, 1).await;
        let began = Instant::now();
        response.abort();
        until_waiting(&tidegate, 0).await;
        assert!(began.elapsed() < Duration::from_millis(150), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn who_leaves_after_being_served_gives_the_slot_back() {
    let tidegate = Tidegate::serve(&file(&[one_at_a_time()]));
    let at = tidegate.address();
    get(at, &host("a"), "/").await;
    for bytes in [
        "GET /delay?ms=20000 HTTP/1.1\r\nHost: a.default\r\n\r\n".to_owned(),
        // Its body is read, but the end of the connection is only seen between two requests.
        "POST /delay?ms=20000 HTTP/1.1\r\nHost: a.default\r\nTransfer-Encoding: chunked\r\n\r\n\
         2\r\nhi\r\n0\r\n\r\n"
            .to_owned(),
        // An upload that stops half way.
        "POST /delay?ms=20000 HTTP/1.1\r\nHost: a.default\r\nContent-Length: 9\r\n\r\nhi"
            .to_owned(),
        "GET /sse?n=0&interval_ms=50 HTTP/1.1\r\nHost: a.default\r\n\r\n".to_owned(),
        "GET /size?bytes=900000000 HTTP/1.1\r\nHost: a.default\r\n\r\n".to_owned(),
    ] {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(150)).await;
        drop(stream);
        let began = Instant::now();
        assert_eq!(get(at, &host("a"), "/").await.status, 200);
        assert!(began.elapsed() < Duration::from_millis(700), "{bytes}: {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn an_open_socket_holds_its_slot() {
    let tidegate = Tidegate::serve(&file(&[one_at_a_time()]));
    let at = tidegate.address();
    let stream = TcpStream::connect(at).await.unwrap();
    let url = format!("ws://{}/ws", host("a"));
    let (socket, _) = soon(tokio_tungstenite::client_async(url, stream)).await.unwrap();
    let next = tokio::spawn(async move { get(at, &host("a"), "/").await });
    until_waiting(&tidegate, 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!next.is_finished(), "the only slot is taken");
    drop(socket);
    let began = Instant::now();
    assert_eq!(soon(next).await.unwrap().status, 200);
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
}

#[tokio::test]
async fn asleep_and_awake() {
    let service =
        Service::new("a").annotation("tidegate.dev/no-wake", "HEAD, /health, agent:Uptime/");
    let tidegate = Tidegate::serve(&file(&[service]));
    let at = tidegate.address();
    let requests = || {
        [
            request("HEAD", &host("a"), "/"),
            request("GET", &host("a"), "/healthz"),
            request("GET", &host("a"), "/").header("user-agent", "Uptime/2"),
        ]
    };
    let mut connection = h1(at).await;
    for sleeping in requests() {
        let answer = send1(&mut connection, sleeping.body(empty()).unwrap()).await;
        assert_eq!((answer.status, answer.reason()), (503, Some("asleep")));
    }
    assert_eq!(tidegate.descendants().len(), 1, "only the guard");
    assert_eq!(get(at, &host("a"), "/").await.status, 200);
    for waking in requests() {
        let answer = send1(&mut connection, waking.body(empty()).unwrap()).await;
        assert_eq!(answer.status, 200);
    }
}

/// Python's client writes a whole upload before it reads the answer; a reset meanwhile is a broken
/// pipe to it, and the answer is lost.
#[tokio::test]
async fn python_sees_why_its_upload_was_refused() {
    needs("python3", "python3");
    let tidegate = Tidegate::serve(&file(&[Service::new("a").command("")]));
    let script = format!(
        "import urllib.request, urllib.error\n\
         for bytes in [300_000, 5_000_000] * 5:\n\
         \x20   request = urllib.request.Request('http://{}/', data=b'x' * bytes)\n\
         \x20   request.add_header('Host', 'a.default.localhost')\n\
         \x20   try:\n\
         \x20       urllib.request.urlopen(request)\n\
         \x20   except urllib.error.HTTPError as error:\n\
         \x20       print(error.code, error.read().split(b':')[0].decode())\n",
        tidegate.address()
    );
    let output = tokio::task::spawn_blocking(move || {
        std::process::Command::new("python3").args(["-c", &script]).output().unwrap()
    })
    .await
    .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        said,
        "503 no_local_command\n".repeat(10),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let tidegate = Tidegate::serve(&file(&[Service::new("a").env("TARGET", "a")]));
    let mut stream = TcpStream::connect(tidegate.address()).await.unwrap();
    let three = "GET /status?code=201 HTTP/1.1\r\nHost: a.default\r\n\r\n\
                 POST /status?code=202 HTTP/1.1\r\nHost: a.default\r\nContent-Length: 2\r\n\r\nhi\
                 GET /status?code=203 HTTP/1.1\r\nHost: a.default\r\n\r\n";
    stream.write_all(three.as_bytes()).await.unwrap();
    let read = read_until(&mut stream, "HTTP/1.1 203 ").await;
    let places: Vec<_> =
        ["201", "202", "203"].iter().map(|c| read.find(&format!("HTTP/1.1 {c}"))).collect();
    assert!(places.is_sorted() && places[0] == Some(0), "{read}");
}
