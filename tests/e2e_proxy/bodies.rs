//! Bodies: large ones, slow ones, broken ones, and those that nobody wants.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::backend::{Backend, head};
use crate::client::{
    channel, empty, full, h1, h2, raw, read_until, request, request2, rest, send1, soon, whole,
};
use crate::serving::{Service, Tidegate, file, host, until};

const LARGE: u64 = 64 << 20;
/// What tidegate may take more than before while a large body waits.
const HELD: u64 = 12 << 20;

fn services() -> String {
    file(&[Service::new("one"), Service::new("two").h2c()])
}

#[tokio::test]
async fn a_slow_reader_holds_the_replica_up_not_the_memory() {
    let tidegate = Tidegate::serve(&services());
    let at = tidegate.address();
    for name in ["one", "two"] {
        for h2in in [false, true] {
            let path = format!("/size?bytes={LARGE}");
            let ask = async || {
                let (host, path) = (&host(name), &path);
                if h2in {
                    let request = request2("GET", host, path).body(empty()).unwrap();
                    soon(h2(at).await.send_request(request)).await.unwrap()
                } else {
                    let request = request("GET", host, path).body(empty()).unwrap();
                    soon(h1(at).await.send_request(request)).await.unwrap()
                }
            };
            drop(ask().await);
            let before = tidegate.memory();
            let response = ask().await;
            tokio::time::sleep(Duration::from_millis(400)).await;
            let grown = tidegate.memory().saturating_sub(before);
            assert!(grown < HELD, "{name} h2={h2in}: {grown} bytes while nobody reads");
            let mut left = LARGE;
            let mut body = response.into_body();
            while let Some(frame) = soon(body.frame()).await {
                left -= frame.unwrap().into_data().unwrap().len() as u64;
            }
            assert_eq!(left, 0);
        }
    }
}

