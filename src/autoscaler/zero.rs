//! From a decision to the count that is written: bounds, `initial-scale`, and the steps to zero
//! (Knative's `scaler.scale` and Active condition, `pkg/reconciler/autoscaling/kpa`).
//!
//! ```text
//! Activating ──ready──▶ Active ──desired 0, active for a stable window──▶ Inactive
//!     │                    ▲                                                 │
//!     └─deadline: write 0  └────────────desired > 0, ready───────────────────┤
//!                                        probed, grace or retention over: write 0
//! ```
//!
//! Pure: what the original learns from probes and endpoint objects is an input. In production the
//! proxy is always in the path, so the probe's answer is yes and it has been there always.

use std::time::Duration;

use super::clamp::{Clamp, Clamps};
use super::misc::bounds;
use crate::model::ScalingSpec;

/// Added to the progress deadline before an activation counts as failed.
const ACTIVATION_BUFFER: Duration = Duration::from_secs(30);
/// When to look again after becoming inactive with the activator already in the path.
const REPROBE: Duration = Duration::from_secs(3);

/// The Active condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Active {
    /// Enough replicas are ready.
    True,
    /// Replicas are being started.
    Unknown,
    /// No load.
    NoTraffic,
    /// Never became ready.
    TimedOut,
}

impl Active {
    /// Whether it is one of the two inactive states.
    pub fn is_inactive(self) -> bool {
        matches!(self, Self::NoTraffic | Self::TimedOut)
    }
}

/// What a step is made from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepFacts {
    /// The decider's count; none when it has not decided yet.
    pub desired: Option<u32>,
    /// The count that is written; none where nothing was ever written (counts as 1).
    pub replicas: Option<u32>,
    /// Whether a probe through the service's address reaches the proxy.
    pub probe_ok: bool,
    /// How long the proxy has been in the path; none when it is not.
    pub proxied_for: Option<Duration>,
    /// Whether the service's endpoints were the proxy's before this step.
    pub proxy_mode: bool,
}

impl StepFacts {
    /// The facts where the proxy is always in the path.
    pub fn always_proxied(desired: Option<u32>, replicas: Option<u32>) -> Self {
        Self {
            desired,
            replicas,
            probe_ok: true,
            proxied_for: Some(Duration::MAX),
            proxy_mode: true,
        }
    }
}

/// The result of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The count wanted; none when that is not known, then everything stays as it is.
    pub want: Option<u32>,
    /// The count to write; none when nothing is to be written.
    pub write: Option<u32>,
    /// When to look again at the latest.
    pub requeue_after: Option<Duration>,
    /// Whether the probe's answer was asked for.
    pub probed: bool,
    /// Whether to go on probing in the background.
    pub async_probe: bool,
    /// What made `want` or `write` differ from the decision.
    pub clamps: Clamps,
}

/// What is known of a revision from one step to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZeroState {
    active: Active,
    since: Duration,
    initialized: bool,
}

impl ZeroState {
    /// A revision that is being activated since `now`. `initialized` is set when once before as
    /// many replicas as `initial-scale` asks for were ready.
    pub fn new(initialized: bool, now: Duration) -> Self {
        Self { active: Active::Unknown, since: now, initialized }
    }

    /// The state with a known condition.
    pub fn with(active: Active, since: Duration, initialized: bool) -> Self {
        Self { active, since, initialized }
    }

    /// Its condition.
    pub fn active(&self) -> Active {
        self.active
    }

    /// Whether as many replicas as `initial-scale` asks for were ready once: the platform's word,
    /// where it has one. What others are told is then what the count follows.
    pub fn initialized(&self, spec: &ScalingSpec) -> bool {
        spec.initialized.unwrap_or(self.initialized)
    }

    /// One step: what to want and what to write.
    pub fn scale(&self, spec: &ScalingSpec, facts: StepFacts, now: Duration) -> Step {
        if facts.desired.is_none() && self.active != Active::Unknown {
            return Step::default();
        }
        let (count, clamps) = self.clamp(spec, facts.desired);
        let mut step = Step { want: Some(count), write: Some(count), clamps, ..Step::default() };
        if count == 0 {
            self.towards_zero(spec, facts, now, &mut step);
        }
        step.write = step.write.filter(|count| *count != facts.replicas.unwrap_or(1));
        step
    }

    /// The bounds; `initial-scale` is a lower one until it was reached.
    fn clamp(&self, spec: &ScalingSpec, desired: Option<u32>) -> (u32, Clamps) {
        let mut clamps = Clamps::default();
        let initial = self.initial_bound(spec);
        let min = spec.min_scale.max(initial);
        let asked = desired.map_or(-1, i64::from);
        let count = bounds(asked, min, spec.max_scale);
        let raised = desired.is_some() && count > asked;
        clamps.add_if(raised && initial > spec.min_scale, Clamp::InitialScale);
        clamps.add_if(raised && initial <= spec.min_scale, Clamp::MinScale);
        clamps.add_if(count < asked, Clamp::MaxScale);
        (u32::try_from(count).unwrap_or(0), clamps)
    }

