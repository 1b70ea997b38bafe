//! What was measured: histograms, counts by outcome, and the same by interval.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Nanoseconds that are told apart, and a first upper end; the histogram grows past it.
const LOWEST: u64 = 100;
const FIRST_HIGHEST: u64 = 10_000_000_000;

/// Latencies in nanoseconds, exact to three digits (HDR histogram).
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self::with_digits(3)
    }
}

impl Latencies {
    fn with_digits(digits: u8) -> Self {
        let mut histogram = Histogram::new_with_bounds(LOWEST, FIRST_HIGHEST, digits)
            .expect("constant bounds are valid");
        histogram.auto(true);
        Self(histogram)
    }

    /// Counts one.
    pub fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX >> 1);
        // It resizes itself, so nothing is out of range.
        let _ = self.0.record(nanos.max(LOWEST));
    }

    /// Adds all of another.
    pub fn add(&mut self, other: &Self) {
        let _ = self.0.add(&other.0);
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency, in seconds, that a part (0 to 1) of them does not exceed; none when empty.
    pub fn quantile(&self, part: f64) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(part).min(self.0.max()) as f64 / 1e9)
    }

    /// The greatest, in seconds.
    pub fn max(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.max() as f64 / 1e9)
    }

    /// The mean, in seconds.
    pub fn mean(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.mean() / 1e9)
    }
}

/// What happened to the requests due within one interval.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Requests due.
    pub due: u64,
    /// Answered 2xx or 3xx.
    pub good: u64,
    /// The others, by what happened.
    pub bad: BTreeMap<String, u64>,
    /// Good ones by the first line of their body, when asked for.
    pub labels: BTreeMap<String, u64>,
    /// Latencies of the good ones, exact to two digits.
    pub latency: Latencies,
}

impl Default for Bucket {
    fn default() -> Self {
        Self {
            due: 0,
            good: 0,
            bad: BTreeMap::new(),
            labels: BTreeMap::new(),
            latency: Latencies::with_digits(2),
        }
    }
}

impl Bucket {
    /// Requests that did not end well.
    pub fn bad_total(&self) -> u64 {
        self.bad.values().sum()
    }
}

/// How a request ended.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// 2xx or 3xx, with the first line of the body if that was asked for.
    Good { label: Option<String>, bytes: u64 },
    /// Anything else: the status with tidegate's token, or what failed.
    Bad(String),
}

/// Everything about one run of the generator.
#[derive(Clone, Debug)]
pub struct Recording {
    /// From the start to the last answer.
    pub elapsed: Duration,
    /// Requests due (open loop) or sent (closed loop).
    pub due: u64,
    /// Answered 2xx or 3xx.
    pub good: u64,
    /// The others, by what happened: a status with tidegate's token, `connect`, `broken`,
    /// `timeout`.
    pub bad: BTreeMap<String, u64>,
    /// Latency of good answers, from the time a request was due (in a closed loop: sent).
    pub latency: Latencies,
    /// Latency of the others.
    pub bad_latency: Latencies,
    /// How late the generator itself was: from due to sent, when a connection was free.
    pub lag: Latencies,
    /// Bytes of good answers' bodies.
    pub bytes: u64,
    /// Connections opened.
    pub connects: u64,
    /// Requests sent a second time: on a connection that was closed before they were sent, or
    /// while nobody listened (see `patience`).
    pub retries: u64,
    /// Length of an interval.
    pub interval: Duration,
    /// Intervals from the start on, by when a request was due.
    pub buckets: Vec<Bucket>,
}

