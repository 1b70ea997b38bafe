//! The last lines that replicas printed, of each revision, to be looked at by who asks. Bounded by
//! bytes: one that prints much pushes out its own lines first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::model::RevisionId;

/// Kept of one revision.
const OF_ONE: usize = 64 * 1024;
/// Kept of all.
const OF_ALL: usize = 8 * 1024 * 1024;
/// Lines that are gone and not forgotten yet, besides as many as are kept.
const SLACK: usize = 1024;
/// What a line takes besides its text.
const OVERHEAD: usize = 64;

/// A line that a replica printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrintedLine {
    /// Its number, ascending over all revisions from 1.
    pub number: u64,
    /// When, in milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// Number of the replica.
    pub replica: u64,
    /// `stdout` or `stderr`.
    pub stream: &'static str,
    /// Without the line's end.
    pub text: Arc<str>,
}

#[derive(Debug, Default)]
struct Of {
    lines: VecDeque<PrintedLine>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Kept {
    revisions: HashMap<RevisionId, Of>,
    /// Whose lines came when, as far as they are kept, by number.
    order: VecDeque<(u64, RevisionId)>,
    bytes: usize,
    /// How many are kept.
    lines: usize,
    last: u64,
}

/// The last lines of all revisions.
#[derive(Debug, Default)]
pub struct Printed(Mutex<Kept>);

impl Printed {
    /// Keeps a line.
    pub(super) fn push(
        &self,
        revision: &RevisionId,
        replica: u64,
        stream: &'static str,
        text: &[u8],
    ) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let text = String::from_utf8_lossy(text).into();
        let mut kept = self.0.lock();
        kept.last += 1;
        let line = PrintedLine { number: kept.last, unix_ms, replica, stream, text };
        kept.add(revision, line);
    }

    /// Lines of a revision after the one of this number, oldest first, and the number of the newest
    /// line of all.
    pub fn after(&self, revision: &RevisionId, number: u64) -> (Vec<PrintedLine>, u64) {
        let kept = self.0.lock();
        let lines = kept.revisions.get(revision).map(|of| {
            let from = of.lines.partition_point(|line| line.number <= number);
            of.lines.range(from..).cloned().collect()
        });
        (lines.unwrap_or_default(), kept.last)
    }
}

fn size(line: &PrintedLine) -> usize {
    line.text.len() + OVERHEAD
}

impl Kept {
    fn add(&mut self, revision: &RevisionId, line: PrintedLine) {
        let (number, bytes) = (line.number, size(&line));
        let of = self.revisions.entry(revision.clone()).or_default();
        of.lines.push_back(line);
        of.bytes += bytes;
        self.bytes += bytes;
        self.lines += 1;
        self.order.push_back((number, revision.clone()));
        while of.bytes > OF_ONE
            && let Some(oldest) = of.lines.pop_front()
        {
            of.bytes -= size(&oldest);
            self.bytes -= size(&oldest);
            self.lines -= 1;
        }
        self.trim();
        // One that printed little and long ago is in front of all that others have lost since.
        if self.order.len() > 2 * self.lines + SLACK {
            let Self { order, revisions, .. } = self;
            order.retain(|(number, revision)| {
                let first = revisions.get(revision).and_then(|of| of.lines.front());
                first.is_some_and(|line| line.number <= *number)
            });
        }
    }

    /// Drops the oldest of all until the rest fits; what is gone already is not in the way.
    fn trim(&mut self) {
        while let Some((number, revision)) = self.order.front() {
            let of = self.revisions.get_mut(revision);
            let is_kept = of
                .as_ref()
                .and_then(|of| of.lines.front())
                .is_some_and(|line| line.number <= *number);
            if is_kept && self.bytes <= OF_ALL {
                return;
            }
            if is_kept
                && let Some(of) = of
                && let Some(oldest) = of.lines.pop_front()
            {
                of.bytes -= size(&oldest);
                self.bytes -= size(&oldest);
                self.lines -= 1;
                if of.lines.is_empty() {
                    self.revisions.remove(revision);
                }
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(printed: &Printed, name: &str, after: u64) -> Vec<String> {
        let (lines, _) = printed.after(&RevisionId::new("ns", name), after);
        lines.iter().map(|line| format!("{} {}", line.number, line.text)).collect()
    }

    #[test]
    fn lines_are_found_by_revision_and_number() {
        let printed = Printed::default();
        let [a, b] = ["a", "b"].map(|name| RevisionId::new("ns", name));
        printed.push(&a, 1, "stdout", b"one");
        printed.push(&b, 2, "stderr", b"two \xff");
        printed.push(&a, 1, "stdout", b"three");
        assert_eq!(texts(&printed, "a", 0), ["1 one", "3 three"]);
        assert_eq!(texts(&printed, "a", 1), ["3 three"]);
        assert_eq!(texts(&printed, "a", 3), [""; 0]);
        assert_eq!(texts(&printed, "b", 0), ["2 two \u{fffd}"]);
        let (lines, last) = printed.after(&RevisionId::new("ns", "c"), 0);
        assert_eq!((lines, last), (Vec::new(), 3));
    }

    #[test]
    fn memory_is_bounded_by_one_and_by_all() {
        let printed = Printed::default();
        let text = vec![b'x'; 1024 - OVERHEAD];
        let quiet = RevisionId::new("ns", "quiet");
        printed.push(&quiet, 1, "stdout", b"early");
        for number in 0..10_000 {
            printed.push(&RevisionId::new("ns", "loud"), number, "stdout", &text);
        }
        assert_eq!(texts(&printed, "loud", 0).len(), OF_ONE / 1024);
        assert_eq!(texts(&printed, "quiet", 0), ["1 early"], "others keep theirs");
        assert!(printed.0.lock().order.len() <= 2 * 65 + SLACK, "what is gone is forgotten");
        for number in 0..1_000 {
            let revision = RevisionId::new("ns", number.to_string());
            (0..16).for_each(|_| printed.push(&revision, 1, "stdout", &text));
        }
        let kept = printed.0.lock();
        assert!(kept.bytes <= OF_ALL, "{}", kept.bytes);
        let sum: usize = kept.revisions.values().map(|of| of.bytes).sum();
        assert_eq!(kept.bytes, sum);
        assert!(!kept.revisions.contains_key(&quiet), "the oldest of all is gone");
        let lines = kept.revisions.values().map(|of| of.lines.len()).sum::<usize>();
        assert_eq!(kept.lines, lines);
        assert!(kept.order.len() <= 2 * lines + SLACK);
    }
}
