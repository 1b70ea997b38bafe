//! What happened, for the source to look at: each thing once, however often it was told.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::kubernetes::kinds::Kind;
use crate::model::{EndpointId, ObjectName, RevisionId, ServiceId};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::kubernetes) enum Change {
    /// An object of this kind is another one than before, or gone.
    Object(Kind, ObjectName),
    /// Something that an adopted Service comes to is another one than before.
    Adopted(ServiceId),
    /// A revision's count was written.
    Scaled(RevisionId),
    /// A replica answered before the cluster called it ready.
    Answered(RevisionId, EndpointId),
}

/// What was told and not looked at yet: at most one entry for each object there is.
#[derive(Debug, Default)]
pub(in crate::kubernetes) struct Changes {
    told: Mutex<(VecDeque<Change>, HashSet<Change>)>,
    more: Notify,
}

/// Where changes are told.
pub(in crate::kubernetes) type Tell = Arc<Changes>;

impl Changes {
    /// Tells of a change.
    pub(in crate::kubernetes) fn tell(&self, change: Change) {
        let mut told = self.told.lock();
        let (queue, known) = &mut *told;
        if known.insert(change.clone()) {
            queue.push_back(change);
            drop(told);
            self.more.notify_one();
        }
    }

    /// The first one, if there is any.
    pub(in crate::kubernetes) fn take(&self) -> Option<Change> {
        let mut told = self.told.lock();
        let (queue, known) = &mut *told;
        let change = queue.pop_front()?;
        known.remove(&change);
        Some(change)
    }

    /// The first one as soon as there is any. For one who waits; cancel safe.
    pub(super) async fn next(&self) -> Change {
        loop {
            if let Some(change) = self.take() {
                return change;
            }
            self.more.notified().await;
        }
    }
}
