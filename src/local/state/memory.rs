//! The writer of the state: a thread of its own, for disks may be slow. Of each file only the
//! newest content is written.

use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;
use tokio::time::timeout;

use super::file::{self, Step};
use super::{REPLICAS, REVISIONS, Replicas, StateError, StateFolder, unusable};
use crate::config::world::Stamps;

/// The longest that new revisions wait for the disk before they get traffic.
const WAIT: Duration = Duration::from_secs(5);
/// Until what could not be written is tried again; doubled with each failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Asked before each step of writing. Always `Ok` but in tests.
pub(super) type Ask = Box<dyn FnMut(Step) -> io::Result<()> + Send>;

/// Keeps the state. Cheap to clone; with the last clone goes the folder, once what is left is
/// written.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Handle>);

#[derive(Debug)]
struct Handle(Arc<Inner>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[derive(Debug)]
struct Inner {
    folder: StateFolder,
    desk: Mutex<Desk>,
    wake: Condvar,
    done: watch::Sender<Done>,
}

/// What is to be written.
#[derive(Debug, Default)]
struct Desk {
    revisions: Slot,
    replicas: Slot,
    news: bool,
    closed: bool,
}

/// The newest content of one file.
#[derive(Debug, Default)]
struct Slot {
    /// Counts contents.
    number: u64,
    digest: Option<u64>,
    waiting: Option<Vec<u8>>,
}

/// How far the writer is.
#[derive(Clone, Debug, Default)]
struct Done {
    /// The newest content of the revisions that was tried, and that is on the disk.
    tried: u64,
    saved: u64,
    health: Health,
    ended: bool,
}

/// Whether the state is on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Why the newest state is not; none when it is.
    pub failing: Option<Arc<str>>,
    /// Writes that failed since the start.
    pub failures: u64,
    /// Writes that succeeded since the start.
    pub writes: u64,
}

impl Slot {
    /// Takes a new content. False: it is the one there was, and nothing is left to try again.
    fn put(&mut self, bytes: Vec<u8>) -> bool {
        let digest = file::digest(&bytes);
        if self.digest == Some(digest) && self.waiting.is_none() {
            return false;
        }
        self.number += 1;
        self.digest = Some(digest);
        self.waiting = Some(bytes);
        true
    }

    /// A content could not be written: it waits again, unless there is a newer one.
    fn give_back(&mut self, bytes: Vec<u8>) {
        self.waiting.get_or_insert(bytes);
    }
}

impl Memory {
    /// Keeps the state in this folder.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub fn start(folder: StateFolder) -> Result<Self, StateError> {
        let path = folder.path.clone();
        Self::asking(folder, Box::new(|_| Ok(()))).map_err(|error| unusable(&path, &error))
    }

    pub(super) fn asking(folder: StateFolder, ask: Ask) -> io::Result<Self> {
        let mut desk = Desk::default();
        for (slot, name) in [(&mut desk.revisions, REVISIONS), (&mut desk.replicas, REPLICAS)] {
            // What is there already is not written again.
            slot.digest = std::fs::read(folder.path.join(name)).ok().map(|b| file::digest(&b));
        }
        let (desk, wake) = (Mutex::new(desk), Condvar::new());
        let inner = Arc::new(Inner { folder, desk, wake, done: watch::Sender::default() });
        let own = Arc::clone(&inner);
        thread::Builder::new().name("state".to_owned()).spawn(move || own.work(ask))?;
        Ok(Self(Arc::new(Handle(inner))))
    }

    /// Returns when these stamps are on the disk (true), or could not be brought there by now:
    /// then they go there as soon as that is possible, and [`Self::health`] says so.
    pub async fn save_revisions(&self, stamps: &Stamps) -> bool {
        let inner = &self.0.0;
        let bytes = match inner.folder.encode_revisions(stamps) {
            Ok(bytes) => bytes,
            Err(error) => {
                inner.failed(&error);
                return false;
            }
        };
        let number = {
            let mut desk = inner.desk.lock();
            if desk.revisions.put(bytes) {
                desk.news = true;
                inner.wake.notify_one();
            }
            desk.revisions.number
        };
        let mut done = inner.done.subscribe();
        let tried = timeout(WAIT, done.wait_for(|done| done.tried >= number)).await;
        if tried.is_err() {
            tracing::warn!("the disk is slow: new revisions go on before they are remembered");
        }
        inner.done.borrow().saved >= number
    }

    /// Has these counts written soon.
    pub fn save_replicas(&self, replicas: &Replicas) {
        match file::encode(replicas) {
            Ok(bytes) => {
                let mut desk = self.0.0.desk.lock();
                if desk.replicas.put(bytes) {
                    desk.news = true;
                    self.0.0.wake.notify_one();
                }
            }
            Err(error) => self.0.0.failed(&error),
        }
    }

    /// Whether the state is on the disk.
    pub fn health(&self) -> Health {
        self.0.0.done.borrow().health.clone()
    }

    /// Writes what is left; afterwards nothing more is written.
    pub async fn close(self) {
        let mut done = self.0.0.done.subscribe();
        self.0.0.close();
        // A disk that hangs is not waited for.
        let _ = timeout(WAIT, done.wait_for(|done| done.ended)).await;
    }
}

