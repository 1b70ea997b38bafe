//! Reads the given files and folders once, and finds out which folders to watch for them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

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
    /// Files already taken, links resolved.
    seen: BTreeSet<PathBuf>,
}

/// Whether a file of a folder is a manifest by its name.
pub(super) fn is_manifest_name(name: &OsStr) -> bool {
    let path = Path::new(name);
    let known = path.extension().is_some_and(|extension| {
        ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known))
    });
    known && !name.as_encoded_bytes().starts_with(b".")
}

/// Reads everything at the given paths: a file whatever its name, of a folder its manifests,
/// subfolders left out. A file reached twice is taken once.
pub(super) fn scan(paths: &[PathBuf]) -> Scan {
    let mut scan = Scan::default();
    for path in paths {
        scan.watch_entry(path);
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => scan.take_folder(path),
            Ok(_) => scan.take_file(path),
            Err(error) if error.kind() == ErrorKind::NotFound => scan.missing.push(path.clone()),
            Err(error) => {
                scan.unreadable.insert(path.clone(), error.to_string());
            }
        }
    }
    scan
}

impl Scan {
    fn take_folder(&mut self, folder: &Path) {
        self.watch_folder(folder);
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => {
                self.unreadable.insert(folder.to_owned(), error.to_string());
                return;
            }
        };
        let mut files: Vec<PathBuf> = entries
            .filter_map(Result::ok)
            .filter(|entry| is_manifest_name(&entry.file_name()))
            .map(|entry| entry.path())
            .collect();
        files.sort();
        for file in files {
            // Follows links: a ConfigMap mount has only links. A folder of that name is skipped.
            match fs::metadata(&file) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(_) => {
                    if fs::symlink_metadata(&file).is_ok_and(|link| link.is_symlink()) {
                        self.watch_target(&file);
                    }
                    self.take_file(&file);
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    self.unreadable.insert(file, error.to_string());
                }
            }
        }
    }

    fn take_file(&mut self, file: &Path) {
        let identity = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
        if !self.seen.insert(identity) {
            return;
        }
        match fs::read(file).map(String::from_utf8) {
            Ok(Ok(text)) => {
                self.contents.insert(file.to_owned(), Arc::from(text));
            }
            Ok(Err(_)) => {
                self.unreadable.insert(file.to_owned(), "it is not UTF-8 text".to_owned());
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                self.unreadable.insert(file.to_owned(), error.to_string());
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
