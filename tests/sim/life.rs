//! One life of the program: everything that runs in it, from its start to its end.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tidegate::app::{Control, ControlParts, Live, outcome};
use tidegate::autoscaler::{Autoscaler, ProcessLimits, Restored, Statement, bounds};
use tidegate::config::rollout::Standing;
use tidegate::config::world::{Advance, Loader, LoaderOptions, Moment, SourceFile, Stamps};
use tidegate::local::source::Outcome;
use tidegate::model::{RevisionId, UnixNanos, World};
use tidegate::platform::ConfigSource as _;
use tidegate::proxy::{DrainState, Message, Settings, Shared, Worker};
use tidegate::revision::{ProcessQueue, Setting};
use tidegate::stats::{Clock, Pokes};
use tidegate::upstream::Socket;
use tokio::io::DuplexStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, LocalSet};

use crate::ledger::{Ledger, Property};
use crate::needs::Waiting;
use crate::platform::{Platform, Target};
use crate::replica::PIPE_BYTES;
use crate::shadow::Shadow;
use crate::weather::Weather;
use crate::world::{Surroundings, service_of};

/// How long requests may take to end on the way down.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// How late a connection may close after its last request.
const CLOSES_WITHIN: Duration = Duration::from_secs(12);

/// What one life leaves to the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    /// Stamps, as they are written.
    pub(crate) stamps: Option<String>,
    /// Counts, and who had as many replicas as `initial-scale` asks for.
    pub(crate) restored: BTreeMap<RevisionId, Restored>,
    /// The latter, for who watches.
    pub(crate) reached: Vec<RevisionId>,
}

/// One life.
pub(crate) struct Life {
    pub(crate) shared: Arc<Shared>,
    pub(crate) autoscaler: Arc<Autoscaler>,
    pub(crate) live: Arc<Live>,
    pub(crate) process: Arc<ProcessQueue>,
    pub(crate) platform: Rc<Platform>,
    pub(crate) shadow: Rc<Shadow>,
    pub(crate) clock: Clock,
    loader: RefCell<Loader>,
    outcome: Outcome,
    /// The world that was reported last.
    told: RefCell<Arc<World>>,
    pub(crate) waiting: RefCell<Waiting>,
    workers: Vec<(Rc<Worker>, Arc<AtomicU32>)>,
    senders: Vec<mpsc::Sender<Message>>,
    services: usize,
    ledger: Rc<Ledger>,
    set: Rc<LocalSet>,
    driver: JoinHandle<()>,
}

impl Life {
    /// The program starts with these files.
    pub(crate) fn begin(
        seed: u64,
        weather: &Weather,
        around: &Surroundings,
        memory: &Memory,
        files: &[SourceFile],
    ) -> Rc<Self> {
        let set = Rc::new(LocalSet::new());
        let driven = Rc::clone(&set);
        let driver = tokio::task::spawn_local(async move {
            driven.run_until(std::future::pending::<()>()).await;
        });
        let _inside = set.enter();
        let ledger = &around.ledger;
        let (platform, source) =
            Platform::new(seed ^ 1, ledger, &around.network, weather, &around.serials);
        let clock = Clock::start();
        let settings = Settings { connector: around.network.connector(), ..Settings::default() };
        let shared = Shared::new(settings, clock);
        let pokes = Arc::new(Pokes::default());
        let limits = ProcessLimits { max_replicas: weather.max_replicas };
        let autoscaler = Arc::new(Autoscaler::new(Arc::clone(&pokes), clock, limits));
        let process = Arc::new(ProcessQueue::new(weather.queue));
        let setting = Setting {
            workers: weather.workers,
            process: Arc::clone(&process),
            replans: Arc::default(),
            shares: None,
        };
        let parts = ControlParts {
            shared: Arc::clone(&shared),
            setting,
            pokes,
            target: Target(Rc::clone(&platform)),
            seed,
            shown_at: None,
        };
        let mut control = Control::new(parts, Arc::clone(&autoscaler));
        control.restore(memory.restored.clone());
        let live = control.live();
        let (workers, senders) = start_workers(seed, weather.workers, &shared);
        let (statements, stated) = mpsc::channel(1024);
        let shadow = Shadow::new(ledger, &live, &autoscaler, clock, &memory.restored);
        let sink = sink(weather, ledger, &live, &shadow, statements);
        let scaling = Arc::clone(&autoscaler);
        tokio::task::spawn_local(async move { scaling.run(sink).await });
        let (updates, received) = mpsc::channel(1024);
        let told = senders.clone();
        tokio::task::spawn_local(async move {
            let refresh = move || refresh(&told);
            control.run(received, stated, refresh).await;
        });
        tokio::task::spawn_local(source.run(updates));
        tokio::task::spawn_local(Rc::clone(&shadow).sample());
        let mut loader = Loader::new(LoaderOptions::default());
        if let Some(stamps) = &memory.stamps {
            let stamps: Stamps = serde_json::from_str(stamps).expect("what was written");
            loader = loader.with_stamps(stamps);
        }
        let life = Rc::new(Self {
            shared,
            autoscaler,
            process,
            platform,
            shadow,
            clock,
            outcome: outcome(Arc::clone(&live)),
            live,
            loader: RefCell::new(loader),
            told: RefCell::default(),
            waiting: RefCell::default(),
            workers,
            senders,
            services: weather.services.len(),
            ledger: Rc::clone(ledger),
            set: Rc::clone(&set),
            driver,
        });
        let world = life.load(files);
        life.platform.configure(world);
        life
    }

