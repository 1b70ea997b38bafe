//! From averages to a count: Knative's decision, rule by rule
//! (`pkg/autoscaler/scaling/autoscaler.go`). A pure function of its state, the facts and `now`, so
//! that production, the simulation and recorded decisions run the same code.
//!
//! Bounds, `initial-scale` and scaling to zero come after it, in [`super::zero`].

use std::time::Duration;

use super::clamp::{Clamp, Clamps};
use super::max_window::MaxWindow;
use crate::model::ScalingSpec;

/// Load of the whole revision, averaged over the two windows, in the revision's metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Averages {
    /// Over the stable window.
    pub stable: f64,
    /// Over the panic window.
    pub panic: f64,
}

/// What a decision is made from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Facts {
    /// Ready replicas; none when they could not be counted.
    pub ready: Option<u32>,
    /// None when there are no data.
    pub averages: Option<Averages>,
}

/// A decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// The averages it was made from.
    pub averages: Averages,
    /// Ready replicas it was made from.
    pub ready: u32,
    /// Replicas that the load alone asks for: by the stable window, or in panic by the larger.
    pub raw: u32,
    /// The decision.
    pub desired: u32,
    /// What made it differ from `raw`.
    pub clamps: Clamps,
    /// Whether it was made in panic.
    pub panicking: bool,
    /// Excess burst capacity: requests that ready replicas could take on top of the present load
    /// and the target burst capacity; −1 also stands for "always in the path".
    pub excess_burst: i64,
}

/// State from one decision to the next.
#[derive(Clone, Debug)]
pub struct Decider {
    /// When panic began or was last extended.
    panic_since: Option<Duration>,
    /// In panic the count never falls below this.
    panic_floor: u32,
    /// Made only at creation, as in the original: a delay that is switched on later has no
    /// effect, one that is changed keeps its length.
    delay: Option<MaxWindow>,
}

impl Decider {
    /// A decider for a revision with `ready` replicas. With two or more it starts in panic: after
    /// a restart nothing goes down before the windows have filled.
    pub fn new(spec: &ScalingSpec, ready: u32, now: Duration) -> Self {
        Self {
            panic_since: (ready > 1).then_some(now),
            panic_floor: ready,
            delay: (!spec.scale_down_delay.is_zero())
                .then(|| MaxWindow::new(spec.scale_down_delay)),
        }
    }

    /// Whether it is in panic.
    pub fn panicking(&self) -> bool {
        self.panic_since.is_some()
    }

    /// The count that panic keeps; 0 when there was none yet.
    pub fn panic_floor(&self) -> u32 {
        self.panic_floor
    }

    /// Decides. None, and nothing has changed, when a fact is missing.
    pub fn decide(&mut self, spec: &ScalingSpec, facts: Facts, now: Duration) -> Option<Outcome> {
        let (seen, averages) = (facts.ready?, facts.averages?);
        let ready = f64::from(seen.max(1));
        let rates = Rates::new(spec, ready);
        let by_stable = (averages.stable / spec.target_value).ceil();
        let by_panic = (averages.panic / spec.target_value).ceil();

        self.watch_panic(spec, by_panic / ready >= spec.panic_threshold, now);
        let panicking = self.panicking();

        let mut clamps = Clamps::default();
        let mut desired = rates.apply(spec, by_stable, &mut clamps);
        let mut raw = by_stable;
        if panicking {
            let mut panic_clamps = Clamps::default();
            let panic = rates.apply(spec, by_panic, &mut panic_clamps);
            desired = desired.max(panic);
            // The larger load decides: all rules keep the order of the two.
            if by_panic > by_stable {
                (raw, clamps) = (by_panic, panic_clamps);
            }
            clamps.add_if(self.panic_floor > desired, Clamp::PanicFloor);
            self.panic_floor = self.panic_floor.max(desired);
            desired = self.panic_floor;
        }
        if let Some(delay) = self.delay.as_mut().filter(|_| spec.reachable) {
            delay.record(now, desired);
            clamps.add_if(delay.max() > desired, Clamp::ScaleDownDelay);
            desired = delay.max();
        }
        let excess_burst = excess_burst(spec, seen, averages.panic);
        let raw = to_count(raw);
        Some(Outcome { averages, ready: seen, raw, desired, clamps, panicking, excess_burst })
    }

    /// Begins, extends or ends panic.
    fn watch_panic(&mut self, spec: &ScalingSpec, over: bool, now: Duration) {
        if over {
            self.panic_since = Some(now);
        } else if self
            .panic_since
            .is_some_and(|since| since.saturating_add(spec.stable_window) < now)
        {
            self.panic_since = None;
            self.panic_floor = 0;
        }
    }
}

/// How far one decision may go.
struct Rates {
    up: f64,
    down: f64,
}

impl Rates {
    fn new(spec: &ScalingSpec, ready: f64) -> Self {
        Self {
            up: (spec.max_scale_up_rate * ready).ceil(),
            down: if spec.reachable { (ready / spec.max_scale_down_rate).floor() } else { 0.0 },
        }
    }

    /// The count for one window. `activation-scale` comes after the rates and may exceed them.
    fn apply(&self, spec: &ScalingSpec, raw: f64, clamps: &mut Clamps) -> u32 {
        clamps.add_if(raw < self.down, Clamp::MaxScaleDownRate);
        clamps.add_if(raw > self.up, Clamp::MaxScaleUpRate);
        let count = to_count(raw.max(self.down).min(self.up));
        let activation = spec.activation_scale.filter(|scale| *scale > 1 && raw > 0.0).unwrap_or(0);
        clamps.add_if(activation > count, Clamp::ActivationScale);
        count.max(activation)
    }
}

