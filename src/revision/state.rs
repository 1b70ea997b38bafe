//! The owner of slots and queue.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::model::{
    ContainerConcurrency, EndpointId, Problem, Reason, RevisionId, RevisionSpec, Workload,
};
use crate::stats::{Nanos, Pokes, RevisionStats};

use super::cold::{ColdStart, ShownWaiting};
use super::endpoint::{EndpointSet, EndpointState};
use super::meter::{Limit, Meter};
use super::permit::{Admission, Grant, Permit, Ticket};
use super::queue::{Full, Outcome, ProcessQueue, Waiters};
use super::renewal::Renewal;

/// How far an endpoint is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Takes requests.
    Ready,
    /// Chosen to go: nothing new, unless new load takes it back.
    Victim { since: Nanos },
    /// The platform is told to stop it.
    Condemned { since: Nanos },
    /// No longer reported; kept while it has requests.
    Draining { since: Nanos },
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) endpoint: Arc<EndpointState>,
    /// Permits out.
    pub(super) held: u32,
    pub(super) phase: Phase,
    pub(super) limit: Limit,
    /// Set aside until then; the duration of the present ejection.
    pub(super) ejected: Option<(Nanos, Duration)>,
    pub(super) probing: bool,
    pub(super) renewal: Renewal,
    /// Requests that other proxies have on it, as they told last.
    pub(super) elsewhere: u32,
}

impl Entry {
    /// Requests on it, with and without a slot.
    pub(super) fn load(&self) -> u32 {
        self.held + self.endpoint.free_load()
    }

    /// With those of other proxies.
    pub(super) fn load_of_all(&self) -> u32 {
        self.load().saturating_add(self.elsewhere)
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) entries: Vec<Entry>,
    pub(super) waiters: Waiters,
    /// What other proxies have on each endpoint.
    pub(super) elsewhere: BTreeMap<Arc<str>, Vec<(EndpointId, u32)>>,
    removed: bool,
    pub(super) rng: Option<fastrand::Rng>,
}

impl State {
    /// Where an endpoint's entry is: almost always where it was when a slot was last taken.
    fn index_of(&self, endpoint: &EndpointState) -> Option<usize> {
        let is = |entry: &Entry| entry.endpoint.key() == endpoint.key();
        let place = endpoint.place();
        match self.entries.get(place) {
            Some(entry) if is(entry) => Some(place),
            _ => self.entries.iter().position(is),
        }
    }
}

/// What all revisions of a process share.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Number of worker threads.
    pub workers: usize,
    /// The bound of waiting requests.
    pub process: Arc<ProcessQueue>,
    /// Told of revisions whose victims became empty.
    pub replans: Arc<Pokes>,
    /// Told of revisions whose slots are to be looked at, where they are shared with other proxies;
    /// then a revision has none of an endpoint until it is given some.
    pub shares: Option<Arc<Pokes>>,
}

/// Live state of one revision.
#[derive(Debug)]
pub struct Revision {
    spec: ArcSwap<RevisionSpec>,
    stats: Arc<RevisionStats>,
    fixed_limit: Option<u32>,
    process: Arc<ProcessQueue>,
    workers: usize,
    open: ArcSwap<EndpointSet>,
    /// Changes whenever `open` does, so that workers notice with one load.
    version: AtomicU64,
    pub(super) state: Mutex<State>,
    pub(super) last_cold_start_ms: AtomicU64,
    pub(super) last_cold_start: Mutex<Option<ColdStart>>,
    /// Sums over all cold starts: to the running program, from there to ready.
    pub(super) cold_start_ns: [AtomicU64; 2],
    pub(super) shown_waiting: ShownWaiting,
    replans: Arc<Pokes>,
    replan_asked: AtomicBool,
    /// Only of a revision with a limit.
    pub(super) shares: Option<Arc<Pokes>>,
    pub(super) shares_told: AtomicBool,
    pub(super) ejections: AtomicU32,
}

