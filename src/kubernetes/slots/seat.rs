//! One proxy's seat at the table: holder always, keeper while its term lasts. Neither clock nor
//! network.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::lease::Renewals;
use super::super::peers::PeerId;
use super::Local;
use super::births::Ask;
use super::holder::Holder;
use super::keeper::Keeper;
use super::message::{Cap, Message, Need, Part, Report, Term};
use crate::model::{EndpointId, RevisionId};

/// Revisions that one message tells of at most.
const REVISIONS_EACH: usize = 200;
/// Every so many ticks it says how many requests there are where none waited.
const TICKS_EACH: u64 = 10;

/// What a proxy knows and does about slots.
#[derive(Debug)]
pub(super) struct Seat {
    me: PeerId,
    /// Its own writes of the Lease.
    renewals: Arc<Renewals>,
    holder: Holder,
    /// The latest term that it has heard of. What an earlier keeper says does not count.
    term: Option<Term>,
    /// The connection on which that term's keeper asked last, 0 = it has not, and the last grant on
    /// it.
    session: u64,
    seen: u64,
    keeper: Option<Keeper>,
    connected: BTreeSet<PeerId>,
    /// Revisions that were said to have requests, and whether some of them waited.
    said: BTreeMap<RevisionId, bool>,
    /// May hold something by the terms that this proxy kept.
    gave_to: BTreeSet<PeerId>,
    ticks: u64,
    /// Counts connections.
    sessions: u64,
    outgoing: Vec<(PeerId, Message)>,
    /// Between the two parts of this proxy.
    inner: Vec<Message>,
}

impl Seat {
    pub(super) fn new(me: PeerId, renewals: Arc<Renewals>) -> Self {
        Self {
            me,
            renewals,
            holder: Holder::default(),
            term: None,
            session: 0,
            seen: 0,
            keeper: None,
            connected: BTreeSet::new(),
            said: BTreeMap::new(),
            gave_to: BTreeSet::new(),
            ticks: 0,
            sessions: 0,
            outgoing: Vec::new(),
            inner: Vec::new(),
        }
    }

    /// Whether ticks are of any use.
    pub(super) fn is_busy(&self) -> bool {
        let is_crowded = self.keeper.as_ref().is_some_and(Keeper::is_crowded);
        is_crowded || !self.said.is_empty()
    }

    /// What is to be sent, in this order.
    pub(super) fn take_outgoing(&mut self) -> Vec<(PeerId, Message)> {
        std::mem::take(&mut self.outgoing)
    }

    /// The term that is kept here, if it has to be looked up in which pods a proxy could run.
    pub(super) fn doubts(&self) -> Option<u32> {
        let keeper = self.keeper.as_ref().filter(|keeper| keeper.is_in_doubt())?;
        Some(keeper.term.number)
    }

    /// It leads by the Lease of this number. Returned is the number that the Lease must exceed, if
    /// somebody has heard of a later one.
    pub(super) fn lead(&mut self, number: u32, local: &mut dyn Local) -> Option<u32> {
        let term = Term { number, keeper: self.me.clone() };
        match &self.term {
            Some(later) if *later > term => return Some(later.number),
            Some(same) if *same == term => return self.is_another(number).then_some(number),
            _ => {}
        }
        self.follow(term.clone());
        let mut keeper = Keeper::new(term, Arc::clone(&self.renewals));
        self.sessions += 1;
        self.inner.push(keeper.joined(&self.me, self.sessions));
        for peer in &self.connected {
            self.sessions += 1;
            self.outgoing.push((peer.clone(), keeper.joined(peer, self.sessions)));
        }
        self.keeper = Some(keeper);
        self.work(local);
        None
    }

    /// Whether this number of the Lease has come again, after somebody else's.
    fn is_another(&self, number: u32) -> bool {
        let tenure = self.renewals.tenure(number);
        self.keeper.as_ref().is_none_or(|keeper| keeper.is_of_another(tenure))
    }

    /// A later term: what was kept here is not any more.
    fn follow(&mut self, term: Term) {
        if let Some(keeper) = self.keeper.take() {
            self.gave_to.extend(keeper.gave_to().filter(|peer| **peer != self.me).cloned());
        }
        (self.term, self.session, self.seen) = (Some(term), 0, 0);
    }

    /// Connected to another proxy; nothing that was said before comes any more.
    pub(super) fn joined(&mut self, peer: &PeerId) {
        self.connected.insert(peer.clone());
        if let Some(keeper) = &mut self.keeper {
            self.sessions += 1;
            self.outgoing.push((peer.clone(), keeper.joined(peer, self.sessions)));
        }
    }

    /// A connection is over; `is_gone`: so is the process.
    pub(super) fn lost(&mut self, peer: &PeerId, is_gone: bool, local: &mut dyn Local) {
        self.connected.remove(peer);
        if is_gone {
            self.gave_to.remove(peer);
        }
        if let Some(keeper) = &mut self.keeper {
            keeper.lost(peer, is_gone);
        }
        self.work(local);
    }

    /// The pods in which a proxy could run, as of a moment after the term of this number began.
    pub(super) fn looked(
        &mut self,
        number: u32,
        running: BTreeSet<Arc<str>>,
        local: &mut dyn Local,
    ) {
        if let Some(keeper) = self.keeper.as_mut().filter(|keeper| keeper.term.number == number) {
            keeper.looked(running);
            self.work(local);
        }
    }

    /// What the revisions' pods are to be listed for.
    pub(super) fn asks(&self) -> Option<Ask> {
        self.keeper.as_ref()?.asks()
    }

