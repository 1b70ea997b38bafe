//! The keeper's book: which slots of an endpoint are whose, at most.
//!
//! A booking is the most that a member may have in use, whatever was lost on the way: it grows
//! when a grant is sent, and falls only by a report that was sent after the last grant was taken,
//! or when the member's process is gone. All bookings of an endpoint together never exceed its
//! limit, but where a report says otherwise; then nothing is granted until they do not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::{EndpointId, Nanos, RevisionId};

use super::message::{Cap, MemberId, Need};
use super::share::{Demand, fair};

/// What one member may have in use of one endpoint.
#[derive(Clone, Debug, Default)]
struct Booking {
    booked: u32,
    /// As granted last, or as it says.
    cap: u32,
    /// Grants from this number on contain that.
    sent: u64,
    used: u32,
    takes: bool,
    /// As told with the last grant: others wait.
    wanted: bool,
}

#[derive(Debug)]
struct Place {
    first: Nanos,
    by: BTreeMap<MemberId, Booking>,
}

/// Requests that wait, as far as no grant is on the way.
#[derive(Debug, Default)]
struct Unmet {
    count: u32,
    raised: u32,
    raised_by: u64,
}

#[derive(Debug, Default)]
struct Shared {
    limit: u32,
    timeout: Duration,
    unmet: BTreeMap<MemberId, Unmet>,
    places: BTreeMap<EndpointId, Place>,
}

/// A member of which nothing is known: it may hold whatever nobody else does.
#[derive(Clone, Copy, Debug)]
struct Unknown {
    since: Nanos,
    /// Its lease cannot have been renewed after that.
    renewed: Nanos,
    /// Whether it ends with its lease and its last request.
    ends: bool,
}

/// What a moment allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Nanos,
    /// After that a lease has ended by any clock.
    pub(super) lease: Duration,
    /// Whether this process leads: no other keeper of now has a lease by the Lease.
    pub(super) leads: bool,
    /// Grants from this number on will contain what is granted now.
    pub(super) seq: u64,
    /// Which member is served first where not all can be.
    pub(super) turn: u64,
}

/// Requests may end so much later than their time.
const SLACK: Duration = Duration::from_secs(5);

/// The book.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    revisions: BTreeMap<RevisionId, Shared>,
    unknown: BTreeMap<MemberId, Unknown>,
    changed: BTreeSet<RevisionId>,
    /// Revisions where requests wait although all slots are taken.
    contended: BTreeSet<RevisionId>,
    /// Revisions whose members were told that others wait.
    told_wanted: BTreeSet<RevisionId>,
    is_calm_due: bool,
}

impl Ledger {
    /// Takes a report in. `everything`: what it does not name, the member does not have.
    pub(super) fn report(
        &mut self,
        who: &MemberId,
        needs: &[Need],
        seen: u64,
        everything: bool,
        now: Nanos,
    ) {
        if everything {
            self.forget(who);
            // One process runs there at a time.
            let others: Vec<_> =
                self.unknown.keys().filter(|other| other.peer == who.peer).cloned().collect();
            others.iter().for_each(|other| self.forget(other));
        }
        for need in needs {
            self.changed.insert(need.revision.clone());
            let shared = self.revisions.entry(need.revision.clone()).or_default();
            if need.limit > 0 {
                shared.limit = need.limit;
                shared.timeout = Duration::from_millis(need.timeout_ms);
            }
            let unmet = shared.unmet.entry(who.clone()).or_default();
            if unmet.raised_by <= seen {
                unmet.raised = 0;
            }
            unmet.count = need.waiting.saturating_sub(unmet.raised);
            for line in &need.endpoints {
                let place = shared
                    .places
                    .entry(line.endpoint.clone())
                    .or_insert_with(|| Place { first: now, by: BTreeMap::new() });
                let booking = place.by.entry(who.clone()).or_default();
                (booking.used, booking.takes) = (line.used, line.takes);
                if booking.sent <= seen {
                    booking.booked = line.held();
                    booking.cap = line.own;
                } else {
                    booking.booked = booking.booked.max(line.held());
                }
            }
        }
        for need in needs {
            self.tidy(&need.revision);
        }
    }

