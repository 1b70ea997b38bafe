//! Counts as writes to `/scale`.
//!
//! ```text
//! order ─▶ newest per revision ─▶ differs from what is observed? ─▶ victims marked ─▶ one write
//! ```
//!
//! From zero up a write leaves at once, past every queue, on a connection that is kept warm. Of
//! several orders only the newest is written, one at a time for each revision, each bounded in
//! time. Who does not lead writes only from zero, for requests that wait in this process, and only
//! if it still is zero: another one that decides a moment later than the leader would undo its zero.

mod call;
mod contest;
mod events;
#[cfg(test)]
mod tests;
mod victims;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use super::lease::Leadership;
use super::observed::{Hold, Observed};
use super::source::{Change, KubernetesSource, Tell};
use crate::model::{EndpointId, PodsSpec, RevisionId, RevisionSpec, Workload};
use crate::platform::{ScaleError, ScaleOrder, ScaleTarget};
use call::{Answer, Form, Write};
use contest::Contest;
use events::Notes;

/// A write takes no longer.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// One that has taken so long is given up when there is a newer one.
const SLOW: Duration = Duration::from_millis(500);
/// Pause after the first failure of a write; doubled with each further one.
const BACKOFF: Duration = Duration::from_millis(50);
/// Longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Writes at once, those from zero not counted.
const WRITES: usize = 16;
/// How often the connection is used, so that it is not closed: both ends drop it after 90 s.
const WARM_EVERY: Duration = Duration::from_secs(30);

/// Says why a revision has the count it has, for people.
pub type Why = Box<dyn Fn(&RevisionId) -> Option<String>>;

/// Writes counts.
#[derive(Clone)]
pub struct KubernetesTarget {
    shared: Rc<Shared>,
}

impl std::fmt::Debug for KubernetesTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubernetesTarget").finish_non_exhaustive()
    }
}

struct Shared {
    client: Client,
    observed: Arc<Observed>,
    leadership: Leadership,
    tell: Tell,
    notes: Notes,
    why: RefCell<Option<Why>>,
    slots: RefCell<HashMap<RevisionId, Slot>>,
    writes: Semaphore,
}

/// What is to be written for one revision.
struct Slot {
    spec: Arc<RevisionSpec>,
    order: ScaleOrder,
    /// Told of each newer order while one is being written.
    newer: Rc<Notify>,
    is_busy: bool,
    contest: Contest,
    /// Pods that were marked to go first.
    marked: BTreeSet<EndpointId>,
    failures: u32,
}

impl KubernetesTarget {
    /// A target that writes with a client of its own, so that its connection is free when it is
    /// needed. `source` is told what was written.
    pub fn new(
        client: Client,
        observed: Arc<Observed>,
        leadership: Leadership,
        source: &KubernetesSource,
    ) -> Self {
        Self::telling(client, observed, leadership, source.tell())
    }

    fn telling(
        client: Client,
        observed: Arc<Observed>,
        leadership: Leadership,
        tell: Tell,
    ) -> Self {
        let shared = Shared {
            notes: Notes::new(client.clone()),
            client,
            observed,
            leadership,
            tell,
            why: RefCell::default(),
            slots: RefCell::default(),
            writes: Semaphore::new(WRITES),
        };
        Self { shared: Rc::new(shared) }
    }

    /// Has events say why a count is what it is.
    pub fn explain(&self, why: Why) {
        *self.shared.why.borrow_mut() = Some(why);
    }

    /// Keeps the connection warm for good.
    pub async fn keep_warm(&self) {
        loop {
            let asked = self.shared.client.apiserver_version();
            if let Ok(Err(error)) = timeout(CALL_TIMEOUT, asked).await {
                tracing::debug!(%error, "the API server does not answer");
            }
            sleep(WARM_EVERY).await;
        }
    }
}

