//! The way down.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{get, raw, soon};
use crate::{Echo, ready, until_load, until_status};

#[tokio::test]
async fn what_runs_and_what_waits_is_answered() {
    let echo = Echo::start();
    let mut sidecar = ready(echo.address, &["--container-concurrency", "1"]).await;
    let at = sidecar.address();
    let mut held = JoinSet::new();
    for number in 0..3 {
        held.spawn(async move { get(at, "a", "/delay?ms=400").await.status });
        until_load(&sidecar, number + 1, number).await;
    }
    sidecar.terminate();
    assert_eq!(soon(held.join_all()).await, [200; 3]);
    assert_eq!(sidecar.ended().await.code(), Some(0));
    assert!(TcpStream::connect(at).await.is_err());
}

#[tokio::test]
async fn probes_are_told_while_requests_are_still_served() {
    let echo = Echo::start();
    let mut sidecar = ready(echo.address, &["--drain-delay", "3s"]).await;
    let at = sidecar.address();
    sidecar.terminate();
    until_status(at, "/.tidegate/ready", 503).await;
    let probe = "GET / HTTP/1.1\r\nhost: a\r\nK-Network-Probe: queue\r\n\r\n";
    let answer = raw(at, probe).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nshutting down"), "{answer}");
    let answer = get(at, "a", "/").await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert_eq!(sidecar.ended().await.code(), Some(0));
}

#[tokio::test]
async fn the_drain_is_bounded() {
    let echo = Echo::start();
    let mut sidecar = ready(echo.address, &["--drain-timeout", "300ms"]).await;
    let at = sidecar.address();
    let held = tokio::spawn(raw(at, "GET /delay?ms=60000 HTTP/1.1\r\nhost: a\r\n\r\n"));
    until_load(&sidecar, 1, 0).await;
    let began = Instant::now();
    sidecar.terminate();
    assert_eq!(sidecar.ended().await.code(), Some(0));
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(20), "{took:?}");
    let (Ok(answer) | Err(answer)) = soon(held).await.unwrap();
    assert_eq!(answer, "", "cut off without an answer");
}