    /// What a member is said to hold by somebody else.
    pub(super) fn book(&mut self, who: &MemberId, caps: &[Cap], now: Nanos) {
        for cap in caps {
            // Of a revision that nobody else knows there is nothing to grant.
            let Some(shared) = self.revisions.get_mut(&cap.revision) else { continue };
            let place = shared
                .places
                .entry(cap.endpoint.clone())
                .or_insert_with(|| Place { first: now, by: BTreeMap::new() });
            let booking = place.by.entry(who.clone()).or_default();
            booking.booked = booking.booked.max(cap.slots);
            booking.cap = booking.booked;
            self.changed.insert(cap.revision.clone());
        }
    }

    /// A member of which nothing is known.
    pub(super) fn add_unknown(&mut self, who: MemberId, ends: bool, since: Nanos) {
        self.unknown.insert(who, Unknown { since, renewed: since, ends });
    }

    /// Members of which nothing is known.
    pub(super) fn unknown(&self) -> impl Iterator<Item = &MemberId> {
        self.unknown.keys()
    }

    /// Somebody else may have renewed the leases of those that are not known.
    pub(super) fn renewed(&mut self, now: Nanos) {
        self.unknown.values_mut().for_each(|unknown| unknown.renewed = now);
    }

    /// Its process is gone, and whatever it had with it.
    pub(super) fn forget(&mut self, who: &MemberId) {
        let ids: Vec<_> = self.revisions.keys().cloned().collect();
        if self.unknown.remove(who).is_some() {
            self.changed.extend(ids.iter().cloned());
        }
        for id in ids {
            let Some(shared) = self.revisions.get_mut(&id) else { continue };
            shared.unmet.remove(who);
            let mut had = false;
            shared.places.values_mut().for_each(|place| had |= place.by.remove(who).is_some());
            if had {
                self.changed.insert(id.clone());
                self.tidy(&id);
            }
        }
    }

    /// A member was not heard of since its lease: what it had in use has ended by its time.
    pub(super) fn expire(&mut self, who: &MemberId, lease_ended: Nanos, now: Nanos) {
        for (id, shared) in &mut self.revisions {
            if now < lease_ended.plus(shared.timeout + SLACK) {
                continue;
            }
            for place in shared.places.values_mut() {
                if place.by.remove(who).is_some() {
                    self.changed.insert(id.clone());
                }
            }
        }
    }

    fn tidy(&mut self, id: &RevisionId) {
        let Some(shared) = self.revisions.get_mut(id) else { return };
        for place in shared.places.values_mut() {
            place.by.retain(|_, booking| booking.takes || booking.booked > 0);
        }
        shared.places.retain(|_, place| !place.by.is_empty());
        shared.unmet.retain(|_, unmet| unmet.count > 0 || unmet.raised > 0);
        if shared.places.is_empty() && shared.unmet.is_empty() {
            self.revisions.remove(id);
            self.contended.remove(id);
            self.told_wanted.remove(id);
        }
    }

    /// What one member may hold at most.
    pub(super) fn of(&self, who: &MemberId) -> Vec<Cap> {
        let mut caps = Vec::new();
        for (revision, shared) in &self.revisions {
            for (endpoint, place) in &shared.places {
                if let Some(booking) = place.by.get(who)
                    && booking.booked > 0
                {
                    caps.push(Cap {
                        revision: revision.clone(),
                        endpoint: endpoint.clone(),
                        slots: booking.booked,
                        wanted: false,
                    });
                }
            }
        }
        caps
    }

    /// What one member may hold of one endpoint at most.
    pub(super) fn booked(
        &self,
        who: &MemberId,
        revision: &RevisionId,
        endpoint: &EndpointId,
    ) -> u32 {
        let place = self.revisions.get(revision).and_then(|shared| shared.places.get(endpoint));
        place.and_then(|place| place.by.get(who)).map_or(0, |booking| booking.booked)
    }

    /// Whether requests wait although all slots are taken: then turns matter.
    pub(super) fn is_contended(&self) -> bool {
        !self.contended.is_empty()
    }

    /// Looks again at what only time changes.
    pub(super) fn look_again(&mut self) {
        self.changed.extend(self.contended.iter().cloned());
        // Nobody waits any more: what is idle may stay where it is.
        self.changed.extend(self.told_wanted.difference(&self.contended).cloned());
        self.is_calm_due = true;
        if !self.unknown.is_empty() {
            self.changed.extend(self.revisions.keys().cloned());
        }
    }

