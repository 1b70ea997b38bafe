//! Prometheus itself, scraping what a test runs: Debian's package `prometheus` has it and `promtool`.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![expect(clippy::unwrap_used, reason = "tests panic on purpose")]

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) const MISSING: &str = "this test needs promtool and prometheus: install Debian's \
                                  package `prometheus`";

/// A running Prometheus; killed when dropped.
pub(crate) struct Prometheus {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    /// Starts it with a configuration.
    pub(crate) fn start(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        // A free port that prometheus is told: it cannot say which one it took.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new("prometheus")
            .arg("--config.file=prometheus.yml")
            .arg(format!("--web.listen-address={address}"))
            .arg("--storage.tsdb.path=data")
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect(MISSING);
        Self { child, address, folder }
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// The series that an expression has now; none while it does not answer.
    pub(crate) fn query(&self, expression: &str) -> Option<Vec<Value>> {
        let answer = self.api(&format!("query?query={}", encoded(expression)))?;
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().cloned()
    }

    /// An answer of its API.
    pub(crate) fn api(&self, path: &str) -> Option<Value> {
        let body = get(self.address, &format!("/api/v1/{path}")).ok()?;
        serde_json::from_str(&body).ok()
    }
}

/// The body of an answer, in HTTP/1.0: nothing is chunked.
pub(crate) fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut client = TcpStream::connect(address)?;
    write!(client, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

/// A query's value for a URL.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(byte.into());
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// What `promtool` says, run in a folder; whether it is content.
pub(crate) fn promtool(folder: &Path, arguments: &[&str], input: &str) -> (bool, String) {
    let mut promtool = Command::new("promtool")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect(MISSING);
    promtool.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}
