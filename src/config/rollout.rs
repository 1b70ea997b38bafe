//! Gradual rollout: the traffic that follows a configuration's newest revision moves to it step by
//! step (Knative's `rollout-duration`).
//!
//! ```text
//! new revision ─▶ 1 % ─ ready ─▶ step size and duration fixed ─ each step ─▶ … ─▶ all of it
//! ```
//!
//! Pure: the state before, the traffic asked for and the time are arguments. The state is written
//! as Knative writes it into its annotation `networking.internal.knative.dev/rollout`. Rules and
//! their defects are Knative's, as recorded cases show them, save for one: a share that is lowered
//! so far that an old revision gets nothing ends in an index error there. Canaries, which move on
//! evidence, are not Knative's: their state is a field more there.

mod canary;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::CanaryState;
pub use crate::model::UnixNanos;
pub use canary::{Compare, Trial};

/// Where the traffic of one route is, by tag and configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// By tag, then by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub configurations: Vec<ConfigurationRollout>,
}

/// The traffic that follows one configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationRollout {
    /// Whose newest revision is followed.
    pub configuration_name: String,
    /// The tag; none for the route's own hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Per cent of the traffic of the route or tag, 1–100.
    pub percent: u8,
    /// The revisions that share it, oldest first; one when nothing moves. Only a canary that was
    /// taken back has a share of 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revisions: Vec<RevisionShare>,
    /// When it moves on.
    #[serde(default)]
    pub step_params: StepParams,
    /// How far the newest revision is if it is, or was, tried as a canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryState>,
}

/// A revision's part of a configuration's traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionShare {
    /// Its name.
    pub revision_name: String,
    /// Per cent of the traffic of the route or tag.
    pub percent: u8,
}

/// When traffic moves on, and by how much; all zero when nothing moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepParams {
    /// When the newest revision got its first per cent.
    #[serde(default, rename = "starttime", skip_serializing_if = "UnixNanos::is_unset")]
    pub start_time: UnixNanos,
    /// When the next step is due; unset until the newest revision is ready.
    #[serde(default, skip_serializing_if = "UnixNanos::is_unset")]
    pub next_step_time: UnixNanos,
    /// Nanoseconds from one step to the next.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub step_duration: u64,
    /// Per cent moved at each step.
    #[serde(default, skip_serializing_if = "is_zero_percent")]
    pub step_size: u8,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
const fn is_zero(nanos: &u64) -> bool {
    *nanos == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
const fn is_zero_percent(percent: &u8) -> bool {
    *percent == 0
}

/// How the newest revision of a rollout is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Its first per cent is not in effect yet: a rollout that has begun is not timed.
    Pending,
    /// Well.
    #[default]
    Ready,
    /// Its replicas cannot be started: nothing more is moved to it.
    Failing,
}

/// Tells how a revision is doing, by name.
pub type Stand<'a> = &'a dyn Fn(&str) -> Standing;

impl Rollout {
    /// Everything at its target: each configuration's share, with its newest revision.
    pub fn at_target(
        shares: impl IntoIterator<Item = (Option<String>, String, String, u8)>,
    ) -> Self {
        let configurations = shares
            .into_iter()
            .filter(|(_, _, _, percent)| *percent > 0)
            .map(|(tag, configuration_name, revision_name, percent)| ConfigurationRollout {
                configuration_name,
                tag,
                percent,
                revisions: vec![RevisionShare { revision_name, percent }],
                step_params: StepParams::default(),
                canary: None,
            })
            .collect();
        let mut rollout = Self { configurations };
        rollout.configurations.sort_by_cached_key(ConfigurationRollout::key);
        rollout
    }

    /// Whether a stored state makes sense; one that does not is as good as none.
    pub fn is_valid(&self) -> bool {
        self.configurations.iter().all(|configuration| {
            let sum: u32 = configuration.revisions.iter().map(|r| u32::from(r.percent)).sum();
            configuration.percent <= 100
                && configuration.step_params.step_size <= configuration.percent
                && sum == u32::from(configuration.percent)
        })
    }

    /// Whether nothing moves.
    pub fn is_done(&self) -> bool {
        self.configurations.iter().all(ConfigurationRollout::is_done)
    }