    /// Grants free slots to whom they are wanted by, and takes back where somebody has more than
    /// a fair share. Only members that are `live` are granted anything.
    pub(super) fn settle(
        &mut self,
        live: &BTreeSet<MemberId>,
        moment: Moment,
    ) -> BTreeMap<MemberId, Vec<Cap>> {
        let mut caps: BTreeMap<MemberId, Vec<Cap>> = BTreeMap::new();
        let is_calm_due = std::mem::take(&mut self.is_calm_due);
        let over = |u: &Unknown, timeout: Duration| {
            moment.leads && u.ends && moment.now >= u.renewed.plus(moment.lease + timeout + SLACK)
        };
        for id in std::mem::take(&mut self.changed) {
            let Some(shared) = self.revisions.get_mut(&id) else { continue };
            // What came up only after the last lease of the unknown cannot be theirs.
            let timeout = shared.timeout;
            let blocked = self
                .unknown
                .values()
                .filter(|u| !over(u, timeout))
                .map(|u| u.since.plus(moment.lease))
                .max();
            let is_open = |place: &Place| blocked.is_none_or(|until| place.first > until);
            let mut touched = shared.settle(live, moment, &is_open);
            if shared.unmet.iter().any(|(who, unmet)| unmet.count > 0 && live.contains(who)) {
                self.contended.insert(id.clone());
                self.told_wanted.insert(id.clone());
                shared.tell_wanted(true, live, moment, &mut touched);
            } else {
                self.contended.remove(&id);
                if is_calm_due && self.told_wanted.remove(&id) {
                    shared.tell_wanted(false, live, moment, &mut touched);
                }
            }
            for (who, endpoint) in touched {
                let booking = shared.places.get(&endpoint).and_then(|place| place.by.get(&who));
                let Some(Booking { cap: slots, wanted, .. }) = booking.cloned() else { continue };
                let cap = Cap { revision: id.clone(), endpoint, slots, wanted };
                caps.entry(who).or_default().push(cap);
            }
        }
        caps
    }
}

impl Shared {
    fn settle(
        &mut self,
        live: &BTreeSet<MemberId>,
        moment: Moment,
        is_open: &dyn Fn(&Place) -> bool,
    ) -> BTreeSet<(MemberId, EndpointId)> {
        let mut touched = BTreeSet::new();
        if self.unmet.iter().all(|(who, unmet)| unmet.count == 0 || !live.contains(who)) {
            return touched;
        }
        self.give(live, moment, is_open, &mut touched);
        if self.unmet.iter().any(|(who, unmet)| unmet.count > 0 && live.contains(who)) {
            self.recall(live, moment, is_open, &mut touched);
        }
        touched
    }

    /// Members with slots are told whether others wait for them.
    fn tell_wanted(
        &mut self,
        wanted: bool,
        live: &BTreeSet<MemberId>,
        moment: Moment,
        touched: &mut BTreeSet<(MemberId, EndpointId)>,
    ) {
        for (endpoint, place) in &mut self.places {
            for (who, booking) in &mut place.by {
                if booking.cap > 0 && booking.wanted != wanted && live.contains(who) {
                    booking.wanted = wanted;
                    booking.sent = moment.seq;
                    touched.insert((who.clone(), endpoint.clone()));
                }
            }
        }
    }

    fn free(&self, place: &Place) -> u32 {
        let booked: u32 = place.by.values().map(|booking| booking.booked).sum();
        self.limit.saturating_sub(booked)
    }

    /// Slots that a member may use by what was granted.
    fn granted(&self, who: &MemberId) -> u32 {
        self.places.values().filter_map(|place| place.by.get(who)).map(|b| b.cap).sum()
    }

    /// Free slots to those that wait, who has least first, from the endpoint with most free.
    fn give(
        &mut self,
        live: &BTreeSet<MemberId>,
        moment: Moment,
        is_open: &dyn Fn(&Place) -> bool,
        touched: &mut BTreeSet<(MemberId, EndpointId)>,
    ) {
        let (demands, shares) = self.shares(live, moment, is_open);
        // Who has less than its share comes first, and of those who has least.
        let share = |who: &MemberId| shares.get(who).copied().unwrap_or(0);
        let mut wanting: Vec<(u32, MemberId)> = demands
            .iter()
            .filter(|demand| demand.unmet > 0)
            .map(|demand| (demand.has, demand.who.clone()))
            .collect();
        let key = |(has, who): &(u32, MemberId)| (*has >= share(who), *has);
        while let Some(next) = (0..wanting.len()).min_by_key(|index| key(&wanting[*index])) {
            let who = wanting[next].1.clone();
            let takes = |p: &Place| p.by.get(&who).is_some_and(|booking| booking.takes);
            let best = self
                .places
                .iter()
                .filter(|(_, place)| is_open(place) && takes(place))
                .map(|(id, place)| (self.free(place), id))
                .filter(|(free, _)| *free > 0)
                .max_by_key(|(free, _)| *free)
                .map(|(_, id)| id.clone());
            let Some(endpoint) = best else {
                wanting.remove(next);
                continue;
            };
            self.raise(&who, &endpoint, moment.seq);
            touched.insert((who.clone(), endpoint));
            wanting[next].0 += 1;
            if self.unmet.get(&who).is_none_or(|unmet| unmet.count == 0) {
                wanting.remove(next);
            }
        }
    }

