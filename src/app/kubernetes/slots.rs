//! The revisions whose slots are shared with other proxies.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::live::Live;
use crate::kubernetes::slots::{Line, Local, Need};
use crate::model::{EndpointId, RevisionId};
use crate::revision::{Revision, SlotsView};

/// Live revisions, and those that are gone from the configuration but still have requests.
#[derive(Debug)]
pub(super) struct SharedRevisions {
    live: Arc<Live>,
    known: BTreeMap<RevisionId, Arc<Revision>>,
}

impl SharedRevisions {
    pub(super) fn new(live: &Arc<Live>) -> Self {
        Self { live: Arc::clone(live), known: BTreeMap::new() }
    }

    /// The one of this name, and what it has and uses.
    fn look(&mut self, id: &RevisionId) -> Option<SlotsView> {
        if let Some(revision) = self.live.revision(id) {
            let view = revision.slots_view()?;
            self.known.insert(id.clone(), revision);
            return Some(view);
        }
        let view = self.known.get(id)?.slots_view()?;
        if view.endpoints.iter().all(|endpoint| endpoint.used == 0) {
            self.known.remove(id);
            return None;
        }
        Some(view)
    }
}

impl Local for SharedRevisions {
    fn revisions(&mut self) -> Vec<RevisionId> {
        let live = self.live.revisions();
        let mut ids: Vec<_> = self.known.keys().cloned().collect();
        ids.extend(live.iter().filter(|revision| revision.shares_slots()).map(|r| r.id().clone()));
        ids
    }

    fn view(&mut self, id: &RevisionId) -> Option<Need> {
        let view = self.look(id)?;
        let line = |endpoint: crate::revision::SlotsOfEndpoint| Line {
            endpoint: endpoint.id,
            own: endpoint.own,
            used: endpoint.used,
            takes: endpoint.takes,
        };
        Some(Need {
            revision: id.clone(),
            limit: view.limit,
            waiting: view.waiting,
            endpoints: view.endpoints.into_iter().map(line).collect(),
        })
    }

    fn set(&mut self, id: &RevisionId, own: &[(EndpointId, u32)]) {
        if let Some(revision) = self.live.revision(id).or_else(|| self.known.get(id).cloned()) {
            revision.set_own_slots(own, revision.stats().clock().now());
        }
    }
}
