//! Slots that are shared with other proxies: of each endpoint the revision uses only as many as were
//! said to be its own.
//!
//! Who says so is not its business. A revision without a limit, and one whose proxy is the only one,
//! has nothing to do with any of this.

use std::sync::atomic::Ordering;

use crate::model::EndpointId;
use crate::stats::Nanos;

use super::Revision;
use super::meter::Limit;
use super::state::{Entry, Phase, all_aside};

/// A revision as whoever divides its slots sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotsView {
    /// `containerConcurrency`.
    pub limit: u32,
    /// Requests that wait.
    pub waiting: u32,
    /// Its endpoints, those on their way out that still have requests included.
    pub endpoints: Vec<SlotsOfEndpoint>,
}

/// One endpoint of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotsOfEndpoint {
    /// Which replica.
    pub id: EndpointId,
    /// Slots of its own.
    pub own: u32,
    /// Slots in use; more than its own if it had more when these requests began.
    pub used: u32,
    /// Whether a request could be sent there.
    pub takes: bool,
}

impl Revision {
    /// Has whoever divides the slots look; many times before it looks are one.
    pub(super) fn tell_of_slots(&self) {
        if let Some(pokes) = &self.shares
            && !self.shares_told.swap(true, Ordering::AcqRel)
        {
            pokes.push(self.id().clone());
        }
    }

    /// Whether its slots are shared: whether it has a limit, and there may be other proxies.
    pub fn shares_slots(&self) -> bool {
        self.shares.is_some()
    }

    /// Whether a slot that was given back now is not its own any more, or of no use to it.
    pub(super) fn is_left_over(&self, entry: &Entry) -> bool {
        match entry.limit {
            Limit::Fixed(own) if self.shares.is_some() => {
                entry.held >= own || !matches!(entry.phase, Phase::Ready)
            }
            Limit::Fixed(_) | Limit::Metered(_) | Limit::Open => false,
        }
    }

    /// From now on so many slots of these endpoints are its own, never more than the limit: fewer
    /// than are in use cuts nothing, but nothing new begins until there are fewer. Waiting requests
    /// get what is new. Nothing happens to a revision that shares nothing.
    pub fn set_own_slots(&self, own: &[(EndpointId, u32)], now: Nanos) {
        let (Some(limit), Some(_)) = (self.limit(), &self.shares) else { return };
        let mut state = self.state.lock();
        for entry in &mut state.entries {
            if let Some((_, own)) = own.iter().find(|(id, _)| id == entry.endpoint.id()) {
                entry.limit = Limit::Fixed(limit.min(*own));
            }
        }
        self.dispatch(state, now);
    }

    /// What it has, uses and lacks. None if it shares nothing.
    pub fn slots_view(&self) -> Option<SlotsView> {
        let (Some(limit), Some(_)) = (self.limit(), &self.shares) else { return None };
        // First: what happens from now on is told again.
        self.shares_told.store(false, Ordering::Release);
        let state = self.state.lock();
        let aside = all_aside(&state.entries);
        let mut endpoints: Vec<SlotsOfEndpoint> = Vec::with_capacity(state.entries.len());
        for entry in &state.entries {
            let stays = matches!(entry.phase, Phase::Ready | Phase::Victim { .. });
            let takes = stays && (entry.ejected.is_none() || aside);
            let own = match entry.limit {
                Limit::Fixed(own) => own,
                Limit::Metered(_) | Limit::Open => limit,
            };
            let (id, used) = (entry.endpoint.id(), entry.held);
            // One replica may have had another address before.
            if let Some(same) = endpoints.iter_mut().find(|same| same.id == *id) {
                same.used += used;
                same.own = same.own.max(own);
                same.takes |= takes;
            } else {
                endpoints.push(SlotsOfEndpoint { id: id.clone(), own, used, takes });
            }
        }
        Some(SlotsView { limit, waiting: state.waiters.len(), endpoints })
    }
}