impl ScaleTarget for KubernetesTarget {
    async fn scale(
        &self,
        revision: &Arc<RevisionSpec>,
        order: ScaleOrder,
    ) -> Result<(), ScaleError> {
        if !matches!(revision.workload, Workload::Pods(_)) {
            return Ok(());
        }
        let shared = &self.shared;
        let id = &revision.id;
        let is_same = shared.observed.count(id).replicas == Some(order.replicas);
        let mut slots = shared.slots.borrow_mut();
        let slot = match slots.get_mut(id) {
            Some(slot) => {
                slot.spec = Arc::clone(revision);
                if slot.is_busy && slot.order.replicas != order.replicas {
                    slot.newer.notify_one();
                }
                slot.order = order;
                slot
            }
            None if is_same => return Ok(()),
            None => slots.entry(id.clone()).or_insert_with(|| Slot {
                spec: Arc::clone(revision),
                order,
                newer: Rc::default(),
                is_busy: false,
                contest: Contest::default(),
                marked: BTreeSet::new(),
                failures: 0,
            }),
        };
        if !is_same && !slot.is_busy {
            slot.is_busy = true;
            let (shared, id) = (Rc::clone(shared), id.clone());
            drop(tokio::task::spawn_local(async move { shared.work(&id).await }));
        }
        Ok(())
    }
}

/// What to do next for a revision.
enum Next {
    Nothing,
    Write(Box<Write>),
}

/// What came of a write.
enum After {
    /// Look whether there is more to do.
    Again,
    /// The same after a pause, or as soon as there is a newer order.
    Pause(Duration),
    /// Write it whoever has written it.
    Force,
    /// Somebody else has the count.
    Contested,
    /// The next order may try again.
    Rest,
}

impl Shared {
    /// Writes until what is observed is what is ordered, or cannot be for now.
    async fn work(self: Rc<Self>, id: &RevisionId) {
        let mut is_forced = false;
        loop {
            let Next::Write(write) = self.next(id, is_forced) else { return self.rest(id) };
            let answer = self.perform(id, &write).await;
            match self.take(id, &write, answer) {
                After::Again => is_forced = false,
                After::Pause(pause) => {
                    let newer = self.newer(id);
                    tokio::select! {
                        biased;
                        () = newer.notified() => {}
                        () = sleep(pause) => {}
                    }
                }
                After::Force => is_forced = true,
                // Requests wait: whoever wrote the zero, it is not left at that.
                After::Contested if write.is_wake() && !is_forced => is_forced = true,
                After::Contested | After::Rest => return self.rest(id),
            }
        }
    }

    fn newer(&self, id: &RevisionId) -> Rc<Notify> {
        let slots = self.slots.borrow();
        slots.get(id).map(|slot| Rc::clone(&slot.newer)).unwrap_or_default()
    }

    fn rest(&self, id: &RevisionId) {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(id) else { return };
        slot.is_busy = false;
        // What is at zero has nothing to remember but a quarrel.
        if slot.order.replicas == 0 && slot.contest.is_calm(Instant::now()) {
            slots.remove(id);
        }
    }

    fn next(&self, id: &RevisionId, is_forced: bool) -> Next {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(id) else { return Next::Nothing };
        let Workload::Pods(pods) = &slot.spec.workload else { return Next::Nothing };
        let count = self.observed.count(id);
        let wanted = slot.order.replicas;
        let is_unknown = count.replicas.is_none() && is_deployment(pods);
        // A Deployment that is not there yet is made with its initial scale.
        if count.replicas == Some(wanted) || is_unknown {
            return Next::Nothing;
        }
        let from = count.replicas.unwrap_or(0);
        let is_wake = from == 0 && wanted > 0;
        let is_leading = self.leadership.is_leading();
        let is_contested = slot.contest.is_contested(Instant::now());
        let may_write = is_leading || (is_wake && slot.order.is_waited_for);
        if !may_write || (is_contested && !is_wake) {
            return Next::Nothing;
        }
        match self.observed.hold(id) {
            Hold::Free => {}
            Hold::NotLower if wanted > from => {}
            Hold::NotLower | Hold::Off => return Next::Nothing,
        }
        // Who leads takes the count over with its first write.
        let form = match (is_leading, is_forced) {
            (_, true) => Form::Apply { is_forced: true },
            (true, false) => Form::Apply { is_forced: !count.is_ours },
            (false, false) => Form::IfZero,
        };
        Next::Write(Box::new(Write {
            namespace: Arc::clone(&id.namespace),
            scaled: pods.scaled.clone(),
            from,
            to: wanted,
            form,
        }))
    }

