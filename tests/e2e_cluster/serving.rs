//! tidegate in the cluster, installed by its manifests, from its image; what users bring is served.

use serde_json::Value as Json;

use crate::stage::Cluster;

const NAMESPACE: &str = "serving";
const HOST: &str = "hello-world.serving.example.com";

/// As a user has it, with the image's tag left out.
const HELLO: &str = "
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: hello-world}
spec:
  template:
    spec:
      containers:
        - image: docker.io/example/hello-world
          ports: [{containerPort: 8080}]
          env: [{name: TARGET, value: World}]
          readinessProbe: {httpGet: {path: /health, port: 8080}}
          livenessProbe: {httpGet: {path: /health, port: 8080}}
";

const CANARY: &str = "
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: hello-world}
spec:
  template:
    spec:
      containers:
        - image: docker.io/example/hello-world:canary
          env: [{name: TARGET, value: Canary}]
  traffic:
    - {revisionName: hello-world-00001, percent: 90}
    - {revisionName: hello-world-00002, percent: 10}
";

const ASLEEP: &str = r#"
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: asleep}
spec:
  template:
    metadata: {annotations: {autoscaling.knative.dev/initial-scale: "0"}}
    spec: {containers: [{image: docker.io/example/hello-world, env: [{name: TARGET, value: Morning}]}]}
"#;

/// Applies a text in the tests' namespace.
fn apply(cluster: &Cluster, text: &str) {
    cluster.kubectl_with(&["apply", "-n", NAMESPACE, "-f", "-"], text).unwrap();
}

fn wait_ready(cluster: &Cluster, what: &str) {
    cluster.kubectl(&["wait", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=60s", what]);
}

/// What a kind's objects are, by name and identity.
fn identities(cluster: &Cluster, kind: &str) -> Vec<(Json, Json)> {
    let list = cluster.json(&["get", kind, "-n", NAMESPACE]);
    let of = |item: &Json| (item["metadata"]["name"].clone(), item["metadata"]["uid"].clone());
    list["items"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn services_are_served_from_zero_and_outlive_tidegate() {
    let Some(cluster) = Cluster::get() else { return };
    let _installed = cluster.serve();
    cluster.namespace(NAMESPACE);

    apply(cluster, HELLO);
    wait_ready(cluster, "ksvc/hello-world");
    assert_eq!(cluster.curl(HOST, 1), ["Hello World!"]);
    let row = cluster.kubectl(&["get", "ksvc", "hello-world", "-n", NAMESPACE, "--no-headers"]);
    let row: Vec<&str> = row.split_whitespace().collect();
    let url = format!("http://{HOST}");
    assert_eq!(row, ["hello-world", &url, "hello-world-00001", "hello-world-00001", "True"]);

    apply(cluster, CANARY);
    let ready = "--for=jsonpath={.status.latestReadyRevisionName}=hello-world-00002";
    cluster.kubectl(&["wait", "-n", NAMESPACE, ready, "--timeout=60s", "ksvc/hello-world"]);
    wait_ready(cluster, "route/hello-world");
    let answers = cluster.curl(HOST, 100);
    let canaries = answers.iter().filter(|answer| *answer == "Hello Canary!").count();
    let rest = answers.iter().filter(|answer| *answer == "Hello World!").count();
    assert_eq!((rest, canaries), (90, 10), "{answers:?}");

    apply(cluster, ASLEEP);
    wait_ready(cluster, "ksvc/asleep");
    let replicas = || {
        let path = "jsonpath={.spec.replicas}";
        cluster.kubectl(&[
            "get",
            "deployment",
            "asleep-00001-deployment",
            "-n",
            NAMESPACE,
            "-o",
            path,
        ])
    };
    assert_eq!(replicas(), "0");
    assert_eq!(cluster.curl("asleep.serving.example.com", 1), ["Hello Morning!"]);
    assert_eq!(replicas(), "1");

    // Without tidegate everything stays as it was; a new one serves it on.
    let kinds = ["ksvc", "configuration", "route", "revision", "deployment", "pod", "service"];
    let before = kinds.map(|kind| identities(cluster, kind));
    // Its pods first: a namespace with pods in it is looked at again only after half the time that
    // these may take to end.
    cluster.kubectl(&["delete", "-n", "tidegate-system", "deployment", "tidegate"]);
    let gone = ["wait", "-n", "tidegate-system", "--for=delete", "--timeout=60s", "pod", "--all"];
    cluster.kubectl(&gone);
    cluster.kubectl(&["delete", "-k", "deploy/kubernetes", "--timeout=60s", "--ignore-not-found"]);
    assert_eq!(kinds.map(|kind| identities(cluster, kind)), before);
    cluster.kubectl(&["label", "-n", NAMESPACE, "ksvc", "hello-world", "changed=yes"]);
    cluster.start_tidegate();
    assert_eq!(cluster.curl(HOST, 100).len(), 100);

    cluster.kubectl(&["delete", "-n", NAMESPACE, "ksvc", "hello-world", "--timeout=60s"]);
    let gone = ["wait", "-n", NAMESPACE, "--for=delete", "--timeout=60s"];
    cluster.kubectl(&[&gone[..], &["deployment/hello-world-00001-deployment"]].concat());
    assert_eq!(identities(cluster, "route").len(), 1);
}

/// A Service of three edits, each of which takes something out.
const EDITS: [(&str, &str); 3] = [
    (
        "metadata: {annotations: {autoscaling.knative.dev/min-scale: \"1\"}}",
        ", env: [{name: TARGET, value: Much}]",
    ),
    ("metadata: {annotations: {autoscaling.knative.dev/min-scale: \"1\"}}", ""),
    ("", ""),
];

#[test]
fn what_is_taken_out_of_a_service_is_gone() {
    let Some(cluster) = Cluster::get() else { return };
    let _installed = cluster.serve();
    let namespace = "less";
    cluster.namespace(namespace);
    for (generation, (metadata, env)) in (1..).zip(EDITS) {
        let text = format!(
            "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{name: less, namespace: \
             less}}\nspec:\n  template:\n    {metadata}\n    spec: {{containers: [{{image: \
             docker.io/example/hello-world{env}}}]}}\n"
        );
        cluster.kubectl_with(&["apply", "-f", "-"], &text).unwrap();
        let revision = format!("less-0000{generation}");
        let latest = format!("--for=jsonpath={{.status.latestReadyRevisionName}}={revision}");
        cluster.kubectl(&["wait", "-n", namespace, &latest, "--timeout=60s", "ksvc/less"]);
        let made = cluster.json(&["get", "-n", namespace, "revision", &revision]);
        let has = |pointer: &str| made.pointer(pointer).is_some();
        let key = "/metadata/annotations/autoscaling.knative.dev~1min-scale";
        assert_eq!(has(key), !metadata.is_empty(), "{made}");
        assert_eq!(has("/spec/containers/0/env"), !env.is_empty(), "{made}");
    }
    cluster.kubectl(&["delete", "-n", namespace, "ksvc", "less", "--timeout=60s"]);
}
