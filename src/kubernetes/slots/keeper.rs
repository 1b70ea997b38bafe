//! The part of whoever keeps the ledger: sessions with the members, and what they are granted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::model::{EndpointId, Nanos, RevisionId};

use super::Timing;
use super::ledger::{Ledger, Moment};
use super::message::{Ballot, Cap, Grant, MemberId, Message, Need, Past, Report, Session};

type Caps = BTreeMap<(RevisionId, EndpointId), (u32, bool)>;

/// What is remembered of one member over one connection.
#[derive(Debug)]
struct Talk {
    session: Session,
    /// When it was last heard of in this session; none = it has not answered yet.
    heard: Option<Nanos>,
    /// The last grant it has taken.
    seen: u64,
    /// When grants were sent that it has not taken yet.
    sent: VecDeque<(u64, Nanos)>,
    granted_once: bool,
    /// Its last report, and whether that is still to be answered.
    number: u64,
    answer_due: bool,
    caps: Caps,
    own: Caps,
    members_due: bool,
}

/// The ledger and its sessions.
#[derive(Debug)]
pub(super) struct Keeper {
    me: MemberId,
    timing: Timing,
    pub(super) ballot: Ballot,
    pub(super) started: Nanos,
    pub(super) is_established: bool,
    ledger: Ledger,
    /// Of the last grant.
    seq: u64,
    sessions: u64,
    talks: BTreeMap<MemberId, Talk>,
    /// When what each member was granted ends at the latest, by this clock.
    leases: BTreeMap<MemberId, Nanos>,
    /// Until when, at most, each would take what it knows of this process for the last.
    notes: BTreeMap<MemberId, Nanos>,
    /// What members said of the terms before.
    pasts: Vec<(MemberId, Past)>,
    /// Slots for this process itself, until another member has taken note of them.
    own: VecDeque<(u64, Vec<Cap>)>,
    /// The last of these that is in effect.
    own_seen: u64,
    members: Vec<MemberId>,
    /// Until when this process' own slots are supported by others.
    pub(super) supported: Option<Nanos>,
}

impl Keeper {
    /// A term that begins: nobody has said anything yet.
    pub(super) fn new(ballot: Ballot, timing: Timing, now: Nanos) -> Self {
        Self {
            me: ballot.keeper.clone(),
            timing,
            ballot,
            started: now,
            is_established: false,
            ledger: Ledger::default(),
            seq: 0,
            sessions: 0,
            talks: BTreeMap::new(),
            leases: BTreeMap::new(),
            notes: BTreeMap::new(),
            pasts: Vec::new(),
            own: VecDeque::new(),
            own_seen: 0,
            members: Vec::new(),
            supported: None,
        }
    }

    /// A connection stands: a session begins.
    pub(super) fn collect(&mut self, member: &MemberId) -> Message {
        self.sessions += 1;
        let session = Session { ballot: self.ballot.clone(), number: self.sessions };
        let talk = Talk {
            session: session.clone(),
            heard: None,
            seen: 0,
            sent: VecDeque::new(),
            granted_once: false,
            number: 0,
            answer_due: false,
            caps: Caps::new(),
            own: Caps::new(),
            members_due: false,
        };
        self.talks.insert(member.clone(), talk);
        Message::Collect(session)
    }

    /// The connection is gone.
    pub(super) fn lost(&mut self, member: &MemberId) {
        self.talks.remove(member);
    }

    /// The process is gone, for long enough.
    pub(super) fn forget(&mut self, member: &MemberId) {
        self.talks.remove(member);
        self.leases.remove(member);
        self.notes.remove(member);
        self.ledger.forget(member);
    }

    /// Whether a member has answered in this term.
    pub(super) fn has_reported(&self, member: &MemberId) -> bool {
        self.talks.get(member).is_some_and(|talk| talk.heard.is_some())
    }

    /// A member reports; false if it speaks of another session.
    pub(super) fn report(&mut self, from: &MemberId, report: Report, now: Nanos) -> bool {
        let Some(talk) = self.talks.get_mut(from).filter(|t| t.session == report.session) else {
            return false;
        };
        talk.heard = Some(now);
        talk.seen = talk.seen.max(report.seen);
        (talk.number, talk.answer_due) = (report.number, true);
        while let Some((seq, at)) = talk.sent.front().copied() {
            if seq > report.seen {
                break;
            }
            talk.sent.pop_front();
            self.supported = self.supported.max(Some(at.plus(self.timing.lease)));
        }
        let everything = report.past.is_some();
        self.ledger.report(from, &report.needs, report.seen, everything, now);
        // It may have more time by an earlier keeper.
        let bound = now.plus(self.timing.lease_at_most());
        self.leases.entry(from.clone()).and_modify(|end| *end = bound.max(*end)).or_insert(bound);
        if let Some(past) = report.past
            && !self.is_established
        {
            self.pasts.push((from.clone(), *past));
        }
        true
    }

