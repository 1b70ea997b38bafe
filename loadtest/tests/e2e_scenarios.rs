//! Every scenario, short and small, against the tidegate that was built beside this program; and
//! what an interruption leaves behind: nothing.
//!
//! `cargo test` at the root of the workspace builds both.
#![expect(clippy::unwrap_used, reason = "tests panic on purpose")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use loadtest::results::Outcome;
use rustix::process::{Pid, Signal, kill_process};

/// A folder of the test's own below the build's.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    // A former run's, if there is one.
    let _ = fs::remove_dir_all(&folder);
    folder
}

fn loadtest(arguments: &[&str]) -> Command {
    let tidegate = Path::new(env!("CARGO_BIN_EXE_loadtest")).with_file_name("tidegate");
    assert!(tidegate.is_file(), "build it first: `cargo test` at the root of the workspace does");
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(arguments);
    command
}

fn scenario(name: &str, options: &[&str]) -> Outcome {
    let results = folder(name);
    let mut arguments = vec![name, "--results", results.to_str().unwrap()];
    arguments.extend(options);
    let output = loadtest(&arguments).output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    let svg = fs::read_to_string(results.join(format!("{name}.svg"))).unwrap();
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    let outcome = Outcome::read(&results.join(format!("{name}.json"))).unwrap();
    assert!(outcome.holds() && !outcome.tables.is_empty(), "{}", outcome.text());
    let report = ["report", "--results", results.to_str().unwrap()];
    assert!(loadtest(&report).output().unwrap().status.success());
    assert!(fs::read_to_string(results.join("report.html")).unwrap().contains(&outcome.question));
    outcome
}

