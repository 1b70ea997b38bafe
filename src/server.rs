//! HTTP beside the data plane, for the few who ask about tidegate rather than through it: a thread
//! and a runtime of its own, so that requests are never slowed by it nor it by them, and bounds on
//! everything that a caller could make much of.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tower::limit::ConcurrencyLimit;
use tower::load_shed::LoadShed;
use tower::timeout::Timeout;
use tower::{BoxError, ServiceExt as _, service_fn};

/// How long accepting rests after an error such as "too many open files".
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is answered: short, and whole before it is sent.
pub type Answer = Response<Full<Bytes>>;

/// What callers may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at once; further ones wait in the kernel.
    pub connections: u16,
    /// Requests at once; further ones get 503.
    pub requests: usize,
    /// A TLS handshake must be done by then.
    pub handshake: Duration,
    /// A request's head must have come by then; idle connections end after it too.
    pub head: Duration,
    /// From the head to the answer; then it is 408.
    pub request: Duration,
    /// How long answers under way have at the end.
    pub end: Duration,
}

/// A line of text as an answer.
pub fn plain(status: StatusCode, text: &str) -> Answer {
    let mut answer = Response::new(Full::from(format!("{text}\n")));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    answer
}

/// A running server. Dropped, it stops.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    runtime: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves what a listener accepts, on a thread of this name: `serve` gets each connection.
    /// The listener is bound by the caller, who can say who holds a taken port.
    ///
    /// # Errors
    /// The thread or its runtime cannot be made, or the listener is not usable.
    pub fn start<S, F>(
        name: &str,
        listener: std::net::TcpListener,
        bounds: Bounds,
        serve: S,
    ) -> io::Result<Self>
    where
        S: Fn(TcpStream, Session) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let handle = runtime.handle().clone();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || runtime.block_on(accept_all(listener, bounds, stopped, serve)))?;
        Ok(Self { address, stop, runtime: handle, thread: Some(thread) })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Does something on its thread until it stops.
    pub fn beside(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.runtime.spawn(work));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // Bounded by `Bounds::end`.
            let _ = thread.join();
        }
    }
}

async fn accept_all<S, F>(
    listener: TcpListener,
    bounds: Bounds,
    mut stop: watch::Receiver<bool>,
    serve: S,
) where
    S: Fn(TcpStream, Session) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let connections = Arc::new(Semaphore::new(bounds.connections.into()));
    let requests = Arc::new(Semaphore::new(bounds.requests));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &connections) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, permit)) => {
                let requests = Arc::clone(&requests);
                let served = serve(stream, Session { bounds, requests, stop: stop.clone() });
                tokio::spawn(async move {
                    served.await;
                    drop(permit);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    drop(listener);
    // Connections without a request end at once.
    let _ = timeout(bounds.end, connections.acquire_many(bounds.connections.into())).await;
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    let _ = stream.set_nodelay(true);
    Ok((stream, permit))
}

/// What a connection may take, and when it is to end.
#[derive(Debug)]
pub struct Session {
    bounds: Bounds,
    requests: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

/// What came of a handshake.
#[derive(Debug)]
pub enum Shaken<T> {
    /// It ended, well or not.
    Done(T),
    /// It took too long.
    Late,
    /// The server stops.
    Stopped,
}

impl Session {
    /// Bounds a handshake.
    pub async fn shake<T>(&mut self, handshake: impl Future<Output = T>) -> Shaken<T> {
        tokio::select! {
            done = timeout(self.bounds.handshake, handshake) => {
                done.map_or(Shaken::Late, Shaken::Done)
            }
            _ = self.stop.wait_for(|stop| *stop) => Shaken::Stopped,
        }
    }

    /// Serves HTTP/1.1 until the client leaves or the server stops. `handle` answers a request;
    /// `refuse` makes the answer of a request that it did not.
    pub async fn http<H, F>(
        mut self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        handle: H,
        refuse: fn(StatusCode, &str) -> Answer,
    ) where
        H: Fn(Request<Incoming>) -> F + Clone,
        F: Future<Output = Result<Answer, BoxError>>,
    {
        // Outermost first: too many at once are refused, not queued; each has its time.
        let service = LoadShed::new(ConcurrencyLimit::with_semaphore(
            Timeout::new(service_fn(handle), self.bounds.request),
            self.requests,
        ));
        let service = hyper::service::service_fn(move |request| {
            let service = service.clone();
            async move {
                let answer = service.oneshot(request).await;
                Ok::<_, Infallible>(answer.unwrap_or_else(|problem| failed(&problem, refuse)))
            }
        });
        let mut connection = std::pin::pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(self.bounds.head)
                .serve_connection(TokioIo::new(stream), service)
        );
        tokio::select! {
            _ = &mut connection => return,
            _ = self.stop.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }
}

fn failed(problem: &BoxError, refuse: fn(StatusCode, &str) -> Answer) -> Answer {
    if problem.is::<tower::timeout::error::Elapsed>() {
        return refuse(StatusCode::REQUEST_TIMEOUT, "the request took too long");
    }
    if problem.is::<tower::load_shed::error::Overloaded>() {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once");
    }
    refuse(StatusCode::BAD_REQUEST, &problem.to_string())
}
