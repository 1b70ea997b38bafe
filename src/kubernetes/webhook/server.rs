//! The HTTPS server of the webhook, on a thread of its own. It is asked a few times a second at
//! most; what matters is that nobody in the cluster can make it cost much.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tower::limit::ConcurrencyLimit;
use tower::load_shed::LoadShed;
use tower::timeout::Timeout;
use tower::{BoxError, ServiceExt as _, service_fn};

use super::certificate::Served;
use super::review;
use super::settings::LiveSettings;

/// Connections at once; further ones wait in the kernel.
const CONNECTIONS: usize = 128;
/// Requests at once; further ones get 503.
const REQUESTS: usize = 64;
/// Bodies in memory at once, in KiB: the API server takes objects of 3 MiB and sends two of them.
const BODIES_KIB: usize = 32 * 1024;
/// Largest body in bytes.
const BODY_MAX: usize = 8 * 1024 * 1024;
/// A TLS handshake, and the head of a request, must have come by then.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle connections end after it; the API server keeps its own for 90 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// From the head to the answer; the API server waits as long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long accepting rests after an error such as "too many open files".
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long answers under way have at the end.
const END: Duration = Duration::from_secs(2);

type Answer = Response<Full<Bytes>>;

/// How the webhook is set up.
#[derive(Debug)]
pub struct WebhookConfig {
    /// Where it listens; bound by the caller, who can say who holds a taken port.
    pub listener: std::net::TcpListener,
    /// The certificate in use.
    pub served: Arc<Served>,
    /// What objects are checked against.
    pub settings: Arc<LiveSettings>,
}

/// A running webhook. Dropped, it stops.
#[derive(Debug)]
pub struct WebhookServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl WebhookServer {
    /// Starts it on a thread of its own.
    ///
    /// # Errors
    /// The thread, its runtime or the TLS library cannot be set up, or the listener is not usable.
    pub fn start(config: WebhookConfig) -> io::Result<Self> {
        config.listener.set_nonblocking(true)?;
        let address = config.listener.local_addr()?;
        let tls = config.served.server_config().map_err(io::Error::other)?;
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(config.listener)?
        };
        let shared = Arc::new(Shared {
            tls: TlsAcceptor::from(tls),
            settings: config.settings,
            requests: Arc::new(Semaphore::new(REQUESTS)),
            bodies: Arc::new(Semaphore::new(BODIES_KIB)),
        });
        let thread = std::thread::Builder::new()
            .name("webhook".to_owned())
            .spawn(move || runtime.block_on(serve(listener, shared, stopped)))?;
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for WebhookServer {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // Bounded by `END`.
            let _ = thread.join();
        }
    }
}

struct Shared {
    tls: TlsAcceptor,
    settings: Arc<LiveSettings>,
    requests: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &connections) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, permit)) => {
                let (shared, stop) = (Arc::clone(&shared), stop.clone());
                tokio::spawn(async move {
                    connection(stream, shared, stop).await;
                    drop(permit);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    drop(listener);
    let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(END, connections.acquire_many(all)).await;
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

async fn connection(stream: TcpStream, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let handshake = tokio::select! {
        handshake = tokio::time::timeout(HEAD_TIMEOUT, shared.tls.accept(stream)) => handshake,
        _ = stop.wait_for(|stop| *stop) => return,
    };
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "webhook: no TLS handshake"),
        Err(_elapsed) => return,
    };
    // Outermost first: too many at once are refused, not queued; each has its time.
    let requests = Arc::clone(&shared.requests);
    let service = LoadShed::new(ConcurrencyLimit::with_semaphore(
        Timeout::new(
            service_fn(move |request| handle(Arc::clone(&shared), request)),
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
            .header_read_timeout(IDLE_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        _ = &mut connection => return,
        _ = stop.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
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
    Ok(match review::answer(head.uri.path(), &body, &context) {
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

fn failed(problem: &BoxError) -> Answer {
    if problem.is::<tower::timeout::error::Elapsed>() {
        return plain(StatusCode::REQUEST_TIMEOUT, "the request took too long");
    }
    if problem.is::<tower::load_shed::error::Overloaded>() {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once");
    }
    plain(StatusCode::BAD_REQUEST, &problem.to_string())
}

fn plain(status: StatusCode, text: &str) -> Answer {
    let mut answer = Response::new(Full::from(format!("{text}\n")));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    answer
}
