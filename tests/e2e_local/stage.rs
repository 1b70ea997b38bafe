//! A supervisor with its guard on a stage, and the programs that it runs.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate::local::{Supervisor, SupervisorHandle, SupervisorSettings};
use tidegate::model::{
    ContainerConcurrency, EndpointId, Probe, ProbeAction, Probes, Problem, ProcessSpec, Protocol,
    QueueSettings, Reason, RevisionId, RevisionSpec, ScalingSpec, ServiceId, Timeouts, Workload,
};
use tidegate::platform::{Endpoint, ReplicaCounts, ScaleOrder, ScaleTarget, Update};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
/// Longest wait for anything that ought to happen.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// An HTTP server in plain Perl (part of every Debian). `/env/NAME` answers a variable, `/pid` the
/// process id, `/fail` and `/mend` turn the other answers into 503 and back, `/die` ends it. A `$$`
/// of Perl's or a shell's is written `$$$$`, as in any manifest.
pub(super) const SERVER: &str = r#"
use IO::Socket::INET;
$| = 1;
my $port = $ARGV[0] // $ENV{PORT};
my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => $port, Listen => 64,
    ReuseAddr => 1) or die "listen tcp 127.0.0.1:$port: bind: $!\n";
my $status = "200 OK";
while (1) {
    my $c = $s->accept or next;
    my $line = <$c> // "";
    my ($path) = $line =~ m{^GET (\S+)};
    if (defined $path) {
        while (<$c>) { last if /^\r?\n$/ }
        my $body = "hello";
        $body = $ENV{$1} // "(unset)" if $path =~ m{^/env/(.*)};
        $body = $$$$ if $path eq "/pid";
        exit 7 if $path eq "/die";
        $status = "503 Broken" if $path eq "/fail";
        $status = "200 OK" if $path eq "/mend";
        my $now = $path =~ m{^/(env|pid)} ? "200 OK" : $status;
        print $c "HTTP/1.1 $now\r\nContent-Length: ".length($body)."\r\nConnection: close\r\n\r\n$body";
    }
    close $c;
}
"#;

pub(super) fn tcp_probe() -> Probe {
    Probe {
        action: ProbeAction::Tcp { port: None },
        initial_delay: Duration::ZERO,
        period: Duration::ZERO,
        timeout: Duration::from_secs(1),
        success_threshold: 1,
        failure_threshold: 3,
    }
}

pub(super) fn http_probe(path: &str) -> Probe {
    Probe {
        action: ProbeAction::Http { path: path.into(), port: None, headers: vec![] },
        period: Duration::from_millis(100),
        failure_threshold: 1,
        ..tcp_probe()
    }
}

pub(super) fn process(command: &[&str]) -> ProcessSpec {
    ProcessSpec {
        command: command.iter().map(|part| (*part).into()).collect(),
        directory: None,
        env: vec![],
        volumes: vec![],
        mounts: vec![],
        probes: Probes { startup: None, readiness: tcp_probe(), liveness: None },
        memory_limit_bytes: None,
        termination_grace: Duration::from_secs(5),
    }
}

pub(super) fn perl() -> ProcessSpec {
    process(&["perl", "-e", SERVER])
}

pub(super) fn revision(workload: Workload) -> Arc<RevisionSpec> {
    Arc::new(RevisionSpec {
        id: RevisionId::new("default", "hello-00001"),
        service: Some(ServiceId::new("default", "hello")),
        configuration: "hello".into(),
        container_concurrency: ContainerConcurrency::Unlimited,
        protocol: Protocol::Http1,
        timeouts: Timeouts { request: Duration::from_secs(300), response_start: None, idle: None },
        scaling: ScalingSpec { progress_deadline: Duration::from_secs(20), ..Default::default() },
        queue: QueueSettings::default(),
        depends_on: Vec::new(),
        workload,
    })
}

pub(super) fn of(process: ProcessSpec) -> Arc<RevisionSpec> {
    revision(Workload::Process(Arc::new(process)))
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) counts: ReplicaCounts,
    pub(super) problems: Vec<Problem>,
    pub(super) cold_starts: usize,
}

