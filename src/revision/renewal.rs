//! Replicas that are replaced: each goes, its requests ended, once another one has its place.

use crate::model::EndpointId;

use super::Revision;
use super::state::{Entry, Phase};

/// At most so many replicas more than desired, in per cent: as a Deployment's `maxSurge`.
const SURGE_PERCENT: u32 = 25;

/// How much of an endpoint's time is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Renewal {
    /// It may stay.
    #[default]
    None,
    /// Another one is to take its place, which it has until that is ready.
    Beside,
    /// It has to go first: the program can run only once. Requests wait meanwhile.
    InPlace,
}

impl Entry {
    /// Whether it is to be replaced.
    pub(super) fn is_outdated(&self) -> bool {
        self.renewal != Renewal::None
    }

    /// Whether new load may take it back from among the victims.
    pub(super) fn is_taken_back(&self) -> bool {
        matches!(self.phase, Phase::Victim { .. }) && !self.is_outdated()
    }
}

/// How many of those that could stay do: fresh ones first, and outdated ones in place of those that
/// are missing, unless they have to go first.
pub(super) fn stay(keep: usize, alive: &[usize], entries: &[Entry]) -> usize {
    let may_stay = |index: &&usize| entries[**index].renewal != Renewal::InPlace;
    keep.min(alive.iter().filter(may_stay).count())
}

/// How many are started beside those that stand in for others.
pub(super) fn surge(kept: &[usize], desired: u32, entries: &[Entry]) -> u32 {
    let stand_ins = kept.iter().filter(|index| entries[**index].is_outdated()).count();
    let most = desired.saturating_mul(SURGE_PERCENT).div_ceil(100);
    u32::try_from(stand_ins).unwrap_or(u32::MAX).min(most)
}

/// Outdated ones that have nothing to do any more.
pub(super) fn replaced(entries: &[Entry]) -> Vec<EndpointId> {
    let is_done =
        |entry: &&Entry| matches!(entry.phase, Phase::Condemned { .. }) && entry.is_outdated();
    entries.iter().filter(is_done).map(|entry| entry.endpoint.id().clone()).collect()
}

impl Revision {
    /// Has every replica that there is now replaced: none goes before another one is ready – unless
    /// the program can run only once (`in_place`) – nor with a request, within `timeoutSeconds`.
    pub fn renew(&self, in_place: bool) {
        let renewal = if in_place { Renewal::InPlace } else { Renewal::Beside };
        self.state.lock().entries.iter_mut().for_each(|entry| entry.renewal = renewal);
        self.ask_replan();
    }

    /// How many replicas are still to be replaced.
    pub fn to_renew(&self) -> u32 {
        let state = self.state.lock();
        let outdated = state.entries.iter().filter(|entry| entry.is_outdated()).count();
        u32::try_from(outdated).unwrap_or(u32::MAX)
    }
}