    /// What this process itself has and wants.
    pub(super) fn report_own(&mut self, needs: &[Need], everything: bool, now: Nanos) {
        let me = self.me.clone();
        self.ledger.report(&me, needs, self.own_seen, everything, now);
        for need in needs {
            for line in &need.endpoints {
                self.note(&need.revision, &line.endpoint);
            }
        }
    }

    /// What this process may hold of an endpoint has changed: the others are to be told.
    fn note(&mut self, revision: &RevisionId, endpoint: &EndpointId) {
        let slots = self.ledger.booked(&self.me, revision, endpoint);
        for talk in self.talks.values_mut() {
            talk.own.insert((revision.clone(), endpoint.clone()), (slots, false));
        }
    }

    /// What this process had as a keeper, for the next one.
    pub(super) fn ledger_of(
        &self,
        members: impl Iterator<Item = MemberId>,
    ) -> Vec<(MemberId, Vec<Cap>)> {
        members.map(|member| (member.clone(), self.ledger.of(&member))).collect()
    }

    /// All have reported, or those that have not are not waited for any longer. `others`: all that
    /// may hold something; `past` is this process' own.
    pub(super) fn establish(&mut self, others: &BTreeMap<MemberId, bool>, past: Past, now: Nanos) {
        self.is_established = true;
        self.pasts.push((self.me.clone(), past));
        let missing: Vec<&MemberId> =
            others.keys().filter(|member| !self.has_reported(member)).collect();
        let accepted = self.pasts.iter().filter_map(|(_, past)| past.accepted.as_ref()).max();
        let promised = self.pasts.iter().filter_map(|(_, past)| past.promised.as_ref()).max();
        // A later term of which nobody took a grant may have given what nobody here knows.
        let last = accepted.filter(|accepted| promised.is_none_or(|p| p <= *accepted)).cloned();
        let pasts: Vec<&Past> = self
            .pasts
            .iter()
            .map(|(_, past)| past)
            .filter(|past| last.is_some() && past.accepted == last)
            .collect();
        let keeper = last.as_ref().map(|ballot| &ballot.keeper);
        // What the keeper took for itself was known to one of its members at least, unless nobody
        // had heard of it for longer than a lease: all of them are needed, and one that had.
        let is_here = |m: &MemberId| Some(m) == keeper || *m == self.me || self.has_reported(m);
        let is_noted = pasts.iter().any(|past| past.is_fresh)
            && pasts.iter().flat_map(|past| &past.members).all(is_here)
            && missing.iter().all(|member| Some(*member) == keeper);
        for member in &missing {
            // The former keeper knows of each.
            let told = pasts.iter().flat_map(|past| &past.ledger).find(|(who, _)| who == *member);
            if let Some((who, caps)) = told {
                self.ledger.book(who, caps, now);
            } else if keeper == Some(*member) && is_noted {
                for past in &pasts {
                    self.ledger.book(member, &past.record, now);
                }
            } else {
                let was_met = others.get(*member).copied().unwrap_or(false);
                self.ledger.add_unknown((*member).clone(), was_met, now);
            }
            let end = now.plus(self.timing.lease_at_most());
            self.leases.insert((*member).clone(), end);
        }
        self.pasts.clear();
    }

    /// Whom else there is to count with.
    pub(super) fn named(&self) -> BTreeSet<MemberId> {
        self.pasts.iter().flat_map(|(_, past)| past.members.iter().cloned()).collect()
    }

    /// What was heard of lately, and this process.
    fn live(&self, now: Nanos) -> BTreeSet<MemberId> {
        let is_live =
            |talk: &Talk| talk.heard.is_some_and(|heard| now.since(heard) < self.timing.silent);
        let others = self.talks.iter().filter(|(_, talk)| is_live(talk)).map(|(m, _)| m.clone());
        others.chain([self.me.clone()]).collect()
    }

    /// Whether turns matter.
    pub(super) fn is_contended(&self) -> bool {
        self.ledger.is_contended()
    }

