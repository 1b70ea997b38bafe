//! Several proxies: together they keep to what a replica takes, also when one dies.

use std::process::{Child, Stdio};

use serde_json::Value as Json;

use crate::stage::Cluster;

const NAMESPACE: &str = "proxies";
const HOST: &str = "counted.proxies.example.com";
/// Requests that one replica takes at a time.
const LIMIT: u64 = 2;

const COUNTED: &str = r#"
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: counted, namespace: proxies}
spec:
  template:
    metadata:
      annotations: {autoscaling.knative.dev/min-scale: "2", autoscaling.knative.dev/max-scale: "2"}
    spec:
      containerConcurrency: 2
      containers: [{image: docker.io/example/hello-world}]
"#;

/// Pods that a label selects: name and address of those that are ready.
fn pods(cluster: &Cluster, namespace: &str, label: &str) -> Vec<(String, String)> {
    let list = cluster.json(&["get", "pods", "-n", namespace, "-l", label]);
    let pod = |item: &Json| {
        let conditions = item["status"]["conditions"].as_array()?;
        let is = |condition: &Json| condition["type"] == "Ready" && condition["status"] == "True";
        let is_going = !item["metadata"]["deletionTimestamp"].is_null();
        let text = |value: &Json| Some(value.as_str()?.to_owned());
        if is_going || !conditions.iter().any(is) {
            return None;
        }
        Some((text(&item["metadata"]["name"])?, text(&item["status"]["podIP"])?))
    };
    list["items"].as_array().unwrap().iter().filter_map(pod).collect()
}

/// Sends requests to one proxy, thirty at a time; prints the status of each answer.
fn load(cluster: &Cluster, proxy: &str, count: u32) -> Child {
    let url = format!("http://{proxy}:8080/delay?ms=20&n=[1-{count}]");
    let mut command = cluster.command("curl");
    command.args([
        "-sS",
        "--no-progress-meter",
        "-Z",
        "--parallel-immediate",
        "--parallel-max",
        "30",
    ]);
    command.args(["--max-time", "60", "-o", "/dev/null", "-w", "%{http_code}\n"]);
    command.args(["-H", &format!("Host: {HOST}"), &url]);
    command.stdout(Stdio::piped()).spawn().unwrap()
}

fn all_are_good(load: Child, count: u32) {
    let output = load.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let good = text.lines().filter(|line| *line == "200").count();
    assert_eq!(good, count as usize, "{text}");
}

/// The most requests that each replica had at a time.
fn most(cluster: &Cluster) -> Vec<u64> {
    let replicas = pods(cluster, NAMESPACE, "serving.knative.dev/service=counted");
    let ask = |(_, address): &(String, String)| {
        let output =
            cluster.command("curl").arg(format!("http://{address}:8080/whoami")).output().unwrap();
        let answer: Json = serde_json::from_slice(&output.stdout).unwrap();
        answer["max_in_flight"].as_u64().unwrap()
    };
    replicas.iter().map(ask).collect()
}

#[test]
fn together_they_keep_to_the_limit_of_a_replica_also_when_one_dies() {
    let Some(cluster) = Cluster::get() else { return };
    let _installed = cluster.serve();
    cluster.namespace(NAMESPACE);
    cluster.kubectl_with(&["apply", "-f", "-"], COUNTED).unwrap();
    let ready = ["wait", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=60s"];
    cluster.kubectl(&[&ready[..], &["ksvc/counted"]].concat());
    let proxies = pods(cluster, "tidegate-system", "app.kubernetes.io/name=tidegate");
    assert_eq!(proxies.len(), 2, "{proxies:?}");

    let loads: Vec<_> = proxies.iter().map(|(_, proxy)| load(cluster, proxy, 300)).collect();
    loads.into_iter().for_each(|load| all_are_good(load, 300));
    assert_eq!(most(cluster), [LIMIT, LIMIT]);

    // One is killed; the other one has its slots as soon as that is known.
    let (killed, left) = (&proxies[0].0, &proxies[1].1);
    let delete = ["delete", "pod", "-n", "tidegate-system", "--grace-period=0", "--force"];
    cluster.kubectl(&[&delete[..], &[killed]].concat());
    all_are_good(load(cluster, left, 300), 300);
    assert_eq!(most(cluster), [LIMIT, LIMIT]);

    cluster.kubectl(&["delete", "-n", NAMESPACE, "ksvc", "counted", "--timeout=60s"]);
    cluster.start_tidegate();
}
