//! One worker's connections to one endpoint.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;

use crate::model::{Nanos, Protocol, Reason};

use super::body::RequestBody;
use super::connect::Connector;
use super::error::{SendError, Sent};
use super::goodbye::{Listening, is_unseen};
use super::idle::{Idle, keep_for};
use super::socket::SharedIo;

/// Streams on one HTTP/2 connection; what the endpoint allows may be less.
const STREAMS_MAX: u32 = 128;
/// Flow control: small streams in a connection that has room for all of them, so that one that is
/// not read does not stop the others.
const STREAM_WINDOW: u32 = 64 * 1024;
/// Small frames that clients are slow to read count against half of it, 251 for a message of 5
/// bytes, and would end the connection for all: enough for as many as all streams can hold.
const CONNECTION_WINDOW: u32 = 1 << 30;
const _: () = assert!(CONNECTION_WINDOW / 2 / 251 > STREAMS_MAX * (STREAM_WINDOW / 5));
/// How long an endpoint's settings are waited for before its connection is used anyway: turns of
/// the event loop, a count so that it ends on paused time too, then sleeps of a millisecond.
const SETTINGS_TURNS: u32 = 100;
const SETTINGS_SLEEPS: u32 = 500;
/// Largest response head.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Ends the task that drives a connection when it is no longer wanted: one whose upload never
/// ends would outlive its sender.
#[derive(Debug)]
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Debug)]
struct Http1 {
    sender: http1::SendRequest<RequestBody>,
    io: SharedIo,
    _driver: Driver,
}

impl Http1 {
    fn is_good(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Whether it is good as of now: its driver may not have noticed an end yet.
    fn is_fresh(&self) -> bool {
        self.is_good() && !self.io.is_closed_by_peer()
    }
}

type Http2Connection = http2::Connection<TokioIo<Listening>, RequestBody, LocalExecutor>;

#[derive(Debug)]
struct Http2 {
    sender: http2::SendRequest<RequestBody>,
    streams: Rc<Cell<u32>>,
    /// Asked how many streams the endpoint allows, as its settings say by now.
    connection: Rc<RefCell<Option<Http2Connection>>>,
    io: SharedIo,
    /// Whether the endpoint takes no further requests on it.
    leaving: Rc<Cell<bool>>,
    _driver: Driver,
}

/// One worker's connections to one endpoint.
#[derive(Debug)]
pub struct EndpointPool {
    address: SocketAddr,
    protocol: Protocol,
    connector: Connector,
    http1: Idle<Http1>,
    direct: Idle<SharedIo>,
    http2: RefCell<Vec<Http2>>,
    connecting: tokio::sync::Mutex<()>,
}

/// A connection, or a stream of one, for the life of one response.
#[must_use = "dropping it closes the connection"]
#[derive(Debug)]
pub struct Lease(Kind);

#[derive(Debug)]
enum Kind {
    Http1 {
        connection: Http1,
        keep: Option<Duration>,
        pool: Rc<EndpointPool>,
    },
    /// The pool is held because dropping it would end the connection.
    Http2 {
        streams: Rc<Cell<u32>>,
        _pool: Option<Rc<EndpointPool>>,
    },
}

impl Lease {
    /// The response, and the request, ended in order: the connection is kept for others, unless
    /// the end of the request still waits to go out. The endpoint may never take it, and with it
    /// no further request.
    pub fn finish(mut self, now: Nanos) {
        let kind =
            std::mem::replace(&mut self.0, Kind::Http2 { streams: Rc::default(), _pool: None });
        match kind {
            Kind::Http1 { connection, keep: Some(keep), pool } => {
                if connection.is_good() && !connection.io.traffic().is_stalled() {
                    pool.http1.put(connection, now, keep);
                }
            }
            Kind::Http1 { .. } => {}
            stream @ Kind::Http2 { .. } => self.0 = stream,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Kind::Http2 { streams, .. } = &self.0 {
            streams.set(streams.get().saturating_sub(1));
        }
    }
}

/// A failed attempt.
#[derive(Debug)]
pub struct Failed {
    /// What happened.
    pub error: SendError,
    /// Where the request is.
    pub request: Unsent,
}

/// Where the request of a failed attempt is.
#[derive(Debug)]
pub enum Unsent {
    /// It was never made.
    Unmade,
    /// It never left.
    Whole(Box<Request<RequestBody>>),
    /// It was given away.
    Lost,
}

/// A response's head, or why there is none. Failures are boxed: they are rare and large.
pub type Attempt = Result<(Response<Incoming>, Lease), Box<Failed>>;

fn failed(error: SendError, request: Unsent) -> Attempt {
    Err(Box::new(Failed { error, request }))
}

impl EndpointPool {
    /// No connections yet.
    pub fn new(address: SocketAddr, protocol: Protocol, connector: Connector) -> Rc<Self> {
        Rc::new(Self {
            address,
            protocol,
            connector,
            http1: Idle::default(),
            direct: Idle::default(),
            http2: RefCell::default(),
            connecting: tokio::sync::Mutex::new(()),
        })
    }

