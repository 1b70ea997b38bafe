//! `preStop` hooks of pods: kubelet asks here before it tells a pod to end, and is answered once no
//! request is left at pods of that revision that go, through any proxy. That is what the queue-proxy's
//! `/wait-for-drain` is for in Knative (`pkg/queue/sharedmain/handlers.go`).
//!
//! A hook says neither which pod it is for nor waits twice, so that it is held a little longer than
//! it takes all proxies to hear of the pod, and for all pods of the revision that go.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::ALLOW;
use http::{HeaderValue, Method, StatusCode};
use tokio::time::{Instant, sleep, sleep_until};

use crate::model::RevisionId;
use crate::server::{Answer, Bounds, Server, plain};

/// How long a pod is held where nothing is known of its requests: by then no proxy sends to it any
/// more, and most requests have ended.
pub const HOLD: Duration = Duration::from_secs(15);
/// Every pod is held as long: each proxy has heard that it goes, and told what it has there.
const LEAST: Duration = Duration::from_secs(3);
/// How often it is looked whether a request is left.
const AGAIN: Duration = Duration::from_millis(250);
/// Nobody is held any longer.
const MOST: Duration = Duration::from_secs(3600);

/// What callers may take. A node that is drained asks for all of its pods at once.
const BOUNDS: Bounds = Bounds {
    connections: 4096,
    requests: 4096,
    handshake: Duration::from_secs(5),
    head: Duration::from_secs(10),
    request: Duration::from_secs(3660),
    // Those who wait here would be told to end their pods at once; others of tidegate's proxies may
    // have requests there.
    end: Duration::from_secs(600),
};

/// What is left at pods of a revision that go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// So many requests, of all proxies.
    Requests(u32),
    /// At least so many: of those of other proxies nothing is known.
    AtLeast(u32),
}

/// Says what is left.
pub type Look = Box<dyn Fn(&RevisionId) -> Left + Send + Sync>;

/// Path of a revision's hook; nobody waits there longer than `most`.
pub fn path(revision: &RevisionId, most: Duration) -> String {
    format!("/prestop/{}/{}/{}", revision.namespace, revision.name, most.as_secs())
}

fn read(path: &str) -> Option<(RevisionId, Duration)> {
    let mut parts = path.strip_prefix("/prestop/")?.split('/');
    let (namespace, name, most) = (parts.next()?, parts.next()?, parts.next()?);
    let most = Duration::from_secs(most.parse().ok()?);
    let is_read = parts.next().is_none() && !namespace.is_empty() && !name.is_empty();
    is_read.then(|| (RevisionId::new(namespace, name), most.min(MOST)))
}

/// A running server for hooks. Dropped, it answers those that wait once they may go.
#[derive(Debug)]
pub struct PreStopServer(Server);

impl PreStopServer {
    /// Starts it on a thread of its own.
    ///
    /// # Errors
    /// The thread or its runtime cannot be made, or the listener is not usable.
    pub fn start(listener: std::net::TcpListener, look: Look) -> io::Result<Self> {
        let look = Arc::new(look);
        let server = Server::start("prestop", listener, BOUNDS, move |stream, session| {
            let look = Arc::clone(&look);
            session.http(
                stream,
                move |request| {
                    let look = Arc::clone(&look);
                    async move { Ok(answer(request.method(), request.uri().path(), &look).await) }
                },
                plain,
            )
        })?;
        Ok(Self(server))
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.0.address()
    }
}

async fn answer(method: &Method, path: &str, look: &Look) -> Answer {
    if *method != Method::GET {
        let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "kubelets ask with GET");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return answer;
    }
    match read(path) {
        Some((revision, most)) => {
            let why = hold(&revision, most, look).await;
            tracing::debug!(%revision, why, "a pod that was held may end");
            plain(StatusCode::OK, why)
        }
        None => plain(StatusCode::NOT_FOUND, "hooks ask for /prestop/NAMESPACE/REVISION/SECONDS"),
    }
}

/// Returns once pods of this revision that go may end, with why.
async fn hold(revision: &RevisionId, most: Duration, look: &Look) -> &'static str {
    let begun = Instant::now();
    sleep(LEAST.min(most)).await;
    while begun.elapsed() < most {
        match look(revision) {
            Left::Requests(0) => return "no request is left",
            Left::AtLeast(0) if begun.elapsed() >= HOLD => return "no request is known of",
            Left::Requests(_) | Left::AtLeast(_) => {}
        }
        sleep_until((Instant::now() + AGAIN).min(begun + most)).await;
    }
    "its time is over"
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    /// How long somebody is held, in milliseconds, and why no longer; what is left at which second.
    async fn held(most_s: u64, left: Vec<(u64, Left)>) -> (u128, &'static str) {
        let begun = Instant::now();
        let left = Mutex::new(left);
        let look: Look = Box::new(move |revision| {
            assert_eq!(*revision, RevisionId::new("ns", "hello-00001"));
            let mut left = left.lock();
            while left.len() > 1 && begun.elapsed() >= Duration::from_secs(left[1].0) {
                left.remove(0);
            }
            left[0].1
        });
        let path = path(&RevisionId::new("ns", "hello-00001"), Duration::from_secs(most_s));
        let (revision, most) = read(&path).unwrap();
        let why = hold(&revision, most, &look).await;
        (begun.elapsed().as_millis(), why)
    }

    #[tokio::test(start_paused = true)]
    async fn pods_are_held_while_a_request_is_left() {
        use Left::{AtLeast, Requests};
        let (none, over, unknown) =
            ("no request is left", "its time is over", "no request is known of");
        for (most, left, expected) in [
            (300, vec![(0, Requests(0))], (3_000, none)),
            (300, vec![(0, Requests(2)), (20, Requests(1)), (40, Requests(0))], (40_000, none)),
            // Not longer than its longest request may take.
            (10, vec![(0, Requests(1))], (10_000, over)),
            (1, vec![(0, Requests(0))], (1_000, over)),
            (9_999_999, vec![(0, Requests(1))], (3_600_000, over)),
            // Where another proxy cannot be asked: as where none could be.
            (300, vec![(0, AtLeast(0))], (15_000, unknown)),
            (300, vec![(0, AtLeast(1)), (60, AtLeast(0))], (60_000, unknown)),
            (300, vec![(0, AtLeast(0)), (5, Requests(0))], (5_000, none)),
        ] {
            let shown = format!("{most} s, {left:?}");
            assert_eq!(held(most, left).await, expected, "{shown}");
        }
    }

    #[tokio::test]
    async fn what_is_no_hook_is_answered_at_once() {
        let look: Look = Box::new(|_| Left::Requests(1));
        for path in
            ["/", "/prestop/ns/a", "/prestop/ns//5", "/prestop/ns/a/soon", "/prestop/ns/a/5/6"]
        {
            let answer = answer(&Method::GET, path, &look).await;
            assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
        }
        let answer = answer(&Method::POST, "/prestop/ns/a/5", &look).await;
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
