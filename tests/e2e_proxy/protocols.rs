//! HTTP/1.1, HTTP/2, gRPC, WebSocket, server-sent events.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::BodyExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use crate::backend::Backend;
use crate::client::{
    H2, call, channel, empty, full, get, h1, h2, message, raw, read_until, request, request2,
    send1, send2, soon,
};
use crate::serving::{Service, Tidegate, file, host};

fn services() -> String {
    file(&[
        Service::new("one"),
        Service::new("two").h2c(),
        Service::new("limited").h2c().spec("containerConcurrency: 2"),
    ])
}

#[tokio::test]
async fn every_protocol_in_and_out() {
    let tidegate = Tidegate::serve(&services());
    let at = tidegate.address();
    let (mut http1, mut http2) = (h1(at).await, h2(at).await);
    for (name, version) in [("one", "HTTP/1.1"), ("two", "HTTP/2.0"), ("limited", "HTTP/2.0")] {
        let host = host(name);
        let about = |answer: crate::client::Answer| {
            assert_eq!(answer.status, 200);
            (answer.json()["version"].clone(), answer.json()["body_bytes"].clone())
        };
        let body = vec![b'x'; 100_000];
        let posted = request("POST", &host, "/headers").body(full(body.clone())).unwrap();
        assert_eq!(about(send1(&mut http1, posted).await), (version.into(), 100_000.into()));
        let posted = request2("POST", &host, "/headers").body(full(body)).unwrap();
        assert_eq!(about(send2(&mut http2, posted).await), (version.into(), 100_000.into()));
        let got = request("GET", &host, "/headers").body(empty()).unwrap();
        assert_eq!(about(send1(&mut http1, got).await), (version.into(), 0.into()));
        let got = request2("GET", &host, "/headers").body(empty()).unwrap();
        assert_eq!(about(send2(&mut http2, got).await), (version.into(), 0.into()));
        // A body of unknown length, also with methods that usually have none.
        for method in ["POST", "GET", "DELETE"] {
            for h2 in [false, true] {
                let (mut sender, body) = channel();
                let builder = if h2 { request2 } else { request };
                let request = builder(method, &host, "/headers").body(body).unwrap();
                let write = async move {
                    for _ in 0..3 {
                        let sent = sender.send_data(Bytes::from_static(b"abcd")).await;
                        // hyper's HTTP/1 client sends no body of unknown length with GET.
                        assert!(sent.is_ok() || method == "GET" && !h2);
                    }
                };
                let answered = async {
                    if h2 {
                        send2(&mut http2, request).await
                    } else {
                        send1(&mut http1, request).await
                    }
                };
                let (answer, ()) = tokio::join!(answered, write);
                let sent = if method == "GET" && !h2 { 0 } else { 12 };
                assert_eq!(about(answer).1, sent, "{method} h2={h2} to {name}");
            }
        }
    }
}

#[tokio::test]
async fn bodiless_answers() {
    let tidegate = Tidegate::serve(&services());
    let at = tidegate.address();
    let (mut http1, mut http2) = (h1(at).await, h2(at).await);
    for name in ["one", "two"] {
        let host = host(name);
        for (method, path, status, length) in [
            ("HEAD", "/size?bytes=1234", 200, Some("1234")),
            ("GET", "/status?code=204&bytes=0", 204, None),
            ("GET", "/status?code=304&bytes=0", 304, None),
        ] {
            let one = request(method, &host, path).body(empty()).unwrap();
            let two = request2(method, &host, path).body(empty()).unwrap();
            for answer in [send1(&mut http1, one).await, send2(&mut http2, two).await] {
                let of = format!("{method} {path} of {name}");
                assert_eq!((answer.status, answer.body.len()), (status, 0), "{of}");
                if length.is_some() {
                    assert_eq!(answer.header("content-length"), length, "{of}");
                }
            }
        }
        // The connections are still good.
        let one = request("GET", &host, "/").body(empty()).unwrap();
        assert_eq!(send1(&mut http1, one).await.text(), "Hello World!\n");
    }
}

