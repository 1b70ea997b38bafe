//! Manifests and state of one test, and what it asks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::client::{empty, get, h1, request, send1};
use crate::serving::{SOON, Service, Tidegate, file, host};

/// Manifests and state that outlive a tidegate.
pub(crate) struct Disk {
    pub(crate) folder: TempDir,
}

impl Disk {
    pub(crate) fn new(services: &[Service]) -> Self {
        let disk = Self { folder: tempfile::tempdir().unwrap() };
        disk.write(services);
        disk
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces the manifests as editors do.
    pub(crate) fn write(&self, services: &[Service]) {
        self.write_text(&file(services));
    }

    pub(crate) fn write_text(&self, text: &str) {
        std::fs::write(self.path("new"), text).unwrap();
        std::fs::rename(self.path("new"), self.path("app.yaml")).unwrap();
    }

    pub(crate) fn start(&self) -> Tidegate {
        self.start_with(&[])
    }

    pub(crate) fn start_with(&self, arguments: &[&str]) -> Tidegate {
        let state = self.path("state");
        let arguments = [&["--state-dir", state.to_str().unwrap()], arguments].concat();
        Tidegate::files(&[&self.path("app.yaml")], &arguments)
    }

    /// The second line of a file of the state.
    pub(crate) fn state(&self, name: &str) -> Option<Value> {
        let text = std::fs::read_to_string(self.path("state").join(name)).ok()?;
        serde_json::from_str(text.lines().nth(1)?).ok()
    }
}

/// The service `a` whose program says a word.
pub(crate) fn saying(word: &str) -> Service {
    Service::new("a").env("TARGET", word)
}

pub(crate) fn split(old: u32) -> String {
    let new = 100 - old;
    format!("[{{revisionName: a-00001, percent: {old}}}, {{latestRevision: true, percent: {new}}}]")
}

/// The traffic of `a`: revision and per cent.
pub(crate) async fn traffic(tidegate: &Tidegate) -> BTreeMap<String, u64> {
    let services = get(tidegate.admin, "localhost", "/api/v1/services").await.json();
    let traffic = services["services"][0]["traffic"].as_array().unwrap().clone();
    let share = |entry: &Value| {
        (entry["revision"].as_str().unwrap().to_owned(), entry["percent"].as_u64().unwrap())
    };
    traffic.iter().map(share).collect()
}

pub(crate) async fn until_traffic(tidegate: &Tidegate, expected: &[(&str, u64)]) {
    let expected = expected.iter().map(|(name, share)| ((*name).to_owned(), *share)).collect();
    let deadline = Instant::now() + SOON;
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
pub(crate) async fn hundred(at: SocketAddr) -> BTreeMap<String, u32> {
    let mut connection = h1(at).await;
    let mut seen = BTreeMap::new();
    for _ in 0..100 {
        let request = request("GET", &host("a"), "/").body(empty()).unwrap();
        let answer = send1(&mut connection, request).await;
        *seen.entry(format!("{} {}", answer.status, answer.text().trim())).or_default() += 1;
    }
    seen
}

pub(crate) fn seen(expected: &[(&str, u32)]) -> BTreeMap<String, u32> {
    expected.iter().map(|(text, count)| (format!("200 Hello {text}!"), *count)).collect()
}
