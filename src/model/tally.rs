//! What a revision's requests came to: how many, how many failed, and how long the others took.

use std::time::Duration;

use super::nanos_of;

/// Durations below this are in the first bucket: 2¹³ ns, about 8 µs.
const FIRST: u32 = 13;
/// Parts of each doubling.
const PARTS: usize = 8;
/// Doublings that are told apart: up to 2³⁸ ns, about 275 s.
const DOUBLINGS: usize = 25;

/// Number of latency buckets: the first from 0, the last unbounded.
pub const LATENCY_BUCKETS: usize = DOUBLINGS * PARTS + 2;

/// The bucket of a duration in nanoseconds. Each is at most an eighth wider than the one before.
pub fn latency_bucket(nanos: u64) -> usize {
    if nanos < 1 << FIRST {
        return 0;
    }
    let power = 63 - nanos.leading_zeros();
    // Three bits behind the leading one.
    let part = (nanos >> (power - 3)) as usize & (PARTS - 1);
    let index = (power - FIRST) as usize * PARTS + part + 1;
    index.min(LATENCY_BUCKETS - 1)
}

/// Least duration of a bucket, in nanoseconds.
pub fn latency_bucket_start(bucket: usize) -> u64 {
    let Some(index) = bucket.checked_sub(1) else { return 0 };
    let (doubling, part) = (index / PARTS, index % PARTS);
    ((PARTS + part) as u64) << (doubling + FIRST as usize - 3)
}

/// How many durations there were, by bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latencies(Box<[u64; LATENCY_BUCKETS]>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Box::new([0; LATENCY_BUCKETS]))
    }
}

impl Latencies {
    /// Count by bucket, see [`latency_bucket`].
    pub fn buckets(&self) -> &[u64; LATENCY_BUCKETS] {
        &self.0
    }

    /// Adds to a bucket; one that there is not is the last.
    pub fn add(&mut self, bucket: usize, count: u64) {
        self.0[bucket.min(LATENCY_BUCKETS - 1)] += count;
    }

    /// Adds one duration.
    pub fn record(&mut self, took: Duration) {
        self.add(latency_bucket(nanos_of(took)), 1);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The duration that a part of them, 0 to 1, took at most; within a bucket they count as evenly
    /// spread. Zero where there are none.
    pub fn quantile(&self, part: f64) -> Duration {
        let wanted = part * self.count() as f64;
        let mut below = 0.0;
        for (bucket, count) in self.0.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = *count as f64;
            if below + count >= wanted {
                let start = latency_bucket_start(bucket) as f64;
                let end = latency_bucket_start(bucket + 1) as f64;
                let inside = ((wanted - below) / count).clamp(0.0, 1.0);
                return Duration::from_nanos((start + (end - start) * inside) as u64);
            }
            below += count;
        }
        Duration::ZERO
    }
}

/// What was counted of a revision's requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests that ended; one whose client left before its answer is in nothing of this.
    pub requests: u64,
    /// Those that failed: a status of 500 or more, or an answer that broke off.
    pub errors: u64,
    /// From arrival to the end of the answer, without the wait for a place, of those that did not
    /// fail; upgraded connections are left out.
    pub latencies: Latencies,
}

impl Tally {
    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        for (bucket, count) in other.latencies.0.iter().enumerate() {
            self.latencies.0[bucket] += count;
        }
    }

    /// What came on top of an earlier one; none where that has more of anything, and so is not an
    /// earlier one.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        let mut latencies = Latencies::default();
        for (bucket, count) in latencies.0.iter_mut().enumerate() {
            *count = self.latencies.0[bucket].checked_sub(earlier.latencies.0[bucket])?;
        }
        Some(Self {
            requests: self.requests.checked_sub(earlier.requests)?,
            errors: self.errors.checked_sub(earlier.errors)?,
            latencies,
        })
    }

    /// Requests that did not fail.
    pub fn good(&self) -> u64 {
        self.requests.saturating_sub(self.errors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// A duration is in the bucket whose start is the last that is not above it.
        #[test]
        fn a_bucket_is_from_its_start_to_the_next(nanos in 0_u64..400_000_000_000) {
            let bucket = latency_bucket(nanos);
            proptest::prop_assert!(latency_bucket_start(bucket) <= nanos);
            if bucket + 1 < LATENCY_BUCKETS {
                proptest::prop_assert!(nanos < latency_bucket_start(bucket + 1));
            }
        }
    }

    #[test]
    fn buckets_are_narrow_and_in_order() {
        for bucket in 1..LATENCY_BUCKETS - 1 {
            let (start, end) = (latency_bucket_start(bucket), latency_bucket_start(bucket + 1));
            assert!(start < end && end - start <= start / 8, "{bucket}: {start} {end}");
            assert_eq!(latency_bucket(start), bucket);
            assert_eq!(latency_bucket(end - 1), bucket);
        }
        assert_eq!(latency_bucket(u64::MAX), LATENCY_BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_near_what_was_recorded() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), Duration::ZERO);
        (1..=1000).for_each(|ms| latencies.record(Duration::from_millis(ms)));
        for (part, ms) in [(0.5, 500.0), (0.95, 950.0), (0.01, 10.0)] {
            let found = latencies.quantile(part).as_secs_f64() * 1000.0;
            assert!((found / ms - 1.0).abs() < 0.05, "{part}: {found} ms, not {ms}");
        }
    }

    #[test]
    fn what_came_on_top() {
        let mut earlier = Tally { requests: 3, errors: 1, ..Tally::default() };
        earlier.latencies.record(Duration::from_millis(5));
        let mut later = earlier.clone();
        later.add(&Tally { requests: 2, errors: 2, ..Tally::default() });
        let since = later.since(&earlier).unwrap();
        assert_eq!((since.requests, since.errors, since.good()), (2, 2, 0));
        assert_eq!(since.latencies.count(), 0);
        assert_eq!(earlier.since(&later), None, "it went backwards");
    }
}
