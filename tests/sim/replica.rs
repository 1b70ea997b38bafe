//! Replicas in memory: HTTP/1.1 or HTTP/2 over duplex pipes, doing what the request's path says.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tidegate::model::{ContainerConcurrency, Protocol, RevisionSpec};
use tidegate::upstream::Connector;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::body::{Broken, Drip};
use crate::history::History;
use crate::ledger::{Ledger, Property};
use crate::valve::{Garbage, Mouth, Tap, Valve};

/// Bytes that a pipe holds in each direction.
pub(crate) const PIPE_BYTES: usize = 16 * 1024;

/// Who listens where.
#[derive(Debug, Default)]
pub(crate) struct Network {
    listeners: Mutex<BTreeMap<SocketAddr, Listener>>,
    refused: AtomicUsize,
}

#[derive(Debug)]
struct Listener {
    accept: mpsc::Sender<DuplexStream>,
    refuses: bool,
}

impl Network {
    /// Connects to who listens.
    pub(crate) fn connector(self: &Arc<Self>) -> Connector {
        let network = Arc::clone(self);
        Connector::Memory(Arc::new(move |address| network.connect(address)))
    }

    fn connect(&self, address: SocketAddr) -> io::Result<DuplexStream> {
        let listeners = self.listeners.lock();
        let refused = || {
            self.refused.fetch_add(1, Ordering::Relaxed);
            io::Error::from(io::ErrorKind::ConnectionRefused)
        };
        let listener = listeners.get(&address).filter(|l| !l.refuses).ok_or_else(refused)?;
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        listener.accept.try_send(theirs).map_err(|_full| refused())?;
        Ok(ours)
    }

    fn listen(&self, address: SocketAddr) -> mpsc::Receiver<DuplexStream> {
        let (accept, incoming) = mpsc::channel(1024);
        self.listeners.lock().insert(address, Listener { accept, refuses: false });
        incoming
    }

    /// New connections are refused from now on.
    pub(crate) fn close(&self, address: SocketAddr) {
        self.listeners.lock().remove(&address);
    }

    /// Refuses connections for a while, or no longer.
    pub(crate) fn set_refusing(&self, address: SocketAddr, refuses: bool) {
        if let Some(listener) = self.listeners.lock().get_mut(&address) {
            listener.refuses = refuses;
        }
    }

    /// Connections that were refused.
    pub(crate) fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    /// Who still listens.
    pub(crate) fn listeners(&self) -> usize {
        self.listeners.lock().len()
    }
}

/// One replica.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) serial: u64,
    /// Whether it stands still, and how many connections it has.
    pub(crate) valve: Arc<Valve>,
    service: usize,
    revision: String,
    limit: u32,
    /// Every so-many-th request fails.
    fails_each: Option<usize>,
    answered: Cell<usize>,
    protocol: Protocol,
    address: SocketAddr,
    ledger: Rc<Ledger>,
    network: Arc<Network>,
    running: RefCell<BTreeSet<usize>>,
    stop: watch::Sender<bool>,
    killed: watch::Sender<bool>,
    task: RefCell<Option<AbortHandle>>,
    times: Cell<usize>,
}

/// A request that a replica works for.
#[derive(Debug)]
pub(crate) struct Running {
    replica: Rc<Replica>,
    request: usize,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.replica.running.borrow_mut().remove(&self.request);
    }
}

/// What a request's path asks for.
struct Wish {
    request: usize,
    work: Duration,
    bytes: usize,
    pause: Duration,
    how: String,
}

impl Wish {
    fn parse(path: &str) -> Option<Self> {
        let mut parts = path.strip_prefix('/')?.split('/');
        let mut number = || parts.next()?.parse::<u64>().ok();
        let (request, work, bytes, pause) = (number()?, number()?, number()?, number()?);
        Some(Self {
            request: usize::try_from(request).ok()?,
            work: Duration::from_millis(work),
            bytes: usize::try_from(bytes).ok()?,
            pause: Duration::from_millis(pause),
            how: parts.next()?.to_owned(),
        })
    }
}

