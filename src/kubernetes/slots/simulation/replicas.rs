//! Endpoints, and the requests in them.

use std::collections::BTreeMap;

use super::{Line, Revisions, Step, World};
use crate::model::{EndpointId, RevisionId};

impl World {
    pub(super) fn add_endpoint(&mut self, id: &RevisionId) {
        self.counter += 1;
        let endpoint = EndpointId::new(format!("e{}", self.counter));
        if let Some(all) = self.endpoints.get_mut(id) {
            all.insert(endpoint.clone());
        }
        self.tell_endpoint(id, &endpoint, true);
    }

    pub(super) fn tell_endpoint(&mut self, id: &RevisionId, endpoint: &EndpointId, is_there: bool) {
        // To a node that is lost comes what was under way, at most.
        for at in self.pods.values().flatten().copied().collect::<Vec<_>>() {
            if self.pod(at).is_none_or(|pod| self.lost.contains(&pod)) {
                continue;
            }
            // A watch that broke off brings it late.
            let is_late = !self.is_calm && self.rng.u8(..) < 32;
            let pause = self.rng.u64(1..if is_late { 20_000 } else { 400 });
            if is_there && self.rng.bool() {
                let before = self.rng.u64(1..=pause);
                self.after(before, Step::Heard { at, endpoint: endpoint.clone() });
            }
            let (revision, endpoint) = (id.clone(), endpoint.clone());
            self.after(pause, Step::Endpoint { at, revision, endpoint, is_there });
        }
    }

    /// Begins what waits and has a slot.
    pub(super) fn begin(&mut self, at: usize, revisions: &mut Revisions) {
        let mut begun = Vec::new();
        for (id, here) in &mut revisions.0 {
            while here.waiting > 0 {
                let Some(line) = here.free(&mut self.rng) else { break };
                line.used += 1;
                begun.push((id.clone(), line.endpoint.clone()));
                here.waiting -= 1;
            }
        }
        for (revision, endpoint) in begun {
            let pause = if self.rng.u8(..) < 4 {
                self.rng.u64(1_000..20_000)
            } else {
                self.rng.u64(1..200)
            };
            self.served += 1;
            self.after(pause, Step::Ends { at, revision, endpoint });
        }
    }

    pub(super) fn end(
        &mut self,
        at: usize,
        revisions: &mut Revisions,
        id: &RevisionId,
        endpoint: &EndpointId,
    ) {
        let Some(here) = revisions.0.get_mut(id) else { return };
        let Some(line) = here.lines.get_mut(endpoint) else { return };
        line.used -= 1;
        if line.used >= line.own || !line.takes {
            if !line.takes && line.used == 0 {
                here.lines.remove(endpoint);
            }
            self.poke(at);
        }
    }

    /// No replica has more requests than it may.
    pub(super) fn check(&self, seed: u64) {
        for (id, limit) in &self.limits {
            let mut used: BTreeMap<&EndpointId, u32> = BTreeMap::new();
            for process in self.processes.iter().flatten() {
                for line in process.revisions.0[id].lines.values() {
                    *used.entry(&line.endpoint).or_default() += line.used;
                }
            }
            for (endpoint, used) in used {
                assert!(
                    used <= *limit,
                    "seed {seed}, {} ms: {used} requests in {endpoint} of {id}, which takes {limit}",
                    self.now
                );
            }
        }
    }
}

/// A proxy hears of an endpoint.
pub(super) fn hear(
    revisions: &mut Revisions,
    id: &RevisionId,
    endpoint: EndpointId,
    is_there: bool,
) {
    let Some(here) = revisions.0.get_mut(id) else { return };
    if is_there {
        let line = Line { endpoint: endpoint.clone(), own: 0, used: 0, takes: true };
        here.lines.entry(endpoint).or_insert(line).takes = true;
    } else if let Some(line) = here.lines.get_mut(&endpoint) {
        line.takes = false;
        if line.used == 0 {
            here.lines.remove(&endpoint);
        }
    }
}