    /// Closes connections that were idle for too long or that the endpoint has closed.
    pub fn sweep(&self, now: Nanos) {
        self.http1.sweep(now, Http1::is_good);
        self.direct.sweep(now, SharedIo::is_quiet);
        self.http2.borrow_mut().retain(Http2::is_of_use);
    }

    /// Whether it has no connection.
    pub fn is_empty(&self) -> bool {
        self.http1.is_empty() && self.direct.is_empty() && self.http2.borrow().is_empty()
    }

    /// Sends one request and waits for the response's head. The request is made once there is a
    /// connection for it, so that it need not be kept meanwhile; it is told how long that
    /// connection was idle, none for a new or a shared one.
    pub async fn send(
        self: &Rc<Self>,
        now: Nanos,
        request: impl FnOnce(Option<Duration>) -> Request<RequestBody>,
    ) -> Attempt {
        if self.protocol == Protocol::H2c {
            return Box::pin(self.send_http2(request)).await;
        }
        let (mut connection, idle) = match self.http1.take(now, Http1::is_fresh) {
            Some((connection, idle)) => (connection, Some(idle)),
            // Boxed: what is rare is not to make the future of every request larger.
            None => match Box::pin(self.open_http1()).await {
                Ok(connection) => (connection, None),
                Err(error) => return failed(error, Unsent::Unmade),
            },
        };
        if !connection.sender.is_ready() && connection.sender.ready().await.is_err() {
            // Closed since it was used last.
            return failed(broke(&"connection closed", Sent::Nothing), Unsent::Unmade);
        }
        let traffic = connection.io.traffic();
        let (written, read) = (traffic.bytes_written(), traffic.bytes_read());
        match connection.sender.try_send_request(request(idle)).await {
            Ok(response) => {
                let keep_alive = response.headers().get("keep-alive");
                let keep = keep_for(keep_alive.map(HeaderValue::as_bytes));
                let pool = Rc::clone(self);
                Ok((response, Lease(Kind::Http1 { connection, keep, pool })))
            }
            Err(mut error) => {
                let message = error.take_message();
                let traffic = connection.io.traffic();
                let sent = if message.is_some() || traffic.bytes_written() == written {
                    Sent::Nothing
                } else if idle.is_some() && traffic.bytes_read() == read {
                    Sent::Unanswered
                } else {
                    Sent::Some
                };
                failed(broke(error.error(), sent), unsent(message))
            }
        }
    }

    /// A connection that the caller drives itself, speaking HTTP/1.1: an idle one, and how long it
    /// was idle.
    pub fn take_direct(&self, now: Nanos) -> Option<(SharedIo, Duration)> {
        self.direct.take(now, SharedIo::is_quiet)
    }

    /// A new connection that the caller drives itself.
    pub async fn open_direct(&self) -> Result<SharedIo, SendError> {
        self.open().await
    }

    /// Takes a connection back whose last response has ended and left nothing behind.
    pub fn put_direct(&self, io: SharedIo, now: Nanos, keep: Duration) {
        self.direct.put(io, now, keep);
    }

    async fn open(&self) -> Result<SharedIo, SendError> {
        let socket = self.connector.connect(self.address).await.map_err(|error| SendError {
            reason: Reason::UpstreamConnect,
            sent: Sent::Nothing,
            message: format!("{}: {error}", self.address),
        })?;
        Ok(SharedIo::new(socket))
    }

    async fn open_http1(&self) -> Result<Http1, SendError> {
        let io = self.open().await?;
        let (sender, connection) = http1::Builder::new()
            .max_header_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(io.clone()))
            .await
            .map_err(|error| broke(&error, Sent::Nothing))?;
        let driver = spawn(connection.with_upgrades());
        Ok(Http1 { sender, io, _driver: driver })
    }

