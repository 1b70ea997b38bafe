//! The admin listener: its own thread and runtime, so that a scrape never takes time from
//! requests and answers come also when the workers are busy.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::HeaderMap;
use http::{Request, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tower::BoxError;

use super::dashboard;
use super::guard;
use super::metrics::started;
use super::order::{self, Declined, Order, Orders};
use super::routes;
use super::token::{READ_EVERY, Token, shown};
use super::view::Views;
use crate::server::{Answer, Bounds, Server, Session, Shaken};
use crate::tls::{Handshake, Outcome, TlsServer};

/// Requests at once; further ones get 503.
const REQUESTS: usize = 64;
/// What callers may take. At the end everything is short.
const BOUNDS: Bounds = Bounds {
    connections: 256,
    requests: REQUESTS,
    handshake: Duration::from_secs(10),
    head: Duration::from_secs(30),
    request: Duration::from_secs(10),
    end: Duration::from_secs(1),
};
/// Nothing that is sent here is large.
const BODY_LIMIT: usize = 64 * 1024;

const SPEAKS_TLS: &str = "this port speaks TLS: write https:// in place of http:// (tidegate \
                          status: add --admin-ca FILE)";

const SECRETS_NEED_TOKEN: &str = "values of Secrets are given only to who shows a token: start \
                                  tidegate with --admin-token-file FILE";

const NOTHING_TO_ORDER: &str = "there is nothing here that can be told to do something";

const API_IS_LOCAL: &str = "the JSON API is for callers on the machine itself here: set a token \
                            (--admin-token-file FILE)";

/// What is said of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its holder may ask.
    Allowed,
    /// It is nobody's.
    Unknown,
    /// Its holder may not ask: why, and what to do.
    Forbidden(String),
    /// Nothing is known of it at the moment: why.
    Unasked(String),
}

/// Says of a token whether its holder may ask.
pub type Reviewer = Box<dyn Fn(String) -> BoxFuture<'static, Verdict> + Send + Sync>;

/// How the admin server is set up.
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
    /// Who says of others, by their tokens, that it is for them too.
    pub reviewer: Option<Reviewer>,
    /// Who carries out what it is told to do; none = there is nothing to be told.
    pub orders: Option<Orders>,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl Config {
    /// Plain HTTP, by loopback names, for everybody.
    pub const fn new(listener: std::net::TcpListener) -> Self {
        Self {
            listener,
            hosts: Vec::new(),
            tls: None,
            token: None,
            api_is_local: false,
            reviewer: None,
            orders: None,
        }
    }
}

/// A running admin server. Dropped, it stops.
#[derive(Debug)]
pub struct AdminServer(Server);

impl AdminServer {
    /// Starts it on a thread of its own.
    ///
    /// # Errors
    /// The thread or its runtime cannot be made, or the listener is not usable.
    pub fn start(config: Config, views: Views) -> io::Result<Self> {
        started();
        let Config { listener, hosts, tls, token, api_is_local, reviewer, orders } = config;
        let shared = Arc::new(Shared { views, orders, hosts, tls, token, api_is_local, reviewer });
        let renewed = Arc::clone(&shared);
        let server = Server::start("admin", listener, BOUNDS, move |stream, session| {
            connection(stream, session, Arc::clone(&shared))
        })?;
        if renewed.token.is_some() {
            server.beside(renew_token(renewed));
        }
        Ok(Self(server))
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.0.address()
    }
}

struct Shared {
    views: Views,
    orders: Option<Orders>,
    hosts: Vec<String>,
    tls: Option<Arc<TlsServer>>,
    token: Option<Token>,
    api_is_local: bool,
    reviewer: Option<Reviewer>,
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

async fn connection(stream: TcpStream, mut session: Session, shared: Arc<Shared>) {
    let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else { return };
    let ends = Ends { local: local.ip(), peer: peer.ip() };
    let Some(tls) = shared.tls.as_ref().map(Arc::clone) else {
        return serve(stream, session, Way::Plain, ends, shared).await;
    };
    match session.shake(tls.handshake(stream)).await {
        Shaken::Done(Handshake::Done(stream)) => {
            serve(stream, session, Way::Tls, ends, shared).await;
        }
        Shaken::Done(Handshake::PlainHttp(stream)) => {
            serve(stream, session, Way::Wrong, ends, shared).await;
        }
        Shaken::Done(Handshake::Failed) | Shaken::Stopped => {}
        Shaken::Late => tls.count(Outcome::Timeout),
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    session: Session,
    way: Way,
    ends: Ends,
    shared: Arc<Shared>,
) {
    let handle = move |request| handle(Arc::clone(&shared), way, ends, request);
    session.http(stream, handle, routes::error).await;
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
    let path = head.uri.path();
    let is_open = matches!(path, "/livez" | "/readyz") || dashboard::is_open(path, &head.headers);
    if !is_open && shared.token.as_ref().is_some_and(|token| !token.is_shown(&head.headers)) {
        return Ok(routes::unauthorized());
    }
    let is_local_only = shared.api_is_local && shared.token.is_none();
    if is_local_only
        && !is_for(ends.peer, head.uri.path())
        && let Some(refusal) = refusal_of_others(&shared, &head.headers).await
    {
        return Ok(refusal);
    }
    let body = read(body).await?;
    if let Some(order) = order::read(&head.method, &head.uri, &body) {
        let done = match order {
            // Other users of the machine reach a loopback address as well.
            Ok(Order::Export { secrets: true }) if shared.token.is_none() => {
                Err(Declined::new(StatusCode::FORBIDDEN, SECRETS_NEED_TOKEN))
            }
            Ok(order) => match &shared.orders {
                Some(orders) => orders(order).await,
                None => Err(Declined::new(StatusCode::NOT_IMPLEMENTED, NOTHING_TO_ORDER)),
            },
            Err(declined) => Err(declined),
        };
        return Ok(routes::done(done));
    }
    Ok(routes::answer(&head.method, &head.uri, &head.headers, &shared.views))
}

/// The answer to somebody elsewhere who may not ask; none if they may.
async fn refusal_of_others(shared: &Shared, headers: &HeaderMap) -> Option<Answer> {
    let Some(reviewer) = &shared.reviewer else {
        return Some(routes::error(StatusCode::FORBIDDEN, API_IS_LOCAL));
    };
    let Some(token) = shown(headers).and_then(|token| std::str::from_utf8(token).ok()) else {
        return Some(routes::unauthorized());
    };
    match reviewer(token.to_owned()).await {
        Verdict::Allowed => None,
        Verdict::Unknown => Some(routes::unauthorized()),
        Verdict::Forbidden(why) => Some(routes::error(StatusCode::FORBIDDEN, &why)),
        Verdict::Unasked(why) => Some(routes::error(StatusCode::SERVICE_UNAVAILABLE, &why)),
    }
}

/// Whether a path is for this caller where the API is for those on the machine.
fn is_for(peer: IpAddr, path: &str) -> bool {
    peer.to_canonical().is_loopback() || !path.starts_with("/api/")
}

/// Reads a body to its end, so that the connection stays usable.
async fn read(
    body: impl Body<Data = Bytes, Error = hyper::Error> + Unpin,
) -> Result<Bytes, BoxError> {
    Ok(Limited::new(body, BODY_LIMIT).collect().await?.to_bytes())
}

#[cfg(test)]
mod tests;
