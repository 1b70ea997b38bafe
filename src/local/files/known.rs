//! Files as they were read last, and what is known of all of them together.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::scan::{FolderIdentity, is_manifest_name};
use crate::config::world::FilePath;

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// A file of this text.
    Text(Arc<str>),
    /// No file.
    Gone,
    /// A file that cannot be read, and why.
    Unreadable(String),
}

/// Files as they were read last. One that is the same by all that the system says of it is not read
/// again.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Those that were found, each once.
    pub(super) files: HashMap<FilePath, Read>,
    /// None: only a look at everything tells how files stand.
    pub(super) ground: Option<Ground>,
}

/// The given folders, where each file was found to have one name alone and to be no link: so that a
/// change of one is told under its name, and changes no other. (Unless it got another name since, in
/// a place that is not told of: what is written under that is found by the next look at everything.)
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) folders: Vec<(PathBuf, FolderIdentity)>,
}

/// A file that was found.
#[derive(Debug)]
pub(super) struct Read {
    identity: FileIdentity,
    /// Whether it was quiet for long when it was read. Before that another change may have the same
    /// times, where a file system keeps coarse ones.
    is_old: bool,
    /// None: it could not be read.
    text: Option<Arc<str>>,
}

/// Changes with every change of a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileIdentity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Of the content or of what the system knows of the file; cannot be set by hand.
    changed: (i64, i64),
}

impl FileIdentity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether the last change was long ago at `now`; one in the future is not.
    fn is_old(&self, now: SystemTime) -> bool {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let changed = u64::try_from(self.changed.0).unwrap_or(u64::MAX);
        changed.saturating_add(OLD.as_secs()) < now.as_secs()
    }
}

/// From then on no other change can have the same times: the coarsest are of two seconds.
const OLD: Duration = Duration::from_secs(3);

/// Whether the file may be changed under a name that nobody watches.
pub(super) fn has_other_names(metadata: &Metadata) -> bool {
    metadata.nlink() > 1
}

impl Read {
    /// Reads a file, unless it is as it was.
    pub(super) fn file(file: &Path, metadata: &Metadata, former: Option<Self>) -> (Self, Seen) {
        let identity = FileIdentity::of(metadata);
        if let Some(former) = former
            && former.is_old
            && former.identity == identity
            && let Some(text) = &former.text
        {
            let seen = Seen::Text(Arc::clone(text));
            return (former, seen);
        }
        // Before it is read: a change meanwhile must not be taken for one of long ago.
        let is_old = identity.is_old(SystemTime::now());
        let seen = match fs::read(file).map(String::from_utf8) {
            Ok(Ok(text)) => Seen::Text(text.into()),
            Ok(Err(_)) => Seen::Unreadable("it is not UTF-8 text".to_owned()),
            Err(error) if error.kind() == ErrorKind::NotFound => Seen::Gone,
            Err(error) => Seen::Unreadable(error.to_string()),
        };
        let text = match &seen {
            Seen::Text(text) => Some(Arc::clone(text)),
            Seen::Gone | Seen::Unreadable(_) => None,
        };
        (Self { identity, is_old, text }, seen)
    }
}

impl Ground {
    /// Whether the given folders are those that they were.
    fn stands(&self) -> bool {
        self.folders.iter().all(|(folder, identity)| {
            fs::metadata(folder).is_ok_and(|metadata| FolderIdentity::of(&metadata) == *identity)
        })
    }

    fn has_manifest(&self, path: &Path) -> bool {
        path.file_name().is_some_and(is_manifest_name)
            && self.folders.iter().any(|(folder, _)| path.parent() == Some(folder))
    }
}

/// What stands under a name.
enum Entry {
    /// No file.
    None,
    /// A file with this name alone.
    File(Metadata),
    /// Something that more than this name depends on.
    Entangled,
}

impl Entry {
    fn at(path: &Path) -> Self {
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => Self::None,
            Ok(metadata) if metadata.is_symlink() || has_other_names(&metadata) => Self::Entangled,
            Ok(metadata) => Self::File(metadata),
            Err(error) if error.kind() == ErrorKind::NotFound => Self::None,
            // Such as a folder that may not be entered: that holds for all in it.
            Err(_) => Self::Entangled,
        }
    }
}

impl Known {
    /// Looks at these files alone. None: how they and others stand only a look at everything tells.
    pub(super) fn look_at(&mut self, paths: &BTreeSet<FilePath>) -> Option<Vec<(FilePath, Seen)>> {
        let ground = self.ground.as_ref().filter(|ground| ground.stands())?;
        let mut seen = Vec::with_capacity(paths.len());
        for path in paths {
            if !ground.has_manifest(path) {
                return None;
            }
            let former = self.files.remove(path);
            let now = match Entry::at(path) {
                Entry::None => Seen::Gone,
                Entry::File(metadata) => {
                    let (read, now) = Read::file(path, &metadata, former);
                    self.files.insert(path.clone(), read);
                    now
                }
                Entry::Entangled => return None,
            };
            seen.push((path.clone(), now));
        }
        Some(seen)
    }
}