    async fn send_http2(
        self: &Rc<Self>,
        request: impl FnOnce(Option<Duration>) -> Request<RequestBody>,
    ) -> Attempt {
        let (mut sender, streams, io) = match self.stream().await {
            Ok(stream) => stream,
            Err(error) => return failed(error, Unsent::Unmade),
        };
        // Counted from here; dropped with the lease, also when the attempt is abandoned.
        let lease = Lease(Kind::Http2 { streams, _pool: Some(Rc::clone(self)) });
        let read = io.traffic().bytes_read();
        match sender.try_send_request(request(None)).await {
            Ok(response) => Ok((response, lease)),
            Err(mut error) => {
                let message = error.take_message();
                let unseen = h2_error(error.error()).is_some_and(|error| {
                    error.reason() == Some(h2::Reason::REFUSED_STREAM) || is_unseen(error)
                });
                let sent = if message.is_some() || unseen {
                    Sent::Nothing
                } else if io.traffic().bytes_read() == read {
                    Sent::Unanswered
                } else {
                    Sent::Some
                };
                failed(broke(error.error(), sent), unsent(message))
            }
        }
    }

    async fn stream(
        &self,
    ) -> Result<(http2::SendRequest<RequestBody>, Rc<Cell<u32>>, SharedIo), SendError> {
        if let Some(stream) = self.free_stream() {
            return Ok(stream);
        }
        // One at a time: those that wait find the new connection.
        let _one = self.connecting.lock().await;
        if let Some(stream) = self.free_stream() {
            return Ok(stream);
        }
        let io = self.open().await?;
        let listening = Listening::new(io.clone());
        let leaving = listening.said();
        let (sender, connection) = http2::Builder::new(LocalExecutor)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEAD_BYTES_MAX as u32)
            .handshake(TokioIo::new(listening))
            .await
            .map_err(|error| broke(&error, Sent::Nothing))?;
        let connection = Rc::new(RefCell::new(Some(connection)));
        let driven = Rc::clone(&connection);
        let driver = spawn(std::future::poll_fn(move |cx| {
            let mut driven = driven.borrow_mut();
            let ended = driven.as_mut().map_or(Poll::Ready(Ok(())), |c| Pin::new(c).poll(cx));
            if ended.is_ready() {
                // Its sender learns of the end by this.
                *driven = None;
            }
            ended
        }));
        settled(&io, &sender).await;
        let streams = Rc::default();
        let connection = Http2 { sender, streams, connection, io, leaving, _driver: driver };
        let stream = connection.take();
        self.http2.borrow_mut().push(connection);
        Ok(stream)
    }

    fn free_stream(&self) -> Option<(http2::SendRequest<RequestBody>, Rc<Cell<u32>>, SharedIo)> {
        let mut connections = self.http2.borrow_mut();
        connections.retain(Http2::is_of_use);
        connections
            .iter()
            .filter(|c| !c.leaving.get())
            .find(|c| {
                let streams = c.streams.get();
                let allowed = c.connection.borrow();
                let allowed = allowed.as_ref().map_or(0, Http2Connection::current_max_send_streams);
                streams < STREAMS_MAX && (streams as usize) < allowed
            })
            .map(Http2::take)
    }
}

impl Http2 {
    /// Whether it may carry a request, or carries one.
    fn is_of_use(&self) -> bool {
        !self.sender.is_closed() && (!self.leaving.get() || self.streams.get() > 0)
    }

    fn take(&self) -> (http2::SendRequest<RequestBody>, Rc<Cell<u32>>, SharedIo) {
        self.streams.set(self.streams.get() + 1);
        (self.sender.clone(), Rc::clone(&self.streams), self.io.clone())
    }
}

/// Waits for an endpoint's first words, which say how many streams it allows: more would wait
/// inside the connection, unseen. They are on their way when the connection is made, so this looks
/// at every turn of the event loop before it sleeps.
async fn settled(io: &SharedIo, sender: &http2::SendRequest<RequestBody>) {
    let mut looks = 0;
    while io.traffic().bytes_read() == 0 && !sender.is_closed() {
        looks += 1;
        if looks <= SETTINGS_TURNS {
            tokio::task::yield_now().await;
        } else if looks <= SETTINGS_TURNS + SETTINGS_SLEEPS {
            tokio::time::sleep(Duration::from_millis(1)).await;
        } else {
            return;
        }
    }
}

fn unsent(message: Option<Request<RequestBody>>) -> Unsent {
    message.map_or(Unsent::Lost, |request| Unsent::Whole(Box::new(request)))
}

fn broke(error: &dyn std::fmt::Display, sent: Sent) -> SendError {
    SendError { reason: Reason::UpstreamBroke, sent, message: error.to_string() }
}

fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return Some(error);
        }
        source = error.source();
    }
    None
}

fn spawn<F>(connection: F) -> Driver
where
    F: Future<Output = hyper::Result<()>> + 'static,
{
    let task = tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::trace!(%error, "upstream connection ended");
        }
    });
    Driver(task.abort_handle())
}

/// Runs hyper's tasks on the worker's own runtime.
#[derive(Clone, Copy, Debug)]
struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}
