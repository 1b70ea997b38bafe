//! Client commands by `KUBECONFIG`: traffic, restart and export of what a cluster has.

use std::collections::BTreeSet;

use crate::stage::Cluster;

const NAMESPACE: &str = "client";

fn manifest(target: &str) -> String {
    format!(
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{name: two, namespace: client}}\n\
         spec:\n  template:\n    metadata: {{annotations: {{autoscaling.knative.dev/min-scale: \
         \"1\"}}}}\n    spec: {{containers: [{{image: docker.io/example/hello-world, env: [{{name: \
         TARGET, value: {target}}}]}}]}}\n"
    )
}

/// What a command of ours prints.
fn ours(cluster: &Cluster, arguments: &[&str]) -> String {
    let mut command = cluster.command(env!("CARGO_BIN_EXE_tidegate"));
    let output = command.args(arguments).arg("--kubernetes").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {text}{errors}");
    text
}

fn traffic(cluster: &Cluster) -> Vec<(String, u64)> {
    let service = cluster.json(&["get", "-n", NAMESPACE, "ksvc", "two"]);
    let entries = service["status"]["traffic"].as_array().unwrap().iter();
    let share = |entry: &serde_json::Value| {
        (entry["revisionName"].as_str().unwrap().to_owned(), entry["percent"].as_u64().unwrap())
    };
    entries.map(share).collect()
}

fn wait_ready(cluster: &Cluster, revision: &str) {
    let latest = format!("--for=jsonpath={{.status.latestReadyRevisionName}}={revision}");
    cluster.kubectl(&["wait", "-n", NAMESPACE, &latest, "--timeout=60s", "ksvc/two"]);
    let ready = ["wait", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=60s", "ksvc/two"];
    cluster.kubectl(&ready);
}

fn pods(cluster: &Cluster) -> BTreeSet<String> {
    let names = "jsonpath={.items[*].metadata.name}";
    let selector = "serving.knative.dev/revision=two-00001";
    let names = cluster.kubectl(&["get", "pods", "-n", NAMESPACE, "-l", selector, "-o", names]);
    names.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn traffic_restart_and_export_with_ones_own_rights() {
    let Some(cluster) = Cluster::get() else { return };
    let _installed = cluster.serve();
    cluster.namespace(NAMESPACE);
    for (target, revision) in [("One", "two-00001"), ("Two", "two-00002")] {
        cluster.kubectl_with(&["apply", "-f", "-"], &manifest(target)).unwrap();
        wait_ready(cluster, revision);
    }
    let shown = ours(cluster, &["traffic", "client/two", "two-00001=30", "two-00002=70"]);
    assert_eq!(shown, "client/two\n  two-00002  100% →  70%\n  two-00001    0% →  30%\n");
    let moved = "--for=jsonpath={.status.traffic[0].percent}=30";
    cluster.kubectl(&["wait", "-n", NAMESPACE, moved, "--timeout=60s", "ksvc/two"]);
    wait_ready(cluster, "two-00002");
    let expected = [("two-00001".to_owned(), 30), ("two-00002".to_owned(), 70)];
    assert_eq!(traffic(cluster), expected);
    let shown = ours(cluster, &["traffic", "client/two", "--rollback", "--dry-run"]);
    assert!(shown.contains("two-00001   30% → 100%"), "{shown}");

    let before = pods(cluster);
    let said = ours(cluster, &["restart", "client/two"]);
    assert!(said.ends_with("client/two is restarted\n"), "{said}");
    let after = pods(cluster);
    assert!(!before.is_empty() && !after.is_subset(&before), "{before:?} {after:?}");

    // Gone, and made again of what was exported. The settings are there, and other tests apply them.
    let exported = ours(cluster, &["export"]);
    let delete = ["delete", "-n", NAMESPACE, "ksvc", "two", "--timeout=60s"];
    // Its revisions too, before they are made again.
    cluster.kubectl(&[&delete[..], &["--cascade=foreground"]].concat());
    assert!(exported.contains("name: config-domain"), "{exported}");
    let is_setting = |document: &&str| document.contains("namespace: knative-serving");
    let exported: Vec<&str> =
        exported.split("---\n").filter(|document| !is_setting(document)).collect();
    let exported = exported.join("---\n");
    let apply = ["apply", "--server-side", "--field-manager=backup", "-f", "-"];
    cluster.kubectl_with(&apply, &exported).unwrap();
    wait_ready(cluster, "two-00002");
    assert_eq!(traffic(cluster), expected);
    let first = cluster.json(&["get", "-n", NAMESPACE, "revision", "two-00001"]);
    assert_eq!(first["spec"]["containers"][0]["env"][0]["value"], "One");
    cluster.kubectl(&delete);
    cluster.kubectl(&["delete", "-n", NAMESPACE, "revision", "--all", "--timeout=60s"]);
}
