//! A pod that has to go, with a request that takes longer than pods are held without asking.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::stage::Cluster;

const NAMESPACE: &str = "ending";
const HOST: &str = "slow.ending.example.com";
const SLOW: &str = r#"
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: slow, namespace: ending}
spec:
  template:
    metadata: {annotations: {autoscaling.knative.dev/min-scale: "1"}}
    spec: {containers: [{image: docker.io/example/hello-world}]}
"#;

/// Its only pod.
fn pod(cluster: &Cluster) -> Json {
    let pods = cluster.json(&["get", "pods", "-n", NAMESPACE]);
    let [pod] = &pods["items"].as_array().unwrap()[..] else { panic!("{pods}") };
    pod.clone()
}

/// Where kubelets ask; none takes the setting away.
fn set_prestop_address(cluster: &Cluster, address: Option<&str>) {
    let data = json!({"data": {"prestop-address": address}}).to_string();
    let patch = ["patch", "configmap", "-n", "knative-serving", "config-deployment"];
    cluster.kubectl(&[&patch[..], &["--type=merge", "-p", &data]].concat());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "no event loop, and a real network")]
fn a_pod_is_told_to_end_after_its_last_request() {
    let Some(cluster) = Cluster::get() else { return };
    let _installed = cluster.serve();
    cluster.namespace(NAMESPACE);
    let service = cluster.json(&["get", "-n", "tidegate-system", "service", "tidegate-prestop"]);
    let address = service["spec"]["clusterIP"].as_str().unwrap().to_owned();
    set_prestop_address(cluster, Some(&format!("{address}:80")));
    cluster.kubectl_with(&["apply", "-f", "-"], SLOW).unwrap();
    let ready = ["wait", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=60s", "ksvc/slow"];
    cluster.kubectl(&ready);
    let pod = pod(cluster);
    let hook = &pod["spec"]["containers"][0]["lifecycle"]["preStop"]["httpGet"];
    assert_eq!(hook["host"], json!(address), "{hook}");
    let direct = format!("http://{}:8080/whoami", pod["status"]["podIP"].as_str().unwrap());
    let in_flight = || {
        let output = cluster.command("curl").args(["-sS", "--max-time", "5", &direct]).output();
        let answer: Option<Json> = serde_json::from_slice(&output.unwrap().stdout).ok();
        answer.and_then(|answer| answer["max_in_flight"].as_u64())
    };

    let mut request = cluster.command("curl");
    request.args(["-sS", "--max-time", "60", "-o", "/dev/null", "-w", "%{http_code}"]);
    request.args(["-H", &format!("Host: {HOST}")]);
    request.arg(format!("http://{}/delay?ms=19000", cluster.address()));
    let mut request = request.stdout(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    // Those that ask do not come together: two at a time is one that is slow.
    while in_flight().unwrap() < 2 {
        assert!(Instant::now() < deadline, "the request does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
    let name = pod["metadata"]["name"].as_str().unwrap();
    cluster.kubectl(&["delete", "pod", "-n", NAMESPACE, name, "--wait=false"]);
    // Once it is told to end it takes no connection any more.
    while in_flight().is_some() {
        assert!(Instant::now() < deadline, "it is never told to end");
        std::thread::sleep(Duration::from_millis(50));
    }
    let ended = request.try_wait().unwrap();
    assert!(ended.is_some(), "it was told to end before its last request was answered");
    let output = request.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "200");

    cluster.kubectl(&["delete", "-n", NAMESPACE, "ksvc", "slow", "--timeout=60s"]);
    set_prestop_address(cluster, None);
}