impl Revision {
    /// A revision without endpoints. `seed` makes its picks reproducible.
    pub fn new(
        spec: Arc<RevisionSpec>,
        stats: Arc<RevisionStats>,
        setting: &Setting,
        seed: u64,
    ) -> Arc<Self> {
        let fixed_limit = match spec.container_concurrency {
            ContainerConcurrency::Unlimited => None,
            ContainerConcurrency::AtMost(limit) => Some(limit.get()),
        };
        let state = State { rng: Some(fastrand::Rng::with_seed(seed)), ..State::default() };
        Arc::new(Self {
            spec: ArcSwap::new(spec),
            stats,
            fixed_limit,
            process: Arc::clone(&setting.process),
            workers: setting.workers,
            open: ArcSwap::default(),
            version: AtomicU64::new(1),
            state: Mutex::new(state),
            last_cold_start_ms: AtomicU64::new(0),
            last_cold_start: Mutex::default(),
            cold_start_ns: Default::default(),
            shown_waiting: ShownWaiting::default(),
            replans: Arc::clone(&setting.replans),
            replan_asked: AtomicBool::new(false),
            shares: setting.shares.clone().filter(|_| fixed_limit.is_some()),
            shares_told: AtomicBool::new(false),
            ejections: AtomicU32::new(0),
        })
    }

    /// Its name.
    pub fn id(&self) -> &RevisionId {
        self.stats.revision()
    }

    /// Its present settings.
    pub fn spec(&self) -> Arc<RevisionSpec> {
        self.spec.load_full()
    }