    /// Loads files as they are now.
    pub(crate) fn load(&self, files: &[SourceFile]) -> Arc<World> {
        let world = self.loader.borrow_mut().load(files).world;
        self.took(&world);
        for text in &world.rejected {
            let line = text.lines().next().unwrap_or_default();
            self.ledger.note(format_args!("not taken: {line}"));
        }
        world
    }

    /// A world is to be reported.
    fn took(&self, world: &Arc<World>) {
        self.ledger.note(format_args!("configuration: {}", shown(world)));
        self.ledger.history.world(self.ledger.now(), self.services, world);
        let former = self.told.replace(Arc::clone(world));
        self.waiting.borrow_mut().took(&former, world, &self.live, &self.ledger);
    }

    /// Moves canaries on, as the source of files does.
    pub(crate) fn advance(&self) -> Option<Arc<World>> {
        let told = Arc::clone(&self.told.borrow());
        let standing = |id: &RevisionId| match (self.outcome.standing)(id) {
            Standing::Ready if !(self.outcome.in_effect)(&told) => Standing::Pending,
            standing => standing,
        };
        let counted = |old: &_, new: &_, since| (self.outcome.counted)(old, new, since);
        // As late as any day: a moment of zero is none.
        let now = UnixNanos(1_000_000_000).plus(self.ledger.now());
        let is_ready =
            |id: &RevisionId| (self.outcome.in_effect)(&told) && (self.outcome.is_ready)(id);
        let moment = Moment { now, standing: &standing, is_ready: &is_ready, counted: &counted };
        let advance = self.loader.borrow_mut().advance(&moment);
        let world = match advance {
            Advance::Still => return None,
            Advance::Moved(world) => world,
            Advance::Loaded(loaded) => loaded.world,
            Advance::Reload => self.loader.borrow_mut().load_changes(Vec::new(), &moment).world,
        };
        self.took(&world);
        Some(world)
    }

    /// The world that was reported last.
    pub(crate) fn told(&self) -> Arc<World> {
        Arc::clone(&self.told.borrow())
    }

    /// What an operator sees of the configuration: where traffic goes, which revisions there are.
    pub(crate) fn shown(&self, files: &[SourceFile]) -> String {
        shown(&self.loader.borrow_mut().load(files).world)
    }

    /// Names of a service's revisions, oldest first.
    pub(crate) fn stamped(&self, service: usize) -> Vec<String> {
        let loader = self.loader.borrow();
        let name = tidegate::model::ObjectName::new("default", format!("s{service}"));
        loader.stamps().revisions(&name).iter().map(|r| r.name.clone()).collect()
    }

