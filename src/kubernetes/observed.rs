//! What is known of each revision's count: told by the source as the cluster says it, and by the
//! scaler as soon as a write was answered.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::model::{EndpointId, RevisionId};

/// New pods that wait to be taken, at most: where nobody takes them nobody needs them.
const NEW_PODS: usize = 1024;

/// One revision's count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Replicas asked for; none while nothing is known.
    pub replicas: Option<u32>,
    /// The object that is scaled, by UID.
    pub uid: Arc<str>,
    /// Whether the scaler wrote its count once, in this life or another.
    pub is_ours: bool,
}

/// Who may write a count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hold {
    /// The scaler.
    #[default]
    Free,
    /// The scaler, but it does not lower it yet.
    NotLower,
    /// Somebody else.
    Off,
}

/// A revision as far as the scaler and the source tell each other.
#[derive(Debug, Default)]
struct Known {
    count: Count,
    hold: Hold,
    /// When it was last scaled from zero.
    woken: Option<Instant>,
    /// Names of its pods.
    pods: HashMap<EndpointId, Arc<str>>,
}

/// All revisions.
#[derive(Debug, Default)]
pub struct Observed {
    revisions: Mutex<HashMap<RevisionId, Known>>,
    /// Pods that are new, of revisions whose slots are shared.
    new_pods: Mutex<Vec<EndpointId>>,
    more_pods: Notify,
}

impl Observed {
    /// A revision's count.
    pub fn count(&self, id: &RevisionId) -> Count {
        let revisions = self.revisions.lock();
        revisions.get(id).map(|known| known.count.clone()).unwrap_or_default()
    }

    /// The cluster says so. What was taken over once stays so, for somebody else who writes the
    /// count takes every trace of it away.
    pub(super) fn reported(&self, id: &RevisionId, count: Count) {
        let mut revisions = self.revisions.lock();
        let known = revisions.entry(id.clone()).or_default();
        let is_ours = known.count.is_ours && known.count.uid == count.uid;
        known.count = Count { is_ours: is_ours || count.is_ours, ..count };
    }

    /// A write was answered so.
    pub(super) fn written(&self, id: &RevisionId, replicas: u32) {
        let mut revisions = self.revisions.lock();
        let known = revisions.entry(id.clone()).or_default();
        if known.count.replicas.unwrap_or(0) == 0 && replicas > 0 {
            known.woken = Some(Instant::now());
        }
        known.count.replicas = Some(replicas);
        known.count.is_ours = true;
    }

    /// When it was last scaled from zero, told once.
    pub(super) fn take_woken(&self, id: &RevisionId) -> Option<Instant> {
        self.revisions.lock().get_mut(id)?.woken.take()
    }

    /// Names of its pods. `shares`: its slots are shared.
    pub(super) fn set_pods(
        &self,
        id: &RevisionId,
        pods: HashMap<EndpointId, Arc<str>>,
        shares: bool,
    ) {
        let mut revisions = self.revisions.lock();
        let known = &mut revisions.entry(id.clone()).or_default().pods;
        let is_new = |pod: &&EndpointId| shares && !known.contains_key(*pod);
        let new: Vec<EndpointId> = pods.keys().filter(is_new).cloned().collect();
        *known = pods;
        drop(revisions);
        if !new.is_empty() {
            let mut all = self.new_pods.lock();
            if all.len() + new.len() > NEW_PODS {
                all.clear();
            }
            all.extend(new);
            self.more_pods.notify_one();
        }
    }

    /// Pods that are new since this was asked last, of revisions whose slots are shared, as soon as
    /// there are any. For one who asks; cancel safe.
    pub async fn new_pods(&self) -> Vec<EndpointId> {
        loop {
            let new = std::mem::take(&mut *self.new_pods.lock());
            if !new.is_empty() {
                return new;
            }
            self.more_pods.notified().await;
        }
    }

    /// The names of these pods, as far as they are known.
    pub(super) fn pods(&self, id: &RevisionId, of: &[EndpointId]) -> Vec<(EndpointId, Arc<str>)> {
        let revisions = self.revisions.lock();
        let Some(known) = revisions.get(id) else { return Vec::new() };
        of.iter().filter_map(|id| Some((id.clone(), Arc::clone(known.pods.get(id)?)))).collect()
    }

    /// Who may write its count.
    pub fn hold(&self, id: &RevisionId) -> Hold {
        self.revisions.lock().get(id).map(|known| known.hold).unwrap_or_default()
    }

    /// Says who may write its count.
    pub(super) fn set_hold(&self, id: &RevisionId, hold: Hold) {
        self.revisions.lock().entry(id.clone()).or_default().hold = hold;
    }

    /// It is gone.
    pub(super) fn forget(&self, id: &RevisionId) {
        self.revisions.lock().remove(id);
    }
}
