//! `tidegate serve` as a process, on manifests that a test writes.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![expect(clippy::unwrap_used, reason = "tests panic on purpose")]

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::Instant;

/// The longest that anything in these tests may take that is expected to happen.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A running tidegate; killed when dropped.
pub(crate) struct Tidegate {
    child: Child,
    pub(crate) http: Vec<SocketAddr>,
    pub(crate) inside: Vec<SocketAddr>,
    pub(crate) https: Vec<SocketAddr>,
    pub(crate) admin: SocketAddr,
    folder: TempDir,
    log: Arc<Mutex<String>>,
}

/// The program with a clean environment.
pub(crate) fn tidegate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEGATE_") || name == "PORT" || name == "TARGET" {
            command.env_remove(name);
        }
    }
    command
}

/// A file of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

impl Tidegate {
    /// Serves the manifests on a free port of 127.0.0.1.
    pub(crate) fn serve(manifests: &str) -> Self {
        Self::with(manifests, &[])
    }

    /// The same with further arguments.
    pub(crate) fn with(manifests: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("services.yaml");
        std::fs::write(&file, manifests).unwrap();
        Self::start(folder, &[&file], arguments)
    }

    /// Serves files that exist.
    pub(crate) fn files(files: &[&Path], arguments: &[&str]) -> Self {
        Self::start(tempfile::tempdir().unwrap(), files, arguments)
    }

    fn start(folder: TempDir, files: &[&Path], arguments: &[&str]) -> Self {
        let mut command = tidegate();
        command.arg("serve");
        for file in files {
            command.arg("-f").arg(file);
        }
        if !arguments.contains(&"--http") {
            command.args(["--http", "127.0.0.1:0"]);
        }
        if !arguments.contains(&"--state-dir") {
            command.args(["--state-dir", "none"]);
        }
        command.args(["--admin", "127.0.0.1:0"]);
        command.args(arguments).current_dir(repository("."));
        Self::spawn(folder, command)
    }

    /// Serves as a command says that a test put together.
    pub(crate) fn spawned(command: Command) -> Self {
        Self::spawn(tempfile::tempdir().unwrap(), command)
    }

