use expect_test::expect;

use super::*;

fn configuration() -> Value {
    json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Configuration",
        "metadata": {
            "namespace": "ns", "name": "hello", "uid": "c-uid", "generation": 3,
            "labels": {
                "team": "x", "serving.knative.dev/service": "hello",
                "serving.knative.dev/serviceUID": "s-uid",
            },
            "annotations": {
                "serving.knative.dev/routes": "hello", "serving.knative.dev/lastModifier": "me",
            },
        },
        "spec": {"template": {
            "metadata": {
                "creationTimestamp": null, "labels": {"a": "b"},
                "annotations": {"autoscaling.knative.dev/min-scale": "1"},
            },
            "spec": {"containers": [{"image": "i"}], "newField": 1},
        }},
    })
}

#[test]
fn a_revision_is_the_template_of_a_moment() {
    let made = revision(&configuration(), Timestamp::from_second(1_700_000_000).unwrap());
    expect![[r#"
        {
          "apiVersion": "serving.knative.dev/v1",
          "kind": "Revision",
          "metadata": {
            "namespace": "ns",
            "name": "hello-00003",
            "labels": {
              "a": "b",
              "serving.knative.dev/routingState": "active",
              "serving.knative.dev/configuration": "hello",
              "serving.knative.dev/service": "hello",
              "serving.knative.dev/configurationGeneration": "3",
              "serving.knative.dev/configurationUID": "c-uid",
              "serving.knative.dev/serviceUID": "s-uid"
            },
            "annotations": {
              "autoscaling.knative.dev/min-scale": "1",
              "serving.knative.dev/routingStateModified": "2023-11-14T22:13:20Z",
              "serving.knative.dev/creator": "me",
              "serving.knative.dev/routes": "hello"
            },
            "ownerReferences": [
              {
                "apiVersion": "serving.knative.dev/v1",
                "kind": "Configuration",
                "name": "hello",
                "uid": "c-uid",
                "controller": true,
                "blockOwnerDeletion": true
              }
            ]
          },
          "spec": {
            "containers": [
              {
                "image": "i"
              }
            ],
            "newField": 1
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&made).unwrap());
    let mut named = configuration();
    named["spec"]["template"]["metadata"]["name"] = json!("hello-mine");
    named["metadata"]["annotations"] = json!({});
    let made = revision(&named, Timestamp::from_second(0).unwrap());
    assert_eq!(made.text("/metadata/name"), "hello-mine");
    assert_eq!(made.label(ROUTING_STATE), "pending", "no Route leads here yet");
}

/// A revision of a generation, with `Ready` as given.
fn of(generation: i64, ready: &str) -> Value {
    json!({
        "metadata": {
            "name": format!("hello-{generation:05}"), "generation": 1,
            "labels": {"serving.knative.dev/configurationGeneration": generation.to_string()},
        },
        "status": {
            "observedGeneration": 1,
            "conditions": [{"type": "Ready", "status": ready, "reason": "Why", "message": "why"}],
        },
    })
}

/// What becomes of the status: names of the newest created and ready, `Ready`, events.
fn after(former: Value, all: &[Value]) -> String {
    let mut configuration = configuration();
    configuration["status"] = former;
    let mut status = ConfigurationStatus::of(&configuration, Timestamp::from_second(0).unwrap());
    status.take(&configuration, all.last().unwrap(), all);
    let events: Vec<&str> = status.events.iter().map(|(_, reason, _)| *reason).collect();
    let ready = status.conditions.top().unwrap();
    let ready = format!("{:?} {} {}", ready.status, ready.reason, ready.message);
    let field = |key: &str| status.fields.get(key).and_then(Value::as_str).unwrap_or("-");
    let (created, last) = (field("latestCreatedRevisionName"), field("latestReadyRevisionName"));
    format!("{created} {last} | {} | {}", ready.trim_end(), events.join(" "))
}

#[test]
fn the_status_follows_the_revisions() {
    let ready = |name: &str| json!({"latestReadyRevisionName": name});
    for (former, all, expected) in [
        (json!({}), vec![of(3, "Unknown")], expect!["hello-00003 - | Unknown | "]),
        (
            json!({}),
            vec![of(3, "True")],
            expect!["hello-00003 hello-00003 | True | ConfigurationReady LatestReadyUpdate"],
        ),
        (
            ready("hello-00002"),
            vec![of(2, "True"), of(3, "Unknown")],
            expect!["hello-00003 hello-00002 | Unknown | "],
        ),
        (
            ready("hello-00002"),
            vec![of(2, "True"), of(3, "False")],
            expect![[
                r#"hello-00003 hello-00002 | False RevisionFailed Revision "hello-00003" failed with message: why. | LatestCreatedFailed"#
            ]],
        ),
        // The one in between was ready, and is newer than what was noted.
        (
            ready("hello-00001"),
            vec![of(1, "True"), of(2, "True"), of(3, "Unknown")],
            expect!["hello-00003 hello-00002 | Unknown | LatestReadyUpdate"],
        ),
        // What was noted is gone: the newest that is ready, however old.
        (
            ready("hello-00002"),
            vec![of(1, "True"), of(3, "Unknown")],
            expect!["hello-00003 hello-00001 | Unknown | LatestReadyUpdate"],
        ),
        // Older ones do not come back while the noted one exists.
        (
            ready("hello-00003"),
            vec![of(2, "True"), of(3, "False")],
            expect![[
                r#"hello-00003 hello-00003 | False RevisionFailed Revision "hello-00003" failed with message: why. | LatestReadyFailed"#
            ]],
        ),
    ] {
        expected.assert_eq(&after(former, &all));
    }
}

#[test]
fn a_given_name_comes_before_newer_ones() {
    let mut configuration = configuration();
    configuration["spec"]["template"]["metadata"]["name"] = json!("hello-00001");
    let all = [of(1, "True"), of(2, "True"), of(3, "Unknown")];
    let found = candidates(&configuration, "hello-00002", &all[0], &all);
    let names: Vec<&str> = found.iter().map(|revision| revision.text("/metadata/name")).collect();
    assert_eq!(names, ["hello-00001", "hello-00003", "hello-00002"]);
}