impl Replica {
    /// A replica that listens.
    pub(crate) fn start(
        serial: u64,
        (service, spec, fails_each): (usize, &RevisionSpec, Option<usize>),
        address: SocketAddr,
        ledger: &Rc<Ledger>,
        network: &Arc<Network>,
    ) -> Rc<Self> {
        let replica = Rc::new(Self {
            serial,
            valve: Arc::default(),
            service,
            revision: spec.id.name.to_string(),
            limit: match spec.container_concurrency {
                ContainerConcurrency::Unlimited => 0,
                ContainerConcurrency::AtMost(limit) => limit.get(),
            },
            fails_each,
            answered: Cell::new(0),
            protocol: spec.protocol,
            address,
            ledger: Rc::clone(ledger),
            network: Arc::clone(network),
            running: RefCell::default(),
            stop: watch::Sender::new(false),
            killed: watch::Sender::new(false),
            task: RefCell::default(),
            times: Cell::new(1),
        });
        let incoming = network.listen(address);
        let serving = tokio::task::spawn_local(serve(Rc::clone(&replica), incoming));
        *replica.task.borrow_mut() = Some(serving.abort_handle());
        replica
    }

    /// Requests it works for.
    pub(crate) fn running(&self) -> Vec<usize> {
        self.running.borrow().iter().copied().collect()
    }

    /// It is ready once more.
    pub(crate) fn ready_again(&self) {
        self.times.set(self.times.get() + 1);
    }

    /// How many times it became ready.
    pub(crate) fn times(&self) -> usize {
        self.times.get()
    }

    pub(crate) fn speaks_http2(&self) -> bool {
        self.protocol == Protocol::H2c
    }

    /// Accepts nothing new; connections end with what they do.
    pub(crate) fn stop(&self) {
        self.network.close(self.address);
        self.stop.send_replace(true);
    }

    /// Ends in the middle of everything.
    pub(crate) fn kill(&self) {
        self.network.close(self.address);
        self.killed.send_replace(true);
        if let Some(task) = self.task.borrow_mut().take() {
            task.abort();
        }
    }

    /// Whether it still has connections or work.
    pub(crate) fn is_alive(&self) -> bool {
        let serves = self.task.borrow().as_ref().is_some_and(|task| !task.is_finished());
        serves || !self.running.borrow().is_empty()
    }

    fn enter(self: &Rc<Self>, request: usize) -> Running {
        self.running.borrow_mut().insert(request);
        self.ledger.delivered(request, self.serial, &self.revision);
        if self.limit > 0 && self.load() > self.limit as usize {
            let me = Rc::clone(self);
            tokio::task::spawn_local(async move { me.has_too_many().await });
        }
        let asked = self.ledger.request(request);
        let history: &History = &self.ledger.history;
        let now = self.ledger.now();
        let led = history.led_to(self.service, &self.revision, asked.sent, now);
        if asked.service != self.service || !led {
            self.ledger.violated(
                Property::RightAnswer,
                format_args!(
                    "request {request} for service {} is at {}, where its traffic does not go",
                    asked.service, self.revision
                ),
            );
        }
        Running { replica: Rc::clone(self), request }
    }

    /// Requests it works for, but for those that ended without its knowledge: one that stood still
    /// does not know yet which of its clients are gone.
    fn load(&self) -> usize {
        let counts = |request: &usize| {
            !self.valve.ever_hung() || self.ledger.request(*request).ended.is_none()
        };
        self.running.borrow().iter().filter(|request| counts(request)).count()
    }

    /// It has more than its limit, if it does not hear this moment that one of them ended.
    async fn has_too_many(&self) {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        if self.load() > self.limit as usize {
            self.ledger.violated(
                Property::Concurrency,
                format_args!(
                    "replica {} has {:?}, its limit is {}",
                    self.serial,
                    self.running.borrow(),
                    self.limit
                ),
            );
        }
    }

