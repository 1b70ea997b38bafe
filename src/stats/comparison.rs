//! Two revisions beside each other: what was counted of both since the same moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Nanos, RevisionStats};
use crate::model::{Evidence, RevisionId, Tally, UnixNanos};

/// Comparisons that are kept at most: those asked for longest ago go first.
const KEPT_MAX: usize = 1_000;

/// Since when two revisions are compared.
#[derive(Debug)]
struct Window {
    /// Tells steps apart.
    step: UnixNanos,
    begun: Nanos,
    asked: Nanos,
    old: Tally,
    new: Tally,
}

/// What is compared in this process.
#[derive(Debug, Default)]
pub struct Comparisons {
    windows: Mutex<BTreeMap<(RevisionId, RevisionId), Window>>,
}

impl Comparisons {
    /// What was counted of both since this was asked for the first time for this step and each had
    /// a replica that was ready; none before: requests that wait for a first start, and may give up
    /// meanwhile, tell nothing of how it works. Where anything is less than it was — a revision was
    /// made anew, another proxy is gone — it is counted from now on.
    pub fn since(
        &self,
        old: &Arc<RevisionStats>,
        new: &Arc<RevisionStats>,
        step: UnixNanos,
    ) -> Option<Evidence> {
        let now = new.clock().now();
        let (old_now, new_now) = (old.tally(), new.tally());
        let key = (old.revision().clone(), new.revision().clone());
        let mut windows = self.windows.lock();
        if let Some(window) = windows.get_mut(&key).filter(|window| window.step == step) {
            window.asked = now;
            let over = now.since(window.begun);
            let counted = (old_now.since(&window.old), new_now.since(&window.new));
            if let (Some(old), Some(new)) = counted {
                return Some(Evidence { over, old, new });
            }
        }
        if old.ready() == 0 || new.ready() == 0 {
            return None;
        }
        let window = Window { step, begun: now, asked: now, old: old_now, new: new_now };
        windows.insert(key, window);
        if windows.len() > KEPT_MAX {
            let oldest = windows.iter().min_by_key(|(_, window)| window.asked);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                windows.remove(&key);
            }
        }
        Some(Evidence::default())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::stats::{Clock, Ended, Pokes};

    fn stats(name: &str) -> Arc<RevisionStats> {
        let id = RevisionId::new("default", name);
        let stats = RevisionStats::new(id, Clock::start(), 2, Arc::new(Pokes::default()));
        stats.set_compared(true);
        stats.set_replicas(1, 0);
        stats
    }

    #[test]
    fn each_step_is_counted_by_itself() {
        let (old, new) = (stats("old"), stats("new"));
        let comparisons = Comparisons::default();
        let step = UnixNanos;
        old.judge(0, Ended::Failed);
        new.set_replicas(0, 1);
        assert_eq!(comparisons.since(&old, &new, step(1)), None, "it starts");
        new.set_replicas(1, 0);
        let since = |new: &_, at| comparisons.since(&old, new, step(at)).unwrap();
        assert_eq!(since(&new, 1), Evidence::default());
        old.judge(0, Ended::Answered(20_000_000));
        old.judge(1, Ended::Upgraded);
        new.judge(1, Ended::Failed);
        let seen = since(&new, 1);
        assert_eq!((seen.old.requests, seen.old.errors), (2, 0));
        assert_eq!(seen.old.latencies.count(), 1);
        assert!(
            seen.old.latencies.quantile(0.5).abs_diff(Duration::from_millis(20))
                < Duration::from_millis(2)
        );
        assert_eq!((seen.new.requests, seen.new.errors), (1, 1));
        // The next step, and one of a revision that was made anew.
        assert_eq!(since(&new, 2).new.requests, 0);
        new.judge(1, Ended::Failed);
        assert_eq!(since(&new, 2).new.requests, 1);
        let again = stats("new");
        assert_eq!(since(&again, 2), Evidence::default());
        again.judge(0, Ended::Failed);
        assert_eq!(since(&again, 2).new.errors, 1);
    }

    #[test]
    fn nothing_is_counted_of_others() {
        let stats = stats("a");
        stats.set_compared(false);
        assert!(!stats.is_compared());
        assert_eq!(stats.tally(), Tally::default());
    }
}
