//! The state of all revisions on this machine, owned by the supervisor's task: orders and events
//! in, tasks of replicas started and told to go, updates out.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use crate::model::{EndpointId, Problem, Reason, RevisionId, RevisionSpec, Workload};
use crate::platform::{Endpoint, ReplicaCounts, ScaleOrder, Update};

use super::fleet::{Fleet, Missing};
use super::group::Stop;
use super::outbox::{News, Outbox};
use super::replica::{self, Event, Failure, Job, Shared};
use super::supervisor::SupervisorSettings;
use super::turns::Turns;

/// Events of replicas waiting to be taken.
const EVENTS_WAITING: usize = 256;
/// Time from SIGKILL to all until the rest is given up.
const KILL_BOUND: Duration = Duration::from_secs(3);

/// A revision that has been heard of.
#[derive(Debug)]
struct Managed {
    spec: Arc<RevisionSpec>,
    fleet: Fleet,
    reported: Option<(Vec<Endpoint>, ReplicaCounts)>,
}

impl Managed {
    /// What the application is to know: replicas somebody else runs are always ready.
    fn state(&self) -> (Vec<Endpoint>, ReplicaCounts) {
        let Workload::Static(addresses) = &self.spec.workload else {
            return (self.fleet.endpoints(), self.fleet.counts());
        };
        let endpoint = |address: &SocketAddr| Endpoint {
            id: EndpointId::new(address.to_string()),
            address: *address,
        };
        let ready = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        let counts = ReplicaCounts { ready, ..ReplicaCounts::default() };
        (addresses.iter().map(endpoint).collect(), counts)
    }
}

/// A replica that has a task.
#[derive(Debug)]
struct Started {
    revision: RevisionId,
    stop: watch::Sender<Stop>,
}

/// All revisions and their replicas.
pub(super) struct Room {
    settings: SupervisorSettings,
    shared: Arc<Shared>,
    revisions: HashMap<RevisionId, Managed>,
    started: HashMap<u64, Started>,
    turns: Turns,
    /// Revisions with replicas that wait for their turn.
    queued: HashSet<RevisionId>,
    retries: BTreeSet<(Instant, RevisionId)>,
    outbox: Outbox,
    events: mpsc::Sender<(u64, Event)>,
    happened: mpsc::Receiver<(u64, Event)>,
}

impl Room {
    /// A room without revisions.
    pub(super) fn new(settings: SupervisorSettings, shared: Arc<Shared>) -> Self {
        let (events, happened) = mpsc::channel(EVENTS_WAITING);
        Self {
            turns: Turns::new(settings.starting_bound),
            settings,
            shared,
            revisions: HashMap::new(),
            started: HashMap::new(),
            queued: HashSet::new(),
            retries: BTreeSet::new(),
            outbox: Outbox::default(),
            events,
            happened,
        }
    }

    /// The next event of a replica. Cancel safe; never none, for the room holds a sender.
    pub(super) async fn happened(&mut self) -> Option<(u64, Event)> {
        self.happened.recv().await
    }

    /// A count was stated, or a revision made known.
    ///
    /// # Errors
    ///
    /// More replicas than the bound for all revisions; what to do.
    pub(super) fn order(
        &mut self,
        spec: Arc<RevisionSpec>,
        order: Option<ScaleOrder>,
    ) -> Result<(), String> {
        let now = Instant::now();
        let id = spec.id.clone();
        let managed = self.revisions.entry(id.clone()).or_insert_with(|| Managed {
            spec: Arc::clone(&spec),
            fleet: Fleet::default(),
            reported: None,
        });
        if !Arc::ptr_eq(&managed.spec, &spec) {
            // It may have been removed and be new to the application: it is told again.
            managed.reported = None;
        }
        managed.spec = spec;
        let mut refused = Ok(());
        match (&managed.spec.workload, order) {
            (_, None) | (Workload::Static(_) | Workload::Pods(_), Some(_)) => {}
            (Workload::Unavailable(problem), Some(order)) => {
                if order.replicas > 0 {
                    self.outbox.failed(&id, problem.clone());
                }
            }
            (Workload::Process(_), Some(order)) => {
                refused = self.check(&id, order.replicas);
                if refused.is_ok()
                    && let Some(managed) = self.revisions.get_mut(&id)
                {
                    managed.fleet.order(now, order);
                }
            }
        }
        self.settle(&id, now);
        refused
    }