/// Saturates at the original's 32-bit signed counts.
fn to_count(count: f64) -> u32 {
    // `as` saturates and takes NaN for 0.
    (count as i32).max(0).unsigned_abs()
}

pub(super) fn excess_burst(spec: &ScalingSpec, ready: u32, panic_average: f64) -> i64 {
    if spec.target_burst_capacity == 0.0 {
        0
    } else if spec.target_burst_capacity < 0.0 {
        -1
    } else {
        let capacity = f64::from(ready) * spec.total_value;
        (capacity - spec.target_burst_capacity - panic_average).floor() as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decide(spec: &ScalingSpec, ready: u32, stable: f64, panic: f64) -> Outcome {
        Decider::new(spec, ready.min(1), Duration::ZERO)
            .decide(
                spec,
                Facts { ready: Some(ready), averages: Some(Averages { stable, panic }) },
                Duration::from_secs(1),
            )
            .expect("all facts are there")
    }

    #[test]
    fn missing_facts_change_nothing() {
        let spec = ScalingSpec::default();
        let mut decider = Decider::new(&spec, 3, Duration::ZERO);
        let averages = Some(Averages { stable: 0.0, panic: 0.0 });
        let late = Duration::from_secs(500);
        assert_eq!(decider.decide(&spec, Facts { ready: None, averages }, late), None);
        assert_eq!(decider.decide(&spec, Facts { ready: Some(3), averages: None }, late), None);
        assert!(decider.panicking(), "no bookkeeping of panic either");
        assert_eq!(decider.panic_floor(), 3);
    }

    #[test]
    fn clamps_are_named() {
        let spec = ScalingSpec { target_value: 1.0, max_scale_up_rate: 2.0, ..Default::default() };
        let up = decide(&spec, 4, 100.0, 0.0);
        assert_eq!((up.raw, up.desired), (100, 8));
        assert!(up.clamps.contains(Clamp::MaxScaleUpRate));
        let down = decide(&spec, 10, 1.0, 1.0);
        assert_eq!((down.raw, down.desired), (1, 5));
        assert_eq!(down.clamps.iter().collect::<Vec<_>>(), [Clamp::MaxScaleDownRate]);
        let spec = ScalingSpec { activation_scale: Some(5), ..Default::default() };
        let activated = decide(&spec, 1, 1.0, 0.0);
        assert_eq!((activated.raw, activated.desired), (1, 5));
        assert_eq!(activated.clamps.iter().collect::<Vec<_>>(), [Clamp::ActivationScale]);
        assert_eq!(decide(&spec, 1, 0.0, 0.0).desired, 0, "no load, no activation");
    }

    #[test]
    fn absurd_numbers_saturate() {
        let spec = ScalingSpec { target_value: 0.01, ..Default::default() };
        for load in [f64::MAX, f64::INFINITY, 1e300] {
            assert_eq!(decide(&spec, u32::MAX, load, load).desired, i32::MAX.unsigned_abs());
        }
        assert_eq!(decide(&spec, 0, f64::NAN, f64::NAN).desired, 0);
        assert_eq!(decide(&spec, 0, -5.0, -5.0).desired, 0);
    }

    proptest! {
        /// Without panic, delay and activation scale the count stays within both rates of the
        /// ready count, and is what the load asks for when that is within them.
        #[test]
        fn rates_are_never_exceeded(
            ready in 0_u32..500, stable in 0.0_f64..100_000.0, target in 0.01_f64..500.0,
            up in 1.01_f64..20.0, down in 1.01_f64..20.0,
        ) {
            let spec = ScalingSpec {
                target_value: target, max_scale_up_rate: up, max_scale_down_rate: down,
                ..Default::default()
            };
            let got = decide(&spec, ready, stable, 0.0);
            let n = f64::from(ready.max(1));
            let (least, most) = ((n / down).floor(), (n * up).ceil());
            let want = (stable / target).ceil();
            prop_assert!(f64::from(got.desired) >= least && f64::from(got.desired) <= most);
            if (least..=most).contains(&want) {
                prop_assert_eq!(f64::from(got.desired), want);
                prop_assert_eq!(got.clamps, Clamps::default());
            } else {
                prop_assert_ne!(got.clamps, Clamps::default());
            }
        }

        /// While it panics, the count never falls.
        #[test]
        fn panic_never_lowers(loads in prop::collection::vec((0.0_f64..500.0, 0.0_f64..500.0, 0_u32..20), 1..100)) {
            let spec = ScalingSpec { target_value: 5.0, ..Default::default() };
            let mut decider = Decider::new(&spec, 2, Duration::ZERO);
            let mut before: Option<u32> = None;
            for (index, (stable, panic, ready)) in loads.into_iter().enumerate() {
                let facts = Facts { ready: Some(ready), averages: Some(Averages { stable, panic }) };
                let now = Duration::from_secs(2 * (index as u64 + 1));
                let outcome = decider.decide(&spec, facts, now).unwrap();
                if outcome.panicking {
                    prop_assert!(before.is_none_or(|before| outcome.desired >= before));
                    before = Some(outcome.desired);
                } else {
                    before = None;
                }
            }
        }
    }
}
