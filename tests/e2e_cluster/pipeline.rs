//! Pipelines against the cluster: the steps of `deploy/github` that run outside GitHub, and the Job
//! that switches a Service.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value as Json;

use crate::stage::{Cluster, repository};

/// A Service of which all traffic is the first revision's, in a namespace of its own.
fn deploy(cluster: &Cluster, namespace: &str) {
    cluster.namespace(namespace);
    let text = "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: hello-world}\nspec:\n  \
                template:\n    spec: {containers: [{image: docker.io/example/hello-world}]}\n";
    cluster.kubectl_with(&["apply", "-n", namespace, "-f", "-"], text).unwrap();
    let ready = ["wait", "-n", namespace, "--for=condition=Ready", "--timeout=60s"];
    cluster.kubectl(&[&ready[..], &["ksvc/hello-world"]].concat());
}

/// Names and shares of the revisions with traffic.
fn traffic(cluster: &Cluster, namespace: &str) -> Vec<(String, u64)> {
    let service = cluster.json(&["get", "-n", namespace, "ksvc", "hello-world"]);
    let entries = service["status"]["traffic"].as_array().unwrap().iter();
    let shares = entries.filter_map(|entry| {
        Some((entry["revisionName"].as_str()?.to_owned(), entry["percent"].as_u64()?))
    });
    shares.filter(|(_, percent)| *percent > 0).collect()
}

fn becomes(cluster: &Cluster, namespace: &str, revision: &str) {
    let wanted = format!("--for=jsonpath={{.status.traffic[0].revisionName}}={revision}");
    cluster.kubectl(&["wait", "-n", namespace, &wanted, "--timeout=60s", "ksvc/hello-world"]);
    assert_eq!(traffic(cluster, namespace), [(revision.to_owned(), 100)]);
}

/// The job's steps with an identifier, run one after the other as GitHub does; whether all succeeded.
struct Job<'a> {
    cluster: &'a Cluster,
    folder: &'a Path,
    env: BTreeMap<String, String>,
}

impl Job<'_> {
    fn run(&mut self, workflow: &Json) -> bool {
        let steps = workflow["jobs"]["deploy"]["steps"].as_array().unwrap();
        let mut has_failed = false;
        for step in steps.iter().filter(|step| step["id"].is_string()) {
            let is_for_failure = step["if"].as_str().is_some_and(|text| text.contains("failure()"));
            if is_for_failure == has_failed {
                has_failed |= !self.step(step);
            }
        }
        !has_failed
    }

    fn step(&mut self, step: &Json) -> bool {
        let noted = self.folder.join("env");
        fs::write(&noted, "").unwrap();
        let mut command = self.cluster.command("bash");
        command.args(["--noprofile", "--norc", "-eo", "pipefail", "-c"]);
        command.arg(step["run"].as_str().unwrap()).envs(&self.env).env("GITHUB_ENV", &noted);
        let output = command.output().unwrap();
        let text = fs::read_to_string(&noted).unwrap();
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        self.env.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        output.status.success()
    }
}

#[test]
fn the_workflow_gives_a_good_revision_all_traffic_and_a_bad_one_none() {
    let Some(cluster) = Cluster::get() else { return };
    let _installed = cluster.serve();
    let namespace = "pipeline";
    deploy(cluster, namespace);
    let text = fs::read_to_string(repository("deploy/github/deploy.yaml")).unwrap();
    let workflow: Json = serde_saphyr::from_str(&text).unwrap();
    let folder = tempfile::tempdir().unwrap();
    // curl goes to the port of the node, as it would to a load balancer by the name's address; and
    // tidegate is the one that was built.
    let bin = folder.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let ours = env!("CARGO_BIN_EXE_tidegate");
    std::os::unix::fs::symlink(ours, bin.join("tidegate")).unwrap();
    fs::write(folder.path().join(".curlrc"), format!("connect-to = \"::{}\"\n", cluster.address()))
        .unwrap();
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in workflow["env"].as_object().unwrap() {
        env.insert(name.clone(), value.as_str().unwrap().to_owned());
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let home = folder.path().display().to_string();
    let image = "docker.io/example/hello-world:canary".to_owned();
    for (name, value) in [
        ("NAMESPACE", namespace.to_owned()),
        ("IMAGE", image),
        ("CHECK_REQUESTS", "30".to_owned()),
        ("CURL_HOME", home),
        ("PATH", path),
    ] {
        env.insert(name.to_owned(), value);
    }
    let mut job = Job { cluster, folder: folder.path(), env };
    assert!(job.run(&workflow), "{:?}", traffic(cluster, namespace));
    becomes(cluster, namespace, "hello-world-00002");

    // The next one fails what is asked of it.
    job.env.insert("IMAGE".to_owned(), "docker.io/example/hello-world".to_owned());
    job.env.insert("CHECK_PATH".to_owned(), "/status?code=500".to_owned());
    assert!(!job.run(&workflow));
    becomes(cluster, namespace, "hello-world-00002");
    cluster.kubectl(&["delete", "-n", namespace, "ksvc", "hello-world", "--timeout=60s"]);
}

#[test]
fn a_job_switches_a_service_to_its_newest_revision() {
    let Some(cluster) = Cluster::get() else { return };
    let _installed = cluster.serve();
    let namespace = "blue-green";
    deploy(cluster, namespace);
    let patch = |patch: &str| {
        let service = ["patch", "ksvc", "-n", namespace, "hello-world", "--type=merge", "-p"];
        cluster.kubectl(&[&service[..], &[patch]].concat());
    };
    patch(r#"{"spec": {"traffic": [{"revisionName": "hello-world-00001", "percent": 100}]}}"#);
    let container = r#"{"image": "docker.io/example/hello-world:canary"}"#;
    patch(&format!(r#"{{"spec": {{"template": {{"spec": {{"containers": [{container}]}}}}}}}}"#));
    let latest = "--for=jsonpath={.status.latestReadyRevisionName}=hello-world-00002";
    cluster.kubectl(&["wait", "-n", namespace, latest, "--timeout=60s", "ksvc/hello-world"]);
    assert_eq!(traffic(cluster, namespace), [("hello-world-00001".to_owned(), 100)]);
    cluster.kubectl(&["apply", "-n", namespace, "-f", "deploy/jobs/blue-green.yaml"]);
    let done = ["wait", "-n", namespace, "--for=condition=Complete", "--timeout=60s"];
    cluster.kubectl(&[&done[..], &["job/hello-world-blue-green"]].concat());
    becomes(cluster, namespace, "hello-world-00002");
    cluster.kubectl(&["delete", "-n", namespace, "ksvc", "hello-world", "--timeout=60s"]);
}