    /// Begins to replace all replicas of a revision: those that were never ready at once, and its
    /// back-off is forgotten. Whether its program can run only once.
    ///
    /// # Errors
    ///
    /// There is no such revision here.
    pub(super) fn renew(&mut self, id: &RevisionId) -> Result<bool, String> {
        let Some(managed) = self.revisions.get_mut(id) else {
            return Err("it has no replicas on this machine".to_owned());
        };
        if let Workload::Static(_) = managed.spec.workload {
            return Err("somebody else runs its replicas (tidegate.dev/static-endpoints)".into());
        }
        for serial in managed.fleet.renew() {
            if managed.fleet.stop(serial)
                && let Some(started) = self.started.get(&serial)
            {
                started.stop.send_replace(Stop::Gracefully);
                self.turns.give_back(serial);
            }
        }
        let runs_once = managed.fleet.fixed_port().is_some();
        self.settle(id, Instant::now());
        Ok(runs_once)
    }

    /// Whether so many replicas of one revision are within the bound for all.
    fn check(&self, id: &RevisionId, replicas: u32) -> Result<(), String> {
        let others: u64 = self
            .revisions
            .iter()
            .filter(|(other, _)| *other != id)
            .map(|(_, managed)| u64::from(managed.fleet.wanted()))
            .sum();
        let bound = self.settings.replicas_bound;
        let total = others + u64::from(replicas);
        if total <= u64::from(bound) || replicas == 0 {
            return Ok(());
        }
        Err(format!(
            "{replicas} replicas would make {total} on this machine, more than {bound}; lower \
             maxScale or --max-replicas"
        ))
    }

    /// Something happened to a replica.
    pub(super) fn happen(&mut self, serial: u64, event: Event) {
        let now = Instant::now();
        let Some(id) = self.started.get(&serial).map(|started| started.revision.clone()) else {
            return;
        };
        let Some(managed) = self.revisions.get_mut(&id) else { return };
        let fleet = &mut managed.fleet;
        match event {
            Event::Spawned(at, group) => fleet.spawned(serial, at, group),
            Event::Slow => {
                self.turns.give_back(serial);
            }
            Event::IgnoresPort(port, group) => {
                fleet.ignores_port(port, group);
            }
            Event::Ready(at, address) => {
                self.turns.give_back(serial);
                if let Some(cold) = fleet.ready(serial, at, address) {
                    self.outbox.cold(&id, cold.spawn, cold.ready);
                    self.report(&id);
                }
            }
            Event::Unready => fleet.unready(serial),
            Event::Failed(failure) => {
                self.turns.give_back(serial);
                self.fail(&id, serial, now, failure);
            }
            Event::Gone => {
                fleet.gone(serial);
                self.turns.give_back(serial);
                self.started.remove(&serial);
            }
        }
        self.settle(&id, now);
        self.grant();
    }

    fn fail(&mut self, id: &RevisionId, serial: u64, now: Instant, failure: Failure) {
        let Some(managed) = self.revisions.get_mut(id) else { return };
        let fleet = &mut managed.fleet;
        match failure {
            Failure::NeverReady { message, held } => {
                let sibling = held.filter(|(_, group)| fleet.has_other_group(serial, *group));
                if let Some((port, group)) = sibling {
                    // Two of the same program want the same port: it can run only once.
                    if fleet.failed(serial, now, false) && fleet.ignores_port(port, group) {
                        tracing::warn!(
                            revision = %id,
                            "the program wants port {port} whatever $PORT says; it runs with one \
                             replica at most. Make it listen on $PORT to have more"
                        );
                    }
                } else if fleet.failed(serial, now, true) {
                    self.outbox.failed(id, Problem::new(Reason::StartFailed, message));
                }
            }
            Failure::Crashed(_) => {
                fleet.failed(serial, now, true);
            }
            Failure::PortLost | Failure::GuardLost => {
                fleet.failed(serial, now, false);
            }
        }
    }