    /// The revisions' pods, as of a moment after that was asked.
    pub(super) fn listed(&mut self, ask: Ask, pods: BTreeSet<EndpointId>, local: &mut dyn Local) {
        if let Some(keeper) = self.keeper.as_mut().filter(|k| k.term.number == ask.number) {
            keeper.listed(ask.about, pods);
            self.work(local);
        }
    }

    /// There are these pods of revisions whose slots are shared, ready or not.
    pub(super) fn heard(&mut self, endpoints: Vec<EndpointId>) {
        if let Some(keeper) = &mut self.keeper {
            keeper.heard(endpoints);
        }
    }

    /// Whether the Lease is to be written soon, told once.
    pub(super) fn take_wanting(&mut self) -> bool {
        self.keeper.as_mut().is_some_and(Keeper::take_wanting)
    }

    /// A write of the Lease succeeded.
    pub(super) fn renewed(&mut self, local: &mut dyn Local) {
        self.work(local);
    }

    /// Takes a message in. Returned is the number that the Lease must exceed, if the sender has
    /// heard of a later term than the one that is kept here.
    pub(super) fn received(
        &mut self,
        from: &PeerId,
        message: Message,
        local: &mut dyn Local,
    ) -> Option<u32> {
        let later = self.take_in(from, message, local);
        self.work(local);
        later
    }

    fn take_in(&mut self, from: &PeerId, message: Message, local: &mut dyn Local) -> Option<u32> {
        match message {
            Message::Lead { term, session } => {
                if let Some(later) = self.term.as_ref().filter(|later| **later > term) {
                    let behind = Message::Behind { term: later.clone() };
                    self.outgoing.push((from.clone(), behind));
                    return None;
                }
                if self.term.as_ref() != Some(&term) {
                    self.follow(term);
                }
                // One of a former connection may come late.
                if session > self.session {
                    self.asked(session, local);
                }
            }
            Message::Behind { term } => {
                let kept = self.keeper.as_ref().map(|keeper| &keeper.term);
                return kept.filter(|kept| **kept < term).map(|_| term.number);
            }
            Message::Report(report) => {
                if let Some(keeper) = &mut self.keeper {
                    keeper.reported(from, &report);
                }
            }
            Message::Grant { term, session, number, caps } => {
                if self.term.as_ref() == Some(&term) && self.session == session {
                    self.granted(number, &caps, local);
                }
            }
        }
        None
    }

    /// The keeper asks for everything.
    fn asked(&mut self, session: u64, local: &mut dyn Local) {
        (self.session, self.seen) = (session, 0);
        let mut needs = self.holder.all(local);
        loop {
            let rest = needs.split_off(needs.len().min(REVISIONS_EACH));
            let part = if rest.is_empty() { Part::Last } else { Part::More };
            self.report(part, needs);
            if rest.is_empty() {
                return;
            }
            needs = rest;
        }
    }

    /// Says what has changed.
    fn tell(&mut self, changed: impl IntoIterator<Item = RevisionId>, local: &mut dyn Local) {
        let needs: Vec<_> = changed.into_iter().map(|id| self.holder.look(&id, local)).collect();
        if !needs.is_empty() {
            self.report(Part::Changes, needs);
        }
    }

    fn report(&mut self, part: Part, needs: Vec<Need>) {
        for need in &needs {
            self.said.remove(&need.revision);
            let is_used = need.endpoints.iter().any(|line| line.used > 0);
            if need.waiting > 0 || is_used {
                self.said.insert(need.revision.clone(), need.waiting > 0);
            }
        }
        let Some(term) = self.term.clone().filter(|_| self.session > 0) else { return };
        let gave_to = match part {
            Part::Last => self.gave_to.iter().cloned().collect(),
            Part::Changes | Part::More => Vec::new(),
        };
        let keeper = term.keeper.clone();
        let report = Report { term, session: self.session, seen: self.seen, part, gave_to, needs };
        if keeper == self.me {
            self.inner.push(Message::Report(report));
        } else {
            self.outgoing.push((keeper, Message::Report(report)));
        }
    }

    /// These revisions are to be looked at.
    pub(super) fn poked(
        &mut self,
        revisions: impl IntoIterator<Item = RevisionId>,
        local: &mut dyn Local,
    ) {
        self.tell(revisions, local);
        self.work(local);
    }

    /// Says what nobody pokes for: that requests wait no longer, and, now and then, how many there
    /// are. Lets others come first where there is not enough for all.
    pub(super) fn tick(&mut self, local: &mut dyn Local) {
        self.ticks += 1;
        let is_due = self.ticks.is_multiple_of(TICKS_EACH);
        let due = self.said.iter().filter(|(_, waited)| is_due || **waited);
        let due: Vec<_> = due.map(|(id, _)| id.clone()).collect();
        self.tell(due, local);
        if let Some(keeper) = &mut self.keeper {
            keeper.next_turn();
        }
        self.work(local);
    }

    /// Has the keeper divide, and its own part take what it gets, until nothing is left to do.
    fn work(&mut self, local: &mut dyn Local) {
        loop {
            for message in std::mem::take(&mut self.inner) {
                let me = self.me.clone();
                // No term is later than the one that it keeps.
                self.take_in(&me, message, local);
            }
            let Some(keeper) = &mut self.keeper else { return };
            for (who, grant) in keeper.divide() {
                if who == self.me {
                    self.inner.push(grant);
                } else {
                    self.outgoing.push((who, grant));
                }
            }
            if self.inner.is_empty() {
                return;
            }
        }
    }

    fn granted(&mut self, number: u64, caps: &[Cap], local: &mut dyn Local) {
        self.seen = number;
        let changed = self.holder.grant(caps);
        self.tell(changed, local);
    }
}