/// A supervisor and what it reported.
pub(super) struct Stage {
    pub(super) supervisor: Supervisor,
    pub(super) handle: SupervisorHandle,
    pub(super) updates: mpsc::Receiver<Update>,
    pub(super) states: HashMap<RevisionId, State>,
    pub(super) _home: tempfile::TempDir,
}

impl Stage {
    pub(super) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let settings = SupervisorSettings {
            program: env!("CARGO_BIN_EXE_tidegate").into(),
            folder: home.path().join("run"),
            ..SupervisorSettings::detect().unwrap()
        };
        let (sender, updates) = mpsc::channel(8);
        let supervisor = Supervisor::start(settings, sender).unwrap();
        let handle = supervisor.handle();
        Self { supervisor, handle, updates, states: HashMap::new(), _home: home }
    }

    pub(super) async fn scale(
        &self,
        revision: &Arc<RevisionSpec>,
        replicas: u32,
        spare: &[EndpointId],
    ) {
        let order = ScaleOrder { spare: spare.to_vec(), ..ScaleOrder::of(replicas) };
        self.handle.scale(revision, order).await.unwrap();
    }

    /// Takes updates until the revision's state is as wanted.
    pub(super) async fn until(
        &mut self,
        revision: &Arc<RevisionSpec>,
        what: &str,
        wanted: impl Fn(&State) -> bool,
    ) -> &State {
        let deadline = Instant::now() + PATIENCE;
        let id = revision.id.clone();
        while !wanted(self.states.entry(id.clone()).or_default()) {
            let update = tokio::time::timeout_at(deadline, self.updates.recv()).await;
            let Ok(Some(update)) = update else {
                panic!("{what}: not seen, but {:?}", self.states[&id]);
            };
            self.take(update);
            let problems = self.states.get(&id).map_or(0, |state| state.problems.len());
            assert!(problems < 5, "{what}: not seen, but {:?}", self.states[&id].problems.last());
        }
        &self.states[&id]
    }

    pub(super) fn take(&mut self, update: Update) {
        match update {
            Update::Replicas { revision, endpoints, counts } => {
                let state = self.states.entry(revision).or_default();
                state.endpoints = endpoints;
                state.counts = counts;
            }
            Update::Found { revision, .. } => panic!("{revision} was found"),
            Update::StartFailed { revision, problem } => {
                self.states.entry(revision).or_default().problems.push(problem);
            }
            Update::ColdStart { revision, .. } => {
                self.states.entry(revision).or_default().cold_starts += 1;
            }
            Update::World(_) => unreachable!("a supervisor has no configuration"),
        }
    }

    /// Ready endpoints once there are so many and nothing else goes on.
    pub(super) async fn settled(
        &mut self,
        revision: &Arc<RevisionSpec>,
        ready: u32,
    ) -> Vec<Endpoint> {
        let counts = ReplicaCounts { ready, ..Default::default() };
        let what = format!("{ready} ready replicas");
        self.until(revision, &what, |state| state.counts == counts).await.endpoints.clone()
    }

    /// The text of the next failed start.
    pub(super) async fn failure(&mut self, revision: &Arc<RevisionSpec>) -> String {
        let state =
            self.until(revision, "a failed start", |state| !state.problems.is_empty()).await;
        let problem = state.problems[0].clone();
        assert_eq!(problem.reason, Reason::StartFailed);
        self.states.clear();
        problem.message.to_string()
    }

    pub(super) async fn end(self) {
        timeout(PATIENCE, self.supervisor.shutdown()).await.unwrap();
    }
}

pub(super) async fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

/// Whether a command can be run here; a test of an interpreter that is missing has no subject.
pub(super) fn has(program: &str) -> bool {
    std::process::Command::new(program).arg("--version").output().is_ok()
}

pub(super) fn alive(pid: &str) -> bool {
    // A zombie has no command line.
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

pub(super) async fn dies(pid: &str) {
    let deadline = Instant::now() + PATIENCE;
    while alive(pid) {
        assert!(Instant::now() < deadline, "process {pid} lives on");
        sleep(Duration::from_millis(5)).await;
    }
}

pub(super) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(super) fn parent(pid: &str) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().to_owned()
}