impl Inner {
    fn close(&self) {
        self.desk.lock().closed = true;
        self.wake.notify_one();
    }

    /// Writes until it is closed.
    fn work(&self, mut ask: Ask) {
        let mut pause = None;
        loop {
            let (number, revisions, replicas, closed) = self.next(pause);
            let files = [(REVISIONS, revisions), (REPLICAS, replicas)];
            let mut failure = None;
            for (name, bytes) in files {
                let Some(bytes) = bytes else { continue };
                let path = self.folder.path.join(name);
                let result = file::replace(&path, &bytes, &mut ask);
                if let Err(error) = result {
                    failure = Some(format!("{}: {error}", path.display()));
                    let mut desk = self.desk.lock();
                    let slot =
                        if name == REVISIONS { &mut desk.revisions } else { &mut desk.replicas };
                    slot.give_back(bytes);
                } else {
                    self.done.send_modify(|done| {
                        done.health.writes += 1;
                        if name == REVISIONS {
                            done.saved = number;
                        }
                    });
                }
            }
            pause = match failure {
                Some(error) => {
                    self.failed(&error);
                    let longer = pause.map_or(FIRST_PAUSE, |pause: Duration| pause * 2);
                    Some(longer.min(LONGEST_PAUSE))
                }
                None => {
                    self.succeeded();
                    None
                }
            };
            self.done.send_modify(|done| {
                done.tried = number;
                done.ended = closed;
            });
            if closed {
                return;
            }
        }
    }

    /// Waits for something to write, or until it is time to try again.
    fn next(&self, pause: Option<Duration>) -> (u64, Option<Vec<u8>>, Option<Vec<u8>>, bool) {
        let mut desk = self.desk.lock();
        while !desk.news && !desk.closed {
            match pause {
                None => self.wake.wait(&mut desk),
                Some(pause) => {
                    if self.wake.wait_for(&mut desk, pause).timed_out() {
                        break;
                    }
                }
            }
        }
        desk.news = false;
        let number = desk.revisions.number;
        (number, desk.revisions.waiting.take(), desk.replicas.waiting.take(), desk.closed)
    }

    /// Said once for as long as it lasts.
    fn failed(&self, error: &dyn std::fmt::Display) {
        let text: Arc<str> = error.to_string().into();
        let mut is_news = false;
        self.done.send_modify(|done| {
            done.health.failures += 1;
            is_news = done.health.failing.as_ref() != Some(&text);
            done.health.failing = Some(Arc::clone(&text));
        });
        if is_news {
            tracing::error!(
                "the state cannot be written: {text}; what is there stays as it was, and if \
                 tidegate ended now, revisions made since then would be forgotten. It is tried \
                 again"
            );
        }
    }

    fn succeeded(&self) {
        let mut failed = None;
        self.done.send_if_modified(|done| {
            failed = done.health.failing.take();
            failed.is_some()
        });
        if failed.is_some() {
            tracing::info!("the state is written again");
        }
    }
}
