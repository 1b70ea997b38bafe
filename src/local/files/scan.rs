//! Reads the given files and folders once, and finds out which folders to watch for them.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::settle::Contents;

/// What stood at the given paths at one moment.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Contents of all files found.
    pub(super) contents: Contents,
    /// Files that are there and could not be read, and why.
    pub(super) unreadable: BTreeMap<PathBuf, String>,
    /// Given paths where nothing is.
    pub(super) missing: Vec<PathBuf>,
    /// Folders to watch, links resolved, with device and inode.
    pub(super) folders: BTreeMap<PathBuf, FolderIdentity>,
    /// Names that matter in those folders beside those of manifests.
    pub(super) names: BTreeSet<OsString>,
    /// Files already taken, by device and inode.
    seen: HashMap<(u64, u64), PathBuf>,
}

/// Files as they were read last. One that is the same by all that the system says of it is not read
/// again.
#[derive(Debug, Default)]
pub(super) struct Known {
    files: HashMap<PathBuf, Read>,
}

/// A file that was read.
#[derive(Debug)]
struct Read {
    identity: FileIdentity,
    /// Whether it was quiet for long when it was read. Before that another change may have the same
    /// times, where a file system keeps coarse ones.
    is_old: bool,
    text: Arc<str>,
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

/// Whether a file of a folder is a manifest by its name.
pub(super) fn is_manifest_name(name: &OsStr) -> bool {
    let path = Path::new(name);
    let known = path.extension().is_some_and(|extension| {
        ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known))
    });
    known && !name.as_encoded_bytes().starts_with(b".")
}

/// Reads everything at the given paths: a file whatever its name, of a folder its manifests,
/// subfolders left out. A file reached twice is taken once. What is in `known` and did not change
/// is not read; afterwards all that was found is in it.
pub(super) fn scan(paths: &[PathBuf], known: &mut Known) -> Scan {
    let mut scan = Scan::default();
    let mut former = std::mem::take(known);
    let mut files = Files { former: &mut former, known };
    for path in paths {
        scan.watch_entry(path);
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => scan.take_folder(path, &mut files),
            Ok(metadata) => scan.take_file(path, &metadata, &mut files),
            Err(error) if error.kind() == ErrorKind::NotFound => scan.missing.push(path.clone()),
            Err(error) => {
                scan.unreadable.insert(path.clone(), error.to_string());
            }
        }
    }
    scan
}

/// Files of the last reading, and of this one.
struct Files<'a> {
    former: &'a mut Known,
    known: &'a mut Known,
}

impl Files<'_> {
    /// The bytes of a file that changed, or its text as it was read before.
    fn read(&mut self, file: &Path, metadata: &Metadata) -> io::Result<Option<Arc<str>>> {
        let identity = FileIdentity::of(metadata);
        let former = self.former.files.remove_entry(file);
        if let Some((path, read)) = former
            && read.is_old
            && read.identity == identity
        {
            let text = Arc::clone(&read.text);
            self.known.files.insert(path, read);
            return Ok(Some(text));
        }
        // Before it is read: a change meanwhile must not be taken for one of long ago.
        let is_old = identity.is_old(SystemTime::now());
        let Ok(text) = String::from_utf8(fs::read(file)?) else { return Ok(None) };
        let text: Arc<str> = text.into();
        let read = Read { identity, is_old, text: Arc::clone(&text) };
        self.known.files.insert(file.to_owned(), read);
        Ok(Some(text))
    }
}

impl Scan {
    fn take_folder(&mut self, folder: &Path, files: &mut Files<'_>) {
        self.watch_folder(folder);
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => {
                self.unreadable.insert(folder.to_owned(), error.to_string());
                return;
            }
        };
        let mut found: Vec<(PathBuf, bool)> = entries
            .filter_map(Result::ok)
            .filter(|entry| is_manifest_name(&entry.file_name()))
            .map(|entry| (entry.path(), entry.file_type().is_ok_and(|kind| kind.is_symlink())))
            .collect();
        // By bytes: paths are compared part by part, which tells nothing more in one folder.
        found.sort_by(|a, b| a.0.as_os_str().cmp(b.0.as_os_str()));
        for (file, is_link) in found {
            // Follows links: a ConfigMap mount has only links. A folder of that name is skipped.
            match fs::metadata(&file) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(metadata) => {
                    if is_link {
                        self.watch_target(&file);
                    }
                    self.take_file(&file, &metadata, files);
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    self.unreadable.insert(file, error.to_string());
                }
            }
        }
    }

    fn take_file(&mut self, file: &Path, metadata: &Metadata, files: &mut Files<'_>) {
        if self.is_taken(file, metadata) {
            return;
        }
        match files.read(file, metadata) {
            Ok(Some(text)) => {
                self.contents.insert(file.to_owned(), text);
            }
            Ok(None) => {
                self.unreadable.insert(file.to_owned(), "it is not UTF-8 text".to_owned());
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                self.unreadable.insert(file.to_owned(), error.to_string());
            }
        }
    }

    /// Whether the same file was reached by another path. Two names of one content are not.
    fn is_taken(&mut self, file: &Path, metadata: &Metadata) -> bool {
        match self.seen.entry((metadata.dev(), metadata.ino())) {
            Entry::Vacant(free) => {
                free.insert(file.to_owned());
                false
            }
            Entry::Occupied(first) => {
                let resolved = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.into());
                resolved(first.get()) == resolved(file)
            }
        }
    }

    /// Watches the folder that a given path stands in, and where a link leads.
    fn watch_entry(&mut self, path: &Path) {
        if let Some(name) = path.file_name() {
            self.names.insert(name.to_owned());
        }
        self.watch_folder(parent(path));
        self.watch_target(path);
    }

    fn watch_target(&mut self, path: &Path) {
        if let Ok(target) = fs::canonicalize(path)
            && let (Some(folder), Some(name)) = (target.parent(), target.file_name())
        {
            self.names.insert(name.to_owned());
            self.watch_folder(folder);
        }
    }

    fn watch_folder(&mut self, folder: &Path) {
        if let Ok(folder) = fs::canonicalize(folder)
            && let Ok(metadata) = fs::metadata(&folder)
        {
            self.folders.insert(folder, FolderIdentity::of(&metadata));
        }
    }
}

/// Tells a folder from one that is made anew under its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FolderIdentity {
    device: u64,
    inode: u64,
    /// A file system may give the inode of a folder that was removed to the next one (ext4 does).
    born: Option<SystemTime>,
}

impl FolderIdentity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            // Not every file system tells.
            born: metadata.created().ok(),
        }
    }
}

/// The folder a path stands in.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_by_name() {
        for name in ["a.yaml", "b.YML", "c.json"] {
            assert!(is_manifest_name(OsStr::new(name)), "{name}");
        }
        for name in [".a.yaml", ".#a.yaml", "a.yaml~", "a.yaml.swp", "README.md", "yaml"] {
            assert!(!is_manifest_name(OsStr::new(name)), "{name}");
        }
    }
}
