//! Coarse time: a timer armed per request would cost more than the rest of our work, so deadlines
//! are plain numbers that one task per worker looks at ten times a second.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;
use tokio::sync::Notify;

use crate::model::Reason;
use crate::stats::{Clock, Nanos};
use crate::upstream::{Returned, SharedIo};

/// How often deadlines are looked at: how late a timer may be.
pub(super) const SWEEP_EVERY: Duration = Duration::from_millis(100);

const NEVER: Nanos = Nanos(u64::MAX);

/// Why a request must end now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fired {
    /// A timer.
    Timeout(Reason),
    /// The client left; nobody reads an answer.
    ClientGone,
}

/// The deadlines of one request.
#[derive(Debug)]
pub(super) struct Timer {
    request: Cell<Nanos>,
    response_start: Cell<Nanos>,
    grpc: Cell<Nanos>,
    queue: Cell<Nanos>,
    idle: Cell<Option<Duration>>,
    bytes_seen: Cell<u64>,
    bytes: Cell<u64>,
    /// The client's body on its way, where its silence counts.
    upload: RefCell<Option<Rc<Returned>>>,
    active_at: Cell<Nanos>,
    fired: Cell<Option<Fired>>,
    /// Looked at while the request waits: hyper does not tell that an HTTP/1 client left.
    client: RefCell<Option<SharedIo>>,
    waker: RefCell<Option<Waker>>,
    /// Fired at the former look already, and the request did not end by itself.
    stuck: Cell<bool>,
    stuck_waker: RefCell<Option<Waker>>,
    /// An upgraded connection that stops counting as load when it is silent for this long.
    pause_after: Cell<Option<Duration>>,
    paused: Cell<bool>,
}

impl Timer {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            request: Cell::new(NEVER),
            response_start: Cell::new(NEVER),
            grpc: Cell::new(NEVER),
            queue: Cell::new(NEVER),
            idle: Cell::new(None),
            bytes_seen: Cell::new(0),
            bytes: Cell::new(0),
            upload: RefCell::new(None),
            active_at: Cell::new(Nanos(0)),
            fired: Cell::new(None),
            client: RefCell::new(None),
            waker: RefCell::new(None),
            stuck: Cell::new(false),
            stuck_waker: RefCell::new(None),
            pause_after: Cell::new(None),
            paused: Cell::new(false),
        })
    }

    /// Starts anew for a request.
    pub(super) fn start(&self, request: Nanos, response_start: Option<Nanos>) {
        self.request.set(request);
        self.response_start.set(response_start.unwrap_or(NEVER));
        self.fired.set(None);
        self.stuck.set(false);
    }

    /// The request ended: nothing fires any more.
    pub(super) fn stop(&self) {
        self.request.set(NEVER);
        self.response_start.set(NEVER);
        self.grpc.set(NEVER);
        self.queue.set(NEVER);
        self.idle.set(None);
        self.pause_after.set(None);
        self.paused.set(false);
        self.fired.set(None);
        self.client.borrow_mut().take();
        self.upload.borrow_mut().take();
    }

    /// Whether the request should have ended a while ago: its client does not take what we send.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck.get()
    }

    /// The task to wake when it is stuck.
    pub(super) fn register_stuck(&self, waker: &Waker) {
        keep(&self.stuck_waker, waker);
    }

    pub(super) fn set_grpc(&self, deadline: Nanos) {
        self.grpc.set(deadline);
    }

    /// The request waits, until `deadline` if there is one, watching the client if it is HTTP/1.
    pub(super) fn wait(&self, deadline: Option<Nanos>, client: Option<SharedIo>) {
        self.queue.set(deadline.unwrap_or(NEVER));
        *self.client.borrow_mut() = client;
    }

    /// The request no longer waits.
    pub(super) fn waited(&self) {
        self.queue.set(NEVER);
        self.client.borrow_mut().take();
    }

    /// The response's head arrived: from now on silence counts, of the client's `upload` as well.
    pub(super) fn response_started(
        &self,
        idle: Option<Duration>,
        upload: Option<&Rc<Returned>>,
        now: Nanos,
    ) {
        self.response_start.set(NEVER);
        self.idle.set(idle);
        self.active_at.set(now);
        if idle.is_some()
            && let Some(upload) = upload
        {
            *self.upload.borrow_mut() = Some(Rc::clone(upload));
        }
        self.bytes_seen.set(self.moved());
    }

    /// The connection was upgraded: it may live on.
    pub(super) fn upgraded(&self, pause_after: Option<Duration>) {
        self.request.set(NEVER);
        self.grpc.set(NEVER);
        self.pause_after.set(pause_after);
    }

    /// Bytes moved, in either direction.
    pub(super) fn touch(&self, bytes: usize) {
        self.bytes.set(self.bytes.get().wrapping_add(bytes as u64 + 1));
    }

    /// Changes with every byte in either direction.
    fn moved(&self) -> u64 {
        let upload = self.upload.borrow();
        self.bytes.get().wrapping_add(upload.as_ref().map_or(0, |upload| upload.frames()))
    }

    /// Whether an upgraded connection is silent for long enough not to count.
    pub(super) fn is_paused(&self) -> bool {
        self.paused.get()
    }

    pub(super) fn fired(&self) -> Option<Fired> {
        self.fired.get()
    }

    /// The task to wake when something fires.
    pub(super) fn register(&self, waker: &Waker) {
        keep(&self.waker, waker);
    }

    /// Polls `future`, unless the timer has fired.
    pub(super) fn poll_unless_fired<F: Future>(
        &self,
        future: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<F::Output, Fired>> {
        if let Some(fired) = self.fired.get() {
            return Poll::Ready(Err(fired));
        }
        if let Poll::Ready(output) = future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        self.register(cx.waker());
        Poll::Pending
    }

    /// Looks at the deadlines; wakes the request if one has passed.
    fn look(&self, now: Nanos) {
        if self.fired.get().is_some() {
            self.stuck.set(true);
            if let Some(waker) = self.stuck_waker.borrow_mut().take() {
                waker.wake();
            }
            return;
        }
        if let Some(fired) = self.due(now) {
            self.fired.set(Some(fired));
            self.wake();
        }
    }

    fn due(&self, now: Nanos) -> Option<Fired> {
        if self.request.get() <= now {
            return Some(Fired::Timeout(Reason::RequestTimeout));
        }
        if self.response_start.get() <= now {
            return Some(Fired::Timeout(Reason::ResponseStartTimeout));
        }
        if self.grpc.get() <= now {
            return Some(Fired::Timeout(Reason::GrpcTimeout));
        }
        if self.queue.get() <= now {
            return Some(Fired::Timeout(Reason::QueueTimeout));
        }
        let moved = self.moved();
        if moved != self.bytes_seen.get() {
            self.bytes_seen.set(moved);
            self.active_at.set(now);
            if self.paused.replace(false) {
                self.wake();
            }
        }
        let silent = now.since(self.active_at.get());
        if self.idle.get().is_some_and(|idle| silent >= idle) {
            return Some(Fired::Timeout(Reason::IdleTimeout));
        }
        if self.pause_after.get().is_some_and(|after| silent >= after) && !self.paused.replace(true)
        {
            self.wake();
        }
        let client = self.client.borrow();
        client.as_ref().is_some_and(SharedIo::is_closed_by_peer).then_some(Fired::ClientGone)
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// Keeps a waker, without cloning one that is there already.
fn keep(slot: &RefCell<Option<Waker>>, waker: &Waker) {
    let mut slot = slot.borrow_mut();
    if !slot.as_ref().is_some_and(|w| w.will_wake(waker)) {
        *slot = Some(waker.clone());
    }
}

/// What one worker looks at.
#[derive(Debug)]
pub(super) struct Sweeper<C> {
    timers: RefCell<Slab<Rc<Timer>>>,
    connections: RefCell<Slab<Rc<C>>>,
    filled: Notify,
}

impl<C> Default for Sweeper<C> {
    fn default() -> Self {
        Self { timers: RefCell::default(), connections: RefCell::default(), filled: Notify::new() }
    }
}

/// A timer that is looked at until this is dropped.
#[derive(Debug)]
pub(super) struct Swept<C: 'static> {
    pub(super) timer: Rc<Timer>,
    sweeper: Rc<Sweeper<C>>,
    key: usize,
}

impl<C> Drop for Swept<C> {
    fn drop(&mut self) {
        self.sweeper.timers.borrow_mut().remove(self.key);
    }
}

/// A connection that is looked at until this is dropped.
#[derive(Debug)]
pub(super) struct Watched<C: 'static> {
    pub(super) connection: Rc<C>,
    sweeper: Rc<Sweeper<C>>,
    key: usize,
}