    /// Takes new settings; only those that are live may differ.
    pub fn set_spec(&self, spec: Arc<RevisionSpec>) {
        self.spec.store(spec);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// What is measured about it.
    pub fn stats(&self) -> &Arc<RevisionStats> {
        &self.stats
    }

    /// `containerConcurrency`, if there is a limit.
    pub fn limit(&self) -> Option<u32> {
        self.fixed_limit
    }

    /// Changes whenever [`Self::open`] or the settings may have changed.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Endpoints that take requests without asking the queue.
    pub fn open(&self) -> Arc<EndpointSet> {
        self.open.load_full()
    }

    /// Asks for a slot: granted, queued or refused. Also for a retry, which then queues anew.
    /// `avoid` is an endpoint that just failed; it is taken only if there is no other.
    pub fn admit(self: &Arc<Self>, now: Nanos, avoid: Option<u64>) -> Admission {
        if let Workload::Unavailable(problem) = &self.spec.load().workload {
            return Admission::Refused(problem.clone());
        }
        let mut state = self.state.lock();
        if state.removed {
            return Admission::Refused(removed());
        }
        if state.waiters.is_empty()
            && let Some(grant) = self.take_slot(&mut state, now, avoid)
        {
            drop(state);
            return Admission::Granted(Permit::new(Arc::clone(self), grant));
        }
        let joined = state.waiters.join(&self.process);
        self.stats.set_waiting(state.waiters.len());
        drop(state);
        self.tell_of_slots();
        match joined {
            Ok((number, outcome)) => {
                #[cfg(planted)]
                if super::planted::is(super::planted::Bug::NoPoke) {
                    return Admission::Waiting(Ticket::new(Arc::clone(self), number, outcome));
                }
                self.stats.poke();
                Admission::Waiting(Ticket::new(Arc::clone(self), number, outcome))
            }
            Err(full) => Admission::Refused(self.full(full)),
        }
    }

    fn full(&self, full: Full) -> Problem {
        let (bound, whose) = match full {
            Full::Revision(bound) => (bound, "this revision"),
            Full::Process(bound) => (bound, "this process"),
        };
        Problem::new(
            Reason::QueueFull,
            format!("{bound} requests wait for {whose} already; try again later"),
        )
    }

    /// A permit ended.
    pub(super) fn release(&self, endpoint: &Arc<EndpointState>, answered: bool) {
        let now = self.stats.clock().now();
        let mut state = self.state.lock();
        let Some(index) = state.index_of(endpoint) else { return };
        let entry = &mut state.entries[index];
        entry.held = entry.held.saturating_sub(1);
        if answered && let Limit::Metered(meter) = &mut entry.limit {
            meter.answered(now);
        }
        let empty = entry.held == 0;
        let left_over = self.is_left_over(entry);
        match entry.phase {
            Phase::Draining { .. } if empty && entry.load() == 0 => {
                state.entries.swap_remove(index);
            }
            Phase::Victim { .. } if empty => self.ask_replan(),
            Phase::Ready
            | Phase::Victim { .. }
            | Phase::Condemned { .. }
            | Phase::Draining { .. } => {}
        }
        #[cfg(planted)]
        if super::planted::is(super::planted::Bug::LostWakeup) {
            return;
        }
        self.dispatch(state, now);
        if left_over {
            self.tell_of_slots();
        }
    }

    /// A request without a slot ended on an endpoint that is to go.
    pub fn free_left(&self, endpoint: &EndpointState) {
        let mut state = self.state.lock();
        if let Some(index) = state.index_of(endpoint)
            && state.entries[index].load() == 0
        {
            if matches!(state.entries[index].phase, Phase::Draining { .. }) {
                state.entries.swap_remove(index);
            }
            drop(state);
            self.ask_replan();
        }
    }

    /// A victim is empty: the count to state has changed.
    pub(super) fn ask_replan(&self) {
        if !self.replan_asked.swap(true, Ordering::AcqRel) {
            self.replans.push(self.id().clone());
        }
    }

    /// The plan is made anew now; later changes ask again.
    pub fn take_replan(&self) -> bool {
        self.replan_asked.swap(false, Ordering::AcqRel)
    }

    pub(super) fn give_up(&self, number: u64) -> bool {
        let mut state = self.state.lock();
        let left = state.waiters.give_up(number, &self.process);
        self.stats.set_waiting(state.waiters.len());
        left
    }

    /// Hands free slots to waiters in order. Senders are used after the lock is released: a
    /// waiter that left meanwhile gives its slot back, which locks again.
    pub(super) fn dispatch(&self, mut state: parking_lot::MutexGuard<'_, State>, now: Nanos) {
        let mut served: Vec<(oneshot::Sender<Outcome>, Grant)> = Vec::new();
        while !state.waiters.is_empty() {
            let Some(grant) = self.take_slot(&mut state, now, None) else { break };
            match state.waiters.serve(&self.process) {
                Some(sender) => served.push((sender, grant)),
                None => break,
            }
        }
        self.warm_up(&mut state);
        self.stats.set_waiting(state.waiters.len());
        drop(state);
        for (sender, grant) in served {
            if let Err(Ok(grant)) = sender.send(Ok(grant)) {
                self.release(&grant.endpoint, false);
            }
        }
    }

    /// With nobody waiting, endpoints without a limit that proved themselves are warm.
    fn warm_up(&self, state: &mut State) {
        if self.fixed_limit.is_some() || !state.waiters.is_empty() {
            return;
        }
        let mut warmed = false;
        for entry in &mut state.entries {
            if let Limit::Metered(meter) = entry.limit
                && meter.is_proven()
            {
                entry.limit = Limit::Open;
                warmed = true;
            }
        }
        if warmed {
            self.publish(&state.entries);
        }
    }

    /// Looks after what only time changes: meters grow, and freed slots go to waiters.
    pub fn tick(&self, now: Nanos) {
        let state = self.state.lock();
        if state.waiters.is_empty() {
            return;
        }
        self.dispatch(state, now);
    }

    /// The platform reported all ready endpoints.
    pub fn set_endpoints(&self, endpoints: &[(EndpointId, std::net::SocketAddr)], now: Nanos) {
        let target = self.spec.load().slots_per_replica();
        let mut state = self.state.lock();
        let cold = !state.waiters.is_empty();
        state.entries.retain_mut(|entry| {
            let reported = endpoints.iter().any(|(id, address)| {
                id == entry.endpoint.id() && *address == entry.endpoint.address()
            });
            match (reported, entry.phase) {
                #[cfg(planted)]
                (false, _) if super::planted::is(super::planted::Bug::FlapForgets) => {
                    return false;
                }
                (true, Phase::Draining { .. }) => entry.phase = Phase::Ready,
                (false, _) if entry.load() == 0 => return false,
                (false, Phase::Draining { .. }) => {}
                // Its time is over already.
                (false, Phase::Condemned { .. }) => {
                    entry.phase = Phase::Draining { since: Nanos(0) };
                }
                (false, _) => entry.phase = Phase::Draining { since: now },
                (true, Phase::Ready | Phase::Victim { .. } | Phase::Condemned { .. }) => {}
            }
            entry.endpoint.set_leaving(entry.phase != Phase::Ready);
            true
        });
        for (id, address) in endpoints {
            let known = state
                .entries
                .iter()
                .any(|e| e.endpoint.id() == id && e.endpoint.address() == *address);
            if !known {
                let limit = match self.fixed_limit {
                    Some(_) if self.shares.is_some() => Limit::Fixed(0),
                    Some(limit) => Limit::Fixed(limit),
                    None if cold => Limit::Metered(Meter::new(target)),
                    None => Limit::Open,
                };
                state.entries.push(Entry {
                    endpoint: EndpointState::new(id.clone(), *address, self.workers),
                    held: 0,
                    phase: Phase::Ready,
                    limit,
                    ejected: None,
                    probing: false,
                    renewal: Renewal::None,
                    elsewhere: 0,
                });
            }
        }
        state.count_elsewhere();
        self.publish(&state.entries);
        self.dispatch(state, now);
        self.tell_of_slots();
    }

    /// Publishes the endpoints that take requests without asking.
    pub(super) fn publish(&self, entries: &[Entry]) {
        let ejected = entries.iter().filter(|e| e.ejected.is_some()).count();
        self.ejections.store(u32::try_from(ejected).unwrap_or(u32::MAX), Ordering::Relaxed);
        let open: Vec<_> = if self.fixed_limit.is_some() {
            Vec::new()
        } else {
            let all_aside = all_aside(entries);
            entries
                .iter()
                .filter(|e| e.phase == Phase::Ready && (e.ejected.is_none() || all_aside))
                .filter(|e| e.limit == Limit::Open)
                .map(|e| Arc::clone(&e.endpoint))
                .collect()
        };
        self.open.store(Arc::new(EndpointSet { open }));
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Starting cannot succeed for now: all that wait are told.
    pub fn fail_waiters(&self, problem: &Problem) -> usize {
        let mut state = self.state.lock();
        let senders = state.waiters.dismiss(&self.process);
        self.stats.set_waiting(0);
        drop(state);
        let count = senders.len();
        for sender in senders {
            // A waiter that left meanwhile needs no answer.
            drop(sender.send(Err(problem.clone())));
        }
        count
    }

    /// The revision is gone: waiters get 404, nothing new is taken, endpoints drain.
    pub fn remove(&self) {
        let mut state = self.state.lock();
        state.removed = true;
        for entry in &mut state.entries {
            if entry.phase == Phase::Ready {
                entry.phase = Phase::Victim { since: self.stats.clock().now() };
                entry.endpoint.set_leaving(true);
            }
        }
        self.publish(&state.entries);
        drop(state);
        self.fail_waiters(&removed());
    }

    /// The revision is back before its replicas have gone: those that are not told to stop yet
    /// serve on, with their requests counted throughout.
    pub fn revive(&self, spec: Arc<RevisionSpec>) {
        self.set_spec(spec);
        let mut state = self.state.lock();
        state.removed = false;
        for entry in &mut state.entries {
            if matches!(entry.phase, Phase::Victim { .. }) {
                entry.phase = Phase::Ready;
                entry.endpoint.set_leaving(false);
            }
        }
        self.publish(&state.entries);
    }

    /// Whether [`Self::remove`] was called.
    pub fn is_removed(&self) -> bool {
        self.state.lock().removed
    }
}

/// Whether all endpoints there are were set aside. Then none counts as such: a bad one is better
/// than none. It happens when those that were good are gone.
pub(super) fn all_aside(entries: &[Entry]) -> bool {
    !entries
        .iter()
        .any(|e| matches!(e.phase, Phase::Ready | Phase::Victim { .. }) && e.ejected.is_none())
}

fn removed() -> Problem {
    Problem::new(Reason::ServiceRemoved, "the service was removed while the request waited")
}
