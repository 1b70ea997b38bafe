//! What is known of a revision's cold starts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Revision;
use crate::stats::Nanos;

/// `Retry-After` of a full queue when no cold start was measured yet, and its bounds.
const RETRY_AFTER_SECONDS: std::ops::RangeInclusive<u64> = 1..=30;

/// Waiting pages are loaded again each second; one after a longer pause begins another wait.
const SAME_WAIT: Duration = Duration::from_secs(10);

/// Since when people are shown that they wait, who come again and again with new requests.
#[derive(Debug, Default)]
pub(super) struct ShownWaiting {
    since: AtomicU64,
    /// When it was shown last; 0 = never.
    last: AtomicU64,
}

/// A start of a first replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColdStart {
    /// When the replica was ready.
    pub ended: Nanos,
    /// From the order to the running program.
    pub spawn: Duration,
    /// From the running program to ready.
    pub ready: Duration,
}

impl Revision {
    /// How long people have waited of whom one came at `arrived` and is to be shown it at `now`.
    pub fn shown_waiting_for(&self, arrived: Nanos, now: Nanos) -> Duration {
        let ShownWaiting { since, last } = &self.shown_waiting;
        let last = last.swap(now.0, Ordering::Relaxed);
        // Two workers may both begin a wait; they differ by less than anybody reads.
        if last == 0 || arrived.since(Nanos(last)) > SAME_WAIT {
            since.store(arrived.0, Ordering::Relaxed);
        }
        now.since(Nanos(since.load(Ordering::Relaxed)))
    }

    /// How long the last cold start took; none before the first one.
    pub fn last_cold_start(&self) -> Option<Duration> {
        let ms = self.last_cold_start_ms.load(Ordering::Relaxed);
        (ms > 0).then(|| Duration::from_millis(ms))
    }

    /// The last cold start, phase by phase; none before the first one.
    pub fn last_cold_start_phases(&self) -> Option<ColdStart> {
        *self.last_cold_start.lock()
    }

    /// Seconds for `Retry-After`: the last measured cold start, bounded.
    pub fn retry_after_seconds(&self) -> u64 {
        let seconds = self.last_cold_start_ms.load(Ordering::Relaxed).div_ceil(1_000);
        seconds.clamp(*RETRY_AFTER_SECONDS.start(), *RETRY_AFTER_SECONDS.end())
    }

    /// A cold start was measured: from the order to the running program, and from there to ready.
    pub fn cold_started(&self, spawn: Duration, ready: Duration) {
        let took = spawn + ready;
        for (sum, phase) in self.cold_start_ns.iter().zip([spawn, ready]) {
            let ns = u64::try_from(phase.as_nanos()).unwrap_or(u64::MAX);
            sum.fetch_add(ns, Ordering::Relaxed);
        }
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.last_cold_start_ms.store(ms, Ordering::Relaxed);
        let ended = self.stats().clock().now();
        *self.last_cold_start.lock() = Some(ColdStart { ended, spawn, ready });
        // Who waits next waits for another start.
        self.shown_waiting.last.store(0, Ordering::Relaxed);
        self.stats().cold_started(took);
    }

    /// Time spent in cold starts since the start, by phase.
    pub fn cold_start_phases(&self) -> Vec<(&'static str, Duration)> {
        ["spawn", "ready"]
            .into_iter()
            .zip(&self.cold_start_ns)
            .map(|(phase, ns)| (phase, Duration::from_nanos(ns.load(Ordering::Relaxed))))
            .collect()
    }
}
