//! The control loop: updates come in, tables and queues change, counts go out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::autoscaler::{Autoscaler, Restored, Statement};
use crate::model::{EndpointId, RevisionId, RevisionSpec, ServiceSpec, Workload, World};
use crate::platform::{Endpoint, ReplicaCounts, ScaleOrder, ScaleTarget, Update};
use crate::proxy::{DrainState, Shared};
use crate::revision::{Plan, Revision, Setting};
use crate::snapshot::Registry;
use crate::stats::{Pokes, RevisionStats};

use super::https::ShownAt;
use super::live::Live;
use super::refusals::RefusalLog;
use super::wakes::{Wakes, needed};

/// How often victims, meters and ejections are looked after.
const TEND_EVERY: Duration = Duration::from_millis(100);

/// What the control loop works with.
#[derive(Debug)]
pub struct ControlParts<T> {
    /// What workers share.
    pub shared: Arc<Shared>,
    /// What revisions share.
    pub setting: Setting,
    /// Told of held requests.
    pub pokes: Arc<Pokes>,
    /// Makes replicas.
    pub target: T,
    /// Makes choices reproducible.
    pub seed: u64,
    /// The listener in the line that says how to call a service.
    pub shown_at: Option<ShownAt>,
}

/// The control loop's state.
#[derive(Debug)]
pub struct Control<T> {
    parts: ControlParts<T>,
    autoscaler: Arc<Autoscaler>,
    registry: Registry,
    /// Revisions that are gone from the configuration, until their replicas are too.
    leaving: BTreeMap<RevisionId, Arc<Revision>>,
    desired: BTreeMap<RevisionId, u32>,
    counts: BTreeMap<RevisionId, ReplicaCounts>,
    /// Revisions with victims that still work.
    working: BTreeSet<RevisionId>,
    /// Endpoints that older reports may still name as those of another revision of that name.
    foreign: BTreeMap<RevisionId, BTreeSet<EndpointId>>,
    /// Revisions that have endpoints: only they have meters, ejections and slots to hand out.
    occupied: BTreeMap<RevisionId, Arc<Revision>>,
    /// Counts from before a restart, until the first configuration.
    restored: BTreeMap<RevisionId, Restored>,
    refusals: RefusalLog,
    wakes: Wakes,
    live: Arc<Live>,
}

impl<T: ScaleTarget> Control<T> {
    /// Nothing configured yet.
    pub fn new(parts: ControlParts<T>, autoscaler: Arc<Autoscaler>) -> Self {
        Self {
            parts,
            autoscaler,
            registry: Registry::default(),
            leaving: BTreeMap::new(),
            desired: BTreeMap::new(),
            counts: BTreeMap::new(),
            working: BTreeSet::new(),
            foreign: BTreeMap::new(),
            occupied: BTreeMap::new(),
            restored: BTreeMap::new(),
            refusals: RefusalLog::default(),
            wakes: Wakes::default(),
            live: Arc::default(),
        }
    }

