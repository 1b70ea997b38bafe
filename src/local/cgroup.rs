//! Memory limits of replicas by cgroup v2, where tidegate may write to its own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where cgroup v2 is mounted, alone or beside v1.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// The leaf that tidegate and its guard move to: a cgroup with processes has no limited children.
const LEAF: &str = "tidegate";

/// The v2 cgroup that this process is in; none where there is no cgroup v2.
pub(super) fn own_folder() -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own_path(&text)?;
    MOUNTS.into_iter().map(|mount| Path::new(mount).join(path.trim_start_matches('/'))).find(
        |folder| folder.join("cgroup.procs").exists() && folder.join("cgroup.controllers").exists(),
    )
}

/// The v2 line of `/proc/self/cgroup`: `0::/path`.
fn own_path(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

/// A cgroup below which replicas get cgroups of their own.
#[derive(Debug)]
pub(super) struct Limits {
    parent: PathBuf,
}

impl Limits {
    /// Prepares tidegate's own cgroup; the process `guard` moves to the leaf with this one.
    ///
    /// # Errors
    ///
    /// There is no cgroup v2 with a memory controller, or it is not writable; the text says which.
    pub(super) fn prepare(guard: u32) -> Result<Self, String> {
        let parent = own_folder().ok_or("this system has no cgroup v2")?;
        let controllers = fs::read_to_string(parent.join("cgroup.controllers")).unwrap_or_default();
        if !controllers.split_whitespace().any(|controller| controller == "memory") {
            return Err(format!("{} has no memory controller", parent.display()));
        }
        let leaf = parent.join(LEAF);
        let move_to = |folder: &Path| -> io::Result<()> {
            fs::write(folder.join("cgroup.procs"), "0")?;
            fs::write(folder.join("cgroup.procs"), guard.to_string())
        };
        let prepared = make(&leaf)
            .and_then(|()| move_to(&leaf))
            .and_then(|()| fs::write(parent.join("cgroup.subtree_control"), "+memory"));
        if let Err(error) = prepared {
            let _ = move_to(&parent);
            let _ = fs::remove_dir(&leaf);
            return Err(format!("{} cannot be used: {error}", parent.display()));
        }
        Ok(Self { parent })
    }

    /// Makes a replica's cgroup with a memory limit.
    pub(super) fn make(&self, name: &str, limit_bytes: u64) -> io::Result<Limit> {
        let folder = self.parent.join(format!("tidegate-{name}"));
        make(&folder)?;
        let limit = Limit { folder };
        fs::write(limit.folder.join("memory.max"), limit_bytes.to_string())?;
        // Without this a program over its limit swaps instead; absent where swap is not counted.
        let _ = fs::write(limit.folder.join("memory.swap.max"), "0");
        Ok(limit)
    }
}

fn make(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// A replica's cgroup; removed when dropped, once it has no process.
#[derive(Debug)]
pub(super) struct Limit {
    folder: PathBuf,
}

impl Limit {
    /// Its folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether the kernel killed a process of it for its memory.
    pub(super) fn killed(&self) -> bool {
        let events = fs::read_to_string(self.folder.join("memory.events")).unwrap_or_default();
        oom_kills(&events) > 0
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

fn oom_kills(events: &str) -> u64 {
    events
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "))
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_v2_line_is_found_beside_v1() {
        let text = "12:memory:/user\n1:name=systemd:/x\n0::/user.slice/tidegate.service\n";
        assert_eq!(own_path(text), Some("/user.slice/tidegate.service"));
        assert_eq!(own_path("3:cpu:/\n"), None);
    }

    #[test]
    fn kills_for_memory_are_counted() {
        let events = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n";
        assert_eq!(oom_kills(events), 2);
        assert_eq!(oom_kills(""), 0);
    }
}
