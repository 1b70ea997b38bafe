//! The turns of the autoscaler: one timer for all revisions. What is due at a moment is worked
//! through in one go, without awaiting: seconds (samples, and on even ones the tick's decisions),
//! pokes, and re-checks of revisions that are short of slots.
//!
//! Only active revisions are touched. When none is, there is no timer at all.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use super::entry::{BURST_WINDOW, EAGER_INTERVAL, Entry, second};
use super::share::{Demand, share};
use super::{ProcessLimits, Restored, Statement};
use crate::model::{RevisionId, RevisionSpec};
use crate::stats::{Nanos, Pokes, RevisionStats};

/// Seconds from tick to tick.
pub(super) const TICK_S: u64 = 2;

/// All revisions.
#[derive(Debug, Default)]
pub(super) struct State {
    limits: ProcessLimits,
    entries: Slab<Entry>,
    by_id: HashMap<RevisionId, usize, foldhash::fast::FixedState>,
    /// Revisions that are awake, in the order they were added: turns are deterministic.
    active: BTreeSet<usize>,
    /// Revisions to look at again between ticks.
    rechecks: BTreeSet<(Nanos, usize)>,
    /// Revisions whose count is to be stated in this turn.
    stating: BTreeSet<usize>,
    /// Whether a wanted count may have changed in this turn, or room became free.
    changed: bool,
    /// Revisions whose wanted count may have changed in this turn.
    touched: BTreeSet<usize>,
    /// Replicas wanted by those that count towards the process' bound.
    wanted: u64,
    /// Whether more were wanted than there may be, when they were last shared out.
    is_short: bool,
    /// The newest second that was worked through.
    second: u64,
    /// Whether somebody's load may be missing.
    is_incomplete: bool,
}

impl State {
    pub(super) fn new(limits: ProcessLimits, now: Nanos) -> Self {
        Self { limits, second: second(now), ..Self::default() }
    }

    pub(super) fn upsert(
        &mut self,
        spec: Arc<RevisionSpec>,
        stats: Arc<RevisionStats>,
        restored: Restored,
        now: Nanos,
    ) {
        let index = if let Some(index) = self.by_id.get(&spec.id) {
            self.entries[*index].update(spec, stats, now);
            *index
        } else {
            let id = spec.id.clone();
            let index = self.entries.insert(Entry::new(spec, stats, restored, now));
            self.by_id.insert(id, index);
            index
        };
        // A request may have come before its revision was known here.
        self.look(index, now);
        if self.active.contains(&index) {
            self.stating.insert(index);
        }
        self.touched.insert(index);
        self.changed = true;
    }

    pub(super) fn remove(&mut self, id: &RevisionId) {
        let Some(index) = self.by_id.remove(id) else { return };
        self.forget_recheck(index);
        let entry = self.entries.remove(index);
        self.wanted -= u64::from(entry.counted);
        self.active.remove(&index);
        self.stating.remove(&index);
        self.touched.remove(&index);
        self.changed = true;
    }

    pub(super) fn set_incomplete(&mut self, is_incomplete: bool) {
        self.is_incomplete = is_incomplete;
    }

    pub(super) fn get(&self, id: &RevisionId) -> Option<&Entry> {
        self.by_id.get(id).map(|index| &self.entries[*index])
    }

    #[cfg(test)]
    pub(super) fn active_count(&self) -> usize {
        self.active.len()
    }

