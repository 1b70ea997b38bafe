//! The cluster that all tests of a run share.

use std::fs::File;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{LazyLock, Once};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value as Json;

/// Exit status of `cluster` where the machine lacks something (EX_UNAVAILABLE).
const UNAVAILABLE: i32 = 69;

/// Knative's settings that differ from their defaults in these tests.
const SETTINGS: [(&str, &str); 2] = [
    ("config-domain", r#"{"data": {"example.com": ""}}"#),
    ("config-autoscaler", r#"{"data": {"allow-zero-initial-scale": "true"}}"#),
];

/// A file of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A running cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    folder: PathBuf,
}

static CLUSTER: LazyLock<Result<Cluster, String>> = LazyLock::new(Cluster::start);

impl Cluster {
    /// The cluster, with the kinds of tidegate; started by the first test that asks. None where
    /// this machine can't have one. This thread, and what it starts, is in the cluster's network
    /// from now on.
    pub(crate) fn get() -> Option<&'static Self> {
        match &*CLUSTER {
            Ok(cluster) => {
                cluster.enter();
                Some(cluster)
            }
            Err(why) if std::env::var_os("CI").is_some() => panic!("no cluster: {why}"),
            Err(why) => {
                // Not through the macros, whose output the harness hides.
                let name = std::thread::current().name().unwrap_or_default().to_owned();
                let line = format!("SKIPPED {name}: no cluster on this machine: {why}\n");
                let _ = std::io::stderr().write_all(line.as_bytes());
                None
            }
        }
    }

    /// Ends with this process, however that ends.
    fn start() -> Result<Self, String> {
        let script = repository("tests/cluster/cluster");
        let check = run(Command::new(&script).arg("check"));
        if check.status.code() == Some(UNAVAILABLE) {
            return Err(text(&check.stderr));
        }
        let folder = PathBuf::from(format!("/tmp/tidegate-cluster-{}", std::process::id()));
        let owner = std::process::id().to_string();
        let up = run(Command::new(&script).arg("up").arg(&folder).args(["--owner", &owner]));
        assert!(up.status.success(), "the cluster does not start:\n{}", text(&up.stderr));
        let cluster = Self { folder };
        cluster.enter();
        cluster.kubectl(&["apply", "-k", "deploy/kubernetes/crds"]);
        cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all"]);
        Ok(cluster)
    }

    fn enter(&self) {
        let state = std::fs::read(self.folder.join("state.json")).unwrap();
        let state: Json = serde_json::from_slice(&state).unwrap();
        let name = Path::new("/run/netns").join(state["netns"].as_str().unwrap());
        let file = File::open(name).unwrap();
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }

    /// tidegate's own manifests, applied; held by one test at a time, since one takes them away.
    pub(crate) fn install(&self) -> MutexGuard<'static, ()> {
        static INSTALLED: Mutex<()> = Mutex::new(());
        let installed = INSTALLED.lock();
        self.kubectl(&["apply", "-k", "deploy/kubernetes"]);
        installed
    }

    /// tidegate running in the cluster, and images of programs as users have them.
    pub(crate) fn serve(&self) -> MutexGuard<'static, ()> {
        static IMAGES: Once = Once::new();
        let installed = self.install();
        IMAGES.call_once(|| {
            let built = run(&mut Command::new(repository("tests/cluster/static.sh")));
            assert!(built.status.success(), "{}", text(&built.stderr));
            let program = text(&built.stdout);
            let words = ["/tidegate", "echo", "--listen", "[::]"];
            let echo = words.map(|word| format!("--entrypoint={word}"));
            self.load("tidegate:0.1.0", &program, &[]);
            self.load("docker.io/example/hello-world", &program, &echo);
            self.load("docker.io/example/hello-world:canary", &program, &echo);
            for (settings, data) in SETTINGS {
                let patch =
                    ["patch", "configmap", "-n", "knative-serving", settings, "--type=merge"];
                self.kubectl(&[&patch[..], &["-p", data]].concat());
            }
        });
        self.start_tidegate();
        installed
    }

    /// Applies tidegate's manifests and waits until it is ready.
    #[expect(clippy::disallowed_methods, reason = "no event loop, and a real network")]
    pub(crate) fn start_tidegate(&self) {
        self.kubectl(&["apply", "-k", "deploy/kubernetes"]);
        let rollout = ["rollout", "status", "deployment/tidegate", "-n", "tidegate-system"];
        self.kubectl(&[&rollout[..], &["--timeout=90s"]].concat());
        // The node's port leads there once kube-proxy has heard of it, which is a second later.
        let address = self.address();
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Err(error) = TcpStream::connect(address) {
            assert!(Instant::now() < deadline, "{address}: {error}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where requests come in from outside: the port of the node.
    pub(crate) fn address(&self) -> SocketAddr {
        let service = self.json(&["get", "-n", "tidegate-system", "service", "tidegate"]);
        let port = service["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
        SocketAddr::new([10, 77, 0, 1].into(), u16::try_from(port).unwrap())
    }

    /// Makes an image of a program and gives it to the nodes.
    fn load(&self, image: &str, program: &str, more: &[String]) {
        let mut command = Command::new(repository("tests/cluster/cluster"));
        command.arg("load").arg(&self.folder).args([image, program]).args(more);
        let loaded = run(&mut command);
        assert!(loaded.status.success(), "{}", text(&loaded.stderr));
    }

    /// A command with the cluster's kubectl in its path, started in the repository.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.folder.join("in"));
        command.arg(program).current_dir(repository("."));
        command
    }

    /// What kubectl prints; it must succeed.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        self.kubectl_with(arguments, "").unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    /// What kubectl prints when it is given a text, or why it fails.
    pub(crate) fn kubectl_with(&self, arguments: &[&str], stdin: &str) -> Result<String, String> {
        let mut command = self.command("kubectl");
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// The same, read as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Json {
        serde_json::from_str(&self.kubectl(&[arguments, &["-o", "json"]].concat())).unwrap()
    }

    /// The bodies of a number of answers to a host, from outside: by the port of the node.
    pub(crate) fn curl(&self, host: &str, count: usize) -> Vec<String> {
        let url = format!("http://{}/?n=[1-{count}]", self.address());
        let mut command = self.command("curl");
        command.args(["-sS", "--fail-with-body", "--max-time", "60", "-w", "\n"]);
        let output = command.args(["-H", &format!("Host: {host}"), &url]).output().unwrap();
        let body = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{body}{}", String::from_utf8_lossy(&output.stderr));
        body.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// One where only the API server looks at objects, not the webhook of a tidegate that may be
    /// there or not.
    pub(crate) fn bare_namespace(&self, name: &str) {
        let labels = "{webhooks.knative.dev/exclude: \"true\"}";
        let text = format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {labels}}}}}"
        );
        self.kubectl_with(&["apply", "-f", "-"], &text).unwrap();
    }

    /// A namespace of a test's own, made empty.
    pub(crate) fn namespace(&self, name: &str) {
        self.kubectl(&["create", "namespace", name]);
    }
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}
