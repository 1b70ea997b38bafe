//! The windows that samples are averaged over: a ring of buckets, one second each in production.
//! Knative's rules to the letter (`pkg/autoscaler/aggregation`), because their corner cases decide
//! when a revision goes to zero: silence does not lower an average, a late sample still counts,
//! and a resized window is diluted until it has filled.

use std::time::Duration;

use super::weighted;
use crate::model::Aggregation;

/// A bucket's place in time: whole granules since the epoch.
pub(super) type Granule = i64;

/// Samples of the last while, summed per bucket. Times are durations since an epoch that all
/// calls share.
#[derive(Clone, Debug)]
pub struct Window {
    aggregation: Aggregation,
    granularity_s: i64,
    window_s: i64,
    /// The bucket of granule `g` is at `g mod len`.
    pub(super) buckets: Vec<f64>,
    /// Sum of all buckets.
    total: f64,
    /// Oldest granule written since the window was last empty. None: unknown, which counts as
    /// infinitely long ago once there was a write.
    first: Option<Granule>,
    /// Newest granule written.
    pub(super) last: Option<Granule>,
    /// Weight of the newest bucket; only used by the weighted average.
    pub(super) coefficient: f64,
}

impl Window {
    /// An empty window. `length` and `granularity` count in whole seconds and are at least one.
    pub fn new(aggregation: Aggregation, length: Duration, granularity: Duration) -> Self {
        let granularity_s = whole_seconds(granularity).max(1);
        let window_s = whole_seconds(length).max(1);
        let buckets = bucket_count(window_s, granularity_s);
        Self {
            aggregation,
            granularity_s,
            window_s,
            buckets: vec![0.0; buckets],
            total: 0.0,
            first: None,
            last: None,
            coefficient: weighted::coefficient(buckets),
        }
    }

    /// Adds a sample. Samples of the same bucket add up; one that is older than the window is
    /// dropped.
    pub fn record(&mut self, now: Duration, value: f64) {
        let granule = self.granule(now);
        if self.last != Some(granule) && !self.make_room(granule) {
            return;
        }
        let index = self.index(granule);
        self.buckets[index] += value;
        self.total += value;
    }

    /// Prepares the bucket of a granule other than the last one; false if it is too old.
    fn make_room(&mut self, granule: Granule) -> bool {
        let ahead = self.last.map(|last| granule - last);
        if ahead.is_some_and(|ahead| -ahead * self.granularity_s >= self.window_s) {
            return false;
        }
        self.first = Some(self.first.map_or(granule, |first| first.min(granule)));
        match ahead {
            Some(ahead) if ahead < 0 => return true,
            Some(ahead) if ahead * self.granularity_s < self.window_s => {
                for passed in granule - ahead + 1..=granule {
                    self.clear(passed);
                }
            }
            _ => {
                self.buckets.fill(0.0);
                self.total = 0.0;
                self.first = Some(granule);
            }
        }
        self.last = Some(granule);
        true
    }

    fn clear(&mut self, granule: Granule) {
        let index = self.index(granule);
        self.total -= std::mem::take(&mut self.buckets[index]);
        if index == 0 {
            // Once a round the sum is made anew, so that rounding errors cannot pile up until an
            // idle revision's average is no longer zero.
            self.total = self.buckets.iter().sum();
        }
    }

    /// The average as of `now`; 0 when there are no data.
    pub fn average(&self, now: Duration) -> f64 {
        let now = self.granule(now);
        match self.aggregation {
            Aggregation::Linear => round6(self.linear(now)),
            Aggregation::WeightedExponential if self.is_empty_at(now) => 0.0,
            Aggregation::WeightedExponential => weighted::average(self, now),
        }
    }

    fn linear(&self, now: Granule) -> f64 {
        let Some(last) = self.last else { return 0.0 };
        let silent = (now - last).max(0);
        if silent > 0 && silent * self.granularity_s >= self.window_s {
            return 0.0;
        }
        // The buckets between the last write and now still hold what was written one round ago.
        let stale: f64 = (last + 1..=last + silent).map(|g| self.buckets[self.index(g)]).sum();
        let room = self.len() - silent;
        let written = self.first.map_or(room, |first| last - first + 1);
        (self.total - stale) / written.min(room) as f64
    }

    /// Whether nothing was written for longer than the window's length.
    pub fn is_empty(&self, now: Duration) -> bool {
        self.is_empty_at(self.granule(now))
    }

    fn is_empty_at(&self, now: Granule) -> bool {
        self.last.is_none_or(|last| (now - last) * self.granularity_s > self.window_s)
    }

