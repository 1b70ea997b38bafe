//! Files as they are given to a load: their paths, their texts, and what changed.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file's path, cheap to keep in many places. Compared by its bytes: part by part, as paths are
/// compared otherwise, is dear among thousands of files. So `a//b` is not `a/b` here.
#[derive(Clone)]
pub struct FilePath(Arc<Path>);

impl From<&Path> for FilePath {
    fn from(path: &Path) -> Self {
        Self(path.into())
    }
}

impl From<PathBuf> for FilePath {
    fn from(path: PathBuf) -> Self {
        Self(path.into())
    }
}

impl Deref for FilePath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Borrow<OsStr> for FilePath {
    fn borrow(&self) -> &OsStr {
        self.0.as_os_str()
    }
}

impl PartialEq for FilePath {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_os_str() == other.0.as_os_str()
    }
}

impl Eq for FilePath {}

impl PartialOrd for FilePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for FilePath {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.as_os_str().cmp(other.0.as_os_str())
    }
}

impl Hash for FilePath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_os_str().hash(state);
    }
}

impl fmt::Debug for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A file's path and text.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Its path, as shown in problems; relative settings start from its folder.
    pub path: FilePath,
    /// Its text.
    pub text: Arc<str>,
}

impl SourceFile {
    /// A file from its parts.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<Arc<str>>) -> Self {
        Self { path: path.into().into(), text: text.into() }
    }
}

impl fmt::Debug for SourceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text is left out: it may hold Secrets.
        f.debug_struct("SourceFile")
            .field("path", &self.path)
            .field("bytes", &self.text.len())
            .finish_non_exhaustive()
    }
}

/// What became of a file.
#[derive(Clone, PartialEq, Eq)]
pub struct FileChange {
    /// Its path.
    pub path: FilePath,
    /// Its text from now on; none: it is gone.
    pub text: Option<Arc<str>>,
}

impl From<SourceFile> for FileChange {
    /// The file is new, or has this text from now on.
    fn from(file: SourceFile) -> Self {
        Self { path: file.path, text: Some(file.text) }
    }
}

impl fmt::Debug for FileChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text is left out: it may hold Secrets.
        f.debug_struct("FileChange")
            .field("path", &self.path)
            .field("bytes", &self.text.as_ref().map(|text| text.len()))
            .finish_non_exhaustive()
    }
}