fn told(output: &Output) -> String {
    format!(
        "{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A cell of the first table, as a number.
fn number(outcome: &Outcome, row: usize, column: &str) -> u64 {
    let table = &outcome.tables[0];
    let column = table.columns.iter().position(|name| name == column).unwrap();
    table.rows[row][column].replace(',', "").parse().unwrap()
}

#[test]
fn from_zero() {
    let outcome = scenario("from_zero", &["--pairs", "3"]);
    assert!(outcome.tables[1].rows.len() > 1, "phases: {:?}", outcome.tables[1]);
}

#[test]
fn burst() {
    let outcome = scenario("burst", &["--requests", "40", "--service-time", "20ms"]);
    assert_eq!([number(&outcome, 0, "good"), number(&outcome, 1, "good")], [40, 40]);
}

#[test]
fn scale() {
    let outcome =
        scenario("scale", &["--duration", "2s", "--peak", "60", "--service-time", "10ms"]);
    assert!(number(&outcome, 0, "good") > 20);
}

#[test]
fn rollout() {
    let outcome = scenario("rollout", &["--duration", "4s", "--rate", "40"]);
    assert_eq!(number(&outcome, 0, "good"), 160);
}

#[test]
fn canary() {
    let options = ["--duration", "12s", "--rate", "150", "--step-time", "100ms", "--samples", "20"];
    let bad = ["--service-time", "5ms", "--fail-percent", "30"];
    let outcome = scenario("canary", &[&options[..], &bad].concat());
    assert_eq!(outcome.tables[1].rows.len(), 2, "{}", outcome.text());
}

#[test]
fn drain() {
    let options = ["--duration", "2s", "--rate", "40", "--restarts", "1", "--service-time", "50ms"];
    let outcome = scenario("drain", &options);
    assert!(number(&outcome, 0, "good") > 40);
}

#[cfg(target_os = "linux")]
#[test]
fn idle() {
    let outcome = scenario("idle", &["--services", "20", "--connections", "30", "--hold", "400ms"]);
    assert_eq!(outcome.tables[0].rows.len(), 4);
}

#[test]
fn overload() {
    let options = ["--duration", "4s", "--replicas", "1", "--factor", "3"];
    let outcome = scenario("overload", &options);
    assert!(number(&outcome, 1, "refused") > 0, "{}", outcome.text());
}

#[test]
fn fairness() {
    let options = ["--duration", "3s", "--modest", "2", "--service-time", "200ms", "--greed", "2"];
    let outcome = scenario("fairness", &options);
    assert!(number(&outcome, 1, "requests") > 0);
}

#[test]
fn the_generator_as_a_tool() {
    let mut echo =
        Command::new(Path::new(env!("CARGO_BIN_EXE_loadtest")).with_file_name("tidegate"))
            .args(["echo", "--port", "0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
    let mut line = String::new();
    BufReader::new(echo.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening http=").unwrap();
    let url = format!("http://{address}/");
    for options in [&["--requests", "20"][..], &["--requests", "20", "--http2", "-c", "2"]] {
        let output = loadtest(&[&["run", url.as_str()], options].concat()).output().unwrap();
        let text = told(&output);
        assert!(output.status.success() && text.contains("20 of 20 requests"), "{text}");
    }
    let missing = loadtest(&["run", &format!("{url}none"), "-n", "1"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(1), "{}", told(&missing));
    echo.kill().unwrap();
    echo.wait().unwrap();
}

#[test]
fn wrong_usage_and_help() {
    assert_eq!(loadtest(&["run"]).output().unwrap().status.code(), Some(64));
    for name in
        ["run", "from_zero", "burst", "scale", "rollout", "canary", "drain", "all", "report"]
    {
        let output = loadtest(&[name, "--help"]).output().unwrap();
        assert!(output.status.success() && output.stdout.len() > 100, "{}", told(&output));
    }
    let none = loadtest(&["burst", "--tidegate", "/no/tidegate"]).output().unwrap();
    assert_eq!(none.status.code(), Some(1));
    assert!(told(&none).contains("cargo build --release --workspace"), "{}", told(&none));
}

#[cfg(target_os = "linux")]
#[test]
fn an_interruption_leaves_nothing_behind() {
    let results = folder("interrupted");
    let mut child = loadtest(&["drain", "--results", results.to_str().unwrap()])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    // Something runs as soon as it tells how far it is.
    let first = lines.next().unwrap().unwrap();
    assert!(first.contains("in flight"), "{first}");
    let children = tidegates_of(child.id());
    assert_eq!(children.len(), 1, "one tidegate");
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    for pid in children {
        assert!(is_gone(pid), "tidegate {pid} goes on");
    }
}

/// Children of a process, from `/proc`.
#[cfg(target_os = "linux")]
fn tidegates_of(parent: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Gone, or killed and only not yet waited for.
#[cfg(target_os = "linux")]
fn is_gone(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    let Ok(stat) = stat else { return true };
    stat.contains(") Z") || stat.contains(") X")
}

#[test]
fn overhead() {
    let outcome = scenario("overhead", &["--rounds", "1", "--duration", "500ms", "--rate", "100"]);
    assert!(number(&outcome, 0, "requests") > 0, "{}", outcome.text());
    assert_eq!(number(&outcome, 0, "requests"), number(&outcome, 1, "requests"));
}

/// Beside the copier, which is always there.
#[test]
fn peers() {
    let results = folder("peers");
    let arguments = ["peers", "--results", results.to_str().unwrap(), "--only", "get,idle"];
    let small =
        ["--beside", "copier", "--rounds", "2", "--duration", "200ms", "--connections", "20"];
    let output = loadtest(&arguments).args(small).output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    let outcome = Outcome::read(&results.join("peers.json")).unwrap();
    let rows = |table: usize| outcome.tables[table].rows.iter().map(|row| row[0].as_str());
    for table in 0..2 {
        assert!(rows(table).eq(["tidegate", "byte copier"]), "{}", outcome.text());
    }
    assert!(fs::read_to_string(results.join("peers-get.svg")).unwrap().starts_with("<svg"));
}
