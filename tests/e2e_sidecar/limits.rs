//! The limit and the line before it.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{empty, get, h2, request2, soon, whole};
use crate::{Echo, ready, until_load};

/// Sixty requests over both protocols, four at a time: the backend counts.
#[tokio::test]
async fn the_limit_is_never_exceeded() {
    let echo = Echo::start();
    let sidecar =
        ready(echo.address, &["--container-concurrency", "4", "--queue-depth", "100"]).await;
    let at = sidecar.address();
    let mut all = JoinSet::new();
    let mut shared = h2(at).await;
    for number in 0..60 {
        if number % 2 == 0 {
            all.spawn(async move { get(at, "any.host", "/delay?ms=20").await.status });
        } else {
            let request = request2("GET", "other.host", "/delay?ms=20").body(empty()).unwrap();
            let answer = shared.send_request(request);
            all.spawn(async move { whole(answer.await.unwrap()).await.status });
        }
    }
    let statuses = soon(all.join_all()).await;
    assert_eq!(statuses, [200; 60]);
    assert_eq!(echo.whoami().await["max_in_flight"], 4);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let echo = Echo::start();
    let sidecar =
        ready(echo.address, &["--container-concurrency", "1", "--queue-depth", "2"]).await;
    let at = sidecar.address();
    let mut held = JoinSet::new();
    for number in 0..3 {
        held.spawn(async move { get(at, "a", "/delay?ms=3000").await.status });
        until_load(&sidecar, number + 1, number).await;
    }
    let began = Instant::now();
    let refused = get(at, "a", "/").await;
    let took = began.elapsed();
    assert_eq!((refused.status, refused.reason()), (503, Some("queue_full")), "{refused:?}");
    assert!(refused.text().contains("2 requests wait"), "{}", refused.text());
    // The held ones take seconds: it did not wait for any of them.
    assert!(took < Duration::from_secs(2), "{took:?}");
    drop(held);
    until_load(&sidecar, 0, 0).await;
    assert_eq!(get(at, "a", "/").await.status, 200);
}

/// `pkg/queue/sharedmain`: ten times the limit.
#[tokio::test]
async fn ten_wait_for_each_slot_unless_told_otherwise() {
    let echo = Echo::start();
    let sidecar = ready(echo.address, &["--container-concurrency", "1"]).await;
    let at = sidecar.address();
    let mut held = JoinSet::new();
    for _ in 0..11 {
        held.spawn(async move { get(at, "a", "/delay?ms=60000").await.status });
    }
    until_load(&sidecar, 11, 10).await;
    assert_eq!(get(at, "a", "/").await.reason(), Some("queue_full"));
}

#[tokio::test]
async fn without_a_limit_nobody_waits() {
    let echo = Echo::start();
    let sidecar = ready(echo.address, &["--container-concurrency", "0"]).await;
    let at = sidecar.address();
    let mut all = JoinSet::new();
    for _ in 0..30 {
        all.spawn(async move { get(at, "a", "/delay?ms=60000").await.status });
    }
    until_load(&sidecar, 30, 0).await;
    // The request that asks is one more.
    let deadline = Instant::now() + crate::serving::SOON;
    loop {
        let seen = echo.whoami().await["in_flight"].as_u64().unwrap();
        if seen == 31 {
            break;
        }
        assert!(Instant::now() < deadline, "{seen} requests at the backend");
    }
}
