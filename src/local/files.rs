//! The manifests on disk: read at start, watched afterwards.
//!
//! A given path is a file (whatever its name) or a folder, of which `*.yaml`, `*.yml` and `*.json`
//! count; subfolders do not, nor do names that begin with a dot. Folders are watched; where that
//! fails, and while a given path is missing, everything is read every two seconds. Only a changed
//! content is a change, so any way an editor has of saving, and the swap of `..data` in a
//! ConfigMap mount, come out the same.
//!
//! What a watch tells of files by name is looked at by name, so that an edit costs the same among
//! ten as among ten thousand. Everything is looked at where names do not tell all: at the start,
//! after lost events, after changes of folders, of links, of what they lead to, and as long as
//! files do not stand each for itself (links, two names of one file) or a folder is not watched.

mod known;
mod scan;
mod settle;
#[cfg(test)]
mod tests;
mod told;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::config::world::{FileChange, FilePath, SourceFile};
use known::{Known, Seen};
use scan::{Look, Scan, look, scan};
use settle::Settle;
use told::{Scope, Told};
use watch::FolderWatch;

/// How often everything is read where watching is not possible.
const POLL: Duration = Duration::from_secs(2);
/// Events come in bursts; files are read at most this often.
const BREATH: Duration = Duration::from_millis(20);

/// Given paths that cannot be read at start: one line each.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct FilesError(pub Vec<String>);

/// The manifests at a set of paths.
#[derive(Debug)]
pub struct ConfigFiles {
    paths: Arc<[PathBuf]>,
    settle: Settle,
    watch: FolderWatch,
    /// Files as they were read last.
    known: Arc<Mutex<Known>>,
    /// Whether to look again, and what may have changed since the last look beside what differs
    /// from what counts.
    dirty: bool,
    told: Told,
    last_read: Instant,
    missing: bool,
    /// What could not be read at the last reading, so that it is said once.
    unreadable: BTreeMap<PathBuf, String>,
}

impl ConfigFiles {
    /// Reads the files and begins to watch. Fails if a path is missing or cannot be read.
    pub async fn open(paths: Vec<PathBuf>) -> Result<Self, FilesError> {
        let paths: Arc<[PathBuf]> = paths.into();
        let known = Arc::default();
        let found = match read(Arc::clone(&paths), Told::Everything, Arc::clone(&known)).await {
            Look::Whole(found) => checked(found)?,
            Look::Part(_) => Scan::default(),
        };
        let mut watch = FolderWatch::new();
        // What happened between reading and watching is found by one more reading.
        watch.watch(Scope { folders: found.folders, names: found.names });
        Ok(Self {
            paths,
            settle: Settle::new(found.contents),
            watch,
            known,
            dirty: true,
            told: Told::Everything,
            last_read: Instant::now(),
            missing: false,
            unreadable: BTreeMap::new(),
        })
    }

    /// All files as they count now, by path.
    pub fn files(&self) -> Vec<SourceFile> {
        let accepted = self.settle.accepted().iter();
        accepted
            .map(|(path, text)| SourceFile { path: path.clone(), text: Arc::clone(text) })
            .collect()
    }

    /// Returns which files changed once some have and settled. Cancel safe.
    pub async fn next(&mut self) -> Vec<FileChange> {
        loop {
            if self.dirty {
                sleep_until(self.last_read + BREATH).await;
                self.reread().await;
                let changes = self.settle.take_settled(Instant::now());
                if !changes.is_empty() {
                    return changes;
                }
                continue;
            }
            let must_poll = self.missing || self.watch.must_poll();
            let poll = must_poll.then(|| self.last_read + POLL);
            let wake = self.settle.deadline().into_iter().chain(poll).min();
            tokio::select! {
                () = self.watch.changed() => {}
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
            self.dirty = true;
        }
    }

    async fn reread(&mut self) {
        self.told.add(self.watch.told());
        if self.missing || self.watch.must_poll() {
            self.told = Told::Everything;
        }
        let mut told = self.told.clone();
        told.add_files(self.settle.moving().cloned());
        let look = if told.is_nothing() {
            Look::Part(Vec::new())
        } else {
            read(Arc::clone(&self.paths), told, Arc::clone(&self.known)).await
        };
        // Only now: what is cancelled before is looked at again.
        (self.told, self.dirty) = (Told::default(), false);
        self.last_read = Instant::now();
        match look {
            Look::Whole(found) => self.take_whole(found),
            Look::Part(seen) => seen.into_iter().for_each(|(path, seen)| self.take(path, seen)),
        }
    }

    fn take_whole(&mut self, found: Scan) {
        self.missing = !found.missing.is_empty();
        let unreadable = found.unreadable.keys().cloned().collect();
        self.settle.observe_all(&found.contents, &unreadable, self.last_read);
        for (path, why) in &found.unreadable {
            self.say_unreadable(path, why);
        }
        self.unreadable = found.unreadable;
        if self.watch.watch(Scope { folders: found.folders, names: found.names }) {
            (self.told, self.dirty) = (Told::Everything, true);
        }
    }

    fn take(&mut self, path: FilePath, seen: Seen) {
        self.settle.observe(path.clone(), &seen, self.last_read);
        if let Seen::Unreadable(why) = seen {
            self.say_unreadable(&path, &why);
            self.unreadable.insert(path.to_path_buf(), why);
        } else {
            self.unreadable.remove(&*path);
        }
    }

    /// Says that something cannot be read, if that was not said before.
    fn say_unreadable(&self, path: &Path, why: &str) {
        if self.unreadable.get(path).is_none_or(|said| said != why) {
            let path = path.display();
            tracing::warn!(%path, %why, "cannot be read; what it said before stays in effect");
        }
    }
}

/// The manifests at these paths, read once; blocks while it reads.
pub fn read_files(paths: &[PathBuf]) -> Result<Vec<SourceFile>, FilesError> {
    let found = checked(scan(paths, &mut Known::default()))?;
    Ok(found.contents.into_iter().map(|(path, text)| SourceFile { path, text }).collect())
}

/// What was found, if nothing is missing and everything could be read.
fn checked(found: Scan) -> Result<Scan, FilesError> {
    let missing = found.missing.iter().map(|path| {
        let path = path.display();
        format!("{path}: there is no such file or folder; give one with -f PATH")
    });
    let unreadable = found.unreadable.iter();
    let unreadable =
        unreadable.map(|(path, why)| format!("{}: cannot be read: {why}", path.display()));
    let errors: Vec<String> = missing.chain(unreadable).collect();
    if errors.is_empty() { Ok(found) } else { Err(FilesError(errors)) }
}

/// Looks at the paths on a thread that may block.
async fn read(paths: Arc<[PathBuf]>, told: Told, known: Arc<Mutex<Known>>) -> Look {
    match tokio::task::spawn_blocking(move || look(&paths, &told, &mut known.lock())).await {
        Ok(found) => found,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going down; nobody will look at this.
            Err(_) => Look::Part(Vec::new()),
        },
    }
}
