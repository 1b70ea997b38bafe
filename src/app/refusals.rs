//! Refused requests in the log: the first of a reason for each revision, then one summary a second
//! while there are more. They are counted, not logged one by one.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{Reason, RevisionId};
use crate::proxy::Shared;
use crate::snapshot::Registry;
use crate::stats::Nanos;

const EVERY: Duration = Duration::from_secs(1);

/// What was logged so far.
#[derive(Debug, Default)]
pub(super) struct RefusalLog {
    logged: BTreeMap<(Option<RevisionId>, Reason), u64>,
    looked: Nanos,
    /// How many all revisions had refused when they were last looked at.
    refused: u64,
}

/// A line to log.
#[derive(Debug, PartialEq, Eq)]
struct News {
    /// How many since the last line.
    more: u64,
    first: bool,
}

impl RefusalLog {
    /// Looks at the counters, once a second; at those of the revisions only if `refused`, which
    /// all of them count, says that there is anything new.
    pub(super) fn look(&mut self, shared: &Shared, registry: &Registry, refused: u64, now: Nanos) {
        if now.since(self.looked) < EVERY {
            return;
        }
        self.looked = now;
        let refusals = shared.refusals().into_iter();
        // A redirect is what was asked for.
        for (reason, count) in refusals.filter(|(reason, _)| *reason != Reason::HttpsRedirect) {
            if let Some(news) = self.news(None, reason, count) {
                write(None, reason, &news);
            }
        }
        if std::mem::replace(&mut self.refused, refused) == refused {
            return;
        }
        for revision in registry.revisions() {
            for (reason, count) in revision.stats().refusals() {
                if let Some(news) = self.news(Some(revision.id()), reason, count) {
                    write(Some(revision.id()), reason, &news);
                }
            }
        }
    }

    /// A revision is gone.
    pub(super) fn forget(&mut self, revision: &RevisionId) {
        self.logged.retain(|(id, _), _| id.as_ref() != Some(revision));
    }

    fn news(&mut self, id: Option<&RevisionId>, reason: Reason, count: u64) -> Option<News> {
        let logged = self.logged.entry((id.cloned(), reason)).or_default();
        // Fewer than before: a revision of the same name made anew.
        let more = count.checked_sub(*logged).unwrap_or(count);
        let first = *logged == 0 || count < *logged;
        *logged = count;
        (more > 0).then_some(News { more, first })
    }
}

fn write(id: Option<&RevisionId>, reason: Reason, news: &News) {
    let whose = id.map_or_else(|| "no revision's".to_owned(), ToString::to_string);
    let News { more, first } = news;
    if *first {
        tracing::warn!(revision = %whose, %reason, count = more, "refused for the first time");
    } else {
        tracing::info!(revision = %whose, %reason, count = more, "refused");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_then_what_was_added() {
        let mut log = RefusalLog::default();
        let id = RevisionId::new("default", "a-00001");
        let mut news = |count| log.news(Some(&id), Reason::QueueFull, count);
        assert_eq!(news(3), Some(News { more: 3, first: true }));
        assert_eq!(news(3), None);
        assert_eq!(news(5), Some(News { more: 2, first: false }));
        assert_eq!(news(1), Some(News { more: 1, first: true }), "made anew");
        log.forget(&id);
        assert!(log.logged.is_empty());
    }
}
