//! The manifests on disk: read at start, watched afterwards.
//!
//! A given path is a file (whatever its name) or a folder, of which `*.yaml`, `*.yml` and `*.json`
//! count; subfolders do not, nor do names that begin with a dot. Folders are watched; where that
//! fails, and while a given path is missing, everything is read every two seconds. Only a changed
//! content is a change, so any way an editor has of saving, and the swap of `..data` in a
//! ConfigMap mount, come out the same.

mod scan;
mod settle;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::config::world::SourceFile;
use scan::{Scan, scan};
use settle::Settle;
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
    /// Something may have changed since the last reading.
    dirty: bool,
    last_read: Instant,
    missing: bool,
    /// What could not be read at the last reading, so that it is said once.
    unreadable: BTreeMap<PathBuf, String>,
}

impl ConfigFiles {
    /// Reads the files and begins to watch. Fails if a path is missing or cannot be read.
    pub async fn open(paths: Vec<PathBuf>) -> Result<Self, FilesError> {
        let paths: Arc<[PathBuf]> = paths.into();
        let found = read(Arc::clone(&paths)).await;
        let mut errors: Vec<String> = found
            .missing
            .iter()
            .map(|path| {
                let path = path.display();
                format!("{path}: there is no such file or folder; give one with -f PATH")
            })
            .collect();
        errors.extend(
            found
                .unreadable
                .iter()
                .map(|(path, why)| format!("{}: cannot be read: {why}", path.display())),
        );
        if !errors.is_empty() {
            return Err(FilesError(errors));
        }
        let mut watch = FolderWatch::new();
        // What happened between reading and watching is found by one more reading.
        watch.watch(&found.folders, found.names);
        Ok(Self {
            paths,
            settle: Settle::new(found.contents),
            watch,
            dirty: true,
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

    /// Returns all files once one of them has changed and settled. Cancel safe.
    pub async fn next(&mut self) -> Vec<SourceFile> {
        loop {
            if self.dirty {
                sleep_until(self.last_read + BREATH).await;
                self.reread().await;
                if self.settle.take_settled(Instant::now()) {
                    return self.files();
                }
                continue;
            }
            let poll = (self.missing || self.watch.must_poll()).then(|| self.last_read + POLL);
            let wake = self.settle.deadline().into_iter().chain(poll).min();
            tokio::select! {
                () = self.watch.changed() => {}
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
            self.dirty = true;
        }
    }

    async fn reread(&mut self) {
        let found = read(Arc::clone(&self.paths)).await;
        let now = Instant::now();
        self.last_read = now;
        self.missing = !found.missing.is_empty();
        let unreadable = found.unreadable.keys().cloned().collect();
        self.settle.observe(&found.contents, &unreadable, now);
        for (path, why) in &found.unreadable {
            if self.unreadable.get(path) != Some(why) {
                let path = path.display();
                tracing::warn!(%path, %why, "cannot be read; what it said before stays in effect");
            }
        }
        self.unreadable = found.unreadable;
        self.dirty = self.watch.watch(&found.folders, found.names);
    }
}

/// Reads the paths on a thread that may block.
async fn read(paths: Arc<[PathBuf]>) -> Scan {
    match tokio::task::spawn_blocking(move || scan(&paths)).await {
        Ok(scan) => scan,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going down; nobody will look at this.
            Err(_) => Scan::default(),
        },
    }
}