    async fn answer(
        self: Rc<Self>,
        mut request: Request<Incoming>,
        mouth: Mouth,
    ) -> Result<Response<Drip<Running>>, Broken> {
        let wish = Wish::parse(request.uri().path()).ok_or(Broken)?;
        let running = self.enter(wish.request);
        let number = self.answered.replace(self.answered.get() + 1);
        let fails = self.fails_each.is_some_and(|each| number.is_multiple_of(each));
        if wish.how == "upgrade" && !fails {
            return Ok(self.upgrade(&mut request, &wish, running).await);
        }
        let mut upload = request.into_body();
        if wish.how == "early" && !fails {
            // Its head leaves at once, while the upload goes on.
            let drip = Drip::new(wish.bytes, fill(wish.request), wish.pause, running);
            return Ok(Response::new(drip.draining(upload, wish.work)));
        }
        while let Some(frame) = upload.frame().await {
            frame.map_err(|_broken| Broken)?;
        }
        if wish.how == "break" {
            tokio::time::sleep(wish.work / 2).await;
            return Err(Broken);
        }
        if wish.how == "never" {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(wish.work).await;
        if let Some(kind) = wish.how.strip_prefix("garbage-") {
            *mouth.lock() = Garbage::ALL.into_iter().find(|known| format!("{known:?}") == kind);
        }
        let drip = Drip::new(wish.bytes, fill(wish.request), wish.pause, running);
        let mut response = Response::new(match wish.how.as_str() {
            "cut" => drip.breaking(),
            "chunked" => drip.chunked(),
            _ => drip,
        });
        if fails {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        }
        Ok(response)
    }

    /// Switches, and says back what it hears.
    async fn upgrade(
        &self,
        request: &mut Request<Incoming>,
        wish: &Wish,
        running: Running,
    ) -> Response<Drip<Running>> {
        tokio::time::sleep(wish.work).await;
        let upgraded = hyper::upgrade::on(request);
        tokio::task::spawn_local(echo(upgraded, self.killed.subscribe(), running));
        let mut response = Response::new(Drip::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert("connection", "upgrade".parse().expect("a value"));
        response.headers_mut().insert("upgrade", "echo".parse().expect("a value"));
        response
    }
}

async fn echo(upgraded: OnUpgrade, mut killed: watch::Receiver<bool>, running: Running) {
    let said = async {
        let mut io = TokioIo::new(upgraded.await.ok()?);
        let mut buffer = [0; 1024];
        loop {
            let n = io.read(&mut buffer).await.ok()?;
            if n == 0 {
                return io.shutdown().await.ok();
            }
            io.write_all(&buffer[..n]).await.ok()?;
        }
    };
    tokio::select! {
        biased;
        // The replica is gone when there is nobody to tell it so.
        _ = killed.wait_for(|killed| *killed) => {}
        // How it ends is for the client to tell.
        _ = said => {}
    }
    drop(running);
}

/// The byte that a request's answer is made of.
pub(crate) fn fill(request: usize) -> u8 {
    u8::try_from(request % 251).expect("below 251")
}

async fn serve(replica: Rc<Replica>, mut incoming: mpsc::Receiver<DuplexStream>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            accepted = incoming.recv() => match accepted {
                Some(stream) => {
                    connections.spawn_local(connection(Rc::clone(&replica), stream));
                }
                None => break,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn connection(replica: Rc<Replica>, stream: DuplexStream) {
    let mut stop = replica.stop.subscribe();
    let mouth = Mouth::default();
    let io = TokioIo::new(Tap::new(stream, &replica.valve, &mouth));
    let service = service_fn(|request| Rc::clone(&replica).answer(request, Arc::clone(&mouth)));
    let stopped = async {
        // Its owner lives as long as its connections: no error.
        drop(stop.wait_for(|stop| *stop).await);
    };
    // How a connection ends is for its client to tell.
    match replica.protocol {
        Protocol::Http1 => {
            let served = http1::Builder::new()
                .header_read_timeout(None)
                .serve_connection(io, service)
                .with_upgrades();
            let mut served = std::pin::pin!(served);
            tokio::select! {
                biased;
                ended = served.as_mut() => return drop(ended),
                () = stopped => served.as_mut().graceful_shutdown(),
            }
            drop(served.await);
        }
        Protocol::H2c => {
            let served = http2::Builder::new(Local).serve_connection(io, service);
            let mut served = std::pin::pin!(served);
            tokio::select! {
                biased;
                ended = served.as_mut() => return drop(ended),
                () = stopped => served.as_mut().graceful_shutdown(),
            }
            drop(served.await);
        }
    }
}

/// Runs what hyper spawns beside it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