#[tokio::test]
async fn http10_clients() {
    let tidegate = Tidegate::serve(&services());
    let at = tidegate.address();
    let answer = raw(at, "GET / HTTP/1.0\r\nHost: one.default\r\n\r\n").await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("Hello World!\n"));
    // No length is known: the end of the connection is the end of the body.
    let sent = "GET /sse?n=3&interval_ms=1 HTTP/1.0\r\nHost: one.default\r\n\r\n";
    let answer = raw(at, sent).await.unwrap();
    assert!(!answer.to_lowercase().contains("transfer-encoding"), "{answer}");
    assert!(answer.ends_with("data: event 2\n\n"), "{answer}");
    let sent = "GET / HTTP/1.0\r\nHost: one.default\r\nConnection: keep-alive\r\n\r\n";
    let mut stream = TcpStream::connect(at).await.unwrap();
    for _ in 0..2 {
        tokio::io::AsyncWriteExt::write_all(&mut stream, sent.as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, "World!\n").await;
        assert!(answer.to_lowercase().contains("connection: keep-alive"), "{answer}");
    }
}

#[tokio::test]
async fn trailers_go_both_ways() {
    let tidegate = Tidegate::serve(&services());
    let at = tidegate.address();
    for name in ["one", "two"] {
        let host = host(name);
        let asked = request2("GET", &host, "/trailers").header("te", "trailers");
        let answer = send2(&mut h2(at).await, asked.body(empty()).unwrap()).await;
        assert_eq!(answer.text(), "body before trailers\n");
        assert_eq!(answer.trailers.unwrap()["x-echo-trailer"], "the end", "{name}");
        let chunked = format!(
            "POST /echo HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\
             Trailer: x-sum\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 42\r\n\r\n"
        );
        let answer = raw(at, chunked).await.unwrap();
        assert!(answer.to_lowercase().contains("\r\nx-sum: 42\r\n"), "{name}: {answer}");
    }
}

async fn unary(connection: &mut H2, name: &str) -> Option<String> {
    let call = call(&host(name), "/tidegate.Echo/Unary").body(full(message(b"hi"))).unwrap();
    let answer = send2(connection, call).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    if answer.grpc_status() == Some("0") {
        assert_eq!(answer.body, message(b"hi"));
    }
    answer.grpc_status().map(str::to_owned)
}

#[tokio::test]
async fn grpc_calls_of_all_kinds() {
    let tidegate = Tidegate::serve(&services());
    for name in ["two", "limited"] {
        let mut connection = h2(tidegate.address()).await;
        // The first one starts the replica.
        assert_eq!(unary(&mut connection, name).await.as_deref(), Some("0"));
        let messages: Bytes = [message(b"ab"), message(b"cd")].concat().into();
        let to = |method: &str| call(&host(name), &format!("/tidegate.Echo/{method}"));
        let answer = send2(&mut connection, to("ClientStream").body(full(messages)).unwrap()).await;
        assert_eq!((answer.grpc_status(), &answer.body), (Some("0"), &message(b"abcd")));
        let stream = to("ServerStream").header("x-repeat", "4").body(full(message(b"x"))).unwrap();
        let answer = send2(&mut connection, stream).await;
        assert_eq!((answer.grpc_status(), answer.body.len()), (Some("0"), 4 * 6));
        // Each message comes back before the next one is sent.
        let (mut sender, body) = channel();
        let response = soon(connection.send_request(to("Bidi").body(body).unwrap()));
        let first = sender.send_data(message(b"0"));
        let (response, sent) = tokio::join!(response, first);
        sent.unwrap();
        let mut body = response.unwrap().into_body();
        for number in 0..5_u8 {
            let frame = soon(body.frame()).await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), message(&[b'0' + number]));
            sender.send_data(message(&[b'1' + number])).await.unwrap();
        }
        drop(sender);
        let rest = soon(body.collect()).await.unwrap();
        assert_eq!(rest.trailers().unwrap()["grpc-status"], "0");
        let failing = to("Unary").header("x-grpc-status", "7").body(full(message(b"")));
        let answer = send2(&mut connection, failing.unwrap()).await;
        assert_eq!(answer.grpc_status(), Some("7"));
        let nothing = call(&host(name), "/no.Such/Method").body(full(message(b""))).unwrap();
        assert_eq!(send2(&mut connection, nothing).await.grpc_status(), Some("12"));
        let health = call(&host(name), "/grpc.health.v1.Health/Check").body(full(message(b"")));
        let answer = send2(&mut connection, health.unwrap()).await;
        assert_eq!(answer.body, message(&[8, 1]));
    }
}

