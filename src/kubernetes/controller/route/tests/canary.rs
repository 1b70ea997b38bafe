//! New revisions that are tried: what is noted, said and shown.

use std::time::Duration;

use parking_lot::Mutex;

use super::super::canaries::{news, taken_back};
use super::*;
use crate::model::{Evidence, Tally};

/// Requests of each revision in the step, and how many of the new one's failed.
type Counts = Arc<Mutex<(u64, u64)>>;

/// A stage on which `hello-1` has all, and is followed by another one.
fn stage(counts: &Counts) -> (Stage, Value) {
    let stage = two().configured("hello", "hello-1", "hello-1", "True");
    let counts = Arc::clone(counts);
    stage.trials.begin(Box::new(move |old, new, _| {
        assert_eq!((&*old.name, &*new.name), ("hello-1", "hello-2"));
        let (requests, errors) = *counts.lock();
        let tally = |errors| Tally { requests, errors, ..Tally::default() };
        Some(Evidence { over: Duration::from_secs(60), old: tally(0), new: tally(errors) })
    }));
    let mut route = route(&latest());
    route["metadata"]["annotations"] = json!({"tidegate.dev/rollout": "canary"});
    stage.pass(&mut route);
    stage.pass(&mut route);
    (stage.configured("hello", "hello-2", "hello-2", "True"), route)
}

/// What a look comes to: traffic, `Ready`, when the next one is, and events.
fn look(stage: &Stage, route: &mut Value) -> String {
    let before = route.clone();
    let leads = stage.pass(route);
    let next = leads.as_ref().and_then(|leads| leads.next);
    let told = news(&before, leads.as_ref().and_then(|leads| leads.rollout.as_ref()));
    let traffic = route["status"].list("/traffic").iter();
    let traffic: Vec<String> =
        traffic.map(|t| format!("{}={}", t.text("/revisionName"), t["percent"])).collect();
    let mut text = format!("{} {} {next:?}\n", traffic.join(" "), ready_of(route));
    for (_, reason, message) in told {
        let _ = writeln!(text, "  {reason}: {message}");
    }
    text
}

/// What looks come to, one after another, each with what was counted by then.
fn looks(stage: &Stage, route: &mut Value, counts: &Counts, seen: &[(u64, u64)], log: &mut String) {
    for counted in seen {
        *counts.lock() = *counted;
        log.push_str(&look(stage, route));
    }
}

#[test]
fn a_good_one_gets_through() {
    let counts = Counts::default();
    let (stage, mut route) = stage(&counts);
    let mut log = look(&stage, &mut route);
    let seen = [50, 100, 10, 100, 100, 100].map(|requests| (requests, 0));
    looks(&stage, &mut route, &counts, &seen, &mut log);
    expect![[r#"
        hello-1=95 hello-2=5 Unknown Some(1s)
          CanaryBegun: hello-2 is tried with 5 of 100 % beside hello-1
        hello-1=95 hello-2=5 Unknown Some(1s)
        hello-1=75 hello-2=25 Unknown Some(1s)
          CanaryStep: hello-2 gets 25 of 100 %, for no harm was seen: hello-2: 0 of 100 requests failed (0 %), median 0.0 ms, 95 % within 0.0 ms; hello-1: 0 of 100 requests failed (0 %), median 0.0 ms, 95 % within 0.0 ms
        hello-1=75 hello-2=25 Unknown Some(1s)
        hello-1=50 hello-2=50 Unknown Some(1s)
          CanaryStep: hello-2 gets 50 of 100 %, for no harm was seen: hello-2: 0 of 100 requests failed (0 %), median 0.0 ms, 95 % within 0.0 ms; hello-1: 0 of 100 requests failed (0 %), median 0.0 ms, 95 % within 0.0 ms
        hello-2=100 Unknown None
          CanaryPassed: hello-2 has all of the traffic: no harm was seen
        hello-2=100 True None
    "#]].assert_eq(&log);
    assert_eq!(taken_back(&route), None);
}

#[test]
fn one_that_waits_keeps_no_bad_one_in_traffic() {
    let counts = Counts::default();
    let (stage, mut route) = stage(&counts);
    let mut log = look(&stage, &mut route);
    let mut stage = stage
        .revision_of("hello", "hello-3", "True")
        .configured("hello", "hello-3", "hello-3", "True");
    let needs = json!({"tidegate.dev/depends-on": "db"});
    stage.revisions.get_mut("hello-3").unwrap()["metadata"]["annotations"] = needs;
    let seen = [(3, 0), (40, 20), (400, 0)];
    looks(&stage, &mut route, &counts, &seen, &mut log);
    expect![[r#"
        hello-1=95 hello-2=5 Unknown Some(1s)
          CanaryBegun: hello-2 is tried with 5 of 100 % beside hello-1
        hello-1=95 hello-2=5 Unknown Some(1s)
        hello-1=100 Unknown None
          CanaryTakenBack: hello-2 is taken back: 20 of 40 requests failed (50 %), of hello-1 0 of 40 (0 %): more than 1 point above
        hello-1=100 Unknown None
    "#]].assert_eq(&log);
}

#[test]
fn a_bad_one_is_taken_back() {
    let counts = Counts::default();
    let (stage, mut route) = stage(&counts);
    let mut log = look(&stage, &mut route);
    let seen = [(3, 0), (40, 20), (400, 0), (400, 0)];
    looks(&stage, &mut route, &counts, &seen, &mut log);
    expect![[r#"
        hello-1=95 hello-2=5 Unknown Some(1s)
          CanaryBegun: hello-2 is tried with 5 of 100 % beside hello-1
        hello-1=95 hello-2=5 Unknown Some(1s)
        hello-1=100 Unknown None
          CanaryTakenBack: hello-2 is taken back: 20 of 40 requests failed (50 %), of hello-1 0 of 40 (0 %): more than 1 point above
        hello-1=100 True None
        hello-1=100 True None
    "#]].assert_eq(&log);
    expect!["RolloutTakenBack: hello-2 has none of 100 %, hello-1 has all: 20 of 40 requests failed (50 %), of hello-1 0 of 40 (0 %): more than 1 point above"].assert_eq(&taken_back(&route).unwrap_or_default());
    // Without the annotation it is as without a canary.
    route["metadata"]["annotations"].as_object_mut().unwrap().remove("tidegate.dev/rollout");
    assert_eq!(taken_back(&route), None);
    assert!(look(&stage, &mut route).starts_with("hello-2=100 "));
}

#[test]
fn one_that_fails_is_taken_back() {
    let (stage, mut route) = stage(&Counts::default());
    let mut log = look(&stage, &mut route);
    let stage = stage.revision_of("hello", "hello-2", "False");
    log.push_str(&look(&stage, &mut route));
    log.push_str(&look(&stage, &mut route));
    expect![[r#"
        hello-1=95 hello-2=5 Unknown Some(1s)
          CanaryBegun: hello-2 is tried with 5 of 100 % beside hello-1
        hello-1=100 Unknown None
          CanaryTakenBack: hello-2 is taken back: its replicas cannot be started
        hello-1=100 True None
    "#]]
    .assert_eq(&log);
}
