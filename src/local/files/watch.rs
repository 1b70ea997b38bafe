//! Tells that something happened in a folder. Folders are watched, never files: a watch on a file
//! ends with the first rename over it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::scan::FolderIdentity;
use super::told::{Scope, Told};

/// Watches folders, as far as the system lets it.
#[derive(Debug)]
pub(super) struct FolderWatch {
    watcher: Option<RecommendedWatcher>,
    shared: Arc<Shared>,
    watched: BTreeMap<PathBuf, FolderIdentity>,
    /// Folders that cannot be watched, so that it is said once.
    refused: BTreeSet<PathBuf>,
}

/// What the watcher's thread sees.
#[derive(Debug, Default)]
struct Shared {
    changed: Notify,
    scope: Mutex<Scope>,
    told: Mutex<Told>,
}

impl FolderWatch {
    /// A watch on nothing yet.
    pub(super) fn new() -> Self {
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            seen.tell(&event);
        });
        let watcher = watcher
            .inspect_err(|error| {
                tracing::warn!(%error, "folders cannot be watched; files are read every 2 s");
            })
            .ok();
        Self { watcher, shared, watched: BTreeMap::new(), refused: BTreeSet::new() }
    }

    /// No watch at all: files are read every now and then.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self {
            watcher: None,
            shared: Arc::default(),
            watched: BTreeMap::new(),
            refused: BTreeSet::new(),
        }
    }

    /// Watches exactly these folders from now on; whether there was more to watch, that is whether
    /// something may have happened unseen.
    pub(super) fn watch(&mut self, scope: Scope) -> bool {
        let folders = scope.folders.clone();
        let mut added = {
            let mut former = self.shared.scope.lock();
            let added = *former != scope;
            *former = scope;
            added
        };
        let Some(watcher) = &mut self.watcher else { return false };
        // A folder made anew under its old name has another inode, and the old watch is dead.
        let stale: Vec<PathBuf> = self
            .watched
            .iter()
            .filter(|(path, identity)| folders.get(*path).is_none_or(|f| f.identity != **identity))
            .map(|(folder, _)| folder.clone())
            .collect();
        for folder in stale {
            // An error says that the folder is gone, and its watch with it.
            let _ = watcher.unwatch(&folder);
            self.watched.remove(&folder);
        }
        for (folder, watched) in &folders {
            if self.watched.contains_key(folder) {
                continue;
            }
            match watcher.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(folder.clone(), watched.identity);
                    self.refused.remove(folder);
                    added = true;
                }
                Err(error) => {
                    if self.refused.insert(folder.clone()) {
                        let folder = folder.display();
                        tracing::warn!(%folder, %error, "cannot be watched; read every 2 s");
                    }
                }
            }
        }
        self.refused.retain(|folder| folders.contains_key(folder));
        added
    }

    /// Whether changes may go unseen, so that files must be read every now and then.
    pub(super) fn must_poll(&self) -> bool {
        self.watcher.is_none() || !self.refused.is_empty()
    }

    /// What happened since the last call.
    pub(super) fn told(&self) -> Told {
        std::mem::take(&mut self.shared.told.lock())
    }

    /// Returns once something happened since the last call.
    pub(super) async fn changed(&self) {
        self.shared.changed.notified().await;
    }
}

impl Shared {
    fn tell(&self, event: &notify::Result<Event>) {
        let meaning = self.scope.lock().meaning(event);
        if !meaning.is_nothing() {
            self.told.lock().add(meaning);
            self.changed.notify_one();
        }
    }
}
