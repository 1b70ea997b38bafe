//! One run: the whole program between a fake platform and fake clients, on virtual time.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use fastrand::Rng;
use tidegate::model::{RevisionId, World};
use tidegate::revision::Revision;
use tokio::runtime::Builder;
use tokio::task::{AbortHandle, LocalSet};

use crate::checker::{Checker, check_slots};
use crate::clients::Clients;
use crate::files::Files;
use crate::ledger::{Ledger, Property, Violation};
use crate::life::{Door, Life, Memory};
use crate::replica::Network;
use crate::weather::{Phase, Restart, Weather};

/// From the last request to zero: the stable window and two ticks.
const TO_ZERO: Duration = Duration::from_secs(64);
/// Panic that begins with the last requests delays that by the panic window and a tick.
const PANIC_LONGER: Duration = Duration::from_secs(8);
/// A revision that was never ready keeps its count for the progress deadline and 30 s; one that
/// was not ready for a moment keeps it for another stable window.
const ACTIVATING_LONGER: Duration = Duration::from_secs(95);
/// Reports, and replicas on their way out.
const SETTLE: Duration = Duration::from_secs(15);
/// A sweep and the turn that tidies.
pub(crate) const TIDIED: Duration = Duration::from_millis(1_500);
/// How long a new life is watched before clients come: a tick and some.
const WATCHED: Duration = Duration::from_millis(2_500);

/// How a run went.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) text: String,
    pub(crate) violation: Option<Violation>,
    pub(crate) lasted: Duration,
    pub(crate) requests: usize,
    /// Decisions that were compared with the second autoscaler's.
    #[cfg_attr(planted, expect(dead_code, reason = "told of the usual seeds only"))]
    pub(crate) decisions: u64,
}

/// What outlives the program.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) ledger: Rc<Ledger>,
    pub(crate) network: Arc<Network>,
    pub(crate) serials: Rc<Cell<u64>>,
}

impl Surroundings {
    pub(crate) fn new(ledger: &Rc<Ledger>) -> Self {
        let (network, serials) = (Arc::default(), Rc::new(Cell::new(1)));
        Self { ledger: Rc::clone(ledger), network, serials }
    }
}

/// Which of the simulated services a revision belongs to.
pub(crate) fn service_of(revision: &RevisionId) -> Option<usize> {
    let (service, _) = revision.name.strip_prefix('s')?.split_once('-')?;
    service.parse().ok()
}

/// Runs one seed.
pub(crate) fn run(seed: u64) -> Outcome {
    run_in(seed, &Weather::of(seed))
}

/// Runs one seed in other weather than its own.
pub(crate) fn run_in(seed: u64, weather: &Weather) -> Outcome {
    crate::forget_panics();
    let runtime =
        Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let ledger = Rc::new(Ledger::new());
        ledger.note(format_args!("{weather}"));
        let decisions = Rc::new(Cell::new(0));
        let story = story(seed, weather, &ledger, &decisions);
        tokio::select! {
            biased;
            () = ledger.until_violated() => {}
            () = story => {}
        }
        let lasted = ledger.now();
        let requests = ledger.with_requests(<[_]>::len);
        let (text, violation) = ledger.close();
        Outcome { text, violation, lasted, requests, decisions: decisions.get() }
    })
}

/// The program and all around it.
pub(crate) struct Stage {
    seed: u64,
    pub(crate) weather: Weather,
    pub(crate) ledger: Rc<Ledger>,
    around: Surroundings,
    door: Rc<Door>,
    pub(crate) files: RefCell<Files>,
    clients: Rc<Clients>,
    checker: Rc<Checker>,
    /// Every revision that ever was.
    seen: RefCell<BTreeMap<(u32, RevisionId), Weak<Revision>>>,
    lives: Cell<u32>,
    /// Whether the program is ending or beginning.
    restarting: Cell<bool>,
    decisions: Rc<Cell<u64>>,
}

async fn story(seed: u64, weather: &Weather, ledger: &Rc<Ledger>, decisions: &Rc<Cell<u64>>) {
    let stage = Rc::new(Stage::set(seed, weather, ledger, decisions));
    let life = stage.begin(&Memory::default());
    life.serving().await;
    let quiet = life.holders();
    drop(life);
    stage.door.open();
    tokio::task::spawn_local(Rc::clone(&stage.checker).run());
    let door = Rc::downgrade(&stage.door);
    ledger.on_event(move |ledger| {
        let life = door.upgrade().and_then(|door| door.life());
        let revisions = life.map(|life| life.live.revisions()).unwrap_or_default();
        revisions.iter().for_each(|revision| check_slots(ledger, revision));
    });
    let faults = stage.go_wrong();
    if weather.needs {
        tokio::task::spawn_local(Rc::clone(&stage).let_through());
    }
    for phase in &weather.phases {
        stage.clients.phase(phase).await;
        if let Phase::Settle { clients, .. } = phase {
            stage.checker.reached(*clients);
        }
    }
    stage.calm_down(&faults).await;
    while stage.clients.are_busy() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stage.clients.hang_up();
    // A request whose connection is refused stands in line anew.
    if stage.around.network.refused() == 0 {
        stage.checker.order();
    }
    stage.silence(quiet).await;
    stage.removed().await;
}

