//! Both seams, faked: orders become replicas after a while, and reports come late.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tidegate::model::{EndpointId, Problem, Reason, RevisionId, RevisionSpec, Workload, World};
use tidegate::platform::{
    ConfigSource, Endpoint, ReplicaCounts, ScaleError, ScaleOrder, ScaleTarget, SourceError,
    Update, Updates,
};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::ledger::{Ledger, Property};
use crate::replica::{Network, Replica};
use crate::weather::Weather;
use crate::world::service_of;

/// How long a replica that failed is waited for before it is started again.
pub(crate) const BACK_OFF: Duration = Duration::from_millis(500);
/// How long a stopped replica may take to end what it does.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Starting,
    Ready,
    /// Ran, and is not ready for now.
    Unready,
    Stopping,
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) stage: Stage,
    pub(crate) replica: Option<Rc<Replica>>,
}

#[derive(Debug)]
pub(crate) struct Fleet {
    spec: Arc<RevisionSpec>,
    order: ScaleOrder,
    pub(crate) members: BTreeMap<u64, Member>,
    pub(crate) backing_off: bool,
    /// Replicas that are there although nobody asked for them.
    pub(crate) surplus: usize,
    /// No more than so many are started.
    pub(crate) at_most: Option<usize>,
}

/// Which edition of its service's template a revision is.
pub(crate) fn edition(spec: &RevisionSpec) -> u32 {
    let Workload::Process(process) = &spec.workload else { return 0 };
    let edition = process.env.iter().find(|known| &*known.name == "EDITION");
    edition.and_then(|known| known.value.parse().ok()).unwrap_or(0)
}

/// The fake platform.
#[derive(Debug)]
pub(crate) struct Platform {
    pub(crate) ledger: Rc<Ledger>,
    pub(crate) network: Arc<Network>,
    weather: Weather,
    reports: mpsc::Sender<(Instant, Update)>,
    pub(crate) fleets: RefCell<BTreeMap<RevisionId, Fleet>>,
    pub(crate) rng: RefCell<fastrand::Rng>,
    /// Serial number of the next replica, also of the next life.
    serials: Rc<Cell<u64>>,
    due: Cell<Instant>,
    orders_due: Cell<Instant>,
    /// Faults are over.
    pub(crate) quiet: Cell<bool>,
    me: Weak<Self>,
}

/// What the program is given of it as its target.
#[derive(Debug)]
pub(crate) struct Target(pub(crate) Rc<Platform>);

/// What the program is given of it as its source.
#[derive(Debug)]
pub(crate) struct Source(mpsc::Receiver<(Instant, Update)>);

