//! Listening sockets, and the handing out of accepted connections to workers.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::model::ServiceId;
use crate::tls::TlsServer;
use crate::upstream::Socket;

use super::worker::{Message, Worker};

/// After an accept that failed for want of descriptors: trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const BACKLOG: i32 = 4096;

/// What comes before a connection's first request.
#[derive(Debug, Default)]
pub struct Entry {
    /// A PROXY header: of every peer, or of the trusted ones where a list of them is given.
    pub proxy_protocol: bool,
    /// A TLS handshake.
    pub tls: Option<Arc<TlsServer>>,
    /// Clients come from outside: hosts that only the cluster sees are unknown to them.
    pub outside: bool,
    /// The only service that is meant, whatever host a request names.
    pub service: Option<Arc<ServiceId>>,
}

impl Entry {
    /// Whether the first byte is a request's.
    pub(super) fn is_plain(&self) -> bool {
        self.tls.is_none() && !self.proxy_protocol
    }
}

/// A client's connection from its first request on.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) socket: Socket,
    /// The client's address.
    pub(super) ip: IpAddr,
    /// Whether it came by TLS.
    pub(super) secure: bool,
    /// Whether it came in from outside.
    pub(super) outside: bool,
    /// The service that the listener is for alone.
    pub(super) service: Option<Arc<ServiceId>>,
}

/// One listening socket.
#[derive(Debug)]
pub struct Door {
    listener: std::net::TcpListener,
    address: SocketAddr,
    entry: Arc<Entry>,
}

impl Door {
    /// Binds an address; port 0 takes a free one. IPv6 sockets take IPv6 only, so that both
    /// families can be bound side by side, but for `[::]`, which takes both.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        use socket2::{Domain, Protocol, Socket, Type};
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(!address.ip().is_unspecified())?;
        }
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Self::of(std::net::TcpListener::from(socket))
    }

    /// A socket that listens already.
    pub fn of(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, entry: Arc::default() })
    }

    /// The same for connections that begin with something else than a request.
    pub fn with(mut self, entry: Arc<Entry>) -> Self {
        self.entry = entry;
        self
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Hands accepted connections to the worker with the fewest. One socket per address: closing one
/// of several that share a port would reset connections that clients believe accepted.
#[derive(Debug)]
pub struct Acceptor {
    /// One per worker; the first is this thread's and gets connections directly.
    others: Vec<mpsc::Sender<Message>>,
    counts: Vec<Arc<AtomicU32>>,
}

impl Acceptor {
    /// An acceptor that runs on the thread of the first worker. `others` are the channels of the
    /// further ones, `counts` the numbers of connections of all of them.
    pub fn new(others: Vec<mpsc::Sender<Message>>, counts: Vec<Arc<AtomicU32>>) -> Rc<Self> {
        Rc::new(Self { others, counts })
    }

    /// Accepts until told to close, then takes what the kernel has accepted already, and closes.
    pub async fn run(
        self: Rc<Self>,
        door: Door,
        worker: Rc<Worker>,
        mut closing: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let listener = TcpListener::from_std(door.listener)?;
        let mut complained = false;
        loop {
            let accepted = tokio::select! {
                biased;
                accepted = listener.accept() => accepted,
                _ = closing.wait_for(|closing| *closing) => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    complained = false;
                    self.hand_out(stream, peer.ip(), &door.entry, &worker).await;
                }
                Err(error) => {
                    if !complained {
                        tracing::error!(%error, address = %door.address, "cannot accept connections");
                        complained = true;
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        while let Ok(Ok((stream, peer))) =
            tokio::time::timeout(Duration::ZERO, listener.accept()).await
        {
            self.hand_out(stream, peer.ip(), &door.entry, &worker).await;
        }
        Ok(())
    }

    /// Has the connections of a service's own listener end with what they do.
    pub async fn leave(&self, worker: &Worker, service: &Arc<ServiceId>) {
        worker.leave(service);
        for other in &self.others {
            // One that has ended has no connections.
            drop(other.send(Message::Leave(Arc::clone(service))).await);
        }
    }

    async fn hand_out(
        &self,
        stream: tokio::net::TcpStream,
        peer: IpAddr,
        entry: &Arc<Entry>,
        worker: &Rc<Worker>,
    ) {
        if stream.set_nodelay(true).is_err() {
            // Gone already.
            return;
        }
        let least = (0..self.counts.len())
            .min_by_key(|i| self.counts[*i].load(Ordering::Relaxed))
            .unwrap_or_default();
        self.counts[least].fetch_add(1, Ordering::Relaxed);
        if least == 0 {
            worker.accept_at(entry, stream, peer);
            return;
        }
        let Ok(stream) = stream.into_std() else {
            self.counts[least].fetch_sub(1, Ordering::Relaxed);
            return;
        };
        if self.others[least - 1]
            .send(Message::Serve(stream, peer, Arc::clone(entry)))
            .await
            .is_err()
        {
            tracing::error!(worker = least, "a worker has ended");
        }
    }
}
