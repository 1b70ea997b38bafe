//! The three timers and the queue's.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::backend::{Backend, head};
use crate::client::{get, raw};
use crate::{Echo, ready, until_load};

/// Not before its time, and long before the backend would have answered.
fn within(began: Instant, least: Duration) {
    let took = began.elapsed();
    assert!(took >= least && took < Duration::from_secs(20), "{took:?}, at least {least:?}");
}

#[tokio::test]
async fn waiting_ends_with_the_queues_timeout() {
    let echo = Echo::start();
    let arguments = ["--container-concurrency", "1", "--queue-timeout", "300ms"];
    let sidecar = ready(echo.address, &arguments).await;
    let at = sidecar.address();
    let mut held = JoinSet::new();
    held.spawn(async move { get(at, "a", "/delay?ms=60000").await.status });
    until_load(&sidecar, 1, 0).await;
    let began = Instant::now();
    let late = get(at, "a", "/").await;
    assert_eq!((late.status, late.reason()), (504, Some("queue_timeout")), "{late:?}");
    within(began, Duration::from_millis(300));
}

#[tokio::test]
async fn a_request_ends_with_its_timeout() {
    let echo = Echo::start();
    let sidecar = ready(echo.address, &["--timeout", "400ms"]).await;
    let began = Instant::now();
    let late = get(sidecar.address(), "a", "/delay?ms=60000").await;
    assert_eq!((late.status, late.reason()), (504, Some("request_timeout")), "{late:?}");
    assert!(late.text().contains("--timeout"), "{}", late.text());
    within(began, Duration::from_millis(400));
}

#[tokio::test]
async fn a_response_must_begin_in_time() {
    let echo = Echo::start();
    let sidecar = ready(echo.address, &["--response-start-timeout", "300ms"]).await;
    let began = Instant::now();
    let late = get(sidecar.address(), "a", "/delay?ms=60000").await;
    assert_eq!((late.status, late.reason()), (504, Some("response_start_timeout")), "{late:?}");
    within(began, Duration::from_millis(300));
}

/// A response that has begun is cut, not appended to.
#[tokio::test]
async fn a_silent_response_is_cut() {
    let backend = Backend::start(|_, mut stream| async move {
        while head(&mut stream).await.is_some() {
            let half = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
            stream.write_all(half).await.unwrap();
        }
    })
    .await;
    let sidecar = ready(backend.address, &["--idle-timeout", "300ms"]).await;
    let began = Instant::now();
    let cut = raw(sidecar.address(), "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let (Ok(text) | Err(text)) = cut;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("half"), "{text}");
    within(began, Duration::from_millis(300));
}
