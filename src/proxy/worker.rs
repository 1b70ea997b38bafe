//! One worker: what a thread keeps for itself so that a warm request touches nothing shared.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::model::{RevisionSpec, ServiceId, Workload};
use crate::revision::{EndpointState, Revision};
use crate::snapshot::Snapshot;
use crate::stats::{Nanos, WorkerIndex};
use crate::upstream::{EndpointPool, Socket};

use super::answer::HEALTH_PATH;
use super::connection::{Connection, serve};
use super::direct::{Buffers, DateLine};
use super::listen::{Entry, Guest};
use super::retry::RetryBudget;
use super::shared::{DrainState, Shared};
use super::sweep::Sweeper;
use super::welcome::welcome;

/// How often pools and views of revisions are tidied.
const TIDY_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// What a worker is told.
#[derive(Debug)]
pub enum Message {
    /// A client connection to serve, its other end's address, and what it begins with.
    Serve(std::net::TcpStream, IpAddr, Arc<Entry>),
    /// The listener of this service is closed: its connections end with what they do.
    Leave(Arc<ServiceId>),
    /// Something shared changed: look at the snapshot, the endpoints, the drain state.
    Refresh,
}

/// An endpoint as one worker uses it.
#[derive(Debug)]
pub(super) struct LocalEndpoint {
    pub(super) state: Arc<EndpointState>,
    pub(super) pool: Rc<EndpointPool>,
}

/// A revision as one worker uses it.
#[derive(Debug)]
pub(super) struct LocalRevision {
    pub(super) revision: Arc<Revision>,
    version: Cell<u64>,
    spec: RefCell<Arc<RevisionSpec>>,
    open: RefCell<Vec<Rc<LocalEndpoint>>>,
    endpoints: RefCell<HashMap<u64, Rc<LocalEndpoint>, foldhash::fast::RandomState>>,
    pub(super) retries: RefCell<RetryBudget>,
}

/// One worker's state; lives on its thread.
#[derive(Debug)]
pub struct Worker {
    pub(super) index: WorkerIndex,
    pub(super) shared: Arc<Shared>,
    snapshot: RefCell<arc_swap::Cache<Arc<arc_swap::ArcSwap<Snapshot>>, Arc<Snapshot>>>,
    locals: RefCell<HashMap<usize, Rc<LocalRevision>, foldhash::fast::RandomState>>,
    pub(super) rng: RefCell<fastrand::Rng>,
    pub(super) sweeper: Rc<Sweeper<Connection>>,
    pub(super) buffers: Buffers,
    pub(super) date: DateLine,
    tidied: Cell<Nanos>,
    closing: Notify,
    load: Arc<AtomicU32>,
}

impl Worker {
    /// A worker; `seed` makes its choices reproducible. `load` counts its
    /// connections: up by who hands them out, down when they end.
    pub fn new(
        index: WorkerIndex,
        shared: Arc<Shared>,
        load: Arc<AtomicU32>,
        seed: u64,
    ) -> Rc<Self> {
        Rc::new(Self {
            index,
            snapshot: RefCell::new(arc_swap::Cache::new(Arc::clone(&shared.snapshot))),
            locals: RefCell::default(),
            rng: RefCell::new(fastrand::Rng::with_seed(seed)),
            sweeper: Rc::default(),
            buffers: Buffers::default(),
            date: DateLine::default(),
            tidied: Cell::new(Nanos(0)),
            closing: Notify::new(),
            load,
            shared,
        })
    }

    /// Serves until the channel of messages ends. Runs on a local runtime.
    pub async fn run(self: Rc<Self>, mut messages: tokio::sync::mpsc::Receiver<Message>) {
        let sweep = Rc::clone(&self.sweeper).run(
            self.shared.clock,
            {
                let worker = Rc::clone(&self);
                move |connection: &Rc<Connection>, now| connection.look(&worker.shared, now)
            },
            {
                let worker = Rc::clone(&self);
                move |now| worker.tidy(now)
            },
        );
        let sweep = tokio::task::spawn_local(sweep);
        while let Some(message) = messages.recv().await {
            match message {
                Message::Serve(stream, peer, entry) => match TcpStream::from_std(stream) {
                    Ok(stream) => self.accept_at(&entry, stream, peer),
                    Err(error) => {
                        self.load.fetch_sub(1, Ordering::Relaxed);
                        tracing::error!(%error, "cannot take an accepted connection");
                    }
                },
                Message::Leave(service) => self.leave(&service),
                Message::Refresh => self.refresh(),
            }
        }
        sweep.abort();
    }

    /// Ends the connections of a service's own listener with what they do.
    pub(super) fn leave(&self, service: &Arc<ServiceId>) {
        self.sweeper.each_connection(|connection| {
            if connection.service.as_ref() == Some(service) {
                connection.close();
            }
        });
    }

    /// Serves the connection of a client at `peer`, which the caller has counted already.
    pub fn accept(self: &Rc<Self>, socket: Socket, peer: IpAddr) {
        self.take_in(Guest { socket, ip: peer, secure: false, outside: false, service: None });
    }

