//! The owner of slots against a slow definition, with random operations.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::super::state::{Entry, Phase};
use super::*;

const REPLICAS: u16 = 4;

#[derive(Clone, Debug)]
enum Op {
    Admit,
    /// The permit at this place of all that are held ends.
    Release(usize),
    /// The waiter at this place in line leaves, having looked or not.
    GiveUp(usize),
    /// All that wait look.
    Look,
    /// The platform reports these replicas.
    Report(BTreeSet<u16>),
    /// The autoscaler wants so many.
    Plan(u32),
    Fail(u16),
    Probe(u16, bool),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => Just(Op::Admit),
        4 => any::<usize>().prop_map(Op::Release),
        2 => any::<usize>().prop_map(Op::GiveUp),
        2 => Just(Op::Look),
        2 => prop::collection::btree_set(1..=REPLICAS, 0..=REPLICAS as usize).prop_map(Op::Report),
        2 => (0..=u32::from(REPLICAS)).prop_map(Op::Plan),
        1 => (1..=REPLICAS).prop_map(Op::Fail),
        1 => (1..=REPLICAS, any::<bool>()).prop_map(|(replica, ok)| Op::Probe(replica, ok)),
    ]
}

/// What must be so, kept in the plainest way.
struct Model {
    room: Room,
    limit: u32,
    held: Vec<Permit>,
    /// In the order of arrival: those that wait, and in front of them those that were served and
    /// have not looked yet.
    line: VecDeque<Ticket>,
    reported: BTreeSet<u16>,
    now: Nanos,
}

impl Model {
    fn new(limit: u32) -> Self {
        let room = Room::new(limit);
        let now = room.now();
        Self {
            room,
            limit,
            held: Vec::new(),
            line: VecDeque::new(),
            reported: BTreeSet::new(),
            now,
        }
    }

    fn key(&self, replica: u16) -> Option<u64> {
        let state = self.room.revision.state.lock();
        let entry = state.entries.iter().find(|e| *e.endpoint.id() == id(replica));
        entry.map(|e| e.endpoint.key())
    }

    fn apply(&mut self, op: &Op) -> Result<(), TestCaseError> {
        self.now = self.now.plus(Duration::from_millis(1));
        let revision = Arc::clone(&self.room.revision);
        match op {
            Op::Admit => {
                let waited = revision.stats().waiting();
                match revision.admit(self.now, None) {
                    Admission::Granted(permit) => {
                        prop_assert_eq!(waited, 0, "a newcomer overtook");
                        self.held.push(permit);
                    }
                    Admission::Waiting(ticket) => self.line.push_back(ticket),
                    Admission::Refused(problem) => prop_assert!(false, "{problem:?}"),
                }
            }
            Op::Release(place) if !self.held.is_empty() => {
                drop(self.held.swap_remove(place % self.held.len()));
            }
            Op::GiveUp(place) if !self.line.is_empty() => {
                drop(self.line.remove(place % self.line.len()));
            }
            Op::Release(_) | Op::GiveUp(_) => {}
            Op::Look => self.look()?,
            Op::Report(replicas) => {
                let endpoints: Vec<_> = replicas.iter().map(|n| (id(*n), address(*n))).collect();
                revision.set_endpoints(&endpoints, self.now);
                self.reported.clone_from(replicas);
            }
            Op::Plan(desired) => {
                let plan = revision.plan(*desired, 0, self.now);
                prop_assert!(plan.replicas >= *desired);
                prop_assert!(plan.waits || plan.replicas == *desired);
                let listed: BTreeSet<_> = plan.spare.iter().collect();
                prop_assert_eq!(listed.len(), plan.spare.len(), "listed twice");
            }
            Op::Fail(replica) => {
                if let Some(key) = self.key(*replica) {
                    revision.connect_failed(key, self.now);
                }
            }
            Op::Probe(replica, ok) => {
                if let Some(key) = self.key(*replica) {
                    revision.probed(key, *ok, self.now);
                }
            }
        }
        self.check()
    }

