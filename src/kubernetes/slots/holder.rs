//! The part of every proxy: what is its own of each endpoint, and what it says of that.

use std::collections::{BTreeMap, BTreeSet};

use super::Local;
use super::message::{Cap, Line, Need};
use crate::model::{EndpointId, RevisionId};

/// What this proxy may use. It is kept whoever divides: only a grant, or itself, changes it.
#[derive(Debug, Default)]
pub(super) struct Holder {
    own: BTreeMap<RevisionId, BTreeMap<EndpointId, u32>>,
}

impl Holder {
    /// Takes a grant; revisions that it is about.
    pub(super) fn grant(&mut self, caps: &[Cap]) -> BTreeSet<RevisionId> {
        for cap in caps {
            let own = self.own.entry(cap.revision.clone()).or_default();
            own.insert(cap.endpoint.clone(), cap.slots);
        }
        caps.iter().map(|cap| cap.revision.clone()).collect()
    }

    /// Everything that it holds, or could.
    pub(super) fn all(&mut self, local: &mut dyn Local) -> Vec<Need> {
        let mut ids: BTreeSet<RevisionId> = self.own.keys().cloned().collect();
        ids.extend(local.revisions());
        ids.iter().map(|id| self.look(id, local)).collect()
    }

    /// Looks at a revision, and gives back what is of no use: of endpoints that are gone or take
    /// nothing. What it says is true from now on until the next grant.
    pub(super) fn look(&mut self, id: &RevisionId, local: &mut dyn Local) -> Need {
        let nothing = || Need { revision: id.clone(), limit: 0, waiting: 0, endpoints: Vec::new() };
        let Some(seen) = local.view(id) else {
            self.own.remove(id);
            return nothing();
        };
        let former = self.own.remove(id).unwrap_or_default();
        let own: BTreeMap<EndpointId, u32> = seen
            .endpoints
            .iter()
            .map(|line| {
                let own = former.get(&line.endpoint).copied().unwrap_or(0);
                // One that is set aside for a moment is taken up again with what was in use.
                let own = if line.takes { own } else { own.min(line.used) };
                (line.endpoint.clone(), own)
            })
            .collect();
        let is_other = |line: &Line| own.get(&line.endpoint) != Some(&line.own);
        if seen.endpoints.iter().any(is_other) {
            let caps: Vec<_> = own.iter().map(|(id, own)| (id.clone(), *own)).collect();
            local.set(id, &caps);
        }
        // Looked at once more: what began before that was set is in use.
        let Some(mut need) = local.view(id) else { return nothing() };
        for line in &mut need.endpoints {
            line.own = own.get(&line.endpoint).copied().unwrap_or(0);
        }
        need.endpoints.retain(|line| line.takes || line.held() > 0);
        // Of one that went meanwhile nothing is its own: it may come back.
        let kept = need.endpoints.iter().filter(|line| line.own > 0);
        let kept: BTreeMap<_, _> = kept.map(|line| (line.endpoint.clone(), line.own)).collect();
        if !kept.is_empty() {
            self.own.insert(id.clone(), kept);
        }
        need
    }
}
