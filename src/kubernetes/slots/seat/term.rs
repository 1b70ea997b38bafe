//! Which part a seat has: alone, one of several, or the keeper of the ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{Nanos, RevisionId};

use super::{Change, Seat};
use crate::kubernetes::slots::holder::Seen;
use crate::kubernetes::slots::keeper::Keeper;
use crate::kubernetes::slots::message::{Ballot, MemberId, Past};

impl Seat {
    pub(super) fn is_alone(&self) -> bool {
        self.listed.as_ref().is_some_and(BTreeSet::is_empty) && self.members.is_empty()
    }

    pub(super) fn take_everything(
        &mut self,
        change: &mut impl FnMut(&RevisionId, Change<'_>) -> Option<Seen>,
        all: &mut impl FnMut() -> Vec<RevisionId>,
    ) {
        self.has_everything = true;
        self.keeper = None;
        self.session = None;
        self.past_due = None;
        self.accepted = None;
        self.record.clear();
        self.named.clear();
        self.holder.clear();
        for id in all() {
            change(&id, Change::Everything);
        }
    }

    /// There is another proxy now: everything is this one's still, and goes by the ledger.
    pub(super) fn share(
        &mut self,
        now: Nanos,
        change: &mut impl FnMut(&RevisionId, Change<'_>) -> Option<Seen>,
        all: &mut impl FnMut() -> Vec<RevisionId>,
    ) {
        self.has_everything = false;
        self.until = now.plus(self.timing.lease);
        for id in all() {
            let seen = change(&id, Change::Lease);
            self.holder.observe(&id, seen.as_ref(), true);
        }
        let mut keeper = self.begin_term(now);
        keeper.is_established = true;
        keeper.report_own(&self.holder.needs(true, true), true, now);
        self.keeper = Some(keeper);
    }

    pub(super) fn begin_term(&mut self, now: Nanos) -> Keeper {
        let promised = self.promised.as_ref().map_or(0, |ballot| ballot.number);
        self.heard = self.heard.max(promised) + 1;
        let ballot = Ballot { number: self.heard, keeper: self.me.clone() };
        let mut keeper = Keeper::new(ballot.clone(), self.timing, now);
        for (member, _) in self.members.iter().filter(|(_, state)| state.connected) {
            let message = keeper.collect(member);
            self.outbox.push((member.clone(), message));
        }
        self.promised = Some(ballot);
        self.session = None;
        self.past_due = None;
        keeper
    }

    /// Takes the ledger over where that is this process' part, and opens it once all have spoken.
    pub(super) fn govern(&mut self, now: Nanos) {
        let Some(listed) = &self.listed else { return };
        if self.keeper.is_none() && now >= self.retry_at && self.is_called() {
            let past = self.past();
            let keeper = self.begin_term(now);
            self.past_due = Some(past);
            self.keeper = Some(keeper);
            self.retry_at = now.plus(self.timing.retry);
            return;
        }
        let Some(keeper) = &mut self.keeper else { return };
        if keeper.is_established {
            return;
        }
        // Whoever may hold something, and whether it is known to have had a keeper.
        let mut others: BTreeMap<MemberId, bool> =
            self.members.keys().map(|member| (member.clone(), true)).collect();
        for named in keeper.named() {
            let has_successor = others
                .keys()
                .any(|other| other.peer == named.peer && other.process != named.process);
            if named != self.me && !has_successor {
                others.insert(named, true);
            }
        }
        for peer in listed {
            if !others.keys().any(|member| member.peer == *peer) {
                others.insert(MemberId::new(Arc::clone(peer), 0), false);
            }
        }
        let all_here = others.keys().all(|member| keeper.has_reported(member));
        if !all_here && now < keeper.started.plus(self.timing.collect) {
            return;
        }
        let is_fresh = now < self.until;
        let past = self.past_due.take().map(|past| Past { is_fresh, ..past }).unwrap_or_default();
        keeper.establish(&others, past, now);
        keeper.report_own(&self.holder.needs(true, true), true, now);
    }

    /// Whether it is this process' part to keep the ledger: it leads; or who kept it has ended, and
    /// no other one that is left comes first by name.
    fn is_called(&self) -> bool {
        if self.leads {
            return true;
        }
        let Some(promised) = &self.promised else { return false };
        let is_dead = match self.members.get(&promised.keeper) {
            Some(state) => state.dead.is_some(),
            None => promised.keeper != self.me,
        };
        let is_first =
            self.members.iter().all(|(member, state)| !state.connected || self.me < *member);
        is_dead && is_first
    }
}
