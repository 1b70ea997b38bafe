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
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower::limit::ConcurrencyLimit;
use tower::load_shed::LoadShed;
use tower::timeout::Timeout;
use tower::{BoxError, ServiceExt as _, service_fn};

use super::guard;
use super::metrics::started;
use super::routes::{self, Answer};
use super::view::Views;

/// Connections at once; further ones wait in the kernel.
const CONNECTIONS: usize = 256;
/// Requests at once; further ones get 503.
const REQUESTS: usize = 64;
/// A request's head must have come by then; idle connections end after it too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// From the head to the answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Nothing that is sent here is large.
const BODY_LIMIT: usize = 64 * 1024;
/// How long accepting rests after an error such as "too many open files".
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How the admin server is set up.
#[derive(Debug)]
pub struct Config {
    /// Where it listens; bound by the caller, who can say who holds a taken port.
    pub listener: std::net::TcpListener,
    /// Host names it may be called by, besides loopback ones and the address connected to.
    pub hosts: Vec<String>,
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
        let shared = Arc::new(Shared { views, hosts: config.hosts });
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
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let requests = Arc::new(Semaphore::new(REQUESTS));
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

async fn connection(
    stream: TcpStream,
    shared: Arc<Shared>,
    requests: Arc<Semaphore>,
    mut stop: watch::Receiver<bool>,
) {
    let Ok(local) = stream.local_addr() else { return };
    // Outermost first: too many at once are refused, not queued; each has its time.
    let service = LoadShed::new(ConcurrencyLimit::with_semaphore(
        Timeout::new(
            service_fn(move |request| handle(Arc::clone(&shared), local.ip(), request)),
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
    local: IpAddr,
    request: Request<Incoming>,
) -> Result<Answer, BoxError> {
    let (head, body) = request.into_parts();
    if let Err(refusal) = guard::check(&head.method, &head.headers, local, &shared.hosts) {
        return Ok(routes::error(refusal.status, &refusal.message));
    }
    discard(body).await?;
    Ok(routes::answer(&head.method, head.uri.path(), &head.headers, &shared.views))
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
