//! Services that need each other, in the cluster.

use crate::stage::Cluster;

const NAMESPACE: &str = "depending";
const HOST: &str = "shop.depending.example.com";

/// A Service that greets with `greeting`, needs what is listed, and is gone soon when nobody calls.
fn service(name: &str, greeting: &str, needed: &str) -> String {
    let needs = if needed.is_empty() {
        String::new()
    } else {
        format!("tidegate.dev/depends-on: \"{needed}\", ")
    };
    format!(
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  \
         template:\n    metadata: {{annotations: {{{needs}autoscaling.knative.dev/window: 6s}}}}\n    \
         spec: {{containers: [{{image: docker.io/example/hello-world, env: [{{name: TARGET, value: \
         {greeting}}}]}}]}}\n"
    )
}

fn apply(cluster: &Cluster, text: &str) -> Result<String, String> {
    cluster.kubectl_with(&["apply", "-n", NAMESPACE, "-f", "-"], text)
}

fn wait(cluster: &Cluster, arguments: &[&str]) {
    cluster.kubectl(&[&["wait", "-n", NAMESPACE, "--timeout=90s"], arguments].concat());
}

#[test]
fn a_new_revision_waits_and_what_is_needed_is_woken() {
    let Some(cluster) = Cluster::get() else { return };
    let _installed = cluster.serve();
    cluster.namespace(NAMESPACE);
    apply(cluster, &service("shop", "one", "")).unwrap();
    wait(cluster, &["--for=condition=Ready", "ksvc/shop"]);

    apply(cluster, &service("shop", "two", "stock")).unwrap();
    let reason = r#"jsonpath={.status.conditions[?(@.type=="AllTrafficAssigned")].reason}"#;
    let waiting = format!("--for={reason}=DependenciesNotReady");
    wait(cluster, &[&waiting, "route/shop"]);
    wait(cluster, &["--for=condition=Ready", "revision/shop-00002"]);
    assert_eq!(cluster.curl(HOST, 10), vec!["Hello one!"; 10]);

    let needed = apply(cluster, &service("stock", "stock", "")).unwrap();
    assert!(needed.contains("stock created"), "{needed}");
    wait(cluster, &["--for=condition=Ready", "ksvc/shop"]);
    assert_eq!(cluster.curl(HOST, 10), vec!["Hello two!"; 10]);

    let circle = apply(cluster, &service("stock", "stock", "shop")).unwrap_err();
    assert!(circle.contains("depending/shop → depending/stock → depending/shop"), "{circle}");

    for pods in ["shop-00002", "stock-00001"] {
        let label = format!("-lserving.knative.dev/revision={pods}");
        wait(cluster, &["--for=delete", "pod", &label]);
    }
    assert_eq!(cluster.curl(HOST, 1), ["Hello two!"]);
    wait(cluster, &["--for=create", "pod", "-lserving.knative.dev/revision=stock-00001"]);
}
