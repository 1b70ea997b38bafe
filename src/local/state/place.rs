//! Where the state of a set of manifests is.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

/// Longest part of a folder's name that is taken from a manifest's.
const STEM_MAX: usize = 40;

/// The user's folder for state, by the XDG base directory specification: `XDG_STATE_HOME` if that
/// is absolute, else `~/.local/state`. None where neither is known.
pub(super) fn state_home(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Option<PathBuf> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))
}

/// Folder of the state of these manifests, below the user's: a word to recognise it by, and a
/// digest of the paths.
pub(super) fn folder_name(canonical: &BTreeSet<PathBuf>) -> String {
    let first = canonical.first().and_then(|path| path.file_name()).unwrap_or(OsStr::new("files"));
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let stem: String =
        first.to_string_lossy().chars().filter(|c| known(*c)).take(STEM_MAX).collect();
    let mut bytes = Vec::new();
    for path in canonical {
        bytes.extend_from_slice(path.as_os_str().as_bytes());
        bytes.push(0);
    }
    format!("{}-{:016x}", stem.trim_start_matches('.'), super::file::digest(&bytes))
}

/// The paths in one form, whatever the working directory, links and order they are given with.
pub(super) fn canonical(paths: &[PathBuf]) -> BTreeSet<PathBuf> {
    paths.iter().map(|path| canonical_path(path)).collect()
}

fn canonical_path(path: &Path) -> PathBuf {
    let resolved = std::fs::canonicalize(path).ok();
    if let Some(resolved) = resolved.filter(|resolved| !is_swapped(resolved)) {
        return resolved;
    }
    // The link itself: what it leads to has another name tomorrow.
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            std::fs::canonicalize(parent).unwrap_or_else(|_| parent.to_owned()).join(name)
        }
        _ => path.to_owned(),
    }
}

/// Whether a path leads through a folder like `..2026_11_24`: a mounted ConfigMap, which is
/// swapped for another such folder with each change.
fn is_swapped(path: &Path) -> bool {
    path.components().any(|part| match part {
        Component::Normal(name) => name.as_bytes().starts_with(b".."),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_users_state_folder() {
        let home = |state: Option<&str>, home: Option<&str>| {
            let find = |name: &str| if name == "HOME" { home } else { state };
            state_home(|name| find(name).map(Into::into))
        };
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(home(Some("/s"), Some("/h")), path("/s"));
        assert_eq!(home(None, Some("/h")), path("/h/.local/state"));
        assert_eq!(home(Some("relative"), Some("/h")), path("/h/.local/state"));
        assert_eq!(home(Some(""), Some("")), None);
        assert_eq!(home(None, None), None);
    }

    #[test]
    fn one_set_of_files_has_one_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("..v1")).unwrap();
        fs::write(path("..v1/mounted.yaml"), "").unwrap();
        symlink("..v1", path("..data")).unwrap();
        symlink("..data/mounted.yaml", path("mounted.yaml")).unwrap();
        fs::write(path("a.yaml"), "").unwrap();
        symlink("a.yaml", path("link.yaml")).unwrap();
        let name = |paths: &[&str]| {
            folder_name(&canonical(&paths.iter().map(|name| path(name)).collect::<Vec<_>>()))
        };
        let both = name(&["a.yaml", "mounted.yaml"]);
        assert!(both.starts_with("a.yaml-"), "{both}");
        assert_eq!(name(&["mounted.yaml", "link.yaml", "a.yaml"]), both);
        assert_ne!(name(&["a.yaml"]), both);
        // Swapped, it is still the same file.
        let before = name(&["mounted.yaml"]);
        fs::rename(path("..v1"), path("..v2")).unwrap();
        fs::remove_file(path("..data")).unwrap();
        symlink("..v2", path("..data")).unwrap();
        assert_eq!(name(&["mounted.yaml"]), before);
        // The name does not depend on how it is computed here and now.
        let fixed = folder_name(&BTreeSet::from([PathBuf::from("/srv/hello world.yaml")]));
        assert_eq!(fixed, "helloworld.yaml-90b86d933dc456db");
    }
}
