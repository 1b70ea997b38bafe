//! Manifests edited while requests run and wait.

use std::time::Duration;

use crate::client::{get, h2, post, request2, send2, soon};
use crate::load::Load;
use crate::serving::{Service, Tidegate, file, host, until};

fn saying(word: &str) -> Service {
    Service::new("a").env("TARGET", word)
}

/// Asks until the answer is another; the answer.
async fn until_says(tidegate: &Tidegate, text: &str) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(15);
    loop {
        let answer = get(tidegate.address(), &host("a"), "/").await;
        if answer.text().contains(text) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "still {answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn edits_under_load_fail_no_request() {
    let tidegate = Tidegate::serve(&file(&[saying("v1")]));
    let at = tidegate.address();
    until_says(&tidegate, "v1").await;
    let load = Load::start(at, 8, &host("a"), "/?ms=3");
    for version in ["v2", "v3", "v4"] {
        tokio::time::sleep(Duration::from_millis(300)).await;
        tidegate.write(&file(&[saying(version)]));
        until_says(&tidegate, version).await;
    }
    // Settings that are no part of the template stamp nothing.
    tidegate.write(&format!("# a comment\n{}", file(&[saying("v4")])));
    // Broken: what was there goes on.
    tidegate.write("kind: Service\n  broken: [\n");
    tokio::time::sleep(Duration::from_millis(600)).await;
    tidegate.write(&file(&[saying("v4").spec("timeoutSeconds: -1")]));
    tidegate.logged("timeoutSeconds").await;
    until_says(&tidegate, "v4").await;
    tidegate.write(&file(&[saying("v5")]));
    until_says(&tidegate, "v5").await;
    let outcomes = load.stop().await;
    let words: Vec<_> = outcomes.keys().map(String::as_str).collect();
    assert_eq!(
        words,
        ["Hello v1!", "Hello v2!", "Hello v3!", "Hello v4!", "Hello v5!"],
        "{outcomes:?}"
    );
    let who = get(at, &host("a"), "/whoami").await.json();
    assert_eq!(who["revision"], "a-00005", "one revision for each changed template");
}

#[tokio::test]
async fn traffic_goes_to_old_and_new_by_percentage() {
    let percent = |old: u32, template: &str| {
        let flow = format!(
            "[{{revisionName: a-00001, percent: {old}}}, {{latestRevision: true, percent: {}}}]",
            100 - old
        );
        file(&[saying(template).traffic(&flow)])
    };
    let tidegate = Tidegate::serve(&file(&[saying("old")]));
    until_says(&tidegate, "old").await;
    let count = async || {
        let mut connection = h2(tidegate.address()).await;
        let mut new = 0;
        for _ in 0..100 {
            let request = request2("GET", &host("a"), "/").body(crate::client::empty()).unwrap();
            let answer = send2(&mut connection, request).await;
            assert_eq!(answer.status, 200);
            new += u32::from(answer.text().contains("new"));
        }
        new
    };
    tidegate.write(&percent(90, "new"));
    until_says(&tidegate, "new").await;
    // A split is exact in every block of 100 draws, and this is not the first draw: two whole
    // blocks lie in three, so count over a multiple of blocks.
    let new = count().await + count().await + count().await;
    assert!((20..=40).contains(&new), "{new} of 300");
    tidegate.write(&percent(50, "new"));
    tidegate.logged("a-00002").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let new = count().await + count().await;
    assert!((75..=125).contains(&new), "{new} of 200");
    // All of it back to the old one.
    tidegate.write(&percent(100, "new"));
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(count().await, 0);
}

#[tokio::test]
async fn a_removed_service_answers_those_who_wait() {
    let never = Service::new("never").command(r#"["sleep", "60"]"#);
    let tidegate = Tidegate::serve(&file(&[saying("x"), never]));
    let at = tidegate.address();
    until_says(&tidegate, "x").await;
    let running = tokio::spawn(async move { get(at, &host("a"), "/delay?ms=3500").await });
    let waiting =
        tokio::spawn(async move { post(at, &host("never"), "/", vec![0; 100_000]).await });
    let mut connection = h2(at).await;
    let held = request2("GET", &host("never"), "/").body(crate::client::empty()).unwrap();
    let held = tokio::spawn(async move { send2(&mut connection, held).await });
    until("a start", || tidegate.descendants().len() >= 3).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    tidegate.write(&file(&[Service::new("other")]));
    for waiting in [waiting, held] {
        let answer = soon(waiting).await.unwrap();
        assert_eq!((answer.status, answer.reason()), (404, Some("service_removed")), "{answer:?}");
    }
    let running = soon(running).await.unwrap();
    assert_eq!((running.status, running.text()), (200, "ok\n"), "what runs ends in order");
    let answer = get(at, &host("a"), "/").await;
    assert_eq!((answer.status, answer.reason()), (404, Some("no_route")));
    assert_eq!(get(at, &host("other"), "/").await.status, 200);
    // Replicas of what is gone are gone: the guard and the replica of `other` are left.
    until("the end of the old replicas", || tidegate.descendants().len() == 2).await;
}

#[tokio::test]
async fn a_waiting_queue_survives_an_edit() {
    // Starts slowly; the edit comes while the request waits.
    let slow = || Service::new("a").shell("sleep 1.5; exec tidegate echo");
    let tidegate = Tidegate::serve(&file(&[slow()]));
    let at = tidegate.address();
    let waiting = tokio::spawn(async move { get(at, &host("a"), "/whoami").await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    tidegate.write(&file(&[slow(), Service::new("other")]));
    assert_eq!(soon(waiting).await.unwrap().json()["revision"], "a-00001");
    assert_eq!(get(at, &host("other"), "/").await.status, 200);
}
