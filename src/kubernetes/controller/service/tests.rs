use expect_test::{Expect, expect};

use super::*;

fn service() -> Value {
    json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Service",
        "metadata": {
            "namespace": "ns", "name": "hello", "uid": "s-uid", "generation": 2,
            "labels": {"team": "x"},
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
                "serving.knative.dev/creator": "me",
                "serving.knative.dev/rollout-duration": "30s",
            },
        },
        "spec": {
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"newField": [1]}},
            "traffic": [
                {"latestRevision": true, "percent": 90},
                {"revisionName": "hello-00001", "percent": 10, "tag": "old"},
            ],
        },
    })
}

fn check(value: &Value, expected: &Expect) {
    expected.assert_eq(&serde_json::to_string_pretty(value).unwrap());
}

#[test]
fn the_configuration_has_the_template() {
    let live = json!({"metadata": {"annotations": {"serving.knative.dev/routes": "zoo"}}});
    check(
        &configuration(&service(), Some(&live)),
        &expect![[r#"
            {
              "apiVersion": "serving.knative.dev/v1",
              "kind": "Configuration",
              "metadata": {
                "namespace": "ns",
                "name": "hello",
                "labels": {
                  "team": "x",
                  "serving.knative.dev/service": "hello",
                  "serving.knative.dev/serviceUID": "s-uid"
                },
                "annotations": {
                  "serving.knative.dev/creator": "me",
                  "serving.knative.dev/routes": "hello,zoo"
                },
                "ownerReferences": [
                  {
                    "apiVersion": "serving.knative.dev/v1",
                    "kind": "Service",
                    "name": "hello",
                    "uid": "s-uid",
                    "controller": true,
                    "blockOwnerDeletion": true
                  }
                ]
              },
              "spec": {
                "template": {
                  "metadata": {
                    "labels": {
                      "a": "b"
                    }
                  },
                  "spec": {
                    "newField": [
                      1
                    ]
                  }
                }
              }
            }"#]],
    );
}

#[test]
fn the_route_leads_to_the_configuration() {
    let route = route(&service());
    check(
        &route["metadata"]["annotations"],
        &expect![[r#"
            {
              "serving.knative.dev/creator": "me",
              "serving.knative.dev/rollout-duration": "30s"
            }"#]],
    );
    check(
        &route["metadata"]["labels"],
        &expect![[r#"
            {
              "team": "x",
              "serving.knative.dev/service": "hello"
            }"#]],
    );
    check(
        &route["spec"],
        &expect![[r#"
            {
              "traffic": [
                {
                  "latestRevision": true,
                  "percent": 90,
                  "configurationName": "hello"
                },
                {
                  "revisionName": "hello-00001",
                  "percent": 10,
                  "tag": "old"
                }
              ]
            }"#]],
    );
}

/// An object of a generation, with `Ready` as given and more in its status.
fn observed(generation: i64, ready: &Value, more: &Value) -> Value {
    let mut object = json!({
        "metadata": {"name": "hello", "generation": 2},
        "status": {"observedGeneration": generation, "conditions": [ready]},
    });
    for (key, value) in more.as_object().unwrap() {
        object["status"][key] = value.clone();
    }
    object
}

fn ready(status: &str, reason: &str) -> Value {
    json!({"type": "Ready", "status": status, "reason": reason, "message": format!("{reason}!")})
}

fn shown(status: &ServiceStatus) -> String {
    let all = [CONFIGURATIONS_READY, "Ready", ROUTES_READY].map(|kind| {
        let condition = status.conditions.get(kind).unwrap();
        format!("{kind}={:?} {} {}", condition.status, condition.reason, condition.message)
    });
    all.map(|line| line.trim_end().to_owned()).join("\n")
}

#[test]
fn the_status_is_what_both_say() {
    let now = Timestamp::from_second(0).unwrap();
    let none = json!({});
    let names = json!({
        "latestCreatedRevisionName": "hello-00002", "latestReadyRevisionName": "hello-00002",
    });
    let traffic = json!([
        {"latestRevision": true, "percent": 90, "revisionName": "hello-00002"},
        {"revisionName": "hello-00001", "percent": 10, "tag": "old", "url": "u"},
    ]);
    let routed = json!({"url": "http://hello", "address": {"url": "l"}, "traffic": traffic});
    let mut route = route(&service());
    let mut with = |status: Value| {
        route["metadata"]["generation"] = json!(2);
        route["status"] = status["status"].clone();
        route.clone()
    };
    for (configuration, route, expected) in [
        (
            observed(2, &ready("True", ""), &names),
            with(observed(2, &ready("True", ""), &routed)),
            expect![[r"
                ConfigurationsReady=True
                Ready=True
                RoutesReady=True"]],
        ),
        (
            observed(1, &ready("True", ""), &names),
            with(observed(2, &ready("Unknown", "Wait"), &none)),
            expect![[r"
                ConfigurationsReady=Unknown OutOfDate The Configuration is still working to reflect the latest desired specification.
                Ready=Unknown Wait Wait!
                RoutesReady=Unknown Wait Wait!"]],
        ),
        (
            observed(2, &ready("False", "RevisionFailed"), &names),
            with(observed(1, &ready("True", ""), &routed)),
            expect![[r"
                ConfigurationsReady=False RevisionFailed RevisionFailed!
                Ready=False RevisionFailed RevisionFailed!
                RoutesReady=Unknown OutOfDate The Route is still working to reflect the latest desired specification."]],
        ),
        (
            observed(2, &ready("True", ""), &json!({"latestReadyRevisionName": "hello-00003"})),
            with(observed(2, &ready("True", ""), &routed)),
            expect![[r"
                ConfigurationsReady=True
                Ready=Unknown TrafficNotMigrated Traffic is not yet migrated to the latest revision.
                RoutesReady=Unknown TrafficNotMigrated Traffic is not yet migrated to the latest revision."]],
        ),
    ] {
        let mut status = ServiceStatus::of(&service(), now);
        status.take_configuration(&configuration);
        status.take_route(&route);
        status.check_migrated(&configuration, &route);
        expected.assert_eq(&shown(&status));
    }
}

#[test]
fn fields_are_copied_and_taken_away() {
    let mut service = service();
    service["status"] = json!({"url": "old", "latestReadyRevisionName": "old", "other": 1});
    let mut status = ServiceStatus::of(&service, Timestamp::from_second(0).unwrap());
    status.take_configuration(&observed(2, &ready("True", ""), &json!({})));
    status.take_route(&observed(2, &ready("True", ""), &json!({"url": "new"})));
    let mut value = status.value(&service);
    value.as_object_mut().unwrap().remove("conditions");
    assert_eq!(value, json!({"url": "new", "other": 1, "observedGeneration": 2}));
}

#[test]
fn a_given_revision_name_is_free_or_ours() {
    let configuration = json!({
        "metadata": {"uid": "c", "generation": 3},
        "spec": {"template": {"metadata": {"name": "hello-one"}, "spec": {"a": 1, "b": null}}},
    });
    let revision = |owner: &str, generation: &str, spec: Value| {
        json!({
            "metadata": {
                "labels": {"serving.knative.dev/configurationGeneration": generation},
                "ownerReferences": [{"uid": owner, "controller": true}],
            },
            "spec": spec,
        })
    };
    for (revision, expected) in [
        (revision("c", "3", json!({})), true),
        (revision("c", "2", json!({"a": 1})), true),
        (revision("c", "2", json!({"a": 2})), false),
        (revision("other", "3", json!({"a": 1})), false),
    ] {
        assert_eq!(is_of(&revision, &configuration), expected, "{revision}");
    }
}
