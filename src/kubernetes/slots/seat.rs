//! One process among the proxies: what it holds, and whether it keeps the ledger.

mod term;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::model::{EndpointId, Nanos, RevisionId};

use super::Timing;
use super::holder::{Holder, OwnSlots, Seen};
use super::keeper::Keeper;
use super::message::{Ballot, Cap, Grant, MemberId, Message, Past, Report, Session};

/// What happens to it.
#[derive(Clone, Debug)]
pub enum Event {
    /// All other proxies that may run, by the API.
    Listed(Vec<Arc<str>>),
    /// A connection stands.
    Up(MemberId),
    /// It does not any more. `dead`: that process has ended for certain.
    Down {
        /// Whose.
        member: MemberId,
        /// See there.
        dead: bool,
    },
    /// All processes of a proxy have ended for certain.
    Gone(Arc<str>),
    /// A message, over the connection that stands.
    Message(MemberId, Message),
    /// A revision has other endpoints, or waits for slots, or got some back.
    Changed(RevisionId),
}

/// What is asked of a revision of this process; it answers with what it is afterwards.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// Nothing.
    Look,
    /// From now on these slots are its own on these endpoints.
    Caps(&'a [OwnSlots]),
    /// From now on it has only what it is given; what it has, it keeps: all.
    Lease,
    /// From now on everything is its own.
    Everything,
}

#[derive(Clone, Copy, Debug, Default)]
struct Member {
    connected: bool,
    dead: Option<Nanos>,
}

/// See the module.
#[derive(Debug)]
pub struct Seat {
    me: MemberId,
    timing: Timing,
    listed: Option<BTreeSet<Arc<str>>>,
    members: BTreeMap<MemberId, Member>,
    leads: bool,
    /// No other proxy: no lease, no ledger.
    has_everything: bool,
    promised: Option<Ballot>,
    /// The highest number heard of.
    heard: u64,
    session: Option<Session>,
    accepted: Option<Ballot>,
    record: BTreeMap<(RevisionId, EndpointId), u32>,
    named: Vec<MemberId>,
    former_ledger: Vec<(MemberId, Vec<Cap>)>,
    /// Until when what is held may be used.
    until: Nanos,
    number: u64,
    sent: VecDeque<(u64, Nanos)>,
    seen: u64,
    /// A session began: tell everything, and of the terms before.
    past_due: Option<Past>,
    ack_due: bool,
    keeper: Option<Keeper>,
    holder: Holder,
    changed: BTreeSet<RevisionId>,
    renew_at: Nanos,
    retry_at: Nanos,
    outbox: Vec<(MemberId, Message)>,
}

impl Seat {
    /// A process that knows nothing yet, and may use nothing.
    pub fn new(me: MemberId, timing: Timing) -> Self {
        Self {
            me,
            timing,
            listed: None,
            members: BTreeMap::new(),
            leads: false,
            has_everything: false,
            promised: None,
            heard: 0,
            session: None,
            accepted: None,
            record: BTreeMap::new(),
            named: Vec::new(),
            former_ledger: Vec::new(),
            until: Nanos(0),
            number: 0,
            sent: VecDeque::new(),
            seen: 0,
            past_due: None,
            ack_due: false,
            keeper: None,
            holder: Holder::default(),
            changed: BTreeSet::new(),
            renew_at: Nanos(0),
            retry_at: Nanos(0),
            outbox: Vec::new(),
        }
    }

    /// Whether it leads by the Lease at this moment: said before each [`Self::turn`].
    pub fn lead(&mut self, leads: bool) {
        self.leads = leads;
    }

    /// Until when slots may be used; none = there is no other proxy, everything may be.
    pub fn until(&self) -> Option<Nanos> {
        (!self.has_everything).then_some(self.until)
    }

    /// Who keeps the ledger, as far as is known.
    pub fn keeper(&self) -> Option<&MemberId> {
        if self.has_everything {
            return Some(&self.me);
        }
        match &self.keeper {
            Some(keeper) => keeper.is_established.then_some(&self.me),
            None => self.promised.as_ref().map(|ballot| &ballot.keeper),
        }
    }

    /// When [`Self::turn`] is due though nothing happens.
    pub fn wake(&self, now: Nanos) -> Nanos {
        let is_busy = |keeper: &Keeper| {
            !keeper.is_established || keeper.is_contended() || keeper.has_pending()
        };
        if self.keeper.as_ref().is_some_and(is_busy) {
            return self.renew_at.min(now.plus(self.timing.turn));
        }
        self.renew_at
    }

