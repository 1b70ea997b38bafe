//! What a watch tells: which files may have changed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use notify::Event;
use notify::event::{AccessKind, AccessMode, EventKind};

use super::scan::{WatchedFolder, is_manifest_name};
use crate::config::world::FilePath;

/// More files than this are not kept by name: everything is looked at instead.
const MANY: usize = 1_000;

/// What may have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// These files; none: nothing.
    Files(BTreeSet<FilePath>),
    /// Whatever it may be.
    Everything,
}

impl Default for Told {
    fn default() -> Self {
        Self::Files(BTreeSet::new())
    }
}

impl Told {
    pub(super) fn is_nothing(&self) -> bool {
        self.files().is_some_and(BTreeSet::is_empty)
    }

    /// The files; none: everything.
    pub(super) const fn files(&self) -> Option<&BTreeSet<FilePath>> {
        match self {
            Self::Files(files) => Some(files),
            Self::Everything => None,
        }
    }

    pub(super) fn add_files(&mut self, more: impl IntoIterator<Item = FilePath>) {
        if let Self::Files(files) = self {
            files.extend(more);
            if files.len() > MANY {
                *self = Self::Everything;
            }
        }
    }

    pub(super) fn add(&mut self, more: Self) {
        match more {
            Self::Files(files) => self.add_files(files),
            Self::Everything => *self = Self::Everything,
        }
    }
}

/// Which events mean what, as the last look at everything found it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scope {
    /// The watched folders.
    pub(super) folders: BTreeMap<PathBuf, WatchedFolder>,
    /// Names of given paths and of what links lead to.
    pub(super) names: BTreeSet<OsString>,
}

impl Scope {
    /// What an event, or an error of the watch, says.
    pub(super) fn meaning(&self, event: &notify::Result<Event>) -> Told {
        let Ok(event) = event else { return Told::Everything };
        // Our own reading changes nothing. That a writer is done is the only thing said of one that
        // writes to memory.
        let is_written = event.kind == EventKind::Access(AccessKind::Close(AccessMode::Write));
        if event.kind.is_access() && !is_written {
            return Told::default();
        }
        if event.need_rescan() || event.paths.is_empty() {
            return Told::Everything;
        }
        let mut told = Told::default();
        event.paths.iter().for_each(|path| told.add(self.meaning_of(path)));
        told
    }

    fn meaning_of(&self, path: &Path) -> Told {
        let Some(name) = path.file_name() else { return Told::Everything };
        // `..data` is the link that a ConfigMap mount swaps.
        let is_of_many = name.as_encoded_bytes().starts_with(b"..") || self.names.contains(name);
        // A watched folder itself went, or may no longer be read.
        if is_of_many || self.folders.contains_key(path) {
            return Told::Everything;
        }
        if !is_manifest_name(name) {
            return Told::default();
        }
        let folder = path.parent().and_then(|folder| self.folders.get(folder));
        match folder.and_then(|folder| folder.given.as_ref()) {
            Some(given) => Told::Files(BTreeSet::from([FilePath::from(given.join(name))])),
            None => Told::Everything,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use notify::event::{CreateKind, Flag};

    use super::*;
    use crate::local::files::scan::FolderIdentity;

    #[test]
    fn what_events_mean() {
        let identity = FolderIdentity::of(&fs::metadata("/").unwrap());
        let folder = |given: Option<&str>| WatchedFolder { identity, given: given.map(Into::into) };
        let scope = Scope {
            folders: BTreeMap::from([
                ("/x".into(), folder(None)),
                ("/x/m".into(), folder(Some("m"))),
            ]),
            names: BTreeSet::from(["service.conf".into()]),
        };
        let file = || Told::Files(BTreeSet::from([FilePath::from(Path::new("m/a.yaml"))]));
        let created = EventKind::Create(CreateKind::Any);
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let table = [
            (created, Some("/x/m/a.yaml"), file()),
            (written, Some("/x/m/a.yaml"), file()),
            (EventKind::Access(AccessKind::Any), Some("/x/m/a.yaml"), Told::default()),
            (created, Some("/x/m/app.log"), Told::default()),
            (created, Some("/x/m/.a.yaml.swp"), Told::default()),
            (created, Some("/x/m/service.conf"), Told::Everything),
            (created, Some("/x/m/..data"), Told::Everything),
            (created, Some("/x/m"), Told::Everything),
            (created, Some("/x"), Told::Everything),
            (created, Some("/x/a.yaml"), Told::Everything),
            (created, None, Told::Everything),
        ];
        for (kind, path, meaning) in table {
            let mut event = Event::new(kind);
            event.paths.extend(path.map(PathBuf::from));
            assert_eq!(scope.meaning(&Ok(event)), meaning, "{kind:?} {path:?}");
        }
        let overflow = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        assert_eq!(scope.meaning(&Ok(overflow)), Told::Everything);
        assert_eq!(scope.meaning(&Err(notify::Error::generic("x"))), Told::Everything);
    }

    #[test]
    fn many_files_are_everything() {
        let file = |n: usize| FilePath::from(PathBuf::from(n.to_string()));
        let mut told = Told::default();
        assert!(told.is_nothing());
        told.add_files((0..MANY).map(file));
        told.add_files([file(0)]);
        assert_eq!(told.files().unwrap().len(), MANY);
        told.add_files([file(MANY)]);
        assert_eq!(told, Told::Everything);
        assert!(!told.is_nothing());
    }
}