impl Stage {
    fn set(seed: u64, weather: &Weather, ledger: &Rc<Ledger>, decisions: &Rc<Cell<u64>>) -> Self {
        let door = Rc::new(Door::default());
        let around = Surroundings::new(ledger);
        Self {
            seed,
            weather: weather.clone(),
            ledger: Rc::clone(ledger),
            around,
            clients: Clients::new(seed ^ 2, ledger, weather, &door),
            checker: Rc::new(Checker::new(ledger, weather, &door)),
            door,
            files: RefCell::new(Files::new(weather)),
            seen: RefCell::default(),
            lives: Cell::new(0),
            restarting: Cell::new(false),
            decisions: Rc::clone(decisions),
        }
    }

    /// A life begins, for now without clients.
    fn begin(&self, memory: &Memory) -> Rc<Life> {
        let number = self.lives.replace(self.lives.get() + 1);
        let seed = self.seed ^ u64::from(number).rotate_left(40);
        let files = self.files.borrow().read();
        let life = Life::begin(seed, &self.weather, &self.around, memory, &files);
        self.door.set(Some(Rc::clone(&life)));
        life
    }

    /// Remembers which revisions there are, to see them go.
    fn look(&self, life: &Life) {
        let mut seen = self.seen.borrow_mut();
        for revision in life.live.revisions() {
            let key = (self.lives.get(), revision.id().clone());
            seen.entry(key).or_insert_with(|| Arc::downgrade(&revision));
        }
    }

    /// Everything that the weather has begins.
    fn go_wrong(self: &Rc<Self>) -> Vec<AbortHandle> {
        let weather = &self.weather;
        if let Some(life) = self.door.life() {
            life.platform.go_wrong(weather);
        }
        let mut faults = Vec::new();
        let mut spawn = |fault: std::pin::Pin<Box<dyn Future<Output = ()>>>| {
            faults.push(tokio::task::spawn_local(fault).abort_handle());
        };
        if let Some(every) = weather.edits {
            spawn(Box::pin(Rc::clone(self).edits(every)));
        }
        if weather.canary.is_some() {
            spawn(Box::pin(Rc::clone(self).try_canaries()));
            if weather.edits.is_none() {
                spawn(Box::pin(Rc::clone(self).bad_then_good()));
            }
        }
        if let Some(every) = weather.jumps {
            spawn(Box::pin(Rc::clone(self).jumps(every)));
        }
        if !weather.restarts.is_empty() {
            spawn(Box::pin(Rc::clone(self).restarts()));
        }
        faults
    }

    fn rng(&self, n: u64) -> Rng {
        Rng::with_seed(self.seed ^ n)
    }

    /// The files change now and then.
    async fn edits(self: Rc<Self>, every: u64) {
        let mut rng = self.rng(3);
        loop {
            tokio::time::sleep(Duration::from_millis(rng.u64(every * 500..every * 1_500))).await;
            let Some(life) = self.running() else { continue };
            let edit = self.files.borrow_mut().edit(&mut rng, |service| life.stamped(service));
            self.ledger.note(format_args!("{edit}"));
            self.reload(&life);
        }
    }

    /// The present life, unless the program is ending or beginning.
    pub(crate) fn running(&self) -> Option<Rc<Life>> {
        self.door.life().filter(|_| !self.restarting.get())
    }

    pub(crate) fn reload(&self, life: &Life) {
        let files = self.files.borrow().read();
        let world = life.load(&files);
        for service in self.files.borrow().present() {
            if !world.services.iter().any(|known| *known.id.name == format!("s{service}")) {
                self.ledger.violated(
                    Property::FormerSelf,
                    format_args!("s{service} is gone, and its file is there"),
                );
            }
        }
        life.platform.configure(world);
    }

    /// Now and then nothing runs for a while.
    async fn jumps(self: Rc<Self>, every: u64) {
        let mut rng = self.rng(4);
        loop {
            tokio::time::sleep(Duration::from_millis(rng.u64(every * 500..every * 1_500))).await;
            let by = Duration::from_millis(rng.u64(100..90_000));
            self.ledger.history.jumped(self.ledger.now() + by, by);
            self.ledger.note(format_args!("nothing runs for {by:?}"));
            tokio::time::advance(by).await;
        }
    }

    async fn restarts(self: Rc<Self>) {
        let mut rng = self.rng(5);
        for how in self.weather.restarts.clone() {
            // Also after long enough for revisions to have gone to zero.
            let latest = if rng.bool() { 90_000 } else { 250_000 };
            tokio::time::sleep(Duration::from_millis(rng.u64(1_000..latest))).await;
            self.restarting.set(true);
            self.restart(how, &mut rng).await;
            self.restarting.set(false);
        }
    }

