//! Requests that waited for a place or were refused: the last ones, so that somebody who has the
//! identity of one can ask why. The others, which are nearly all, are not noted.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;

use crate::model::{Problem, RevisionId};
use crate::stats::{Nanos, RevisionStats};

/// How many are kept.
const KEPT: usize = 10_000;

/// What a revision was doing when a request came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Met {
    /// Ready replicas.
    pub ready: u32,
    /// Replicas on their way up.
    pub starting: u32,
    /// Other requests that waited.
    pub waiting: u32,
}

impl Met {
    /// What it does now.
    pub(super) fn now(stats: &RevisionStats) -> Self {
        Self { ready: stats.ready(), starting: stats.starting(), waiting: stats.waiting() }
    }
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Its `X-Request-Id`.
    pub id: Box<[u8]>,
    /// For which revision it was, if that was found.
    pub revision: Option<RevisionId>,
    /// When it arrived.
    pub arrived: Nanos,
    /// How long it waited for a place.
    pub waited: Duration,
    /// What it met.
    pub met: Met,
    /// Why it was refused; none = it got a place.
    pub problem: Option<Problem>,
}

/// The last ones of all workers.
#[derive(Debug, Default)]
pub struct Noted(Mutex<VecDeque<Note>>);

impl Noted {
    /// Keeps one, in place of the oldest. One without an identity nobody could ask for.
    pub(super) fn push(&self, note: Note) {
        if note.id.is_empty() {
            return;
        }
        let mut notes = self.0.lock();
        let oldest = (notes.len() >= KEPT).then(|| notes.pop_front());
        notes.push_back(note);
        drop(notes);
        // Outside of the lock.
        drop(oldest);
    }

    /// Forgets all, with their memory.
    pub fn clear(&self) {
        *self.0.lock() = VecDeque::new();
    }

    /// Those with this identity, newest first: clients may give several the same.
    pub fn find(&self, id: &[u8]) -> Vec<Note> {
        self.0.lock().iter().rev().filter(|note| *note.id == *id).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_found() {
        let noted = Noted::default();
        let note = |id: &str, arrived: u64| Note {
            id: id.as_bytes().into(),
            revision: None,
            arrived: Nanos(arrived),
            waited: Duration::ZERO,
            met: Met::default(),
            problem: None,
        };
        noted.push(note("first", 1));
        noted.push(note("", 2));
        noted.push(note("twice", 3));
        noted.push(note("twice", 4));
        assert_eq!(noted.find(b"twice"), [note("twice", 4), note("twice", 3)]);
        assert_eq!(noted.find(b""), []);
        assert_eq!(noted.find(b"first"), [note("first", 1)]);
        (4..).take(KEPT - 2).for_each(|at| noted.push(note("more", at)));
        assert_eq!(noted.find(b"first"), [], "the oldest goes");
        assert_eq!(noted.find(b"twice").len(), 2);
    }
}
