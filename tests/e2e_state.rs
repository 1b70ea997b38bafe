//! What a restart finds again: revisions, traffic, replicas; however the one before ended.

#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "support/client.rs"]
mod client;
#[path = "support/serving.rs"]
mod serving;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use client::{empty, get, h1, request, send1, soon};
use rustix::process::Signal;
use serde_json::Value;
use serving::{Service, Tidegate, file, host, tidegate, until};
use tempfile::TempDir;
use tokio::time::Instant;

/// Manifests and state that outlive a tidegate.
struct Disk {
    folder: TempDir,
}

impl Disk {
    fn new(services: &[Service]) -> Self {
        let disk = Self { folder: tempfile::tempdir().unwrap() };
        disk.write(services);
        disk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces the manifests as editors do.
    fn write(&self, services: &[Service]) {
        std::fs::write(self.path("new"), file(services)).unwrap();
        std::fs::rename(self.path("new"), self.path("app.yaml")).unwrap();
    }

    fn start(&self) -> Tidegate {
        self.start_with(&[])
    }

    fn start_with(&self, arguments: &[&str]) -> Tidegate {
        let state = self.path("state");
        let arguments = [&["--state-dir", state.to_str().unwrap()], arguments].concat();
        Tidegate::files(&[&self.path("app.yaml")], &arguments)
    }

    /// The second line of a file of the state.
    fn state(&self, name: &str) -> Option<Value> {
        let text = std::fs::read_to_string(self.path("state").join(name)).ok()?;
        serde_json::from_str(text.lines().nth(1)?).ok()
    }
}

/// The service `a` whose program says a word.
fn saying(word: &str) -> Service {
    Service::new("a").env("TARGET", word)
}

fn split(old: u32) -> String {
    let new = 100 - old;
    format!("[{{revisionName: a-00001, percent: {old}}}, {{latestRevision: true, percent: {new}}}]")
}

/// The traffic of `a`: revision and per cent.
async fn traffic(tidegate: &Tidegate) -> BTreeMap<String, u64> {
    let services = get(tidegate.admin, "localhost", "/api/v1/services").await.json();
    let traffic = services["services"][0]["traffic"].as_array().unwrap().clone();
    let share = |entry: &Value| {
        (entry["revision"].as_str().unwrap().to_owned(), entry["percent"].as_u64().unwrap())
    };
    traffic.iter().map(share).collect()
}

async fn until_traffic(tidegate: &Tidegate, expected: &[(&str, u64)]) {
    let expected = expected.iter().map(|(name, share)| ((*name).to_owned(), *share)).collect();
    let deadline = Instant::now() + serving::SOON;
    loop {
        let traffic = traffic(tidegate).await;
        if traffic == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{traffic:?} and not {expected:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Which revisions answer a hundred requests, and what they say.
async fn hundred(at: SocketAddr) -> BTreeMap<String, u32> {
    let mut connection = h1(at).await;
    let mut seen = BTreeMap::new();
    for _ in 0..100 {
        let request = request("GET", &host("a"), "/").body(empty()).unwrap();
        let answer = send1(&mut connection, request).await;
        *seen.entry(format!("{} {}", answer.status, answer.text().trim())).or_default() += 1;
    }
    seen
}

fn seen(expected: &[(&str, u32)]) -> BTreeMap<String, u32> {
    expected.iter().map(|(text, count)| (format!("200 Hello {text}!"), *count)).collect()
}

#[tokio::test]
async fn a_restart_keeps_revisions_split_and_the_way_back() {
    let disk = Disk::new(&[saying("one")]);
    let mut first = disk.start();
    first.logged("state is kept").await;
    disk.write(&[saying("two").traffic(&split(70))]);
    until_traffic(&first, &[("a-00001", 70), ("a-00002", 30)]).await;
    first.terminate();
    assert!(first.ended().await.success());

    // The same file again: the same revisions, shares and answers.
    let mut second = disk.start();
    assert_eq!(hundred(second.address()).await, seen(&[("one", 70), ("two", 30)]));
    // Back by an edit of percentages, though nothing in the file says what the old one was.
    disk.write(&[saying("two").traffic("[{revisionName: a-00001, percent: 100}]")]);
    until_traffic(&second, &[("a-00001", 100)]).await;
    second.signal(Signal::KILL);
    second.ended().await;

    let mut third = disk.start();
    assert_eq!(hundred(third.address()).await, seen(&[("one", 100)]));
    // A template that was changed while nothing ran is one change.
    third.terminate();
    third.ended().await;
    disk.write(&[saying("three").traffic(&split(50))]);
    let fourth = disk.start();
    until_traffic(&fourth, &[("a-00001", 50), ("a-00003", 50)]).await;
    assert_eq!(hundred(fourth.address()).await, seen(&[("one", 50), ("three", 50)]));
}

#[tokio::test]
async fn a_kill_in_the_middle_of_edits_forgets_and_renames_nothing() {
    let disk = Disk::new(&[saying("0")]);
    // What each revision was seen to say: it never says anything else.
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let mut number = 0;
    for round in 0_u64..6 {
        let mut running = disk.start();
        let begun = traffic(&running).await;
        let newest = known.keys().next_back().cloned();
        if let Some(newest) = newest {
            // The file was written, and maybe not taken yet, when the one before was killed.
            let name = begun.keys().next().unwrap();
            assert!(*name >= newest, "{name} after {newest}");
        }
        let until = Instant::now() + Duration::from_millis(900 + 137 * round);
        while Instant::now() < until {
            number += 1;
            disk.write(&[saying(&number.to_string())]);
            // Longer than a file has to be quiet, and not always.
            tokio::time::sleep(Duration::from_millis(190 + (number * 37) % 90)).await;
            let answer = get(running.address(), &host("a"), "/whoami").await.json();
            let name = answer["revision"].as_str().unwrap().to_owned();
            let said = get(running.address(), &host("a"), "/").await;
            // An edit may have come between the two.
            let again = get(running.address(), &host("a"), "/whoami").await.json();
            if again["revision"] == answer["revision"] {
                let said = said.text().trim().to_owned();
                let former = known.insert(name.clone(), said.clone());
                assert!(former.is_none_or(|former| former == said), "{name}: {said}");
            }
        }
        running.signal(Signal::KILL);
        running.ended().await;
    }
    assert!(known.len() > 6, "{known:?}");
    // All of them are there, and say what they said.
    let names: Vec<_> = known.keys().rev().take(4).cloned().collect();
    let flow: Vec<_> =
        names.iter().map(|name| format!("{{revisionName: {name}, percent: 25}}")).collect();
    disk.write(&[saying(&number.to_string()).traffic(&format!("[{}]", flow.join(", ")))]);
    let last = disk.start();
    let expected: Vec<_> = names.iter().map(|name| (name.as_str(), 25)).collect();
    until_traffic(&last, &expected).await;
    let answers = hundred(last.address()).await;
    let expected: BTreeMap<_, _> =
        names.iter().map(|name| (format!("200 {}", known[name]), 25)).collect();
    assert_eq!(answers, expected);
}

#[tokio::test]
async fn a_second_one_is_refused_and_told_of_the_first() {
    let disk = Disk::new(&[saying("one")]);
    let mut first = disk.start();
    let state = disk.path("state");
    let second = |state: &str| {
        let output = tidegate()
            .args(["serve", "-f", disk.path("app.yaml").to_str().unwrap(), "--state-dir", state])
            .args(["--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, error) = second(state.to_str().unwrap());
    assert_eq!(code, Some(78), "{error}");
    let pid = first.pid().to_string();
    for part in [&pid, "--state-dir", state.to_str().unwrap()] {
        assert!(error.contains(part), "{part} is missing: {error}");
    }
    first.signal(Signal::KILL);
    first.ended().await;
    drop(disk.start());
}

/// Replicas of `a-00001` by state.
async fn replicas(tidegate: &Tidegate) -> (u64, u64) {
    let revisions = get(tidegate.admin, "localhost", "/api/v1/revisions").await.json();
    let of = |field: &str| revisions["revisions"][0][field].as_u64().unwrap();
    (of("desired"), of("ready"))
}

/// Clients that ask on and on, at an address that may have nobody listening for a while.
struct Clients {
    stop: Arc<AtomicBool>,
    tasks: tokio::task::JoinSet<BTreeMap<String, u32>>,
}

impl Clients {
    fn start(count: usize, at: SocketAddr, path: &'static str) -> Self {
        let stop: Arc<AtomicBool> = Arc::default();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..count {
            let stop = Arc::clone(&stop);
            tasks.spawn(async move {
                let mut seen = BTreeMap::new();
                while !stop.load(Ordering::Relaxed) {
                    *seen.entry(ask(at, path).await).or_default() += 1;
                }
                seen
            });
        }
        Self { stop, tasks }
    }

    /// Stops without waiting for answers.
    async fn abandon(mut self) {
        self.tasks.shutdown().await;
    }

    async fn stop(self) -> BTreeMap<String, u32> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = BTreeMap::new();
        for seen in soon(self.tasks.join_all()).await {
            for (outcome, number) in seen {
                *all.entry(outcome).or_default() += number;
            }
        }
        all
    }
}

/// One request on a connection of its own: the body of a 200, else what went wrong. Only while
/// nobody listens it is tried again.
async fn ask(at: SocketAddr, path: &str) -> String {
    use http_body_util::BodyExt as _;
    let stream = loop {
        match tokio::net::TcpStream::connect(at).await {
            Ok(stream) => break stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    let io = hyper_util::rt::TokioIo::new(stream);
    let Ok((mut sender, connection)) = hyper::client::conn::http1::handshake(io).await else {
        return "broken".to_owned();
    };
    tokio::spawn(connection);
    let request = request("GET", &host("a"), path).body(empty()).unwrap();
    match sender.send_request(request).await {
        Ok(response) => {
            let status = response.status();
            let body = response.into_body().collect().await;
            match body {
                Ok(body) if status == 200 => {
                    String::from_utf8_lossy(&body.to_bytes()).trim().to_owned()
                }
                Ok(body) => format!("{status} {}", String::from_utf8_lossy(&body.to_bytes())),
                Err(_) => "broken".to_owned(),
            }
        }
        Err(_) => "broken".to_owned(),
    }
}

/// A port that is free now.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_restart_under_load_starts_what_there_was_and_answers_right() {
    let one_at_a_time = || saying("one").spec("containerConcurrency: 1");
    let disk = Disk::new(&[one_at_a_time()]);
    let listen = format!("127.0.0.1:{}", free_port());
    let at: SocketAddr = listen.parse().unwrap();
    let arguments = ["--http", listen.as_str()];
    let mut first = disk.start_with(&arguments);
    let clients = Clients::start(4, at, "/?ms=50");
    let deadline = Instant::now() + serving::SOON;
    while replicas(&first).await.1 < 4 {
        assert!(Instant::now() < deadline, "{:?}", replicas(&first).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Long enough for the counts to be written, and for what is written to be at rest.
    let wanted = replicas(&first).await.0;
    until("the counts in the state", || {
        let state = disk.state("replicas.json");
        state.is_some_and(|state| state["counts"]["default/a-00001"].as_u64() >= Some(wanted))
    })
    .await;

    first.terminate();
    assert!(first.ended().await.success());
    let kept = disk.state("replicas.json").unwrap()["counts"]["default/a-00001"].as_u64().unwrap();
    assert!(kept >= wanted, "{kept} of {wanted}: counted while it drained");
    let begun = Instant::now();
    let second = disk.start_with(&arguments);
    while replicas(&second).await.0 < kept {
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", replicas(&second).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
    let outcomes = clients.stop().await;
    let words: Vec<_> = outcomes.keys().map(String::as_str).collect();
    assert_eq!(words, ["Hello one!"], "{outcomes:?}");
    assert_eq!(traffic(&second).await, BTreeMap::from([("a-00001".to_owned(), 100)]));
    assert!(disk.state("revisions.json").unwrap().to_string().contains("a-00001"));
    assert!(!disk.state("revisions.json").unwrap().to_string().contains("a-00002"));
}

#[tokio::test]
async fn replicas_come_back_after_a_kill_without_any_request() {
    let disk = Disk::new(&[saying("one").spec("containerConcurrency: 1"), Service::new("idle")]);
    let mut first = disk.start();
    let clients = Clients::start(3, first.address(), "/delay?ms=200");
    until("the counts in the state", || {
        let state = disk.state("replicas.json");
        state.is_some_and(|state| state["counts"]["default/a-00001"].as_u64() >= Some(3))
    })
    .await;
    let kept = disk.state("replicas.json").unwrap()["counts"]["default/a-00001"].as_u64().unwrap();
    first.signal(Signal::KILL);
    first.ended().await;
    clients.abandon().await;

    let second = disk.start();
    until("the replicas", || {
        // The guard, and the replicas of `a`.
        second.descendants().len() as u64 > kept
    })
    .await;
    let (desired, _) = replicas(&second).await;
    assert!(desired >= kept, "{desired} of {kept}");
    assert!(!second.log().contains("idle-00001 replica"), "nothing else is started");
}

/// A tidegate that can write no more than so many bytes to a file.
fn start_limited(
    disk: &Disk,
    half_kibibytes: u32,
) -> (std::process::Child, SocketAddr, SocketAddr) {
    use std::io::BufRead as _;
    let script = format!("trap '' XFSZ; ulimit -S -f {half_kibibytes}; exec \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_tidegate"), "serve"]);
    command.arg("-f").arg(disk.path("app.yaml")).arg("--state-dir").arg(disk.path("state"));
    command.args(["--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let log = std::fs::File::create(disk.path("log")).unwrap();
    // A pipe has no length.
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    std::thread::spawn(move || std::io::copy(&mut stderr, &mut &log));
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let of = |name: &str| {
        let mut words = line.split_whitespace();
        words.find_map(|word| word.strip_prefix(name)?.parse().ok()).unwrap()
    };
    (child, of("http="), of("admin="))
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_is_said() {
    let disk = Disk::new(&[saying("one")]);
    let mut first = disk.start();
    assert_eq!(get(first.address(), &host("a"), "/").await.text(), "Hello one!\n");
    first.terminate();
    first.ended().await;
    let before = std::fs::read(disk.path("state/revisions.json")).unwrap();
    let size = u32::try_from(before.len()).unwrap();

    // Room for what is there, and not for one more revision.
    let (mut child, http, admin) = start_limited(&disk, size.div_ceil(512));
    disk.write(&[saying("two")]);
    let deadline = Instant::now() + serving::SOON;
    while get(http, &host("a"), "/").await.text() != "Hello two!\n" {
        assert!(Instant::now() < deadline, "an edit has to take effect all the same");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let services = get(admin, "localhost", "/api/v1/services").await.json();
    let condition = services["conditions"][0].as_str().unwrap().to_owned();
    assert!(condition.starts_with("StateNotSaved: "), "{condition}");
    let metrics = get(admin, "localhost", "/metrics").await;
    assert!(metrics.text().contains("tidegate_state_unsaved 1\n"), "{}", metrics.text());
    let log = std::fs::read_to_string(disk.path("log")).unwrap();
    assert_eq!(log.matches("the state cannot be written").count(), 1, "{log}");
    assert_eq!(std::fs::read(disk.path("state/revisions.json")).unwrap(), before, "as it was");
    assert!(!disk.path("state/revisions.new").exists(), "nothing half");

    // Room again: it is written without another edit.
    let pid = rustix::process::Pid::from_child(&child);
    let resource = rustix::process::Resource::Fsize;
    let maximum = rustix::process::getrlimit(resource).maximum;
    let unlimited = rustix::process::Rlimit { current: maximum, maximum };
    rustix::process::prlimit(Some(pid), resource, unlimited).unwrap();
    until("the state written", || {
        let state = disk.state("revisions.json");
        state.is_some_and(|state| state.to_string().contains("a-00002"))
    })
    .await;
    let deadline = Instant::now() + serving::SOON;
    loop {
        let services = get(admin, "localhost", "/api/v1/services").await.json();
        if services["conditions"].as_array().unwrap().is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "{services}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    disk.write(&[saying("two").traffic(&split(60))]);
    let last = disk.start();
    assert_eq!(hundred(last.address()).await, seen(&[("one", 60), ("two", 40)]));
}

#[tokio::test]
async fn the_users_state_folder_has_one_for_these_files() {
    let disk = Disk::new(&[saying("one")]);
    std::fs::write(
        disk.path("secret.yaml"),
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {word: hidden-word}\n",
    )
    .unwrap();
    let home = disk.path("home");
    let start = |files: &[&Path], home: Option<&Path>| {
        let mut command = tidegate();
        command.arg("serve").args(["--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        for file in files {
            command.arg("-f").arg(file);
        }
        command.env_remove("XDG_STATE_HOME").env_remove("HOME");
        command.envs(home.map(|home| ("HOME", home))).current_dir(disk.folder.path());
        Tidegate::spawned(command)
    };
    let folders = || -> Vec<PathBuf> {
        let entries = std::fs::read_dir(home.join(".local/state/tidegate")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let mut first = start(&[Path::new("app.yaml"), Path::new("secret.yaml")], Some(&home));
    first.logged("state is kept").await;
    let [folder] = &folders()[..] else { panic!("{:?}", folders()) };
    assert!(first.log().contains(folder.to_str().unwrap()), "{}", first.log());
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(!text.contains("hidden-word"), "{text}");
    }
    first.terminate();
    first.ended().await;
    // The same files by other names, in another order.
    let [app, secret] = ["app.yaml", "secret.yaml"].map(|name| disk.path(name));
    let mut again = start(&[&secret, &app], Some(&home));
    assert_eq!(folders().len(), 1);
    again.terminate();
    again.ended().await;
    drop(start(&[&app], Some(&home)));
    assert_eq!(folders().len(), 2);
    let without = start(&[&app], None);
    without.logged("remembered only while tidegate runs").await;
    assert_eq!(get(without.address(), &host("a"), "/").await.text(), "Hello one!\n");
}

#[tokio::test]
async fn a_deleted_service_begins_anew_and_its_old_replicas_answer_nobody() {
    let keep = || Service::new("z");
    let disk = Disk::new(&[saying("old"), keep()]);
    let tidegate = disk.start();
    let at = tidegate.address();
    assert_eq!(get(at, &host("a"), "/").await.text(), "Hello old!\n");
    // It runs beyond the deletion, and beyond the rebirth under the same name.
    let running = tokio::spawn(async move { get(at, &host("a"), "/delay?ms=5000").await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    disk.write(&[keep()]);
    let deadline = Instant::now() + serving::SOON;
    while get(at, &host("a"), "/").await.status != 404 {
        assert!(Instant::now() < deadline, "it is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!disk.state("revisions.json").unwrap().to_string().contains("default/a"));
    disk.write(&[saying("new"), keep()]);
    while get(at, &host("a"), "/").await.status == 404 {
        assert!(Instant::now() < deadline, "it does not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!running.is_finished());
    for _ in 0..20 {
        assert_eq!(get(at, &host("a"), "/").await.text(), "Hello new!\n");
    }
    assert_eq!(get(at, &host("a"), "/whoami").await.json()["revision"], "a-00001");
    assert!(disk.state("revisions.json").unwrap().to_string().contains("default/a"));
    // The program ends in order when it is told to go.
    let running = soon(running).await.unwrap();
    assert_eq!((running.status, running.text()), (200, "ok\n"));
}