#[tokio::test]
async fn a_slow_replica_holds_the_client_up_not_the_memory() {
    // Reads the head, waits to be told, then reads the body.
    let (go, told) = tokio::sync::watch::channel(false);
    let replica = Backend::start(move |_, mut stream| {
        let mut told = told.clone();
        async move {
            head(&mut stream).await.unwrap();
            told.wait_for(|go| *go).await.unwrap();
            let mut buffer = vec![0; 1 << 16];
            let mut left = LARGE;
            while left > 0 {
                left -= stream.read(&mut buffer).await.unwrap() as u64;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nall\n").await.unwrap();
        }
    })
    .await;
    let tidegate = Tidegate::serve(&file(&[Service::new("a").at(replica.address)]));
    let before = tidegate.memory();
    let (mut sender, body) = channel();
    let request = request("POST", &host("a"), "/").header("content-length", LARGE).body(body);
    let mut connection = h1(tidegate.address()).await;
    let response = tokio::spawn(async move {
        whole(connection.send_request(request.unwrap()).await.unwrap()).await
    });
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = std::sync::Arc::clone(&sent);
    let writer = tokio::spawn(async move {
        let piece = Bytes::from(vec![b'x'; 1 << 16]);
        for _ in 0..LARGE >> 16 {
            sender.send_data(piece.clone()).await.unwrap();
            counted.fetch_add(1 << 16, std::sync::atomic::Ordering::SeqCst);
        }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let grown = tidegate.memory().saturating_sub(before);
    let sent = sent.load(std::sync::atomic::Ordering::SeqCst);
    assert!(grown < HELD, "{grown} bytes while the replica does not read");
    assert!(sent < LARGE / 2, "the client was not held up: {sent} bytes");
    go.send_replace(true);
    soon(writer).await.unwrap();
    assert_eq!(soon(response).await.unwrap().text(), "all\n");
}

#[tokio::test]
async fn large_bodies_both_ways_at_once() {
    let tidegate = Tidegate::serve(&services());
    let at = tidegate.address();
    for name in ["one", "two"] {
        for h2in in [false, true] {
            let (mut sender, body) = channel();
            let writer = tokio::spawn(async move {
                for n in 0..(16_u32 << 20) >> 16 {
                    sender.send_data(vec![n as u8; 1 << 16].into()).await.unwrap();
                }
            });
            let response = if h2in {
                let request = request2("POST", &host(name), "/echo").body(body).unwrap();
                soon(h2(at).await.send_request(request)).await.unwrap()
            } else {
                let request = request("POST", &host(name), "/echo").body(body).unwrap();
                soon(h1(at).await.send_request(request)).await.unwrap()
            };
            let answer = whole(response).await;
            writer.await.unwrap();
            assert_eq!(answer.body.len(), 16 << 20);
            let right = answer.body.chunks(1 << 16).enumerate();
            assert!(right.into_iter().all(|(n, c)| c.iter().all(|b| *b == n as u8)), "mixed up");
        }
    }
}

#[tokio::test]
async fn expectations_are_answered_by_the_replica() {
    let tidegate = Tidegate::serve(&services());
    for name in ["one", "two"] {
        let mut stream = TcpStream::connect(tidegate.address()).await.unwrap();
        let sent = format!(
            "POST /headers HTTP/1.1\r\nHost: {}\r\nExpect: 100-continue\r\n\
             Content-Length: 5\r\nConnection: close\r\n\r\n",
            host(name)
        );
        stream.write_all(sent.as_bytes()).await.unwrap();
        let began = Instant::now();
        read_until(&mut stream, "HTTP/1.1 100 Continue\r\n\r\n").await;
        assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
        stream.write_all(b"12345").await.unwrap();
        let answer = rest(&mut stream).await.unwrap();
        assert!(answer.contains(r#""body_bytes":5"#), "{name}: {answer}");
    }
    // A replica that wants no body: the client never sends it, no 100 goes out.
    let replica = Backend::start(|_, mut stream| async move {
        assert!(head(&mut stream).await.unwrap().to_lowercase().contains("expect: 100-continue"));
        stream
            .write_all(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 3\r\n\r\nno\n")
            .await
            .unwrap();
        let mut read = Vec::new();
        let _ = stream.read_to_end(&mut read).await;
        assert_eq!(read, b"");
    })
    .await;
    let tidegate = Tidegate::serve(&file(&[Service::new("a").at(replica.address)]));
    let sent = "POST / HTTP/1.1\r\nHost: a.default\r\nExpect: 100-continue\r\n\
                Content-Length: 5\r\n\r\n";
    let answer = raw(tidegate.address(), sent).await.unwrap_or_else(|read| read);
    assert!(answer.starts_with("HTTP/1.1 417 ") && answer.ends_with("no\n"), "{answer}");
}

#[tokio::test]
async fn an_expectation_of_a_refused_request_is_not_met() {
    let tidegate = Tidegate::serve(&file(&[Service::new("broken").command("")]));
    for (host, status) in [("broken.default", 503), ("nobody", 404)] {
        let sent = format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\nExpect: 100-continue\r\n\
             Content-Length: 5000000\r\n\r\n"
        );
        let began = Instant::now();
        let mut stream = TcpStream::connect(tidegate.address()).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, "\r\n\r\n").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(began.elapsed() < Duration::from_millis(300), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn an_expectation_waits_with_its_request() {
    let manifests = file(&[Service::new("a")
        .spec("containerConcurrency: 1")
        .annotation("autoscaling.knative.dev/max-scale", "1")]);
    let tidegate = Tidegate::serve(&manifests);
    let at = tidegate.address();
    let first =
        tokio::spawn(async move { crate::client::get(at, &host("a"), "/delay?ms=700").await });
    until("a replica", || tidegate.descendants().len() == 2).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut stream = TcpStream::connect(at).await.unwrap();
    let sent = "POST /headers HTTP/1.1\r\nHost: a.default\r\nExpect: 100-continue\r\n\
                Content-Length: 5\r\nConnection: close\r\n\r\n";
    stream.write_all(sent.as_bytes()).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(200), stream.read_u8()).await;
    assert!(early.is_err(), "100 before there was a slot");
    read_until(&mut stream, "100 Continue\r\n\r\n").await;
    stream.write_all(b"12345").await.unwrap();
    assert!(rest(&mut stream).await.unwrap().contains(r#""body_bytes":5"#));
    assert_eq!(first.await.unwrap().status, 200);
}

/// A replica that answers when it has the head and does not read on.
async fn hasty(close: bool) -> Backend {
    Backend::start(move |_, mut stream| async move {
        while head(&mut stream).await.is_some() {
            let answer = b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 6\r\n\r\nlarge\n";
            stream.write_all(answer).await.unwrap();
            if close {
                return;
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    })
    .await
}

#[tokio::test]
async fn an_early_response_arrives_although_the_client_is_still_sending() {
    let replica = hasty(false).await;
    let tidegate = Tidegate::serve(&file(&[Service::new("a").at(replica.address)]));
    let at = tidegate.address();
    for _ in 0..5 {
        // Writes all before it reads, as many clients do.
        let answer = blunt_upload(at, "a.default", 5_000_000).await;
        assert!(answer.as_ref().is_ok_and(|a| a.starts_with("HTTP/1.1 413 ")), "{answer:?}");
    }
    let mut connection = h2(at).await;
    let post = request2("POST", &host("a"), "/").body(full(vec![0; 5_000_000])).unwrap();
    let response = soon(connection.send_request(post)).await.unwrap();
    assert_eq!(response.status(), 413);
}

/// Sends a whole upload, then reads the answer.
async fn blunt_upload(
    at: std::net::SocketAddr,
    host: &str,
    bytes: usize,
) -> Result<String, String> {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let head = format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {bytes}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.map_err(|e| e.to_string())?;
    soon(stream.write_all(&vec![b'x'; bytes])).await.map_err(|e| e.to_string())?;
    let mut buffer = [0; 4096];
    let n = soon(stream.read(&mut buffer)).await.map_err(|e| e.to_string())?;
    Ok(String::from_utf8_lossy(&buffer[..n]).into_owned())
}

#[tokio::test]
async fn refused_uploads_see_why() {
    let manifests = file(&[
        Service::new("broken").command(""),
        Service::new("asleep").annotation("tidegate.dev/no-wake", "POST"),
    ]);
    let tidegate = Tidegate::serve(&manifests);
    for (host, status) in [("broken.default", 503), ("asleep.default", 503), ("nobody", 404)] {
        for bytes in [1_000, 300_000, 5_000_000, 30_000_000] {
            let answer = blunt_upload(tidegate.address(), host, bytes).await;
            let right = format!("HTTP/1.1 {status} ");
            assert!(
                answer.as_ref().is_ok_and(|a| a.starts_with(&right)),
                "{host} {bytes}: {answer:?}"
            );
        }
    }
    // Over HTTP/2 only the stream ends.
    let mut http2 = h2(tidegate.address()).await;
    for bytes in [1_000, 300_000, 5_000_000] {
        let post = request2("POST", "broken.default", "/").body(full(vec![0; bytes])).unwrap();
        let answer = crate::client::send2(&mut http2, post).await;
        assert_eq!(answer.reason(), Some("no_local_command"), "{bytes}");
        assert!(answer.text().starts_with("no_local_command: "), "{bytes}");
    }
    // After a short one the connection is still good.
    let mut connection = h1(tidegate.address()).await;
    for _ in 0..2 {
        let post = request("POST", "broken.default", "/").body(full(vec![0; 10_000])).unwrap();
        assert_eq!(send1(&mut connection, post).await.reason(), Some("no_local_command"));
    }
}

#[tokio::test]
async fn broken_responses_do_not_look_whole() {
    let tidegate = Tidegate::serve(&services());
    let at = tidegate.address();
    for name in ["one", "two"] {
        let host = host(name);
        for path in ["/cut?bytes=100", "/cut?bytes=100&of=1000"] {
            let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let read = raw(at, head).await.unwrap_or_else(|read| read);
            assert!(read.starts_with("HTTP/1.1 200 "), "{read}");
            let chunked = read.to_lowercase().contains("transfer-encoding: chunked");
            assert!(!chunked || !read.contains("\r\n0\r\n"), "{name} {path}: looks whole: {read}");
            assert!(chunked || read.contains("content-length: 1000"), "{read}");
            // To a client of HTTP/1.0 the end of the connection would be the end of the body.
            let head = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
            let read = raw(at, head).await;
            assert!(read.is_err(), "{name} {path}: a clean end: {read:?}");
            let get = request2("GET", &host, path).body(empty()).unwrap();
            let response = soon(h2(at).await.send_request(get)).await.unwrap();
            assert!(soon(response.into_body().collect()).await.is_err(), "{name} {path}");
        }
    }
}