impl<C> Drop for Watched<C> {
    fn drop(&mut self) {
        self.sweeper.connections.borrow_mut().remove(self.key);
    }
}

impl<C> Sweeper<C> {
    /// The task sleeps for as long as there is nothing to look at.
    fn wake_if_empty(&self) {
        if self.is_empty() {
            self.filled.notify_one();
        }
    }

    fn is_empty(&self) -> bool {
        self.timers.borrow().is_empty() && self.connections.borrow().is_empty()
    }

    /// Adds a timer.
    pub(super) fn timer(self: &Rc<Self>) -> Swept<C> {
        self.wake_if_empty();
        let timer = Timer::new();
        let key = self.timers.borrow_mut().insert(Rc::clone(&timer));
        Swept { timer, sweeper: Rc::clone(self), key }
    }

    /// Adds a connection.
    pub(super) fn watch(self: &Rc<Self>, connection: Rc<C>) -> Watched<C> {
        self.wake_if_empty();
        let key = self.connections.borrow_mut().insert(Rc::clone(&connection));
        Watched { connection, sweeper: Rc::clone(self), key }
    }

    /// All connections, for what concerns each of them.
    pub(super) fn each_connection(&self, mut f: impl FnMut(&Rc<C>)) {
        for (_, connection) in self.connections.borrow().iter() {
            f(connection);
        }
    }

    /// Looks ten times a second for as long as there is something to look at. `look` looks at a
    /// connection, `turn` is called once per turn.
    pub(super) async fn run(
        self: Rc<Self>,
        clock: Clock,
        look: impl Fn(&Rc<C>, Nanos),
        turn: impl Fn(Nanos),
    ) {
        loop {
            if self.is_empty() {
                self.filled.notified().await;
            }
            tokio::time::sleep(SWEEP_EVERY).await;
            let now = clock.now();
            for (_, timer) in self.timers.borrow().iter() {
                timer.look(now);
            }
            self.each_connection(|connection| look(connection, now));
            turn(now);
        }
    }
}
