//! `tidegate sidecar` before one backend: `tidegate echo` as a process of its own, or one that a
//! test plays.
#![expect(clippy::unwrap_used, reason = "tests panic on purpose")]

#[path = "../support/backend.rs"]
mod backend;
#[path = "../support/client.rs"]
mod client;
#[path = "../support/serving.rs"]
mod serving;

mod arguments;
mod drain;
mod headers;
mod limits;
mod metrics;
mod protocols;
mod readiness;
mod timers;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};

use tokio::time::Instant;

use client::get;
use serving::{SOON, Tidegate, tidegate};

/// A running `tidegate echo`; killed when dropped.
struct Echo {
    child: Child,
    address: SocketAddr,
}

impl Echo {
    fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap())
    }

    fn at(address: SocketAddr) -> Self {
        let mut command = tidegate();
        command.args(["echo", "--listen", &address.to_string()]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening http=").unwrap().parse().unwrap();
        Self { child, address }
    }

    /// What it says of itself; asked past the sidecar.
    async fn whoami(&self) -> serde_json::Value {
        get(self.address, "localhost", "/whoami").await.json()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A sidecar before `upstream`, on free ports; it need not be ready.
fn sidecar(upstream: SocketAddr, arguments: &[&str]) -> Tidegate {
    let mut command = tidegate();
    command.args(["sidecar", "--upstream", &upstream.to_string()]);
    command.args(["--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).args(arguments);
    Tidegate::spawned(command)
}

/// The same once its backend is ready.
async fn ready(upstream: SocketAddr, arguments: &[&str]) -> Tidegate {
    let tidegate = sidecar(upstream, arguments);
    until_status(tidegate.address(), "/.tidegate/ready", 200).await;
    tidegate
}

/// Asks until the status is this one; the body.
async fn until_status(address: SocketAddr, path: &str, status: u16) -> String {
    let deadline = Instant::now() + SOON;
    loop {
        let answer = get(address, "localhost", path).await;
        if answer.status == status {
            return answer.text().to_owned();
        }
        assert!(Instant::now() < deadline, "{path}: {answer:?} instead of {status}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Waits until the only revision has so many requests in flight and waiting.
async fn until_load(tidegate: &Tidegate, in_flight: u64, waiting: u64) {
    let deadline = Instant::now() + SOON;
    loop {
        let all = get(tidegate.admin, "localhost", "/api/v1/revisions").await.json();
        let one = &all["revisions"][0];
        let found = (one["in_flight"].as_u64().unwrap(), one["waiting"].as_u64().unwrap());
        if found == (in_flight, waiting) {
            return;
        }
        assert!(Instant::now() < deadline, "{found:?} instead of {:?}", (in_flight, waiting));
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
