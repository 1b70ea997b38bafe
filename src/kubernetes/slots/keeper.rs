//! The part of the one that divides the slots during a term.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::lease::{Renewals, Tenure};
use super::super::peers::PeerId;
use super::births::{Ask, Births};
use super::heard::Heard;
use super::ledger::Ledger;
use super::message::{Cap, Message, Part, Report, Term};
use crate::model::{EndpointId, RevisionId};

/// A connection to a proxy that is to report, or has.
#[derive(Debug)]
struct Session {
    number: u64,
    /// Number of the last grant.
    granted: u64,
    /// Whether everything it holds was told on this connection.
    has_reported: bool,
    /// Revisions that it has named so far, while it tells everything.
    named: BTreeSet<RevisionId>,
}

/// Divides the slots while its term lasts.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) term: Term,
    sessions: BTreeMap<PeerId, Session>,
    /// Have told everything in this term: what they hold is booked.
    members: BTreeSet<PeerId>,
    /// May hold something by an earlier keeper, as that one says.
    expected: BTreeSet<PeerId>,
    /// Names of the pods in which a proxy could run, looked up after the term began.
    running: Option<BTreeSet<Arc<str>>>,
    is_complete: bool,
    ledger: Ledger,
    turn: u64,
    renewals: Arc<Renewals>,
    /// In which the term began; none = the Lease is another's already.
    tenure: Option<Tenure>,
    births: Births,
    heard: Heard,
    /// The last write of the Lease that was looked at, none = everything is to be looked at again.
    opened: Option<u64>,
    /// Whether there are endpoints for which the Lease is to be written.
    is_wanting: bool,
}

impl Keeper {
    pub(super) fn new(term: Term, renewals: Arc<Renewals>) -> Self {
        Self {
            tenure: renewals.tenure(term.number),
            renewals,
            births: Births::default(),
            heard: Heard::default(),
            opened: None,
            is_wanting: false,
            term,
            sessions: BTreeMap::new(),
            members: BTreeSet::new(),
            expected: BTreeSet::new(),
            running: None,
            is_complete: false,
            ledger: Ledger::default(),
            turn: 0,
        }
    }

    /// Whether it has to be looked up in which pods a proxy could run.
    pub(super) fn is_in_doubt(&self) -> bool {
        !self.is_complete
    }

    /// Whether this tenure of the Lease is not the one in which its term began.
    pub(super) fn is_of_another(&self, tenure: Option<Tenure>) -> bool {
        tenure.is_some() && tenure != self.tenure
    }

    /// Whether requests wait anywhere.
    pub(super) fn is_crowded(&self) -> bool {
        self.ledger.is_crowded()
    }

    /// Everybody that may hold something by this keeper or one before it.
    pub(super) fn gave_to(&self) -> impl Iterator<Item = &PeerId> {
        self.members.iter().chain(&self.expected)
    }

    /// A connection to a proxy: it is asked for what it holds.
    pub(super) fn joined(&mut self, who: &PeerId, session: u64) -> Message {
        self.ledger.begins_anew(who);
        let begun =
            Session { number: session, granted: 0, has_reported: false, named: BTreeSet::new() };
        self.sessions.insert(who.clone(), begun);
        Message::Lead { term: self.term.clone(), session }
    }

    /// A connection is over; `is_gone`: so is the process, and what it held.
    pub(super) fn lost(&mut self, who: &PeerId, is_gone: bool) {
        self.sessions.remove(who);
        if is_gone {
            self.members.remove(who);
            self.expected.remove(who);
            self.ledger.forget(who);
            self.judge();
        }
        self.ledger.look_again();
    }

    /// These are the pods in which a proxy could run, as of a moment after the term began.
    pub(super) fn looked(&mut self, running: BTreeSet<Arc<str>>) {
        // What does not run any more holds nothing.
        self.expected.retain(|peer| running.contains(peer.pod()));
        self.running = Some(running);
        self.judge();
    }

