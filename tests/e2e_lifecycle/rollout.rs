//! Traffic that moves to a new revision step by step.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::client::{empty, get, h2, request2, send2};
use crate::load::Load;
use crate::serving::{SOON, Service, Tidegate, file, host};

/// A service whose traffic takes four seconds to move.
fn slow(service: &Service) -> String {
    let annotated = "  name: a\n  annotations: {serving.knative.dev/rollout-duration: 4s}\n";
    let text = file(std::slice::from_ref(service));
    let text = text.replacen("  name: a\n", annotated, 1);
    assert!(text.contains(annotated));
    text
}

fn saying(word: &str) -> Service {
    Service::new("a").env("TARGET", word)
}

/// Shares of the only service by revision, as the admin listener shows them, and what is said.
pub(crate) async fn shares(tidegate: &Tidegate) -> (BTreeMap<String, u64>, String) {
    let services = get(tidegate.admin, "localhost", "/api/v1/services").await.json();
    let service = &services["services"][0];
    let shares = service["traffic"].as_array().unwrap().iter().map(|target| {
        (target["revision"].as_str().unwrap().to_owned(), target["percent"].as_u64().unwrap())
    });
    (shares.collect(), service["warnings"].to_string())
}

/// The share of the second revision.
async fn share(tidegate: &Tidegate) -> u64 {
    shares(tidegate).await.0.get("a-00002").copied().unwrap_or(0)
}

/// How many of a hundred requests the new revision answers.
pub(crate) async fn new_of_100(tidegate: &Tidegate) -> u64 {
    let mut connection = h2(tidegate.address()).await;
    let mut new = 0;
    for _ in 0..100 {
        let request = request2("GET", &host("a"), "/").body(empty()).unwrap();
        let answer = send2(&mut connection, request).await;
        assert_eq!(answer.status, 200);
        new += u64::from(answer.text().contains("new"));
    }
    new
}

#[tokio::test]
async fn shares_move_and_no_request_fails() {
    let tidegate = Tidegate::serve(&slow(&saying("old")));
    assert_eq!(get(tidegate.address(), &host("a"), "/").await.text().trim(), "Hello old!");
    let load = Load::start(tidegate.address(), 4, &host("a"), "/?ms=2");
    tidegate.write(&slow(&saying("new")));
    let start = Instant::now();
    let mut seen = vec![0];
    while *seen.last().unwrap() < 100 {
        assert!(start.elapsed() < SOON, "{seen:?}\n{}", tidegate.log());
        let before = share(&tidegate).await;
        let new = new_of_100(&tidegate).await;
        // Two blocks of a hundred draws meet in these, and others draw meanwhile.
        if before == share(&tidegate).await {
            assert!(new.abs_diff(before) <= 25, "{new} of 100 at {before} %");
        }
        if *seen.last().unwrap() != before {
            seen.push(before);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A busy machine may look too late to see one of them.
    assert!(
        seen.is_sorted() && seen.iter().all(|share| [0, 1, 34, 67, 100].contains(share)),
        "{seen:?}"
    );
    assert!(seen.contains(&34) || seen.contains(&67), "{seen:?}");
    assert!(start.elapsed() >= Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(new_of_100(&tidegate).await, 100);
    let outcomes = load.stop().await;
    let words: Vec<_> = outcomes.keys().map(String::as_str).collect();
    assert_eq!(words, ["Hello new!", "Hello old!"], "{outcomes:?}");
}

#[tokio::test]
async fn a_revision_that_cannot_start_keeps_its_first_per_cent() {
    let tidegate = Tidegate::serve(&slow(&saying("old")));
    assert_eq!(get(tidegate.address(), &host("a"), "/").await.status, 200);
    let broken = Service::new("a")
        .command(r#"["false"]"#)
        .annotation("autoscaling.knative.dev/initial-scale", "1");
    tidegate.write(&slow(&broken));
    let start = Instant::now();
    while share(&tidegate).await == 0 {
        assert!(start.elapsed() < SOON, "{}", tidegate.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Longer than all of it would take.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let (shares, said) = shares(&tidegate).await;
    assert_eq!(shares, BTreeMap::from([("a-00001".to_owned(), 99), ("a-00002".to_owned(), 1)]));
    assert!(said.contains("no more while its replicas cannot be started"), "{said}");
    // The next version begins anew, and takes the place of the broken one.
    tidegate.write(&slow(&saying("new")));
    let start = Instant::now();
    loop {
        let shares = self::shares(&tidegate).await.0;
        assert!(!shares.contains_key("a-00003") || !shares.contains_key("a-00002"), "{shares:?}");
        if shares == BTreeMap::from([("a-00003".to_owned(), 100)]) {
            break;
        }
        assert!(start.elapsed() < SOON, "{shares:?}\n{}", tidegate.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(new_of_100(&tidegate).await, 100);
}

/// A tag that follows the newest revision moves as well, by its own host and by the header.
#[tokio::test]
async fn a_tag_moves_too() {
    let features = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-features, namespace: \
                    knative-serving}\ndata: {tag-header-based-routing: enabled}\n";
    let traffic = "[{revisionName: a-00001, percent: 100}, {latestRevision: true, tag: next}]";
    let manifest = |word: &str| format!("{features}{}", slow(&saying(word).traffic(traffic)));
    let tidegate = Tidegate::serve(&manifest("old"));
    let at = tidegate.address();
    assert_eq!(get(at, "next-a.default.localhost", "/").await.text().trim(), "Hello old!");
    tidegate.write(&manifest("new"));
    let start = Instant::now();
    let (mut by_host, mut by_header) = (Vec::new(), Vec::new());
    loop {
        let answer = get(at, "next-a.default.localhost", "/").await;
        by_host.push(answer.text().contains("new"));
        let mut connection = h2(at).await;
        let tagged = request2("GET", &host("a"), "/").header("knative-serving-tag", "next");
        let answer = send2(&mut connection, tagged.body(empty()).unwrap()).await;
        by_header.push(answer.text().contains("new"));
        if by_host.iter().rev().take(20).all(|new| *new) && by_host.len() > 20 {
            break;
        }
        assert!(start.elapsed() < SOON, "{by_host:?}\n{}", tidegate.log());
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    for answers in [by_host, by_header] {
        let first = answers.iter().position(|new| *new).unwrap();
        let between = answers.iter().skip(first).filter(|new| !**new).count();
        assert!(first > 0 && between > 0, "old and new side by side: {answers:?}");
    }
    // The service's own host stays where it is pinned.
    assert_eq!(get(at, &host("a"), "/").await.text().trim(), "Hello old!");
}
