//! Worker threads.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{mpsc, watch};

use crate::model::ServiceId;
use crate::proxy::{Acceptor, Door, DrainState, Message, Shared, Worker};

/// Messages a worker may be behind; accepted connections are most of them.
const MESSAGES: usize = 1024;

/// A listener of one service, opened and closed while the workers run.
#[derive(Debug)]
pub enum DoorChange {
    /// Connections are accepted there from now on.
    Open(Arc<ServiceId>, Door),
    /// None is any more.
    Close(Arc<ServiceId>),
}

/// The running workers.
#[derive(Debug)]
pub struct Workers {
    /// One channel per worker.
    pub senders: Vec<mpsc::Sender<Message>>,
    /// Each open door has a receiver.
    closing: watch::Sender<bool>,
    /// Connections of each worker, from when they are accepted.
    loads: Vec<Arc<AtomicU32>>,
    doors: mpsc::Sender<DoorChange>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Where listeners of single services are opened and closed.
    pub fn doors(&self) -> mpsc::Sender<DoorChange> {
        self.doors.clone()
    }

    /// No new connections are accepted.
    pub fn close_doors(&self) {
        self.closing.send_replace(true);
    }

    /// Returns once the doors that were told to close are, and who came in last has a worker.
    pub async fn doors_closed(&self) {
        self.closing.closed().await;
    }

    /// Whether any worker has a connection, or is about to.
    pub fn have_connections(&self) -> bool {
        self.loads.iter().any(|load| load.load(Ordering::Relaxed) > 0)
    }

    /// Every worker looks at what changed. One that is too far behind looks anyway.
    pub fn refresh(&self) {
        for sender in &self.senders {
            if sender.try_send(Message::Refresh).is_err() {
                tracing::trace!("a worker is behind");
            }
        }
    }

    /// Ends the workers and what they still do.
    pub fn stop(self) {
        drop(self.senders);
        drop(self.doors);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker thread panicked");
            }
        }
    }
}

/// Starts `count` workers; the first one accepts connections at the doors.
pub fn start_workers(
    count: usize,
    shared: &Arc<Shared>,
    doors: Vec<Door>,
    seed: u64,
) -> io::Result<Workers> {
    let (closing, closed) = watch::channel(false);
    let loads: Vec<Arc<AtomicU32>> = (0..count).map(|_| Arc::default()).collect();
    let mut channels: Vec<_> = (0..count).map(|_| mpsc::channel(MESSAGES)).collect();
    let senders: Vec<_> = channels.iter().map(|(sender, _)| sender.clone()).collect();
    let (changes, changed) = mpsc::channel(MESSAGES);
    let mut doors = Some((doors, changed));
    let mut threads = Vec::with_capacity(count);
    for (index, (_, receiver)) in channels.drain(..).enumerate() {
        let shared = Arc::clone(shared);
        let loads = loads.clone();
        let others = senders[1..].to_vec();
        let doors = doors.take();
        let closed = closed.clone();
        let run = move |runtime: LocalRuntime| {
            runtime.block_on(async move {
                let load = Arc::clone(&loads[index]);
                let gate = Arc::clone(&shared);
                let worker = Worker::new(index, shared, load, seed.wrapping_add(index as u64));
                if let Some((doors, changed)) = doors {
                    let acceptor = Acceptor::new(others, loads);
                    let keep = keep_doors(Rc::clone(&acceptor), Rc::clone(&worker), changed);
                    tokio::task::spawn_local(until(closed.clone(), keep));
                    for door in doors {
                        let accept =
                            Rc::clone(&acceptor).run(door, Rc::clone(&worker), closed.clone());
                        let gate = Arc::clone(&gate);
                        tokio::task::spawn_local(async move {
                            configured(&gate).await;
                            if let Err(error) = accept.await {
                                tracing::error!(%error, "a listener ended");
                            }
                        });
                    }
                } else {
                    drop(others);
                }
                drop(closed);
                worker.run(receiver).await;
            });
        };
        threads.push(spawn(&format!("worker-{index}"), run)?);
    }
    Ok(Workers { senders, closing, loads, doors: changes, threads })
}

async fn until(mut closed: watch::Receiver<bool>, work: impl Future<Output = ()>) {
    tokio::select! {
        _ = closed.wait_for(|closed| *closed) => {}
        () = work => {}
    }
}

/// Opens and closes listeners of single services. All close when it ends.
async fn keep_doors(
    acceptor: Rc<Acceptor>,
    worker: Rc<Worker>,
    mut changes: mpsc::Receiver<DoorChange>,
) {
    // An acceptor ends when the other end of its channel does.
    let mut open: HashMap<Arc<ServiceId>, watch::Sender<bool>> = HashMap::new();
    while let Some(change) = changes.recv().await {
        match change {
            DoorChange::Open(service, door) => {
                let (closing, closed) = watch::channel(false);
                open.insert(service, closing);
                let accept = Rc::clone(&acceptor).run(door, Rc::clone(&worker), closed);
                tokio::task::spawn_local(async move {
                    if let Err(error) = accept.await {
                        tracing::error!(%error, "a listener ended");
                    }
                });
            }
            DoorChange::Close(service) => {
                open.remove(&service);
                acceptor.leave(&worker, &service).await;
            }
        }
    }
}

/// Returns once the first configuration is in effect. Until then every host would be unknown, and
/// a client that comes while tidegate starts again would be told so; it waits in the backlog.
pub(super) async fn configured(shared: &Shared) {
    while shared.drain_state() < DrainState::Serving {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A thread with an event loop.
pub(super) fn spawn(
    name: &str,
    run: impl FnOnce(LocalRuntime) + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => run(runtime),
            Err(error) => tracing::error!(%error, "a thread cannot start its event loop"),
        }
    })
}
