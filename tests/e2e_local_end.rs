//! No replica outlives tidegate, however that ends; and many replicas at once.
//!
//! A program of its own (`harness = false`): it runs itself as the program that is killed
//! (`drive`) and as its replicas (`listen`, `escape`), which cost next to nothing.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use tidegate::local::{Supervisor, SupervisorSettings, raise_descriptor_limit};
use tidegate::model::{
    ContainerConcurrency, Probe, ProbeAction, Probes, ProcessSpec, Protocol, QueueSettings,
    RevisionId, RevisionSpec, ScalingSpec, Timeouts, Volume, VolumeFile, Workload,
};
use tidegate::platform::{ScaleOrder, ScaleTarget, Update};
use tokio::time::Instant;

/// The soft limit of descriptors that the driver is started with.
const SOFT_LIMIT: u64 = 400;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["listen"] => listen(),
        ["escape"] => escape(),
        ["drive", count, role, folder] => drive(count.parse().unwrap(), role, Path::new(folder)),
        // A test runner asks for the list.
        [.., "--list"] | ["--list", ..] => {}
        _ => {
            for (name, test) in [
                ("nothing_is_left_after_kill", nothing_is_left_after_kill as fn()),
                ("the_guard_is_deaf_to_what_ends_tidegate", the_guard_is_deaf),
                ("two_hundred_replicas_start_and_stop", two_hundred_replicas),
            ] {
                let filters = || arguments.iter().filter(|word| !word.starts_with('-'));
                if filters().next().is_none() || filters().any(|filter| name.contains(filter)) {
                    test();
                    println!("test {name} ... ok");
                }
            }
        }
    }
}

/// A replica: answers its process id, its parent's and its limit of descriptors.
fn listen() {
    let port: u16 = std::env::var("PORT").unwrap().parse().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let limit = getrlimit(Resource::Nofile).current.unwrap();
    let parent = rustix::process::getppid().unwrap().as_raw_nonzero();
    for stream in listener.incoming() {
        let _ = write!(stream.unwrap(), "{} {parent} {limit}", std::process::id());
    }
}

/// A replica whose child leaves its process group, as daemons do, and says who that is.
fn escape() {
    let mut child = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
    println!("escaped {}", child.id());
    let _waits = std::thread::spawn(move || child.wait());
    listen();
}

/// The program that is killed: reports its replicas' addresses, one `ready` line.
fn drive(count: u32, role: &str, folder: &Path) {
    let limit = Rlimit { current: Some(SOFT_LIMIT), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, limit).unwrap();
    raise_descriptor_limit().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let settings = SupervisorSettings {
            program: env!("CARGO_BIN_EXE_tidegate").into(),
            folder: folder.to_owned(),
            ..SupervisorSettings::detect().unwrap()
        };
        let (sender, mut updates) = tokio::sync::mpsc::channel(64);
        let supervisor = Supervisor::start(settings, sender).unwrap();
        let handle = supervisor.handle();
        let revision = revision(role);
        let started = Instant::now();
        handle.scale(&revision, ScaleOrder::of(count)).await.unwrap();
        let addresses = until(&mut updates, count).await;
        println!("ready {} {addresses}", started.elapsed().as_millis());
        let stopping =
            tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
        stopping.await.unwrap().unwrap();
        let stopped = Instant::now();
        handle.scale(&revision, ScaleOrder::of(0)).await.unwrap();
        until(&mut updates, 0).await;
        println!("stopped {}", stopped.elapsed().as_millis());
        drop(handle);
        supervisor.shutdown().await;
    });
}

async fn until(updates: &mut tokio::sync::mpsc::Receiver<Update>, count: u32) -> String {
    loop {
        match updates.recv().await.unwrap() {
            Update::Replicas { endpoints, counts, .. }
                if counts.ready == count && counts.starting + counts.stopping == 0 =>
            {
                let addresses: Vec<String> =
                    endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
                return addresses.join(" ");
            }
            Update::StartFailed { problem, .. } => panic!("{}", problem.message),
            _ => {}
        }
    }
}

