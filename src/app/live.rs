//! What the control loop lets others look at.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::canaries::Canaries;
use crate::model::{Problem, RevisionId, World};
use crate::platform::ReplicaCounts;
use crate::revision::Revision;
use crate::snapshot::Changes;

/// What the admin listener may look at.
#[derive(Debug, Default)]
pub struct Live {
    revisions: Mutex<BTreeMap<RevisionId, Arc<Revision>>>,
    /// Revisions that are gone from the configuration, as long as anybody has a use for them.
    leaving: Mutex<BTreeMap<RevisionId, Weak<Revision>>>,
    counts: DashMap<RevisionId, (u32, ReplicaCounts)>,
    counts_changed: Notify,
    failures: DashMap<RevisionId, Problem>,
    world: Mutex<Arc<World>>,
    pub(super) canaries: Canaries,
    /// Told after every update.
    updated: watch::Sender<()>,
}

impl Live {
    /// Changes after every update that took effect.
    pub fn updated(&self) -> watch::Receiver<()> {
        self.updated.subscribe()
    }

    pub(super) fn take_changes(&self, changes: &Changes) {
        let mut revisions = self.revisions.lock();
        let mut leaving = self.leaving.lock();
        leaving.retain(|_, revision| revision.strong_count() > 0);
        for gone in &changes.removed {
            revisions.remove(gone.id());
            leaving.insert(gone.id().clone(), Arc::downgrade(gone));
        }
        for new in &changes.added {
            revisions.insert(new.id().clone(), Arc::clone(new));
        }
    }

    /// Live revisions, by name.
    pub fn revisions(&self) -> Vec<Arc<Revision>> {
        self.revisions.lock().values().map(Arc::clone).collect()
    }

    /// One live revision.
    pub fn revision(&self, id: &RevisionId) -> Option<Arc<Revision>> {
        self.revisions.lock().get(id).map(Arc::clone)
    }

    /// A revision that is gone from the configuration, while it has replicas or requests.
    pub fn leaving(&self, id: &RevisionId) -> Option<Arc<Revision>> {
        self.leaving.lock().get(id).and_then(Weak::upgrade)
    }

    /// Desired count and replicas of a revision.
    pub fn counts(&self, id: &RevisionId) -> (u32, ReplicaCounts) {
        self.counts.get(id).map(|counts| *counts).unwrap_or_default()
    }

    pub(super) fn set_counts(&self, id: &RevisionId, desired: u32, counts: ReplicaCounts) {
        let former = self.counts.insert(id.clone(), (desired, counts));
        if former != Some((desired, counts)) {
            self.counts_changed.notify_one();
        }
    }

    /// Returns once counts have changed since the last call. For one waiter.
    pub async fn counts_changed(&self) {
        self.counts_changed.notified().await;
    }

    /// Why the last start of a revision's replica failed, until one is ready.
    pub fn failure(&self, id: &RevisionId) -> Option<Problem> {
        self.failures.get(id).map(|problem| problem.clone())
    }

    /// The configuration in effect.
    pub fn world(&self) -> Arc<World> {
        Arc::clone(&self.world.lock())
    }

    /// Another configuration is in effect; gives the one before.
    pub(super) fn set_world(&self, world: &Arc<World>) -> Arc<World> {
        std::mem::replace(&mut *self.world.lock(), Arc::clone(world))
    }

    /// Why the last start of a revision's replica failed; none once one is ready.
    pub(super) fn set_failure(&self, id: &RevisionId, problem: Option<Problem>) {
        match problem {
            Some(problem) => self.failures.insert(id.clone(), problem),
            None => self.failures.remove(id).map(|(_, problem)| problem),
        };
    }

    /// A revision that is gone for good.
    pub(super) fn forget(&self, id: &RevisionId) {
        self.counts.remove(id);
        self.failures.remove(id);
    }

    /// Everybody who looks is told.
    pub(super) fn tell(&self) {
        self.updated.send_replace(());
    }
}
