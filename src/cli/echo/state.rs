//! Who this backend is, and what it is doing now.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{mpsc, watch};

use crate::cli::args::EchoArgs;

/// Shared by all connections of the backend.
#[derive(Debug)]
pub(super) struct State {
    greeting: String,
    port: u16,
    /// How many of 100 requests fail.
    fail_percent: u64,
    /// By how much each answer is later.
    slow: Duration,
    requests: AtomicU64,
    faulty: AtomicU64,
    in_flight: AtomicU64,
    max_in_flight: AtomicU64,
    stop: watch::Receiver<bool>,
    exit_now: mpsc::Sender<u8>,
}

/// The answer of `/whoami`.
#[derive(Debug, Serialize)]
pub(super) struct WhoAmI {
    pid: u32,
    hostname: String,
    port: u16,
    service: Option<String>,
    revision: Option<String>,
    configuration: Option<String>,
    requests: u64,
    in_flight: u64,
    max_in_flight: u64,
}

impl State {
    pub(super) fn new(
        args: &EchoArgs,
        port: u16,
        exit_now: mpsc::Sender<u8>,
    ) -> (Arc<Self>, watch::Sender<bool>) {
        let (stop, stopped) = watch::channel(false);
        let state = Self {
            greeting: format!("Hello {}!\n", args.target),
            port,
            fail_percent: args.fail_percent.into(),
            slow: Duration::from_millis(args.slow_ms),
            requests: AtomicU64::new(0),
            faulty: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            max_in_flight: AtomicU64::new(0),
            stop: stopped,
            exit_now,
        };
        (Arc::new(state), stop)
    }

    /// The body of `/`.
    pub(super) fn greeting(&self) -> String {
        self.greeting.clone()
    }

    /// By how much each answer is later.
    pub(super) const fn slow(&self) -> Duration {
        self.slow
    }

    /// Whether a request is to fail: so many of each hundred, evenly spread.
    pub(super) fn fails(&self) -> bool {
        let before = self.faulty.fetch_add(1, Ordering::Relaxed) % 100 * self.fail_percent;
        (before + self.fail_percent) / 100 > before / 100
    }

    /// Tells when the backend is to end.
    pub(super) fn stop(&self) -> Stop {
        Stop(self.stop.clone())
    }

    /// Ends the process without an answer to anyone. Only the first call counts.
    pub(super) fn exit(&self, code: u8) {
        let _ = self.exit_now.try_send(code);
    }

    /// A request arrived; it is in flight until the guard is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> InFlight {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let now = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.max_in_flight.fetch_max(now, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// A variable of the environment, as the replica's starter set it.
    pub(super) fn environment(name: &str) -> Option<String> {
        // A name with `=` or NUL cannot exist, and asking for it would panic.
        if name.is_empty() || name.contains(['=', '\0']) {
            return None;
        }
        std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
    }

    pub(super) fn who_am_i(&self) -> WhoAmI {
        WhoAmI {
            pid: std::process::id(),
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            port: self.port,
            service: Self::environment("K_SERVICE"),
            revision: Self::environment("K_REVISION"),
            configuration: Self::environment("K_CONFIGURATION"),
            requests: self.requests.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            max_in_flight: self.max_in_flight.load(Ordering::Relaxed),
        }
    }
}

/// The wish that the backend ends.
#[derive(Debug)]
pub(super) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Waits for it. Cancel safe.
    pub(super) async fn asked(&mut self) {
        // An error means that the sender is gone, and so is the backend.
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct InFlight(Arc<State>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
