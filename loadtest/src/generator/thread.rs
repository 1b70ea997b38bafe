//! One thread of the generator: a dispatcher that knows when requests are due, and slots that send
//! them. A slot is a connection, or one of the streams of an HTTP/2 connection.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Barrier, Notify, watch};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::alarm::Alarm;
use super::connection::{Failure, Sender, Shared};
use super::recording::{Outcome, Recording};
use super::target::Target;
use super::{Load, Plan};

/// Pause between two attempts to connect, for plans with patience.
const CONNECT_PAUSE: Duration = Duration::from_millis(5);
/// How often a request is sent on a connection that turns out to be closed.
const RETRIES_MAX: u32 = 3;

/// What the threads of a run have together.
pub(super) struct Common {
    pub(super) plan: Plan,
    pub(super) target: Target,
    /// Set once all connections are open.
    pub(super) start: watch::Receiver<Option<Instant>>,
    /// Reached by every thread when its connections are open.
    pub(super) opened: std::sync::Arc<Barrier>,
    /// Its sender is dropped to stop early.
    pub(super) stop: watch::Receiver<()>,
}

struct State {
    common: std::sync::Arc<Common>,
    due: RefCell<VecDeque<Instant>>,
    wake: Notify,
    /// No further request becomes due.
    finished: Cell<bool>,
    idle: Cell<usize>,
    recording: RefCell<Recording>,
    start: Cell<Option<Instant>>,
}

/// Runs this thread's part: slots `first`, `first + threads`, … and every `threads`-th arrival.
pub(super) async fn run(common: std::sync::Arc<Common>, number: usize) -> Recording {
    let plan = &common.plan;
    let state = Rc::new(State {
        due: RefCell::default(),
        wake: Notify::new(),
        finished: Cell::new(false),
        idle: Cell::new(0),
        recording: RefCell::new(Recording::new(plan.interval)),
        start: Cell::new(None),
        common: std::sync::Arc::clone(&common),
    });
    let mut slots = Vec::new();
    for _ in (number..plan.connections).step_by(plan.threads) {
        let shared = Shared::default();
        for _ in 0..plan.streams {
            slots.push(Slot::new(Rc::clone(&state), Rc::clone(&shared)));
        }
    }
    if plan.connect_first {
        for slot in &mut slots {
            slot.connect_early().await;
        }
    }
    common.opened.wait().await;
    let mut start = common.start.clone();
    let Ok(start) = start.wait_for(Option::is_some).await.map(|start| *start) else {
        return Recording::new(plan.interval);
    };
    state.start.set(start);
    let tasks: Vec<_> =
        slots.into_iter().map(|slot| tokio::task::spawn_local(slot.work())).collect();
    let mut stop = common.stop.clone();
    tokio::select! {
        () = whole(&state, number, tasks) => {}
        // The sender says nothing, it is only dropped.
        _ = stop.changed() => {}
    }
    let mut recording = state.recording.replace(Recording::new(plan.interval));
    recording.elapsed = start.map(|start| start.elapsed()).unwrap_or_default();
    recording
}

async fn whole(state: &Rc<State>, number: usize, tasks: Vec<tokio::task::JoinHandle<()>>) {
    dispatch(state, number).await;
    state.finished.set(true);
    state.wake.notify_waiters();
    for task in tasks {
        // A slot that panicked has said so.
        let _ = task.await;
    }
}

/// Makes requests due at their times.
async fn dispatch(state: &State, number: usize) {
    let (plan, Some(start)) = (&state.common.plan, state.start.get()) else { return };
    match &plan.load {
        Load::Open(schedule) => {
            let Ok(alarm) = Alarm::new() else { return };
            for at in schedule.times().skip(number).step_by(plan.threads) {
                let due = start + at;
                let pause = due.saturating_duration_since(Instant::now());
                if !pause.is_zero() && alarm.wait(pause).await.is_err() {
                    return;
                }
                state.push(due);
            }
        }
        Load::AtOnce { requests } => {
            let mine =
                (number..usize::try_from(*requests).unwrap_or(usize::MAX)).step_by(plan.threads);
            for _ in mine {
                state.push(start);
            }
        }
        Load::Closed { duration } => sleep_until(start + *duration).await,
    }
}

impl State {
    fn push(&self, due: Instant) {
        if self.idle.get() > self.due.borrow().len() {
            let lag = due.elapsed();
            self.recording.borrow_mut().lag.record(lag);
        }
        self.due.borrow_mut().push_back(due);
        self.wake.notify_one();
    }

