//! The log to collectors as well, by Fluentd's forward protocol (specification v1, what Fluentd and
//! Fluent Bit listen for on port 24224).
//!
//! Each collector has a bounded queue and a thread of its own. A record that finds the queue full
//! is dropped and counted, so a collector that is away or slow costs records, never a request.
//! What this module itself has to say goes to standard error only: otherwise the news that a
//! collector is slow would be one more record for it.

mod connection;
mod sender;
mod wire;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};
use tokio::time::Instant;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::json;
use crate::config::settings::Forwarder;
use sender::Sender;

/// Records that may wait for a collector.
const RECORDS: usize = 8192;
/// Bytes that these and the ones on their way may have.
const BYTES: usize = 8 << 20;
/// What a record costs beside its text.
const OVERHEAD: usize = 64;
/// How long what is queued for a collector that is no longer wanted may take to go.
const PARTING: Duration = Duration::from_secs(2);

/// One line of the log.
#[derive(Debug)]
struct Record {
    at: SystemTime,
    /// A JSON object; a text that is none becomes the message of one.
    json: Arc<[u8]>,
}

impl Record {
    fn cost(&self) -> usize {
        self.json.len() + OVERHEAD
    }
}

/// What happened to the records of one collector since it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwarderCounts {
    /// Type and address, such as `fluentd logs:24224`.
    pub forwarder: String,
    /// Records sent; confirmed ones where confirmation is asked for.
    pub sent: u64,
    /// Records dropped because the queue was full or the program ended.
    pub dropped: u64,
}

/// The collectors in use. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Forwarders(Arc<ArcSwap<Vec<Arc<Running>>>>);

impl Forwarders {
    /// Uses these collectors from now on. Those in use already go on with what is queued for them;
    /// those no longer wanted get two seconds for it.
    pub(super) fn set(&self, wanted: &[Forwarder]) {
        let former = self.0.load_full();
        let mut next: Vec<Arc<Running>> = Vec::with_capacity(wanted.len());
        for spec in wanted {
            if next.iter().any(|running| running.spec == *spec) {
                continue;
            }
            if let Some(kept) = former.iter().find(|running| running.spec == *spec) {
                next.push(Arc::clone(kept));
                continue;
            }
            match Running::start(spec, RECORDS, BYTES) {
                Ok(running) => next.push(Arc::new(running)),
                Err(error) => tracing::error!(forwarder = %spec, %error, "no thread for it"),
            }
        }
        self.0.store(Arc::new(next));
    }

    /// Takes a text that is formatted already: a JSON object, or what becomes a message.
    pub(super) fn take_line(&self, line: &[u8]) {
        let running = self.0.load();
        if !running.is_empty() {
            Self::take(&running, line.trim_ascii_end());
        }
    }

    fn take(running: &[Arc<Running>], json: &[u8]) {
        let (at, json) = (SystemTime::now(), Arc::<[u8]>::from(json));
        for running in running {
            running.take(Record { at, json: Arc::clone(&json) });
        }
    }

    /// What happened so far, by collector.
    pub(super) fn counts(&self) -> Vec<ForwarderCounts> {
        self.0.load().iter().map(|running| running.counts()).collect()
    }

    /// Waits until what was queued before this call is sent, at most until `deadline`, and not for
    /// a collector that cannot be reached now.
    pub(super) fn flush(&self, deadline: Instant) {
        for running in &*self.0.load_full() {
            running.link.flush(deadline);
        }
    }
}

/// One collector in use; its thread ends soon after this is dropped.
#[derive(Debug)]
struct Running {
    spec: Forwarder,
    queue: SyncSender<Record>,
    link: Arc<Link>,
}

impl Running {
    fn start(spec: &Forwarder, records: usize, bytes: usize) -> io::Result<Self> {
        let (queue, received) = sync_channel(records);
        let link = Arc::new(Link { bytes_max: bytes, ..Link::default() });
        let sender = Sender::new(spec.clone(), received, Arc::clone(&link));
        std::thread::Builder::new().name("log-forward".to_owned()).spawn(move || sender.run())?;
        Ok(Self { spec: spec.clone(), queue, link })
    }

    /// Never waits.
    fn take(&self, record: Record) {
        let (link, cost) = (&self.link, record.cost());
        let fits = link.bytes.fetch_add(cost, Ordering::Relaxed) + cost <= link.bytes_max;
        if fits && self.queue.try_send(record).is_ok() {
            link.taken.fetch_add(1, Ordering::Release);
        } else {
            link.bytes.fetch_sub(cost, Ordering::Relaxed);
            link.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counts(&self) -> ForwarderCounts {
        ForwarderCounts {
            forwarder: self.spec.to_string(),
            sent: self.link.sent.load(Ordering::Relaxed),
            dropped: self.link.dropped.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.link.part(Instant::now() + PARTING);
    }
}

/// What a collector's queue and its thread share.
#[derive(Debug, Default)]
struct Link {
    bytes_max: usize,
    /// Bytes queued and on their way.
    bytes: AtomicUsize,
    /// Records queued since the start.
    taken: AtomicU64,
    sent: AtomicU64,
    dropped: AtomicU64,
    progress: Mutex<Progress>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    /// Queued records that were sent or given up.
    finished: u64,
    /// Somebody waits for a flush: no pauses between attempts.
    is_hurried: bool,
    /// When what is left is given up: the collector is no longer wanted.
    ends: Option<Instant>,
}

impl Link {
    fn flush(&self, deadline: Instant) {
        let taken = self.taken.load(Ordering::Acquire);
        let mut progress = self.progress.lock();
        if progress.finished >= taken {
            return;
        }
        progress.is_hurried = true;
        self.moved.notify_all();
        // An attempt that fails takes the hurry away.
        while progress.finished < taken && progress.is_hurried {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.moved.wait_for(&mut progress, left).timed_out() {
                break;
            }
        }
        progress.is_hurried = false;
    }

    fn part(&self, at: Instant) {
        let mut progress = self.progress.lock();
        progress.ends = Some(progress.ends.map_or(at, |ends| ends.min(at)));
        drop(progress);
        self.moved.notify_all();
    }

    /// Whether what is left is to be given up.
    fn is_over(&self) -> bool {
        self.progress.lock().ends.is_some_and(|ends| ends <= Instant::now())
    }

    /// Waits before the next attempt; not at all if somebody began to wait for a flush.
    fn pause(&self, time: Duration) {
        let deadline = Instant::now() + time;
        let mut progress = self.progress.lock();
        // An attempt failed: who waits for a flush waits in vain.
        if std::mem::take(&mut progress.is_hurried) {
            self.moved.notify_all();
        }
        while !progress.is_hurried {
            let until = progress.ends.map_or(deadline, |ends| ends.min(deadline));
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.moved.wait_for(&mut progress, left).timed_out() {
                return;
            }
        }
    }

    /// Records left the queue, sent or not.
    fn finish(&self, records: usize, bytes: usize, is_sent: bool) {
        let records = records as u64;
        let counter = if is_sent { &self.sent } else { &self.dropped };
        counter.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.progress.lock().finished += records;
        self.moved.notify_all();
    }
}

/// Hands events to the collectors.
#[derive(Debug)]
pub(super) struct ForwardLayer(pub(super) Forwarders);

impl<S: Subscriber> Layer<S> for ForwardLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let running = self.0.0.load();
        if running.is_empty() || event.metadata().target().starts_with(module_path!()) {
            return;
        }
        let object = json::object(event, serde_json::Map::new());
        Forwarders::take(&running, object.to_string().as_bytes());
    }
}

#[cfg(test)]
mod tests;
