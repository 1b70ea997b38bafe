//! A Deployment and its Service as somebody has them, adopted and let go again.

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::stage::Cluster;

const NAMESPACE: &str = "adoption";
const HOST: &str = "web.adoption.example.com";

/// Two ports, session affinity and a port of the pods by its name; and a pod that calls.
const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - name: web
          image: docker.io/example/hello-world
          env: [{name: PORT, value: "8080"}, {name: TARGET, value: Web}]
          ports: [{name: web, containerPort: 8080}]
          readinessProbe: {httpGet: {path: /health, port: web}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  sessionAffinity: ClientIP
  ports:
    - {name: http, port: 80, targetPort: web}
    - {name: direct, port: 81, targetPort: 8080}
"#;

fn get(cluster: &Cluster, what: &[&str]) -> Json {
    cluster.json(&[&["get", "-n", NAMESPACE], what].concat())
}

fn annotate(cluster: &Cluster, annotation: &str) {
    cluster.kubectl(&["annotate", "-n", NAMESPACE, "--overwrite", "service", "web", annotation]);
}

fn wait(cluster: &Cluster, what: &str, of: &str) {
    cluster.kubectl(&["wait", "-n", NAMESPACE, "--timeout=60s", &format!("--for={what}"), of]);
}

/// Headers and body of an answer.
fn curl(cluster: &Cluster, arguments: &[&str]) -> String {
    let mut command = cluster.command("curl");
    command.args(["-sS", "-i", "--max-time", "30"]).args(arguments);
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Whether an answer was by way of tidegate: the backend is told so, and repeats what it is told.
fn is_proxied(answer: &str) -> bool {
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer.to_lowercase().contains("x-forwarded-for")
}

#[test]
#[expect(clippy::disallowed_methods, reason = "no event loop, and a real network")]
fn a_deployment_is_adopted_scaled_and_let_go_as_it_was() {
    let Some(cluster) = Cluster::get() else { return };
    let _installed = cluster.serve();
    cluster.namespace(NAMESPACE);
    cluster.kubectl_with(&["apply", "-n", NAMESPACE, "-f", "-"], WEB).unwrap();
    wait(cluster, "condition=Available", "deployment/web");
    let before = get(cluster, &["service", "web"])["spec"].clone();
    let deployment = get(cluster, &["deployment", "web"]);
    let pods = get(cluster, &["pods"])["items"][0]["metadata"]["uid"].clone();

    annotate(cluster, "autoscaling.knative.dev/window=6s");
    annotate(cluster, "tidegate.dev/adopt=true");
    wait(cluster, "condition=tidegate.dev/Adopted", "service/web");
    assert_eq!(get(cluster, &["pods"])["items"][0]["metadata"]["uid"], pods);
    assert_eq!(get(cluster, &["service", "web"])["spec"], before, "its own name is not touched");
    // By its own name, whatever host is sent; the other port goes past tidegate. Nodes have known its
    // pod for long, and before a first request it is not scaled down.
    annotate(cluster, "tidegate.dev/adopt-service=true");
    wait(cluster, "condition=tidegate.dev/ServiceAdopted", "service/web");
    let address = before["clusterIP"].as_str().unwrap();
    let by_name = |host: &str| {
        curl(cluster, &["-H", &format!("Host: {host}"), &format!("http://{address}/headers")])
    };
    assert!(!is_proxied(&curl(cluster, &[&format!("http://{address}:81/headers")])));
    // Nodes hear of it a moment later; until then, as after that, each call is answered.
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_proxied(&by_name("web")) {
        assert!(Instant::now() < deadline, "callers of its own name go past tidegate");
    }
    for host in ["web", "web.adoption", "web.adoption.svc.cluster.local:80", "www.example.org"] {
        assert!(is_proxied(&by_name(host)), "{host}");
    }

    // From then on it is scaled, to zero too, and back by a call.
    wait(cluster, "condition=tidegate.dev/Scaled", "service/web");
    wait(cluster, "jsonpath={.spec.replicas}=0", "deployment/web");
    assert!(is_proxied(&by_name("web")));
    let url = format!("http://{}/headers", cluster.address());
    assert!(is_proxied(&curl(cluster, &["-H", &format!("Host: {HOST}"), &url])));

    // Let go: all is as it was, and as many pods as there were.
    annotate(cluster, "tidegate.dev/adopt-");
    annotate(cluster, "tidegate.dev/adopt-service-");
    wait(cluster, "delete", "endpointslice/web-tidegate");
    assert_eq!(get(cluster, &["service", "web"])["spec"], before);
    let mut after = get(cluster, &["deployment", "web"])["spec"].clone();
    assert_eq!(after["replicas"], json!(1));
    after["replicas"] = deployment["spec"]["replicas"].clone();
    assert_eq!(after, deployment["spec"]);
    assert!(!is_proxied(&curl(cluster, &[&format!("http://{address}/headers")])));
    let slices = get(cluster, &["endpointslice", "-l", "kubernetes.io/service-name=web"]);
    assert_eq!(slices["items"].as_array().unwrap().len(), 1);
    let events =
        cluster.kubectl(&["get", "events", "-n", NAMESPACE, "-o", "jsonpath={.items[*].reason}"]);
    for reason in ["Adopted", "ServiceAdopted"] {
        assert!(events.split(' ').any(|found| found == reason), "{reason}: {events}");
    }
}
