//! A canary in the cluster: a bad revision is taken back, and says so.

use crate::stage::Cluster;

const NAMESPACE: &str = "canary";
const HOST: &str = "careful.canary.example.com";

/// Rounds of 200 requests, each of about a second at most: a step takes a few of them.
const ROUNDS: usize = 200;

/// A Service whose new revisions are tried, each step for two seconds at least.
fn service(fails: &str) -> String {
    format!(
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata:\n  name: careful\n  annotations:\n    \
         tidegate.dev/rollout: canary\n    tidegate.dev/rollout-step-time: 2s\n    \
         tidegate.dev/rollout-samples: \"40\"\nspec:\n  template:\n    spec:\n      containers:\n        \
         - image: docker.io/example/hello-world\n          env: [{{name: FAIL_PERCENT, value: \
         \"{fails}\"}}]\n"
    )
}

/// Asks until kubectl says that something is so.
fn ask_until(cluster: &Cluster, arguments: &[&str], expected: &str) {
    let url = format!("http://{}/?n=[1-200]", cluster.address());
    let mut said = String::new();
    for _ in 0..ROUNDS {
        let mut command = cluster.command("curl");
        command.args(["-s", "-o", "/dev/null", "--max-time", "30", "-H"]);
        assert!(command.args([&format!("Host: {HOST}"), &url]).status().unwrap().success());
        said = cluster.kubectl(arguments);
        if said.contains(expected) {
            return;
        }
    }
    panic!("{expected:?} is not in {said:?}");
}

#[test]
fn a_bad_revision_is_taken_back_and_a_good_one_gets_all() {
    let Some(cluster) = Cluster::get() else { return };
    let _installed = cluster.serve();
    cluster.namespace(NAMESPACE);
    let apply = |fails| {
        cluster.kubectl_with(&["apply", "-n", NAMESPACE, "-f", "-"], &service(fails)).unwrap();
    };
    apply("0");
    let ready = ["wait", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=60s", "ksvc/careful"];
    cluster.kubectl(&ready);

    apply("30");
    let events = ["get", "events", "-n", NAMESPACE, "-o", "jsonpath={.items[*].reason}"];
    ask_until(cluster, &events, "CanaryTakenBack");
    let traffic = "jsonpath={range .status.traffic[*]}{.revisionName}={.percent} {end}";
    let traffic = ["get", "-n", NAMESPACE, "ksvc", "careful", "-o", traffic];
    ask_until(cluster, &traffic, "careful-00001=100");
    assert_eq!(cluster.curl(HOST, 100).len(), 100, "all of the old one");
    let reason = r#"jsonpath={.status.conditions[?(@.type=="RoutesReady")].reason}"#;
    let said = cluster.kubectl(&["get", "-n", NAMESPACE, "ksvc", "careful", "-o", reason]);
    assert_eq!(said, "CanaryTakenBack");

    // Another template that is as good as the first.
    apply("00");
    ask_until(cluster, &events, "CanaryPassed");
    ask_until(cluster, &traffic, "careful-00003=100");
    cluster.kubectl(&ready);
}
