//! One client connection: which protocol it speaks, and its clocks. hyper has none before the
//! version is known and none for an idle connection that would not be armed per request.

use std::cell::{Cell, OnceCell, RefCell};
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use crate::model::{Reason, ServiceId};
use crate::stats::Nanos;
use crate::upstream::SharedIo;

use super::answer::{Gone, answer};
use super::direct::{self, Next};
use super::exchange::Clockwork;
use super::forwarded::Client;
use super::guard::{Guard, Guarded, Verdict};
use super::listen::Guest;
use super::route::Way;
use super::shared::{DrainState, Shared};
use super::sweep::{Swept, Timer};
use super::worker::{LocalRevision, Worker};

/// Largest head of a request, HTTP/1 and HTTP/2 alike.
pub(super) const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Streams of one HTTP/2 connection. Times the stream window it is what a held connection may
/// take in memory, and what its window must allow, or held uploads would stop the others.
const STREAMS_MAX: u32 = 256;
const STREAM_WINDOW: u32 = 64 * 1024;
/// Streams × stream window would do for bytes. The library below also takes from it how many
/// unread small frames a connection may have (a 251st of its half, for messages of 5 bytes) before
/// it ends the connection for all: held gRPC streams have many. This allows 267,000.
const CONNECTION_WINDOW: u32 = 128 << 20;
const _: () = assert!(CONNECTION_WINDOW >= STREAMS_MAX * STREAM_WINDOW);
/// What is read of an upload after it was refused, so that the client sees why.
pub(super) const DISCARD_BYTES: u64 = 64 << 20;
pub(super) const DISCARD_TIME: Duration = Duration::from_secs(5);

/// What the sweep tells a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    None,
    /// Finish what is in flight, then close.
    Finish,
    /// Close now.
    Abort,
}

/// One client connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) io: SharedIo,
    pub(super) client: Client,
    /// Whether it came in from outside.
    pub(super) outside: bool,
    /// The service that its listener is for alone.
    pub(super) service: Option<Arc<ServiceId>>,
    http2: Cell<bool>,
    timer: Swept<Self>,
    active: Cell<u32>,
    served: Cell<bool>,
    quiet_since: Cell<Nanos>,
    bytes_when_quiet: Cell<u64>,
    head_since: Cell<Option<Nanos>>,
    keep_alive: Duration,
    command: Cell<Command>,
    waker: RefCell<Option<Waker>>,
    refused_upload: Cell<bool>,
    /// What hyper reads through, on HTTP/1.
    guard: OnceCell<Arc<Guard>>,
    /// The request that is answered asks for another protocol.
    switches: Cell<bool>,
    /// Told to finish while on the direct path.
    finishing: Cell<bool>,
    /// The revision that was drawn for the request that hyper is about to read.
    drawn: RefCell<Option<Rc<LocalRevision>>>,
    /// The timer of the HTTP/2 stream that hyper is about to spawn.
    next_stream: RefCell<Option<Rc<Timer>>>,
}

/// Counts a request of a connection until its response has ended.
#[derive(Debug)]
pub(super) struct Active(Rc<Connection>);

impl Active {
    pub(super) fn connection(&self) -> &Rc<Connection> {
        &self.0
    }

    /// The deadlines of this request: the connection's own for HTTP/1, which has one at a time.
    pub(super) fn clockwork(&self, worker: &Worker) -> Clockwork {
        if self.0.is_http2() {
            let timer = worker.sweeper.timer();
            *self.0.next_stream.borrow_mut() = Some(Rc::clone(&timer.timer));
            Clockwork::Own(timer)
        } else {
            Clockwork::Connection(Rc::clone(&self.0.timer.timer))
        }
    }

    /// The response ended: when the connection is quiet it is so from then on.
    pub(super) fn end(&self, now: Nanos) {
        self.0.quiet_since.set(now);
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let connection = &self.0;
        connection.active.set(connection.active.get() - 1);
        if connection.active.get() == 0 {
            connection.bytes_when_quiet.set(connection.io.traffic().bytes_read());
            connection.head_since.set(None);
        }
    }
}

