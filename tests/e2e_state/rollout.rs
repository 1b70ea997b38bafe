//! Traffic that moves while tidegate ends and begins again.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use crate::client::get;
use crate::serving::{SOON, Tidegate, file, host};
use crate::stage::{Disk, hundred, saying, seen, traffic};

/// The service `a`, whose traffic takes eight seconds to move.
fn slow(word: &str) -> String {
    let annotated = "  name: a\n  annotations: {serving.knative.dev/rollout-duration: 8s}\n";
    let text = file(&[saying(word)]).replacen("  name: a\n", annotated, 1);
    assert!(text.contains(annotated));
    text
}

/// The share of the second revision once it is at least so much.
async fn share(tidegate: &Tidegate, at_least: u64) -> u64 {
    let start = Instant::now();
    loop {
        let share = traffic(tidegate).await.get("a-00002").copied().unwrap_or(0);
        if share >= at_least {
            return share;
        }
        assert!(start.elapsed() < SOON, "{share} %\n{}", tidegate.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_kill_in_the_middle_of_a_rollout_takes_nothing_back() {
    let disk = Disk::new(&[saying("one")]);
    disk.write_text(&slow("one"));
    let mut first = disk.start();
    assert_eq!(hundred(first.address()).await, seen(&[("one", 100)]));
    disk.write_text(&slow("two"));
    let before = share(&first, 2).await;
    first.signal(Signal::KILL);
    first.ended().await;

    // A step may be on the disk that nobody saw; none is lost, and it does not jump to the end.
    let second = disk.start();
    let after = share(&second, 1).await;
    assert!(after >= before && after < 100, "{after} % after {before} %");
    share(&second, 100).await;
    assert_eq!(hundred(second.address()).await, seen(&[("two", 100)]));
}

/// The service `a`, whose new revisions are tried.
fn tried(fails: &str) -> String {
    let annotated = "  name: a\n  annotations: {tidegate.dev/rollout: canary}\n";
    let text = file(&[saying("one").env("FAIL_PERCENT", fails)]);
    text.replacen("  name: a\n", annotated, 1)
}

#[tokio::test]
async fn what_was_taken_back_stays_so_after_a_kill() {
    let disk = Disk::new(&[saying("one")]);
    disk.write_text(&tried("0"));
    let mut first = disk.start();
    assert_eq!(hundred(first.address()).await, seen(&[("one", 100)]));
    disk.write_text(&tried("50"));
    first.logged("canary: a-00002 is tried with 5 of 100 % beside a-00001").await;
    while !first.log().contains("canary: a-00002 is taken back") {
        get(first.address(), &host("a"), "/").await;
    }
    first.signal(Signal::KILL);
    first.ended().await;

    let second = disk.start();
    assert_eq!(hundred(second.address()).await, seen(&[("one", 100)]));
    let services = get(second.admin, "localhost", "/api/v1/services").await.json();
    let canary = &services["services"][0]["canary"];
    assert_eq!((&canary["state"], &canary["reason"]), (&"taken_back".into(), &"errors".into()));
    // The next one is tried beside the same old one.
    disk.write_text(&tried("0").replace("one", "two"));
    second.logged("canary: a-00003 is tried with 5 of 100 % beside a-00001").await;
}