    /// What time alone changes: once in a while.
    pub(super) fn tend(&mut self, members: &[MemberId], leads: bool, now: Nanos) {
        if !self.is_established {
            return;
        }
        let live = self.live(now);
        let missing: BTreeSet<MemberId> = members
            .iter()
            .chain(self.ledger.unknown())
            .filter(|member| !live.contains(*member))
            .cloned()
            .collect();
        // One alone gets no lease from anybody: this process leads, and all others listen to it.
        // Two may have each other.
        if leads && missing.len() == 1 {
            for member in &missing {
                if let Some(end) = self.leases.get(member) {
                    self.ledger.expire(member, *end, now);
                }
            }
        } else {
            self.ledger.renewed(now);
            let end = now.plus(self.timing.lease_at_most());
            self.leases.extend(missing.into_iter().map(|member| (member, end)));
        }
        self.ledger.look_again();
    }

    /// Divides what there is; whom it concerns is told by [`Self::grants`].
    pub(super) fn settle(&mut self, leads: bool, now: Nanos) {
        if !self.is_established {
            return;
        }
        let live = self.live(now);
        let quantum = u64::try_from(self.timing.turn.as_nanos()).unwrap_or(u64::MAX).max(1);
        let moment = Moment {
            now,
            lease: self.timing.lease_at_most(),
            leads,
            seq: self.seq + 1,
            turn: now.0 / quantum,
        };
        for (member, caps) in self.ledger.settle(&live, moment) {
            if member == self.me {
                for cap in &caps {
                    self.note(&cap.revision, &cap.endpoint);
                }
                self.own.push_back((moment.seq, caps));
            } else if let Some(talk) = self.talks.get_mut(&member) {
                let keyed = |cap: Cap| ((cap.revision, cap.endpoint), (cap.slots, cap.wanted));
                talk.caps.extend(caps.into_iter().map(keyed));
            }
        }
    }

    /// Slots for this process that may take effect. Another member has to have taken note, so that
    /// a later keeper knows of them; or nobody can be a keeper who takes an older note for the
    /// last: then this process leads, and all notes are too old.
    pub(super) fn own_ready(&mut self, leads: bool, has_others: bool, now: Nanos) -> Vec<Cap> {
        let are_old = self.notes.is_empty() || (leads && self.notes.values().all(|end| *end < now));
        let mut ready = Vec::new();
        while let Some((seq, _)) = self.own.front() {
            let is_noted = self.talks.values().any(|talk| talk.seen >= *seq);
            if has_others && !is_noted && !are_old {
                break;
            }
            if let Some((seq, caps)) = self.own.pop_front() {
                self.own_seen = seq;
                ready.extend(caps);
            }
        }
        ready
    }

    /// Whether slots for this process wait to be noted.
    pub(super) fn has_pending(&self) -> bool {
        !self.own.is_empty()
    }

    /// Messages that are due.
    pub(super) fn grants(&mut self, members: &[MemberId], now: Nanos) -> Vec<(MemberId, Message)> {
        if !self.is_established {
            return Vec::new();
        }
        if members != self.members {
            self.members = members.to_vec();
            self.talks.values_mut().for_each(|talk| talk.members_due = true);
        }
        let raised = self.own.back().map_or(0, |(seq, _)| *seq);
        let is_raised = raised > self.seq;
        let is_new = |talk: &Talk| !talk.granted_once && talk.heard.is_some();
        let own =
            if self.talks.values().any(is_new) { self.ledger.of(&self.me) } else { Vec::new() };
        let mut messages = Vec::new();
        for (member, talk) in &mut self.talks {
            let is_asked = talk.answer_due || !talk.caps.is_empty() || talk.members_due;
            if talk.heard.is_none() || !(is_asked || is_raised && !talk.own.is_empty()) {
                continue;
            }
            let is_first = !std::mem::replace(&mut talk.granted_once, true);
            self.seq += 1;
            let noted = std::mem::take(&mut talk.own);
            let grant = Grant {
                session: talk.session.clone(),
                seq: self.seq,
                answers: talk.number,
                caps: caps_of(std::mem::take(&mut talk.caps)),
                own: if is_first { own.clone() } else { caps_of(noted) },
                members: (is_first || talk.members_due).then(|| members.to_vec()),
                is_first,
            };
            (talk.answer_due, talk.members_due) = (false, false);
            talk.sent.push_back((self.seq, now));
            let end = now.plus(self.timing.lease_at_most());
            self.leases.insert(member.clone(), end);
            self.notes.insert(member.clone(), end);
            messages.push((member.clone(), Message::Grant(grant)));
        }
        messages
    }
}

fn caps_of(caps: Caps) -> Vec<Cap> {
    let cap = |((revision, endpoint), (slots, wanted))| Cap { revision, endpoint, slots, wanted };
    caps.into_iter().map(cap).collect()
}
