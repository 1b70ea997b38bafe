//! The writer of the state: a thread of its own, for disks may be slow. Of each file only the
//! newest content is written.

use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;
use tokio::time::timeout;

use super::file::{self, Step};
use super::journal::Journal;
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
    /// The newest stamps, and a count of all there were.
    stamps: Option<Stamps>,
    number: u64,
    replicas: Slot,
    news: bool,
    closed: bool,
}

/// The newest replica counts.
#[derive(Debug, Default)]
struct Slot {
    digest: Option<u64>,
    waiting: Option<Vec<u8>>,
}

/// What the writer takes from the desk.
struct Work {
    number: u64,
    stamps: Option<Stamps>,
    replicas: Option<Vec<u8>>,
    closed: bool,
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
        self.digest = Some(digest);
        self.waiting = Some(bytes);
        true
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
        // What is there already is not written again.
        let replicas = std::fs::read(folder.path.join(REPLICAS));
        desk.replicas.digest = replicas.ok().map(|bytes| file::digest(&bytes));
        let journal = Journal::new(folder.path.join(REVISIONS));
        let (desk, wake) = (Mutex::new(desk), Condvar::new());
        let inner = Arc::new(Inner { folder, desk, wake, done: watch::Sender::default() });
        let own = Arc::clone(&inner);
        thread::Builder::new().name("state".to_owned()).spawn(move || own.work(journal, ask))?;
        Ok(Self(Arc::new(Handle(inner))))
    }

    /// Returns when these stamps are on the disk (true), or could not be brought there by now:
    /// then they go there as soon as that is possible, and [`Self::health`] says so.
    pub async fn save_revisions(&self, stamps: &Stamps) -> bool {
        let inner = &self.0.0;
        let number = {
            let mut desk = inner.desk.lock();
            desk.stamps = Some(stamps.clone());
            desk.number += 1;
            desk.news = true;
            desk.number
        };
        inner.wake.notify_one();
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
    fn work(&self, mut journal: Journal, mut ask: Ask) {
        let mut pause = None;
        loop {
            let work = self.next(pause);
            let revisions = self.write_revisions(&mut journal, &work, &mut ask);
            let failure = [revisions, self.write_replicas(work.replicas, &mut ask)];
            pause = match failure.into_iter().flatten().next_back() {
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
                done.tried = work.number;
                done.ended = work.closed;
            });
            if work.closed {
                return;
            }
        }
    }

    /// Brings stamps to the disk; what failed. Then they wait again, unless there are newer ones.
    fn write_revisions(
        &self,
        journal: &mut Journal,
        work: &Work,
        ask: file::Ask<'_>,
    ) -> Option<String> {
        let stamps = work.stamps.as_ref()?;
        let encode = |stamps: &Stamps| Ok(self.folder.encode_revisions(stamps)?);
        match journal.save(stamps, encode, ask) {
            Ok(is_written) => {
                self.done.send_modify(|done| {
                    done.health.writes += u64::from(is_written);
                    done.saved = work.number;
                });
                None
            }
            Err(error) => {
                self.desk.lock().stamps.get_or_insert_with(|| stamps.clone());
                Some(format!("{}: {error}", self.folder.path.join(REVISIONS).display()))
            }
        }
    }

    /// The same with replica counts.
    fn write_replicas(&self, bytes: Option<Vec<u8>>, ask: file::Ask<'_>) -> Option<String> {
        let bytes = bytes?;
        let path = self.folder.path.join(REPLICAS);
        match file::replace(&path, &bytes, ask) {
            Ok(()) => {
                self.done.send_modify(|done| done.health.writes += 1);
                None
            }
            Err(error) => {
                self.desk.lock().replicas.waiting.get_or_insert(bytes);
                Some(format!("{}: {error}", path.display()))
            }
        }
    }

    /// Waits for something to write, or until it is time to try again.
    fn next(&self, pause: Option<Duration>) -> Work {
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
        Work {
            number: desk.number,
            stamps: desk.stamps.take(),
            replicas: desk.replicas.waiting.take(),
            closed: desk.closed,
        }
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
