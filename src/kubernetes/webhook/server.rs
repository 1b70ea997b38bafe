//! The HTTPS server of the webhook, on a thread of its own. It is asked a few times a second at
//! most; what matters is that nobody in the cluster can make it cost much.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use kube::Client;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tower::BoxError;

use super::NeedsOf;
use super::review::{self, Around, Review};
use super::served::Served;
use super::settings::LiveSettings;
use crate::server::{Answer, Bounds, Server, Session, Shaken, plain};

/// What callers may take.
const BOUNDS: Bounds = Bounds {
    connections: 128,
    requests: 64,
    handshake: Duration::from_secs(5),
    // The API server keeps idle connections for 90 s.
    head: Duration::from_secs(120),
    // The API server waits as long.
    request: Duration::from_secs(5),
    end: Duration::from_secs(2),
};
/// Bodies in memory at once, in KiB: the API server takes objects of 3 MiB and sends two of them.
const BODIES_KIB: usize = 32 * 1024;
/// Largest body in bytes.
const BODY_MAX: usize = 8 * 1024 * 1024;

/// How the webhook is set up.
pub struct WebhookConfig {
    /// Where it listens; bound by the caller, who can say who holds a taken port.
    pub listener: std::net::TcpListener,
    /// The certificate in use.
    pub served: Arc<Served>,
    /// What objects are checked against.
    pub settings: Arc<LiveSettings>,
    /// By what the API server is asked to try templates, for dry runs; none = they are not tried.
    pub client: Option<Client>,
    /// What services there are depend on: what is new is to make no circle with it.
    pub needs: NeedsOf,
}

impl std::fmt::Debug for WebhookConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookConfig").field("listener", &self.listener).finish_non_exhaustive()
    }
}

/// A running webhook. Dropped, it stops.
#[derive(Debug)]
pub struct WebhookServer(Server);

impl WebhookServer {
    /// Starts it on a thread of its own.
    ///
    /// # Errors
    /// The thread, its runtime or the TLS library cannot be set up, or the listener is not usable.
    pub fn start(config: WebhookConfig) -> io::Result<Self> {
        let tls = config.served.server_config().map_err(io::Error::other)?;
        let shared = Arc::new(Shared {
            tls: TlsAcceptor::from(tls),
            settings: config.settings,
            client: config.client,
            needs: config.needs,
            bodies: Arc::new(Semaphore::new(BODIES_KIB)),
        });
        let server = Server::start("webhook", config.listener, BOUNDS, move |stream, session| {
            connection(stream, session, Arc::clone(&shared))
        })?;
        Ok(Self(server))
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.0.address()
    }
}

struct Shared {
    tls: TlsAcceptor,
    settings: Arc<LiveSettings>,
    client: Option<Client>,
    needs: NeedsOf,
    bodies: Arc<Semaphore>,
}

async fn connection(stream: TcpStream, mut session: Session, shared: Arc<Shared>) {
    let stream = match session.shake(shared.tls.accept(stream)).await {
        Shaken::Done(Ok(stream)) => stream,
        Shaken::Done(Err(error)) => return tracing::debug!(%error, "webhook: no TLS handshake"),
        Shaken::Late | Shaken::Stopped => return,
    };
    session.http(stream, move |request| handle(Arc::clone(&shared), request), plain).await;
}

async fn handle(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Answer, BoxError> {
    let (head, body) = request.into_parts();
    if head.method != Method::POST {
        let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "the API server asks with POST");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return Ok(answer);
    }
    let Some((body, _held)) = read(body, &shared.bodies).await? else {
        return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"));
    };
    let context = shared.settings.context().await;
    let around = Around { context: &context, needs: &shared.needs };
    let mut review = review::review(head.uri.path(), &body, &around);
    if let (Ok(judged), Some(client)) = (&review, &shared.client)
        && let Some(trial) = judged.trial()
        && let Err(why) = trial.run(client).await
    {
        review = review.map(|judged| judged.failed(&why));
    }
    Ok(match review.and_then(Review::into_body) {
        Ok(review) => {
            let mut answer = Response::new(Full::from(review));
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            answer
        }
        Err(refused) => plain(refused.status, &refused.message),
    })
}

/// The body, and its part of the memory that bodies may take; none if it is too large.
async fn read(
    mut body: Incoming,
    bodies: &Arc<Semaphore>,
) -> Result<Option<(Vec<u8>, Option<OwnedSemaphorePermit>)>, BoxError> {
    let mut bytes = Vec::new();
    let mut held: Option<OwnedSemaphorePermit> = None;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if bytes.len() + data.len() > BODY_MAX {
            return Ok(None);
        }
        bytes.extend_from_slice(&data);
        let has = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let needs = u32::try_from(bytes.len().div_ceil(1024).saturating_sub(has))?;
        let permit = Arc::clone(bodies)
            .try_acquire_many_owned(needs)
            .map_err(|_full| tower::load_shed::error::Overloaded::new())?;
        match &mut held {
            Some(held) => held.merge(permit),
            None => held = Some(permit),
        }
    }
    Ok(Some((bytes, held)))
}
