//! One file of the state: how it is written, so that a reader finds the old or the new content
//! whatever happens in between, and how it is read.
//!
//! ```text
//! {"tidegate":"0.1.0","format":2,"digest":"…16 hexadecimal digits…"}
//! {…the content, as JSON on one line…}
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The format that is written, and the newest one that is read.
const FORMAT: u32 = 2;
/// Bytes written at once.
const PIECE: usize = 64 * 1024;

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    /// The version that wrote it.
    tidegate: String,
    format: u32,
    /// Of the second line.
    digest: String,
}

/// The bytes of a file with this content.
pub(super) fn encode(content: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let content = serde_json::to_vec(content)?;
    let head = Head {
        tidegate: env!("CARGO_PKG_VERSION").to_owned(),
        format: FORMAT,
        digest: format!("{:016x}", digest(&content)),
    };
    let mut bytes = serde_json::to_vec(&head)?;
    bytes.push(b'\n');
    bytes.extend_from_slice(&content);
    bytes.push(b'\n');
    Ok(bytes)
}

/// Why a file's content is not known.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReadError {
    /// It was written by a later version.
    #[error("format {format} of tidegate {by}, while this version reads format {FORMAT} at most")]
    Newer { by: String, format: u32 },
    /// It is not what was written.
    #[error("{0}")]
    Damaged(String),
    /// It cannot be read.
    #[error("{0}")]
    Io(String),
}

/// The content of a file's bytes.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ReadError> {
    let damaged = |what: String| ReadError::Damaged(what);
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (head, content) = bytes.split_at(end);
    let head: Head =
        serde_json::from_slice(head).map_err(|error| damaged(format!("line 1: {error}")))?;
    if head.format > FORMAT {
        return Err(ReadError::Newer { by: head.tidegate, format: head.format });
    }
    let content = content.strip_prefix(b"\n").unwrap_or(content);
    let content = content.strip_suffix(b"\n").unwrap_or(content);
    if format!("{:016x}", digest(content)) != head.digest {
        return Err(damaged("line 2: it is not what was written there".to_owned()));
    }
    serde_json::from_slice(content).map_err(|error| damaged(format!("line 2: {error}")))
}

/// Reads a file: its content and the digest of that; none where there is none.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<(T, String)>, ReadError> {
    match fs::read(path) {
        Ok(bytes) => {
            let content = decode(&bytes)?;
            Ok(Some((content, stated_digest(&bytes).unwrap_or_default())))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ReadError::Io(error.to_string())),
    }
}

/// FNV-1a with 64 bits: the same in every version, unlike a hash map's.
pub(super) fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// The digest that a file's first line states; none where that line cannot be read.
pub(super) fn stated_digest(bytes: &[u8]) -> Option<String> {
    let head = bytes.split(|byte| *byte == b'\n').next()?;
    serde_json::from_slice(head).map(|head: Head| head.digest).ok()
}

/// What is about to be done to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The new file is made.
    Create,
    /// A piece is written.
    Write,
    /// The new file is brought to the disk.
    SyncFile,
    /// The version before the former one goes.
    RemoveFormer,
    /// The former version gets a second name.
    KeepFormer,
    /// The new file takes the place of the former one.
    Rename,
    /// The folder is brought to the disk.
    SyncFolder,
    /// After a failure: the unfinished file goes.
    CleanUp,
}

/// Asked before each step; an error ends the writing there. Always `Ok` but in tests.
pub(super) type Ask<'a> = &'a mut dyn FnMut(Step) -> io::Result<()>;

/// Name of the version before, kept in case the present one is damaged.
pub(super) fn former(path: &Path) -> PathBuf {
    path.with_extension("former")
}

/// Replaces a file's content: a reader finds the old one or the new one, and after this returned
/// the new one even if the machine loses its power.
pub(super) fn replace(path: &Path, bytes: &[u8], ask: Ask<'_>) -> io::Result<()> {
    let new = path.with_extension("new");
    let result = write_new(&new, bytes, ask).and_then(|()| put_in_place(path, &new, ask));
    if result.is_err() && ask(Step::CleanUp).is_ok() {
        // On a full disk it takes room that others need; the next attempt makes it anew.
        let _ = fs::remove_file(&new);
    }
    result
}

fn write_new(new: &Path, bytes: &[u8], ask: Ask<'_>) -> io::Result<()> {
    ask(Step::Create)?;
    let mut file: File =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(new)?;
    for piece in bytes.chunks(PIECE) {
        ask(Step::Write)?;
        file.write_all(piece)?;
    }
    ask(Step::SyncFile)?;
    file.sync_all()
}

fn put_in_place(path: &Path, new: &Path, ask: Ask<'_>) -> io::Result<()> {
    let former = former(path);
    ask(Step::RemoveFormer)?;
    ignore_missing(fs::remove_file(&former))?;
    ask(Step::KeepFormer)?;
    // A file system without links has no former version.
    if let Err(error) = fs::hard_link(path, &former)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(%error, "the former version of the state is not kept");
    }
    ask(Step::Rename)?;
    fs::rename(new, path)?;
    ask(Step::SyncFolder)?;
    sync_folder(path)
}

/// Brings the names in a file's folder to the disk.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Replaces a damaged file, which gets another name: that name. The version before stays as it is.
pub(super) fn mend(path: &Path, bytes: &[u8], seconds: u64) -> io::Result<PathBuf> {
    let new = path.with_extension("new");
    write_new(&new, bytes, &mut |_| Ok(()))?;
    let aside = free_name(path, seconds);
    // There is a file at `path` at every moment.
    fs::hard_link(path, &aside)?;
    fs::rename(&new, path)?;
    sync_folder(path)?;
    Ok(aside)
}

pub(super) fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Moves a damaged file out of the way without overwriting anything; its new name.
pub(super) fn set_aside(path: &Path, seconds: u64) -> io::Result<PathBuf> {
    let aside = free_name(path, seconds);
    fs::rename(path, &aside)?;
    Ok(aside)
}

fn free_name(path: &Path, seconds: u64) -> PathBuf {
    let mut name = path.with_extension(format!("damaged-{seconds}"));
    let mut number = 1;
    while name.exists() {
        number += 1;
        name = path.with_extension(format!("damaged-{seconds}-{number}"));
    }
    name
}
