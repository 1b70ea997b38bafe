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
