//! The admin listener: its own thread and runtime, so that a scrape never takes time from
//! requests and answers come also when the workers are busy.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower::limit::ConcurrencyLimit;
use tower::load_shed::LoadShed;
use tower::timeout::Timeout;
use tower::{BoxError, ServiceExt as _, service_fn};

use super::guard;
use super::metrics::started;
use super::routes::{self, Answer};
use super::token::{READ_EVERY, Token};
use super::view::Views;
use crate::tls::{Handshake, Outcome, TlsServer};

/// Connections at once; further ones wait in the kernel.
const CONNECTIONS: usize = 256;
/// Requests at once; further ones get 503.
const REQUESTS: usize = 64;
/// A request's head must have come by then; idle connections end after it too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A TLS handshake must be done by then.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// From the head to the answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Nothing that is sent here is large.
const BODY_LIMIT: usize = 64 * 1024;
/// How long accepting rests after an error such as "too many open files".
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const SPEAKS_TLS: &str = "this port speaks TLS: write https:// in place of http:// (tidegate \
                          status: add --admin-ca FILE)";

const API_IS_LOCAL: &str = "the JSON API is for callers on the machine itself here: set a token \
                            (--admin-token-file FILE), or use kubectl port-forward";

/// How the admin server is set up.
#[derive(Debug)]
pub struct Config {
    /// Where it listens; bound by the caller, who can say who holds a taken port.
    pub listener: std::net::TcpListener,
    /// Host names it may be called by, besides loopback ones and the address connected to.
    pub hosts: Vec<String>,
    /// TLS, if it is to be spoken.
    pub tls: Option<Arc<TlsServer>>,
    /// What requests must show.
    pub token: Option<Token>,
    /// Whether all but metrics and health is for callers on this machine, where no token is set.
    pub api_is_local: bool,
}

impl Config {
    /// Plain HTTP, by loopback names, for everybody.
    pub const fn new(listener: std::net::TcpListener) -> Self {
        Self { listener, hosts: Vec::new(), tls: None, token: None, api_is_local: false }
    }
}

/// A running admin server. Dropped, it stops.
#[derive(Debug)]
pub struct AdminServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl AdminServer {
    /// Starts it on a thread of its own.
    ///
    /// # Errors
    /// The thread or its runtime cannot be made, or the listener is not usable.
    pub fn start(config: Config, views: Views) -> io::Result<Self> {
        started();
        config.listener.set_nonblocking(true)?;
        let address = config.listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(config.listener)?
        };
        let Config { hosts, tls, token, api_is_local, .. } = config;
        let shared = Arc::new(Shared { views, hosts, tls, token, api_is_local });
        let thread = std::thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || runtime.block_on(serve(listener, shared, stopped)))?;
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // It ends at once: answers are made without waiting.
            let _ = thread.join();
        }
    }
}

struct Shared {
    views: Views,
    hosts: Vec<String>,
    tls: Option<Arc<TlsServer>>,
    token: Option<Token>,
    api_is_local: bool,
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let requests = Arc::new(Semaphore::new(REQUESTS));
    let renewing = shared.token.is_some().then(|| tokio::spawn(renew_token(Arc::clone(&shared))));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &connections) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, permit)) => {
                let (shared, requests) = (Arc::clone(&shared), Arc::clone(&requests));
                let stop = stop.clone();
                tokio::spawn(async move {
                    connection(stream, shared, requests, stop).await;
                    drop(permit);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    drop(listener);
    renewing.inspect(tokio::task::JoinHandle::abort);
    // Answers under way are written within a moment; connections without a request end at once.
    let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(Duration::from_secs(1), connections.acquire_many(all)).await;
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

/// Takes up a token that was renewed in its file.
async fn renew_token(shared: Arc<Shared>) {
    let mut every = tokio::time::interval(READ_EVERY);
    loop {
        every.tick().await;
        shared.token.iter().for_each(Token::read_again);
    }
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug)]
struct Ends {
    local: IpAddr,
    peer: IpAddr,
}

/// How a connection came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Plain,
    Tls,
    /// Plain, where TLS is to be spoken.
    Wrong,
}

async fn connection(
    stream: TcpStream,
    shared: Arc<Shared>,
    requests: Arc<Semaphore>,
    mut stop: watch::Receiver<bool>,
) {
    let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else { return };
    let ends = Ends { local: local.ip(), peer: peer.ip() };
    let Some(tls) = shared.tls.as_ref().map(Arc::clone) else {
        return serve_http(stream, Way::Plain, ends, shared, requests, stop).await;
    };
    let handshake = tokio::select! {
        handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.handshake(stream)) => handshake,
        _ = stop.wait_for(|stop| *stop) => return,
    };
    match handshake {
        Ok(Handshake::Done(stream)) => {
            serve_http(stream, Way::Tls, ends, shared, requests, stop).await;
        }
        Ok(Handshake::PlainHttp(stream)) => {
            serve_http(stream, Way::Wrong, ends, shared, requests, stop).await;
        }
        Ok(Handshake::Failed) => {}
        Err(_elapsed) => tls.count(Outcome::Timeout),
    }
}

