//! What the API server asks and what it gets, without a network.

use expect_test::{Expect, expect};
use serde_json::{Value as Json, json};

use super::*;
use crate::config::AdmissionContext;

/// An `AdmissionReview` as the API server of 1.36 sends it.
fn review(object: &Json, stored: Option<&Json>, more: &Json) -> Json {
    let of = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
    let (version, kind) = (of("apiVersion"), of("kind"));
    let (group, version) = version.split_once('/').unwrap_or(("", &version));
    let resource =
        json!({"group": group, "version": version, "resource": kind.to_lowercase() + "s"});
    let kind = json!({"group": group, "version": version, "kind": kind});
    let mut request = json!({
        "uid": "u-1", "kind": kind, "resource": resource, "requestKind": kind,
        "requestResource": resource, "name": object["metadata"]["name"].as_str().unwrap_or_default(), "namespace": "default",
        "operation": if stored.is_some() { "UPDATE" } else { "CREATE" },
        "userInfo": {"username": "anna", "groups": ["system:authenticated"]},
        "object": object, "oldObject": stored, "dryRun": false,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        request[key] = value.clone();
    }
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request})
}

fn asked(path: &str, object: &Json, stored: Option<&Json>, more: &Json) -> Json {
    let body = review(object, stored, more).to_string();
    let answer = answer(path, body.as_bytes(), &AdmissionContext::default()).unwrap();
    let answer: Json = serde_json::from_slice(&answer).unwrap();
    assert_eq!(
        (&answer["kind"], &answer["apiVersion"]),
        (&json!("AdmissionReview"), &json!("admission.k8s.io/v1"))
    );
    assert_eq!(answer["response"]["uid"], "u-1");
    answer["response"].clone()
}

fn service(name: &str, spec: &Json) -> Json {
    json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default", "creationTimestamp": null},
        "spec": {"template": {"metadata": {"creationTimestamp": null}, "spec": spec}},
    })
}

fn hello() -> Json {
    service("hello", &json!({"containers": [{"image": "example.com/hello"}]}))
}

/// The operations of a response's patch, one a line, and the object that they lead to.
fn patched(object: &Json, response: &Json) -> (String, Json) {
    assert_eq!(response["allowed"], true, "{response}");
    let bytes: Option<k8s_openapi::ByteString> =
        serde_json::from_value(response["patch"].clone()).unwrap();
    let operations: Vec<Json> =
        bytes.map_or_else(Vec::new, |bytes| serde_json::from_slice(&bytes.0).unwrap());
    assert_eq!(response["patchType"].is_null(), operations.is_empty());
    let mut result = object.clone();
    let patch: json_patch::Patch = serde_json::from_value(json!(operations)).unwrap();
    json_patch::patch(&mut result, &patch).unwrap();
    let line = |o: &Json| {
        format!("{} {} {}\n", o["op"].as_str().unwrap(), o["path"].as_str().unwrap(), o["value"])
    };
    (operations.iter().map(line).collect(), result)
}

fn check_patch(object: &Json, stored: Option<&Json>, more: &Json, expected: &Expect) -> Json {
    let (operations, result) = patched(object, &asked(DEFAULTING, object, stored, more));
    expected.assert_eq(&operations);
    // Asked again, there is nothing more to say.
    let (again, _) = patched(&result, &asked(DEFAULTING, &result, Some(&result), &json!({})));
    assert_eq!(again, "");
    result
}

