//! Traffic that moves on evidence instead of time: `tidegate.dev/rollout: canary`.
//!
//! ```text
//! new revision ─▶ first step ─ in effect ─▶ counted ─ no harm, enough ─▶ next step … ─▶ all of it
//!                                                  └─ harm ─▶ taken back: nothing, for good
//! ```
//!
//! Two revisions share at any time: the old one is whichever had proved itself before. A newer
//! revision takes the place of one that is still tried.

use super::{ConfigurationRollout, RevisionShare, Rollout, Stand, Standing, StepParams, UnixNanos};
use crate::config::canary::{compared, harm, is_anew, is_look_due, missing};
use crate::model::{CanaryRules, CanaryState, Evidence, Harm, TakenBack};

/// Tells what was counted of an old and a new revision, by name, since a step began; none while
/// nothing is counted. The moment only tells steps apart.
pub type Compare<'a> = &'a dyn Fn(&str, &str, UnixNanos) -> Option<Evidence>;

/// What is known when canaries are looked at.
#[derive(Clone, Copy)]
pub struct Trial<'a> {
    /// By what they are judged.
    pub rules: &'a CanaryRules,
    /// When it is.
    pub now: UnixNanos,
    /// How a revision is doing.
    pub stand: Stand<'a>,
    /// What was counted.
    pub compare: Compare<'a>,
}

impl std::fmt::Debug for Trial<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trial").field("rules", self.rules).finish_non_exhaustive()
    }
}

impl Rollout {
    /// The state now: `self` is the target, `before` the state stored last. Without a valid one
    /// everything is at its target at once: there is nothing to compare with.
    #[must_use]
    pub fn tried(self, before: Option<&Self>, trial: &Trial<'_>) -> Self {
        let Some(before) = before.filter(|before| before.is_valid()) else { return self };
        let configurations = self.configurations.into_iter().map(|target| {
            let known = before.configurations.iter().find(|known| known.key() == target.key());
            match known {
                Some(known) => known.clone().tried(&target, trial),
                None => target,
            }
        });
        Self { configurations: configurations.collect() }
    }

    /// Whether any revision is being tried.
    pub fn is_tried(&self) -> bool {
        let mut canaries = self.configurations.iter().filter(|known| !known.is_done());
        canaries.any(|known| known.canary.is_some())
    }

    /// Forgets what is tried or was taken back: what follows is at its target with the next state.
    pub fn forget_canaries(&mut self) {
        self.configurations.retain(|known| known.canary.is_none());
    }
}

impl ConfigurationRollout {
    /// The state before, judged and moved towards the target.
    fn tried(mut self, target: &Self, trial: &Trial<'_>) -> Self {
        let newest = target.newest();
        let stable = self.stable().map(str::to_owned);
        let Some(stable) = stable.filter(|stable| stable != newest) else { return target.clone() };
        // One per cent cannot be shared.
        if target.percent <= 1 {
            return target.clone();
        }
        let known = self.canary.take().filter(|_| self.newest() == newest);
        let state = match known {
            None => CanaryState::default(),
            Some(state) if state.taken_back.is_some() => state,
            Some(state) => match judged(state, &stable, newest, target.percent, trial) {
                Some(state) => state,
                None => return target.clone(),
            },
        };
        let share = match state.taken_back {
            Some(_) => 0,
            None => share(trial.rules, state.step, target.percent),
        };
        let of = |name: &str, percent| RevisionShare { revision_name: name.to_owned(), percent };
        Self {
            revisions: vec![of(&stable, target.percent - share), of(newest, share)],
            step_params: StepParams::default(),
            canary: Some(state),
            ..target.clone()
        }
    }

    /// The revision that proved itself: the old one of a canary, else the one with most traffic.
    fn stable(&self) -> Option<&str> {
        let share = match &self.canary {
            Some(_) => self.revisions.first(),
            // Of two alike the older one.
            None => self.revisions.iter().rev().max_by_key(|share| share.percent),
        };
        share.map(|share| share.revision_name.as_str())
    }

    /// The same without a canary: all of it is with the revision that proved itself.
    pub(super) fn without_canary(mut self) -> Self {
        if self.canary.take().is_some() {
            self.revisions.truncate(1);
            self.revisions.iter_mut().for_each(|share| share.percent = self.percent);
        }
        self
    }
}

/// Per cent that a step gives of these.
fn share(rules: &CanaryRules, step: usize, of: u8) -> u8 {
    let step = rules.steps.get(step).or(rules.steps.last()).copied().unwrap_or(50);
    let share = (u32::from(step) * u32::from(of)).div_ceil(100);
    u8::try_from(share).unwrap_or(100).clamp(1, of - 1)
}

/// The state after a look; none when the last step was passed.
fn judged(
    mut state: CanaryState,
    old: &str,
    new: &str,
    of: u8,
    trial: &Trial<'_>,
) -> Option<CanaryState> {
    let Trial { rules, now, stand, compare } = trial;
    let share = share(rules, state.step, of);
    let taken_back = |harm, seen| Some(TakenBack { harm, at: *now, share, seen });
    let standing = stand(new);
    if standing == Standing::Failing {
        state.taken_back = taken_back(Harm::CannotStart, None);
        return Some(state);
    }
    if state.since.is_unset() {
        // Counted from when the share is in effect.
        if standing != Standing::Ready {
            return Some(state);
        }
        state.since = *now;
    }
    let Some(evidence) = compare(old, new, state.since) else { return Some(state) };
    if is_look_due(&state, evidence.new.requests) {
        state.looks += 1;
        state.looked_at = evidence.new.requests;
        if let Some(harm) = harm(rules, &evidence, state.looks) {
            state.taken_back = taken_back(harm, Some(compared(&evidence)));
            return Some(state);
        }
    }
    let missing = missing(rules, &evidence);
    if !missing.is_empty() {
        if is_anew(rules, &evidence, &missing) {
            (state.since, state.looked_at) = (UnixNanos::default(), 0);
        }
        return Some(state);
    }
    let next = CanaryState {
        step: state.step + 1,
        looks: state.looks,
        passed: Some(compared(&evidence)),
        ..CanaryState::default()
    };
    (next.step < rules.steps.len()).then_some(next)
}

#[cfg(test)]
mod tests;
