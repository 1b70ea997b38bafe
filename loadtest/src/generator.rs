//! The load generator: requests become due at times that do not depend on answers (open loop), and
//! latency counts from when a request was due. A server that stalls therefore shows the wait of
//! everybody who came meanwhile, not of the one request that found it stalled.
//!
//! In a *closed loop* ([`Load::Closed`]) every connection sends its next request when it has its
//! answer: the way to find the rate at which something is saturated, and no way to measure
//! latency.
//!
//! ```no_run
//! # async fn f() -> Result<(), loadtest::generator::Error> {
//! use loadtest::generator::{Arrivals, Ask, Load, Plan, Schedule, Shape, run};
//! use std::time::Duration;
//!
//! let shape = Shape::constant(1000.0, Duration::from_secs(10));
//! let schedule = Schedule { shape, arrivals: Arrivals::Poisson, seed: 1 };
//! let plan = Plan::new(Ask::get("http://127.0.0.1:8080/")?, Load::Open(schedule));
//! let recording = run(Plan { connections: 50, ..plan }).await?;
//! println!("{:?}", recording.latency.quantile(0.99));
//! # Ok(())
//! # }
//! ```

mod alarm;
mod anybody;
mod connection;
mod recording;
mod schedule;
mod target;
mod thread;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Barrier, oneshot, watch};
use tokio::time::Instant;

pub use recording::{Bucket, Latencies, Recording};
pub use schedule::{Arrivals, BadShape, RateText, Schedule, Shape, Times};
pub use target::{Ask, Protocol, Trust, header_line};

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A URL that cannot be asked.
    #[error("{0}: {1}")]
    Url(String, String),
    /// A name without an address.
    #[error("{0}: no address: {1}")]
    Resolve(String, String),
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(String),
    /// The operating system refused a thread or a timer.
    #[error("the generator cannot start: {0}")]
    Start(#[from] io::Error),
}

/// When requests are sent.
#[derive(Clone, Debug)]
pub enum Load {
    /// At times of a schedule, whatever the answers do.
    Open(Schedule),
    /// All of them at the start.
    AtOnce {
        /// How many.
        requests: u64,
    },
    /// By every connection as soon as it has its last answer.
    Closed {
        /// For how long.
        duration: Duration,
    },
}

/// A run of the generator.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The request.
    pub ask: Ask,
    /// When it is sent.
    pub load: Load,
    /// Connections. A request that is due while all are busy waits, and its wait counts.
    pub connections: usize,
    /// Requests at once on each connection, for HTTP/2.
    pub streams: usize,
    /// Open the connections before the clock starts.
    pub connect_first: bool,
    /// Whether a connection is used for more than one request.
    pub reuse: bool,
    /// Threads that send.
    pub threads: usize,
    /// From sending to giving up.
    pub timeout: Duration,
    /// How long a request goes on trying to connect while nobody listens; none = not at all.
    pub patience: Option<Duration>,
    /// Length of the intervals of [`Recording::buckets`].
    pub interval: Duration,
    /// Count good answers by the first line of their body.
    pub labels: bool,
}

impl Plan {
    /// 50 connections from one thread, opened first and used again; 30 s until giving up.
    pub const fn new(ask: Ask, load: Load) -> Self {
        Self {
            ask,
            load,
            connections: 50,
            streams: 1,
            connect_first: true,
            reuse: true,
            threads: 1,
            timeout: Duration::from_secs(30),
            patience: None,
            interval: Duration::from_secs(1),
            labels: false,
        }
    }
}

/// Runs a plan to its end: the last request was answered or given up. Dropped, it stops early.
///
/// # Errors
/// When the URL, TLS or a thread cannot be set up. Requests that fail are no error; they are in
/// the recording.
pub async fn run(plan: Plan) -> Result<Recording, Error> {
    run_from(plan, |_| {}).await
}

/// As [`run`]; `started` is called with the instant from which times count.
///
/// # Errors
/// As [`run`].
pub async fn run_from(plan: Plan, started: impl FnOnce(Instant)) -> Result<Recording, Error> {
    let target = target::Target::prepare(&plan.ask).await?;
    let connections = plan.connections.max(1);
    let threads = plan.threads.clamp(1, connections);
    let plan = Plan { connections, threads, streams: plan.streams.max(1), ..plan };
    let mut whole = Recording::new(plan.interval);
    let opened = Arc::new(Barrier::new(threads + 1));
    let (start, start_seen) = watch::channel(None);
    // Dropped with this future, which stops the threads.
    let (_stop, stop_seen) = watch::channel(());
    let common = Arc::new(thread::Common {
        plan,
        target,
        start: start_seen,
        opened: Arc::clone(&opened),
        stop: stop_seen,
    });
    let mut results = Vec::new();
    for number in 0..threads {
        results.push(spawn(Arc::clone(&common), number)?);
    }
    opened.wait().await;
    let now = Instant::now();
    started(now);
    start.send_replace(Some(now));
    for result in results {
        let recording = result.await.map_err(io::Error::other)?;
        whole.add(&recording);
    }
    Ok(whole)
}

fn spawn(common: Arc<thread::Common>, number: usize) -> io::Result<oneshot::Receiver<Recording>> {
    let (sender, receiver) = oneshot::channel();
    let runtime =
        || Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    std::thread::Builder::new().name(format!("load-{number}")).spawn(move || {
        let Ok(runtime) = runtime() else { return };
        let recording = runtime.block_on(thread::run(common, number));
        // Nobody waits for it any more when the run was stopped.
        let _ = sender.send(recording);
    })?;
    Ok(receiver)
}

#[cfg(test)]
#[path = "generator/tests.rs"]
mod tests;
