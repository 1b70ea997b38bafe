//! What is counted of revisions that are compared with each other. Only that worker's thread writes
//! a cell; nothing is counted of others, which costs them one load.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::model::{LATENCY_BUCKETS, Latencies, Tally, latency_bucket};

/// One worker's part of a revision's tally.
#[derive(Debug)]
pub(super) struct TrialCell {
    requests: AtomicU64,
    errors: AtomicU64,
    latencies: [AtomicU64; LATENCY_BUCKETS],
}

impl Default for TrialCell {
    fn default() -> Self {
        let latencies = std::array::from_fn(|_| AtomicU64::new(0));
        Self { requests: AtomicU64::new(0), errors: AtomicU64::new(0), latencies }
    }
}

/// How a request ended, as far as its revision is judged by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It failed.
    Failed,
    /// It was answered after so many nanoseconds.
    Answered(u64),
    /// It became a connection of another protocol.
    Upgraded,
}

impl TrialCell {
    pub(super) fn ended(&self, ended: Ended) {
        // Single writer: plain stores suffice.
        let add = |count: &AtomicU64| {
            count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        };
        match ended {
            Ended::Failed => add(&self.errors),
            Ended::Answered(nanos) => add(&self.latencies[latency_bucket(nanos)]),
            Ended::Upgraded => {}
        }
        add(&self.requests);
    }

    pub(super) fn add_to(&self, sum: &mut Tally) {
        // In this order no more have failed than there are, but for one in between.
        sum.errors += self.errors.load(Ordering::Relaxed);
        let mut latencies = Latencies::default();
        for (bucket, count) in self.latencies.iter().enumerate() {
            latencies.add(bucket, count.load(Ordering::Relaxed));
        }
        let requests = self.requests.load(Ordering::Relaxed);
        sum.add(&Tally { requests, errors: 0, latencies });
    }
}

/// What others counted of a revision, by who they are: at their first report, and now. What they
/// had counted before it may be of another time, and is left out; what one counted that is gone
/// stays.
#[derive(Debug, Default)]
pub(super) struct TrialsElsewhere(Mutex<BTreeMap<Arc<str>, (Tally, Tally)>>);

impl TrialsElsewhere {
    pub(super) fn report(&self, by: &Arc<str>, tally: Tally) {
        let mut known = self.0.lock();
        let first = known.get(by).map(|(first, _)| first.clone());
        // One that counts anew is somebody new.
        let first = first.filter(|first| tally.since(first).is_some());
        known.insert(Arc::clone(by), (first.unwrap_or_else(|| tally.clone()), tally));
    }

    pub(super) fn add_to(&self, sum: &mut Tally) {
        for (first, now) in self.0.lock().values() {
            if let Some(since) = now.since(first) {
                sum.add(&since);
            }
        }
    }

    pub(super) fn forget(&self) {
        self.0.lock().clear();
    }
}
