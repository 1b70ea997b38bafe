//! Tells that something happened in a folder. Folders are watched, never files: a watch on a file
//! ends with the first rename over it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::scan::is_manifest_name;

/// Watches folders, as far as the system lets it.
#[derive(Debug)]
pub(super) struct FolderWatch {
    watcher: Option<RecommendedWatcher>,
    shared: Arc<Shared>,
    watched: BTreeMap<PathBuf, (u64, u64)>,
    /// Folders that cannot be watched, so that it is said once.
    refused: BTreeSet<PathBuf>,
}

/// What the watcher's thread sees.
#[derive(Debug, Default)]
struct Shared {
    changed: Notify,
    names: Mutex<BTreeSet<OsString>>,
}

impl FolderWatch {
    /// A watch on nothing yet.
    pub(super) fn new() -> Self {
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.as_ref().map_or(true, |event| seen.matters(event)) {
                seen.changed.notify_one();
            }
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

    /// Watches exactly these folders from now on; whether a watch was added, that is whether
    /// something may have happened unseen.
    pub(super) fn watch(
        &mut self,
        folders: &BTreeMap<PathBuf, (u64, u64)>,
        names: BTreeSet<OsString>,
    ) -> bool {
        *self.shared.names.lock() = names;
        let Some(watcher) = &mut self.watcher else { return false };
        // A folder made anew under its old name has another inode, and the old watch is dead.
        let stale: Vec<PathBuf> = self
            .watched
            .iter()
            .filter(|(folder, identity)| folders.get(*folder) != Some(*identity))
            .map(|(folder, _)| folder.clone())
            .collect();
        for folder in stale {
            // An error says that the folder is gone, and its watch with it.
            let _ = watcher.unwatch(&folder);
            self.watched.remove(&folder);
        }
        let mut added = false;
        for (folder, identity) in folders {
            if self.watched.contains_key(folder) {
                continue;
            }
            match watcher.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(folder.clone(), *identity);
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

    /// Returns once something happened since the last call.
    pub(super) async fn changed(&self) {
        self.shared.changed.notified().await;
    }
}

impl Shared {
    /// Whether an event can have changed what the files say. Our own reading (`Access`) cannot.
    fn matters(&self, event: &Event) -> bool {
        if event.kind.is_access() {
            return false;
        }
        if event.need_rescan() || event.paths.is_empty() {
            return true;
        }
        let names = self.names.lock();
        event.paths.iter().filter_map(|path| path.file_name()).any(|name| {
            // `..data` is the link that a ConfigMap mount swaps.
            names.contains(name)
                || is_manifest_name(name)
                || name.as_encoded_bytes().starts_with(b"..")
        })
    }
}

#[cfg(test)]
mod tests {
    use notify::event::{AccessKind, CreateKind, EventKind, Flag};

    use super::*;

    #[test]
    fn events_that_matter() {
        let shared = Shared::default();
        shared.names.lock().insert(OsString::from("service.conf"));
        let created = EventKind::Create(CreateKind::Any);
        let table = [
            (created, Some("/x/a.yaml"), true),
            (created, Some("/x/service.conf"), true),
            (created, Some("/x/..data"), true),
            (created, Some("/x/app.log"), false),
            (created, Some("/x/.a.yaml.swp"), false),
            (created, None, true),
            (EventKind::Access(AccessKind::Any), Some("/x/a.yaml"), false),
        ];
        for (kind, path, matters) in table {
            let mut event = Event::new(kind);
            event.paths.extend(path.map(PathBuf::from));
            assert_eq!(shared.matters(&event), matters, "{event:?}");
        }
        let overflow = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        assert!(shared.matters(&overflow));
    }
}
