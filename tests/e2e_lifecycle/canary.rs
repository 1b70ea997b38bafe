//! New revisions that are tried beside the old one under load.

use crate::client::{call, full, get, h2, message, send2};
use crate::load::Load;
use crate::rollout::{new_of_100, shares};
use crate::serving::{Service, Tidegate, file, host};

/// A service whose new revisions are tried, quickly.
fn tried(service: &Service) -> String {
    let annotated = "  name: a\n  annotations: {tidegate.dev/rollout: canary, \
                     tidegate.dev/rollout-step-time: 200ms, tidegate.dev/rollout-samples: '50'}\n";
    let text = file(std::slice::from_ref(service)).replacen("  name: a\n", annotated, 1);
    assert!(text.contains(annotated));
    text
}

fn saying(word: &str) -> Service {
    Service::new("a").env("TARGET", word)
}

/// A tidegate that serves the old revision to clients.
async fn serving() -> (Tidegate, Load) {
    let tidegate = Tidegate::serve(&tried(&saying("old")));
    assert_eq!(get(tidegate.address(), &host("a"), "/").await.text().trim(), "Hello old!");
    let load = Load::start(tidegate.address(), 4, &host("a"), "/?ms=5");
    (tidegate, load)
}

async fn canary(tidegate: &Tidegate) -> serde_json::Value {
    let services = get(tidegate.admin, "localhost", "/api/v1/services").await.json();
    services["services"][0]["canary"].clone()
}

#[tokio::test]
async fn a_good_revision_gets_through_and_no_request_fails() {
    let (tidegate, load) = serving().await;
    tidegate.write(&tried(&saying("new")));
    tidegate.logged("canary: a-00002 is tried with 5 of 100 % beside a-00001").await;
    tidegate.logged("canary: a-00002 gets 25 of 100 %, for no harm was seen").await;
    tidegate.logged("canary: a-00002 gets 50 of 100 %, for no harm was seen").await;
    tidegate.logged("canary: a-00002 is through, and has all").await;
    let outcomes = load.stop().await;
    let words: Vec<_> = outcomes.keys().map(String::as_str).collect();
    assert_eq!(words, ["Hello new!", "Hello old!"], "{outcomes:?}");
    assert_eq!(new_of_100(&tidegate).await, 100);
    assert_eq!(shares(&tidegate).await.1, "[]");
    assert!(canary(&tidegate).await.is_null());
}

#[tokio::test]
async fn a_bad_revision_is_taken_back_and_the_next_one_tried() {
    let (tidegate, load) = serving().await;
    tidegate.write(&tried(&saying("new").env("FAIL_PERCENT", "20")));
    tidegate.logged("canary: a-00002 is taken back").await;
    assert_eq!(new_of_100(&tidegate).await, 0);
    let (shares, said) = shares(&tidegate).await;
    assert_eq!(shares.into_iter().collect::<Vec<_>>(), [("a-00001".to_owned(), 100)]);
    assert!(said.contains("RolloutTakenBack: a-00002 has none of 100 %"), "{said}");
    let canary = canary(&tidegate).await;
    assert_eq!(canary["state"], "taken_back");
    assert_eq!(canary["reason"], "errors", "{canary}");
    assert!(canary["seen"][1]["errors"].as_u64().unwrap() > 0, "{canary}");
    let page = get(tidegate.admin, "localhost", "/metrics").await.text().to_owned();
    for line in [
        "tidegate_rollout_taken_back_total{namespace=\"default\",service=\"a\"} 1",
        "tidegate_rollout_share{namespace=\"default\",service=\"a\",revision=\"a-00002\"} 0",
    ] {
        assert!(page.contains(line), "{line}\n{page}");
    }
    tidegate.write(&tried(&saying("new")));
    tidegate.logged("canary: a-00003 is through, and has all").await;
    let outcomes = load.stop().await;
    let failed: u32 =
        outcomes.iter().filter(|(word, _)| !word.starts_with("Hello")).map(|(_, n)| n).sum();
    assert!(
        failed > 0
            && outcomes.keys().all(|word| word.starts_with("Hello") || word.starts_with("500")),
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn calls_that_fail_are_errors_though_their_status_is_200() {
    let tidegate = Tidegate::serve(&tried(&saying("old").h2c()));
    let mut connection = h2(tidegate.address()).await;
    let mut ask = async move || {
        let call = call(&host("a"), "/tidegate.Echo/Unary").body(full(message(b"hi")));
        send2(&mut connection, call.unwrap()).await.status
    };
    assert_eq!(ask().await, 200);
    let calls = tokio::spawn(async move {
        loop {
            assert_eq!(ask().await, 200);
        }
    });
    tidegate.write(&tried(&saying("new").h2c().env("FAIL_PERCENT", "20")));
    tidegate.logged("canary: a-00002 is taken back").await;
    let canary = canary(&tidegate).await;
    assert_eq!(canary["reason"], "errors", "{canary}");
    tidegate.write(&tried(&saying("new").h2c()));
    tidegate.logged("canary: a-00003 is through, and has all").await;
    calls.abort();
    assert!(calls.await.unwrap_err().is_cancelled(), "a call was not answered");
}

#[tokio::test]
async fn a_revision_that_cannot_start_is_taken_back() {
    let tidegate = Tidegate::serve(&tried(&saying("old")));
    assert_eq!(get(tidegate.address(), &host("a"), "/").await.status, 200);
    let broken = Service::new("a")
        .command(r#"["false"]"#)
        .annotation("autoscaling.knative.dev/initial-scale", "1");
    tidegate.write(&tried(&broken));
    tidegate.logged("canary: a-00002 is taken back: its replicas cannot be started").await;
    assert_eq!(new_of_100(&tidegate).await, 0);
}
