//! One revision's scaler: its windows, its decider and the status of the last decision
//! (Knative's `MetricCollector` entry and `MultiScaler` runner in one).

use std::time::Duration;

use super::decider::{Averages, Decider, Facts, Outcome};
use super::window::Window;
use crate::model::{Metric, ScalingSpec};

const GRANULARITY: Duration = Duration::from_secs(1);

/// A stable and a panic window of one metric.
#[derive(Clone, Debug)]
struct Pair {
    stable: Window,
    panic: Window,
}

impl Pair {
    fn new(spec: &ScalingSpec) -> Self {
        Self {
            stable: Window::new(spec.aggregation, spec.stable_window, GRANULARITY),
            panic: Window::new(spec.aggregation, spec.panic_window, GRANULARITY),
        }
    }

    fn record(&mut self, now: Duration, value: f64) {
        self.stable.record(now, value);
        self.panic.record(now, value);
    }

    fn resize(&mut self, spec: &ScalingSpec, now: Duration) {
        self.stable.resize(spec.stable_window, now);
        self.panic.resize(spec.panic_window, now);
    }

    /// None when there are no data and their absence means something. With target burst capacity
    /// −1 it does not: the proxy sees everything, so nothing seen is no load.
    fn averages(&self, spec: &ScalingSpec, now: Duration) -> Option<Averages> {
        if self.stable.is_empty(now) && spec.target_burst_capacity != -1.0 {
            return None;
        }
        Some(Averages { stable: self.stable.average(now), panic: self.panic.average(now) })
    }
}

/// One second's load.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Requests in flight, averaged.
    pub concurrency: f64,
    /// Requests that arrived.
    pub rps: f64,
}

/// What the last decision said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The count; none before the first decision (the original's −1).
    pub desired: Option<u32>,
    /// Excess burst capacity.
    pub excess_burst: i64,
}

/// A decision and whether its status is news.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ticked {
    /// None: a fact was missing, the status stays.
    pub outcome: Option<Outcome>,
    /// The count changed, or the excess burst capacity changed its sign.
    pub inform: bool,
}

/// The scaler of one revision.
#[derive(Clone, Debug)]
pub struct Scaler {
    spec: ScalingSpec,
    concurrency: Pair,
    rps: Pair,
    decider: Decider,
    status: Status,
}

impl Scaler {
    /// A scaler for a revision with `ready` replicas, whose status says `desired` until the first
    /// decision. The original starts at none; a revision at rest starts at 0 here, so that its
    /// first request decides at once.
    pub fn new(spec: ScalingSpec, desired: Option<u32>, ready: u32, now: Duration) -> Self {
        let excess_burst = initial_excess_burst(&spec);
        Self {
            concurrency: Pair::new(&spec),
            rps: Pair::new(&spec),
            decider: Decider::new(&spec, ready, now),
            status: Status { desired, excess_burst },
            spec,
        }
    }

    /// Adds a sample.
    pub fn record(&mut self, now: Duration, sample: Sample) {
        self.concurrency.record(now, sample.concurrency);
        self.rps.record(now, sample.rps);
    }

    /// Whether a report of this load is to be decided upon at once.
    pub fn wants_poke(&self, concurrency: f64) -> bool {
        self.status.desired == Some(0) && concurrency != 0.0
    }

    /// Decides from the present averages. `ready` is none when it could not be counted.
    pub fn tick(&mut self, ready: Option<u32>, now: Duration) -> Ticked {
        let averages = self.averages(now);
        self.decide(averages, ready, now)
    }

    /// Decides as if `sample` had been recorded at `at`, without recording it.
    pub fn tick_as_if(
        &mut self,
        (at, sample): (Duration, Sample),
        ready: Option<u32>,
        now: Duration,
    ) -> Ticked {
        let (pair, value) = match self.spec.metric {
            Metric::Concurrency => (&self.concurrency, sample.concurrency),
            Metric::Rps => (&self.rps, sample.rps),
        };
        let mut pair = pair.clone();
        pair.record(at, value);
        let averages = pair.averages(&self.spec, now);
        self.decide(averages, ready, now)
    }

    fn decide(&mut self, averages: Option<Averages>, ready: Option<u32>, now: Duration) -> Ticked {
        let outcome = self.decider.decide(&self.spec, Facts { ready, averages }, now);
        let Some(decided) = outcome else { return Ticked { outcome, inform: false } };
        let inform = self.status.desired != Some(decided.desired)
            || (self.status.excess_burst < 0) != (decided.excess_burst < 0);
        self.status = Status { desired: Some(decided.desired), excess_burst: decided.excess_burst };
        Ticked { outcome, inform }
    }

    /// Averages of the revision's metric.
    pub fn averages(&self, now: Duration) -> Option<Averages> {
        let pair = match self.spec.metric {
            Metric::Concurrency => &self.concurrency,
            Metric::Rps => &self.rps,
        };
        pair.averages(&self.spec, now)
    }

    /// New settings. Windows are resized; status, panic and delay stay, and so does the way of
    /// averaging, as in the original.
    pub fn update(&mut self, spec: ScalingSpec, now: Duration) {
        self.concurrency.resize(&spec, now);
        self.rps.resize(&spec, now);
        self.spec = spec;
    }

    /// Raises the status to a count that stands although a decision said less.
    pub(super) fn keep_at_least(&mut self, desired: u32) {
        self.status.desired = self.status.desired.max(Some(desired));
    }

    /// What the last decision said.
    pub fn status(&self) -> Status {
        self.status
    }

    /// Its decider.
    pub fn decider(&self) -> &Decider {
        &self.decider
    }
}

/// Before the first decision: as if `initial-scale` replicas were ready and without load. It
/// truncates where decisions round down, as in the original.
fn initial_excess_burst(spec: &ScalingSpec) -> i64 {
    let burst = spec.target_burst_capacity;
    if burst == 0.0 || burst == -1.0 {
        return burst as i64;
    }
    (f64::from(spec.initial_scale) * spec.total_value - burst).trunc() as i64
}

/// Of a revision without replicas and load.
pub(super) fn excess_burst_at_rest(spec: &ScalingSpec) -> i64 {
    super::decider::excess_burst(spec, 0, 0.0)
}
