//! The end of tidegate.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{empty, get, h1, h2, request, request2, send1, send2, soon, whole};
use crate::load::Load;
use crate::serving::{Service, Tidegate, file, host, is_alive, until};

fn slow_start() -> Service {
    Service::new("slow").shell("sleep 1; exec tidegate echo")
}

#[tokio::test]
async fn what_runs_and_what_waits_ends_in_order() {
    let mut tidegate = Tidegate::serve(&file(&[Service::new("a"), slow_start()]));
    let at = tidegate.address();
    get(at, &host("a"), "/").await;
    let path = "/delay?ms=1200";
    let running = tokio::spawn(async move { get(at, &host("a"), path).await });
    let streaming =
        tokio::spawn(async move { get(at, &host("a"), "/sse?n=5&interval_ms=250").await });
    let waiting = tokio::spawn(async move { get(at, &host("slow"), "/").await });
    let mut http2 = h2(at).await;
    let over_http2 = request2("GET", &host("a"), path).body(empty()).unwrap();
    let over_http2 = tokio::spawn(async move { send2(&mut http2, over_http2).await });
    let mut idle = h1(at).await;
    let first = request("GET", &host("a"), "/").body(empty()).unwrap();
    assert_eq!(send1(&mut idle, first).await.status, 200);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let replicas = tidegate.descendants();
    tidegate.terminate();
    // An idle connection is closed, a new one is not accepted.
    soon(async {
        while !idle.is_closed() {
            tokio::time::sleep(Duration::from_millis(5)).await
        }
    })
    .await;
    until("a closed door", || std::net::TcpStream::connect(at).is_err()).await;
    for (answer, has_header) in [(running, true), (waiting, true), (streaming, false)] {
        let answer = soon(answer).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        if has_header {
            assert_eq!(answer.header("connection"), Some("close"));
        } else {
            assert_eq!(answer.text().matches("event").count(), 5);
        }
    }
    assert_eq!(soon(over_http2).await.unwrap().text(), "ok\n");
    assert_eq!(tidegate.ended().await.code(), Some(0));
    for pid in replicas {
        assert!(!is_alive(pid), "process {pid} is left");
    }
}

#[tokio::test]
async fn draining_for_a_while_before_the_door_closes() {
    let manifests = file(&[Service::new("a")]);
    let mut tidegate = Tidegate::with(&manifests, &["--drain-delay", "1s"]);
    let at = tidegate.address();
    let mut kept = h1(at).await;
    let get_a = || request("GET", &host("a"), "/").body(empty()).unwrap();
    assert_eq!(send1(&mut kept, get_a()).await.header("connection"), None);
    let load = Load::start(at, 4, &host("a"), "/");
    tidegate.terminate();
    tokio::time::sleep(Duration::from_millis(150)).await;
    let ready = get(at, "x", "/.tidegate/ready").await;
    assert_eq!((ready.status, ready.text()), (503, "draining\n"));
    assert_eq!(get(tidegate.admin, "localhost", "/readyz").await.status, 503);
    assert_eq!(get(tidegate.admin, "localhost", "/livez").await.status, 200);
    let answer = send1(&mut kept, get_a()).await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert_eq!(get(at, &host("a"), "/").await.status, 200, "new connections are accepted");
    let outcomes = load.stop().await;
    assert_eq!(outcomes.keys().collect::<Vec<_>>(), ["Hello World!"], "{outcomes:?}");
    assert_eq!(tidegate.ended().await.code(), Some(0));
}

#[tokio::test]
async fn drain_is_bounded_and_a_second_signal_ends_it() {
    let manifests = file(&[Service::new("a")]);
    let hang = async |tidegate: &Tidegate| {
        let at = tidegate.address();
        let request = request("GET", &host("a"), "/sse?n=0&interval_ms=50").body(empty()).unwrap();
        let response = soon(h1(at).await.send_request(request)).await.unwrap();
        let stream = TcpStream::connect(at).await.unwrap();
        let url = format!("ws://{}/ws", host("a"));
        let mut socket = soon(tokio_tungstenite::client_async(url, stream)).await.unwrap().0;
        socket.send(Message::text("x")).await.unwrap();
        assert!(soon(socket.next()).await.unwrap().is_ok());
        (response, socket)
    };
    let bounded = async {
        let mut tidegate = Tidegate::with(&manifests, &["--drain-timeout", "1s"]);
        let held = hang(&tidegate).await;
        let began = Instant::now();
        tidegate.terminate();
        assert_eq!(tidegate.ended().await.code(), Some(0));
        let took = began.elapsed().as_secs_f64();
        assert!((0.95..3.0).contains(&took), "{took}");
        drop(held);
    };
    let twice = async {
        let mut tidegate = Tidegate::with(&manifests, &["--drain-timeout", "60s"]);
        let held = hang(&tidegate).await;
        let replicas = tidegate.descendants();
        tidegate.signal(Signal::INT);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(is_alive(tidegate.pid()));
        let began = Instant::now();
        tidegate.terminate();
        tidegate.ended().await;
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        until("the end of all", || !replicas.iter().any(|pid| is_alive(*pid))).await;
        drop(held);
    };
    tokio::join!(bounded, twice);
}

#[tokio::test]
async fn nothing_is_left_after_kill_9() {
    let forks = Service::new("forks").shell("sleep 300 & tidegate echo & wait");
    let tidegate = Tidegate::serve(&file(&[Service::new("a"), forks]));
    let at = tidegate.address();
    for name in ["a", "forks"] {
        assert_eq!(get(at, &host(name), "/").await.status, 200);
    }
    let all = tidegate.descendants();
    assert!(all.len() >= 5, "guard, two replicas, their children: {all:?}");
    tidegate.signal(Signal::KILL);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let left: Vec<_> = all.into_iter().filter(|pid| is_alive(*pid)).collect();
    assert!(left.is_empty(), "{left:?} are left");
}

#[tokio::test]
async fn http2_clients_are_told_to_go() {
    let mut tidegate = Tidegate::serve(&file(&[Service::new("a")]));
    let mut connection = h2(tidegate.address()).await;
    let running = request2("GET", &host("a"), "/delay?ms=700").body(empty()).unwrap();
    let response = connection.send_request(running);
    let running = tokio::spawn(async move { whole(response.await.unwrap()).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    tidegate.terminate();
    let answer = soon(running).await.unwrap();
    assert_eq!(answer.text(), "ok\n");
    let another = request2("GET", &host("a"), "/").body(empty()).unwrap();
    assert!(soon(connection.send_request(another)).await.is_err(), "GOAWAY was sent");
    assert_eq!(tidegate.ended().await.code(), Some(0));
}