    /// Makes replicas and counts agree, as far as that is possible now.
    fn settle(&mut self, id: &RevisionId, now: Instant) {
        let Some(managed) = self.revisions.get_mut(id) else { return };
        for serial in managed.fleet.surplus() {
            if managed.fleet.stop(serial)
                && let Some(started) = self.started.get(&serial)
            {
                started.stop.send_replace(Stop::Gracefully);
                self.turns.give_back(serial);
            }
        }
        match managed.fleet.missing(now) {
            Missing::Nothing => {}
            Missing::Later(at) => {
                self.retries.insert((at, id.clone()));
            }
            Missing::Now(count) => {
                for _ in 0..count {
                    let serial = self.shared.serials.next();
                    let name = EndpointId::new(format!("{}-{serial}", id.name));
                    managed.fleet.add(serial, name);
                }
            }
        }
        if managed.fleet.has_queued() {
            self.queued.insert(id.clone());
        } else {
            self.queued.remove(id);
        }
        self.grant();
        self.report(id);
        if self.revisions.get(id).is_some_and(|managed| {
            managed.fleet.is_idle(now) && matches!(managed.spec.workload, Workload::Process(_))
        }) && !self.outbox.mentions(id)
        {
            self.revisions.remove(id);
        }
    }

    /// Gives free turns to start to those that wait, least recently served service first.
    fn grant(&mut self) {
        while self.turns.is_free() {
            let waiting = self
                .queued
                .iter()
                .filter_map(|id| Some((id, whose(&self.revisions.get(id)?.spec))));
            let Some(id) = self.turns.choose(waiting).cloned() else { break };
            if !self.launch(&id) {
                self.queued.remove(&id);
            }
        }
        if self.queued.is_empty() {
            self.turns.forget();
        }
    }

    /// Starts the task of a revision's next replica.
    fn launch(&mut self, id: &RevisionId) -> bool {
        let Some(managed) = self.revisions.get_mut(id) else { return false };
        let Workload::Process(process) = &managed.spec.workload else { return false };
        let Some(next) = managed.fleet.start_next() else { return false };
        let serial = next.serial;
        let job = Job {
            serial,
            revision: Arc::clone(&managed.spec),
            process: Arc::clone(process),
            fixed_port: managed.fleet.fixed_port(),
        };
        let (stop, told) = watch::channel(Stop::No);
        tokio::spawn(replica::run(Arc::clone(&self.shared), job, told, self.events.clone()));
        self.started.insert(serial, Started { revision: id.clone(), stop });
        self.turns.take(serial, whose(&managed.spec));
        true
    }

    /// When a revision in back-off may start again.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.retries.first().map(|(at, _)| *at)
    }

    /// Looks at the revisions whose back-off has ended.
    pub(super) fn retry(&mut self, now: Instant) {
        while self.retries.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, id)) = self.retries.pop_first() {
                self.settle(&id, now);
            }
        }
    }

    /// Reports a revision's replicas if they are not as reported last.
    fn report(&mut self, id: &RevisionId) {
        let Some(managed) = self.revisions.get_mut(id) else { return };
        let state = managed.state();
        let nothing_yet = managed.reported.is_none() && state == Default::default();
        if !nothing_yet && managed.reported.as_ref() != Some(&state) {
            self.outbox.replicas(id, !state.0.is_empty());
            managed.reported = Some(state);
        }
    }

    /// Whether an update waits.
    pub(super) fn has_news(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Drops all updates that wait.
    pub(super) fn forget_news(&mut self) {
        self.outbox.clear();
    }

    /// The next update.
    pub(super) fn next_update(&mut self) -> Option<Update> {
        Some(match self.outbox.next()? {
            News::Replicas(revision) => {
                let (endpoints, counts) =
                    self.revisions.get(&revision).map(Managed::state).unwrap_or_default();
                Update::Replicas { revision, endpoints, counts }
            }
            News::Failed(revision, problem) => Update::StartFailed { revision, problem },
            News::Cold(revision, spawn, ready) => Update::ColdStart { revision, spawn, ready },
        })
    }

    /// Stops everything: gracefully for as long as the settings allow, then by SIGKILL.
    pub(super) async fn end_all(&mut self) {
        for (stop, bound) in
            [(Stop::Gracefully, self.settings.shutdown_grace), (Stop::Now, KILL_BOUND)]
        {
            for started in self.started.values() {
                started.stop.send_replace(stop);
            }
            let ending = async {
                while !self.started.is_empty() {
                    if let Some((serial, Event::Gone)) = self.happened.recv().await {
                        self.started.remove(&serial);
                    }
                }
            };
            if timeout(bound, ending).await.is_ok() {
                return;
            }
        }
        tracing::error!(replicas = self.started.len(), "replicas could not be ended");
    }
}

/// Who is served by a turn to start: the service, or the revision itself.
fn whose(spec: &RevisionSpec) -> &RevisionId {
    spec.service.as_ref().unwrap_or(&spec.id)
}