    fn spawn(folder: TempDir, mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log: Arc<Mutex<String>> = Arc::default();
        let reader = {
            let (log, stderr) = (Arc::clone(&log), child.stderr.take().unwrap());
            std::thread::spawn(move || {
                for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                    let mut log = log.lock();
                    log.push_str(&String::from_utf8_lossy(&line));
                    log.push('\n');
                }
            })
        };
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Some(addresses) = line.trim().strip_prefix("listening ") else {
            let _ = child.kill();
            let _ = child.wait();
            reader.join().unwrap();
            panic!("tidegate does not serve: {line:?}\n{}", log.lock());
        };
        let of = |name: &str| -> Vec<SocketAddr> {
            let addresses = addresses.split(' ');
            addresses.filter_map(|a| a.strip_prefix(name)?.parse().ok()).collect()
        };
        let (http, https, admin) = (of("http="), of("https="), of("admin=")[0]);
        let inside = of("http-internal=");
        assert!(!http.is_empty(), "{line}");
        Self { child, http, inside, https, admin, folder, log }
    }

    /// The first data listener.
    pub(crate) fn address(&self) -> SocketAddr {
        self.http[0]
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Replaces the manifests.
    pub(crate) fn write(&self, manifests: &str) {
        std::fs::write(self.folder.path().join("services.yaml"), manifests).unwrap();
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().clone()
    }

    /// Waits until the log has a text.
    pub(crate) async fn logged(&self, text: &str) {
        until(&format!("{text:?} in the log"), || self.log.lock().contains(text)).await;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "tidegate does not end:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Resident memory in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Processes of the same process family, itself not included.
    pub(crate) fn descendants(&self) -> Vec<u32> {
        descendants(self.pid())
    }
}

impl Drop for Tidegate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let mut text = String::new();
            let _ = writeln!(text, "--- log of tidegate:\n{}---", self.log.lock());
            // The harness captures this stream of a test.
            #[expect(clippy::print_stderr, reason = "shown with a failed test")]
            {
                eprintln!("{text}");
            }
        }
    }
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Children of a process, their children and so on.
pub(crate) fn descendants(root: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else {
            continue;
        };
        if let Some(parent) = parent_of(pid) {
            parents.push((pid, parent));
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

fn parent_of(pid: u32) -> Option<u32> {
    let mut stat = String::new();
    std::fs::File::open(format!("/proc/{pid}/stat")).ok()?.read_to_string(&mut stat).ok()?;
    // The name in parentheses may hold anything; the state follows, then the parent.
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// Whether a process exists and is not only a corpse that nobody has collected.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// A Service document; by default its program is `tidegate echo`.
pub(crate) struct Service {
    name: String,
    labels: String,
    annotations: String,
    spec: String,
    container: String,
    env: String,
    tail: String,
    command: String,
}

impl Service {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            labels: String::new(),
            annotations: String::new(),
            spec: String::new(),
            container: String::new(),
            env: String::new(),
            tail: String::new(),
            command: r#"["tidegate", "echo"]"#.to_owned(),
        }
    }

    /// A label of the service.
    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        let _ = writeln!(self.labels, "    {key}: '{value}'");
        self
    }

    /// An annotation of the template.
    pub(crate) fn annotation(mut self, key: &str, value: &str) -> Self {
        let _ = writeln!(self.annotations, "        {key}: '{value}'");
        self
    }

    /// Replicas are somebody else's.
    pub(crate) fn at(mut self, address: SocketAddr) -> Self {
        self.command.clear();
        self.annotation("tidegate.dev/static-endpoints", &address.to_string())
    }

    /// A line of the template's spec.
    pub(crate) fn spec(mut self, line: &str) -> Self {
        let _ = writeln!(self.spec, "      {line}");
        self
    }

    /// A line of the container.
    pub(crate) fn container(mut self, line: &str) -> Self {
        let _ = writeln!(self.container, "          {line}");
        self
    }

    pub(crate) fn h2c(self) -> Self {
        self.container("ports: [{name: h2c, containerPort: 8080}]")
    }

    pub(crate) fn command(mut self, json: &str) -> Self {
        json.clone_into(&mut self.command);
        self
    }

    /// A shell's program, in which `tidegate` is the running one.
    pub(crate) fn shell(self, script: &str) -> Self {
        let script = script.replace("tidegate", env!("CARGO_BIN_EXE_tidegate"));
        self.command(&serde_json::json!(["sh", "-c", script]).to_string())
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        let _ = writeln!(self.env, "            - {{name: {name}, value: '{value}'}}");
        self
    }

    /// `traffic`, as a flow sequence.
    pub(crate) fn traffic(mut self, flow: &str) -> Self {
        let _ = writeln!(self.tail, "  traffic: {flow}");
        self
    }

    pub(crate) fn yaml(&self) -> String {
        let mut yaml = format!(
            "---\napiVersion: serving.knative.dev/v1\nkind: Service\nmetadata:\n  name: {}\n",
            self.name
        );
        if !self.labels.is_empty() {
            let _ = write!(yaml, "  labels:\n{}", self.labels);
        }
        yaml.push_str("spec:\n  template:\n");
        if !self.annotations.is_empty() {
            let _ = write!(yaml, "    metadata:\n      annotations:\n{}", self.annotations);
        }
        let _ = write!(yaml, "    spec:\n{}      containers:\n        - image: app\n", self.spec);
        if !self.command.is_empty() {
            let _ = writeln!(yaml, "          command: {}", self.command);
        }
        yaml.push_str(&self.container);
        if !self.env.is_empty() {
            let _ = write!(yaml, "          env:\n{}", self.env);
        }
        yaml.push_str(&self.tail);
        yaml
    }
}

/// A whole file of services.
pub(crate) fn file(services: &[Service]) -> String {
    services.iter().map(Service::yaml).collect()
}

/// The host of a service in the default namespace.
pub(crate) fn host(name: &str) -> String {
    format!("{name}.default.localhost")
}

/// Whether a program that a test needs is there; fails with what to install otherwise.
pub(crate) fn needs(program: &str, package: &str) {
    let found = Command::new(program).arg("--version").output();
    assert!(
        found.is_ok_and(|output| output.status.success()),
        "this test needs {program}: install Debian's package `{package}`"
    );
}