    /// Works through what is due at `now` and gives the counts to state.
    pub(super) fn turn(&mut self, pokes: &Pokes, now: Nanos) -> Vec<Statement> {
        let newest = second(now);
        if newest > self.second {
            let tick = newest / TICK_S > self.second / TICK_S;
            self.second = newest;
            self.pulse(tick, now);
        }
        for id in pokes.take() {
            if let Some(index) = self.by_id.get(&id) {
                self.poked(*index, now);
            }
        }
        while self.rechecks.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, index)) = self.rechecks.pop_first() else { break };
            self.recheck(index, now);
        }
        if std::mem::take(&mut self.changed) {
            self.share(now);
        }
        self.state()
    }

    /// When the next turn is due; none when nothing is active.
    pub(super) fn next_turn(&self) -> Option<Nanos> {
        let pulse = (!self.active.is_empty())
            .then(|| Nanos((self.second + 1).saturating_mul(1_000_000_000)));
        let recheck = self.rechecks.first().map(|(due, _)| *due);
        pulse.into_iter().chain(recheck).min()
    }

    /// A second has passed: every active revision records a sample, and decides if it is a tick.
    fn pulse(&mut self, tick: bool, now: Nanos) {
        let active: Vec<usize> = self.active.iter().copied().collect();
        for index in active {
            let entry = &mut self.entries[index];
            entry.sample(now);
            if !tick {
                continue;
            }
            entry.tick(self.is_incomplete, now);
            self.stating.insert(index);
            self.touched.insert(index);
            self.changed = true;
            if entry.is_active(now) {
                if entry.wanted == 0 {
                    self.release_pokes(index, now);
                }
            } else {
                self.rest(index, now);
            }
        }
    }

    /// At 0 no poke may be held back by a re-check.
    fn release_pokes(&mut self, index: usize, now: Nanos) {
        self.forget_recheck(index);
        let entry = &self.entries[index];
        entry.stats.take_poke();
        if entry.is_busy(now) {
            self.look(index, now);
        }
    }

    fn rest(&mut self, index: usize, now: Nanos) {
        self.forget_recheck(index);
        let entry = &mut self.entries[index];
        entry.stats.take_poke();
        entry.rest(now);
        self.active.remove(&index);
    }

    fn poked(&mut self, index: usize, now: Nanos) {
        let entry = &self.entries[index];
        if entry.awake.as_ref().is_some_and(|awake| awake.recheck.is_some()) {
            // Looked at lately: the poke stays taken until then, so that a crowded queue does not
            // wake this task for each of its requests.
            return;
        }
        let was_at_zero = entry.wanted == 0;
        self.look(index, now);
        let is_first = was_at_zero && !self.entries[index].is_eager_at(now);
        let interval = if is_first { BURST_WINDOW } else { EAGER_INTERVAL };
        let held_back =
            self.entries[index].wanted > 0 && self.schedule_recheck(index, interval, now);
        if !held_back {
            self.entries[index].stats.take_poke();
        }
    }

    /// While requests wait, it is looked at again and again.
    fn recheck(&mut self, index: usize, now: Nanos) {
        let entry = &mut self.entries[index];
        entry.stats.take_poke();
        if let Some(awake) = &mut entry.awake {
            awake.recheck = None;
        }
        self.look(index, now);
        let entry = &self.entries[index];
        if entry.wanted > 0 && entry.stats.waiting_everywhere() > 0 {
            self.schedule_recheck(index, EAGER_INTERVAL, now);
        }
    }

    /// Looks at one revision between ticks.
    fn look(&mut self, index: usize, now: Nanos) {
        self.wake_if_active(index, now);
        let entry = &mut self.entries[index];
        let before = entry.wanted;
        entry.look(self.is_incomplete, now);
        if entry.wanted != before || (entry.wanted > 0 && entry.granted == 0) {
            self.touched.insert(index);
            self.changed = true;
            self.stating.insert(index);
        }
    }

    fn schedule_recheck(&mut self, index: usize, interval: Duration, now: Nanos) -> bool {
        let Some(awake) = &mut self.entries[index].awake else { return false };
        let due = now.plus(interval);
        awake.recheck = Some(due);
        self.rechecks.insert((due, index));
        true
    }

    fn forget_recheck(&mut self, index: usize) {
        if let Some(awake) = &mut self.entries[index].awake
            && let Some(due) = awake.recheck.take()
        {
            self.rechecks.remove(&(due, index));
        }
    }

    fn wake_if_active(&mut self, index: usize, now: Nanos) {
        let entry = &mut self.entries[index];
        if entry.awake.is_none() && entry.is_active(now) {
            if self.active.is_empty() {
                // No second was worked through while all were at rest, and none is missed.
                self.second = second(now);
            }
            entry.wake(now);
            self.active.insert(index);
        }
    }

    /// Grants what is wanted, or shares out what the process may have. Only while there is not
    /// enough for all does one revision's count depend on the others'.
    fn share(&mut self, now: Nanos) {
        let touched = std::mem::take(&mut self.touched);
        for index in &touched {
            let entry = &mut self.entries[*index];
            let counts = entry.is_bounded() && self.active.contains(index);
            let counted = if counts { entry.wanted } else { 0 };
            self.wanted = self.wanted - u64::from(entry.counted) + u64::from(counted);
            entry.counted = counted;
        }
        #[cfg(test)]
        self.check_sum();
        let limit = self.limits.max_replicas.filter(|limit| self.wanted > u64::from(*limit));
        let was_short = std::mem::replace(&mut self.is_short, limit.is_some());
        if limit.is_none() && !was_short {
            for index in touched {
                if self.active.contains(&index) {
                    self.grant(index, want(&self.entries[index], now), now);
                }
            }
            return;
        }
        let active: Vec<usize> = self.active.iter().copied().collect();
        let bounded: Vec<usize> =
            active.iter().copied().filter(|index| self.entries[*index].is_bounded()).collect();
        let grants = limit.map(|limit| {
            let demands: Vec<Demand> =
                bounded.iter().map(|index| demand(&self.entries[*index], now)).collect();
            share(limit, &demands, now)
        });
        let mut grants = grants.map(|grants| bounded.into_iter().zip(grants).peekable());
        for index in active {
            let shared = grants.as_mut().and_then(|grants| grants.next_if(|(i, _)| *i == index));
            let wanted = want(&self.entries[index], now);
            self.grant(index, shared.map_or(wanted, |(_, granted)| granted), now);
        }
    }

    #[cfg(test)]
    fn check_sum(&self) {
        let bounded = self.active.iter().filter(|index| self.entries[**index].is_bounded());
        let sum: u64 = bounded.map(|index| u64::from(self.entries[*index].wanted)).sum();
        assert_eq!(self.wanted, sum, "what all want together");
    }

    fn grant(&mut self, index: usize, granted: u32, now: Nanos) {
        let entry = &mut self.entries[index];
        if granted == entry.granted {
            return;
        }
        if granted > entry.granted {
            entry.granted_at = Some(now);
        }
        let (revision, wanted) = (&entry.spec.id, entry.wanted);
        tracing::debug!(%revision, from = entry.granted, to = granted, wanted, "desired");
        entry.granted = granted;
        self.stating.insert(index);
    }

    fn state(&mut self) -> Vec<Statement> {
        let stating = std::mem::take(&mut self.stating);
        let mut statements = Vec::with_capacity(stating.len());
        for index in stating {
            let entry = &mut self.entries[index];
            entry.settle();
            if entry.is_decided() {
                let revision = entry.spec.id.clone();
                statements.push(Statement { revision, desired: entry.granted });
            }
        }
        statements
    }
}

/// How many replicas a revision is to get. One whose replicas went to others, and that has no load
/// since, gets none for the sake of a count that is only kept while it starts.
fn want(entry: &Entry, now: Nanos) -> u32 {
    let taken = entry.granted == 0 && entry.is_bounded();
    let kept = taken && entry.is_decided_zero() && !entry.is_busy(now);
    if kept { 0 } else { entry.wanted }
}

fn demand(entry: &Entry, now: Nanos) -> Demand {
    Demand {
        want: want(entry, now),
        held: entry.granted,
        busy: entry.is_busy(now),
        granted_at: entry.granted_at,
    }
}