    /// What the next life is to know.
    pub(crate) fn memory(&self) -> Memory {
        let stamps = serde_json::to_string(self.loader.borrow().stamps()).expect("a String");
        let restored = |id: &RevisionId| {
            let view = self.autoscaler.view(id)?;
            Some(Restored { replicas: view.desired, initialized: view.initialized })
        };
        let revisions = self.live.revisions();
        let ids = revisions.iter().map(|revision| revision.id().clone());
        let restored = ids.filter_map(|id| restored(&id).map(|known| (id, known))).collect();
        let reached = |id: &RevisionId| self.autoscaler.view(id).is_some_and(|v| v.initialized);
        let ids = revisions.iter().map(|revision| revision.id().clone());
        Memory { stamps: Some(stamps), restored, reached: ids.filter(reached).collect() }
    }

    /// Waits until it serves.
    pub(crate) async fn serving(&self) {
        while self.shared.drain_state() < DrainState::Serving {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// A client connects.
    pub(crate) fn connect(&self, rng: &mut fastrand::Rng) -> DuplexStream {
        self.connect_to(rng.usize(..self.workers.len()))
    }

    fn connect_to(&self, index: usize) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let (worker, load) = &self.workers[index];
        load.fetch_add(1, Ordering::Relaxed);
        let _inside = self.set.enter();
        worker.accept(Socket::Memory(theirs), std::net::Ipv4Addr::LOCALHOST.into());
        ours
    }

    /// A client connects to each worker.
    pub(crate) fn connect_to_all(&self) -> Vec<DuplexStream> {
        (0..self.workers.len()).map(|index| self.connect_to(index)).collect()
    }

    /// Not ready, still serving; `close` stops new connections; then the last requests.
    pub(crate) async fn drain(&self, delay: Duration, close: impl FnOnce()) {
        self.ledger.note(format_args!("the program drains, closes in {delay:?}"));
        self.shared.set_drain_state(DrainState::Draining);
        tokio::time::sleep(delay).await;
        close();
        self.ledger.history.closing(self.ledger.now());
        self.ledger.note(format_args!("the program takes nothing new"));
        self.shared.set_drain_state(DrainState::Closing);
        refresh(&self.senders);
        let closed = self.ledger.now();
        let until = closed + DRAIN_TIMEOUT;
        while self.shared.connections() + self.shared.tunnels() > 0 && self.ledger.now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let since = self.ledger.last_end().max(closed);
            let idle_for = self.ledger.history.awake(since, self.ledger.now());
            let open = self.shared.connections() + self.shared.tunnels();
            if open > 0 && self.ledger.open() == 0 && idle_for > CLOSES_WITHIN {
                self.ledger.violated(
                    Property::Drain,
                    format_args!(
                        "{} connections and {} tunnels are open without a request",
                        self.shared.connections(),
                        self.shared.tunnels()
                    ),
                );
                return;
            }
        }
    }

    /// Ends everything at once.
    pub(crate) async fn end(self: Rc<Self>) {
        self.ledger.history.ended(self.ledger.now());
        self.ledger.note(format_args!("the program ends, and its replicas with it"));
        self.driver.abort();
        let workers: Vec<Weak<Worker>> =
            self.workers.iter().map(|(worker, _)| Rc::downgrade(worker)).collect();
        let (ledger, platform) = (Rc::clone(&self.ledger), Rc::clone(&self.platform));
        // The driver lets go of its set on its next turn.
        while Rc::strong_count(&self.set) > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if Rc::strong_count(&self) > 1 {
            ledger.violated(Property::LeftBehind, format_args!("somebody holds an ended life"));
        }
        drop(self);
        platform.abandon();
        let left = workers.iter().filter(|worker| worker.strong_count() > 0).count();
        if left > 0 {
            ledger
                .violated(Property::LeftBehind, format_args!("{left} workers outlive their life"));
        }
    }

    /// How many hold its parts; the same again when all is quiet.
    pub(crate) fn holders(&self) -> (usize, usize) {
        let workers = self.workers.iter().map(|(worker, _)| Rc::strong_count(worker)).sum();
        (workers, Arc::strong_count(&self.shared))
    }
}

