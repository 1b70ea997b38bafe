//! One revision's load that others serve and report: the same revision at other proxies.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

/// Seconds of one reporter that are averaged at most.
const SECONDS_MAX: u32 = 60;

/// What one reporter says of one revision.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// Requests in flight on average, and those that arrived, in the second that just ended there;
    /// none between two seconds.
    pub second: Option<(f64, f64)>,
    /// Requests in flight now.
    pub in_flight: u64,
    /// Requests that wait now.
    pub waiting: u32,
}

/// What is known from one reporter.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Sum over the seconds that were not taken yet, and how many.
    sum: (f64, f64),
    seconds: u32,
    /// What was taken last: it stands until there is news.
    last: (f64, f64),
    in_flight: u64,
    waiting: u32,
}

impl Known {
    fn average(&self) -> (f64, f64) {
        if self.seconds == 0 {
            return self.last;
        }
        let count = f64::from(self.seconds);
        (self.sum.0 / count, self.sum.1 / count)
    }
}

/// All reporters of one revision.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    known: Mutex<BTreeMap<Arc<str>, Known>>,
    in_flight: AtomicU64,
    waiting: AtomicU32,
}

impl Elsewhere {
    /// Whether the reporter's load is news: it had none before and has some now.
    pub(super) fn report(&self, by: &Arc<str>, report: Report) -> bool {
        let mut all = self.known.lock();
        let known = all.entry(Arc::clone(by)).or_default();
        let had_load = known.in_flight > 0 || known.average().0 > 0.0;
        if let Some((concurrency, arrivals)) = report.second {
            if known.seconds >= SECONDS_MAX {
                (known.sum, known.seconds) = ((0.0, 0.0), 0);
            }
            known.sum = (known.sum.0 + concurrency, known.sum.1 + arrivals);
            known.seconds += 1;
        }
        (known.in_flight, known.waiting) = (report.in_flight, report.waiting);
        let has_load = known.in_flight > 0 || known.average().0 > 0.0;
        self.count(&all);
        has_load && !had_load
    }

    pub(super) fn forget(&self, by: &str) {
        let mut all = self.known.lock();
        all.remove(by);
        self.count(&all);
    }

    fn count(&self, all: &BTreeMap<Arc<str>, Known>) {
        let in_flight = all.values().map(|known| known.in_flight).sum();
        let waiting = all.values().map(|known| known.waiting).sum();
        self.in_flight.store(in_flight, Ordering::Relaxed);
        self.waiting.store(waiting, Ordering::Relaxed);
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Load of one second over all reporters. Of one that did not report since, its last second
    /// stands: that it is not heard does not mean that it has none.
    pub(super) fn take(&self) -> (f64, f64) {
        let mut all = self.known.lock();
        let mut sum = (0.0, 0.0);
        all.retain(|_, known| {
            known.last = known.average();
            (known.sum, known.seconds) = ((0.0, 0.0), 0);
            sum = (sum.0 + known.last.0, sum.1 + known.last.1);
            known.last != (0.0, 0.0) || known.in_flight > 0 || known.waiting > 0
        });
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_of_all_reporters_are_added_up() {
        let elsewhere = Elsewhere::default();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let report = |second, in_flight, waiting| Report { second, in_flight, waiting };
        assert!(elsewhere.report(&a, report(Some((2.0, 10.0)), 3, 1)), "it had none");
        assert!(!elsewhere.report(&a, report(Some((4.0, 30.0)), 2, 0)));
        assert!(elsewhere.report(&b, report(Some((1.0, 1.0)), 1, 5)));
        assert_eq!((elsewhere.in_flight(), elsewhere.waiting()), (3, 5));
        assert_eq!(elsewhere.take(), (4.0, 21.0), "two of one are averaged");
        assert_eq!(elsewhere.take(), (4.0, 21.0), "no news is no change");
        // Between two seconds.
        assert!(!elsewhere.report(&b, report(None, 1, 9)));
        assert_eq!(elsewhere.waiting(), 9);
        assert_eq!(elsewhere.take(), (4.0, 21.0));
        assert!(!elsewhere.report(&b, report(Some((0.0, 0.0)), 0, 0)));
        assert_eq!(elsewhere.take(), (3.0, 20.0));
        elsewhere.forget("a");
        assert_eq!(elsewhere.take(), (0.0, 0.0));
        assert_eq!((elsewhere.in_flight(), elsewhere.waiting()), (0, 0));
        assert!(elsewhere.known.lock().is_empty(), "nothing is kept for ever");
    }
}
