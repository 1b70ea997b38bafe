//! One tidegate per state folder.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

const NAME: &str = "lock";

/// Held for as long as this lives; the kernel gives it back however the process ends.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "closing it gives the lock back")] File);

/// Why there is no lock.
#[derive(Debug)]
pub(super) enum LockError {
    /// Somebody has it: its process id, where that can be read.
    Held(Option<u32>),
    /// The file cannot be made, or not be locked.
    Io(io::Error),
}

impl Lock {
    /// Takes the lock, or says who has it.
    pub(super) fn take(folder: &Path) -> Result<Self, LockError> {
        // The file is never removed: whoever opened it before would lock a file without name.
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(folder.join(NAME))
            .map_err(LockError::Io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                // Only for the message of another one: that the disk is full is no reason to fail.
                let _ = write_pid(&mut file);
                Ok(Self(file))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let read = file.read_to_string(&mut text);
                Err(LockError::Held(read.ok().and_then(|_| text.trim().parse().ok())))
            }
            Err(error) => Err(LockError::Io(error.into())),
        }
    }
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::take(folder.path()).unwrap();
        let own = std::process::id();
        let second = Lock::take(folder.path());
        assert!(matches!(second, Err(LockError::Held(Some(pid))) if pid == own), "{second:?}");
        drop(first);
        Lock::take(folder.path()).unwrap();
        let missing = Lock::take(&folder.path().join("missing"));
        assert!(matches!(missing, Err(LockError::Io(_))), "{missing:?}");
    }
}
