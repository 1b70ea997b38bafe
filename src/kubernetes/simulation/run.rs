//! One run: a storm with people at work, calm, people at work in the calm, and a fresh replica.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep};

use super::asked::Verb;
use super::checks::{unsettled, unsettled_replica};
use super::clock;
use super::cluster::Cluster;
use super::people::People;
use super::replica::{Replica, beside};
use super::server::{Call, Server};
use crate::kubernetes::kinds::Kind;

/// How long the storm lasts.
const STORM: Duration = Duration::from_secs(300);
/// Longest pause of anything that is tried again, one that is under way, a watch that is silent, a
/// Lease that has to pass, pods.
const SETTLED_WITHIN: Duration = Duration::from_secs(240);
/// What one thing that people do may cost in calls.
const CALLS_PER_ACT: usize = 130;

/// What came of a run.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) trace: Vec<String>,
    pub(super) violation: Option<String>,
    pub(super) calls: usize,
    pub(super) lasted: Duration,
}

struct Run {
    server: Arc<Server>,
    rng: RefCell<Rng>,
    replicas: Rc<RefCell<Vec<Option<Replica>>>>,
    people: RefCell<People>,
    started: Cell<usize>,
}

/// Runs a seed.
pub(super) fn run(seed: u64) -> Outcome {
    // Jitter is drawn from the thread's own.
    fastrand::seed(seed);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        clock::begin();
        let mut rng = Rng::with_seed(seed);
        let server = Server::new(seed, &mut rng);
        let run = Run {
            people: RefCell::new(People::new(rng.u64(..))),
            rng: RefCell::new(rng),
            replicas: Rc::default(),
            started: Cell::new(0),
            server: Arc::clone(&server),
        };
        server.note(format_args!("{:?}", server.weather.lock()));
        let replicas = server.weather.lock().replicas;
        (0..replicas).for_each(|_| run.start_replica());
        let cluster = Cluster::default();
        let all = Rc::clone(&run.replicas);
        let failed = beside(&all, async {
            tokio::select! {
                biased;
                () = cluster.run(&server) => None,
                failed = run.play() => failed,
            }
        })
        .await;
        let first = server.violations.lock().first().cloned();
        all.borrow_mut().clear();
        let trace = std::mem::take(&mut *server.trace.lock());
        let calls = server.calls.lock().len();
        Outcome { trace, violation: first.or(failed), calls, lasted: clock::elapsed() }
    })
}

impl Run {
    fn start_replica(&self) {
        let number = self.started.replace(self.started.get() + 1);
        self.server.note(format_args!("replica {number} starts"));
        self.pending_start(number);
    }

    /// Replicas are polled while this is asked for: a new one is put beside them afterwards.
    fn pending_start(&self, number: usize) {
        let (server, replicas) = (Arc::clone(&self.server), Rc::clone(&self.replicas));
        replicas.borrow_mut().push(Some(Replica::start(&server, number)));
    }

    async fn play(&self) -> Option<String> {
        tokio::select! {
            biased;
            () = self.people_act() => {}
            () = self.break_things() => {}
            () = sleep(STORM) => {}
        }
        self.calm_down();
        // What was lost in the storm is only noticed by its time.
        sleep(Duration::from_secs(130)).await;
        if let Some(why) = self.settle().await {
            return Some(format!("not in order in the end: {why}"));
        }
        if let Some(why) = self.quiet("the calm").await {
            return Some(why);
        }
        for _ in 0..3 {
            let before = self.server.calls.lock().len();
            let act = self.people.borrow_mut().act(&self.server);
            self.server.note(format_args!("PEOPLE {act}"));
            if let Some(why) = self.settle().await {
                return Some(format!("not in order after {act}: {why}"));
            }
            let calls = self.calls_since(before);
            let lists = calls.iter().filter(|call| call.verb == Verb::List).count();
            let count = calls.len();
            if lists > 0 || count > CALLS_PER_ACT {
                return Some(format!("{count} calls, {lists} lists for: {act}"));
            }
        }
        // Images that do not start are given up after a while.
        sleep(Duration::from_secs(80)).await;
        self.server.note("all replicas end");
        self.replicas.borrow_mut().iter_mut().for_each(|replica| *replica = None);
        let before = self.server.calls.lock().len();
        self.start_replica();
        // A Lease that nobody gave up passes first.
        sleep(Duration::from_secs(60)).await;
        if let Some(why) = self.settle().await {
            return Some(format!("not in order for a fresh replica: {why}"));
        }
        let writes = writes(&self.calls_since(before));
        if !writes.is_empty() {
            return Some(format!("a fresh replica writes: {}", writes.join(", ")));
        }
        self.quiet("a fresh replica").await
    }

