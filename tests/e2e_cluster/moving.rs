//! From tidegate to Knative and back: who looks after the objects changes, the pods do not.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::stage::Cluster;

const NAMESPACE: &str = "moving";
const HOST: &str = "hello.moving.example.com";
const DEPLOYMENT: &str = "deployment/hello-00001-deployment";

const HELLO: &str = "
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: hello}
spec: {template: {spec: {containers: [{image: docker.io/example/hello-world}]}}}
";

/// Renewed by one of Knative's controllers right now.
const LEASE: &str = "controller.knative.dev.serving.pkg.reconciler.route.reconciler.00-of-01";

/// What Knative makes of the Deployment: its proxy beside the user's container, and two replicas.
const AS_KNATIVE_HAS_IT: &str = r#"{"spec": {"replicas": 2, "template": {"spec": {"containers": [
    {"name": "queue-proxy", "image": "docker.io/example/hello-world",
     "env": [{"name": "PORT", "value": "8012"}]}]}}}}"#;

const ROUTE: &str = "route.serving.knative.dev/hello";

/// As Knative keeps a Route there until it has cleaned up after it.
const HELD_BY_KNATIVE: &str = r#"{"metadata": {"finalizers": ["routes.serving.knative.dev"]}}"#;

/// The status of an answer from outside.
fn status(cluster: &Cluster) -> String {
    let url = format!("http://{}/", cluster.address());
    let mut command: Command = cluster.command("curl");
    command.args(["-sS", "--max-time", "30", "-o", "/dev/null", "-w", "%{http_code}"]);
    let output = command.args(["-H", &format!("Host: {HOST}"), &url]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "no event loop, and a real network")]
fn wait_for_status(cluster: &Cluster, wanted: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while status(cluster) != wanted {
        assert!(Instant::now() < deadline, "it answers {}, not {wanted}", status(cluster));
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Identities of the pods that are not on their way out.
fn pods(cluster: &Cluster) -> Vec<Json> {
    let list = cluster.json(&["get", "pods", "-n", NAMESPACE]);
    let stays = |pod: &&Json| pod["metadata"]["deletionTimestamp"].is_null();
    let pods = list["items"].as_array().unwrap().iter().filter(stays);
    pods.map(|pod| pod["metadata"]["uid"].clone()).collect()
}

fn gone(cluster: &Cluster, object: &str) {
    cluster.kubectl(&["wait", "-n", NAMESPACE, "--for=delete", object, "--timeout=60s"]);
}

fn containers(cluster: &Cluster, deployment: &str) -> Vec<Json> {
    let found = cluster.json(&["get", "-n", NAMESPACE, deployment]);
    let containers = found["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    containers.iter().map(|container| container["name"].clone()).collect()
}

#[test]
fn knative_takes_over_and_gives_back_without_a_new_pod() {
    let Some(cluster) = Cluster::get() else { return };
    let _installed = cluster.serve();
    cluster.namespace(NAMESPACE);
    cluster.kubectl_with(&["apply", "-n", NAMESPACE, "-f", "-"], HELLO).unwrap();
    let ready = ["wait", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=60s", "ksvc/hello"];
    cluster.kubectl(&ready);
    assert_eq!(status(cluster), "200");
    let before = pods(cluster);

    // Knative lives: tidegate lets go, and changes nothing.
    let now = cluster.command("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.000000Z"]).output().unwrap();
    let now = String::from_utf8(now.stdout).unwrap();
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": LEASE, "namespace": "knative-serving"},
        "spec": {"holderIdentity": "controller-0", "leaseDurationSeconds": 60,
            "renewTime": now.trim()},
    });
    cluster.kubectl_with(&["apply", "-f", "-"], &lease.to_string()).unwrap();
    wait_for_status(cluster, "404");
    assert_eq!(pods(cluster), before);
    // But for a Service in the place of Knative's own.
    gone(cluster, "service/hello-00001-private");
    let patch = ["patch", "-n", NAMESPACE, ROUTE, "--type=merge", "-p", HELD_BY_KNATIVE];
    cluster.kubectl(&patch);
    let patch = ["patch", "-n", NAMESPACE, DEPLOYMENT, "--field-manager=controller", "-p"];
    cluster.kubectl(&[&patch[..], &[AS_KNATIVE_HAS_IT]].concat());
    let rollout = ["rollout", "status", "-n", NAMESPACE, DEPLOYMENT, "--timeout=60s"];
    cluster.kubectl(&rollout);
    let made = pods(cluster);

    // It is gone: the same pods are served, with what nothing asks any more.
    cluster.kubectl(&["delete", "lease", "-n", "knative-serving", LEASE]);
    wait_for_status(cluster, "200");
    cluster.kubectl(&["annotate", "-n", NAMESPACE, "ksvc", "hello", "looked=at"]);
    cluster.kubectl(&ready);
    assert_eq!(containers(cluster, DEPLOYMENT), ["queue-proxy", "user-container"]);
    assert!(pods(cluster).iter().all(|pod| made.contains(pod)), "a new pod");

    // The next revision is as tidegate makes it.
    let next = r#"{"spec": {"template": {"metadata": {"annotations": {"next": "one"}}}}}"#;
    cluster.kubectl(&["patch", "-n", NAMESPACE, "ksvc", "hello", "--type=merge", "-p", next]);
    let latest = "--for=jsonpath={.status.latestReadyRevisionName}=hello-00002";
    cluster.kubectl(&["wait", "-n", NAMESPACE, latest, "--timeout=60s", "ksvc/hello"]);
    assert_eq!(containers(cluster, "deployment/hello-00002-deployment"), ["user-container"]);
    cluster.kubectl(&["delete", "-n", NAMESPACE, "ksvc", "hello", "--timeout=60s"]);
    gone(cluster, ROUTE);
}
