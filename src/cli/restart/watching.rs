//! Files of a folder, looked at for changes that mean another program.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Changes that may wait; further ones say nothing new.
const WAITING: usize = 256;
/// Nothing has changed for so long: whoever writes is done.
const QUIET: Duration = Duration::from_millis(300);
/// Folders whose files are made of others, or are no part of a program.
const NOT_THOSE: [&str; 4] = ["target", "node_modules", "__pycache__", "venv"];

/// A folder that is looked at.
#[derive(Debug)]
pub(super) struct Watching {
    changes: mpsc::Receiver<PathBuf>,
    _watcher: RecommendedWatcher,
}

impl Watching {
    /// Looks at it from now on.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub(super) fn begin(folder: &Path) -> Result<Self, String> {
        let error = |error: &dyn std::fmt::Display| format!("{}: {error}", folder.display());
        let root = folder.canonicalize().map_err(|problem| error(&problem))?;
        let (changed, changes) = mpsc::channel(WAITING);
        let below = root.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let Ok(event) = event else { return };
            if !event.kind.is_access()
                && let Some(path) =
                    event.paths.into_iter().find(|path| is_of_interest(&below, path))
            {
                // Where it is full enough has changed.
                let _ = changed.try_send(path);
            }
        })
        .map_err(|problem| error(&problem))?;
        watcher.watch(&root, RecursiveMode::Recursive).map_err(|problem| error(&problem))?;
        Ok(Self { changes, _watcher: watcher })
    }

    /// One of the files that changed, once no more do.
    pub(super) async fn changed(&mut self) -> Option<PathBuf> {
        let path = self.changes.recv().await?;
        while let Ok(Some(_)) = timeout(QUIET, self.changes.recv()).await {}
        Some(path)
    }
}

/// Whether a file below the folder can matter to a program.
fn is_of_interest(folder: &Path, path: &Path) -> bool {
    let below = path.strip_prefix(folder).unwrap_or(path);
    let name = |part: Component<'_>| part.as_os_str().to_string_lossy().into_owned();
    let is_ours = |part: String| {
        let is_hidden = part.starts_with('.');
        // What editors write beside the file they save.
        let is_passing = part.ends_with('~') || part.ends_with(".swp") || part == "4913";
        !is_hidden && !is_passing && !NOT_THOSE.contains(&part.as_str())
    };
    below.components().map(name).all(is_ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_interest() {
        let folder = Path::new("/srv/app");
        for (path, expected) in [
            ("/srv/app/server.js", true),
            ("/srv/app/src/deep/a.py", true),
            ("/srv/app/.git/HEAD", false),
            ("/srv/app/node_modules/x/index.js", false),
            ("/srv/app/src/.server.js.swp", false),
            ("/srv/app/server.js~", false),
            ("/srv/app/target/debug/app", false),
        ] {
            assert_eq!(is_of_interest(folder, Path::new(path)), expected, "{path}");
        }
    }
}
