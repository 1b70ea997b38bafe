//! What all workers of a process share; written rarely.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;

use crate::model::Reason;
use crate::snapshot::Snapshot;
use crate::stats::Clock;
use crate::traces::Tracer;
use crate::upstream::Connector;

use super::AccessLog;
use super::noted::Noted;

/// Where the proxy stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Position {
    /// Clients come in here: what they say of themselves is not believed.
    #[default]
    Edge,
    /// Before one backend, where Knative's queue-proxy stands: every host leads there, the peer is
    /// trusted, and probes of Knative's parts are answered.
    Sidecar,
}

/// Settings of the data listeners.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the proxy stands.
    pub position: Position,
    /// A further path that answers like `/.tidegate/ready` where no service could be meant.
    pub health_path: Option<String>,
    /// Peers whose forwarding headers are kept and appended to.
    pub trusted_proxies: Vec<IpNet>,
    /// Port of the https listener, as clients reach it; none = there is none, and nothing is
    /// redirected.
    pub https_port: Option<u16>,
    /// Whether answers may name hosts and what programs printed: on one machine only.
    pub one_machine: bool,
    /// Access log, if wanted.
    pub access_log: Option<AccessLog>,
    /// Decides which requests are traced, and takes what was recorded of them.
    pub tracer: Tracer,
    /// How endpoints are reached.
    pub connector: Connector,
    /// Time for a request's head to arrive.
    pub head_timeout: Duration,
    /// Time an idle client connection is kept.
    pub keep_alive: Duration,
    /// The same for connections of trusted proxies, which must not see us close first.
    pub keep_alive_trusted: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            position: Position::default(),
            health_path: None,
            trusted_proxies: Vec::new(),
            https_port: None,
            one_machine: true,
            access_log: None,
            tracer: Tracer::default(),
            connector: Connector::Tcp,
            head_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(75),
            keep_alive_trusted: Duration::from_secs(620),
        }
    }
}

/// How far the process is on its way down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DrainState {
    /// The first configuration is not in effect yet.
    Starting,
    /// Serving.
    Serving,
    /// Not ready any more, still serving; responses close their connections.
    Draining,
    /// No new connections or requests.
    Closing,
}

impl DrainState {
    const ALL: [Self; 4] = [Self::Starting, Self::Serving, Self::Draining, Self::Closing];

    /// The word for people.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "ready",
            Self::Draining => "draining",
            Self::Closing => "closing",
        }
    }
}

/// What all workers share.
#[derive(Debug)]
pub struct Shared {
    /// Settings.
    pub settings: Settings,
    /// The routing table.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The clock of all stats.
    pub clock: Clock,
    /// Requests that waited or were refused.
    pub noted: Noted,
    drain: AtomicU8,
    refused: [AtomicU64; Reason::ALL.len()],
    /// Without and with TLS.
    connections: [AtomicU32; 2],
    accepted: [AtomicU64; 2],
    tunnels: AtomicU32,
    tls_on_http: AtomicBool,
    no_introduction: AtomicBool,
}

impl Shared {
    /// The state at start: no routes, not ready.
    pub fn new(settings: Settings, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            settings,
            snapshot: Arc::default(),
            clock,
            noted: Noted::default(),
            drain: AtomicU8::new(DrainState::Starting as u8),
            refused: Default::default(),
            connections: Default::default(),
            accepted: Default::default(),
            tunnels: AtomicU32::new(0),
            tls_on_http: AtomicBool::new(false),
            no_introduction: AtomicBool::new(false),
        })
    }

    /// How far the process is on its way down.
    pub fn drain_state(&self) -> DrainState {
        DrainState::ALL[usize::from(self.drain.load(Ordering::Relaxed))]
    }

    /// Goes a step on; never back.
    pub fn set_drain_state(&self, state: DrainState) {
        self.drain.fetch_max(state as u8, Ordering::Relaxed);
    }

    /// Counts an answer that belongs to no revision.
    pub fn refused(&self, reason: Reason) {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Answers that belong to no revision, by reason; only those above zero.
    pub fn refusals(&self) -> Vec<(Reason, u64)> {
        Reason::ALL
            .into_iter()
            .map(|reason| (reason, self.refused[reason as usize].load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    /// Client connections that are open, tunnels not included.
    pub fn connections(&self) -> u32 {
        self.connections.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Those of the listeners without or with TLS.
    pub fn connections_of(&self, secure: bool) -> u32 {
        self.connections[usize::from(secure)].load(Ordering::Relaxed)
    }

    /// Upgraded connections that are open.
    pub fn tunnels(&self) -> u32 {
        self.tunnels.load(Ordering::Relaxed)
    }

    /// Client connections accepted since the start by the listeners without or with TLS.
    pub fn accepted_of(&self, secure: bool) -> u64 {
        self.accepted[usize::from(secure)].load(Ordering::Relaxed)
    }

    /// A client began a TLS handshake where none is made; said once.
    pub(super) fn note_tls_on_http(&self, client: IpAddr) {
        if !self.tls_on_http.swap(true, Ordering::Relaxed) {
            tracing::warn!(%client, "a client speaks TLS to a listener without it: its URL must \
                begin with http://, or be that of a listener given with --https");
        }
    }

    /// A connection did not begin with a PROXY header; said once.
    pub(super) fn note_no_introduction(&self, peer: IpAddr, why: &str) {
        if !self.no_introduction.swap(true, Ordering::Relaxed) {
            tracing::warn!(%peer, "a connection without a usable PROXY header is closed: {why}; \
                have the load balancer send one, name those that do with --trusted-proxies, or \
                leave out --proxy-protocol");
        }
    }

    pub(super) fn count_connection(self: &Arc<Self>, secure: bool) -> Counted {
        self.accepted[usize::from(secure)].fetch_add(1, Ordering::Relaxed);
        Counted::new(self, if secure { |s| &s.connections[1] } else { |s| &s.connections[0] })
    }

    pub(super) fn count_tunnel(self: &Arc<Self>) -> Counted {
        Counted::new(self, |shared| &shared.tunnels)
    }
}

/// One of a count, for as long as it lives.
#[derive(Debug)]
pub(super) struct Counted {
    shared: Arc<Shared>,
    of: fn(&Shared) -> &AtomicU32,
}

impl Counted {
    fn new(shared: &Arc<Shared>, of: fn(&Shared) -> &AtomicU32) -> Self {
        of(shared).fetch_add(1, Ordering::AcqRel);
        Self { shared: Arc::clone(shared), of }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.of)(&self.shared).fetch_sub(1, Ordering::AcqRel);
    }
}