    /// Nothing is written while nothing happens.
    async fn quiet(&self, whose: &str) -> Option<String> {
        let before = self.server.calls.lock().len();
        sleep(Duration::from_secs(120)).await;
        let calls = self.calls_since(before);
        let writes = writes(&calls);
        let lists = calls.iter().filter(|call| call.verb == Verb::List).count();
        if !writes.is_empty() || lists > 0 {
            return Some(format!("in {whose}: {lists} lists, {}", writes.join(", ")));
        }
        None
    }

    fn calls_since(&self, index: usize) -> Vec<Call> {
        let calls = self.server.calls.lock();
        let others = calls[index..].iter().filter(|call| call.part != "lease");
        others.filter(|call| call.verb != Verb::Watch).cloned().collect()
    }

    /// Returns once everything is as people want it, or why it is not.
    async fn settle(&self) -> Option<String> {
        let begun = Instant::now();
        loop {
            sleep(Duration::from_secs(5)).await;
            let why = self.unsettled();
            if why.is_none() {
                self.server.note("in order");
                return None;
            }
            if begun.elapsed() > SETTLED_WITHIN || !self.server.violations.lock().is_empty() {
                return why;
            }
        }
    }

    fn unsettled(&self) -> Option<String> {
        let of_objects = unsettled(&self.server, &self.people.borrow());
        let replicas = self.replicas.borrow();
        of_objects.or_else(|| {
            let mut replicas = replicas.iter().flatten();
            replicas.find_map(|replica| unsettled_replica(&self.server, replica))
        })
    }

    async fn people_act(&self) {
        loop {
            let pause = self.rng.borrow_mut().u64(500..25_000);
            sleep(Duration::from_millis(pause)).await;
            let act = self.people.borrow_mut().act(&self.server);
            self.server.note(format_args!("PEOPLE {act}"));
        }
    }

    fn seconds(&self, most: u64) -> Duration {
        Duration::from_millis(self.rng.borrow_mut().u64(..most * 1000))
    }

    /// What the weather allows.
    async fn break_things(&self) {
        loop {
            sleep(self.seconds(40)).await;
            let weather = self.server.weather.lock().clone();
            if weather.is_forgetful {
                let mut store = self.server.store.lock();
                store.oldest = store.revision().saturating_sub(self.rng.borrow_mut().u64(..40));
            }
            let what = self.rng.borrow_mut().u8(..4);
            match what {
                0 if weather.outages => self.cut_off(true).await,
                1 if weather.partitions => self.cut_off(false).await,
                2 if weather.freezes => self.freeze().await,
                3 if weather.crashes => self.crash().await,
                _ => {}
            }
        }
    }

    fn any(&self) -> Option<usize> {
        let replicas = self.replicas.borrow();
        let there: Vec<usize> =
            (0..replicas.len()).filter(|index| replicas[*index].is_some()).collect();
        self.rng.borrow_mut().choice(there)
    }

    async fn cut_off(&self, is_outage: bool) {
        let Some(which) = self.any() else { return };
        let refuses = self.rng.borrow_mut().bool();
        let cut = |is_cut: bool| {
            let replicas = self.replicas.borrow();
            for (index, replica) in replicas.iter().enumerate() {
                if let Some(replica) = replica
                    && (is_outage || index == which)
                {
                    replica.link.refuses.store(refuses, Ordering::Relaxed);
                    replica.link.set_cut(is_cut);
                }
            }
        };
        self.server.note(format_args!("cut off: all {is_outage}, {which}, at once {refuses}"));
        cut(true);
        sleep(self.seconds(60)).await;
        cut(false);
        self.server.note("whole again");
    }

    async fn freeze(&self) {
        let Some(which) = self.any() else { return };
        let set = |is_frozen: bool| {
            self.server.note(format_args!("{which} stands still: {is_frozen}"));
            if let Some(replica) = &self.replicas.borrow()[which] {
                replica.freeze(is_frozen);
            }
        };
        set(true);
        sleep(self.seconds(25)).await;
        set(false);
    }

    async fn crash(&self) {
        let Some(which) = self.any() else { return };
        self.server.note(format_args!("{which} ends"));
        self.replicas.borrow_mut()[which] = None;
        sleep(self.seconds(20)).await;
        self.start_replica();
    }

    fn calm_down(&self) {
        self.server.note("CALM");
        self.server.weather.lock().calm_down();
        for replica in self.replicas.borrow().iter().flatten() {
            if replica.is_frozen() {
                replica.freeze(false);
            }
            replica.link.set_cut(false);
        }
        if self.replicas.borrow().iter().all(Option::is_none) {
            self.start_replica();
        }
    }
}

/// Writes of objects, and how often each.
fn writes(calls: &[Call]) -> Vec<String> {
    let is_write = |call: &&Call| {
        matches!(call.verb, Verb::Create | Verb::Update | Verb::Patch | Verb::Delete)
    };
    let writes = calls.iter().filter(is_write).filter(|call| call.kind != Kind::Lease);
    writes.map(|call| call.line.clone()).collect()
}