    /// Marks victims and writes, unless that takes too long and there is something newer.
    async fn perform(&self, id: &RevisionId, write: &Write) -> Answer {
        let newer = self.newer(id);
        let is_superseded = async {
            sleep(SLOW).await;
            loop {
                if self.ordered(id) != Some(write.to) {
                    return;
                }
                newer.notified().await;
            }
        };
        let writing = async {
            // From zero nothing waits for anything.
            let permit = if write.is_wake() { None } else { self.writes.acquire().await.ok() };
            if write.to > 0 && write.to < write.from {
                self.mark_victims(id, write.to).await;
            }
            let answer = write.send(&self.client).await;
            drop(permit);
            answer
        };
        tokio::select! {
            biased;
            written = timeout(CALL_TIMEOUT, writing) => {
                written.unwrap_or_else(|_elapsed| Answer::Failed(format!(
                    "the API server did not answer within {} s", CALL_TIMEOUT.as_secs()
                )))
            }
            () = is_superseded => Answer::Superseded,
        }
    }

    fn ordered(&self, id: &RevisionId) -> Option<u32> {
        self.slots.borrow().get(id).map(|slot| slot.order.replicas)
    }

    fn take(&self, id: &RevisionId, write: &Write, answer: Answer) -> After {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(id) else { return After::Rest };
        match answer {
            Answer::Written => {
                slot.failures = 0;
                self.observed.written(id, write.to);
                self.tell.tell(Change::Scaled(id.clone()));
                tracing::info!(revision = %id, from = write.from, to = write.to, "scaled");
                let why = self.why.borrow().as_ref().and_then(|why| why(id));
                self.notes.scaled(id, write, why.as_deref());
                After::Again
            }
            Answer::Conflict(managers) => {
                if slot.contest.conflict(Instant::now()) {
                    tracing::warn!(revision = %id, %managers, "somebody else writes the count too: \
                        for five minutes it is only raised from zero");
                    self.notes.contested(id, write, &managers);
                } else {
                    tracing::warn!(revision = %id, %managers, "somebody else wrote the count");
                }
                After::Contested
            }
            Answer::TakeOver => After::Force,
            // What is observed will say so.
            Answer::NotZero => After::Pause(BACKOFF),
            Answer::Gone => After::Rest,
            Answer::Superseded => After::Again,
            Answer::Busy(pause) => After::Pause(pause),
            Answer::Failed(why) => {
                slot.failures += 1;
                if slot.failures == 1 {
                    tracing::warn!(revision = %id, to = write.to, "the count cannot be written: {why}");
                }
                let pause = BACKOFF.saturating_mul(1 << (slot.failures - 1).min(16));
                After::Pause(pause.min(BACKOFF_MAX))
            }
        }
    }

    /// Has the pods go first that have least to do.
    async fn mark_victims(&self, id: &RevisionId, to: u32) {
        let (order, marked) = {
            let slots = self.slots.borrow();
            let Some(slot) = slots.get(id) else { return };
            (slot.order.clone(), slot.marked.clone())
        };
        let costs = victims::costs(&order.spare, to, &marked);
        let ids: Vec<EndpointId> = costs.iter().map(|(endpoint, _)| endpoint.clone()).collect();
        let names = self.observed.pods(id, &ids);
        let written = victims::write(&self.client, &id.namespace, &costs, &names).await;
        if let Some(slot) = self.slots.borrow_mut().get_mut(id) {
            for (endpoint, is_victim) in written {
                if is_victim {
                    slot.marked.insert(endpoint);
                } else {
                    slot.marked.remove(&endpoint);
                }
            }
        }
    }
}

fn is_deployment(pods: &PodsSpec) -> bool {
    *pods.scaled.kind == *"Deployment"
}