    fn initial_bound(&self, spec: &ScalingSpec) -> u32 {
        let applies = spec.initial_scale > 1 && !self.initialized(spec) && spec.reachable;
        if applies { spec.initial_scale } else { 0 }
    }

    fn towards_zero(&self, spec: &ScalingSpec, facts: StepFacts, now: Duration, step: &mut Step) {
        if !spec.scale_to_zero {
            (step.want, step.write) = (Some(1), Some(1));
            step.clamps.add(Clamp::ScaleToZeroDisabled);
            return;
        }
        let state_for = now.saturating_sub(self.since);
        match self.active {
            Active::Unknown => {
                let timeout = spec.progress_deadline.saturating_add(ACTIVATION_BUFFER);
                if state_for <= timeout {
                    (step.want, step.write) = (None, None);
                    // The whole of it, as in the original.
                    step.requeue_after = Some(timeout);
                    step.clamps.add(Clamp::ProgressDeadline);
                }
            }
            Active::True if state_for >= spec.stable_window => {
                step.write = None;
                step.requeue_after = facts.proxy_mode.then_some(REPROBE);
                step.clamps.add(Clamp::ScaleToZeroGrace);
            }
            Active::True => {
                (step.want, step.write) = (Some(1), Some(1));
                step.requeue_after = Some(spec.stable_window.saturating_sub(state_for));
                step.clamps.add(Clamp::StableWindow);
            }
            Active::NoTraffic | Active::TimedOut => {
                inactive_to_zero(spec, facts, state_for, step);
            }
        }
    }

    /// The Active condition after a step. `service_known`: whether there is something that can
    /// take requests for it; on one machine always.
    pub fn observe(
        &mut self,
        spec: &ScalingSpec,
        want: Option<u32>,
        ready: u32,
        service_known: bool,
        now: Duration,
    ) {
        let first = if self.initialized(spec) { 1 } else { spec.initial_scale };
        let threshold = spec.min_scale.max(first);
        if ready >= threshold && service_known {
            self.initialized = true;
        }
        let stays_inactive = want.is_none() && self.active.is_inactive();
        let active = if want == Some(0) || threshold == 0 {
            let timed_out = self.active == Active::Unknown && threshold > 0;
            if timed_out { Active::TimedOut } else { Active::NoTraffic }
        } else if stays_inactive {
            self.active
        } else if ready < threshold {
            Active::Unknown
        } else {
            Active::True
        };
        // A changed reason is no transition: the time counts from the change of the status.
        if active != self.active && !(active.is_inactive() && self.active.is_inactive()) {
            self.since = now;
        }
        self.active = active;
    }

    /// The count a revision that nobody asked yet is to have: `min-scale`, `initial-scale` until
    /// that was reached, and one where nothing may go to zero.
    pub fn resting_count(&self, spec: &ScalingSpec) -> u32 {
        let is_new = !self.initialized(spec) && spec.reachable;
        let initial = if is_new { spec.initial_scale } else { 0 };
        let count = bounds(0, spec.min_scale.max(initial), spec.max_scale);
        u32::try_from(count).unwrap_or(0).max(u32::from(!spec.scale_to_zero))
    }
}