fn refresh(senders: &[mpsc::Sender<Message>]) {
    for sender in senders {
        sender.try_send(Message::Refresh).expect("workers keep up");
    }
}

type Workers = Vec<(Rc<Worker>, Arc<AtomicU32>)>;

fn start_workers(
    seed: u64,
    count: usize,
    shared: &Arc<Shared>,
) -> (Workers, Vec<mpsc::Sender<Message>>) {
    (0..count)
        .map(|index| {
            let load = Arc::new(AtomicU32::new(0));
            let worker_seed = seed.wrapping_add(index as u64);
            let worker = Worker::new(index, Arc::clone(shared), Arc::clone(&load), worker_seed);
            let (sender, messages) = mpsc::channel::<Message>(1024);
            tokio::task::spawn_local(Rc::clone(&worker).run(messages));
            ((worker, load), sender)
        })
        .unzip()
}

/// Passes statements on, and looks at them on their way.
fn sink(
    weather: &Weather,
    ledger: &Rc<Ledger>,
    live: &Arc<Live>,
    shadow: &Rc<Shadow>,
    statements: mpsc::Sender<Statement>,
) -> impl FnMut(Statement) + 'static {
    let bounded = weather.max_replicas.is_some();
    let (ledger, live, shadow) = (Rc::clone(ledger), Arc::clone(live), Rc::clone(shadow));
    let mut former: BTreeMap<RevisionId, u32> = BTreeMap::new();
    move |statement| {
        let Statement { revision, desired } = &statement;
        if former.insert(revision.clone(), *desired).unwrap_or(0) != *desired {
            ledger.note(format_args!("{} is to have {desired} replicas", revision.name));
        }
        if let Some(known) = live.revision(revision).filter(|_| service_of(revision).is_some()) {
            let scaling = &known.spec().scaling;
            let low = if bounded { 0 } else { scaling.min_scale };
            let within = bounds(i64::from(*desired), low, scaling.max_scale);
            if within != i64::from(*desired) && scaling.reachable {
                ledger.violated(
                    Property::Bounds,
                    format_args!(
                        "{desired} replicas of {}, bounds are {low} and {:?}",
                        revision.name, scaling.max_scale
                    ),
                );
            }
            shadow.stated(&statement, &known);
        }
        statements.try_send(statement).expect("the control loop keeps up");
    }
}

/// Services with their traffic, and revisions.
fn shown(world: &World) -> String {
    let service = |service: &Arc<tidegate::model::ServiceSpec>| {
        let shares = service.traffic.iter().map(|t| format!("{} {}%", t.revision.name, t.percent));
        format!("{} → {}", service.id.name, shares.collect::<Vec<_>>().join(", "))
    };
    let services: Vec<String> = world.services.iter().map(service).collect();
    let revisions: Vec<&str> = world.revisions.iter().map(|r| &*r.id.name).collect();
    format!("{}; revisions {}", services.join("; "), revisions.join(" "))
}

/// Where clients come in: the life that takes connections, if there is one.
#[derive(Default)]
pub(crate) struct Door {
    life: RefCell<Option<Rc<Life>>>,
    open: Cell<bool>,
    opened: Notify,
}

impl Door {
    /// The present life, also when it takes nothing new.
    pub(crate) fn life(&self) -> Option<Rc<Life>> {
        self.life.borrow().clone()
    }

    /// A life begins, for now without clients.
    pub(crate) fn set(&self, life: Option<Rc<Life>>) {
        *self.life.borrow_mut() = life;
    }

    pub(crate) fn open(&self) {
        self.open.set(true);
        self.opened.notify_waiters();
    }

    pub(crate) fn close(&self) {
        self.open.set(false);
    }

    /// Whether connections are taken, and those there are may be used again.
    pub(crate) fn is_open(&self) -> bool {
        self.open.get()
    }

    /// Connects as soon as connections are taken.
    pub(crate) async fn connect(&self, rng: &RefCell<fastrand::Rng>) -> DuplexStream {
        loop {
            let opened = self.opened.notified();
            if let Some(life) = self.life().filter(|_| self.open.get()) {
                return life.connect(&mut rng.borrow_mut());
            }
            opened.await;
        }
    }
}
