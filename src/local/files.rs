//! The manifests on disk: read at start, watched afterwards.
//!
//! A given path is a file (whatever its name) or a folder, of which `*.yaml`, `*.yml` and `*.json`
//! count; subfolders do not, nor do names that begin with a dot. Folders are watched; where that
//! fails, and while a given path is missing, everything is read every two seconds. Only a changed
//! content is a change, so any way an editor has of saving, and the swap of `..data` in a
//! ConfigMap mount, come out the same.

mod scan;
mod settle;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::config::world::SourceFile;
use scan::{Known, Scan, scan};
use settle::Settle;
use watch::FolderWatch;

/// How often everything is read where watching is not possible.
const POLL: Duration = Duration::from_secs(2);
/// Events come in bursts; files are read at most this often.
const BREATH: Duration = Duration::from_millis(20);

/// Given paths that cannot be read at start: one line each.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct FilesError(pub Vec<String>);

/// The manifests at a set of paths.
#[derive(Debug)]
pub struct ConfigFiles {
    paths: Arc<[PathBuf]>,
    settle: Settle,
    watch: FolderWatch,
    /// Files as they were read last.
    known: Arc<Mutex<Known>>,
    /// Something may have changed since the last reading.
    dirty: bool,
    last_read: Instant,
    missing: bool,
    /// What could not be read at the last reading, so that it is said once.
    unreadable: BTreeMap<PathBuf, String>,
}

impl ConfigFiles {
    /// Reads the files and begins to watch. Fails if a path is missing or cannot be read.
    pub async fn open(paths: Vec<PathBuf>) -> Result<Self, FilesError> {
        let paths: Arc<[PathBuf]> = paths.into();
        let known = Arc::default();
        let found = checked(read(Arc::clone(&paths), Arc::clone(&known)).await)?;
        let mut watch = FolderWatch::new();
        // What happened between reading and watching is found by one more reading.
        watch.watch(&found.folders, found.names);
        Ok(Self {
            paths,
            settle: Settle::new(found.contents),
            watch,
            known,
            dirty: true,
            last_read: Instant::now(),
            missing: false,
            unreadable: BTreeMap::new(),
        })
    }

    /// All files as they count now, by path.
    pub fn files(&self) -> Vec<SourceFile> {
        let accepted = self.settle.accepted().iter();
        accepted
            .map(|(path, text)| SourceFile { path: path.clone(), text: Arc::clone(text) })
            .collect()
    }

    /// Returns all files once one of them has changed and settled. Cancel safe.
    pub async fn next(&mut self) -> Vec<SourceFile> {
        loop {
            if self.dirty {
                sleep_until(self.last_read + BREATH).await;
                self.reread().await;
                if self.settle.take_settled(Instant::now()) {
                    return self.files();
                }
                continue;
            }
            let poll = (self.missing || self.watch.must_poll()).then(|| self.last_read + POLL);
            let wake = self.settle.deadline().into_iter().chain(poll).min();
            tokio::select! {
                () = self.watch.changed() => {}
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
            self.dirty = true;
        }
    }

    async fn reread(&mut self) {
        let found = read(Arc::clone(&self.paths), Arc::clone(&self.known)).await;
        let now = Instant::now();
        self.last_read = now;
        self.missing = !found.missing.is_empty();
        let unreadable = found.unreadable.keys().cloned().collect();
        self.settle.observe(&found.contents, &unreadable, now);
        for (path, why) in &found.unreadable {
            if self.unreadable.get(path) != Some(why) {
                let path = path.display();
                tracing::warn!(%path, %why, "cannot be read; what it said before stays in effect");
            }
        }
        self.unreadable = found.unreadable;
        self.dirty = self.watch.watch(&found.folders, found.names);
    }
}

/// The manifests at these paths, read once; blocks while it reads.
pub fn read_files(paths: &[PathBuf]) -> Result<Vec<SourceFile>, FilesError> {
    let found = checked(scan(paths, &mut Known::default()))?;
    Ok(found.contents.into_iter().map(|(path, text)| SourceFile { path, text }).collect())
}

/// What was found, if nothing is missing and everything could be read.
fn checked(found: Scan) -> Result<Scan, FilesError> {
    let missing = found.missing.iter().map(|path| {
        let path = path.display();
        format!("{path}: there is no such file or folder; give one with -f PATH")
    });
    let unreadable = found.unreadable.iter();
    let unreadable =
        unreadable.map(|(path, why)| format!("{}: cannot be read: {why}", path.display()));
    let errors: Vec<String> = missing.chain(unreadable).collect();
    if errors.is_empty() { Ok(found) } else { Err(FilesError(errors)) }
}

/// Reads the paths on a thread that may block.
async fn read(paths: Arc<[PathBuf]>, known: Arc<Mutex<Known>>) -> Scan {
    match tokio::task::spawn_blocking(move || scan(&paths, &mut known.lock())).await {
        Ok(scan) => scan,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going down; nobody will look at this.
            Err(_) => Scan::default(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Where folders cannot be watched, everything is read every two seconds. Time is tokio's: it
    /// stands still while a file is read.
    #[tokio::test(start_paused = true)]
    async fn without_a_watch_changes_are_found_by_reading() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        fs::write(&file, "1").unwrap();
        let mut files = ConfigFiles::open(vec![folder.path().to_owned()]).await.unwrap();
        files.watch = FolderWatch::none();
        let texts = |files: Vec<SourceFile>| -> Vec<String> {
            files.into_iter().map(|file| file.text.to_string()).collect()
        };
        assert_eq!(texts(files.files()), ["1"]);
        fs::write(&file, "2").unwrap();
        let start = Instant::now();
        assert_eq!(texts(files.next().await), ["2"]);
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        fs::remove_file(&file).unwrap();
        let start = Instant::now();
        assert_eq!(texts(files.next().await), Vec::<String>::new());
        assert!(start.elapsed() >= Duration::from_secs(2), "{:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }

    #[test]
    fn reading_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("any.name");
        fs::write(&file, "1").unwrap();
        fs::write(folder.path().join("b.yaml"), "2").unwrap();
        // The file twice, and the folder it stands in.
        let paths = [file.clone(), file.clone(), folder.path().to_owned()];
        let read = read_files(&paths).unwrap();
        let texts: Vec<&str> = read.iter().map(|file| &*file.text).collect();
        assert_eq!(texts, ["1", "2"]);
        fs::write(&file, [0xff]).unwrap();
        let error = read_files(&paths).unwrap_err().to_string();
        assert!(error.ends_with("any.name: cannot be read: it is not UTF-8 text"), "{error}");
    }
}
