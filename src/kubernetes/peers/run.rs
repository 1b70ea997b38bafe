//! The thread on which proxies speak with each other: it calls, is called, and looks who is there.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use kube::Client;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, timeout};

use super::roster::Listing;
use super::session::{Queue, SILENCE, Session, queue};
use super::tls::PeerKeys;
use super::wire::Hello;
use super::{Loss, Peers, Reports, discovery};
use crate::kubernetes::client::connect;
use crate::kubernetes::slots::Seated;
use crate::stats::Poked;

/// Pause after the first failed call; doubled with each further one.
const BACKOFF: Duration = Duration::from_millis(50);
/// Longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A connection that lasted so long is made anew without a pause.
const LASTING: Duration = Duration::from_secs(5);
/// Incoming connections at once; further ones wait in the kernel.
const CONNECTIONS: usize = 256;
/// How long accepting rests after an error such as "too many open files".
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long goodbyes may take.
const END: Duration = Duration::from_millis(500);
/// By then the cluster lists this proxy, or never will.
const LISTED_BY: Duration = Duration::from_secs(15);

/// How the thread is set up.
#[derive(Debug)]
pub struct PeersConfig {
    /// Where it is called; bound by the caller, who can say who holds a taken port.
    pub listener: std::net::TcpListener,
    /// tidegate's own namespace.
    pub namespace: String,
    /// UID of this proxy's pod.
    pub uid: String,
    /// The load that is reported.
    pub reports: Arc<Reports>,
    /// Tells what is to be reported at once.
    pub poked: Arc<Poked>,
    /// Where slots are divided.
    pub slots: Seated,
}

/// The running thread. Dropped, it says goodbye and ends.
#[derive(Debug)]
pub struct PeersThread {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl PeersThread {
    /// Starts it.
    ///
    /// # Errors
    /// The thread, its runtime or the listener cannot be set up.
    pub fn start(peers: Peers, config: PeersConfig) -> io::Result<Self> {
        config.listener.set_nonblocking(true)?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = watch::channel(false);
        let run = move || {
            runtime.block_on(LocalSet::new().run_until(run(peers, config, stopped)));
        };
        let thread = std::thread::Builder::new().name("peers".to_owned()).spawn(run)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for PeersThread {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread for other proxies panicked");
        }
    }
}

async fn run(peers: Peers, config: PeersConfig, mut stopped: watch::Receiver<bool>) {
    let member = Rc::new(Member {
        hello: Hello::new(peers.me().clone(), &config.uid),
        keys: Arc::default(),
        over: Notify::new(),
        peers,
    });
    let client = match connect().await {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(%error, "no connection for finding other proxies");
            return;
        }
    };
    let listener = match TcpListener::from_std(config.listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "other proxies cannot call this one");
            return;
        }
    };
    let keeping = member.keys.keep(&client, &config.namespace);
    let finding = find(&member, &client, &config.namespace);
    tokio::select! {
        () = keeping => {}
        () = finding => {}
        () = config.reports.run(&member.peers, &config.poked) => {}
        () = config.slots.run(&member.peers, &client, &config.namespace) => {}
        () = member.warn_if_unlisted() => {}
        () = Rc::clone(&member).accept(listener) => {}
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    member.end().await;
}

/// Follows who there is, and calls whom this one is to call.
async fn find(member: &Rc<Member>, client: &Client, namespace: &str) {
    let calls: RefCell<BTreeMap<String, Calling>> = RefCell::default();
    discovery::follow(client, namespace, |listing: &Listing| {
        member.peers.change(|roster| ((), roster.list(listing)));
        let mut calls = calls.borrow_mut();
        calls.retain(|uid, calling| {
            listing.get(uid).is_some_and(|listed| listed.address == calling.address)
        });
        for (uid, listed) in listing.iter().filter(|(uid, _)| **uid != member.hello.pod) {
            calls.entry(uid.clone()).or_insert_with(|| {
                let (member, uid, address) = (Rc::clone(member), uid.clone(), listed.address);
                let (wanted, is_wanted) = watch::channel(());
                drop(spawn_local(async move {
                    member.stay_connected(&uid, address, is_wanted).await;
                }));
                Calling { address, _wanted: wanted }
            });
        }
    })
    .await;
}

/// Calls of a pod, which end with this: a connection that exists by itself, for the other side
/// would take an end without a word for that of the process.
struct Calling {
    address: SocketAddr,
    _wanted: watch::Sender<()>,
}

/// This proxy among the others.
struct Member {
    peers: Peers,
    hello: Hello,
    keys: Arc<PeerKeys>,
    /// A connection that another proxy had made is over: whether it lives is looked at at once.
    over: Notify,
}