async fn serve_http(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    way: Way,
    ends: Ends,
    shared: Arc<Shared>,
    requests: Arc<Semaphore>,
    mut stop: watch::Receiver<bool>,
) {
    // Outermost first: too many at once are refused, not queued; each has its time.
    let service = LoadShed::new(ConcurrencyLimit::with_semaphore(
        Timeout::new(
            service_fn(move |request| handle(Arc::clone(&shared), way, ends, request)),
            REQUEST_TIMEOUT,
        ),
        requests,
    ));
    let service = hyper::service::service_fn(move |request| {
        let service = service.clone();
        async move {
            let answer = service.oneshot(request).await;
            Ok::<_, Infallible>(answer.unwrap_or_else(|problem| failed(&problem)))
        }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        _ = &mut connection => return,
        _ = stop.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

fn failed(problem: &BoxError) -> Answer {
    if problem.is::<tower::timeout::error::Elapsed>() {
        return routes::error(StatusCode::REQUEST_TIMEOUT, "the request took too long");
    }
    if problem.is::<tower::load_shed::error::Overloaded>() {
        return routes::error(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once");
    }
    routes::error(StatusCode::BAD_REQUEST, &problem.to_string())
}

async fn handle(
    shared: Arc<Shared>,
    way: Way,
    ends: Ends,
    request: Request<Incoming>,
) -> Result<Answer, BoxError> {
    let (head, body) = request.into_parts();
    if way == Way::Wrong {
        return Ok(routes::error(StatusCode::BAD_REQUEST, SPEAKS_TLS));
    }
    let scheme = if way == Way::Tls { "https" } else { "http" };
    if let Err(refusal) =
        guard::check(&head.method, &head.headers, scheme, ends.local, &shared.hosts)
    {
        return Ok(routes::error(refusal.status, &refusal.message));
    }
    let is_open = matches!(head.uri.path(), "/livez" | "/readyz");
    if !is_open && shared.token.as_ref().is_some_and(|token| !token.is_shown(&head.headers)) {
        return Ok(routes::unauthorized());
    }
    let is_local_only = shared.api_is_local && shared.token.is_none();
    if is_local_only && !is_for(ends.peer, head.uri.path()) {
        return Ok(routes::error(StatusCode::FORBIDDEN, API_IS_LOCAL));
    }
    discard(body).await?;
    Ok(routes::answer(&head.method, head.uri.path(), &head.headers, &shared.views))
}

/// Whether a path is for this caller where the API is for those on the machine.
fn is_for(peer: IpAddr, path: &str) -> bool {
    peer.to_canonical().is_loopback() || !path.starts_with("/api/")
}

/// Reads a body to its end, so that the connection stays usable.
async fn discard(
    body: impl Body<Data = Bytes, Error = hyper::Error> + Unpin,
) -> Result<(), BoxError> {
    let mut body = Limited::new(body, BODY_LIMIT);
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
