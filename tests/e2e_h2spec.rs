//! h2spec, all of it, against the listeners: HTTP/2 as RFC 9113 and HPACK as RFC 7541 want it.
#![expect(clippy::unwrap_used, reason = "tests panic on purpose")]
#![expect(clippy::print_stdout, reason = "how many cases passed is part of the result")]

#[path = "support/client.rs"]
mod client;
#[path = "support/https.rs"]
mod https;
#[path = "support/serving.rs"]
mod serving;
#[path = "support/tools.rs"]
mod tools;

use std::net::SocketAddr;
use std::process::Command;

use https::Authority;
use serving::{Service, Tidegate, file, host};
use tools::tool;

/// How many cases the pinned h2spec has, those included that it runs only when told to be strict.
const CASES: usize = 146;

/// Runs all cases; the replica behind is warm, for a case waits five seconds for an answer.
fn run(address: SocketAddr, more: &[&str]) {
    let report = tempfile::NamedTempFile::new().unwrap();
    let output = Command::new(tool("h2spec"))
        .args(["--host", &address.ip().to_string(), "--port", &address.port().to_string()])
        .args(["--strict", "--timeout", "5", "--path", "/", "--junit-report"])
        .arg(report.path())
        .args(more)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let xml = std::fs::read_to_string(report.path()).unwrap();
    let cases = xml.matches("<testcase ").count();
    let failed = xml.matches("<failure>").count() + xml.matches("<error>").count();
    let skipped = xml.matches("<skipped>").count();
    let summary = said.lines().rfind(|line| line.contains("tests, ")).unwrap_or_default();
    let expected = format!("{CASES} tests, {CASES} passed, 0 skipped, 0 failed");
    assert_eq!((cases, failed, skipped), (CASES, 0, 0), "{said}");
    assert!(summary.contains(&expected), "{said}");
    println!("h2spec {more:?}: {summary}");
}

#[tokio::test]
async fn h2c_before_a_replica_of_http_1() {
    let tidegate = Tidegate::serve(&file(&[Service::new("a").annotation(MIN_SCALE, "1")]));
    tidegate.logged("replica is ready").await;
    run(tidegate.address(), &[]);
}

#[tokio::test]
async fn h2c_before_a_replica_of_h2c() {
    let tidegate = Tidegate::serve(&file(&[Service::new("a").h2c().annotation(MIN_SCALE, "1")]));
    tidegate.logged("replica is ready").await;
    run(tidegate.address(), &[]);
}

#[tokio::test]
async fn tls() {
    let authority = Authority::new();
    let pair = authority.issue("a", &[&host("a")]);
    let mut arguments = vec!["--https", "127.0.0.1:0"];
    arguments.extend(pair.arguments());
    let services = file(&[Service::new("a").annotation(MIN_SCALE, "1")]);
    let tidegate = Tidegate::with(&services, &arguments);
    tidegate.logged("replica is ready").await;
    run(tidegate.https[0], &["--tls", "--insecure"]);
}

const MIN_SCALE: &str = "autoscaling.knative.dev/min-scale";