    /// What the admin listener may look at.
    pub fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live)
    }

    /// Has revisions of the first configuration start with the counts of an earlier life.
    pub fn restore(&mut self, restored: BTreeMap<RevisionId, Restored>) {
        self.restored = restored;
    }

    /// Runs until `updates` ends. `changed` is called when workers are to look.
    pub async fn run(
        &mut self,
        mut updates: mpsc::Receiver<Update>,
        mut statements: mpsc::Receiver<Statement>,
        changed: impl Fn(),
    ) {
        let mut tend = tokio::time::interval(TEND_EVERY);
        tend.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let replans = Arc::clone(&self.parts.setting.replans);
        loop {
            tokio::select! {
                biased;
                update = updates.recv() => {
                    let Some(update) = update else { return };
                    self.update(update).await;
                    self.live.tell();
                    changed();
                }
                Some(Statement { revision, desired }) = statements.recv() => {
                    let former = self.desired.insert(revision.clone(), desired);
                    if desired > 0 && former.unwrap_or(0) == 0 {
                        self.wake_needed(&revision);
                    }
                    // Of somebody else's replicas there is nothing to state again.
                    if former != Some(desired) || !self.is_static(&revision) {
                        self.state(&revision).await;
                    }
                }
                () = replans.poked() => {
                    for id in replans.take() {
                        if let Some(revision) = self.revision(&id) {
                            revision.take_replan();
                        }
                        self.state(&id).await;
                    }
                }
                _ = tend.tick() => self.tend().await,
            }
        }
    }

    fn is_static(&self, id: &RevisionId) -> bool {
        let is = |spec: &RevisionSpec| matches!(spec.workload, Workload::Static(_));
        self.revision(id).is_some_and(|revision| is(&revision.spec()))
    }

    /// Wakes what a revision depends on, at the same time as itself. Where nobody waits for it – it
    /// is kept by a minimum – its program calls what it needs when it does.
    fn wake_needed(&self, id: &RevisionId) {
        let woken = self.revision(id).filter(|revision| revision.stats().waiting() > 0);
        let spec = woken.map(|revision| revision.spec());
        let Some(spec) = spec.filter(|spec| !spec.depends_on.is_empty()) else { return };
        let needed = needed(&spec, &self.live.world());
        let revisions = needed.iter().filter_map(|id| self.registry.revision(id));
        revisions.for_each(|revision| self.wakes.wake(Arc::clone(revision)));
    }

    /// Wakes what new revisions of others wait for.
    fn wake_awaited(&self) {
        let world = self.live.world();
        let revisions = world.awaited.iter().filter_map(|id| self.registry.revision(id));
        revisions.for_each(|revision| self.wakes.wake(Arc::clone(revision)));
    }

    async fn update(&mut self, update: Update) {
        match update {
            Update::World(world) => self.world(&world).await,
            Update::Replicas { revision, endpoints, counts } => {
                self.replicas(&revision, &endpoints, counts).await;
            }
            Update::StartFailed { revision, problem } => {
                if let Some(live) = self.revision(&revision) {
                    let told = live.fail_waiters(&problem);
                    // Somebody reports as long as it is so: said once, and when it was answered.
                    if told > 0 || self.live.failure(&revision).as_ref() != Some(&problem) {
                        tracing::error!(%revision, waiting = told, "{}: {}", problem.reason,
                            problem.message);
                    }
                    // A late report of one that is forgotten would be listed for ever.
                    self.live.set_failure(&revision, Some(problem));
                }
            }
            Update::Found { revision, replicas, initialized } => {
                self.restored.insert(revision, Restored { replicas, initialized });
            }
            Update::ColdStart { revision, spawn, ready } => {
                if let Some(live) = self.revision(&revision) {
                    live.cold_started(spawn, ready);
                }
            }
        }
    }

    fn revision(&self, id: &RevisionId) -> Option<Arc<Revision>> {
        self.registry.revision(id).or_else(|| self.leaving.get(id)).map(Arc::clone)
    }

    async fn world(&mut self, world: &Arc<World>) {
        let parts = &self.parts;
        let leaving = &mut self.leaving;
        let mut replaced = Vec::new();
        let make = |spec: &Arc<RevisionSpec>| {
            if let Some(former) = leaving.remove(&spec.id) {
                // Its replicas may still work: a new one would not know of their requests.
                if is_same_program(&former.spec(), spec) {
                    former.revive(Arc::clone(spec));
                    return former;
                }
                replaced.push(former);
            }
            let stats = RevisionStats::new(
                spec.id.clone(),
                parts.shared.clock,
                parts.setting.workers,
                Arc::clone(&parts.pokes),
            );
            let seed = parts.seed ^ foldhash_of(&spec.id);
            Revision::new(Arc::clone(spec), stats, &parts.setting, seed)
        };
        let (snapshot, changes) = self.registry.apply(world, make, parts.seed);
        parts.shared.snapshot.store(snapshot);
        for former in replaced {
            self.replace(&former).await;
        }
        self.live.take_changes(&changes);
        let former = self.live.set_world(world);
        self.live.canaries.look(&former, world, |id| self.live.revision(id));
        #[cfg(planted)]
        if crate::model::planted::is(crate::model::planted::Bug::ReloadDropsQueue) {
            let problem =
                crate::model::Problem::new(crate::model::Reason::ServiceRemoved, "planted");
            for revision in self.registry.revisions() {
                revision.fail_waiters(&problem);
            }
        }
        let restored = self.take_restored(&changes.added);
        self.announce(&changes.services);
        for revision in &changes.removed {
            #[cfg(planted)]
            if crate::model::planted::is(crate::model::planted::Bug::ListedForEver) {
                continue;
            }
            self.autoscaler.remove(revision.id());
            self.desired.remove(revision.id());
            self.leaving.insert(revision.id().clone(), Arc::clone(revision));
            self.state(&revision.id().clone()).await;
        }
        for revision in changes.added.iter().chain(&changes.changed) {
            let spec = revision.spec();
            let static_replicas = matches!(spec.workload, Workload::Static(_));
            let known = restored.get(revision.id()).copied().unwrap_or_default();
            self.autoscaler.restore(spec, Arc::clone(revision.stats()), known);
            if static_replicas {
                // They exist already; stating any count makes the platform report them.
                self.state(&revision.id().clone()).await;
            }
        }
        self.parts.shared.set_drain_state(DrainState::Serving);
    }

    /// Counts from before a restart, of revisions that are still there. They are known at once, so
    /// that nobody takes what was not stated again yet for none.
    fn take_restored(&mut self, added: &[Arc<Revision>]) -> BTreeMap<RevisionId, Restored> {
        let mut former = std::mem::take(&mut self.restored);
        let mut restored = BTreeMap::new();
        for revision in added {
            let Some(known) = former.remove(revision.id()) else { continue };
            if matches!(revision.spec().workload, Workload::Process(_) | Workload::Pods(_)) {
                self.desired.insert(revision.id().clone(), known.replicas);
                self.live.set_counts(revision.id(), known.replicas, ReplicaCounts::default());
                restored.insert(revision.id().clone(), known);
            }
        }
        restored
    }

    /// Another program has the name of a deleted revision whose replicas are not gone yet: they are
    /// told to go at once, and get no request of the new one. Those they have may end within the
    /// programs' grace.
    async fn replace(&mut self, former: &Arc<Revision>) {
        let foreign = former.endpoints().into_iter().map(|endpoint| endpoint.id).collect();
        self.foreign.insert(former.id().clone(), foreign);
        self.desired.remove(former.id());
        let spec = former.spec();
        // A cluster ends them with the object they belong to; the new one's has the same name.
        if !matches!(spec.workload, Workload::Pods(_)) {
            self.order(&spec, ScaleOrder::of(0)).await;
        }
    }

    /// Says how to call services that were not there before.
    fn announce(&self, services: &[Arc<ServiceSpec>]) {
        let Some(shown_at) = self.parts.shown_at else { return };
        for service in services {
            let Some(host) = service.hosts.first() else { continue };
            tracing::info!(service = %service.id, "curl {}/", shown_at.url_of(service, host));
            if !service.https_hosts.is_empty() && !shown_at.secure {
                tracing::warn!(service = %service.id, "http-protocol is Redirected, but there is \
                    no https: it is served without TLS; add --https ADDR");
            }
            if let Some(problem) = &service.problem {
                tracing::warn!(service = %service.id, "{}: {}", problem.reason, problem.message);
            }
        }
    }

    async fn replicas(&mut self, id: &RevisionId, endpoints: &[Endpoint], counts: ReplicaCounts) {
        // A late report of one that is forgotten already says nothing.
        let Some(revision) = self.revision(id) else { return };
        let former = self.counts.insert(id.clone(), counts);
        let desired = self.desired.get(id).copied().unwrap_or(0);
        self.live.set_counts(id, desired, counts);
        if counts.ready > 0 {
            self.live.set_failure(id, None);
        }
        let now = self.parts.shared.clock.now();
        let reported = endpoints.len();
        let foreign = self.foreign.get(id);
        let endpoints: Vec<_> = endpoints
            .iter()
            .filter(|endpoint| foreign.is_none_or(|foreign| !foreign.contains(&endpoint.id)))
            .map(|endpoint| (endpoint.id.clone(), endpoint.address))
            .collect();
        if endpoints.len() == reported {
            self.foreign.remove(id);
        }
        revision.stats().set_replicas(counts.ready, counts.starting);
        revision.set_endpoints(&endpoints, now);
        if endpoints.is_empty() {
            self.occupied.remove(id);
        } else {
            self.occupied.insert(id.clone(), Arc::clone(&revision));
        }
        if former != Some(counts) {
            let ReplicaCounts { starting, ready, stopping } = counts;
            tracing::debug!(revision = %id, starting, ready, stopping, "replicas");
            revision.stats().poke();
        }
        if counts == ReplicaCounts::default() && self.leaving.contains_key(id) {
            // Stated again: the last replica may have ended by itself while one was still wanted.
            self.state(id).await;
        }
    }

    /// A removed revision is forgotten when the platform has no replica of it and was told to have
    /// none.
    fn forget_if_gone(&mut self, id: &RevisionId) {
        let counts = self.counts.get(id).copied().unwrap_or_default();
        if counts == ReplicaCounts::default() && self.leaving.remove(id).is_some() {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: &RevisionId) {
        self.counts.remove(id);
        self.working.remove(id);
        self.foreign.remove(id);
        self.refusals.forget(id);
        if self.registry.revision(id).is_none() {
            self.occupied.remove(id);
            self.live.forget(id);
        }
    }

    /// States a revision's count to the platform, as desired, or with victims that still work.
    async fn state(&mut self, id: &RevisionId) {
        let Some(revision) = self.revision(id) else { return };
        let desired = self.desired.get(id).copied().unwrap_or(0);
        let counts = self.counts.get(id).copied().unwrap_or_default();
        self.live.set_counts(id, desired, counts);
        let spec = revision.spec();
        if matches!(spec.workload, Workload::Static(_)) {
            // Somebody else's replicas: none is chosen to go.
            let order = ScaleOrder::of(desired);
            self.order(&spec, order).await;
            // Nothing of it has to end first.
            if self.leaving.remove(id).is_some() {
                self.forget(id);
            }
            return;
        }
        let plan = revision.plan(desired, counts.starting, self.parts.shared.clock.now());
        let is_waited_for = revision.stats().waiting() > 0;
        let Plan { replicas, spare, replaced, .. } = plan;
        let order = ScaleOrder { replicas, spare, is_waited_for, replaced };
        let taken = self.order(&spec, order).await;
        // The autoscaler does not state the count of one that was removed again.
        if plan.waits || (!taken && self.leaving.contains_key(id)) {
            self.working.insert(id.clone());
        } else {
            self.working.remove(id);
            if plan.replicas == 0 {
                self.forget_if_gone(id);
            }
        }
    }

    /// Whether the platform took it.
    async fn order(&self, spec: &Arc<RevisionSpec>, order: ScaleOrder) -> bool {
        let result = self.parts.target.scale(spec, order).await;
        if let Err(error) = &result {
            // Stated again on the next tick.
            tracing::warn!(revision = %spec.id, %error, "the count could not be stated");
        }
        result.is_ok()
    }

    /// What only time changes.
    async fn tend(&mut self) {
        let now = self.parts.shared.clock.now();
        let refused = self.parts.pokes.refused();
        self.refusals.look(&self.parts.shared, &self.registry, refused, now);
        for id in self.working.clone() {
            self.state(&id).await;
        }
        self.wake_awaited();
        for revision in self.occupied.values() {
            if revision.stats().waiting() > 0 {
                revision.tick(now);
            }
            if revision.has_ejected() {
                for probe in revision.due_probes(now) {
                    let revision = Arc::clone(revision);
                    let shared = Arc::clone(&self.parts.shared);
                    tokio::task::spawn_local(async move {
                        let made = shared.settings.connector.connect(probe.address).await;
                        revision.probed(probe.key, made.is_ok(), shared.clock.now());
                    });
                }
            }
        }
    }
}

/// Whether queue, slots and replicas of one can go on as those of the other.
fn is_same_program(a: &RevisionSpec, b: &RevisionSpec) -> bool {
    a.container_concurrency == b.container_concurrency
        && a.protocol == b.protocol
        && a.workload == b.workload
}

/// A number from a name, the same in every run.
fn foldhash_of(id: &RevisionId) -> u64 {
    use std::hash::BuildHasher as _;
    foldhash::fast::FixedState::default().hash_one(id)
}
