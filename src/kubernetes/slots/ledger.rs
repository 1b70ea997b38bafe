//! The keeper's book: which slots of an endpoint are whose, at most.
//!
//! A booking is the most that a proxy may have in use, whatever was lost on the way: it grows when
//! a grant is sent, and falls only by a report that was made after the last grant was taken, or
//! when the proxy's process is known to be gone. What is not booked may be granted.

mod plan;

use std::collections::{BTreeMap, BTreeSet};

use super::super::peers::PeerId;
use super::message::Need;
use crate::model::{EndpointId, RevisionId};

/// What one proxy may have in use of one endpoint.
#[derive(Clone, Debug, Default)]
struct Booking {
    booked: u32,
    /// As granted last, or as it says.
    cap: u32,
    /// The number of the last grant that changed it.
    sent: u64,
    used: u32,
    takes: bool,
}

#[derive(Debug, Default)]
struct Place {
    by: BTreeMap<PeerId, Booking>,
    /// Whether its slots are the keeper's to give. Once they are, they stay so.
    is_open: bool,
    /// How many writes of the Lease were begun when it was first heard of.
    known: u64,
}

#[derive(Debug, Default)]
struct Shared {
    limit: u32,
    waiting: BTreeMap<PeerId, u32>,
    places: BTreeMap<EndpointId, Place>,
}

impl Place {
    /// What may be granted.
    fn free(&self, limit: u32) -> u32 {
        limit.saturating_sub(self.by.values().map(|booking| booking.booked).sum())
    }
}

/// The book.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    revisions: BTreeMap<RevisionId, Shared>,
    changed: BTreeSet<RevisionId>,
    /// Revisions where requests wait.
    crowded: BTreeSet<RevisionId>,
    /// Places that are not open.
    closed: BTreeSet<(RevisionId, EndpointId)>,
}

impl Ledger {
    /// Takes in what a proxy says of a revision. `seen`: the last grant it has taken; `known`: how
    /// many writes of the Lease were begun when an endpoint was first heard of. Returned is the
    /// greatest of these, if it has endpoints that were not in the book.
    pub(super) fn report(
        &mut self,
        who: &PeerId,
        need: &Need,
        seen: u64,
        mut known: impl FnMut(&EndpointId) -> u64,
    ) -> Option<u64> {
        let mut newest = None;
        let shared = self.revisions.entry(need.revision.clone()).or_default();
        if need.limit > 0 {
            shared.limit = need.limit;
        }
        if need.waiting > 0 {
            shared.waiting.insert(who.clone(), need.waiting);
        } else {
            shared.waiting.remove(who);
        }
        for line in &need.endpoints {
            let place = shared.places.entry(line.endpoint.clone()).or_insert_with(|| {
                let known = known(&line.endpoint);
                newest = newest.max(Some(known));
                self.closed.insert((need.revision.clone(), line.endpoint.clone()));
                Place { known, ..Place::default() }
            });
            place.by.entry(who.clone()).or_default();
        }
        for (endpoint, place) in &mut shared.places {
            let Some(booking) = place.by.get_mut(who) else { continue };
            let line = need.endpoints.iter().find(|line| line.endpoint == *endpoint);
            let (held, own) = line.map_or((0, 0), |line| (line.held(), line.own));
            booking.used = line.map_or(0, |line| line.used);
            booking.takes = line.is_some_and(|line| line.takes);
            if booking.sent > seen {
                // A grant is on its way: what this says was before it.
                booking.booked = booking.booked.max(held);
            } else {
                (booking.booked, booking.cap) = (held, own);
            }
        }
        self.settle(&need.revision);
        newest
    }

    /// What a proxy has not named when it told everything, it does not hold.
    pub(super) fn holds_only(&mut self, who: &PeerId, named: &BTreeSet<RevisionId>) {
        let others: Vec<_> =
            self.revisions.keys().filter(|id| !named.contains(*id)).cloned().collect();
        for revision in others {
            let need = Need { revision, limit: 0, waiting: 0, endpoints: Vec::new() };
            self.report(who, &need, u64::MAX, |_| 0);
        }
    }

    /// Endpoints whose slots are nobody's to give yet.
    pub(super) fn closed(&self) -> impl Iterator<Item = &EndpointId> {
        self.closed.iter().map(|(_, endpoint)| endpoint)
    }

    /// Opens places that were heard of before this write of the Lease was begun, if they are fit.
    pub(super) fn open(&mut self, write: u64, is_fit: impl Fn(&EndpointId) -> bool) {
        let (revisions, changed) = (&mut self.revisions, &mut self.changed);
        self.closed.retain(|(id, endpoint)| {
            let place = revisions.get_mut(id).and_then(|shared| shared.places.get_mut(endpoint));
            // One that is not in the book any more begins anew if it comes back.
            let Some(place) = place.filter(|place| !place.is_open) else { return false };
            place.is_open = place.known < write && is_fit(endpoint);
            if place.is_open {
                changed.insert(id.clone());
            }
            !place.is_open
        });
    }

    /// A new connection: what was sent on the former one has come by now, or never will.
    pub(super) fn begins_anew(&mut self, who: &PeerId) {
        for place in self.revisions.values_mut().flat_map(|shared| shared.places.values_mut()) {
            if let Some(booking) = place.by.get_mut(who) {
                booking.sent = 0;
            }
        }
    }

    /// Its process is gone, and whatever it held is free.
    pub(super) fn forget(&mut self, who: &PeerId) {
        let ids: Vec<_> = self.revisions.keys().cloned().collect();
        for id in ids {
            let Some(shared) = self.revisions.get_mut(&id) else { continue };
            shared.waiting.remove(who);
            for place in shared.places.values_mut() {
                place.by.remove(who);
            }
            self.settle(&id);
        }
    }

    /// Drops what nobody needs, and has the rest looked at.
    fn settle(&mut self, id: &RevisionId) {
        let Some(shared) = self.revisions.get_mut(id) else { return };
        for place in shared.places.values_mut() {
            place.by.retain(|_, booking| booking.takes || booking.booked > 0);
        }
        shared.places.retain(|_, place| !place.by.is_empty());
        if shared.waiting.is_empty() {
            self.crowded.remove(id);
        } else {
            self.crowded.insert(id.clone());
        }
        if shared.places.is_empty() && shared.waiting.is_empty() {
            self.revisions.remove(id);
            self.changed.remove(id);
        } else {
            self.changed.insert(id.clone());
        }
    }

    /// Whether requests wait anywhere.
    pub(super) fn is_crowded(&self) -> bool {
        !self.crowded.is_empty()
    }

    /// Has those looked at again where requests wait: whose turn it is has changed.
    pub(super) fn next_turn(&mut self) {
        self.changed.extend(self.crowded.iter().cloned());
    }

    /// Has everything looked at again: who is there has changed.
    pub(super) fn look_again(&mut self) {
        self.changed.extend(self.revisions.keys().cloned());
    }
}
