//! What many services, revisions and replicas cost: memory, processor time at rest, load, and the
//! reload of one edit. A table to look at, not a test: nothing here fails when it is slow.
//!
//! ```text
//! cargo bench --bench scale                        all of it, some minutes
//! cargo bench --bench scale -- load 10000          reading in this process: a folder, one file
//! cargo bench --bench scale -- idle 10000 100000   the program with so many services at rest
//! cargo bench --bench scale -- active 1000 10000   with so many that have a replica each
//! cargo bench --bench scale -- replicas 1000       with one service of so many child processes
//! ```
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tidegate::config::world::{Loaded, Loader, LoaderOptions, SourceFile};
use tidegate::model::World;
use tidegate::revision::{ProcessQueue, QueueLimits, Revision, Setting};
use tidegate::snapshot::Registry;
use tidegate::stats::{Clock, RevisionStats};
use tokio::time::Instant;

/// How long a process is looked at while it rests.
const REST: Duration = Duration::from_secs(10);
/// What it may do after its start before it is looked at.
const CALM: Duration = Duration::from_secs(5);

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let numbers: Vec<usize> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let wanted = |name: &str, usual: &[usize]| -> Vec<usize> {
        match words.first() {
            Some(first) if first != name => Vec::new(),
            Some(_) if !numbers.is_empty() => numbers.clone(),
            _ => usual.to_vec(),
        }
    };
    for count in wanted("load", &[1_000, 10_000]) {
        load(count);
    }
    for count in wanted("idle", &[10_000, 100_000]) {
        idle(count);
    }
    for count in wanted("active", &[1_000, 10_000]) {
        active(count);
    }
    for count in wanted("replicas", &[1_000]) {
        replicas(count);
    }
}

fn show(what: &str, value: impl std::fmt::Display) {
    println!("  {what:<44} {value:>12}");
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

// Manifests.

fn service(index: usize, edit: usize, template: &str) -> String {
    format!(
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata:\n  name: s{index}\nspec:\n  \
         template:\n{template}    spec:\n      containers:\n        - image: app\n          \
         command: [tidegate, echo]\n          env:\n            - {{name: EDIT, value: \
         '{edit}'}}\n"
    )
}

/// A template's metadata with annotations.
fn annotated(annotations: &[(&str, &str)]) -> String {
    let mut text = "    metadata:\n      annotations:\n".to_owned();
    for (key, value) in annotations {
        let _ = writeln!(text, "        {key}: '{value}'");
    }
    text
}

fn write_folder(folder: &Path, count: usize, template: &str) {
    for index in 0..count {
        fs::write(folder.join(format!("s{index}.yaml")), service(index, 0, template)).unwrap();
    }
}

// In this process.

fn load(count: usize) {
    let file = |index: usize, edit: usize| {
        SourceFile::new(format!("s{index}.yaml"), service(index, edit, ""))
    };
    println!("{count} services in a folder, read in this process");
    let mut folder: Vec<SourceFile> = (0..count).map(|index| file(index, 0)).collect();
    let edited = file(count / 2, 1);
    loads(&folder.clone(), || {
        folder[count / 2] = edited;
        folder
    });
    println!("{count} services in one file, read in this process");
    let whole = |edit: usize| {
        let documents =
            (0..count).map(|index| service(index, if index == count / 2 { edit } else { 0 }, ""));
        vec![SourceFile::new("all.yaml", documents.collect::<Vec<_>>().join("---\n"))]
    };
    loads(&whole(0), || whole(1));
}

/// Loads, loads again after an edit, and makes tables of both.
fn loads(files: &[SourceFile], edit: impl FnOnce() -> Vec<SourceFile>) {
    let before = memory("self");
    let mut loader = Loader::new(LoaderOptions::default());
    let mut tables = Tables::new();
    let first = timed("first load", || loader.load(files));
    timed("first table", || tables.apply(&first));
    let after_load = memory("self");
    show("memory", mib(after_load.saturating_sub(before)));
    timed("load without an edit", || loader.load(files));
    let files = edit();
    let second = timed("load after one edit", || loader.load(&files));
    assert_eq!(second.revisions.len(), first.revisions.len() + 1);
    timed("table after one edit", || tables.apply(&second));
}

fn timed<T: Timed>(what: &str, run: impl FnOnce() -> T) -> T::Kept {
    let start = Instant::now();
    let made = run();
    show(what, ms(start.elapsed()));
    made.kept()
}

/// What is made while the time is taken; keeping it does not count.
trait Timed {
    type Kept;
    fn kept(self) -> Self::Kept;
}

impl Timed for Loaded {
    type Kept = Arc<World>;
    fn kept(self) -> Arc<World> {
        assert!(self.problems.is_empty(), "{}", self.problems[0]);
        self.world
    }
}

impl Timed for () {
    type Kept = ();
    fn kept(self) {}
}

/// The live revisions and the routing table of a world.
struct Tables {
    registry: Registry,
    setting: Setting,
    clock: Clock,
}

impl Tables {
    fn new() -> Self {
        let setting = Setting {
            workers: 2,
            process: Arc::new(ProcessQueue::new(QueueLimits::default())),
            replans: Arc::default(),
            shares: None,
        };
        Self { registry: Registry::default(), setting, clock: Clock::start() }
    }

    fn apply(&mut self, world: &Arc<World>) {
        let Self { registry, setting, clock } = self;
        let (snapshot, _) = registry.apply(
            world,
            |spec| {
                let stats =
                    RevisionStats::new(spec.id.clone(), *clock, setting.workers, Arc::default());
                Revision::new(Arc::clone(spec), stats, setting, 7)
            },
            7,
        );
        assert_eq!(snapshot.services().len(), world.services.len());
    }
}

// As a process.

fn idle(count: usize) {
    println!("{count} services in a folder, at rest");
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), count, "");
    let program = Program::start(folder.path(), &[]);
    program.rest();
    program.edit(count / 2, "");
    println!("  a second edit: by now files are trusted that did not change");
    program.edit(count / 3, "");
}