impl ConfigSource for Source {
    async fn run(mut self, updates: Updates) -> Result<(), SourceError> {
        while let Some((due, update)) = self.0.recv().await {
            tokio::time::sleep_until(due).await;
            if updates.send(update).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

impl ScaleTarget for Target {
    async fn scale(
        &self,
        revision: &Arc<RevisionSpec>,
        order: ScaleOrder,
    ) -> Result<(), ScaleError> {
        self.0.ordered(revision, order)
    }
}

impl Platform {
    pub(crate) fn new(
        seed: u64,
        ledger: &Rc<Ledger>,
        network: &Arc<Network>,
        weather: &Weather,
        serials: &Rc<Cell<u64>>,
    ) -> (Rc<Self>, Source) {
        let (reports, received) = mpsc::channel(1024);
        let platform = Rc::new_cyclic(|me| Self {
            ledger: Rc::clone(ledger),
            network: Arc::clone(network),
            weather: weather.clone(),
            reports,
            fleets: RefCell::default(),
            rng: RefCell::new(fastrand::Rng::with_seed(seed)),
            serials: Rc::clone(serials),
            due: Cell::new(Instant::now()),
            orders_due: Cell::new(Instant::now()),
            quiet: Cell::new(false),
            me: Weak::clone(me),
        });
        (platform, Source(received))
    }

    /// The configuration changes.
    pub(crate) fn configure(&self, world: Arc<World>) {
        self.report(Update::World(world), Duration::ZERO);
    }

    /// Faults are over; what is amiss is put right.
    pub(crate) fn calm_down(&self) {
        self.quiet.set(true);
        let mut fleets = self.fleets.borrow_mut();
        let ids: Vec<RevisionId> = fleets.keys().cloned().collect();
        for fleet in fleets.values_mut() {
            (fleet.surplus, fleet.at_most) = (0, None);
            for replica in fleet.members.values().filter_map(|m| m.replica.as_ref()) {
                self.network.set_refusing(address(replica.serial), false);
                replica.valve.set_hung(false);
            }
        }
        drop(fleets);
        ids.iter().for_each(|id| self.reconcile(id));
    }

    /// The machine ends: nothing listens any more.
    pub(crate) fn abandon(&self) {
        for (_, fleet) in std::mem::take(&mut *self.fleets.borrow_mut()) {
            for replica in fleet.members.values().filter_map(|member| member.replica.as_ref()) {
                replica.kill();
            }
        }
    }

    /// Every revision that it has or had replicas of.
    pub(crate) fn revisions(&self) -> Vec<RevisionId> {
        self.fleets.borrow().keys().cloned().collect()
    }

    /// Replicas that start, are ready or are not for now.
    pub(crate) fn alive(&self, revision: &RevisionId) -> usize {
        let fleets = self.fleets.borrow();
        fleets.get(revision).map_or(0, |fleet| {
            fleet.members.values().filter(|m| m.stage != Stage::Stopping).count()
        })
    }

    /// Replicas of any kind.
    pub(crate) fn members(&self, revision: &RevisionId) -> usize {
        self.fleets.borrow().get(revision).map_or(0, |fleet| fleet.members.len())
    }

    /// Replicas that are ready.
    pub(crate) fn ready(&self, revision: &RevisionId) -> usize {
        let fleets = self.fleets.borrow();
        fleets
            .get(revision)
            .map_or(0, |fleet| fleet.members.values().filter(|m| m.stage == Stage::Ready).count())
    }

    /// Every request that a replica works for, but for those that stood still just now.
    pub(crate) fn running(&self) -> Vec<(usize, u64)> {
        let fleets = self.fleets.borrow();
        let replicas = fleets.values().flat_map(|fleet| fleet.members.values());
        replicas
            .filter_map(|member| member.replica.as_ref())
            .filter(|replica| replica.valve.is_current())
            .flat_map(|replica| replica.running().into_iter().map(|r| (r, replica.serial)))
            .collect()
    }

    /// Connections that replicas have, beside the one of HTTP/2 that each worker may keep for each
    /// time that the replica was ready: it goes with the replica.
    pub(crate) fn connections(&self) -> usize {
        let fleets = self.fleets.borrow();
        let replicas = fleets.values().flat_map(|fleet| fleet.members.values());
        let kept =
            |r: &Replica| if r.speaks_http2() { self.weather.workers * r.times() } else { 0 };
        let replicas = replicas.filter_map(|member| member.replica.as_ref());
        replicas.map(|r| r.valve.connections().saturating_sub(kept(r))).sum()
    }

    fn ordered(&self, spec: &Arc<RevisionSpec>, order: ScaleOrder) -> Result<(), ScaleError> {
        let chance = if self.quiet.get() { 0.0 } else { self.weather.order_errors };
        if self.rng.borrow_mut().f64() < chance {
            self.ledger.note(format_args!("order for {} is not taken", spec.id));
            return Err(ScaleError { revision: spec.id.clone(), message: "on purpose".into() });
        }
        let (low, high) = self.weather.order_ms;
        if high == 0 {
            self.obey(spec, order);
            return Ok(());
        }
        // Orders stay in order, however late they take effect.
        let late = Duration::from_millis(self.rng.borrow_mut().u64(low..=high));
        let due = self.orders_due.get().max(Instant::now() + late);
        self.orders_due.set(due);
        let (me, spec) = (Weak::clone(&self.me), Arc::clone(spec));
        tokio::task::spawn_local(async move {
            tokio::time::sleep_until(due).await;
            if let Some(platform) = me.upgrade() {
                platform.obey(&spec, order);
            }
        });
        Ok(())
    }

    fn obey(&self, spec: &Arc<RevisionSpec>, order: ScaleOrder) {
        {
            let mut fleets = self.fleets.borrow_mut();
            let fleet = fleets.entry(spec.id.clone()).or_insert_with(|| Fleet {
                spec: Arc::clone(spec),
                order: ScaleOrder::of(0),
                members: BTreeMap::new(),
                backing_off: false,
                surplus: 0,
                at_most: None,
            });
            fleet.spec = Arc::clone(spec);
            if fleet.order.replicas != order.replicas {
                self.ledger.note(format_args!(
                    "order for {}: {} replicas, spare {:?}",
                    spec.id.name, order.replicas, order.spare
                ));
            }
            fleet.order = order;
        }
        self.reconcile(&spec.id);
    }

    /// Starts what is missing, stops what is too much.
    pub(crate) fn reconcile(&self, id: &RevisionId) {
        let (missing, surplus) = {
            let fleets = self.fleets.borrow();
            let Some(fleet) = fleets.get(id) else { return };
            let alive = fleet.members.values().filter(|m| m.stage != Stage::Stopping).count();
            let wanted = fleet.order.replicas as usize + fleet.surplus;
            let possible = wanted.min(fleet.at_most.unwrap_or(usize::MAX));
            let missing = if fleet.backing_off { 0 } else { possible.saturating_sub(alive) };
            (missing, alive.saturating_sub(wanted))
        };
        for _ in 0..missing {
            self.start(id);
        }
        if surplus > 0 {
            for serial in self.to_stop(id, surplus) {
                self.stop(id, serial);
            }
        }
        // What removes a revision waits to hear that nothing is left of it.
        let gone = self.members(id) == 0;
        if missing + surplus > 0 || gone {
            self.report_replicas(id);
        }
    }

    fn start(&self, id: &RevisionId) {
        let serial = self.serials.replace(self.serials.get() + 1);
        let (delay, fails) = {
            let mut rng = self.rng.borrow_mut();
            let (low, high) = self.weather.start_ms;
            let chance = if self.quiet.get() { 0.0 } else { self.weather.start_failures };
            (Duration::from_millis(rng.u64(low..=high)), rng.f64() < chance)
        };
        self.ledger
            .note(format_args!("replica {serial} of {} starts, ready in {delay:?}", id.name));
        self.member(id, |members| {
            members.insert(serial, Member { stage: Stage::Starting, replica: None });
        });
        let (me, id) = (Weak::clone(&self.me), id.clone());
        tokio::task::spawn_local(async move {
            tokio::time::sleep(delay).await;
            let Some(platform) = me.upgrade() else { return };
            if !platform.is_member(&id, serial) {
                return;
            }
            if fails {
                platform.start_failed(&id, serial).await;
            } else {
                platform.is_started(&id, serial, delay);
            }
        });
    }

    fn is_started(&self, id: &RevisionId, serial: u64, took: Duration) {
        let spec = self.fleets.borrow().get(id).map(|fleet| Arc::clone(&fleet.spec));
        let (Some(spec), Some(service)) = (spec, service_of(id)) else { return };
        let fails = self.weather.canary.filter(|canary| canary.is_bad(edition(&spec)));
        let what = (service, &*spec, fails.map(|canary| canary.fails_each));
        let replica = Replica::start(serial, what, address(serial), &self.ledger, &self.network);
        self.ledger.note(format_args!("replica {serial} is ready"));
        self.member(id, |members| {
            members.insert(serial, Member { stage: Stage::Ready, replica: Some(replica) });
        });
        self.report_replicas(id);
        let (spawn, ready) = (took / 4, took * 3 / 4);
        self.report(Update::ColdStart { revision: id.clone(), spawn, ready }, Duration::ZERO);
    }

    async fn start_failed(&self, id: &RevisionId, serial: u64) {
        self.ledger.note(format_args!("replica {serial} cannot start"));
        self.member(id, |members| {
            members.remove(&serial);
        });
        self.back_off(id, true);
        self.report_replicas(id);
        let problem = Problem::new(Reason::StartFailed, "on purpose");
        self.report(Update::StartFailed { revision: id.clone(), problem }, Duration::ZERO);
        tokio::time::sleep(BACK_OFF).await;
        self.back_off(id, false);
        self.reconcile(id);
    }

    pub(crate) fn back_off(&self, id: &RevisionId, on: bool) {
        if let Some(fleet) = self.fleets.borrow_mut().get_mut(id) {
            fleet.backing_off = on;
        }
    }

    /// Which go: those that are not listed first, then from the end of the list.
    fn to_stop(&self, id: &RevisionId, surplus: usize) -> Vec<u64> {
        let fleets = self.fleets.borrow();
        let Some(fleet) = fleets.get(id) else { return Vec::new() };
        let mut alive: Vec<(usize, bool, u64)> = fleet
            .members
            .iter()
            .filter(|(_, member)| member.stage != Stage::Stopping)
            .map(|(serial, member)| {
                let id = identity(*serial);
                let place = fleet.order.spare.iter().position(|spared| *spared == id);
                (place.unwrap_or(usize::MAX), member.stage == Stage::Starting, *serial)
            })
            .collect();
        alive.sort_unstable();
        alive.iter().rev().take(surplus).map(|(_, _, serial)| *serial).collect()
    }

    fn stop(&self, id: &RevisionId, serial: u64) {
        let (low, high) = self.weather.stop_ms;
        let delay = Duration::from_millis(self.rng.borrow_mut().u64(low..=high));
        let (stage, replica) = {
            let mut fleets = self.fleets.borrow_mut();
            let Some(fleet) = fleets.get_mut(id) else { return };
            let Some(member) = fleet.members.get_mut(&serial) else { return };
            let stage = std::mem::replace(&mut member.stage, Stage::Stopping);
            (stage, member.replica.clone())
        };
        let running = replica.as_ref().map(|r| r.running()).unwrap_or_default();
        self.ledger.note(format_args!("replica {serial} is told to stop, runs {running:?}"));
        if let Some(replica) = &replica
            && stage == Stage::Ready
            && self.is_listed(id, serial)
            && (self.weather.order_ms.1 == 0 || replica.times() == 1)
        {
            self.must_be_idle(id, Rc::clone(replica));
        }
        let Some(replica) = replica else {
            self.member(id, |members| {
                members.remove(&serial);
            });
            return;
        };
        replica.stop();
        let (me, id) = (Weak::clone(&self.me), id.clone());
        tokio::task::spawn_local(async move {
            tokio::time::sleep(delay).await;
            for _ in 0..GRACE.as_millis() / 10 {
                if !replica.is_alive() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            replica.kill();
            let Some(platform) = me.upgrade() else { return };
            platform.ledger.note(format_args!("replica {serial} is gone"));
            platform.member(&id, |members| {
                members.remove(&serial);
            });
            platform.report_replicas(&id);
        });
    }

    /// Whether the program knew of a replica when it ordered last, or orders are never late.
    fn is_listed(&self, id: &RevisionId, serial: u64) -> bool {
        let strict = self.weather.order_ms.1 == 0 && self.weather.surpluses.is_none();
        let fleets = self.fleets.borrow();
        let listed = |fleet: &Fleet| fleet.order.spare.contains(&identity(serial));
        strict || fleets.get(id).is_some_and(listed)
    }

    /// A replica is stopped when its last request has ended or that one's time has passed.
    fn must_be_idle(&self, id: &RevisionId, replica: Rc<Replica>) {
        let timeout = {
            let fleets = self.fleets.borrow();
            fleets.get(id).map_or(Duration::ZERO, |fleet| fleet.spec.timeouts.request)
        };
        let (ledger, serial) = (Rc::clone(&self.ledger), replica.serial);
        tokio::task::spawn_local(async move {
            // What ended this moment is to have ended for the replica, too.
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            for request in replica.running() {
                let known = ledger.request(request);
                // One whose client left may be about to end.
                let now = ledger.now();
                let over = known.ended.is_some() || now >= known.sent + timeout;
                // Another program took the name of the one it was deleted with.
                let over = over || ledger.history.absent(known.service, known.sent, now);
                if !over {
                    let what = format_args!("replica {serial} is told to stop, runs {request}");
                    ledger.violated(Property::StoppedIdle, what);
                }
            }
        });
    }

    pub(crate) fn member(&self, id: &RevisionId, f: impl FnOnce(&mut BTreeMap<u64, Member>)) {
        if let Some(fleet) = self.fleets.borrow_mut().get_mut(id) {
            f(&mut fleet.members);
        }
    }

    fn is_member(&self, id: &RevisionId, serial: u64) -> bool {
        self.fleets.borrow().get(id).is_some_and(|fleet| fleet.members.contains_key(&serial))
    }

    pub(crate) fn report_replicas(&self, id: &RevisionId) {
        let (endpoints, counts) = {
            let fleets = self.fleets.borrow();
            let Some(fleet) = fleets.get(id) else { return };
            let count = |stage: Stage| {
                let n = fleet.members.values().filter(|m| m.stage == stage).count();
                u32::try_from(n).expect("few replicas")
            };
            let endpoints = fleet
                .members
                .iter()
                .filter(|(_, member)| member.stage == Stage::Ready)
                .map(|(serial, _)| Endpoint { id: identity(*serial), address: address(*serial) })
                .collect();
            let counts = ReplicaCounts {
                starting: count(Stage::Starting) + count(Stage::Unready),
                ready: count(Stage::Ready),
                stopping: count(Stage::Stopping),
            };
            (endpoints, counts)
        };
        let lag = {
            let (low, high) = self.weather.lag_ms;
            Duration::from_millis(self.rng.borrow_mut().u64(low..=high))
        };
        self.report(Update::Replicas { revision: id.clone(), endpoints, counts }, lag);
    }

    /// Reports stay in order, however late they are.
    fn report(&self, update: Update, lag: Duration) {
        let due = self.due.get().max(Instant::now() + lag);
        self.due.set(due);
        self.reports.try_send((due, update)).expect("room for reports");
    }
}

pub(crate) fn identity(serial: u64) -> EndpointId {
    EndpointId::new(format!("r{serial}"))
}

pub(crate) fn address(serial: u64) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(serial).expect("few replicas") + 1_024))
}
