//! Replicas that speak HTTP/2, with habits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::{Builder, SendResponse};
use http::Response;
use http_body_util::BodyExt as _;
use tokio::task::JoinSet;

use crate::backend::Backend;
use crate::client::{
    call, empty, full, get, h1, h2, message, raw, request, request2, send1, send2, soon,
};
use crate::serving::{Service, Tidegate, file, host};

/// Hands each request to `answer`; `settings` sees the builder, `over` says after how many
/// requests a connection says goodbye.
async fn replica(
    settings: fn(&mut Builder),
    over: usize,
    answer: fn(http::Request<h2::RecvStream>, SendResponse<Bytes>),
) -> Backend {
    Backend::start(move |_, stream| async move {
        let mut builder = Builder::new();
        settings(&mut builder);
        let Ok(mut connection) = builder.handshake(stream).await else { return };
        let mut number = 0;
        while let Some(Ok((request, respond))) = connection.accept().await {
            answer(request, respond);
            number += 1;
            if number == over {
                connection.graceful_shutdown();
            }
        }
    })
    .await
}

fn fine(_: http::Request<h2::RecvStream>, mut respond: SendResponse<Bytes>) {
    if let Ok(mut body) = respond.send_response(Response::new(()), false) {
        let _ = body.send_data("ok\n".into(), true);
    }
}

fn service(at: SocketAddr) -> String {
    file(&[Service::new("a").h2c().at(at)])
}

#[tokio::test]
async fn no_more_streams_than_the_replica_allows() {
    static ARRIVED: AtomicU32 = AtomicU32::new(0);
    const ALL: u32 = 1 + 20;
    let few = replica(
        |builder| {
            builder.max_concurrent_streams(2);
        },
        usize::MAX,
        |request, respond| {
            let first = ARRIVED.fetch_add(1, Ordering::SeqCst) == 0;
            tokio::spawn(async move {
                // Answers when all are there: one that waited inside a connection for another to
                // end would wait for ever.
                while !first && ARRIVED.load(Ordering::SeqCst) < ALL {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                fine(request, respond);
            });
        },
    )
    .await;
    let tidegate = Tidegate::serve(&service(few.address));
    let at = tidegate.address();
    assert_eq!(get(at, &host("a"), "/").await.status, 200);
    let mut all = JoinSet::new();
    for _ in 1..ALL {
        all.spawn(async move { get(at, &host("a"), "/").await.status });
    }
    assert!(soon(all.join_all()).await.iter().all(|status| *status == 200));
    assert!(few.connections() >= 10, "{}", few.connections());
}

#[tokio::test]
async fn goodbyes_and_refusals_cost_no_request() {
    let polite = replica(|_| {}, 3, fine).await;
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    // Refuses every other stream: it has not looked at it.
    let refusing = replica(
        |_| {},
        usize::MAX,
        |request, mut respond| {
            if NUMBER.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
                respond.send_reset(Reason::REFUSED_STREAM);
            } else {
                fine(request, respond);
            }
        },
    )
    .await;
    for replica in [&polite, &refusing] {
        let tidegate = Tidegate::serve(&service(replica.address));
        let mut connection = h1(tidegate.address()).await;
        for number in 0..30 {
            let get = request("GET", &host("a"), "/").body(empty()).unwrap();
            let answer = send1(&mut connection, get).await;
            assert_eq!((answer.status, answer.text()), (200, "ok\n"), "{number}");
        }
    }
    assert!(polite.connections() >= 10);
}

#[tokio::test]
async fn broken_streams_do_not_look_whole() {
    // A reset without an error after 4 of 1,000 bytes; one without a length; gRPC without its end.
    let replica = replica(
        |_| {},
        usize::MAX,
        |request, mut respond| {
            let path = request.uri().path().to_owned();
            let mut response = Response::builder();
            match path.as_str() {
                "/length" => response = response.header("content-length", 1_000),
                "/x.Y/Z" => response = response.header("content-type", "application/grpc"),
                _ => {}
            }
            let ends = path == "/x.Y/Z";
            let mut body = respond.send_response(response.body(()).unwrap(), false).unwrap();
            body.send_data("four".into(), ends).unwrap();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                match path.as_str() {
                    "/length" => body.send_reset(Reason::NO_ERROR),
                    "/error" => body.send_reset(Reason::INTERNAL_ERROR),
                    _ => {}
                }
            });
        },
    )
    .await;
    let tidegate = Tidegate::serve(&service(replica.address));
    let at = tidegate.address();
    for path in ["/length", "/error"] {
        let sent = format!("GET {path} HTTP/1.1\r\nHost: a.default\r\n\r\n");
        let read = raw(at, sent).await.unwrap_or_else(|read| read);
        assert!(read.starts_with("HTTP/1.1 200 "), "{read}");
        assert!(!read.ends_with("0\r\n\r\n"), "{path} looks whole: {read}");
        let get = request2("GET", &host("a"), path).body(empty()).unwrap();
        let response = soon(h2(at).await.send_request(get)).await.unwrap();
        assert!(soon(response.into_body().collect()).await.is_err(), "{path} looks whole");
    }
    let call = call(&host("a"), "/x.Y/Z").body(full(message(b""))).unwrap();
    // The reset may overtake the head.
    let whole = match soon(h2(at).await.send_request(call)).await {
        Ok(response) => soon(response.into_body().collect()).await.is_ok(),
        Err(_) => false,
    };
    assert!(!whole, "a call without its status looks whole");
}

#[tokio::test]
async fn grpc_web_has_its_end_in_the_body() {
    let replica = replica(
        |_| {},
        usize::MAX,
        |_, mut respond| {
            let response = Response::builder().header("content-type", "application/grpc-web+proto");
            let mut body = respond.send_response(response.body(()).unwrap(), false).unwrap();
            body.send_data("message, status".into(), true).unwrap();
        },
    )
    .await;
    let tidegate = Tidegate::serve(&service(replica.address));
    let at = tidegate.address();
    let web = |request: http::request::Builder| {
        let request = request.header("content-type", "application/grpc-web+proto");
        request.body(full(message(b"hi"))).unwrap()
    };
    let answer = send1(&mut h1(at).await, web(request("POST", &host("a"), "/x.Y/Z"))).await;
    assert_eq!((answer.status, answer.text()), (200, "message, status"));
    let answer = send2(&mut h2(at).await, web(request2("POST", &host("a"), "/x.Y/Z"))).await;
    assert_eq!((answer.status, answer.text()), (200, "message, status"));
}

#[tokio::test]
async fn resets_of_the_client_reach_the_replica() {
    let (told, mut telling) = tokio::sync::mpsc::channel(4);
    let told = Arc::new(told);
    let replica = Backend::start(move |_, stream| {
        let told = Arc::clone(&told);
        async move {
            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let told = Arc::clone(&told);
                tokio::spawn(async move {
                    let reset = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
                    let _ = told.send(reset.is_ok()).await;
                });
            }
        }
    })
    .await;
    let tidegate = Tidegate::serve(&service(replica.address));
    let mut connection = h2(tidegate.address()).await;
    let get = request2("GET", &host("a"), "/").body(empty()).unwrap();
    let waiting = tokio::spawn(connection.send_request(get));
    tokio::time::sleep(Duration::from_millis(200)).await;
    waiting.abort();
    assert_eq!(soon(telling.recv()).await, Some(true), "the stream was reset");
}