    /// The next request's time, when it is due; none at the end.
    async fn next(&self) -> Option<Instant> {
        if let Load::Closed { .. } = self.common.plan.load {
            return (!self.finished.get()).then(Instant::now);
        }
        loop {
            let wake = self.wake.notified();
            if let Some(due) = self.due.borrow_mut().pop_front() {
                return Some(due);
            }
            if self.finished.get() {
                return None;
            }
            self.idle.set(self.idle.get() + 1);
            wake.await;
            self.idle.set(self.idle.get() - 1);
        }
    }

    fn record(&self, due: Instant, outcome: Outcome) {
        let at = self.start.get().map(|start| due - start).unwrap_or_default();
        self.recording.borrow_mut().record(at, due.elapsed(), outcome);
    }
}

struct Slot {
    state: Rc<State>,
    shared: Shared,
    sender: Option<Sender>,
    /// Armed once per timeout, not once per request.
    clock: Pin<Box<Sleep>>,
}

impl Slot {
    fn new(state: Rc<State>, shared: Shared) -> Self {
        Self { state, shared, sender: None, clock: Box::pin(sleep(Duration::ZERO)) }
    }

    /// A failure shows in the first request.
    async fn connect_early(&mut self) {
        let plan = &self.state.common.plan;
        let mut connects = 0;
        let opening = Sender::open(&self.state.common.target, &self.shared, &mut connects);
        if let Ok(Ok(sender)) = tokio::time::timeout(plan.timeout, opening).await {
            self.sender = Some(sender);
        }
        self.state.recording.borrow_mut().connects += connects;
    }

    async fn work(mut self) {
        while let Some(due) = self.state.next().await {
            let deadline = Instant::now() + self.state.common.plan.timeout;
            let outcome = self.bounded(deadline).await;
            self.state.record(due, outcome);
        }
    }

    /// One request, given up at the deadline.
    async fn bounded(&mut self, deadline: Instant) -> Outcome {
        let mut clock = std::mem::replace(&mut self.clock, Box::pin(sleep_until(deadline)));
        let outcome = {
            let mut work = std::pin::pin!(self.answer());
            loop {
                tokio::select! {
                    biased;
                    outcome = &mut work => break Some(outcome),
                    () = clock.as_mut() => {
                        if Instant::now() >= deadline {
                            break None;
                        }
                        clock.as_mut().reset(deadline);
                    }
                }
            }
        };
        self.clock = clock;
        outcome.unwrap_or_else(|| {
            self.sender = None;
            Outcome::Bad("timeout".into())
        })
    }

    /// Sends until there is an answer or no reason to try again.
    async fn answer(&mut self) -> Outcome {
        let common = std::sync::Arc::clone(&self.state.common);
        let begun = Instant::now();
        let mut attempts = 0;
        loop {
            let reused = self.sender.is_some();
            let failure = match self.once().await {
                Ok(outcome) => return outcome,
                Err(failure) => failure,
            };
            self.sender = None;
            let patient = common.plan.patience.is_some_and(|patience| begun.elapsed() < patience);
            let again = match &failure {
                Failure::Connect(_) => patient,
                Failure::Unsent => attempts < RETRIES_MAX,
                // RFC 9110 section 9.2.2: an idempotent request may be repeated when the
                // connection was closed before anything of the answer came.
                Failure::NoAnswer => reused && common.target.idempotent && attempts < RETRIES_MAX,
                Failure::Broken => false,
            };
            if !again {
                return Outcome::Bad(failure.name());
            }
            if matches!(failure, Failure::Connect(_)) {
                sleep(CONNECT_PAUSE).await;
            } else {
                attempts += 1;
                self.state.recording.borrow_mut().retries += 1;
            }
        }
    }

    async fn once(&mut self) -> Result<Outcome, Failure> {
        let common = std::sync::Arc::clone(&self.state.common);
        if let Some(sender) = &mut self.sender
            && !sender.usable().await
        {
            self.sender = None;
        }
        if self.sender.is_none() {
            let mut connects = 0;
            let opened = Sender::open(&common.target, &self.shared, &mut connects).await;
            self.state.recording.borrow_mut().connects += connects;
            self.sender = Some(opened?);
        }
        let Some(sender) = &mut self.sender else { return Err(Failure::Unsent) };
        let outcome = sender.exchange(common.target.request(), common.plan.labels).await?;
        if !common.plan.reuse {
            self.sender = None;
            self.shared.lock().await.take();
        }
        Ok(outcome)
    }
}
