//! What becomes of the source's updates, and what time it is.

use std::future::pending;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::rollout::{Standing, UnixNanos};
use crate::config::world::Moment;
use crate::model::{Evidence, RevisionId, World};

/// Whether a world is in effect.
pub type InEffect = Box<dyn Fn(&Arc<World>) -> bool>;
/// Whether a revision has a replica that is ready.
pub type IsReady = Box<dyn Fn(&RevisionId) -> bool>;
/// How a revision is doing.
pub type StandingOf = Box<dyn Fn(&RevisionId) -> Standing>;

/// What was counted of an old and a new revision since a step began, told by that moment.
pub type CountedOf = Box<dyn Fn(&RevisionId, &RevisionId, UnixNanos) -> Option<Evidence>>;

/// Tells what became of the updates: traffic moves to a new revision once that serves.
pub struct Outcome {
    /// Changes after every update that took effect.
    pub updated: watch::Receiver<()>,
    /// Whether a world is in effect.
    pub in_effect: InEffect,
    /// How a revision is doing.
    pub standing: StandingOf,
    /// Whether a revision has a replica that is ready.
    pub is_ready: IsReady,
    /// What was counted of revisions that are compared.
    pub counted: CountedOf,
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outcome").finish_non_exhaustive()
    }
}

/// What was sent last, and what became of it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) outcome: Option<Outcome>,
    pub(super) sent: Option<Arc<World>>,
}

impl Progress {
    /// Has something done with what is known at a moment.
    pub(super) fn at<T>(&self, now: UnixNanos, done: impl FnOnce(&Moment<'_>) -> T) -> T {
        let standing = |id: &RevisionId| self.standing(id);
        let is_ready = |id: &RevisionId| self.is_ready(id);
        let counted = |old: &_, new: &_, since| self.counted(old, new, since);
        done(&Moment { now, standing: &standing, is_ready: &is_ready, counted: &counted })
    }

    /// How a revision is doing: until what was sent is in effect, its share is not.
    fn standing(&self, id: &RevisionId) -> Standing {
        let Some(outcome) = &self.outcome else { return Standing::Pending };
        match (outcome.standing)(id) {
            Standing::Ready if !self.is_in_effect(outcome) => Standing::Pending,
            standing => standing,
        }
    }

    /// Whether a revision, as it was sent last, has a replica that is ready.
    fn is_ready(&self, id: &RevisionId) -> bool {
        let ready = |outcome: &Outcome| self.is_in_effect(outcome) && (outcome.is_ready)(id);
        self.outcome.as_ref().is_some_and(ready)
    }

    fn is_in_effect(&self, outcome: &Outcome) -> bool {
        self.sent.as_ref().is_some_and(|sent| (outcome.in_effect)(sent))
    }

    /// What was counted of an old and a new revision.
    fn counted(&self, old: &RevisionId, new: &RevisionId, since: UnixNanos) -> Option<Evidence> {
        self.outcome.as_ref().and_then(|outcome| (outcome.counted)(old, new, since))
    }

    /// Waits until something took effect. Cancel safe.
    pub(super) async fn updated(&mut self) {
        if let Some(outcome) = &mut self.outcome
            && outcome.updated.changed().await.is_ok()
        {
            return;
        }
        // Nobody tells any more.
        pending().await
    }
}

/// The time of day, counted on from one look at the machine's clock: it never goes back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wall {
    start: UnixNanos,
    since: Instant,
}

impl Wall {
    pub(super) fn new() -> Self {
        let start = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let start = UnixNanos(u64::try_from(start.as_nanos()).unwrap_or(u64::MAX));
        Self { start, since: Instant::now() }
    }

    pub(super) fn now(self) -> UnixNanos {
        self.start.plus(self.since.elapsed())
    }

    /// When the clock of timers shows that time of day.
    pub(super) fn instant(self, at: UnixNanos) -> Instant {
        self.since + at.since(self.start)
    }
}
