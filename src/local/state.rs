//! What a restart must not forget: which template got which revision's name, where traffic went,
//! and how many replicas there were. Kept in a folder of its own per set of manifests.
//!
//! ```text
//! lock             held by the running tidegate; its process id
//! revisions.json   stamps: written before the revision they name gets traffic
//! revisions.log    what changed in them since, where they are many
//! replicas.json    counts: written after they changed, at most once a second
//! *.former         the version before, taken if the present one is damaged
//! *.new            being written
//! ```

mod file;
mod journal;
mod lock;
mod memory;
mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::config::world::Stamps;
use file::ReadError;
use lock::{Lock, LockError};

pub use memory::{Health, Memory};

const REVISIONS: &str = "revisions.json";
const REPLICAS: &str = "replicas.json";

/// Where the state is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Below the user's state folder, by the paths of the manifests.
    Default,
    /// In this folder.
    Folder(PathBuf),
}

/// Why the state cannot be used: who started tidegate has to do something.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another one runs.
    #[error(
        "{}: {} keeps the state of these manifests; stop that one, or give this one a folder of \
         its own with --state-dir DIR, or --state-dir none", .folder.display(), holder(*.pid)
    )]
    Held {
        /// The folder.
        folder: PathBuf,
        /// Its process id, where that is known.
        pid: Option<u32>,
    },
    /// The folder cannot be made or used.
    #[error(
        "{}: the state cannot be kept there: {error}; name a folder that this user may write to \
         with --state-dir DIR, or keep nothing with --state-dir none", .path.display()
    )]
    Unusable {
        /// The folder or file.
        path: PathBuf,
        /// What happened.
        error: String,
    },
    /// It was written by a later version.
    #[error(
        "{}: {error}; start that version again, or begin anew in another folder with --state-dir \
         DIR: then the templates in the manifests become first revisions", .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Which version.
        error: String,
    },
    /// Neither the file nor the version before it can be read.
    #[error(
        "{}: damaged, and there is no version before it: {error}. It is left as it is. Put a copy \
         in its place, or move it away to begin anew: then the templates in the manifests become \
         first revisions", .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: String,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or("another tidegate".to_owned(), |pid| format!("the tidegate with process id {pid}"))
}

/// Replicas as they were, by revision as `NAMESPACE/NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Replicas {
    /// How many there were to be; those with none are left out.
    pub counts: BTreeMap<String, u32>,
    /// Revisions that once had as many ready as their `initial-scale` asks for.
    pub initialized: BTreeSet<String>,
}

/// What was kept.
#[derive(Debug, Default)]
pub struct Remembered {
    /// Stamps of the last life.
    pub stamps: Stamps,
    /// Replicas of the last life.
    pub replicas: Replicas,
}

/// The folder of a set of manifests, locked.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    /// For people who look into the state.
    files: Vec<String>,
    _lock: Lock,
}

/// Content of the file of revisions, as it is written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RevisionsOut<'a> {
    files: &'a [String],
    working_directory: String,
    stamps: &'a Stamps,
}

/// The same as it is read.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RevisionsIn {
    files: Vec<String>,
    working_directory: PathBuf,
    stamps: Stamps,
}