    fn take_in(self: &Rc<Self>, guest: Guest) {
        let worker = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let counted = worker.shared.count_connection(false);
            serve(Rc::clone(&worker), guest).await;
            drop(counted);
            worker.load.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// The same for a connection whose requests may come after something else.
    pub(super) fn accept_at(self: &Rc<Self>, entry: &Arc<Entry>, stream: TcpStream, peer: IpAddr) {
        if entry.is_plain() {
            let (socket, outside) = (Socket::Tcp(stream), entry.outside);
            let service = entry.service.clone();
            return self.take_in(Guest { socket, ip: peer, secure: false, outside, service });
        }
        let (worker, entry) = (Rc::clone(self), Arc::clone(entry));
        tokio::task::spawn_local(async move {
            let counted = worker.shared.count_connection(entry.tls.is_some());
            // Boxed: a connection is not to have room for its handshake all its life.
            if let Some(guest) = Box::pin(welcome(&worker, &entry, stream, peer)).await {
                serve(Rc::clone(&worker), guest).await;
            }
            drop(counted);
            worker.load.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// Returns when no new connections or requests are taken.
    pub(super) async fn closing(&self) {
        loop {
            let told = self.closing.notified();
            if self.shared.drain_state() >= DrainState::Closing {
                return;
            }
            told.await;
        }
    }

    /// Gives up what is no longer current, also when no request comes.
    fn refresh(&self) {
        self.snapshot.borrow_mut().load();
        self.tidied.set(Nanos(0));
        self.tidy(self.shared.clock.now());
        if self.shared.drain_state() >= DrainState::Closing {
            #[cfg(planted)]
            if crate::model::planted::is(crate::model::planted::Bug::NeverCloses) {
                return;
            }
            self.sweeper.each_connection(|connection| connection.close());
            self.closing.notify_waiters();
        }
    }

    /// The snapshot of this moment, while `f` looks at it.
    pub(super) fn with_snapshot<T>(&self, f: impl FnOnce(&Arc<Snapshot>) -> T) -> T {
        f(self.snapshot.borrow_mut().load())
    }

    /// Whether a request for this path may be meant for tidegate itself.
    pub(super) fn may_be_health(&self, path: &str) -> bool {
        path == HEALTH_PATH || self.shared.settings.health_path.as_deref() == Some(path)
    }

    /// Whether the next request is in the access log: drawn anew with every call.
    pub(super) fn is_logged(&self) -> bool {
        let log = self.shared.settings.access_log.as_ref();
        log.is_some_and(|log| self.rng.borrow_mut().f64() < log.sample)
    }

    /// This worker's view of a revision.
    pub(super) fn local(&self, revision: &Arc<Revision>) -> Rc<LocalRevision> {
        // The view holds the revision, so its address is not another's while it is a key.
        let key = Arc::as_ptr(revision) as usize;
        if let Some(local) = self.locals.borrow().get(&key) {
            local.refresh(self);
            return Rc::clone(local);
        }
        let local = Rc::new(LocalRevision {
            revision: Arc::clone(revision),
            version: Cell::new(0),
            spec: RefCell::new(revision.spec()),
            open: RefCell::default(),
            endpoints: RefCell::default(),
            retries: RefCell::new(RetryBudget::new(self.shared.clock.now())),
        });
        local.refresh(self);
        self.locals.borrow_mut().insert(key, Rc::clone(&local));
        local
    }

    /// Once a second: idle connections that are too old, views of what is gone.
    fn tidy(&self, now: Nanos) {
        if now.since(self.tidied.get()) < TIDY_EVERY && self.tidied.get() != Nanos(0) {
            return;
        }
        self.tidied.set(now);
        self.locals.borrow_mut().retain(|_, local| {
            local.refresh(self);
            local.tidy(now);
            !(local.revision.is_removed() && Rc::strong_count(local) == 1)
        });
    }
}

impl LocalRevision {
    /// Reads settings without keeping them.
    pub(super) fn with_spec<T>(&self, f: impl FnOnce(&RevisionSpec) -> T) -> T {
        f(&self.spec.borrow())
    }

    /// Whether a request whose endpoint fails may find another one: there are several, or one can
    /// be started.
    pub(super) fn has_spare(&self) -> bool {
        match &self.spec.borrow().workload {
            Workload::Static(endpoints) => endpoints.len() > 1,
            Workload::Process(_) | Workload::Pods(_) | Workload::Unavailable(_) => true,
        }
    }

    /// The open endpoints as of the last look, while `f` looks at them.
    pub(super) fn with_open<T>(&self, f: impl FnOnce(&[Rc<LocalEndpoint>]) -> T) -> T {
        f(&self.open.borrow())
    }

    /// Takes what was published since the last look.
    pub(super) fn refresh(&self, worker: &Worker) {
        let version = self.revision.version();
        if version == self.version.get() {
            return;
        }
        self.version.set(version);
        *self.spec.borrow_mut() = self.revision.spec();
        let open = self.revision.open();
        *self.open.borrow_mut() = open.open.iter().map(|e| self.endpoint(e, worker)).collect();
    }

    /// This worker's view of an endpoint.
    pub(super) fn endpoint(
        &self,
        state: &Arc<EndpointState>,
        worker: &Worker,
    ) -> Rc<LocalEndpoint> {
        let mut endpoints = self.endpoints.borrow_mut();
        let endpoint = endpoints.entry(state.key()).or_insert_with(|| {
            let connector = worker.shared.settings.connector.clone();
            let protocol = self.spec.borrow().protocol;
            Rc::new(LocalEndpoint {
                state: Arc::clone(state),
                pool: EndpointPool::new(state.address(), protocol, connector),
            })
        });
        Rc::clone(endpoint)
    }

    fn tidy(&self, now: Nanos) {
        self.endpoints.borrow_mut().retain(|_, endpoint| {
            endpoint.pool.sweep(now);
            // Listed as open, used by a request, or with connections: kept.
            Rc::strong_count(endpoint) > 1
                || Rc::strong_count(&endpoint.pool) > 1
                || !endpoint.pool.is_empty()
        });
    }
}