impl Member {
    async fn warn_if_unlisted(&self) {
        sleep(LISTED_BY).await;
        if !self.peers.shared.roster.lock().is_listed() {
            tracing::warn!(
                "the Service {} is not there or does not select this pod: other proxies are not \
                 found, and nothing is scaled down",
                super::SERVICE
            );
        }
        std::future::pending().await
    }

    /// Keeps a connection to a pod for good. Whoever is to be called by it only looks whether
    /// something runs there while there is no connection.
    async fn stay_connected(
        &self,
        uid: &str,
        address: SocketAddr,
        mut wanted: watch::Receiver<()>,
    ) {
        self.keys.exist().await;
        let is_caller = *self.hello.pod < *uid;
        let mut pause = BACKOFF;
        let mut is_told = false;
        loop {
            let is_connected = self.peers.shared.roster.lock().is_connected(uid);
            let begun = Instant::now();
            if is_caller || !is_connected {
                match self.call(uid, address, is_caller).await {
                    Ok(true) => {
                        (pause, is_told) = (BACKOFF, false);
                        if begun.elapsed() >= LASTING {
                            continue;
                        }
                    }
                    Ok(false) => {}
                    Err(error) => {
                        if !std::mem::replace(&mut is_told, true) {
                            tracing::info!(%error, %address, "another proxy cannot be reached yet");
                        }
                    }
                }
            }
            tokio::select! {
                () = sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)) => {}
                () = self.over.notified(), if !is_caller => pause = BACKOFF,
                _ = wanted.changed() => return,
            }
            pause = (pause * 2).min(BACKOFF_MAX);
            if wanted.has_changed().is_err() {
                return;
            }
        }
    }

    /// Calls a pod; true once a connection that was made is over.
    async fn call(&self, uid: &str, address: SocketAddr, speak: bool) -> io::Result<bool> {
        let stream = match timeout(SILENCE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                if error.kind() == io::ErrorKind::ConnectionRefused {
                    self.peers.change(|roster| ((), roster.refused(uid)));
                } else {
                    self.unanswered(uid);
                }
                return Err(error);
            }
            Err(elapsed) => {
                self.unanswered(uid);
                return Err(elapsed.into());
            }
        };
        self.unanswered(uid);
        if !speak {
            return Ok(false);
        }
        stream.set_nodelay(true)?;
        let begun = Instant::now();
        let stream = timeout(SILENCE, self.keys.call(stream)).await??;
        let session = Session::open(stream, &self.hello).await.map_err(io::Error::other)?;
        if session.peer.pod != *uid {
            return Err(io::Error::other("another pod has its address"));
        }
        tracing::debug!(took = ?begun.elapsed(), %address, "called another proxy");
        self.carry(session).await;
        Ok(true)
    }

    fn unanswered(&self, uid: &str) {
        self.peers.change(|roster| {
            roster.unanswered(uid);
            ((), Vec::new())
        });
    }

    /// Accepts calls for good.
    async fn accept(self: Rc<Self>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            // Never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, address)) => {
                    let member = Rc::clone(&self);
                    drop(spawn_local(async move {
                        if let Err(error) = member.called(stream).await {
                            tracing::debug!(%error, %address, "a call was refused");
                        }
                        drop(place);
                    }));
                }
                Err(error) => {
                    tracing::warn!(%error, "calls of other proxies cannot be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn called(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let stream = timeout(SILENCE, self.keys.accept(stream)).await??;
        match Session::open(stream, &self.hello).await {
            Ok(session) => {
                self.carry(session).await;
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "another proxy is not understood");
                Err(io::Error::other(error))
            }
        }
    }

    async fn carry<S>(&self, session: Session<S>)
    where
        S: AsyncRead + AsyncWrite,
    {
        let (sending, outgoing) = queue();
        let (id, uid) = (session.peer.id.clone(), session.peer.pod.clone());
        self.peers.change(|roster| ((), roster.joined(&uid, &id, &sending)));
        // Also when this task is dropped.
        let mut over = Over { member: self, uid, sending, loss: Loss::CutOff };
        over.loss = session.run(outgoing, |kind, body| self.peers.received(&id, kind, body)).await;
    }

    /// Says goodbye to all.
    async fn end(&self) {
        self.peers.shared.roster.lock().queues().for_each(Queue::say_bye);
        let mut members = self.peers.members();
        let gone = members.wait_for(|members| members.connected.is_empty());
        if timeout(END, gone).await.is_err() {
            tracing::debug!("not every proxy heard the goodbye");
        }
    }
}

/// Takes a connection off the roster.
struct Over<'a> {
    member: &'a Member,
    uid: String,
    sending: Queue,
    loss: Loss,
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        let (uid, sending, loss) = (&self.uid, &self.sending, self.loss);
        self.member.peers.change(|roster| ((), roster.over(uid, sending, loss)));
        self.member.over.notify_waiters();
    }
}
