//! The queue of requests that wait for a permit: first come, first served, bounded.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::oneshot;

use crate::model::Problem;

use super::permit::Grant;

/// What a waiter is told.
pub(super) type Outcome = Result<Grant, Problem>;

/// Bounds of waiting requests.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    /// Per revision.
    pub revision: u32,
    /// For the whole process.
    pub process: u32,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { revision: 10_000, process: 20_000 }
    }
}

/// How many requests wait in the whole process.
#[derive(Debug, Default)]
pub struct ProcessQueue {
    limits: QueueLimits,
    waiting: AtomicU32,
}

impl ProcessQueue {
    /// A count with these bounds.
    pub fn new(limits: QueueLimits) -> Self {
        Self { limits, waiting: AtomicU32::new(0) }
    }

    /// Requests that wait.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The bounds.
    pub fn limits(&self) -> QueueLimits {
        self.limits
    }

    fn enter(&self) -> bool {
        self.waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                (n < self.limits.process).then_some(n + 1)
            })
            .is_ok()
    }

    fn leave(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Which bound was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Revision(u32),
    Process(u32),
}

/// The waiters of one revision.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    /// Ascending numbers, so that one that leaves is found by binary search.
    line: VecDeque<(u64, oneshot::Sender<Outcome>)>,
    next: u64,
}

impl Waiters {
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.line.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// Takes a place at the end.
    pub(super) fn join(
        &mut self,
        process: &ProcessQueue,
    ) -> Result<(u64, oneshot::Receiver<Outcome>), Full> {
        if self.len() >= process.limits.revision {
            return Err(Full::Revision(process.limits.revision));
        }
        if !process.enter() {
            return Err(Full::Process(process.limits.process));
        }
        let (sender, receiver) = oneshot::channel();
        let number = self.next;
        self.next += 1;
        self.line.push_back((number, sender));
        Ok((number, receiver))
    }

    /// Gives a place back; false if it was served meanwhile.
    pub(super) fn give_up(&mut self, number: u64, process: &ProcessQueue) -> bool {
        let Ok(index) = self.line.binary_search_by_key(&number, |(n, _)| *n) else {
            return false;
        };
        #[cfg(planted)]
        if super::planted::is(super::planted::Bug::KeptPlace) {
            return true;
        }
        self.line.remove(index);
        #[cfg(planted)]
        if super::planted::is(super::planted::Bug::ProcessLeak) {
            return true;
        }
        process.leave();
        true
    }

    /// The first in line is served.
    pub(super) fn serve(&mut self, process: &ProcessQueue) -> Option<oneshot::Sender<Outcome>> {
        #[cfg(planted)]
        if super::planted::is(super::planted::Bug::LastFirst) {
            let (_, sender) = self.line.pop_back()?;
            process.leave();
            return Some(sender);
        }
        let (_, sender) = self.line.pop_front()?;
        process.leave();
        Some(sender)
    }

    /// All leave, with their senders to tell them why.
    pub(super) fn dismiss(&mut self, process: &ProcessQueue) -> Vec<oneshot::Sender<Outcome>> {
        let mut senders = Vec::with_capacity(self.line.len());
        while let Some(sender) = self.serve(process) {
            senders.push(sender);
        }
        senders
    }
}
