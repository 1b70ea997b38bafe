//! What a browser is shown while a pod starts.

use crate::stage::Cluster;

const NAMESPACE: &str = "waiting";

/// Starts from zero, and its pod takes a few seconds to be ready.
const SLOW: &str = r#"
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: slow}
spec:
  template:
    metadata:
      annotations:
        autoscaling.knative.dev/initial-scale: "0"
        tidegate.dev/waiting-page: "true"
    spec:
      containers:
        - image: docker.io/example/hello-world
          readinessProbe: {httpGet: {path: /health}, initialDelaySeconds: 4}
"#;

/// Status, then head and body of an answer to a client with these headers.
fn ask(cluster: &Cluster, headers: &[&str]) -> (String, String) {
    let url = format!("http://{}/", cluster.address());
    let mut command = cluster.command("curl");
    command.args(["-sSi", "--max-time", "60", "-H", "Host: slow.waiting.example.com", &url]);
    for header in headers {
        command.args(["-H", header]);
    }
    let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let status = text.split_whitespace().nth(1).unwrap_or_default().to_owned();
    (status, text.to_lowercase())
}

#[test]
fn a_browser_sees_a_page_and_others_their_answer() {
    let Some(cluster) = Cluster::get() else { return };
    let _installed = cluster.serve();
    cluster.namespace(NAMESPACE);
    cluster.kubectl_with(&["apply", "-n", NAMESPACE, "-f", "-"], SLOW).unwrap();
    let ready = ["wait", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=60s", "ksvc/slow"];
    cluster.kubectl(&ready);
    let (status, page) = ask(cluster, &["Sec-Fetch-Mode: navigate", "Accept: text/html"]);
    assert_eq!(status, "503", "{page}");
    assert!(page.contains("retry-after: ") && page.contains("<!doctype html>"), "{page}");
    assert!(page.contains("it is starting now"), "{page}");
    let (status, answer) = ask(cluster, &[]);
    assert_eq!((status.as_str(), answer.ends_with("hello world!\n")), ("200", true), "{answer}");
    let (status, _) = ask(cluster, &["Sec-Fetch-Mode: navigate", "Accept: text/html"]);
    assert_eq!(status, "200");
}