    /// Takes something in; what follows from it is done by [`Self::turn`].
    pub fn take(&mut self, event: Event, now: Nanos) {
        match event {
            Event::Listed(peers) => self.listed = Some(peers.into_iter().collect()),
            Event::Up(member) => self.up(member, now),
            Event::Down { member, dead } => self.down(&member, dead, now),
            Event::Gone(peer) => {
                let of_peer: Vec<_> =
                    self.members.keys().filter(|member| member.peer == peer).cloned().collect();
                of_peer.iter().for_each(|member| self.down(member, true, now));
                if let Some(keeper) = &mut self.keeper {
                    keeper.forget(&MemberId::new(peer, 0));
                }
            }
            Event::Message(from, message) => self.message(&from, message, now),
            Event::Changed(revision) => {
                self.changed.insert(revision);
            }
        }
    }

    fn up(&mut self, member: MemberId, now: Nanos) {
        // One process runs there at a time.
        let older = |(other, state): &(&MemberId, &Member)| {
            other.peer == member.peer && **other != member && state.dead.is_none()
        };
        let older: Vec<_> =
            self.members.iter().filter(older).map(|(other, _)| other.clone()).collect();
        older.iter().for_each(|other| self.down(other, true, now));
        self.members.insert(member.clone(), Member { connected: true, dead: None });
        if let Some(keeper) = &mut self.keeper {
            let message = keeper.collect(&member);
            self.outbox.push((member, message));
        }
    }

    fn down(&mut self, member: &MemberId, dead: bool, now: Nanos) {
        let Some(state) = self.members.get_mut(member) else { return };
        state.connected = false;
        if dead && state.dead.is_none() {
            state.dead = Some(now);
        }
        if let Some(keeper) = &mut self.keeper {
            keeper.lost(member);
        }
        if self.session.as_ref().is_some_and(|session| session.ballot.keeper == *member) {
            self.session = None;
            self.past_due = None;
        }
    }

    fn message(&mut self, from: &MemberId, message: Message, now: Nanos) {
        match message {
            Message::Collect(session) => self.promise(from, session),
            Message::Grant(grant) => self.granted(from, grant),
            Message::Report(report) => {
                if let Some(keeper) = &mut self.keeper {
                    keeper.report(from, report, now);
                }
            }
            Message::Fenced(ballot) => {
                self.heard = self.heard.max(ballot.number);
                if self.keeper.as_ref().is_some_and(|keeper| keeper.ballot < ballot) {
                    self.step_down();
                    self.retry_at = now.plus(self.timing.retry);
                }
            }
        }
    }

    /// Keeps the ledger no longer; what is held stays held.
    fn step_down(&mut self) {
        let Some(keeper) = self.keeper.take() else { return };
        if keeper.is_established {
            self.former_ledger = keeper.ledger_of(self.members.keys().cloned());
            self.named = self.members.keys().cloned().collect();
            self.record.clear();
            self.accepted = Some(keeper.ballot);
        }
    }

    fn promise(&mut self, from: &MemberId, session: Session) {
        let ballot = &session.ballot;
        self.heard = self.heard.max(ballot.number);
        if let Some(promised) = &self.promised
            && ballot < promised
        {
            return self.outbox.push((from.clone(), Message::Fenced(promised.clone())));
        }
        if ballot.keeper != *from || *from == self.me {
            return;
        }
        let is_old = |known: &Session| *known > session;
        if self.session.as_ref().is_some_and(is_old) {
            return;
        }
        self.step_down();
        self.past_due = Some(self.past());
        self.promised = Some(session.ballot.clone());
        self.session = Some(session);
        self.seen = 0;
    }

    fn past(&self) -> Past {
        let cap = |((revision, endpoint), slots): (&(RevisionId, EndpointId), &u32)| Cap {
            revision: revision.clone(),
            endpoint: endpoint.clone(),
            slots: *slots,
            wanted: false,
        };
        let is_own = self.accepted.as_ref().is_some_and(|ballot| ballot.keeper == self.me);
        Past {
            accepted: self.accepted.clone(),
            promised: self.promised.clone(),
            members: self.named.clone(),
            // Filled in when it is sent.
            is_fresh: false,
            record: self.record.iter().map(cap).collect(),
            ledger: if is_own { self.former_ledger.clone() } else { Vec::new() },
        }
    }

    fn granted(&mut self, from: &MemberId, grant: Grant) {
        if self.session.as_ref() != Some(&grant.session) {
            if let Some(promised) = &self.promised
                && grant.session.ballot < *promised
            {
                self.outbox.push((from.clone(), Message::Fenced(promised.clone())));
            }
            return;
        }
        self.accepted = Some(grant.session.ballot);
        self.former_ledger.clear();
        self.seen = grant.seq;
        while let Some((number, at)) = self.sent.front().copied() {
            if number > grant.answers {
                break;
            }
            self.sent.pop_front();
            self.until = self.until.max(at.plus(self.timing.lease));
        }
        if grant.is_first {
            self.record.clear();
        }
        self.ack_due |= !grant.own.is_empty();
        for cap in grant.own {
            let key = (cap.revision, cap.endpoint);
            if cap.slots == 0 {
                self.record.remove(&key);
            } else {
                self.record.insert(key, cap.slots);
            }
        }
        if let Some(members) = grant.members {
            self.named = members;
        }
        self.holder.grant(&grant.caps);
    }

