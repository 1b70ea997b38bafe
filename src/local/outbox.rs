//! Updates that wait for the application to take them: bounded, because states of the same
//! revision become one.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use crate::model::{Problem, RevisionId};

/// Measured cold starts waiting to be reported; the oldest of more are dropped.
const COLD_STARTS_WAITING: usize = 1024;

/// An update to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The replicas of a revision changed. What they are is looked up when it is sent.
    Replicas(RevisionId),
    /// Starting failed.
    Failed(RevisionId, Problem),
    /// A cold start was measured: spawn and ready.
    Cold(RevisionId, Duration, Duration),
}

/// The queue of them.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: VecDeque<News>,
    cold: usize,
    /// Revisions with `Replicas` in the queue.
    changed: HashSet<RevisionId>,
    /// Revisions with `Failed` in the queue.
    failed: HashSet<RevisionId>,
}

impl Outbox {
    /// The replicas of a revision changed; `ready` is whether any takes requests.
    pub(super) fn replicas(&mut self, revision: &RevisionId, ready: bool) {
        if ready {
            // A failure before is no longer what waiting requests are to be told.
            self.drop_failure(revision);
        }
        if self.changed.insert(revision.clone()) {
            self.queue.push_back(News::Replicas(revision.clone()));
        }
    }

    /// Starting failed; only the newest text of a revision counts.
    pub(super) fn failed(&mut self, revision: &RevisionId, problem: Problem) {
        self.drop_failure(revision);
        self.failed.insert(revision.clone());
        self.queue.push_back(News::Failed(revision.clone(), problem));
    }

    fn drop_failure(&mut self, revision: &RevisionId) {
        if self.failed.remove(revision) {
            self.queue.retain(|news| !matches!(news, News::Failed(whose, _) if whose == revision));
        }
    }

    /// A cold start was measured. Told before the replicas that it made: who waited for them is to
    /// find it.
    pub(super) fn cold(&mut self, revision: &RevisionId, spawn: Duration, ready: Duration) {
        if self.cold == COLD_STARTS_WAITING
            && let Some(oldest) = self.queue.iter().position(|news| matches!(news, News::Cold(..)))
        {
            self.queue.remove(oldest);
            self.cold -= 1;
        }
        self.cold += 1;
        let replicas = self.mentions(revision).then(|| {
            let of = |news: &News| matches!(news, News::Replicas(whose) if whose == revision);
            self.queue.iter().position(of)
        });
        let at = replicas.flatten().unwrap_or(self.queue.len());
        self.queue.insert(at, News::Cold(revision.clone(), spawn, ready));
    }

    /// The oldest.
    pub(super) fn next(&mut self) -> Option<News> {
        let next = self.queue.pop_front()?;
        match &next {
            News::Replicas(revision) => {
                self.changed.remove(revision);
            }
            News::Failed(revision, _) => {
                self.failed.remove(revision);
            }
            News::Cold(..) => self.cold -= 1,
        }
        Some(next)
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether the state of a revision is still to be looked up.
    pub(super) fn mentions(&self, revision: &RevisionId) -> bool {
        self.changed.contains(revision)
    }

    /// Drops all.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Reason;

    fn drain(mut outbox: Outbox) -> Vec<News> {
        std::iter::from_fn(|| outbox.next()).collect()
    }

    #[test]
    fn states_of_a_revision_become_one_and_readiness_ends_a_failure() {
        let (a, b) = (RevisionId::new("n", "a"), RevisionId::new("n", "b"));
        let problem = |text: &str| Problem::new(Reason::StartFailed, text);
        let mut outbox = Outbox::default();
        outbox.replicas(&a, false);
        outbox.failed(&a, problem("one"));
        outbox.failed(&b, problem("two"));
        outbox.failed(&b, problem("three"));
        outbox.replicas(&a, true);
        outbox.replicas(&b, false);
        let expected =
            [News::Replicas(a), News::Failed(b.clone(), problem("three")), News::Replicas(b)];
        assert_eq!(drain(outbox), expected);
    }

    #[test]
    fn a_cold_start_is_told_before_what_it_made() {
        let (a, b) = (RevisionId::new("n", "a"), RevisionId::new("n", "b"));
        let cold = |whose: &RevisionId| News::Cold(whose.clone(), Duration::ZERO, Duration::ZERO);
        let mut outbox = Outbox::default();
        // That it starts, and nobody has asked yet.
        outbox.replicas(&b, false);
        outbox.replicas(&a, false);
        outbox.cold(&a, Duration::ZERO, Duration::ZERO);
        outbox.replicas(&a, true);
        assert_eq!(drain(outbox), [News::Replicas(b), cold(&a), News::Replicas(a)]);
    }

    #[test]
    fn cold_starts_are_bounded() {
        let revision = RevisionId::new("n", "a");
        let mut outbox = Outbox::default();
        for millis in 0..2_000 {
            outbox.cold(&revision, Duration::from_millis(millis), Duration::ZERO);
        }
        let news = drain(outbox);
        assert_eq!(news.len(), COLD_STARTS_WAITING);
        assert_eq!(
            news.last(),
            Some(&News::Cold(revision, Duration::from_millis(1_999), Duration::ZERO))
        );
    }
}
