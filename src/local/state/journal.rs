//! The revisions on the disk: a whole file, and beside it a log of what changed since, so that an
//! edit among many services writes what one service is.
//!
//! ```text
//! revisions.json      everything, at one moment
//! revisions.log       what changed since: a line a save
//! revisions.log-former    the log of the version before
//! ```
//!
//! A line is `DIGEST BASE JSON`: the digest of what follows it, that of the whole file's content it
//! belongs to, and [`StampChanges`]. It says what things are, not what was done to them, so that a
//! line may be applied again. A line that was not finished counts for nothing: nobody was told that
//! it was written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::file::{self, Ask, Step};
use crate::config::world::{StampChanges, Stamps};

/// A whole file up to this many bytes is written anew each time, with no log.
const SMALL: u64 = 64 * 1024;

/// Writes revisions.
#[derive(Debug)]
pub(super) struct Journal {
    /// Of the whole file.
    path: PathBuf,
    small: u64,
    /// What is on the disk, once this is known.
    on_disk: Option<OnDisk>,
    /// Whether nothing was written in this life yet.
    is_first: bool,
}

#[derive(Debug)]
struct OnDisk {
    stamps: Stamps,
    /// Digest of the whole file's content.
    base: String,
    base_len: u64,
    log: Option<File>,
    /// Bytes of finished lines.
    log_len: u64,
    /// Whether bytes may lie behind them.
    is_torn: bool,
}

impl Journal {
    /// A journal around this whole file.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, small: SMALL, on_disk: None, is_first: true }
    }

    /// One that keeps a log however small the whole file is.
    #[cfg(test)]
    pub(super) fn always_logging(path: PathBuf) -> Self {
        Self { small: 0, ..Self::new(path) }
    }

    /// Brings stamps to the disk; `encode` makes a whole file's bytes of them. False: they are
    /// there already. After an error what is there is what was there, or these.
    pub(super) fn save(
        &mut self,
        stamps: &Stamps,
        encode: impl FnOnce(&Stamps) -> io::Result<Vec<u8>>,
        ask: Ask<'_>,
    ) -> io::Result<bool> {
        if let Some(disk) = &mut self.on_disk {
            let changes = stamps.changes_since(&disk.stamps);
            if changes.is_empty() {
                return Ok(false);
            }
            if disk.base_len > self.small && disk.log_len <= disk.base_len / 2 {
                disk.append(&log(&self.path), &changes, ask)?;
                disk.stamps.apply(changes);
                return Ok(true);
            }
        }
        self.replace(stamps, &encode(stamps)?, ask)
    }

    fn replace(&mut self, stamps: &Stamps, bytes: &[u8], ask: Ask<'_>) -> io::Result<bool> {
        // Whatever fails from here on, the next one is written whole again.
        self.on_disk = None;
        let log = log(&self.path);
        let is_first = std::mem::take(&mut self.is_first);
        let is_there = is_first && !log.exists() && fs::read(&self.path).is_ok_and(|b| b == bytes);
        if !is_there {
            file::replace(&self.path, bytes, ask)?;
            ask(Step::Rename)?;
            // Its lines are in the new file; with the version before, they still mean something.
            file::ignore_missing(fs::rename(&log, former_log(&self.path)))?;
        }
        self.on_disk = Some(OnDisk {
            stamps: stamps.clone(),
            base: file::stated_digest(bytes).unwrap_or_default(),
            base_len: bytes.len() as u64,
            log: None,
            log_len: 0,
            is_torn: false,
        });
        Ok(!is_there)
    }
}

impl OnDisk {
    fn append(&mut self, path: &Path, changes: &StampChanges, ask: Ask<'_>) -> io::Result<()> {
        let line = line(&self.base, changes)?;
        let is_new = self.log.is_none();
        if is_new {
            ask(Step::Create)?;
            let mut options = OpenOptions::new();
            self.log = Some(options.append(true).create(true).mode(0o600).open(path)?);
            self.is_torn = true;
        }
        let Some(log) = &mut self.log else { return Ok(()) };
        if std::mem::replace(&mut self.is_torn, true) {
            log.set_len(self.log_len)?;
        }
        ask(Step::Write)?;
        log.write_all(&line)?;
        ask(Step::SyncFile)?;
        log.sync_data()?;
        if is_new {
            ask(Step::SyncFolder)?;
            file::sync_folder(path)?;
        }
        self.log_len += line.len() as u64;
        self.is_torn = false;
        Ok(())
    }
}

fn line(base: &str, changes: &StampChanges) -> io::Result<Vec<u8>> {
    let mut text = format!("{base} ").into_bytes();
    serde_json::to_writer(&mut text, changes)?;
    let mut line = format!("{:016x} ", file::digest(&text)).into_bytes();
    line.append(&mut text);
    line.push(b'\n');
    Ok(line)
}

/// The log beside a whole file.
pub(super) fn log(path: &Path) -> PathBuf {
    path.with_extension("log")
}

/// That of the version before.
pub(super) fn former_log(path: &Path) -> PathBuf {
    path.with_extension("log-former")
}

/// What a log says.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// In order.
    pub(super) changes: Vec<StampChanges>,
    /// Lines that are not what was written, the last one left out: it may be unfinished.
    pub(super) damaged: usize,
}

/// Reads the lines of a log that belong to a whole file with this digest.
///
/// # Errors
///
/// The file cannot be read; where there is none it is empty.
pub(super) fn read(path: &Path, base: &str) -> io::Result<Read> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Read::default()),
        Err(error) => return Err(error),
    };
    let mut read = Read::default();
    let mut is_last_damaged = false;
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let parsed = parse(line);
        is_last_damaged = parsed.is_none();
        match parsed {
            Some((of, changes)) if of == base => read.changes.push(changes),
            Some(_) => {}
            None => read.damaged += 1,
        }
    }
    read.damaged -= usize::from(is_last_damaged);
    Ok(read)
}

/// The digest of the whole file that a line belongs to, and what it says.
fn parse(line: &[u8]) -> Option<(&str, StampChanges)> {
    let (digest, text) = (line.get(..16)?, line.get(16..)?.strip_prefix(b" ")?);
    if format!("{:016x}", file::digest(text)).as_bytes() != digest {
        return None;
    }
    let (base, json) = (text.get(..16)?, text.get(16..)?.strip_prefix(b" ")?);
    Some((std::str::from_utf8(base).ok()?, serde_json::from_slice(json).ok()?))
}
