//! A histogram of durations. Its bounds are the union of those that Prometheus' defaults and the
//! classic Knative dashboards use, so that both are exact sums of its buckets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::model::nanos_of;

/// Upper bounds in milliseconds, inclusive; one more bucket takes what is longer.
pub const LATENCY_BOUNDS_MS: [u64; 31] = [
    1, 2, 5, 10, 20, 25, 40, 50, 60, 80, 100, 150, 200, 250, 300, 350, 400, 450, 500, 600, 700,
    800, 900, 1_000, 2_000, 2_500, 5_000, 10_000, 20_000, 50_000, 100_000,
];

/// Number of buckets, the last one unbounded.
pub(super) const BUCKETS: usize = LATENCY_BOUNDS_MS.len() + 1;

/// The bounds in nanoseconds: most durations are found without a division.
const BOUNDS_NANOS: [u64; LATENCY_BOUNDS_MS.len()] = {
    let mut bounds = LATENCY_BOUNDS_MS;
    let mut i = 0;
    while i < bounds.len() {
        bounds[i] *= 1_000_000;
        i += 1;
    }
    bounds
};

/// The bucket of a duration: the first bound that is not below it.
fn bucket(nanos: u64) -> usize {
    BOUNDS_NANOS.partition_point(|bound| *bound < nanos)
}

/// A histogram that any thread may write.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_nanos: AtomicU64,
}

impl Histogram {
    /// Adds one duration.
    pub fn record(&self, duration: Duration) {
        let nanos = nanos_of(duration);
        self.buckets[bucket(nanos)].fetch_add(1, Ordering::Relaxed);
        self.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Adds one duration; only one thread may ever write to this histogram.
    pub(super) fn record_single_writer(&self, nanos: u64) {
        let bucket = &self.buckets[bucket(nanos)];
        bucket.store(bucket.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        let sum = self.sum_nanos.load(Ordering::Relaxed).wrapping_add(nanos);
        self.sum_nanos.store(sum, Ordering::Relaxed);
    }

    /// What it holds.
    pub fn read(&self) -> HistogramReading {
        let mut reading = HistogramReading::default();
        for (sum, bucket) in reading.buckets.iter_mut().zip(&self.buckets) {
            *sum = bucket.load(Ordering::Relaxed);
        }
        reading.sum = Duration::from_nanos(self.sum_nanos.load(Ordering::Relaxed));
        reading
    }
}

/// The content of a histogram at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistogramReading {
    /// Count per bucket (not cumulative); bounds in [`LATENCY_BOUNDS_MS`], the last unbounded.
    pub buckets: [u64; BUCKETS],
    /// Sum of all durations.
    pub sum: Duration,
}

impl Default for HistogramReading {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], sum: Duration::ZERO }
    }
}

impl HistogramReading {
    /// Adds another histogram's content.
    pub fn add(&mut self, other: &Self) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += bucket;
        }
        self.sum += other.sum;
    }

    /// How many durations it holds.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// How many durations are at most `bound_ms`, which must be one of [`LATENCY_BOUNDS_MS`].
    pub fn at_most(&self, bound_ms: u64) -> u64 {
        let index = LATENCY_BOUNDS_MS.partition_point(|bound| *bound <= bound_ms);
        self.buckets[..index].iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_not_below_it() {
        let histogram = Histogram::default();
        for micros in [0, 1_000, 1_001, 5_000, 100_000_000, 100_000_001] {
            histogram.record(Duration::from_micros(micros));
        }
        let reading = histogram.read();
        assert_eq!(reading.at_most(1), 2, "0 and exactly 1 ms");
        assert_eq!(reading.at_most(2), 3, "1.001 ms is above 1 ms");
        assert_eq!(reading.at_most(5), 4);
        assert_eq!(reading.at_most(100_000), 5);
        assert_eq!(reading.count(), 6);
    }
}