/// The last step: nothing is taken away before the proxy is known to take new requests.
fn inactive_to_zero(spec: &ScalingSpec, facts: StepFacts, inactive: Duration, step: &mut Step) {
    if spec.target_burst_capacity != -1.0 {
        step.probed = true;
        if !facts.probe_ok {
            step.async_probe = true;
            step.write = None;
            step.clamps.add(Clamp::ScaleToZeroGrace);
            return;
        }
    }
    let grace = spec.scale_to_zero_grace;
    let retention = if spec.reachable { spec.scale_to_zero_retention } else { Duration::ZERO };
    if inactive >= grace.max(retention) {
        return;
    }
    if inactive < retention {
        step.write = None;
        step.requeue_after = Some(retention - inactive);
        step.clamps.add(Clamp::ScaleToZeroRetention);
        return;
    }
    let rest = grace.saturating_sub(facts.proxied_for.unwrap_or_default());
    if !rest.is_zero() {
        step.write = None;
        step.requeue_after = Some(rest);
        step.clamps.add(Clamp::ScaleToZeroGrace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Steps every 2 s with desired 0 and one ready replica; when 0 is written.
    fn zero_at(spec: &ScalingSpec, mut state: ZeroState) -> Option<u64> {
        (0..2_000).step_by(2).find(|now| {
            let facts = StepFacts::always_proxied(Some(0), Some(1));
            let step = state.scale(spec, facts, at(*now));
            state.observe(spec, step.want, 1, true, at(*now));
            step.write == Some(0)
        })
    }

    #[test]
    fn zero_comes_one_step_after_inactive() {
        let spec = ScalingSpec::default();
        assert_eq!(zero_at(&spec, ZeroState::with(Active::True, at(0), true)), Some(62));
        let retained = ScalingSpec { scale_to_zero_retention: at(100), ..ScalingSpec::default() };
        assert_eq!(zero_at(&retained, ZeroState::with(Active::True, at(0), true)), Some(160));
        let kept = ScalingSpec { scale_to_zero: false, ..ScalingSpec::default() };
        assert_eq!(zero_at(&kept, ZeroState::with(Active::True, at(0), true)), None);
        let min = ScalingSpec { min_scale: 1, ..ScalingSpec::default() };
        assert_eq!(zero_at(&min, ZeroState::with(Active::True, at(0), true)), None);
    }

    #[test]
    fn the_first_count_stays_until_the_platform_says_that_it_was_reached() {
        let told =
            |initialized| ScalingSpec { initial_scale: 3, initialized, ..ScalingSpec::default() };
        let mut state = ZeroState::new(false, at(0));
        let mut step = |spec: &ScalingSpec, now| {
            let step = state.scale(spec, StepFacts::always_proxied(Some(0), Some(3)), at(now));
            state.observe(spec, step.want, 3, true, at(now));
            step.want
        };
        assert_eq!(step(&told(Some(false)), 2), Some(3));
        assert_eq!(step(&told(Some(false)), 90), Some(3), "ready, but nobody has said so");
        assert_eq!(step(&told(Some(true)), 92), Some(0));
        let mut state = ZeroState::new(false, at(0));
        state.observe(&told(None), Some(3), 3, true, at(2));
        let step = state.scale(&told(None), StepFacts::always_proxied(Some(0), Some(3)), at(4));
        assert_eq!(step.want, Some(1), "it sees for itself");
    }

    #[test]
    fn an_activation_fails_after_deadline_and_buffer() {
        let spec = ScalingSpec::default();
        let mut state = ZeroState::new(true, at(0));
        let zero = (0..300).step_by(2).find(|now| {
            let facts = StepFacts::always_proxied(Some(0), Some(1));
            let step = state.scale(&spec, facts, at(*now));
            state.observe(&spec, step.want, 0, true, at(*now));
            step.write == Some(0)
        });
        assert_eq!(zero, Some(92), "60 s + 30 s, strictly");
        assert_eq!(state.active(), Active::TimedOut);
    }

    #[test]
    fn initial_scale_binds_until_reached_once() {
        let spec = ScalingSpec { initial_scale: 3, max_scale: Some(2), ..ScalingSpec::default() };
        let mut state = ZeroState::new(false, at(0));
        assert_eq!(state.resting_count(&spec), 3, "the lower bound wins");
        let facts = StepFacts::always_proxied(Some(1), Some(3));
        assert_eq!(state.scale(&spec, facts, at(2)).want, Some(3));
        state.observe(&spec, Some(3), 3, true, at(4));
        assert_eq!(state.active(), Active::True);
        assert!(state.initialized(&spec));
        let step = state.scale(&spec, facts, at(6));
        assert_eq!((step.want, step.write), (Some(1), Some(1)));
        assert_eq!(state.resting_count(&spec), 0);
    }

    proptest! {
        /// What is wanted lies within the bounds, whatever the state.
        #[test]
        fn wants_stay_within_bounds(
            desired in prop::option::of(0_u32..30), replicas in prop::option::of(0_u32..30),
            min in 0_u32..10, room in prop::option::of(0_u32..10), initial in 0_u32..6,
            initialized: bool, scale_to_zero: bool, probe_ok: bool, elapsed in 0_u64..200,
            active in prop::sample::select(&[Active::True, Active::Unknown, Active::NoTraffic][..]),
        ) {
            let max = room.map(|room| (min + room).max(1));
            let spec = ScalingSpec {
                min_scale: min, max_scale: max, initial_scale: initial, scale_to_zero,
                ..ScalingSpec::default()
            };
            let state = ZeroState::with(active, at(0), initialized);
            let facts =
                StepFacts { probe_ok, ..StepFacts::always_proxied(desired, replicas) };
            let step = state.scale(&spec, facts, at(elapsed));
            if let Some(want) = step.want {
                prop_assert!(want >= min);
                let lower = min.max(if initialized { 0 } else { initial });
                prop_assert!(max.is_none_or(|max| want <= max.max(lower).max(1)));
                prop_assert!(scale_to_zero || want > 0);
            }
            if let Some(write) = step.write {
                prop_assert_eq!(Some(write), step.want);
                prop_assert_ne!(write, replicas.unwrap_or(1));
            }
        }
    }
}