    /// Takes a report in.
    pub(super) fn reported(&mut self, who: &PeerId, report: &Report) {
        let Some(session) = self.sessions.get_mut(who) else { return };
        if report.term != self.term || report.session != session.number {
            return;
        }
        let begun = self.renewals.begun();
        for need in &report.needs {
            let known = |endpoint: &EndpointId| self.heard.take(endpoint, begun);
            if let Some(newest) = self.ledger.report(who, need, report.seen, known) {
                self.opened = None;
                // One that was begun since may be under way.
                self.is_wanting |= newest >= begun;
            }
        }
        if report.part == Part::Changes {
            return;
        }
        session.named.extend(report.needs.iter().map(|need| need.revision.clone()));
        if report.part == Part::Last {
            session.has_reported = true;
            self.ledger.holds_only(who, &std::mem::take(&mut session.named));
            let others = report.gave_to.iter().filter(|other| !self.members.contains(*other));
            self.expected.extend(others.cloned());
            self.members.insert(who.clone());
            self.ledger.look_again();
            self.judge();
        }
    }

    /// Whether everybody has reported who could hold something.
    fn judge(&mut self) {
        let Some(running) = &self.running else { return };
        // In a pod runs one process at a time: its name is as good as its life.
        let pods: BTreeSet<&str> = self.members.iter().map(PeerId::pod).collect();
        self.expected.retain(|peer| !pods.contains(peer.pod()));
        if self.expected.is_empty() && running.iter().all(|pod| pods.contains(&**pod)) {
            self.is_complete = true;
            (self.births, self.opened) = (Births::default(), None);
        }
    }

    /// What pods are to be listed for, while it is in doubt.
    pub(super) fn asks(&self) -> Option<Ask> {
        let about = self.births.ask(self.ledger.closed()).filter(|_| !self.is_complete)?;
        Some(Ask { number: self.term.number, about })
    }

    /// The revisions' pods, as of a moment after it asked about these.
    pub(super) fn listed(&mut self, about: BTreeSet<EndpointId>, pods: BTreeSet<EndpointId>) {
        if !self.is_complete {
            self.births.listed(about, pods);
            self.opened = None;
        }
    }

    /// There are these endpoints, or there will be: their pods are known. The Lease is written while
    /// they start, and not when they are there.
    pub(super) fn heard(&mut self, endpoints: Vec<EndpointId>) {
        let begun = self.renewals.begun();
        for endpoint in endpoints {
            self.is_wanting |= self.heard.hear(endpoint, begun);
        }
    }

    /// Whether the Lease is to be written, told once.
    pub(super) fn take_wanting(&mut self) -> bool {
        std::mem::take(&mut self.is_wanting)
    }

    /// The slots of an endpoint are this keeper's to give once a write of the Lease succeeded that
    /// was begun after it heard of it: the endpoint is older than the next one's term then. While it
    /// is in doubt, the endpoint must be younger than its own term, too.
    fn open(&mut self) {
        let write = self.tenure.and_then(|tenure| self.renewals.last(tenure));
        let Some(write) = write.filter(|write| self.opened != Some(*write)) else { return };
        self.opened = Some(write);
        let (births, is_complete) = (&self.births, self.is_complete);
        self.ledger.open(write, |endpoint| is_complete || births.is_born(endpoint));
    }

    /// Lets others come first where there is not enough for all.
    pub(super) fn next_turn(&mut self) {
        self.turn += 1;
        self.ledger.next_turn();
    }

    /// Divides anew what has changed. As long as somebody could hold what is not booked, nothing of
    /// such endpoints is moved either: a former keeper may take back what its members had when they
    /// died.
    pub(super) fn divide(&mut self) -> Vec<(PeerId, Message)> {
        self.open();
        let ready = self.sessions.iter().filter(|(_, session)| session.has_reported);
        let present = ready.map(|(who, session)| (who.clone(), session.granted + 1)).collect();
        let grants = self.ledger.plan(&present, self.turn);
        grants
            .into_iter()
            .filter_map(|(who, caps)| Some((who.clone(), self.grant(&who, caps)?)))
            .collect()
    }

    fn grant(&mut self, who: &PeerId, caps: Vec<Cap>) -> Option<Message> {
        let session = self.sessions.get_mut(who)?;
        session.granted += 1;
        let (session, number) = (session.number, session.granted);
        Some(Message::Grant { term: self.term.clone(), session, number, caps })
    }
}
