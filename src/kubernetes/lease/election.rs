//! The rule by which a Lease is taken, kept and left: what to ask of the API server next, and
//! until when one leads by what it answered.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

/// The spans of an election.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// A Lease that did not change for so long may be taken.
    pub duration: Duration,
    /// A leader leads for so long after it sent its last renewal. Shorter than `duration`.
    pub deadline: Duration,
    /// Between two attempts.
    pub retry: Duration,
    /// A call takes no longer.
    pub call: Duration,
}

impl Default for Timing {
    /// Half of client-go's: while nobody leads, nothing but a start from zero is scaled.
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(8),
            deadline: Duration::from_secs(5),
            retry: Duration::from_secs(1),
            call: Duration::from_secs(2),
        }
    }
}

/// Longest duration that another holder's record is believed to have.
const DURATION_MAX: Duration = Duration::from_secs(120);

/// What a Lease says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; empty = nobody, it was given up.
    pub holder: String,
    /// How long it is its holder's after a renewal, as its holder wrote it.
    pub duration: Duration,
    /// Times of acquisition and renewal as they stand there. Compared, never interpreted.
    pub times: String,
    /// How often it went from one holder to another.
    pub transitions: u32,
}

/// What to ask of the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Read the Lease.
    Read,
    /// Write it, based on a version; none = create it. Its times are the writer's.
    Write {
        /// The `resourceVersion` it must still have.
        version: Option<String>,
        /// What it says then.
        record: Record,
        /// Whether it is taken from somebody, or from nobody.
        is_taken: bool,
    },
}

/// What the API server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The Lease as it is, with its version: read, or just written.
    Lease(Record, String),
    /// There is none.
    Missing,
    /// It was written by somebody else meanwhile, or is there already.
    Conflict,
    /// No answer, or none that tells.
    Failed,
}

/// What is known of the Lease.
#[derive(Debug)]
enum Known {
    Nothing,
    Missing,
    Lease { record: Record, version: String },
}

/// One replica's part in an election.
#[derive(Debug)]
pub struct Election {
    identity: String,
    timing: Timing,
    known: Known,
    /// The last record seen, and when it was first seen.
    seen: Option<(Record, Instant)>,
    /// Whether what is known was asked for in this attempt.
    is_fresh: bool,
    /// Conflicts in this attempt.
    conflicts: u32,
    until: Option<Instant>,
    /// The smallest number of transitions to write.
    least: u32,
    /// Identities whose processes are gone.
    ended: BTreeSet<String>,
}

/// Identities that are remembered as gone.
const ENDED: usize = 64;

/// The name before the last `_` of an identity: what runs there runs once.
fn place(identity: &str) -> Option<&str> {
    identity.rsplit_once('_').map(|(place, _)| place)
}

impl Election {
    /// A replica that knows nothing yet. No two may have the same identity, one after the other
    /// included. In identities with a `_` what comes before the last one is a place where only one
    /// process runs at a time: whoever is there now takes over from the one before it at once.
    pub const fn new(identity: String, timing: Timing) -> Self {
        Self {
            identity,
            timing,
            known: Known::Nothing,
            seen: None,
            is_fresh: false,
            conflicts: 0,
            until: None,
            least: 0,
            ended: BTreeSet::new(),
        }
    }