    /// Those in front of the line were served, the others wait: never anybody in between.
    fn look(&mut self) -> Result<(), TestCaseError> {
        let unseen = self.line.len() - self.room.revision.stats().waiting() as usize;
        for _ in 0..unseen {
            let Some(mut ticket) = self.line.pop_front() else { break };
            match poll(&mut ticket) {
                Poll::Ready(Ok(permit)) => self.held.push(permit),
                other => prop_assert!(false, "the first in line was passed over: {other:?}"),
            }
        }
        for ticket in &mut self.line {
            prop_assert!(poll(ticket).is_pending(), "somebody was served out of turn");
        }
        Ok(())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let revision = &self.room.revision;
        prop_assert_eq!(revision.check(), Ok(()));
        let waiting = revision.stats().waiting();
        prop_assert_eq!(waiting, self.room.process.waiting());
        prop_assert!(waiting as usize <= self.line.len());
        // Requests per replica, whether or not it came and went meanwhile.
        let mut counted: BTreeMap<String, u32> = BTreeMap::new();
        for permit in &self.held {
            *counted.entry(replica_of(permit)).or_default() += 1;
        }
        let unseen = self.line.len() - waiting as usize;
        let takes = self.takes();
        let takes = |id: &EndpointId| takes.contains(id);
        let views = revision.endpoints();
        let shown: u32 = views.iter().map(|view| view.in_flight).sum();
        prop_assert_eq!(shown as usize, self.held.len() + unseen);
        for view in &views {
            prop_assert!(view.in_flight <= self.limit, "{view:?}");
            let known = counted.remove(&*view.id.0).unwrap_or_default();
            prop_assert!(known <= view.in_flight && view.in_flight <= known + unseen as u32);
            let free = view.in_flight < self.limit && takes(&view.id);
            prop_assert!(!free || waiting == 0, "{view:?} beside {waiting} that wait");
            prop_assert!(view.state != "stopping" || view.in_flight == 0, "{view:?}");
        }
        prop_assert!(counted.is_empty(), "forgotten: {counted:?}");
        for replica in &self.reported {
            prop_assert!(views.iter().any(|view| view.id == id(*replica)));
        }
        Ok(())
    }

    /// Endpoints that take requests: not on their way out, and set aside only beside others.
    fn takes(&self) -> BTreeSet<EndpointId> {
        let state = self.room.revision.state.lock();
        let stay = |e: &&Entry| matches!(e.phase, Phase::Ready | Phase::Victim { .. });
        let good = state.entries.iter().filter(stay).any(|e| e.ejected.is_none());
        let takes = state.entries.iter().filter(stay).filter(|e| !good || e.ejected.is_none());
        takes.map(|e| e.endpoint.id().clone()).collect()
    }

    /// All that is held ends, all that wait are served or leave: nothing is left.
    fn end(mut self) -> Result<(), TestCaseError> {
        let everything: BTreeSet<u16> = (1..=REPLICAS).collect();
        for replica in &everything {
            if let Some(key) = self.key(*replica) {
                self.room.revision.probed(key, true, self.now);
            }
        }
        self.apply(&Op::Report(everything))?;
        self.now = self.now.plus(Duration::from_secs(10));
        self.apply(&Op::Plan(u32::from(REPLICAS)))?;
        while !self.held.is_empty() || !self.line.is_empty() {
            let before = self.held.len() + self.line.len();
            self.look()?;
            self.held.pop();
            self.check()?;
            prop_assert!(self.held.len() + self.line.len() < before, "nobody is served");
        }
        prop_assert_eq!(self.room.shown().len(), usize::from(REPLICAS));
        prop_assert!(self.room.revision.endpoints().iter().all(|view| view.in_flight == 0));
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn slots_are_what_the_slow_definition_says(
        limit in 1_u32..4,
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let mut model = Model::new(limit);
        for op in &ops {
            model.apply(op)?;
        }
        model.end()?;
    }
}
