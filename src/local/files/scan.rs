//! Reads the given files and folders once, and finds out which folders to watch for them.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirEntry, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::known::{Ground, Known, Read, Seen, has_other_names};
use super::settle::Contents;
use super::told::Told;
use crate::config::world::FilePath;

/// What was found.
#[derive(Debug)]
pub(super) enum Look {
    /// Everything, as it stood at one moment.
    Whole(Scan),
    /// Some files; all others are as they were.
    Part(Vec<(FilePath, Seen)>),
}

/// What stood at the given paths at one moment.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Contents of all files found.
    pub(super) contents: Contents,
    /// Files that are there and could not be read, and why.
    pub(super) unreadable: BTreeMap<PathBuf, String>,
    /// Given paths where nothing is.
    pub(super) missing: Vec<PathBuf>,
    /// Folders to watch, links resolved.
    pub(super) folders: BTreeMap<PathBuf, WatchedFolder>,
    /// Names that matter in those folders beside those of manifests.
    pub(super) names: BTreeSet<OsString>,
    /// Files already taken, by device and inode.
    held: HashMap<(u64, u64), FilePath>,
    /// The given folders.
    given: Vec<(PathBuf, FolderIdentity)>,
    /// Whether how a file stands may depend on more than what is under its own name.
    is_entangled: bool,
}

/// A folder to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WatchedFolder {
    pub(super) identity: FolderIdentity,
    /// The given path, of a folder whose manifests are taken; none of one that is only watched
    /// because a file or a link stands in it.
    pub(super) given: Option<PathBuf>,
}

/// Whether a file of a folder is a manifest by its name.
pub(super) fn is_manifest_name(name: &OsStr) -> bool {
    let path = Path::new(name);
    let known = path.extension().is_some_and(|extension| {
        ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known))
    });
    known && !name.as_encoded_bytes().starts_with(b".")
}

/// Looks at what may have changed, or at everything where files do not stand each for itself.
pub(super) fn look(paths: &[PathBuf], told: &Told, known: &mut Known) -> Look {
    match told.files().and_then(|files| known.look_at(files)) {
        Some(seen) => Look::Part(seen),
        None => Look::Whole(scan(paths, known)),
    }
}

/// Reads everything at the given paths: a file whatever its name, of a folder its manifests,
/// subfolders left out. A file reached twice is taken once. What is in `known` and did not change
/// is not read; afterwards all that was found is in it.
pub(super) fn scan(paths: &[PathBuf], known: &mut Known) -> Scan {
    let mut scan = Scan::default();
    let former = std::mem::take(known);
    let mut files = Files { former: former.files, known };
    for path in paths {
        scan.watch_entry(path);
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => scan.take_folder(path, &mut files),
            Ok(metadata) => scan.take_file(path.clone(), &metadata, &mut files),
            Err(error) if error.kind() == ErrorKind::NotFound => scan.missing.push(path.clone()),
            Err(error) => {
                scan.is_entangled = true;
                scan.unreadable.insert(path.clone(), error.to_string());
            }
        }
    }
    let stands = !scan.is_entangled && scan.missing.is_empty();
    known.ground = stands.then(|| Ground { folders: std::mem::take(&mut scan.given) });
    scan
}

/// Files of the last reading, and of this one.
struct Files<'a> {
    former: HashMap<FilePath, Read>,
    known: &'a mut Known,
}

impl Scan {
    fn take_folder(&mut self, folder: &Path, files: &mut Files<'_>) {
        match self.watch_folder(folder) {
            Some(watched) if watched.given.is_none() => {
                watched.given = Some(folder.to_owned());
                let identity = watched.identity;
                self.given.push((folder.to_owned(), identity));
            }
            // Given twice, or already gone.
            _ => self.is_entangled = true,
        }
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => {
                self.is_entangled = true;
                self.unreadable.insert(folder.to_owned(), error.to_string());
                return;
            }
        };
        let entries: Vec<DirEntry> = entries
            .filter_map(|entry| entry.inspect_err(|_| self.is_entangled = true).ok())
            .filter(|entry| is_manifest_name(&entry.file_name()))
            .collect();
        let is_link = |entry: &DirEntry| entry.file_type().map_or(true, |kind| kind.is_symlink());
        let mut found: Vec<(PathBuf, bool)> =
            entries.iter().map(|entry| (entry.path(), is_link(entry))).collect();
        // By bytes: paths are compared part by part, which tells nothing more in one folder.
        found.sort_unstable_by(|a, b| a.0.as_os_str().cmp(b.0.as_os_str()));
        for (file, is_link) in found {
            self.is_entangled |= is_link;
            // Follows links: a ConfigMap mount has only links. A folder of that name is skipped.
            match fs::metadata(&file) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(metadata) => {
                    if is_link {
                        self.watch_target(&file);
                    }
                    self.take_file(file, &metadata, files);
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    self.is_entangled = true;
                    self.unreadable.insert(file, error.to_string());
                }
            }
        }
    }

    fn take_file(&mut self, file: PathBuf, metadata: &Metadata, files: &mut Files<'_>) {
        self.is_entangled |= has_other_names(metadata);
        let (file, former) = match files.former.remove_entry(file.as_os_str()) {
            Some((file, former)) => (file, Some(former)),
            None => (FilePath::from(file), None),
        };
        if self.is_taken(&file, metadata) {
            return;
        }
        let (read, seen) = Read::file(&file, metadata, former);
        match seen {
            Seen::Text(text) => {
                self.contents.insert(file.clone(), text);
            }
            Seen::Gone => {}
            Seen::Unreadable(why) => {
                self.unreadable.insert(file.to_path_buf(), why);
            }
        }
        files.known.files.insert(file, read);
    }

    /// Whether the same file was reached by another path. Two names of one content are not.
    fn is_taken(&mut self, file: &FilePath, metadata: &Metadata) -> bool {
        match self.held.entry((metadata.dev(), metadata.ino())) {
            Entry::Vacant(free) => {
                free.insert(file.clone());
                false
            }
            Entry::Occupied(first) => {
                self.is_entangled = true;
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

    /// None: it is gone.
    fn watch_folder(&mut self, folder: &Path) -> Option<&mut WatchedFolder> {
        let folder = fs::canonicalize(folder).ok()?;
        let identity = FolderIdentity::of(&fs::metadata(&folder).ok()?);
        let new = WatchedFolder { identity, given: None };
        let watched = self.folders.entry(folder).or_insert(new);
        watched.identity = identity;
        Some(watched)
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
    pub(super) fn of(metadata: &Metadata) -> Self {
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