fn revision(role: &str) -> Arc<RevisionSpec> {
    let own = std::env::current_exe().unwrap();
    let file = VolumeFile { path: "key".into(), content: b"secret"[..].into(), secret: true };
    let readiness = Probe {
        action: ProbeAction::Tcp { port: None },
        initial_delay: Duration::ZERO,
        period: Duration::ZERO,
        timeout: Duration::from_secs(1),
        success_threshold: 1,
        failure_threshold: 3,
    };
    let process = ProcessSpec {
        command: vec![own.to_str().unwrap().into(), role.into()],
        directory: None,
        env: vec![],
        volumes: vec![Volume { name: "config".into(), files: vec![file] }],
        mounts: vec![],
        probes: Probes { startup: None, readiness, liveness: None },
        memory_limit_bytes: None,
        termination_grace: Duration::from_secs(5),
    };
    Arc::new(RevisionSpec {
        id: RevisionId::new("default", "many-00001"),
        service: None,
        configuration: "many".into(),
        container_concurrency: ContainerConcurrency::Unlimited,
        protocol: Protocol::Http1,
        timeouts: Timeouts { request: Duration::from_secs(300), response_start: None, idle: None },
        scaling: ScalingSpec::default(),
        queue: QueueSettings::default(),
        depends_on: Vec::new(),
        workload: Workload::Process(Arc::new(process)),
    })
}

/// A driver with ready replicas.
struct Driven {
    driver: Child,
    out: BufReader<std::process::ChildStdout>,
    addresses: Vec<SocketAddr>,
    millis: String,
    home: tempfile::TempDir,
}

fn driven(count: u32, role: &str) -> Driven {
    let home = tempfile::tempdir().unwrap();
    let mut driver = Command::new(std::env::current_exe().unwrap())
        .args(["drive", &count.to_string(), role])
        .arg(home.path().join("run"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(driver.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let mut words = line.split_whitespace();
    assert_eq!(words.next(), Some("ready"), "{line}");
    let millis = words.next().unwrap().to_owned();
    let addresses = words.map(|address| address.parse().unwrap()).collect();
    Driven { driver, out, addresses, millis, home }
}

/// Process id, parent and limit of descriptors of a replica.
fn ask(address: SocketAddr) -> [u64; 3] {
    let mut text = String::new();
    TcpStream::connect(address).unwrap().read_to_string(&mut text).unwrap();
    let numbers: Vec<u64> = text.split(' ').map(|word| word.parse().unwrap()).collect();
    numbers.try_into().unwrap()
}

fn alive(pid: u64) -> bool {
    // A zombie has no command line.
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

/// Children of a process, also those it adopted.
fn children(pid: u64) -> Vec<u64> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    list.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn kill(pid: u64, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

/// Waits until a condition holds; the bound is what is promised.
fn within(bound: Duration, what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + bound;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {} ms", bound.as_millis());
        pause(Duration::from_millis(2));
    }
}

fn pause(pause: Duration) {
    let pause = rustix::time::Timespec::try_from(pause).unwrap();
    let _ = rustix::event::poll(&mut [], Some(&pause));
}

fn nothing_is_left_after_kill() {
    let mut driven = driven(5, "escape");
    let mut pids = Vec::new();
    for address in &driven.addresses {
        let [pid, guard, limit] = ask(*address);
        assert_eq!(limit, SOFT_LIMIT, "replicas get the limit tidegate was started with");
        pids.extend([pid, guard]);
        pids.extend(children(pid));
    }
    assert_eq!(pids.len(), 15, "five replicas with a child each; the guard five times");
    let folder = driven.home.path().join("run");
    assert!(folder.exists(), "volumes");
    driven.driver.kill().unwrap();
    driven.driver.wait().unwrap();
    within(Duration::from_secs(1), "all gone", || !pids.iter().any(|pid| alive(*pid)));
    within(Duration::from_secs(1), "secrets gone", || !folder.exists());
}

fn the_guard_is_deaf() {
    let mut driven = driven(1, "listen");
    let [pid, guard, _] = ask(driven.addresses[0]);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        kill(guard, signal);
    }
    pause(Duration::from_millis(50));
    assert_eq!(ask(driven.addresses[0])[..2], [pid, guard], "as before");
    finish(&mut driven);
    within(Duration::from_secs(1), "the guard ends with tidegate", || !alive(guard));
}

fn finish(driven: &mut Driven) -> String {
    writeln!(driven.driver.stdin.as_mut().unwrap()).unwrap();
    let mut line = String::new();
    driven.out.read_line(&mut line).unwrap();
    assert!(driven.driver.wait().unwrap().success());
    line.trim().to_owned()
}

fn two_hundred_replicas() {
    let mut driven = driven(200, "listen");
    assert_eq!(driven.addresses.len(), 200);
    let [_, guard, _] = ask(driven.addresses[199]);
    let status = std::fs::read_to_string(format!("/proc/{guard}/status")).unwrap();
    let resident = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    let stopped = finish(&mut driven);
    println!("200 replicas: ready after {} ms, {stopped} ms; guard {resident}", driven.millis);
    assert!(!alive(guard));
}
