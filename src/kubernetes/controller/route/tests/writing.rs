//! What is written: notes on what is led to, and the Services (core) of names.

use std::sync::Arc;

use super::super::super::testing::Server;
use super::*;

#[test]
fn notes_on_what_is_led_to() {
    let stage = two()
        .revision_of("hello", "hello-3", "")
        .configured("hello", "hello-3", "hello-2", "Unknown");
    let mut led = route(&latest());
    stage.pass(&mut led);
    let reached = reached(&led, &led["status"], &stage);
    let names = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(" ");
    // The next revision too: it gets ready only once it is led to.
    assert_eq!(names(&reached.revisions), "hello-2 hello-3");
    assert_eq!(names(&reached.configurations), "hello");
    assert!(!reached.is_behind && !is_settled(&led, &led["status"]));
    stage.pass(&mut led);
    assert!(is_settled(&led, &led["status"]));
    led["metadata"]["generation"] = json!(2);
    assert!(!is_settled(&led, &led["status"]));
    let mut stage = stage;
    if let Some(hello) = stage.configurations.get_mut("hello") {
        hello["metadata"]["generation"] = json!(2);
    }
    let reached = labels::reached(&led, &led["status"], &stage);
    assert!(reached.is_behind, "it may have another revision by now");
    let named =
        route(&json!([{"revisionName": "hello-1", "latestRevision": false, "percent": 100}]));
    let reached = labels::reached(&named, &json!({}), &stage);
    assert_eq!(names(&reached.revisions), "hello-1");
    assert_eq!(names(&reached.configurations), "hello");
}

#[test]
fn a_note_is_written_where_it_is_not_yet() {
    let (routes, state) = ("serving.knative.dev/routes", "serving.knative.dev/routingState");
    let object = |list: &str, routing: &str| json!({"metadata": {"annotations": {routes: list}, "labels": {state: routing}}});
    let noted = |object: &Value, is_reached: bool, is_revision: bool| {
        let patch = note(object, "hello", is_reached, is_revision, Timestamp::UNIX_EPOCH);
        patch.map_or_else(String::new, |patch| patch.to_string())
    };
    let table = [
        (object("", "pending"), true, true),
        (object("hello", "active"), true, true),
        (object("a,z", "active"), true, true),
        (object("hello", "active"), false, true),
        (object("a,hello", "active"), false, true),
        (object("", "reserve"), false, true),
        (json!({"metadata": {}}), true, false),
        (object("hello", ""), false, false),
    ];
    let table: Vec<String> = table
        .iter()
        .map(|(object, is_reached, is_revision)| noted(object, *is_reached, *is_revision))
        .collect();
    expect![[r#"
        {"labels":{"serving.knative.dev/routingState":"active"},"annotations":{"serving.knative.dev/routes":"hello","serving.knative.dev/routingStateModified":"1970-01-01T00:00:00Z"}}

        {"annotations":{"serving.knative.dev/routes":"a,hello,z"}}
        {"labels":{"serving.knative.dev/routingState":"reserve"},"annotations":{"serving.knative.dev/routes":null,"serving.knative.dev/routingStateModified":"1970-01-01T00:00:00Z"}}
        {"annotations":{"serving.knative.dev/routes":"a"}}

        {"annotations":{"serving.knative.dev/routes":"hello"}}
        {"annotations":{"serving.knative.dev/routes":null}}"#]].assert_eq(&table.join("\n"));
}

/// A name that somebody else has is left alone.
#[tokio::test]
async fn a_foreign_service_is_not_taken() {
    let mut led = route(&latest());
    let leads = two().pass(&mut led).unwrap();
    let foreign = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "ns", "name": "hello", "uid": "x"}, "spec": {},
    });
    let (client, server) = Server::start(move |_| (200, foreign.clone()));
    let (cluster, _events) = Cluster::new(client, Timestamp::now, Arc::default());
    let done = put_services(&cluster, &led, &leads, &[]).await;
    assert!(matches!(done, Err(Trouble::NotOwned(name)) if name == "hello"));
    assert_eq!(server.calls(), ["GET /api/v1/namespaces/ns/services/hello"]);
    let status = two().plan(&led).status(Some("hello"));
    let mut conditions = status.list("/conditions").iter();
    let ingress = conditions.find(|c| c.text("/type") == "IngressReady").unwrap();
    assert_eq!((ingress.text("/status"), ingress.text("/reason")), ("False", "NotOwned"));
    assert_eq!(
        ingress.text("/message"),
        "There is an existing placeholder Service \"hello\" that we do not own."
    );
}

#[tokio::test]
async fn services_are_made_and_kept() {
    let mut led = route(&latest());
    let leads = two().pass(&mut led).unwrap();
    let made = leads.services[0].clone();
    let (client, server) = Server::start(move |call| {
        if call.line.starts_with("GET") {
            (404, json!({"kind": "Status", "reason": "NotFound", "code": 404}))
        } else {
            (200, made.clone())
        }
    });
    let (cluster, _events) = Cluster::new(client, Timestamp::now, Arc::default());
    assert!(put_services(&cluster, &led, &leads, &[]).await.is_ok());
    let patch = "PATCH /api/v1/namespaces/ns/services/hello?&force=true&fieldManager=";
    let patch = format!("{patch}tidegate-controller");
    assert_eq!(server.calls(), ["GET /api/v1/namespaces/ns/services/hello", &patch]);
    assert!(put_services(&cluster, &led, &leads, &leads.services).await.is_ok());
    assert_eq!(server.calls(), [""; 0], "what is there is not written again");
    note_rollout(&cluster, &led, &leads).await.unwrap();
    assert_eq!(server.calls(), [""; 0]);
}