    fn raise(&mut self, who: &MemberId, endpoint: &EndpointId, seq: u64) {
        let Some(place) = self.places.get_mut(endpoint) else { return };
        let booking = place.by.entry(who.clone()).or_default();
        booking.cap += 1;
        // What was recalled and not yet returned is booked already.
        booking.booked = booking.booked.max(booking.cap);
        booking.sent = seq;
        let unmet = self.unmet.entry(who.clone()).or_default();
        unmet.count = unmet.count.saturating_sub(1);
        if unmet.raised_by != seq {
            (unmet.raised, unmet.raised_by) = (0, seq);
        }
        unmet.raised += 1;
    }

    /// Recalls slots from members with more than their share, idle ones first, as many as those
    /// that wait lack of theirs.
    fn recall(
        &mut self,
        live: &BTreeSet<MemberId>,
        moment: Moment,
        is_open: &dyn Fn(&Place) -> bool,
        touched: &mut BTreeSet<(MemberId, EndpointId)>,
    ) {
        let due = |b: &Booking| b.booked.saturating_sub(b.cap);
        let open = self.places.values().filter(|place| is_open(place));
        let returning: u32 = open.flat_map(|place| place.by.values()).map(due).sum();
        let (demands, shares) = self.shares(live, moment, is_open);
        let lacks = |d: &Demand<MemberId>| {
            let share = shares.get(&d.who).copied().unwrap_or(0);
            share.saturating_sub(d.has).min(d.unmet)
        };
        let mut needed = demands.iter().map(lacks).sum::<u32>().saturating_sub(returning);
        for demand in &demands {
            let share = shares.get(&demand.who).copied().unwrap_or(0);
            let excess = demand.has.saturating_sub(share).min(needed);
            for _ in 0..excess {
                let Some(endpoint) = self.to_recall(&demand.who) else { break };
                touched.insert((demand.who.clone(), endpoint.clone()));
                let booking =
                    self.places.get_mut(&endpoint).and_then(|p| p.by.get_mut(&demand.who));
                if let Some(booking) = booking {
                    booking.cap -= 1;
                    booking.sent = moment.seq;
                    needed -= 1;
                }
            }
        }
    }

    /// What each of those that are heard of has and wants, and its share of the slots there are.
    fn shares(
        &self,
        live: &BTreeSet<MemberId>,
        moment: Moment,
        is_open: &dyn Fn(&Place) -> bool,
    ) -> (Vec<Demand<MemberId>>, BTreeMap<MemberId, u32>) {
        let lost = |place: &Place| -> u32 {
            place.by.iter().filter(|(who, _)| !live.contains(*who)).map(|(_, b)| b.booked).sum()
        };
        let open = self.places.values().filter(|place| is_open(place));
        let slots = open.map(|place| self.limit.saturating_sub(lost(place))).sum();
        let demands: Vec<_> = live.iter().map(|who| self.demand(who)).collect();
        let shares = fair(slots, &demands, moment.turn);
        (demands, shares)
    }

    /// The endpoint from which a member would miss a slot least.
    fn to_recall(&self, who: &MemberId) -> Option<EndpointId> {
        let of = |place: &Place| place.by.get(who).map(|b| (b.cap.saturating_sub(b.used), b.cap));
        self.places
            .iter()
            .filter_map(|(id, place)| Some((of(place)?, id)))
            .filter(|((_, cap), _)| *cap > 0)
            .max_by_key(|(idle, _)| *idle)
            .map(|(_, id)| id.clone())
    }

    fn demand(&self, who: &MemberId) -> Demand<MemberId> {
        let unmet = self.unmet.get(who).map_or(0, |unmet| unmet.count);
        let used = self.places.values().filter_map(|p| p.by.get(who)).map(|b| b.used).sum();
        Demand { who: who.clone(), has: self.granted(who), used, unmet }
    }
}
