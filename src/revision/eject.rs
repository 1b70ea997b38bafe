//! Endpoints that refuse connections are set aside for a while, and probed before they come back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::stats::Nanos;

use super::Revision;
use super::state::Phase;

/// Connect failures in a row after which an endpoint is set aside.
const FAILURES_TO_EJECT: u32 = 3;
const EJECTION_MIN: Duration = Duration::from_secs(1);
const EJECTION_MAX: Duration = Duration::from_secs(30);

/// An ejected endpoint whose time is over: to be probed.
#[derive(Clone, Debug)]
pub struct DueProbe {
    /// Which endpoint.
    pub key: u64,
    /// Where to connect to.
    pub address: std::net::SocketAddr,
}

impl Revision {
    /// A connection to an endpoint failed. After three in a row it is set aside, unless it is the
    /// last one.
    pub fn connect_failed(&self, key: u64, now: Nanos) {
        let mut state = self.state.lock();
        let usable =
            state.entries.iter().filter(|e| e.phase == Phase::Ready && e.ejected.is_none()).count();
        let Some(entry) = state.entries.iter_mut().find(|e| e.endpoint.key() == key) else {
            return;
        };
        let failures = entry.endpoint.add_failure();
        if failures >= FAILURES_TO_EJECT && entry.ejected.is_none() && usable > 1 {
            entry.ejected = Some((now.plus(EJECTION_MIN), EJECTION_MIN));
            tracing::warn!(revision = %self.id(), endpoint = %entry.endpoint.address(),
                failures, "endpoint set aside: it refuses connections");
            self.publish(&state.entries);
        }
    }

    /// Whether an endpoint is set aside: a cheap look before [`Self::due_probes`].
    pub fn has_ejected(&self) -> bool {
        self.ejections.load(Ordering::Relaxed) > 0
    }

    /// Ejected endpoints whose time is over; each is given once until its probe's result.
    pub fn due_probes(&self, now: Nanos) -> Vec<DueProbe> {
        let mut state = self.state.lock();
        let mut due = Vec::new();
        #[cfg(planted)]
        if super::planted::is(super::planted::Bug::AsideForEver) {
            return due;
        }
        for entry in &mut state.entries {
            if let Some((until, _)) = entry.ejected
                && until <= now
                && !entry.probing
            {
                entry.probing = true;
                due.push(DueProbe { key: entry.endpoint.key(), address: entry.endpoint.address() });
            }
        }
        due
    }

    /// The result of a probe: back in, or set aside for twice as long.
    pub fn probed(&self, key: u64, ok: bool, now: Nanos) {
        let mut state = self.state.lock();
        let Some(entry) = state.entries.iter_mut().find(|e| e.endpoint.key() == key) else {
            return;
        };
        entry.probing = false;
        let Some((_, lasted)) = entry.ejected else { return };
        if ok {
            entry.ejected = None;
            entry.endpoint.connected();
            tracing::info!(revision = %self.id(), endpoint = %entry.endpoint.address(),
                "endpoint is back: it accepts connections");
            self.publish(&state.entries);
            self.dispatch(state, now);
        } else {
            let next = (lasted * 2).min(EJECTION_MAX);
            entry.ejected = Some((now.plus(next), next));
        }
    }
}
