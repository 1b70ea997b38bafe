//! What other proxies have on the same endpoints: it counts where endpoints are chosen to go.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::EndpointId;

use super::Revision;
use super::state::{Phase, State};

impl State {
    /// Adds up what others have on each endpoint.
    pub(super) fn count_elsewhere(&mut self) {
        if self.elsewhere.is_empty() && self.entries.iter().all(|entry| entry.elsewhere == 0) {
            return;
        }
        let mut sums: BTreeMap<&EndpointId, u32> = BTreeMap::new();
        for (id, load) in self.elsewhere.values().flatten() {
            let sum = sums.entry(id).or_default();
            *sum = sum.saturating_add(*load);
        }
        for entry in &mut self.entries {
            entry.elsewhere = sums.get(entry.endpoint.id()).copied().unwrap_or(0);
        }
    }
}

impl Revision {
    /// Its endpoints that have requests of this proxy, and how many.
    pub fn loads(&self) -> Vec<(EndpointId, u32)> {
        let state = self.state.lock();
        let loads = state.entries.iter().map(|e| (e.endpoint.id().clone(), e.load()));
        loads.filter(|(_, load)| *load > 0).collect()
    }

    /// Requests of all proxies on endpoints that go, or are gone from the reports already.
    pub fn load_leaving(&self) -> u32 {
        let state = self.state.lock();
        let is_leaving = |phase| matches!(phase, Phase::Condemned { .. } | Phase::Draining { .. });
        let leaving = state.entries.iter().filter(|e| is_leaving(e.phase));
        let here = leaving.fold(0, |sum: u32, e| sum.saturating_add(e.load()));
        let stays = |id: &EndpointId| {
            state.entries.iter().any(|e| e.endpoint.id() == id && !is_leaving(e.phase))
        };
        let elsewhere = state.elsewhere.values().flatten().filter(|(id, _)| !stays(id));
        elsewhere.fold(here, |sum, (_, load)| sum.saturating_add(*load))
    }

    /// What another proxy has on its endpoints, until it says something else.
    pub fn set_loads_elsewhere(&self, proxy: &Arc<str>, loads: Vec<(EndpointId, u32)>) {
        let mut state = self.state.lock();
        if loads.is_empty() {
            state.elsewhere.remove(proxy);
        } else {
            state.elsewhere.insert(Arc::clone(proxy), loads);
        }
        state.count_elsewhere();
        let is_empty_victim = state
            .entries
            .iter()
            .any(|e| matches!(e.phase, Phase::Victim { .. }) && e.load_of_all() == 0);
        drop(state);
        if is_empty_victim {
            self.ask_replan();
        }
    }
}
