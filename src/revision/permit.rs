//! What a request holds while a replica works for it, and while it waits for one.

use std::future::Future as _;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::model::{Problem, Reason};

use super::queue::Outcome;
use super::{EndpointState, Revision};

/// What asking for a permit gives.
#[derive(Debug)]
pub enum Admission {
    /// A slot was free.
    Granted(Permit),
    /// A place in the queue.
    Waiting(Ticket),
    /// An answer at once.
    Refused(Problem),
}

/// A slot on an endpoint, as it goes from the queue to a request.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) endpoint: Arc<EndpointState>,
}

/// A slot held by one request. The slot is free again as soon as this is dropped.
#[must_use = "the slot is free again as soon as this is dropped"]
#[derive(Debug)]
pub struct Permit {
    revision: Arc<Revision>,
    endpoint: Arc<EndpointState>,
    answered: bool,
}

impl Permit {
    pub(super) fn new(revision: Arc<Revision>, grant: Grant) -> Self {
        Self { revision, endpoint: grant.endpoint, answered: false }
    }

    /// The endpoint whose slot this is.
    pub fn endpoint(&self) -> &Arc<EndpointState> {
        &self.endpoint
    }

    /// The replica answered this request: counts for a cold endpoint's meter.
    pub fn answered(&mut self) {
        self.answered = true;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.revision.release(&self.endpoint, self.answered);
    }
}

/// A place in the queue. Dropping it gives the place, or a slot granted meanwhile, back at once.
#[derive(Debug)]
pub struct Ticket {
    revision: Arc<Revision>,
    number: u64,
    /// None once the outcome was taken.
    outcome: Option<oneshot::Receiver<Outcome>>,
}

impl Ticket {
    pub(super) fn new(
        revision: Arc<Revision>,
        number: u64,
        outcome: oneshot::Receiver<Outcome>,
    ) -> Self {
        Self { revision, number, outcome: Some(outcome) }
    }

    /// Polls for the outcome. Must not be called again after it was ready.
    pub fn poll_outcome(&mut self, cx: &mut Context<'_>) -> Poll<Result<Permit, Problem>> {
        let Some(receiver) = &mut self.outcome else {
            return Poll::Pending;
        };
        let outcome = std::task::ready!(std::pin::Pin::new(receiver).poll(cx));
        self.outcome = None;
        Poll::Ready(match outcome {
            Ok(Ok(grant)) => Ok(Permit::new(Arc::clone(&self.revision), grant)),
            Ok(Err(problem)) => Err(problem),
            // The revision ended without a word: it was removed.
            Err(_) => Err(Problem::new(Reason::ServiceRemoved, "the revision was removed")),
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Some(mut receiver) = self.outcome.take() else { return };
        receiver.close();
        if self.revision.give_up(self.number) {
            return;
        }
        #[cfg(planted)]
        if super::planted::is(super::planted::Bug::KeptSlot) {
            return;
        }
        // Served between the last poll and now: the slot goes to the next in line.
        if let Ok(Ok(grant)) = receiver.try_recv() {
            drop(Permit::new(Arc::clone(&self.revision), grant));
        }
    }
}
