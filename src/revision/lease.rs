//! Slots that are shared with other proxies: the revision uses only those that were said to be its
//! own, and only as long as the lease lasts.
//!
//! Who says so is not its business. A revision without a limit, and one whose proxy is the only
//! one, never looks at any of this but for one field of the state that it has locked anyway.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::model::EndpointId;
use crate::stats::{Nanos, Pokes};

use super::Revision;
use super::meter::Limit;
use super::state::{Phase, all_aside};

/// No other proxy: nothing is leased.
const NOT_SHARED: u64 = u64::MAX;

/// The lease of all slots of a process, and who is to hear of a need.
#[derive(Debug)]
pub struct SlotLeases {
    /// In nanoseconds of the clock of the stats.
    until: AtomicU64,
    /// Revisions that wait for slots, got some back that are not their own, or have other endpoints.
    pokes: Pokes,
}

impl Default for SlotLeases {
    /// Shared, and nothing is leased yet.
    fn default() -> Self {
        Self { until: AtomicU64::new(0), pokes: Pokes::default() }
    }
}

impl SlotLeases {
    /// Whether slots are leased at all. Revisions that begin when they are have none.
    pub fn is_shared(&self) -> bool {
        self.until.load(Ordering::Acquire) != NOT_SHARED
    }

    /// Slots may be used until then; none = there is nobody to share with. The revisions that there
    /// are have to be told apart ([`Revision::share_slots`]).
    pub fn set(&self, until: Option<Nanos>) {
        let until = until.map_or(NOT_SHARED, |until| until.0.min(NOT_SHARED - 1));
        self.until.store(until, Ordering::Release);
    }

    /// Revisions that want to be looked at; each is to be told by [`Revision::leased_view`].
    pub fn pokes(&self) -> &Pokes {
        &self.pokes
    }

    fn has_ended(&self, now: Nanos) -> bool {
        self.until.load(Ordering::Acquire) <= now.0
    }
}

/// A revision as whoever leases slots to it sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeasedView {
    /// `containerConcurrency`.
    pub limit: u32,
    /// `timeoutSeconds`.
    pub timeout: Duration,
    /// Requests that wait.
    pub waiting: u32,
    /// Its endpoints, those on their way out that still have requests included.
    pub endpoints: Vec<LeasedEndpoint>,
}

/// One endpoint of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeasedEndpoint {
    /// Which replica.
    pub id: EndpointId,
    /// Slots in use.
    pub used: u32,
    /// The most in use since the last look.
    pub peak: u32,
    /// Whether a request could be sent there.
    pub takes: bool,
}

impl Revision {
    pub(super) fn lease_has_ended(&self, now: Nanos) -> bool {
        self.leases.as_ref().is_some_and(|leases| leases.has_ended(now))
    }

    /// Tells whoever leases slots that there is something to see; many times before it looks are
    /// one.
    pub(super) fn tell_lessor(&self) {
        if let Some(leases) = &self.leases
            && !self.lease_told.swap(true, Ordering::AcqRel)
        {
            leases.pokes.push(self.id().clone());
        }
    }

    /// From now on (`true`) it has only the slots it is given, and keeps those it has: all. Or
    /// (`false`) all slots are its own again. Nothing happens to a revision without a limit.
    pub fn share_slots(&self, shared: bool, now: Nanos) {
        let Some(limit) = self.limit() else { return };
        let mut state = self.state.lock();
        if self.leases.is_none() || state.leased == shared {
            return;
        }
        state.leased = shared;
        for entry in &mut state.entries {
            entry.limit = Limit::Fixed(limit);
            entry.wanted = false;
        }
        self.dispatch(state, now);
    }

    /// From now on so many slots of these endpoints are its own: fewer than are in use cuts
    /// nothing, but nothing new begins until there are fewer. Waiting requests get what is new.
    /// Where they are `wanted` by others, it tells whenever one may be idle.
    pub fn set_slots<'a>(
        &self,
        slots: impl Iterator<Item = (&'a EndpointId, u32, bool)> + Clone,
        now: Nanos,
    ) {
        let Some(limit) = self.limit() else { return };
        let mut state = self.state.lock();
        if !state.leased {
            return;
        }
        for entry in &mut state.entries {
            let own = slots.clone().find(|(id, ..)| *id == entry.endpoint.id());
            if let Some((_, own, wanted)) = own {
                entry.limit = Limit::Fixed(limit.min(own));
                entry.wanted = wanted;
            }
        }
        self.dispatch(state, now);
    }

    /// What it has, uses and lacks. None without a limit.
    pub fn leased_view(&self) -> Option<LeasedView> {
        let limit = self.limit()?;
        // First: what happens from now on is told again.
        self.lease_told.store(false, Ordering::Release);
        let timeout = self.spec().timeouts.request;
        let mut state = self.state.lock();
        let waiting = state.waiters.len();
        let aside = all_aside(&state.entries);
        let mut endpoints: Vec<LeasedEndpoint> = Vec::with_capacity(state.entries.len());
        for entry in &mut state.entries {
            let stays = matches!(entry.phase, Phase::Ready | Phase::Victim { .. });
            let takes = stays && (entry.ejected.is_none() || aside);
            let peak = std::mem::replace(&mut entry.peak, entry.held);
            let id = entry.endpoint.id();
            // One replica may have had another address before.
            if let Some(same) = endpoints.iter_mut().find(|same| same.id == *id) {
                same.used += entry.held;
                same.peak += peak;
                same.takes |= takes;
            } else {
                endpoints.push(LeasedEndpoint { id: id.clone(), used: entry.held, peak, takes });
            }
        }
        Some(LeasedView { limit, timeout, waiting, endpoints })
    }
}
