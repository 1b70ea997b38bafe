//! One replica of tidegate: its controller, source, scaler and election, all real; and, in place of
//! its autoscaler, what states the counts that the load takes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::clock;
use super::server::{Link, Server};
use crate::config::settings::Takers;
use crate::kubernetes::controller;
use crate::kubernetes::feed::Relays;
use crate::kubernetes::lease::{LeaseSettings, Timing, elect};
use crate::kubernetes::observed::Observed;
use crate::kubernetes::scale::KubernetesTarget;
use crate::kubernetes::source::{KubernetesSource, Scope};
use crate::model::{RevisionId, World};
use crate::platform::{
    ConfigSource as _, Endpoint, ReplicaCounts, ScaleOrder, ScaleTarget as _, Update,
};

const SETTINGS: &str = "knative-serving";
/// The autoscaler's tick.
const TICK: Duration = Duration::from_secs(2);

/// What its data plane was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) world: Arc<World>,
    pub(super) replicas: BTreeMap<RevisionId, (Vec<Endpoint>, ReplicaCounts)>,
}

pub(super) struct Replica {
    pub(super) link: Arc<Link>,
    pub(super) told: Rc<RefCell<Told>>,
    is_frozen: Rc<Cell<bool>>,
    tasks: LocalSet,
}

impl Replica {
    pub(super) fn start(server: &Arc<Server>, number: usize) -> Self {
        let link = Arc::new(Link::new(number));
        let told = Rc::new(RefCell::new(Told::default()));
        let tasks = LocalSet::new();
        tasks.spawn_local(run(Arc::clone(server), Arc::clone(&link), Rc::clone(&told)));
        Self { link, told, is_frozen: Rc::default(), tasks }
    }

    /// Stops it as SIGSTOP does, or lets it go on.
    pub(super) fn freeze(&self, is_frozen: bool) {
        self.is_frozen.set(is_frozen);
        if !is_frozen {
            *self.link.thawed.lock() = Some(Instant::now());
        }
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.is_frozen.get()
    }
}

/// Runs replicas beside `until`.
pub(super) async fn beside<T>(
    replicas: &RefCell<Vec<Option<Replica>>>,
    until: impl Future<Output = T>,
) -> T {
    let mut until = std::pin::pin!(until);
    poll_fn(|context| {
        for replica in replicas.borrow_mut().iter_mut().flatten() {
            if !replica.is_frozen.get() {
                let _ = Pin::new(&mut replica.tasks).poll(context);
            }
        }
        until.as_mut().poll(context)
    })
    .await
}

async fn run(server: Arc<Server>, link: Arc<Link>, told: Rc<RefCell<Told>>) {
    let (leading, leadership) = elect();
    let client = |part| server.client(&link, part, &leadership);
    let observed = Arc::new(Observed::default());
    let scope = Scope { namespace: None, settings: SETTINGS.to_owned() };
    let source =
        KubernetesSource::new(client("source"), scope, Arc::clone(&observed), Takers::default());
    let mut relays = Relays::default();
    let feeds = controller::Feeds::of(&mut relays);
    let source = source.relaying(relays);
    let target = KubernetesTarget::new(client("scaler"), observed, leadership.clone(), &source);
    let options = controller::Options {
        namespace: None,
        now: clock::now,
        spread: Arc::default(),
        routed: source.complete(),
        trials: Arc::default(),
        giving_way: tokio::sync::watch::channel(false).1,
    };
    let settings = LeaseSettings {
        namespace: "tidegate-system".to_owned(),
        identity: format!("replica-{}_{:08x}", link.replica, fastrand::u32(..)),
        timing: Timing::default(),
        hints: Arc::default(),
    };
    let (updates, received) = mpsc::channel(64);
    let of_lease = client("lease");
    tokio::join!(
        biased;
        controller::run(client("controller"), options, feeds, leadership.watch()),
        async { drop(source.run(updates).await) },
        leading.run(&of_lease, &settings, std::future::pending()),
        decide(&server, &target, received, &told),
    );
}

/// States the counts that the load takes of all revisions there are, tick by tick.
async fn decide(
    server: &Server,
    target: &KubernetesTarget,
    mut updates: mpsc::Receiver<Update>,
    told: &RefCell<Told>,
) {
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let update = tokio::select! {
            biased;
            update = updates.recv() => update,
            _ = tick.tick() => {
                state(server, target, told).await;
                continue;
            }
        };
        match update {
            Some(Update::World(world)) => told.borrow_mut().world = world,
            Some(Update::Replicas { revision, endpoints, counts }) => {
                told.borrow_mut().replicas.insert(revision, (endpoints, counts));
            }
            Some(_) => {}
            None => return poll_fn(|_| Poll::Pending).await,
        }
    }
}

async fn state(server: &Server, target: &KubernetesTarget, told: &RefCell<Told>) {
    let (world, spare) = {
        let told = told.borrow();
        let spare: BTreeMap<RevisionId, Vec<_>> = told
            .replicas
            .iter()
            .map(|(id, (endpoints, _))| {
                (id.clone(), endpoints.iter().map(|endpoint| endpoint.id.clone()).collect())
            })
            .collect();
        (Arc::clone(&told.world), spare)
    };
    for revision in &world.revisions {
        let wanted = server.wanted.lock().get(&*revision.id.name).copied();
        // Without load it is the least that is reached.
        let least = Some(revision.scaling.min_scale).filter(|least| *least > 0);
        let Some(replicas) = wanted.or(least) else { continue };
        server.state(&format!("{}-deployment", revision.id.name), replicas);
        let spare = spare.get(&revision.id).cloned().unwrap_or_default();
        target
            .scale(revision, ScaleOrder { spare, is_waited_for: true, ..ScaleOrder::of(replicas) })
            .await
            .unwrap();
    }
}