    /// The state at `now`: `self` is the target, `before` the state stored last. With a duration of
    /// zero, or without a valid state before, everything is at its target at once.
    #[must_use]
    pub fn advanced(
        self,
        before: Option<&Self>,
        duration: Duration,
        now: UnixNanos,
        stand: Stand<'_>,
    ) -> Self {
        let before = before.filter(|before| before.is_valid());
        let Some(before) = before.filter(|_| duration.as_secs() > 0) else { return self };
        let mut known: BTreeMap<_, ConfigurationRollout> = BTreeMap::new();
        for configuration in &before.configurations {
            known.insert(configuration.key(), configuration.clone().without_canary());
        }
        let configurations =
            self.configurations.iter().map(|target| match known.remove(&target.key()) {
                Some(mut before) => {
                    if stand(before.newest()) == Standing::Ready {
                        before.observe_ready(duration, now);
                    }
                    before.stepped(target, now, stand)
                }
                None => target.clone(),
            });
        Self { configurations: configurations.collect() }
    }

    /// What the same traffic comes to at its target.
    #[must_use]
    pub fn target(&self) -> Self {
        Self::at_target(self.configurations.iter().map(|c| {
            (c.tag.clone(), c.configuration_name.clone(), c.newest().to_owned(), c.percent)
        }))
    }

    /// The newest revision that is followed of a configuration, by the route's own hosts or a tag's.
    pub fn newest_of(&self, configuration: &str) -> Option<&str> {
        let mut all = self.configurations.iter();
        all.find(|known| known.configuration_name == configuration)
            .map(ConfigurationRollout::newest)
    }

    /// When the next step is due that may be taken.
    pub fn next_step(&self, stand: Stand<'_>) -> Option<UnixNanos> {
        let moving = self.configurations.iter().filter(|configuration| !configuration.is_done());
        let due = moving.filter(|configuration| stand(configuration.newest()) != Standing::Failing);
        due.map(|configuration| configuration.step_params.next_step_time)
            .filter(|next| !next.is_unset())
            .min()
    }

    /// How the traffic of a target is shared while it moves: `revision` is where it goes in the
    /// end. None when nothing moves.
    pub fn shares(&self, tag: Option<&str>, revision: &str) -> Option<&[RevisionShare]> {
        let mut shared = self.configurations.iter().filter(|known| known.revisions.len() > 1);
        let shared =
            shared.find(|known| known.tag.as_deref() == tag && known.newest() == revision)?;
        let with_share = shared.revisions.iter().filter(|share| share.percent > 0).count();
        shared.revisions.get(..with_share)
    }

    /// Every revision that has a share in it.
    pub fn revisions(&self) -> impl Iterator<Item = &str> {
        let shares = self.configurations.iter().flat_map(|configuration| &configuration.revisions);
        shares.filter(|share| share.percent > 0).map(|share| share.revision_name.as_str())
    }

    /// Whether a revision was taken back, for the route's own hosts or for a tag.
    pub fn is_taken_back(&self, tag: Option<&str>, revision: &str) -> bool {
        let mut known = self.configurations.iter().filter(|known| known.tag.as_deref() == tag);
        known.any(|known| known.newest() == revision && known.is_taken_back())
    }

    /// Gives the shares of revisions that do not exist any more to the newest of those that do.
    pub fn retain(&mut self, exists: impl Fn(&str) -> bool) {
        for configuration in &mut self.configurations {
            let before = configuration.revisions.len();
            configuration.revisions.retain(|share| exists(&share.revision_name));
            if configuration.revisions.len() < before {
                let kept = configuration.revisions.iter().map(|share| share.percent).sum::<u8>();
                if let Some(newest) = configuration.revisions.last_mut() {
                    newest.percent += configuration.percent.saturating_sub(kept);
                }
                // There is nothing to compare with any more.
                configuration.canary = None;
            }
        }
        self.configurations.retain(|configuration| !configuration.revisions.is_empty());
    }
}

impl ConfigurationRollout {
    fn key(&self) -> (Option<String>, String) {
        (self.tag.clone(), self.configuration_name.clone())
    }