    /// Changes the length. The newest samples are kept, unless the window is empty as of `now`.
    pub fn resize(&mut self, length: Duration, now: Duration) {
        let window_s = whole_seconds(length).max(1);
        if window_s == self.window_s {
            return;
        }
        let empty = self.is_empty(now);
        let count = bucket_count(window_s, self.granularity_s);
        let mut buckets = vec![0.0; count];
        match self.last {
            Some(last) if !empty => {
                let kept = count.min(self.buckets.len()) as i64;
                for granule in last - kept + 1..=last {
                    buckets[ring_index(granule, count)] = self.buckets[self.index(granule)];
                }
                // As in the original even if fewer were ever written: the average is diluted
                // until the new window has filled.
                self.first = Some(last - (self.len() - 1));
            }
            _ => self.first = None,
        }
        self.total = buckets.iter().sum();
        self.window_s = window_s;
        self.coefficient = weighted::coefficient(count);
        self.buckets = buckets;
    }

    fn granule(&self, time: Duration) -> Granule {
        whole_seconds(time) / self.granularity_s
    }

    pub(super) fn index(&self, granule: Granule) -> usize {
        ring_index(granule, self.buckets.len())
    }

    /// Number of buckets.
    pub(super) fn len(&self) -> i64 {
        self.buckets.len() as i64
    }
}

fn whole_seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

fn bucket_count(window_s: i64, granularity_s: i64) -> usize {
    usize::try_from(window_s.div_euclid(granularity_s)).unwrap_or(1)
        + usize::from(window_s % granularity_s != 0)
}

fn ring_index(granule: Granule, len: usize) -> usize {
    // In range: the remainder of a division by `len` is below it.
    granule.rem_euclid(len as i64) as usize
}

/// Rounds to six decimals, half away from zero: what is left of rounding errors in the sum
/// disappears, so that an idle window is exactly zero.
fn round6(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// The linear window by its definition: a map of all buckets ever written.
    struct Slow {
        length: i64,
        buckets: BTreeMap<i64, f64>,
        first: i64,
        last: Option<i64>,
    }

    impl Slow {
        fn record(&mut self, t: i64, v: f64) {
            match self.last {
                Some(last) if t <= last - self.length => return,
                Some(last) if t < last + self.length => self.first = self.first.min(t),
                _ => {
                    self.buckets.clear();
                    self.first = t;
                }
            }
            self.last = self.last.max(Some(t));
            *self.buckets.entry(t).or_default() += v;
        }

        fn average(&self, now: i64) -> f64 {
            let Some(last) = self.last else { return 0.0 };
            let now = now.max(last);
            if now - last >= self.length {
                return 0.0;
            }
            let sum: f64 = self.buckets.range(now - self.length + 1..=last).map(|(_, v)| v).sum();
            sum / (last - self.first + 1).min(self.length - (now - last)) as f64
        }
    }

    proptest! {
        #[test]
        fn linear_agrees_with_its_definition(
            length in 1_i64..20,
            ops in prop::collection::vec((-25_i64..30, 0.0_f64..1_000.0, any::<bool>()), 1..200),
        ) {
            let second = |t: i64| Duration::from_secs(u64::try_from(t).unwrap());
            let mut window =
                Window::new(Aggregation::Linear, second(length), Duration::from_secs(1));
            let mut slow = Slow { length, buckets: BTreeMap::new(), first: 0, last: None };
            let mut now = 1_000_i64;
            for (step, value, read_only) in ops {
                // Forward most of the time, sometimes a late sample.
                let at = if step < -5 { now } else { now + step };
                now = now.max(at);
                if !read_only {
                    window.record(second(at), value);
                    slow.record(at, value);
                }
                let (got, want) = (window.average(second(now)), slow.average(now));
                prop_assert!((got - want).abs() <= 1e-6, "{got} {want} at {now}");
            }
        }

        /// Noise leaves no residue: up to a million requests in flight what floats lose is below what
        /// an average is rounded to. (At a thousand times that it may be a millionth, as Knative's.)
        #[test]
        fn an_idle_window_is_exactly_zero(values in prop::collection::vec(0.0_f64..1e6, 1..500)) {
            let mut window = Window::new(
                Aggregation::Linear, Duration::from_secs(60), Duration::from_secs(1));
            let mut now = 0;
            for value in values {
                window.record(Duration::from_secs(now), value);
                now += 1;
            }
            for _ in 0..60 {
                window.record(Duration::from_secs(now), 0.0);
                now += 1;
            }
            prop_assert_eq!(window.average(Duration::from_secs(now - 1)), 0.0);
        }
    }
}
