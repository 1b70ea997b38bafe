//! A disk that is full.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use crate::client::get;
use crate::serving::{SOON, host, until};
use crate::stage::{Disk, hundred, saying, seen, split};

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
    let deadline = Instant::now() + SOON;
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
    let deadline = Instant::now() + SOON;
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