    /// Until when it leads, by its own clock; none = it does not.
    pub const fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Whether it leads.
    pub fn is_leading(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// How often the Lease had changed hands when it became this one's; none = it is not its own.
    pub fn number(&self) -> Option<u32> {
        match &self.known {
            Known::Lease { record, .. } if record.holder == self.identity => {
                Some(record.transitions)
            }
            _ => None,
        }
    }

    /// Somebody has seen this number of transitions already, although the Lease does not say so: it
    /// was deleted and made anew. What is written from now on exceeds it.
    pub fn exceed(&mut self, number: u32) {
        self.least = self.least.max(number.saturating_add(1));
    }

    /// The process of this identity is gone: its Lease may be taken.
    pub fn ended(&mut self, identity: &str) {
        if self.ended.len() >= ENDED {
            self.ended.pop_first();
        }
        self.ended.insert(identity.to_owned());
    }

    /// Who holds the Lease as far as is known.
    pub fn holder(&self) -> Option<&str> {
        let (record, _) = self.seen.as_ref()?;
        Some(record.holder.as_str()).filter(|holder| !holder.is_empty())
    }

    /// Begins an attempt: what was known before may be old.
    pub const fn begin(&mut self) {
        self.is_fresh = false;
        self.conflicts = 0;
    }

    /// What to ask next in this attempt; nothing = it is over.
    pub fn next(&self, now: Instant) -> Option<Request> {
        match &self.known {
            Known::Nothing if self.is_fresh => None,
            Known::Nothing => Some(Request::Read),
            // It was deleted: whoever held it may still lead.
            Known::Missing => match &self.seen {
                Some((record, _)) if !self.is_free(record, now) => None,
                seen => {
                    let number = seen.as_ref().map_or(0, |(r, _)| r.transitions.saturating_add(1));
                    Some(self.take(None, number))
                }
            },
            Known::Lease { record, version } if record.holder == self.identity => {
                (!self.is_fresh).then(|| self.renew(version, record))
            }
            Known::Lease { record, version } if self.is_free(record, now) => {
                Some(self.take(Some(version.clone()), record.transitions.saturating_add(1)))
            }
            Known::Lease { .. } => (!self.is_fresh).then_some(Request::Read),
        }
    }

    /// Takes in the answer to a request that was sent at `sent`.
    pub fn answered(&mut self, request: &Request, answer: Answer, sent: Instant, now: Instant) {
        match answer {
            Answer::Lease(record, version) => {
                let is_ours = record.holder == self.identity;
                if self.seen.as_ref().is_none_or(|(seen, _)| *seen != record) {
                    self.seen = Some((record.clone(), now));
                }
                if !is_ours {
                    self.until = None;
                } else if matches!(request, Request::Write { .. }) {
                    self.until = Some(sent + self.timing.deadline);
                }
                self.known = Known::Lease { record, version };
                // A Lease that is ours but was only read has still to be renewed.
                self.is_fresh = !is_ours || matches!(request, Request::Write { .. });
            }
            Answer::Missing => {
                self.known = Known::Missing;
                self.is_fresh = true;
            }
            // Read once more; a second conflict in one attempt is for the next one.
            Answer::Conflict => {
                self.known = Known::Nothing;
                self.conflicts += 1;
                self.is_fresh = self.conflicts > 1;
            }
            Answer::Failed => {
                self.known = Known::Nothing;
                self.is_fresh = true;
            }
        }
    }

    /// Stops leading; what to write so that others need not wait.
    pub fn give_up(&mut self) -> Option<Request> {
        self.until = None;
        match &self.known {
            Known::Lease { record, version } if record.holder == self.identity => {
                Some(Request::Write {
                    version: Some(version.clone()),
                    record: Record { holder: String::new(), ..record.clone() },
                    is_taken: false,
                })
            }
            _ => None,
        }
    }

    fn renew(&self, version: &str, record: &Record) -> Request {
        let transitions = record.transitions.max(self.least);
        let record = Record { duration: self.timing.duration, transitions, ..record.clone() };
        Request::Write { version: Some(version.to_owned()), record, is_taken: false }
    }

    fn take(&self, version: Option<String>, transitions: u32) -> Request {
        let record = Record {
            holder: self.identity.clone(),
            duration: self.timing.duration,
            times: String::new(),
            transitions: transitions.max(self.least),
        };
        Request::Write { version, record, is_taken: true }
    }

    /// Whether nobody holds it, or its holder can no longer lead.
    fn is_free(&self, record: &Record, now: Instant) -> bool {
        let Some((seen, since)) = &self.seen else { return false };
        let duration = record.duration.min(DURATION_MAX).max(self.timing.duration);
        record.holder.is_empty()
            || record.holder == self.identity
            || self.ended.contains(&record.holder)
            || place(&self.identity).is_some_and(|here| place(&record.holder) == Some(here))
            || (seen == record && now >= *since + duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing {
        duration: Duration::from_secs(8),
        deadline: Duration::from_secs(5),
        retry: Duration::from_secs(1),
        call: Duration::from_secs(2),
    };

    fn record(holder: &str, times: &str) -> Record {
        Record {
            holder: holder.to_owned(),
            duration: TIMING.duration,
            times: times.to_owned(),
            transitions: 3,
        }
    }

    fn lease(holder: &str, times: &str, version: &str) -> Answer {
        Answer::Lease(record(holder, times), version.to_owned())
    }

    fn shown(request: Option<&Request>) -> String {
        match request {
            None => "wait".to_owned(),
            Some(Request::Read) => "read".to_owned(),
            Some(Request::Write { version: None, .. }) => "create".to_owned(),
            Some(Request::Write { version: Some(version), record, is_taken }) => {
                let what = if *is_taken { "take" } else { "renew" };
                format!("{what} {version} {} {}", record.holder, record.transitions)
            }
        }
    }

    /// One attempt per row: its second, the answers it gets (each after no time), what it asked
    /// for, and until which second it leads then.
    fn check(rows: &[(u64, &[Answer], &str, Option<u64>)]) {
        let start = Instant::now();
        let mut election = Election::new("me".to_owned(), TIMING);
        for (second, answers, expected, until) in rows {
            let now = start + Duration::from_secs(*second);
            let mut asked = Vec::new();
            let mut answers = answers.iter();
            election.begin();
            loop {
                let request = election.next(now);
                asked.push(shown(request.as_ref()));
                let Some(request) = request else { break };
                let answer = answers.next().expect("an answer for everything asked").clone();
                election.answered(&request, answer, now, now);
            }
            assert_eq!(asked.join(", "), *expected, "second {second}");
            assert_eq!(answers.next(), None, "second {second}: asked for less");
            let found = election.until().filter(|until| now < *until);
            let found = found.map(|until| (until - start).as_secs());
            assert_eq!(found, *until, "second {second}");
        }
    }

    #[test]
    fn a_lease_that_nobody_made_is_made_and_renewed() {
        check(&[
            (0, &[Answer::Missing, lease("me", "0", "1")], "read, create, wait", Some(5)),
            (1, &[lease("me", "1", "2")], "renew 1 me 3, wait", Some(6)),
            // An answer that was lost: the next one finds out whether it counted.
            (2, &[Answer::Failed], "renew 2 me 3, wait", Some(6)),
            (
                3,
                &[lease("me", "2", "3"), lease("me", "3", "4")],
                "read, renew 3 me 3, wait",
                Some(8),
            ),
            // Somebody put a label on it.
            (
                4,
                &[Answer::Conflict, lease("me", "3", "5"), lease("me", "4", "6")],
                "renew 4 me 3, read, renew 5 me 3, wait",
                Some(9),
            ),
            // It was deleted.
            (5, &[Answer::Missing, lease("me", "5", "9")], "renew 6 me 3, create, wait", Some(10)),
        ]);
    }

    #[test]
    fn a_lease_is_taken_once_it_did_not_change_for_its_duration() {
        check(&[
            (0, &[lease("you", "0", "1")], "read, wait", None),
            (6, &[lease("you", "0", "1")], "read, wait", None),
            // Its time says nothing; that it changed does.
            (7, &[lease("you", "a year ago", "2")], "read, wait", None),
            (14, &[lease("you", "a year ago", "2")], "read, wait", None),
            (15, &[lease("me", "15", "3")], "take 2 me 4, wait", Some(20)),
        ]);
        // A renewal that came meanwhile wins.
        check(&[
            (0, &[lease("you", "0", "1")], "read, wait", None),
            (9, &[Answer::Conflict, lease("you", "9", "2")], "take 1 me 4, read, wait", None),
            (10, &[lease("you", "9", "2")], "read, wait", None),
        ]);
    }

    #[test]
    fn a_lease_that_was_given_up_is_taken_at_once() {
        check(&[
            (0, &[lease("you", "0", "1")], "read, wait", None),
            (1, &[lease("", "0", "2"), lease("me", "1", "3")], "read, take 2 me 4, wait", Some(6)),
        ]);
    }

    #[test]
    fn who_cannot_renew_stops_leading_and_who_lost_it_says_so() {
        check(&[
            (0, &[Answer::Missing, lease("me", "0", "1")], "read, create, wait", Some(5)),
            (1, &[Answer::Failed], "renew 1 me 3, wait", Some(5)),
            (4, &[Answer::Failed], "read, wait", Some(5)),
            (5, &[Answer::Failed], "read, wait", None),
            (
                7,
                &[lease("me", "0", "1"), lease("me", "7", "2")],
                "read, renew 1 me 3, wait",
                Some(12),
            ),
            (8, &[Answer::Conflict, lease("you", "8", "3")], "renew 2 me 3, read, wait", None),
        ]);
    }

    #[test]
    fn conflicts_do_not_make_an_attempt_endless() {
        let nobodys = lease("", "0", "1");
        check(&[(
            0,
            &[Answer::Missing, Answer::Conflict, nobodys, Answer::Conflict],
            "read, create, read, take 1 me 4, wait",
            None,
        )]);
    }

    #[test]
    fn a_deleted_lease_is_its_holders_for_its_time() {
        check(&[
            (0, &[lease("you", "0", "1")], "read, wait", None),
            (7, &[Answer::Missing], "read, wait", None),
            (8, &[lease("me", "8", "2")], "create, wait", Some(13)),
        ]);
    }

    #[test]
    fn who_is_known_to_be_gone_is_not_waited_for() {
        let now = Instant::now();
        let asked = |election: &mut Election, holder: &str| {
            election.begin();
            election.answered(&Request::Read, lease(holder, "0", "1"), now, now);
            shown(election.next(now).as_ref())
        };
        let mut election = Election::new("pod-a_2".to_owned(), TIMING);
        assert_eq!(asked(&mut election, "pod-b_1"), "wait");
        assert_eq!(asked(&mut election, "pod-a_1"), "take 1 pod-a_2 4", "its own former life");
        election.ended("pod-b_1");
        assert_eq!(asked(&mut election, "pod-b_1"), "take 1 pod-a_2 4");
        assert_eq!(asked(&mut election, "pod-b_2"), "wait", "another life of it");
    }

    #[test]
    fn numbers_grow_also_where_the_lease_was_made_anew() {
        let now = Instant::now();
        let mut election = Election::new("me".to_owned(), TIMING);
        let write = Request::Write { version: None, record: record("me", ""), is_taken: true };
        election.answered(&write, lease("me", "1", "2"), now, now);
        assert_eq!(election.number(), Some(3));
        election.exceed(7);
        election.begin();
        assert_eq!(shown(election.next(now).as_ref()), "renew 2 me 8");
        election.begin();
        election.answered(&Request::Read, Answer::Missing, now, now);
        let Some(Request::Write { record, .. }) = election.next(now) else { panic!("no write") };
        assert_eq!((record.transitions, election.number()), (8, None));
    }

    #[test]
    fn giving_up_writes_only_what_is_ours() {
        let now = Instant::now();
        let mut election = Election::new("me".to_owned(), TIMING);
        assert_eq!(election.give_up(), None);
        let read = Request::Read;
        election.answered(&read, lease("you", "0", "1"), now, now);
        assert_eq!((election.give_up(), election.holder()), (None, Some("you")));
        let write = Request::Write { version: None, record: record("me", ""), is_taken: true };
        election.answered(&write, lease("me", "1", "2"), now, now);
        assert!(election.is_leading(now));
        assert_eq!(shown(election.give_up().as_ref()), "renew 2  3");
        assert!(!election.is_leading(now));
    }
}
