//! Pokes: revisions the autoscaler is to look at before its next tick.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::model::RevisionId;

/// Revisions poked since the autoscaler last looked. Its length is bounded by the number of
/// revisions: each is in it at most once.
#[derive(Debug, Default)]
pub struct Pokes {
    revisions: Mutex<Vec<RevisionId>>,
    notify: Notify,
    refused: AtomicU64,
    also: OnceLock<Arc<Poked>>,
}

/// The same for somebody else who is to hear of them.
#[derive(Debug, Default)]
pub struct Poked {
    revisions: Mutex<BTreeSet<RevisionId>>,
    notify: Notify,
}

impl Poked {
    /// Waits until a revision was poked. Cancel safe.
    pub async fn poked(&self) {
        self.notify.notified().await;
    }

    /// Takes the poked revisions.
    pub fn take(&self) -> BTreeSet<RevisionId> {
        std::mem::take(&mut *self.revisions.lock())
    }
}

impl Pokes {
    /// Adds one. The caller sees to it that each is in it at most once.
    pub fn push(&self, revision: RevisionId) {
        if let Some(also) = self.also.get() {
            also.revisions.lock().insert(revision.clone());
            also.notify.notify_one();
        }
        self.revisions.lock().push(revision);
        self.notify.notify_one();
    }

    /// Waits until a revision was poked. Cancel safe.
    pub async fn poked(&self) {
        self.notify.notified().await;
    }

    /// Has somebody else hear of each poke, too.
    pub fn also(&self) -> Arc<Poked> {
        Arc::clone(self.also.get_or_init(Arc::default))
    }

    /// A request of one of the revisions was refused.
    pub(super) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Release);
    }

    /// Requests that all revisions together refused since the start: whoever follows their counters
    /// sees by one look that none has changed.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Acquire)
    }

    /// Takes the poked revisions, in the order of their pokes.
    pub fn take(&self) -> Vec<RevisionId> {
        std::mem::take(&mut *self.revisions.lock())
    }
}
