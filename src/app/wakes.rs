//! Revisions that are woken by somebody who is no client: by order, or because another one needs
//! them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Problem, Reason, RevisionId, RevisionSpec, World};
use crate::revision::{Admission, Revision};

/// How long a revision that another one needs is asked for; its own deadline ends most starts before.
const WITHIN: Duration = Duration::from_secs(600);
/// How long after one that failed the next one may be begun: there is a back-off besides.
const REST: Duration = Duration::from_secs(1);

/// Waits for a place as a request does, which starts a replica where there is none; whether there is
/// one in time.
///
/// # Errors
/// Why there is none.
pub(super) async fn first_place(
    revision: &Arc<Revision>,
    within: Duration,
) -> Result<bool, Problem> {
    if revision.stats().ready() > 0 {
        return Ok(true);
    }
    let mut ticket = match revision.admit(revision.stats().clock().now(), None) {
        Admission::Granted(_) => return Ok(true),
        // Others wake it already.
        Admission::Refused(problem) if problem.reason == Reason::QueueFull => return Ok(false),
        Admission::Refused(problem) => return Err(problem),
        Admission::Waiting(ticket) => ticket,
    };
    let place = poll_fn(|cx| ticket.poll_outcome(cx));
    match tokio::time::timeout(within, place).await {
        Ok(Ok(_permit)) => Ok(true),
        Ok(Err(problem)) => Err(problem),
        Err(_elapsed) => Ok(false),
    }
}

/// Those that are being woken because others need them, each once at a time.
#[derive(Debug, Default)]
pub(super) struct Wakes(Rc<RefCell<BTreeSet<RevisionId>>>);

impl Wakes {
    /// Has a replica of it started where there is none. On the caller's thread.
    pub(super) fn wake(&self, revision: Arc<Revision>) {
        let id = revision.id().clone();
        if revision.stats().ready() > 0 || !self.0.borrow_mut().insert(id.clone()) {
            return;
        }
        let going = Rc::clone(&self.0);
        tokio::task::spawn_local(async move {
            let woken = first_place(&revision, WITHIN).await;
            drop(revision);
            if let Err(problem) = woken {
                tracing::debug!(revision = %id, %problem.reason, "needed by another one, and not started");
                tokio::time::sleep(REST).await;
            }
            going.borrow_mut().remove(&id);
        });
    }
}

/// All revisions that one needs: those that the services it depends on lead to, and what these
/// depend on. Each once.
pub(super) fn needed(spec: &RevisionSpec, world: &World) -> BTreeSet<RevisionId> {
    let mut found = BTreeSet::new();
    let mut left = revisions_of(spec, world);
    while let Some(id) = left.pop() {
        if id == spec.id || found.contains(&id) {
            continue;
        }
        left.extend(world.revision(&id).into_iter().flat_map(|spec| revisions_of(spec, world)));
        found.insert(id);
    }
    found
}

fn revisions_of(spec: &RevisionSpec, world: &World) -> Vec<RevisionId> {
    let revisions = spec.depends_on.iter().flat_map(|needed| match &needed.revision {
        Some(one) => vec![one.clone()],
        None => {
            let service = world.service(&needed.service).into_iter();
            service.flat_map(|service| service.routed()).cloned().collect()
        }
    });
    revisions.collect()
}