#[test]
fn a_service_is_filled_in_and_signed() {
    let result = check_patch(
        &hello(),
        None,
        &json!({}),
        &expect![[r#"
        add /metadata/annotations {"serving.knative.dev/creator":"anna","serving.knative.dev/lastModifier":"anna"}
        add /spec/template/spec/containers/0/name "user-container"
        add /spec/template/spec/containers/0/resources {}
        add /spec/template/spec/containers/0/readinessProbe {"tcpSocket":{"port":0},"successThreshold":1}
        add /spec/template/spec/timeoutSeconds 300
        add /spec/template/spec/containerConcurrency 0
        add /spec/template/spec/enableServiceLinks false
        add /spec/traffic [{"latestRevision":true,"percent":100}]
    "#]],
    );
    assert_eq!(asked(VALIDATION, &result, None, &json!({}))["allowed"], true);
    // What changes the spec is signed by who changed it, what does not is not.
    let bob = json!({"userInfo": {"username": "bob"}});
    let mut changed = result.clone();
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "example.com/hello:2".into();
    check_patch(
        &changed,
        Some(&result),
        &bob,
        &expect![[r#"
        replace /metadata/annotations/serving.knative.dev~1lastModifier "bob"
    "#]],
    );
    let mut labelled = result.clone();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    check_patch(&labelled, Some(&result), &bob, &expect![[r#""#]]);
}

#[test]
fn nobody_signs_for_somebody_else() {
    let mut forged = hello();
    forged["metadata"]["annotations"] =
        json!({"serving.knative.dev/creator": "root", "mine": "kept"});
    let result = check_patch(
        &forged,
        None,
        &json!({}),
        &expect![[r#"
        replace /metadata/annotations/serving.knative.dev~1creator "anna"
        add /metadata/annotations/serving.knative.dev~1lastModifier "anna"
        add /spec/template/spec/containers/0/name "user-container"
        add /spec/template/spec/containers/0/resources {}
        add /spec/template/spec/containers/0/readinessProbe {"tcpSocket":{"port":0},"successThreshold":1}
        add /spec/template/spec/timeoutSeconds 300
        add /spec/template/spec/containerConcurrency 0
        add /spec/template/spec/enableServiceLinks false
        add /spec/traffic [{"latestRevision":true,"percent":100}]
    "#]],
    );
    let mut stolen = result.clone();
    stolen["metadata"]["annotations"]["serving.knative.dev/creator"] = "bob".into();
    let refused = asked(VALIDATION, &stolen, Some(&result), &json!({}));
    expect!["validation failed: annotation value is immutable: metadata.annotations.serving.knative.dev/creator"].assert_eq(refused["status"]["message"].as_str().unwrap());
}

#[test]
fn other_kinds_are_filled_in_as_knative_does() {
    let configuration = json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Configuration",
        "metadata": {"name": "hello", "namespace": "default"},
        "spec": hello()["spec"],
    });
    check_patch(
        &configuration,
        None,
        &json!({}),
        &expect![[r#"
        add /metadata/annotations {"serving.knative.dev/creator":"anna","serving.knative.dev/lastModifier":"anna"}
        add /spec/template/spec/containers/0/name "user-container"
        add /spec/template/spec/containers/0/resources {}
        add /spec/template/spec/containers/0/readinessProbe {"tcpSocket":{"port":0},"successThreshold":1}
        add /spec/template/spec/timeoutSeconds 300
        add /spec/template/spec/containerConcurrency 0
        add /spec/template/spec/enableServiceLinks false
    "#]],
    );
    let mut owned = configuration;
    owned["metadata"]["ownerReferences"] = json!([{"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "hello", "uid": "1"}]);
    check_patch(
        &owned,
        None,
        &json!({}),
        &expect![[r#"
        add /spec/template/spec/containers/0/name "user-container"
        add /spec/template/spec/containers/0/resources {}
        add /spec/template/spec/containers/0/readinessProbe {"tcpSocket":{"port":0},"successThreshold":1}
        add /spec/template/spec/timeoutSeconds 300
        add /spec/template/spec/containerConcurrency 0
        add /spec/template/spec/enableServiceLinks false
    "#]],
    );
    let route = json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Route",
        "metadata": {"name": "hello", "namespace": "default"},
        "spec": {"traffic": [{"configurationName": "hello", "percent": 100}]},
    });
    check_patch(
        &route,
        None,
        &json!({}),
        &expect![[r#"
        add /metadata/annotations {"serving.knative.dev/creator":"anna","serving.knative.dev/lastModifier":"anna"}
        add /spec/traffic/0/latestRevision true
    "#]],
    );
    let mapping = json!({
        "apiVersion": "serving.knative.dev/v1beta1", "kind": "DomainMapping",
        "metadata": {"name": "app.example.com", "namespace": "default"},
        "spec": {"ref": {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "hello"}},
    });
    check_patch(
        &mapping,
        None,
        &json!({}),
        &expect![[r#"
        add /metadata/annotations {"serving.knative.dev/creator":"anna","serving.knative.dev/lastModifier":"anna"}
        add /spec/ref/namespace "default"
    "#]],
    );
    let autoscaler = json!({
        "apiVersion": "autoscaling.knative.dev/v1alpha1", "kind": "PodAutoscaler",
        "metadata": {"name": "hello", "namespace": "default"},
        "spec": {"scaleTargetRef": {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "hello"}, "minScale": 1},
    });
    check_patch(&autoscaler, None, &json!({}), &expect![[r#""#]]);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}});
    check_patch(&secret, None, &json!({}), &expect![[r#""#]]);
}

#[test]
fn nothing_that_is_not_understood_is_taken_away() {
    let mut object = hello();
    object["spec"]["template"]["spec"]["timeoutSeconds"] = "300".into();
    object["spec"]["template"]["spec"]["ofTomorrow"] = json!({"a": 1});
    let response = asked(DEFAULTING, &object, None, &json!({}));
    let (operations, result) = patched(&object, &response);
    assert!(!operations.contains("remove"), "{operations}");
    assert_eq!(result["spec"]["template"]["spec"]["ofTomorrow"], json!({"a": 1}));
    let refused = asked(VALIDATION, &object, None, &json!({}));
    assert_eq!(refused["allowed"], false);
    expect![[r#"
        {
          "status": {
            "status": "Failure",
            "code": 400,
            "message": "validation failed: cannot read \"300\" as a whole number (64 bits): spec.template.spec.timeoutSeconds",
            "reason": "BadRequest"
          },
          "warnings": [
            "spec.template.spec.timeoutSeconds: write 300 without quotes",
            "spec.template.spec.ofTomorrow: unknown field \"ofTomorrow\"; remove it"
          ]
        }"#]].assert_eq(&format!(
        "{:#}",
        json!({"status": refused["status"], "warnings": refused["warnings"]})
    ));
}

#[test]
fn what_is_refused_is_refused_with_all_that_is_wrong() {
    let object = service(
        "Hello",
        &json!({"containerConcurrency": -1, "nodeSelector": {"a": "b"}, "containers": [{"image": "", "ports": [{"containerPort": 8012}]}]}),
    );
    let refused = asked(VALIDATION, &object, None, &json!({}));
    expect![[r#"
        {
          "allowed": false,
          "status": {
            "status": "Failure",
            "code": 400,
            "message": "validation failed: expected 0 <= -1 <= 1000: spec.template.spec.containerConcurrency\ninvalid value: 8012 is a reserved port: spec.template.spec.containers[0].ports.containerPort\n8012 is a reserved port, please use a different value\nmissing field(s): spec.template.spec.containers[0].image\nmust not set the field(s): spec.template.spec.nodeSelector\nnot a DNS 1035 label: [a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')]: metadata.name",
            "reason": "BadRequest"
          },
          "warnings": [
            "metadata.name: write hello",
            "spec.template.spec.nodeSelector: remove nodeSelector, or set kubernetes.podspec-nodeselector: \"enabled\" in the ConfigMap config-features",
            "spec.template.spec.containers[0].image: write image: and where it is, such as docker.io/example/app:1.0",
            "spec.template.spec.containers[0].ports.containerPort: write another port, such as 8080",
            "spec.template.spec.containerConcurrency: write a value from 0 to 1000"
          ]
        }"#]].assert_eq(&format!("{:#}", json!({"allowed": refused["allowed"], "status": refused["status"], "warnings": refused["warnings"]})));
}

#[test]
fn what_is_not_asked_about_passes() {
    let bad = service("Hello", &json!({"containers": []}));
    let allowed = |path: &str, object: &Json, stored: Option<&Json>, more: &Json| {
        let response = asked(path, object, stored, more);
        (response["allowed"] == true && response["patch"].is_null()).then_some(()).ok_or(response)
    };
    for path in [DEFAULTING, VALIDATION, CONFIG_VALIDATION] {
        allowed(path, &Json::Null, Some(&bad), &json!({"operation": "DELETE"})).unwrap();
        allowed(path, &bad, Some(&bad), &json!({"subResource": "status"})).unwrap();
    }
    allowed(VALIDATION, &bad, None, &json!({"operation": "CONNECT"})).unwrap();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}});
    allowed(VALIDATION, &pod, None, &json!({})).unwrap();
    // One that is on its way out may lose its finalizers, but not become something else.
    let mut leaving = bad.clone();
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    allowed(VALIDATION, &leaving, Some(&bad), &json!({})).unwrap();
    leaving["spec"]["traffic"] = json!([{"tag": "x"}]);
    allowed(VALIDATION, &leaving, Some(&bad), &json!({})).unwrap_err();
    // Nothing is stored for a dry run, but it is checked.
    allowed(VALIDATION, &bad, None, &json!({"dryRun": true})).unwrap_err();
}

#[test]
fn generated_names_and_names_of_revisions() {
    let mut generated = hello();
    generated["metadata"]["name"].take();
    generated["metadata"]["generateName"] = "hello-".into();
    assert_eq!(asked(VALIDATION, &generated, None, &json!({}))["allowed"], true);
    let mut named = hello();
    named["spec"]["template"]["metadata"]["name"] = "hello-one".into();
    let (_, stored) = patched(&named, &asked(DEFAULTING, &named, None, &json!({})));
    let mut changed = stored.clone();
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "example.com/hello:2".into();
    let refused = asked(VALIDATION, &changed, Some(&stored), &json!({}));
    expect![[r#"
        validation failed: Saw the following changes without a name change (-old +new): spec.template.metadata.name
        spec.template.spec.containers[0].image"#]].assert_eq(refused["status"]["message"].as_str().unwrap());
    changed["spec"]["template"]["metadata"]["name"] = "hello-two".into();
    assert_eq!(asked(VALIDATION, &changed, Some(&stored), &json!({}))["allowed"], true);
}

#[test]
fn settings_are_checked() {
    let map = |name: &str, data: &Json, annotations: &Json| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "annotations": annotations}, "data": data});
    let said = |object: &Json| {
        let response = asked(CONFIG_VALIDATION, object, None, &json!({}));
        format!(
            "{} {} {}",
            response["allowed"], response["status"]["message"], response["warnings"]
        )
    };
    let bad = map(
        "config-autoscaler",
        &json!({"stable-window": "1", "max-scale": "x", "max-scale-limt": "1"}),
        &Json::Null,
    );
    expect![[r#"false "validation failed: failed to parse data: failed to parse \"max-scale\": strconv.ParseInt: parsing \"x\": invalid syntax\nfailed to parse data: failed to parse \"stable-window\": time: missing unit in duration \"1\"" ["data.max-scale: write a whole number in quotes","data.stable-window: write 1s","data.max-scale-limt: unknown key, which is ignored; write max-scale-limit"]"#]].assert_eq(&said(&bad));
    let other = map("something", &json!({"stable-window": "1"}), &Json::Null);
    assert_eq!(said(&other), "true null null");
    let example = "\n\nfirst: 1\r\n\r\nsecond: 2  \n";
    assert_eq!(validation::checksum(example), validation::checksum("first: 1\nsecond: 2"));
    let sum = validation::checksum(example);
    let edited = |sum: &str| {
        map(
            "config-features",
            &json!({"_example": example}),
            &json!({"knative.dev/example-checksum": sum}),
        )
    };
    assert_eq!(said(&edited(&sum)), "true null null");
    expect![[r#"false "validation failed: the update modifies a key in \"_example\" which is probably not what you want. Instead, copy the respective setting to the top-level of the ConfigMap, directly below \"data\"" null"#]].assert_eq(&said(&edited("00000000")));
}

#[test]
fn what_is_no_question_says_what_is_missing() {
    let said = |path: &str, body: &str| {
        let refused = answer(path, body.as_bytes(), &AdmissionContext::default()).unwrap_err();
        format!("{} {}", refused.status.as_u16(), refused.message)
    };
    expect![[r#"
        404 there is /defaulting, /validation and /config-validation
        400 no AdmissionReview: EOF while parsing a value at line 1 column 0
        400 no AdmissionReview: invalid type: sequence, expected struct AdmissionReview
        400 no AdmissionReview: failed to convert AdmissionReview into AdmissionRequest"#]]
    .assert_eq(
        &[
            said("/", "{}"),
            said(VALIDATION, ""),
            said(VALIDATION, "[]"),
            said(VALIDATION, r#"{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}"#),
        ]
        .join("\n"),
    );
}

#[test]
fn the_check_sum_is_that_of_ieee() {
    assert_eq!(validation::checksum("123456789"), "cbf43926");
}

/// A Service with an own setting.
fn with_setting(name: &str, key: &str, value: &str) -> Json {
    let mut object = hello();
    object["metadata"]["name"] = json!(name);
    object["spec"]["template"]["metadata"]["annotations"] =
        json!({ format!("tidegate.dev/{key}"): value });
    object
}

#[test]
fn own_settings_are_checked_where_they_are_new() {
    let bad = with_setting("hello", "queue-timeout", "soon");
    let response = asked(VALIDATION, &bad, None, &json!({}));
    expect![[r#"validation failed: time: invalid duration "soon": spec.template.metadata.annotations.tidegate.dev/queue-timeout"#]].assert_eq(response["status"]["message"].as_str().unwrap());
    let mut changed = bad.clone();
    changed["metadata"]["labels"] = json!({"a": "b"});
    assert_eq!(
        asked(VALIDATION, &changed, Some(&bad), &json!({}))["allowed"],
        true,
        "it was there"
    );
    let mut canary = hello();
    canary["metadata"]["annotations"] = json!({"tidegate.dev/rollout": "canaries"});
    let response = asked(VALIDATION, &canary, None, &json!({}));
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("there is no rollout \"canaries\""), "{message}");
    let worse = with_setting("hello", "que-timeout", "1s");
    assert_eq!(asked(VALIDATION, &worse, Some(&bad), &json!({}))["allowed"], false);
}

#[test]
fn a_circle_of_services_is_refused_with_its_name() {
    let id = |name: &str| ServiceId::new("default", name);
    let there = Needs::from([(id("db"), [id("hello")].into()), (id("x"), [id("y")].into())]);
    let needs: NeedsOf = Arc::new(move || there.clone());
    let context = AdmissionContext::default();
    let around = review::Around { context: &context, needs: &needs };
    let asked = |needed: &str| {
        let object = with_setting("hello", "depends-on", needed);
        let body = review(&object, None, &json!({})).to_string();
        let answer = review::review(VALIDATION, body.as_bytes(), &around).unwrap();
        let answer: Json = serde_json::from_slice(&answer.into_body().unwrap()).unwrap();
        answer["response"]["status"]["message"].as_str().unwrap_or("allowed").to_owned()
    };
    assert_eq!(asked("x, y"), "allowed");
    expect!["validation failed: a circle: default/db → default/hello → default/db: spec.template.metadata.annotations.tidegate.dev/depends-on"].assert_eq(&asked("x, db"));
}
