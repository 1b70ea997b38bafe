//! New revisions that depend on other services.

use super::*;

/// A revision that depends on what is listed, the newest of `hello` and ready.
fn depending(mut stage: Stage, name: &str, needed: &str) -> Stage {
    stage = stage.revision_of("hello", name, "True").configured("hello", name, name, "True");
    let annotations = json!({"tidegate.dev/depends-on": needed});
    stage.revisions.get_mut(name).unwrap()["metadata"]["annotations"] = annotations;
    stage
}

/// Another Service's Route, which leads to that revision.
fn other(mut stage: Stage, name: &str, ready: &str, revision: &str) -> Stage {
    let mut status = status(ready);
    status["traffic"] = json!([{"revisionName": revision, "percent": 100}]);
    let metadata = json!({"namespace": "ns", "name": name, "generation": 1});
    let spec = json!({"traffic": [{"configurationName": name, "percent": 100}]});
    let route = json!({"metadata": metadata, "spec": spec, "status": status});
    stage.routes.insert(name.to_owned(), route);
    stage
}

/// Traffic, and why not all of it is assigned.
fn state(route: &Value) -> (Vec<String>, String) {
    let traffic = route["status"].list("/traffic").iter();
    let traffic = traffic.map(|entry| entry.text("/revisionName").to_owned()).collect();
    let conditions = route["status"].list("/conditions").iter();
    let assigned = conditions.filter(|one| one.text("/type") == "AllTrafficAssigned");
    let why = assigned.map(|one| format!("{} {}", one.text("/status"), one.text("/message")));
    (traffic, why.collect())
}

#[track_caller]
fn check(stage: &Stage, route: &mut Value, revision: &str, why: &str) {
    stage.pass(route);
    assert_eq!(state(route), (vec![revision.to_owned()], why.to_owned()));
}

#[test]
fn new_traffic_waits_for_what_it_depends_on() {
    let mut route = route(&latest());
    let stage = depending(Stage::new(), "hello-1", "db, cache=cache-2, adopted");
    check(&stage, &mut route, "hello-1", "True ");
    let stage = depending(stage, "hello-2", "db, cache=cache-2, adopted");
    let text = "Unknown hello-2 gets traffic once what it depends on is ready: ";
    let missing = format!("{text}ns/db, which is not there; ns/cache=cache-2, which is not there.");
    check(&stage, &mut route, "hello-1", &missing);
    let stage = other(other(stage, "db", "Unknown", "db-1"), "cache", "True", "cache-1");
    let waiting =
        format!("{text}ns/db, which is not ready; ns/cache=cache-2, to which no traffic leads.");
    check(&stage, &mut route, "hello-1", &waiting);
    let stage = other(other(stage, "db", "True", "db-1"), "cache", "True", "cache-2");
    check(&stage, &mut route, "hello-2", "True ");
    // What has traffic keeps it, whatever becomes of the others.
    let stage = other(stage, "db", "False", "db-1");
    check(&stage, &mut route, "hello-2", "True ");
}

#[test]
fn what_needs_itself_does_not_wait_for_ever() {
    let mut route = route(&latest());
    let stage = depending(Stage::new(), "hello-1", "");
    stage.pass(&mut route);
    let mut stage = other(depending(stage, "hello-2", "db"), "db", "Unknown", "db-1");
    let mut db = stage.revisions["hello-1"].clone();
    db["metadata"]["annotations"] = json!({"tidegate.dev/depends-on": "hello"});
    stage.revisions.insert("db-1".to_owned(), db);
    check(&stage, &mut route, "hello-2", "True ");
}

#[test]
fn what_moves_goes_on_while_the_next_one_waits() {
    let mut route = route(&latest());
    route["metadata"]["annotations"] = json!({"serving.knative.dev/rollout-duration": "100s"});
    let mut stage = depending(Stage::new(), "hello-1", "");
    stage.pass(&mut route);
    stage.pass(&mut route);
    stage = depending(stage, "hello-2", "");
    let mut text = String::new();
    let mut look = |stage: &mut Stage, seconds: i64, route: &mut Value| {
        stage.seconds += seconds;
        let next = stage.pass(route).and_then(|leads| leads.next);
        let (_, why) = state(route);
        let conditions = route["status"].list("/conditions").iter();
        let mut ingress = conditions.filter(|one| one.text("/type") == "IngressReady");
        let ingress = ingress.next().map_or("", |one| one.text("/status"));
        let shares = route["status"].list("/traffic").iter();
        let shares: Vec<String> =
            shares.map(|t| format!("{}={}", t.text("/revisionName"), t["percent"])).collect();
        let _ = writeln!(text, "{} {next:?} {ingress} {why}", shares.join(" "));
    };
    look(&mut stage, 0, &mut route);
    look(&mut stage, 1, &mut route);
    stage = depending(stage, "hello-3", "db");
    for seconds in [0, 40, 40] {
        look(&mut stage, seconds, &mut route);
    }
    for _ in 0..100 {
        stage.seconds += 1;
        stage.pass(&mut route);
    }
    look(&mut stage, 1, &mut route);
    stage = other(stage, "db", "True", "db-1");
    look(&mut stage, 0, &mut route);
    expect![[r#"
        hello-1=99 hello-2=1 None Unknown True 
        hello-1=99 hello-2=1 Some(1s) Unknown True 
        hello-1=99 hello-2=1 Some(1s) Unknown Unknown hello-3 gets traffic once what it depends on is ready: ns/db, which is not there.
        hello-1=98 hello-2=2 Some(1s) Unknown Unknown hello-3 gets traffic once what it depends on is ready: ns/db, which is not there.
        hello-1=97 hello-2=3 Some(1s) Unknown Unknown hello-3 gets traffic once what it depends on is ready: ns/db, which is not there.
        hello-2=100 None True Unknown hello-3 gets traffic once what it depends on is ready: ns/db, which is not there.
        hello-2=99 hello-3=1 None Unknown True 
    "#]].assert_eq(&text);
}

#[test]
fn a_change_of_the_traffic_itself_stays_out_while_it_waits() {
    let mut route = route(&latest());
    route["metadata"]["annotations"] = json!({"serving.knative.dev/rollout-duration": "100s"});
    let stage = depending(Stage::new(), "hello-1", "");
    stage.pass(&mut route);
    let stage = depending(stage, "hello-2", "");
    stage.pass(&mut route);
    stage.pass(&mut route);
    let stage = depending(stage, "hello-3", "db");
    let before = route["status"]["traffic"].clone();
    route["spec"]["traffic"] = json!([
        {"configurationName": "hello", "latestRevision": true, "percent": 50},
        {"revisionName": "hello-1", "percent": 50},
    ]);
    assert!(stage.plan(&route).leads.is_none());
    stage.pass(&mut route);
    assert_eq!(route["status"]["traffic"], before);
}