impl Recording {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            elapsed: Duration::ZERO,
            due: 0,
            good: 0,
            bad: BTreeMap::new(),
            latency: Latencies::default(),
            bad_latency: Latencies::default(),
            lag: Latencies::default(),
            bytes: 0,
            connects: 0,
            retries: 0,
            interval,
            buckets: Vec::new(),
        }
    }

    /// Counts a request that was due `at` after the start and took `latency`.
    pub(super) fn record(&mut self, at: Duration, latency: Duration, outcome: Outcome) {
        self.due += 1;
        let bucket = bucket(&mut self.buckets, self.interval, at);
        bucket.due += 1;
        match outcome {
            Outcome::Good { label, bytes } => {
                self.good += 1;
                self.bytes += bytes;
                self.latency.record(latency);
                bucket.good += 1;
                bucket.latency.record(latency);
                if let Some(label) = label {
                    *bucket.labels.entry(label).or_default() += 1;
                }
            }
            Outcome::Bad(what) => {
                self.bad_latency.record(latency);
                *bucket.bad.entry(what.clone()).or_default() += 1;
                *self.bad.entry(what).or_default() += 1;
            }
        }
    }

    /// Adds what another generator measured over the same time.
    pub fn add(&mut self, other: &Self) {
        self.elapsed = self.elapsed.max(other.elapsed);
        self.due += other.due;
        self.good += other.good;
        add_counts(&mut self.bad, &other.bad);
        self.latency.add(&other.latency);
        self.bad_latency.add(&other.bad_latency);
        self.lag.add(&other.lag);
        self.bytes += other.bytes;
        self.connects += other.connects;
        self.retries += other.retries;
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize_with(other.buckets.len(), Bucket::default);
        }
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            mine.due += theirs.due;
            mine.good += theirs.good;
            add_counts(&mut mine.bad, &theirs.bad);
            add_counts(&mut mine.labels, &theirs.labels);
            mine.latency.add(&theirs.latency);
        }
    }

    /// Requests that did not end well.
    pub fn bad_total(&self) -> u64 {
        self.bad.values().sum()
    }

    /// Good answers per second of the whole run.
    pub fn throughput(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { self.good as f64 / seconds } else { 0.0 }
    }

    /// The requests due in a span of time.
    pub fn between(&self, from: Duration, to: Duration) -> Bucket {
        let mut sum = Bucket { latency: Latencies::default(), ..Bucket::default() };
        for (index, bucket) in self.buckets.iter().enumerate() {
            let at = self.interval * u32::try_from(index).unwrap_or(u32::MAX);
            if at >= from && at < to {
                sum.due += bucket.due;
                sum.good += bucket.good;
                add_counts(&mut sum.bad, &bucket.bad);
                add_counts(&mut sum.labels, &bucket.labels);
                sum.latency.add(&bucket.latency);
            }
        }
        sum
    }
}

fn bucket(buckets: &mut Vec<Bucket>, interval: Duration, at: Duration) -> &mut Bucket {
    let index = usize::try_from(at.as_nanos() / interval.as_nanos().max(1)).unwrap_or(usize::MAX);
    if buckets.len() <= index {
        buckets.resize_with(index + 1, Bucket::default);
    }
    &mut buckets[index]
}

fn add_counts(to: &mut BTreeMap<String, u64>, from: &BTreeMap<String, u64>) {
    for (name, count) in from {
        *to.entry(name.clone()).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn near(found: Option<f64>, wanted: f64) -> bool {
        found.is_some_and(|found| (found / wanted - 1.0).abs() < 0.002)
    }

    #[test]
    fn quantiles_are_exact_to_three_digits() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), None);
        for number in 1..=1000 {
            latencies.record(ms(number));
        }
        assert_eq!(latencies.count(), 1000);
        assert!(near(latencies.quantile(0.5), 0.5), "{:?}", latencies.quantile(0.5));
        assert!(near(latencies.quantile(0.99), 0.99));
        assert!(near(latencies.max(), 1.0));
        assert!(near(latencies.mean(), 0.5005));
        assert!(latencies.quantile(1.0) <= latencies.max());
    }

    #[test]
    fn it_grows_and_takes_nothing_for_a_little() {
        let mut latencies = Latencies::default();
        latencies.record(Duration::ZERO);
        latencies.record(Duration::from_secs(3600));
        assert_eq!(latencies.count(), 2);
        assert!(near(latencies.max(), 3600.0));
    }

    #[test]
    fn requests_count_where_they_were_due() {
        let good = |label: &str| Outcome::Good { label: Some(label.into()), bytes: 3 };
        let mut first = Recording::new(ms(100));
        first.record(ms(0), ms(5), good("a"));
        first.record(ms(99), ms(700), good("b"));
        first.record(ms(250), ms(1), Outcome::Bad("503 queue_full".into()));
        let mut second = Recording::new(ms(100));
        second.record(ms(450), ms(9), good("a"));
        first.add(&second);
        assert_eq!((first.due, first.good, first.bad_total(), first.bytes), (4, 3, 1, 9));
        let due: Vec<_> = first.buckets.iter().map(|bucket| bucket.due).collect();
        assert_eq!(due, [2, 0, 1, 0, 1]);
        assert_eq!(first.buckets[0].labels, BTreeMap::from([("a".into(), 1), ("b".into(), 1)]));
        assert_eq!(first.buckets[2].bad_total(), 1);
        let part = first.between(ms(0), ms(300));
        assert_eq!((part.due, part.good, part.bad_total()), (3, 2, 1));
        assert_eq!(part.latency.count(), 2);
        assert_eq!(first.bad_latency.count(), 1);
    }
}
