//! Several proxies that know of each other.
//!
//! ```text
//! EndpointSlices of `tidegate-peers` ─▶ discovery ─▶ roster ─▶ who is there, who is missing
//! Secret `tidegate-peers` ─▶ tls ─▶ one connection for each pair ─▶ session ─▶ messages
//! ```
//!
//! Of two proxies the one with the smaller pod UID calls the other. Both show a certificate of the
//! authority that is in the Secret; who does not have that key is refused. How a connection ends
//! says what became of the other side: with a goodbye it ended well and has no request any more;
//! silent for a second it is cut off and may live on. Closed without a word it is called again at
//! once: where nobody listens any more its process is gone.
//!
//! All of it runs on a thread of its own, so that neither requests nor the control loop wait for a
//! peer, nor a peer for them. Every queue has a bound.

mod discovery;
mod reports;
mod roster;
mod run;
mod session;
mod tls;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use reports::{AllStats, Loads, LoadsElsewhere, OneStats, Reports, Sources};
use roster::{Roster, Told};
pub use run::{PeersConfig, PeersThread};
pub use tls::PeerKeys;

/// Name of the headless Service whose slices list all proxies.
pub const SERVICE: &str = "tidegate-peers";

/// One life of one proxy: its pod's name, and a number that is new at every start.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeerId(pub Arc<str>);

impl PeerId {
    /// A new life of the proxy of this name.
    pub fn new(name: &str) -> Self {
        Self(format!("{name}_{:08x}", fastrand::u32(..)).into())
    }

    /// The name of its pod.
    pub fn pod(&self) -> &str {
        self.0.rsplit_once('_').map_or(&*self.0, |(pod, _)| pod)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a connection to a peer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Its process is gone, and its requests with it.
    Dead,
    /// It said goodbye: it has no requests any more.
    Ended,
    /// Silent, or not understood: it may live on, with requests.
    CutOff,
}

/// What happens between this proxy and another one, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Connected. Nothing that was said before comes any more: all is to be said anew.
    Joined(&'a PeerId),
    /// It said something: JSON.
    Message(&'a PeerId, &'a [u8]),
    /// The connection is over. After a `CutOff` comes a `Joined`, or a second `Lost` once it is
    /// known that its process is gone.
    Lost(&'a PeerId, Loss),
}

/// Who is there and who is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Whether the cluster has told who there is.
    pub listed: bool,
    /// Connected.
    pub connected: BTreeSet<PeerId>,
    /// Were connected, and may live on.
    pub cut_off: BTreeSet<PeerId>,
    /// Names of pods that serve and were never heard of.
    pub unheard: BTreeSet<Arc<str>>,
    /// Names of pods in which nothing runs.
    pub gone: BTreeSet<Arc<str>>,
}

impl Members {
    /// Whether nobody who may have requests is missing.
    pub fn is_complete(&self) -> bool {
        self.listed && self.cut_off.is_empty() && self.unheard.is_empty()
    }
}

type Listener = Box<dyn FnMut(&Peers, Event<'_>) + Send>;

/// The other proxies. Its methods may be called on any thread; none of them waits.
#[derive(Clone)]
pub struct Peers {
    shared: Arc<Shared>,
}

struct Shared {
    me: PeerId,
    roster: Mutex<Roster>,
    members: watch::Sender<Members>,
    listeners: Mutex<Vec<(&'static str, Listener)>>,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("me", &self.shared.me).finish_non_exhaustive()
    }
}

impl Peers {
    /// A proxy that knows nobody yet. `uid` is its pod's.
    pub fn new(me: PeerId, uid: &str) -> Self {
        let shared = Shared {
            me,
            roster: Mutex::new(Roster::new(uid)),
            members: watch::Sender::default(),
            listeners: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// This proxy.
    pub fn me(&self) -> &PeerId {
        &self.shared.me
    }

    /// Who is there and who is not.
    pub fn members(&self) -> watch::Receiver<Members> {
        self.shared.members.subscribe()
    }

    /// Has `listener` told of all joins and losses, and of messages of a kind: one word of small
    /// letters. It is called on the peers' thread and must not wait. To be called before the start.
    pub fn listen(
        &self,
        kind: &'static str,
        listener: impl FnMut(&Self, Event<'_>) + Send + 'static,
    ) {
        self.shared.listeners.lock().push((kind, Box::new(listener)));
    }

    /// Whether this one is connected to nobody.
    pub fn is_alone(&self) -> bool {
        self.shared.roster.lock().queues().next().is_none()
    }

    /// Sends a message to all that are connected; how many were too far behind for it.
    pub fn broadcast(&self, kind: &'static str, body: &impl Serialize) -> usize {
        let Some(frame) = wire::frame(kind, body) else { return 0 };
        let roster = self.shared.roster.lock();
        roster.queues().filter(|queue| !queue.push(frame.clone())).count()
    }

    /// Sends a message to one, if it is connected. Whoever is too far behind for it is cut off:
    /// nothing is left out on a connection.
    pub fn send(&self, to: &PeerId, kind: &'static str, body: &impl Serialize) {
        let roster = self.shared.roster.lock();
        let Some(queue) = roster.queue(to) else { return };
        let is_sent = wire::frame(kind, body).is_some_and(|frame| queue.push(frame));
        if !is_sent {
            tracing::warn!(peer = %to, kind, "another proxy is too far behind: its connection is cut");
            queue.cut();
        }
    }

    /// Changes the roster and tells what came of it. Only on the peers' thread: that keeps the
    /// order.
    fn change<T>(&self, change: impl FnOnce(&mut Roster) -> (T, Vec<Told>)) -> T {
        let (result, told, members) = {
            let mut roster = self.shared.roster.lock();
            let (result, told) = change(&mut roster);
            (result, told, roster.members())
        };
        for one in &told {
            match one {
                Told::Joined(peer) => tracing::info!(%peer, "connected to another proxy"),
                Told::Lost(peer, loss) => tracing::info!(%peer, ?loss, "lost another proxy"),
            }
        }
        self.shared.members.send_if_modified(|former| {
            let is_news = *former != members;
            *former = members;
            is_news
        });
        let mut listeners = self.shared.listeners.lock();
        for one in &told {
            for (_, listener) in listeners.iter_mut() {
                listener(self, one.event());
            }
        }
        result
    }

    /// Takes a message in.
    fn received(&self, from: &PeerId, kind: &[u8], body: &[u8]) {
        let mut listeners = self.shared.listeners.lock();
        for (_, listener) in listeners.iter_mut().filter(|(known, _)| known.as_bytes() == kind) {
            listener(self, Event::Message(from, body));
        }
    }
}