#[tokio::test]
async fn grpc_web_needs_no_http2() {
    let tidegate = Tidegate::serve(&services());
    let at = tidegate.address();
    for name in ["one", "two"] {
        let web = |request: http::request::Builder| {
            let request = request.header("content-type", "application/grpc-web+proto");
            request.body(full(message(b"hi"))).unwrap()
        };
        let answer = send1(&mut h1(at).await, web(request("POST", &host(name), "/size"))).await;
        assert_eq!((answer.status, answer.reason()), (200, None), "{name}: {answer:?}");
        let answer = send2(&mut h2(at).await, web(request2("POST", &host(name), "/size"))).await;
        assert_eq!((answer.status, answer.reason()), (200, None), "{name}: {answer:?}");
    }
}

#[tokio::test]
async fn grpc_errors_are_statuses() {
    // Takes everything, says nothing.
    let mute = Backend::start(|_, mut stream| async move {
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let manifests = services()
        + &file(&[
            Service::new("broken").h2c().command(r#"["/no/such/program"]"#),
            Service::new("cold").h2c().command(r#"["sleep", "60"]"#),
            Service::new("mute").h2c().at(mute.address),
        ]);
    let tidegate = Tidegate::serve(&manifests);
    let mut connection = h2(tidegate.address()).await;
    let to = |name: &str| call(&host(name), "/tidegate.Echo/Unary");
    let answer = send2(&mut connection, to("nobody").body(full(message(b""))).unwrap()).await;
    assert_eq!((answer.status, answer.grpc_status()), (200, Some("12")), "{answer:?}");
    let answer = send2(&mut connection, to("broken").body(full(message(b""))).unwrap()).await;
    assert_eq!((answer.grpc_status(), answer.reason()), (Some("14"), Some("start_failed")));
    // A replica that does not speak HTTP/2: the answer says what to write.
    let answer = send2(&mut connection, to("one").body(full(message(b""))).unwrap()).await;
    let text = answer.header("grpc-message").unwrap();
    assert_eq!(answer.grpc_status(), Some("13"));
    assert!(text.contains("h2c"), "{text}");
    // A deadline, waiting and starting included.
    for name in ["cold", "mute"] {
        let began = Instant::now();
        let call = to(name).header("grpc-timeout", "300m").body(full(message(b""))).unwrap();
        let answer = send2(&mut connection, call).await;
        assert_eq!(answer.grpc_status(), Some("4"), "{answer:?}");
        assert_eq!(answer.reason(), Some("grpc_timeout"));
        let took = began.elapsed();
        assert!(took < Duration::from_millis(700), "{took:?}");
    }
    // This one has begun its response already: it is cut.
    let call = to("two").header("grpc-timeout", "300m").header("x-delay-ms", "5000");
    let response = connection.send_request(call.body(full(message(b""))).unwrap());
    let body = soon(response).await.unwrap().into_body();
    assert!(soon(body.collect()).await.is_err(), "no reset");
}

#[tokio::test]
async fn websockets_also_from_zero() {
    let tidegate = Tidegate::serve(&services());
    let at = tidegate.address();
    for _ in 0..2 {
        let stream = TcpStream::connect(at).await.unwrap();
        let url = format!("ws://{}/ws", host("one"));
        let (mut socket, answer) =
            soon(tokio_tungstenite::client_async(url, stream)).await.unwrap();
        assert_eq!(answer.status(), 101);
        for text in ["one", "two", "three"] {
            socket.send(Message::text(text)).await.unwrap();
            let back = soon(socket.next()).await.unwrap().unwrap();
            assert_eq!(back, Message::text(text));
        }
        let big = vec![7; 1 << 20];
        socket.send(Message::binary(big.clone())).await.unwrap();
        assert_eq!(soon(socket.next()).await.unwrap().unwrap(), Message::binary(big));
        socket.close(None).await.unwrap();
        while soon(socket.next()).await.is_some_and(|m| m.is_ok()) {}
    }
    // A replica that is no WebSocket server answers as it likes.
    let refused = request("GET", &host("one"), "/ws")
        .header("connection", "upgrade")
        .header("upgrade", "other")
        .body(empty())
        .unwrap();
    assert_eq!(send1(&mut h1(at).await, refused).await.status, 426);
}

#[tokio::test]
async fn early_bytes_of_an_upgrade_are_kept() {
    let replica = Backend::start(|_, mut stream| async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        crate::backend::head(&mut stream).await.unwrap();
        let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
                    Upgrade: chat\r\n\r\nearly from the replica;";
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut buffer = [0; 1024];
        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
            stream.write_all(&buffer[..n]).await.unwrap();
        }
    })
    .await;
    let tidegate = Tidegate::serve(&file(&[Service::new("a").at(replica.address)]));
    let mut stream = TcpStream::connect(tidegate.address()).await.unwrap();
    let sent = "GET / HTTP/1.1\r\nHost: a.default\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\nearly from the client;";
    tokio::io::AsyncWriteExt::write_all(&mut stream, sent.as_bytes()).await.unwrap();
    let read = read_until(&mut stream, "early from the client;").await;
    assert!(
        read.starts_with("HTTP/1.1 101 ") && read.contains("early from the replica;"),
        "{read}"
    );
    assert!(read.to_lowercase().contains("upgrade: chat"), "{read}");
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_an_error() {
    let replica = Backend::saying(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n",
    )
    .await;
    let tidegate = Tidegate::serve(&file(&[Service::new("a").at(replica.address)]));
    let answer = get(tidegate.address(), &host("a"), "/").await;
    assert_eq!((answer.status, answer.reason()), (502, Some("upstream_broke")));
}

#[tokio::test]
async fn events_are_not_held_back() {
    let tidegate = Tidegate::serve(&services());
    let at = tidegate.address();
    for h2in in [false, true] {
        for name in ["one", "two"] {
            let path = "/sse?n=4&interval_ms=150";
            let response = if h2in {
                let request = request2("GET", &host(name), path).body(empty()).unwrap();
                soon(h2(at).await.send_request(request)).await.unwrap()
            } else {
                let request = request("GET", &host(name), path).body(empty()).unwrap();
                soon(h1(at).await.send_request(request)).await.unwrap()
            };
            assert_eq!(response.headers()["content-type"], "text/event-stream");
            let mut body = response.into_body();
            let mut before = Instant::now();
            for number in 0..4 {
                let frame = soon(body.frame()).await.unwrap().unwrap().into_data().unwrap();
                let expected = format!("id: {number}\ndata: event {number}\n\n");
                assert_eq!(frame, expected);
                let gap = before.elapsed();
                if number > 0 {
                    assert!(gap > Duration::from_millis(75), "held back and sent at once: {gap:?}");
                }
                before = Instant::now();
            }
            assert_eq!(soon(body.collect()).await.unwrap().to_bytes(), "");
        }
    }
}