impl Connection {
    /// How its requests come in.
    pub(super) fn way(&self, secure: bool) -> Way<'_> {
        Way { secure, outside: self.outside, service: self.service.as_deref() }
    }

    fn new(worker: &Worker, guest: Guest, timer: Swept<Self>) -> Rc<Self> {
        let settings = &worker.shared.settings;
        let io = SharedIo::new(guest.socket);
        let (nets, position) = (&settings.trusted_proxies, settings.position);
        let client = Client::new(guest.ip, guest.secure, nets, position);
        let keep_alive =
            if client.trusted { settings.keep_alive_trusted } else { settings.keep_alive };
        Rc::new(Self {
            io,
            client,
            outside: guest.outside,
            service: guest.service,
            http2: Cell::new(false),
            timer,
            active: Cell::new(0),
            served: Cell::new(false),
            quiet_since: Cell::new(worker.shared.clock.now()),
            bytes_when_quiet: Cell::new(0),
            head_since: Cell::new(None),
            keep_alive,
            command: Cell::new(Command::None),
            waker: RefCell::new(None),
            refused_upload: Cell::new(false),
            guard: OnceCell::new(),
            switches: Cell::new(false),
            finishing: Cell::new(false),
            drawn: RefCell::new(None),
            next_stream: RefCell::new(None),
        })
    }

    pub(super) fn is_http2(&self) -> bool {
        self.http2.get()
    }

    /// A request begins.
    pub(super) fn begin(self: &Rc<Self>, now: Nanos) -> Active {
        self.active.set(self.active.get() + 1);
        self.served.set(true);
        self.quiet_since.set(now);
        Active(Rc::clone(self))
    }

    /// An upload was refused that the client may still be sending.
    pub(super) fn refused_upload(&self) {
        self.refused_upload.set(true);
    }

    /// What the guard says of the request that hyper has just read.
    pub(super) fn verdict(&self) -> Verdict {
        let verdict = self.guard.get().map(|guard| guard.verdict()).unwrap_or_default();
        self.switches.set(verdict.switches);
        verdict
    }

    /// Whether the request that is answered asks for another protocol.
    pub(super) fn switches(&self) -> bool {
        self.switches.get()
    }

    /// Another protocol was agreed on: what follows is not looked at.
    pub(super) fn open_tunnel(&self) {
        if let Some(guard) = self.guard.get() {
            guard.open_tunnel();
        }
    }

    /// Whether a request has begun on it.
    pub(super) fn was_served(&self) -> bool {
        self.served.get()
    }

    /// Whether it is to end after what is in flight.
    pub(super) fn is_finishing(&self) -> bool {
        self.finishing.get()
    }

    /// Keeps the revision that was drawn for a request that another reads again.
    pub(super) fn keep_drawn(&self, revision: Rc<LocalRevision>) {
        *self.drawn.borrow_mut() = Some(revision);
    }

    /// The revision that was drawn for this request already.
    pub(super) fn take_drawn(&self) -> Option<Rc<LocalRevision>> {
        self.drawn.borrow_mut().take()
    }

    /// Finishes what is in flight, then closes.
    pub(super) fn close(&self) {
        self.tell(Command::Finish);
    }

    fn tell(&self, command: Command) {
        self.command.set(command);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Looks at the clocks of the connection itself.
    pub(super) fn look(&self, shared: &Shared, now: Nanos) {
        if self.active.get() > 0 {
            if !self.http2.get() && self.timer.timer.is_stuck() {
                self.io.reset_on_close();
                self.tell(Command::Abort);
            }
            return;
        }
        let read = self.io.traffic().bytes_read() != self.bytes_when_quiet.get();
        let head = !self.http2.get() && read || !self.served.get();
        if head {
            // A head has begun, or the first one is awaited.
            let since = match self.head_since.get() {
                Some(since) => since,
                None if self.served.get() => now,
                None => self.quiet_since.get(),
            };
            self.head_since.set(Some(since));
            if now.since(since) >= shared.settings.head_timeout {
                shared.refused(Reason::HeadTimeout);
                self.tell(Command::Abort);
            }
            return;
        }
        let quiet = now.since(self.quiet_since.get());
        if quiet >= self.keep_alive + shared.settings.head_timeout {
            // A head that had begun behind the last request keeps it from finishing.
            self.tell(Command::Abort);
        } else if quiet >= self.keep_alive {
            self.close();
        }
    }

    fn register(&self, waker: &Waker) {
        let mut slot = self.waker.borrow_mut();
        if !slot.as_ref().is_some_and(|w| w.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }
}

/// Serves a client connection to its end.
pub(super) async fn serve(worker: Rc<Worker>, guest: Guest) {
    let timer = worker.sweeper.timer();
    let connection = Connection::new(&worker, guest, timer);
    let watched = worker.sweeper.watch(connection);
    let connection = &watched.connection;
    // One that the kernel had accepted already: what it has asked is answered.
    connection.finishing.set(worker.shared.drain_state() >= DrainState::Closing);
    let direct = direct::serve(&worker, connection);
    let next = drive(connection, direct, |_| connection.finishing.set(true)).await;
    if next == Some(Next::Http2) && connection.is_finishing() {
        // Told so before anybody knew what it speaks.
        connection.close();
    }
    let result = match next {
        // Boxed: a connection on the direct path is not to have room for hyper's.
        Some(Next::Http2) => Box::pin(serve_http2(&worker, connection)).await,
        Some(Next::Http1) => Box::pin(serve_http1(&worker, connection)).await,
        Some(Next::Foreign) => {
            worker.shared.refused(Reason::BadRequest);
            connection.refused_upload();
            None
        }
        Some(Next::Nobody) | None => {
            connection.io.say_goodbye();
            return;
        }
    };
    if result.is_none() {
        connection.io.say_goodbye();
    }
    if let Some(Err(error)) = result {
        note_error(&worker.shared, &error);
    }
    if connection.refused_upload.get() {
        connection.io.clone().discard(DISCARD_BYTES, DISCARD_TIME).await;
    }
}

/// Drives a connection, listening to the sweep. None if it was aborted.
async fn drive<C: Future>(
    connection: &Rc<Connection>,
    driven: C,
    finish: impl Fn(Pin<&mut C>),
) -> Option<C::Output> {
    let mut driven = std::pin::pin!(driven);
    std::future::poll_fn(|cx| {
        match connection.command.replace(Command::None) {
            Command::None => {}
            Command::Finish => finish(driven.as_mut()),
            Command::Abort => return Poll::Ready(None),
        }
        if let Poll::Ready(output) = driven.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        connection.register(cx.waker());
        Poll::Pending
    })
    .await
}

async fn serve_http1(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
) -> Option<hyper::Result<()>> {
    let service = service_fn(|request: Request<Incoming>| answer(worker, connection, request));
    let mut builder = http1::Builder::new();
    builder.max_header_size(HEAD_BYTES_MAX).header_read_timeout(None);
    let guard = connection.guard.get_or_init(Guard::new);
    let io = Guarded::new(connection.io.clone(), Arc::clone(guard));
    let driven = builder.serve_connection(TokioIo::new(io), service).with_upgrades();
    drive(connection, driven, |driven| driven.graceful_shutdown()).await
}

async fn serve_http2(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
) -> Option<hyper::Result<()>> {
    connection.http2.set(true);
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(worker, connection, request);
        // A stream whose client is gone is dropped by hyper; it has nobody to tell.
        async move { Ok::<_, Infallible>(response.await.unwrap_or_else(|Gone| Gone::response())) }
    });
    let mut builder = http2::Builder::new(StreamExecutor(Rc::clone(connection)));
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        // An honest gateway may cancel all its streams in one go.
        .max_pending_accept_reset_streams(STREAMS_MAX as usize);
    let driven = builder.serve_connection(TokioIo::new(connection.io.clone()), service);
    drive(connection, driven, |driven| driven.graceful_shutdown()).await
}

/// What hyper refused by itself: only the connection's error tells.
fn note_error(shared: &Shared, error: &hyper::Error) {
    if error.is_parse_too_large() {
        shared.refused(Reason::HeadTooLarge);
    } else if error.is_parse() {
        shared.refused(Reason::BadRequest);
    }
    tracing::trace!(%error, "client connection ended");
}

/// Runs HTTP/2 streams on the worker's own runtime, and drops one whose time was over a while ago
/// and that does not end because its client takes nothing: the stream is reset.
#[derive(Clone, Debug)]
struct StreamExecutor(Rc<Connection>);

impl<F> hyper::rt::Executor<F> for StreamExecutor
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        let timer = self.0.next_stream.borrow_mut().take();
        tokio::task::spawn_local(async move {
            let mut future = std::pin::pin!(future);
            std::future::poll_fn(|cx: &mut Context<'_>| {
                if timer.as_ref().is_some_and(|timer| timer.is_stuck()) {
                    return Poll::Ready(());
                }
                if future.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                if let Some(timer) = &timer {
                    timer.register_stuck(cx.waker());
                }
                Poll::Pending
            })
            .await;
        });
    }
}