    /// Does all that is due; what is to be sent. `change` reaches the revisions of this process,
    /// `all` names those with a limit.
    pub fn turn(
        &mut self,
        now: Nanos,
        change: &mut impl FnMut(&RevisionId, Change<'_>) -> Option<Seen>,
        all: &mut impl FnMut() -> Vec<RevisionId>,
    ) -> Vec<(MemberId, Message)> {
        self.bury(now);
        if self.is_alone() {
            if !self.has_everything {
                self.take_everything(change, all);
            }
            self.changed.clear();
            self.renew_at = now.plus(self.timing.renew);
            return std::mem::take(&mut self.outbox);
        }
        if self.has_everything {
            self.share(now, change, all);
        }
        self.govern(now);
        for id in std::mem::take(&mut self.changed) {
            let seen = change(&id, Change::Look);
            self.holder.observe(&id, seen.as_ref(), false);
        }
        let is_renewal = now >= self.renew_at;
        if is_renewal {
            self.renew_at = now.plus(self.timing.renew);
            for id in self.holder.holding() {
                let seen = change(&id, Change::Look);
                self.holder.observe(&id, seen.as_ref(), false);
            }
            self.holder.return_idle();
        }
        if now >= self.until {
            self.holder.drop_idle();
        }
        self.apply(change);
        match &self.keeper {
            Some(_) => self.keep(now, is_renewal, change),
            None => self.report(now, is_renewal),
        }
        std::mem::take(&mut self.outbox)
    }

    /// What the keeper wished is put in force.
    fn apply(&mut self, change: &mut impl FnMut(&RevisionId, Change<'_>) -> Option<Seen>) {
        // What nobody needs after all goes back at once, and then all is as wished.
        for _ in 0..3 {
            for (id, caps) in self.holder.take_wishes() {
                let seen = change(&id, Change::Caps(&caps));
                self.holder.applied(&id, &caps, seen.as_ref());
            }
        }
    }

    fn report(&mut self, now: Nanos, is_renewal: bool) {
        let Some(session) = self.session.clone() else { return };
        let past = self.past_due.take();
        let is_due = is_renewal || self.ack_due || past.is_some() || self.holder.is_due();
        if !is_due {
            return;
        }
        self.ack_due = false;
        self.number += 1;
        self.sent.push_back((self.number, now));
        let is_fresh = now < self.until;
        let report = Report {
            number: self.number,
            seen: self.seen,
            needs: self.holder.needs(past.is_some(), is_renewal),
            past: past.map(|past| Box::new(Past { is_fresh, ..past })),
            session: session.clone(),
        };
        self.outbox.push((session.ballot.keeper, Message::Report(report)));
    }

    fn keep(
        &mut self,
        now: Nanos,
        is_renewal: bool,
        change: &mut impl FnMut(&RevisionId, Change<'_>) -> Option<Seen>,
    ) {
        let has_others = !self.members.is_empty();
        let members: Vec<_> = self.members.keys().cloned().chain([self.me.clone()]).collect();
        let Some(mut keeper) = self.keeper.take() else { return };
        if is_renewal {
            keeper.tend(&members, self.leads, now);
        }
        // Granted, put in force and told again: what is left over after that is for the next turn.
        for round in 0..3 {
            keeper.report_own(&self.holder.needs(false, is_renewal && round == 0), false, now);
            keeper.settle(self.leads, now);
            let ready = keeper.own_ready(self.leads, has_others, now);
            if ready.is_empty() {
                break;
            }
            self.holder.grant(&ready);
            self.apply(change);
        }
        self.outbox.extend(keeper.grants(&members, now));
        self.until = self.until.max(keeper.supported.unwrap_or_default());
        if self.leads {
            self.until = self.until.max(now.plus(self.timing.lease));
        }
        self.keeper = Some(keeper);
    }

    /// Processes that have ended, and whose time is over, are no members.
    fn bury(&mut self, now: Nanos) {
        let is_over =
            |state: &Member| state.dead.is_some_and(|dead| now >= dead.plus(self.timing.dead));
        let over: Vec<_> =
            self.members.iter().filter(|(_, s)| is_over(s)).map(|(m, _)| m.clone()).collect();
        for member in over {
            self.members.remove(&member);
            if let Some(keeper) = &mut self.keeper {
                keeper.forget(&member);
            }
        }
    }
}
