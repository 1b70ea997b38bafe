//! What children get of this process: its limit of open descriptors, raised for tidegate and
//! restored for them, and its program.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What macOS takes at most where the hard limit is infinite.
const MACOS_MOST: u64 = 10_240;

/// The soft limit tidegate was started with; `None` inside: unlimited.
static ORIGINAL: OnceLock<Option<u64>> = OnceLock::new();

/// Raises the soft limit of open descriptors to the hard one and returns it (`u64::MAX` =
/// unlimited). Programs that tidegate starts get the limit it had at the first call.
///
/// # Errors
///
/// The kernel refuses; the limit is then as before.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    ORIGINAL.get_or_init(|| limit.current);
    let wanted = match limit.maximum {
        None if cfg!(target_os = "macos") => Some(MACOS_MOST),
        maximum => maximum,
    };
    if wanted != limit.current {
        setrlimit(Resource::Nofile, Rlimit { current: wanted, maximum: limit.maximum })?;
    }
    Ok(wanted.unwrap_or(u64::MAX))
}

/// The soft limit before it was raised, where it was.
pub(super) fn original_descriptor_limit() -> Option<u64> {
    ORIGINAL.get().map(|limit| limit.unwrap_or(u64::MAX))
}

/// The running program at `path`; where that was replaced or removed meanwhile (an upgrade), the
/// kernel still has it.
pub(super) fn running_program(path: &Path) -> PathBuf {
    let kernels = Path::new("/proc/self/exe");
    if path.exists() || !kernels.exists() { path.to_owned() } else { kernels.to_owned() }
}

/// Sets the soft limit of this process, not above the hard one.
pub(super) fn set_descriptor_limit(soft: u64) -> io::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = if soft == u64::MAX { maximum } else { Some(soft.min(maximum.unwrap_or(soft))) };
    Ok(setrlimit(Resource::Nofile, Rlimit { current, maximum })?)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_removed_program_can_still_be_started() {
        let own = std::env::current_exe().unwrap();
        assert_eq!(running_program(&own), own);
        let removed = running_program(Path::new("/no/longer/there"));
        assert_eq!(removed, Path::new("/proc/self/exe"));
        let listed = std::process::Command::new(removed).arg("--list").output().unwrap();
        assert!(listed.status.success());
    }
}