    /// The program ends, and begins again with what it remembers.
    async fn restart(&self, how: Restart, rng: &mut Rng) {
        let Some(life) = self.door.life() else { return };
        if self.files.borrow().are_harmed() {
            // It would not start with what is wrong, and say so.
            self.files.borrow_mut().mend();
            self.ledger.note(format_args!("all files are mended"));
            self.reload(&life);
        }
        if how == Restart::Drained {
            let delay = Duration::from_millis(rng.u64(0..5_000));
            life.drain(delay, || self.door.close()).await;
        }
        self.door.close();
        let memory = life.memory();
        let files = self.files.borrow().read();
        let before = life.shown(&files);
        self.look(&life);
        self.decisions.set(self.decisions.get() + life.shadow.compared());
        self.door.set(None);
        life.end().await;
        tokio::time::sleep(Duration::from_millis(rng.u64(1..3_000))).await;
        self.ledger.note(format_args!("the program starts again"));
        let life = self.begin(&memory);
        life.serving().await;
        let after = life.shown(&files);
        if before != after {
            self.ledger.violated(
                Property::Restart,
                format_args!("it was: {before}; after the restart it is: {after}"),
            );
        }
        self.starts_nothing(&life, &memory).await;
        life.platform.go_wrong(&self.weather);
        self.door.open();
    }

    /// Without a request only `min-scale`, or an `initial-scale` not reached before, is started.
    async fn starts_nothing(&self, life: &Life, memory: &Memory) {
        tokio::time::sleep(WATCHED).await;
        let failing = self.weather.start_failures > 0.0;
        for revision in life.live.revisions().iter().filter(|_| !failing) {
            let scaling = &revision.spec().scaling;
            let known = memory.restored.get(revision.id()).copied().unwrap_or_default();
            let reached = memory.reached.contains(revision.id());
            let initial = if reached { 0 } else { scaling.initial_scale };
            let may = scaling.min_scale.max(initial).max(known.replicas);
            if life.told().awaited.contains(revision.id()) {
                continue;
            }
            let started = life.platform.alive(revision.id());
            if started > may as usize {
                self.ledger.violated(
                    Property::Restart,
                    format_args!("{started} replicas of {} without a request", revision.id().name),
                );
            }
        }
    }

    /// No more requests, and no more faults.
    async fn calm_down(&self, faults: &[AbortHandle]) {
        while self.restarting.get() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        faults.iter().for_each(AbortHandle::abort);
        let Some(life) = self.door.life() else { return };
        self.files.borrow_mut().mend();
        self.reload(&life);
        life.platform.calm_down();
        self.ledger.note(format_args!("no more requests, no more faults"));
    }

    /// After the last request: down to zero, and nothing left.
    async fn silence(&self, quiet: (usize, usize)) {
        let Some(life) = self.door.life() else { return };
        let weather = &self.weather;
        let revisions = life.live.revisions();
        let panicking = revisions
            .iter()
            .filter_map(|revision| life.autoscaler.view(revision.id()))
            .any(|view| view.panicking);
        let slow = weather.start_failures > 0.0
            || weather.crashes.is_some()
            || weather.flaps.is_some()
            || weather.hangs.is_some()
            || weather.surpluses.is_some()
            || weather.shortages.is_some()
            || weather.jumps.is_some()
            || weather.edits.is_some()
            || weather.canary.is_some()
            || weather.needs
            || !weather.restarts.is_empty()
            || weather.start_ms.1 > 3_000
            || weather.order_ms.1 > 0
            || weather.order_errors > 0.0;
        let (mut since, mut bound) = (self.ledger.last_end(), TO_ZERO);
        if panicking {
            bound += PANIC_LONGER;
        }
        if slow {
            since = self.ledger.now();
            bound += ACTIVATING_LONGER;
        }
        let passed = self.ledger.now() - since;
        tokio::time::sleep(bound.saturating_sub(passed)).await;
        self.ledger.note(format_args!("the count is to be as low as it may be"));
        tokio::time::sleep(SETTLE).await;
        // Connections to replicas are tidied up while there are clients.
        let last = life.connect_to_all();
        tokio::time::sleep(TIDIED).await;
        drop(last);
        tokio::time::sleep(TIDIED).await;
        self.look(&life);
        self.nothing_waits();
        self.checker.zero();
        self.checker.nothing_left(quiet);
    }

    /// After the last service was removed nothing is left of it.
    async fn removed(&self) {
        let Some(life) = self.door.life() else { return };
        self.decisions.set(self.decisions.get() + life.shadow.compared());
        self.ledger.note(format_args!("all files are removed"));
        let world: Arc<World> = life.load(&[]);
        life.platform.configure(world);
        tokio::time::sleep(SETTLE).await;
        let seen: Vec<Weak<Revision>> = self.seen.borrow().values().cloned().collect();
        self.checker.gone(&seen);
        if self.ledger.now() > Duration::ZERO && self.around.network.listeners() > 0 {
            self.ledger.violated(
                Property::LeftBehind,
                format_args!("{} replicas listen", self.around.network.listeners()),
            );
        }
        drop(life);
        if let Some(life) = self.door.life() {
            self.door.set(None);
            life.end().await;
        }
    }
}
