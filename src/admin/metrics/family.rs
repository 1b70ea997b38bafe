//! Metric families, before a format is chosen.

use std::sync::Arc;

use crate::stats::{HistogramReading, LATENCY_BOUNDS_MS};

/// What kind of number a family holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows. Its name is written without `_total`; the writers add it.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Distribution.
    Histogram,
    /// A counter whose name has no `_total`, which both formats allow only for an untyped metric.
    Untyped,
}

/// Unit of a family; its name ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// As it stands at the end of a name.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
        }
    }
}

/// A label: name and value.
pub type Label = (&'static str, Arc<str>);

/// Labels of a sample: those shared with its neighbours, then its own.
#[derive(Clone, Debug)]
pub struct Labels {
    /// Labels that many samples have alike.
    pub shared: Arc<[Label]>,
    /// Labels of this sample.
    pub own: Vec<Label>,
}

impl Labels {
    /// All labels in order.
    pub fn iter(&self) -> impl Iterator<Item = &Label> {
        self.shared.iter().chain(&self.own)
    }
}

/// A histogram's value.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramValue {
    /// Upper bound and count per bucket, not cumulative; the last bound is infinite.
    pub buckets: Vec<(f64, u64)>,
    /// Sum of all observations.
    pub sum: f64,
}

impl HistogramValue {
    /// From a reading, with `bounds_ms` out of [`LATENCY_BOUNDS_MS`]; `scale` makes the metric's
    /// unit of milliseconds.
    pub fn new(reading: &HistogramReading, bounds_ms: &[u64], scale: f64) -> Self {
        debug_assert!(bounds_ms.iter().all(|bound| LATENCY_BOUNDS_MS.contains(bound)));
        let mut below = 0;
        let mut buckets: Vec<_> = bounds_ms
            .iter()
            .map(|bound| {
                let at_most = reading.at_most(*bound);
                let count = at_most - below;
                below = at_most;
                (*bound as f64 * scale, count)
            })
            .collect();
        buckets.push((f64::INFINITY, reading.count() - below));
        Self { buckets, sum: reading.sum.as_secs_f64() * 1000.0 * scale }
    }

    /// Number of observations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}

/// A sample's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A whole number.
    Whole(u64),
    /// Any number.
    Real(f64),
    /// A distribution.
    Histogram(HistogramValue),
}

/// One series.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its labels.
    pub labels: Labels,
    /// Its value.
    pub value: Value,
}

/// All series of a name.
#[derive(Clone, Debug)]
pub struct Family {
    /// Name; for a counter without `_total`.
    pub name: &'static str,
    /// What it is, one line.
    pub help: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its unit, which its name ends with.
    pub unit: Option<Unit>,
    /// Its series.
    pub samples: Vec<Sample>,
}

impl Family {
    /// A family without series.
    pub fn new(name: &'static str, kind: Kind, help: &'static str) -> Self {
        let unit = [Unit::Seconds, Unit::Bytes]
            .into_iter()
            .find(|unit| name.strip_suffix(unit.suffix()).is_some_and(|rest| rest.ends_with('_')));
        Self { name, help, kind, unit, samples: Vec::new() }
    }

    /// Adds a series with shared and own labels.
    pub fn push(&mut self, shared: &Arc<[Label]>, own: Vec<Label>, value: Value) {
        self.samples.push(Sample { labels: Labels { shared: Arc::clone(shared), own }, value });
    }

    /// This family with one series that has no labels.
    pub fn single(mut self, value: Value) -> Self {
        self.push(&Arc::default(), Vec::new(), value);
        self
    }
}
