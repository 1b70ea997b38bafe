//! Recorded requests on their way from the workers to the exporter.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::span::Recorded;

/// A bounded queue. Who puts something in never waits; the exporter is woken for the first of a
/// batch and for a full one, not for each.
#[derive(Debug)]
pub(super) struct Queue {
    held: Mutex<Held>,
    /// Most spans that it holds.
    bound: usize,
    /// Spans that are a full batch.
    batch: usize,
    began: Notify,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Held {
    recorded: VecDeque<Recorded>,
    spans: usize,
}

impl Queue {
    pub(super) fn new(bound: usize, batch: usize) -> Self {
        let (began, filled) = (Notify::new(), Notify::new());
        Self { held: Mutex::default(), bound, batch, began, filled }
    }

    /// Takes a request's spans, unless it is full.
    pub(super) fn push(&self, recorded: Recorded) -> Result<(), Recorded> {
        let spans = recorded.spans.len();
        let mut held = self.held.lock();
        let before = held.spans;
        if before + spans > self.bound {
            return Err(recorded);
        }
        held.spans += spans;
        held.recorded.push_back(recorded);
        drop(held);
        if before == 0 {
            self.began.notify_one();
        }
        if before < self.batch && before + spans >= self.batch {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// The oldest requests, as many as are a batch.
    pub(super) fn take(&self) -> Vec<Recorded> {
        let mut held = self.held.lock();
        let (mut taken, mut spans) = (Vec::new(), 0);
        while spans < self.batch
            && let Some(recorded) = held.recorded.pop_front()
        {
            spans += recorded.spans.len();
            taken.push(recorded);
        }
        held.spans -= spans;
        taken
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.lock().recorded.is_empty()
    }

    /// Whether there is a batch.
    pub(super) fn is_filled(&self) -> bool {
        self.held.lock().spans >= self.batch
    }

    /// Returns when something was put into an empty queue.
    pub(super) async fn began(&self) {
        while self.is_empty() {
            self.began.notified().await;
        }
    }

    /// Returns when there is a batch.
    pub(super) async fn filled(&self) {
        while !self.is_filled() {
            self.filled.notified().await;
        }
    }
}
