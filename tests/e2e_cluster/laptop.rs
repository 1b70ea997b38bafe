//! A service that began on a laptop, taken to the cluster and back, under the same image names.

use crate::machine::{Tidegate, tidegate};
use crate::stage::Cluster;

const NAMESPACE: &str = "laptop";
const RUN: &[&str] = &["--run", "laptop/hello=tidegate echo"];

/// A Service without a command: here it is the image that runs, there what `--run` names.
fn manifest(target: &str) -> String {
    format!(
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{name: hello, namespace: laptop}}\n\
         spec:\n  template:\n    metadata: {{annotations: {{autoscaling.knative.dev/window: 30s}}}}\n    \
         spec: {{containers: [{{image: docker.io/example/hello-world, env: [{{name: TARGET, value: \
         {target}}}]}}]}}\n"
    )
}

/// What a client command prints that asks the tidegate on this machine.
fn ask(served: &Tidegate, arguments: &[&str]) -> String {
    let mut command = tidegate();
    let output = command.args(arguments).arg("--admin").arg(served.admin.to_string()).output();
    let output = output.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// How often each answer came of a hundred.
fn counted(answers: &[String]) -> (usize, usize) {
    let count = |text: &str| answers.iter().filter(|answer| *answer == text).count();
    (count("Hello One!"), count("Hello Two!"))
}

#[test]
fn the_same_revisions_and_shares_there_and_back() {
    let Some(cluster) = Cluster::get() else { return };
    let _installed = cluster.serve();
    cluster.namespace(NAMESPACE);

    let laptop = Tidegate::with(&manifest("One"), RUN);
    laptop.write(&manifest("Two"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(laptop.logged("configuration loaded"));
    ask(&laptop, &["traffic", "laptop/hello", "hello-00001=80", "hello-00002=20"]);
    let exported = ask(&laptop, &["export"]);

    let apply = ["apply", "--server-side", "--field-manager=laptop", "-f", "-"];
    cluster.kubectl_with(&apply, &exported).unwrap();
    let ready = ["wait", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=60s", "ksvc/hello"];
    cluster.kubectl(&ready);
    let traffic = "jsonpath={range .status.traffic[*]}{.revisionName}={.percent} {end}";
    let traffic = cluster.kubectl(&["get", "-n", NAMESPACE, "ksvc", "hello", "-o", traffic]);
    assert_eq!(traffic.trim(), "hello-00001=80 hello-00002=20");
    assert_eq!(counted(&cluster.curl("hello.laptop.example.com", 100)), (80, 20));

    let mut command = cluster.command(env!("CARGO_BIN_EXE_tidegate"));
    let output = command.args(["export", "--kubernetes"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let of_laptop = |document: &&str| document.contains("namespace: laptop");
    let back: Vec<&str> = text.split("---\n").filter(of_laptop).collect();
    let back = Tidegate::with(&back.join("---\n"), RUN);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &exported).unwrap();
    let told = ask(&back, &["restore", file.path().to_str().unwrap(), "--check"]);
    assert!(told.starts_with("what runs is what "), "{told}");
    cluster.kubectl(&["delete", "-n", NAMESPACE, "ksvc", "hello", "--timeout=60s"]);
    cluster.kubectl(&["delete", "-n", NAMESPACE, "revision", "--all", "--timeout=60s"]);
}