    /// The newest revision: the one that traffic moves to.
    pub fn newest(&self) -> &str {
        self.revisions.last().map_or("", |share| share.revision_name.as_str())
    }

    /// Whether nothing moves.
    pub fn is_done(&self) -> bool {
        self.revisions.len() < 2 || self.is_taken_back()
    }

    /// Whether its newest revision was tried and taken back.
    pub fn is_taken_back(&self) -> bool {
        self.canary.as_ref().is_some_and(|canary| canary.taken_back.is_some())
    }

    /// Fixes the steps of a rollout that has just been seen ready: as many as the time leaves room
    /// for, each as long as the first per cent took, in whole seconds.
    fn observe_ready(&mut self, duration: Duration, now: UnixNanos) {
        let params = &mut self.step_params;
        let is_timed = params.step_duration > 0;
        if is_timed || params.start_time.is_unset() || self.revisions.len() < 2 {
            return;
        }
        let took = now.since(params.start_time).as_secs_f64().ceil().max(1.0);
        let left = (duration.as_secs_f64() - took).max(1.0);
        let percent = f64::from(self.percent);
        let steps = (left / took).max(1.0).min(percent - 1.0);
        let step = Duration::from_secs_f64(left / steps);
        // At most 99, and a step of a whole duration fits by far.
        params.step_size = ((percent - 1.0) / steps).round() as u8;
        params.step_duration = u64::try_from(step.as_nanos()).unwrap_or(u64::MAX);
        params.next_step_time = now.plus(step);
    }

    /// The state before, moved towards the target.
    fn stepped(mut self, target: &Self, now: UnixNanos, stand: Stand<'_>) -> Self {
        // One per cent cannot be shared.
        if target.percent <= 1 || self.revisions.is_empty() {
            return target.clone();
        }
        self.adjust(target.percent);
        if self.newest() != target.newest() {
            self.begin(target.newest(), now);
        } else if !self.is_done() && self.is_due(now) && stand(self.newest()) != Standing::Failing {
            self.step(now);
        }
        if self.is_done() {
            self.step_params = StepParams::default();
        }
        self
    }

    /// Whether a step is due. A moment much further away than a step was set by a clock that has
    /// been put back since, as that of a machine that learns the time only after its start.
    fn is_due(&self, now: UnixNanos) -> bool {
        let StepParams { next_step_time: next, step_duration, .. } = self.step_params;
        let far = Duration::from_nanos(step_duration.saturating_mul(2));
        !next.is_unset() && (next <= now || next.since(now) > far)
    }

    /// Takes over another share: what is more goes to the newest revision, what is less is taken
    /// from the oldest ones.
    fn adjust(&mut self, percent: u8) {
        let more = percent.saturating_sub(self.percent);
        let mut less = self.percent.saturating_sub(percent);
        if let Some(newest) = self.revisions.last_mut() {
            newest.percent += more;
        }
        for share in &mut self.revisions {
            let taken = share.percent.min(less);
            share.percent -= taken;
            less -= taken;
        }
        self.revisions.retain(|share| share.percent > 0);
        self.percent = percent;
    }

    /// A new revision gets one per cent of the newest one before.
    fn begin(&mut self, newest: &str, now: UnixNanos) {
        if let Some(giver) = self.revisions.iter_mut().rev().find(|share| share.percent > 0) {
            giver.percent -= 1;
        }
        self.revisions.retain(|share| share.percent > 0);
        self.revisions.push(RevisionShare { revision_name: newest.to_owned(), percent: 1 });
        self.step_params = StepParams { start_time: now, ..StepParams::default() };
    }

    /// Moves a step's share to the newest revision, from the newest old ones first.
    fn step(&mut self, now: UnixNanos) {
        let Some((newest, old)) = self.revisions.split_last_mut() else { return };
        let mut left = self.step_params.step_size;
        for share in old.iter_mut().rev() {
            let taken = share.percent.min(left);
            share.percent -= taken;
            newest.percent += taken;
            left -= taken;
        }
        self.revisions.retain(|share| share.percent > 0);
        let step = Duration::from_nanos(self.step_params.step_duration);
        self.step_params.next_step_time = now.plus(step);
    }
}

#[cfg(test)]
mod tests;