impl StateFolder {
    /// Finds, makes and locks the folder for these manifests. None, after a warning, where nothing
    /// says where it could be.
    ///
    /// # Errors
    ///
    /// The folder is in use, or cannot be used.
    pub fn open(place: &Place, manifests: &[PathBuf]) -> Result<Option<Self>, StateError> {
        let canonical = place::canonical(manifests);
        let path = match place {
            Place::Folder(folder) => folder.clone(),
            Place::Default => {
                let Some(home) = place::state_home(|name| std::env::var_os(name)) else {
                    warn_unkept("neither XDG_STATE_HOME nor HOME is an absolute path");
                    return Ok(None);
                };
                home.join("tidegate").join(place::folder_name(&canonical))
            }
        };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        if let Err(error) = made {
            // With nothing there yet nothing is lost.
            if *place == Place::Default && !path.exists() {
                warn_unkept(format_args!("{}: {error}", path.display()));
                return Ok(None);
            }
            return Err(unusable(&path, &error));
        }
        let lock = Lock::take(&path).map_err(|error| match error {
            LockError::Held(pid) => StateError::Held { folder: path.clone(), pid },
            LockError::Io(error) => unusable(&path, &error),
        })?;
        let files = canonical.iter().map(|path| path.to_string_lossy().into_owned()).collect();
        Ok(Some(Self { path, files, _lock: lock }))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was kept. A damaged file is put aside, and the version before it taken.
    ///
    /// # Errors
    ///
    /// A file is damaged with no version before it, or from a later version of tidegate.
    pub fn read(&self) -> Result<Remembered, StateError> {
        let revisions = self.read_revisions()?;
        let replicas = match self.read_file(REPLICAS) {
            Ok(replicas) => replicas.unwrap_or_default(),
            // Without them revisions start from nothing, as their load asks for.
            Err(StateError::Damaged { path, error }) => {
                let aside =
                    file::set_aside(&path, now()).map_err(|error| unusable(&path, &error))?;
                let aside = aside.display();
                tracing::error!(%error, %aside, "replica counts were damaged; put aside");
                Replicas::default()
            }
            Err(error) => return Err(error),
        };
        if !revisions.files.is_empty() && revisions.files != self.files {
            let former = revisions.files.join(", ");
            tracing::warn!(
                %former,
                "the state in this folder is that of other manifests: services that are not among \
                 the present ones count as deleted, with their revisions"
            );
        }
        let stamps = revisions.stamps.seen_from(&revisions.working_directory);
        Ok(Remembered { stamps, replicas })
    }

    fn read_revisions(&self) -> Result<RevisionsIn, StateError> {
        let path = self.path.join(REVISIONS);
        let unusable = |error: io::Error| unusable(&path, &error);
        let damaged = match file::read(&path) {
            Ok(None) => return Ok(RevisionsIn::default()),
            Ok(Some((revisions, digest))) => {
                let mut revisions: RevisionsIn = revisions;
                let log = journal::log(&path);
                apply_log(&mut revisions.stamps, &log, &digest).map_err(unusable)?;
                return Ok(revisions);
            }
            Err(error) => self.only_damage(&path, error)?,
        };
        let former: Result<Option<(RevisionsIn, String)>, ReadError> =
            file::read(&file::former(&path));
        let Ok(Some((mut revisions, digest))) = former else {
            return Err(StateError::Damaged { path, error: damaged });
        };
        // The log of the version before leads to the damaged one, and that one's log on from there.
        let stamps = &mut revisions.stamps;
        let (former_log, log) = (journal::former_log(&path), journal::log(&path));
        apply_log(stamps, &former_log, &digest).map_err(unusable)?;
        apply_log(stamps, &log, &digest).map_err(unusable)?;
        let present = std::fs::read(&path).ok().and_then(|bytes| file::stated_digest(&bytes));
        if let Some(present) = present {
            apply_log(stamps, &log, &present).map_err(unusable)?;
        }
        let bytes = file::encode(&RevisionsOut {
            files: &revisions.files,
            working_directory: revisions.working_directory.to_string_lossy().into_owned(),
            stamps: &revisions.stamps,
        });
        let aside = bytes.map_err(io::Error::from).and_then(|b| file::mend(&path, &b, now()));
        say_damaged(&path, &aside.map_err(unusable)?, &damaged);
        Ok(revisions)
    }

    /// What is wrong with a file, if it can be helped.
    fn only_damage(&self, path: &Path, error: ReadError) -> Result<String, StateError> {
        let path = path.to_owned();
        match error {
            error @ ReadError::Newer { .. } => {
                Err(StateError::Newer { path, error: error.to_string() })
            }
            ReadError::Io(error) => Err(StateError::Unusable { path, error }),
            ReadError::Damaged(error) => Ok(error),
        }
    }

    fn read_file<T: serde::de::DeserializeOwned>(
        &self,
        name: &str,
    ) -> Result<Option<T>, StateError> {
        let path = self.path.join(name);
        let damaged = match file::read(&path) {
            Ok(read) => return Ok(read.map(|(content, _)| content)),
            Err(error) => self.only_damage(&path, error)?,
        };
        let former = file::former(&path);
        match file::read(&former) {
            Ok(Some((content, _))) => {
                let aside = std::fs::read(&former).and_then(|b| file::mend(&path, &b, now()));
                say_damaged(&path, &aside.map_err(|error| unusable(&path, &error))?, &damaged);
                Ok(Some(content))
            }
            _ => Err(StateError::Damaged { path, error: damaged }),
        }
    }

    fn encode_revisions(&self, stamps: &Stamps) -> Result<Vec<u8>, serde_json::Error> {
        let folder = std::env::current_dir().unwrap_or_default();
        let working_directory = folder.to_string_lossy().into_owned();
        file::encode(&RevisionsOut { files: &self.files, working_directory, stamps })
    }
}

/// Applies the lines of a log that belong to a whole file with this digest.
fn apply_log(stamps: &mut Stamps, log: &Path, digest: &str) -> io::Result<()> {
    let read = journal::read(log, digest)?;
    if read.damaged > 0 {
        tracing::error!(
            path = %log.display(), lines = read.damaged,
            "damaged lines are left out: what they said of revisions and traffic is forgotten"
        );
    }
    read.changes.into_iter().for_each(|changes| stamps.apply(changes));
    Ok(())
}

fn say_damaged(path: &Path, aside: &Path, error: &str) {
    let (path, aside) = (path.display(), aside.display());
    tracing::error!(
        %path, %aside, %error,
        "damaged; it was put aside, and the version before it is in effect"
    );
}

fn unusable(path: &Path, error: &io::Error) -> StateError {
    StateError::Unusable { path: path.to_owned(), error: error.to_string() }
}

fn warn_unkept(why: impl std::fmt::Display) {
    tracing::warn!(
        "revisions are remembered only while tidegate runs: {why}; name a folder with --state-dir \
         DIR, or say --state-dir none"
    );
}

/// Seconds since the Unix epoch; 0 before it.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