fn active(count: usize) {
    println!("{count} services with a replica each (one program behind all), no requests");
    let echo = Echo::start();
    let address = echo.address.to_string();
    let template = annotated(&[
        ("tidegate.dev/static-endpoints", &address),
        ("autoscaling.knative.dev/min-scale", "1"),
    ]);
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), count, &template);
    let program = Program::start(folder.path(), &[]);
    program.rest();
    program.edit(count / 2, &template);
}

fn replicas(count: usize) {
    println!("one service of {count} replicas, each a process");
    let folder = tempfile::tempdir().unwrap();
    let number = count.to_string();
    let template = annotated(&[("autoscaling.knative.dev/min-scale", &number)]);
    write_folder(folder.path(), 1, &template);
    let start = Instant::now();
    let program = Program::start(folder.path(), &["--max-replicas", &number]);
    let ready = format!("\"ready\":{count}");
    while !program.admin("/api/v1/revisions").replace(' ', "").contains(&ready) {
        wait(Duration::from_millis(50));
    }
    show("all ready after", ms(start.elapsed()));
    program.rest();
    let start = Instant::now();
    let cpu = program.cpu();
    let requests = 1_000;
    for _ in 0..requests {
        assert!(program.get("s0.default.localhost").contains(" 200 "));
    }
    let each = program.cpu_since(&cpu) / requests;
    show("processor time a request, own connection", format!("{:.1} us", each.as_secs_f64() * 1e6));
    show("a request takes", ms(start.elapsed() / requests));
}

/// `tidegate echo`, as somebody else's replica.
struct Echo {
    child: Child,
    address: SocketAddr,
}

impl Echo {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .arg("echo")
            .env("PORT", "0")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let line = first_line(&mut child);
        let address = line.trim().rsplit_once('=').unwrap().1.parse().unwrap();
        Self { child, address }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `tidegate serve`.
struct Program {
    child: Child,
    http: SocketAddr,
    admin: SocketAddr,
    folder: std::path::PathBuf,
}

impl Program {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let start = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["serve", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--state-dir", "none", "--log-level", "warn", "-f"])
            .arg(folder)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let line = first_line(&mut child);
        show("serves after", ms(start.elapsed()));
        let of = |name: &str| -> SocketAddr {
            let words = line.trim().split(' ');
            words.filter_map(|word| word.strip_prefix(name)?.parse().ok()).next().unwrap()
        };
        Self { http: of("http="), admin: of("admin="), child, folder: folder.to_owned() }
    }

    /// Shows what it takes while nothing happens.
    fn rest(&self) {
        wait(CALM);
        show("memory", mib(memory(&self.child.id().to_string())));
        let before = self.cpu();
        wait(REST);
        let spent = self.cpu_since(&before);
        show("processor time a second at rest", ms(spent / REST.as_secs() as u32));
    }

    /// Gives one service another host, and shows how long and what it takes until that answers.
    fn edit(&self, index: usize, template: &str) {
        let file = self.folder.join(format!("s{index}.yaml"));
        let text = service(index, 0, template)
            + "  traffic:\n    - {latestRevision: true, percent: 100, tag: edited}\n";
        let host = format!("edited-s{index}.default.localhost");
        let before = self.cpu();
        let start = Instant::now();
        fs::write(file, text).unwrap();
        while self.get(&host).contains(" 404 ") {
            wait(Duration::from_millis(5));
        }
        show("an edit counts after (200 ms are waited)", ms(start.elapsed()));
        wait(Duration::from_secs(1));
        show("processor time of it", ms(self.cpu_since(&before)));
        show("memory after it", mib(memory(&self.child.id().to_string())));
    }

    fn get(&self, host: &str) -> String {
        get(self.http, host, "/")
    }

    fn admin(&self, path: &str) -> String {
        get(self.admin, "localhost", path)
    }

    /// Processor time of each of its threads so far.
    fn cpu(&self) -> BTreeMap<String, Duration> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let of = |task: fs::DirEntry| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            let time = Duration::from_nanos(text.split(' ').next()?.parse().ok()?);
            Some((task.file_name().into_string().ok()?, time))
        };
        tasks.flatten().filter_map(of).collect()
    }

    /// Processor time since then; of threads that ended meanwhile only what was counted before.
    fn cpu_since(&self, before: &BTreeMap<String, Duration>) -> Duration {
        let spent = |(thread, time): (&String, &Duration)| {
            time.saturating_sub(before.get(thread).copied().unwrap_or_default())
        };
        self.cpu().iter().map(spent).sum()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    line
}

/// One request on a connection of its own; the whole answer.
fn get(address: SocketAddr, host: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Resident memory of a process.
fn memory(pid: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn wait(pause: Duration) {
    let pause = rustix::time::Timespec::try_from(pause).unwrap();
    let _ = rustix::event::poll(&mut [], Some(&pause));
}
