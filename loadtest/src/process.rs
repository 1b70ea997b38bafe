//! Programs that a scenario starts. Each is a process group of its own, and is gone at the end,
//! however the end comes: stopped, dropped, or by a signal to this process, which drops it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};
use tokio::process::{ChildStdout, Command};

/// How long a program may take to end itself before it is killed.
const GRACE: Duration = Duration::from_secs(40);

/// Why a program does not run.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started.
    #[error("cannot start {0}: {1}")]
    Start(String, io::Error),
    /// It ended although it was to go on; with the last lines of its log.
    #[error("{0} ended by itself ({1}); its last lines:\n{2}")]
    Ended(String, ExitStatus, String),
    /// It did not say that it is ready; with the last lines of its log.
    #[error("{0} did not become ready; its last lines:\n{1}")]
    NotReady(String, String),
}

/// A program that runs.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: tokio::process::Child,
    pid: u32,
    log: PathBuf,
}

/// Processor time and memory of a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time since its start.
    pub processor: Duration,
    /// Resident memory in bytes.
    pub resident: u64,
}

impl Running {
    /// Starts a program; what it writes to standard error goes to the file `log`.
    ///
    /// # Errors
    /// When it cannot be started or the log not be written.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self, ProcessError> {
        let failed = |error| ProcessError::Start(name.to_owned(), error);
        let errors = File::options().create(true).append(true).open(log).map_err(failed)?;
        let child = command
            .stdin(Stdio::null())
            .stderr(errors)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let pid = child.id().unwrap_or_default();
        Ok(Self { name: name.to_owned(), child, pid, log: log.to_owned() })
    }

    /// Its process id.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Its standard output, once, if that was piped.
    pub const fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// What it used so far; none when it is gone or this is no Linux.
    pub fn usage(&self) -> Option<Usage> {
        usage_of(self.pid)
    }

    /// Asks it to end (SIGTERM).
    pub fn terminate(&self) {
        if let Some(pid) = process(self.pid) {
            // Gone already is what is wanted.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Waits until it ended; killed when that takes more than 40 s.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        if let Ok(status) = tokio::time::timeout(GRACE, self.child.wait()).await {
            return status;
        }
        self.kill_group();
        self.child.wait().await
    }

    /// Asks it to end and waits for that.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn stop(mut self) -> io::Result<ExitStatus> {
        self.terminate();
        self.ended().await
    }

    /// An error when it ended by itself.
    ///
    /// # Errors
    /// With its exit status and the last lines of its log.
    pub fn check(&mut self) -> Result<(), ProcessError> {
        match self.child.try_wait() {
            Ok(Some(status)) => {
                Err(ProcessError::Ended(self.name.clone(), status, last_lines(&self.log)))
            }
            _ => Ok(()),
        }
    }

    /// The error for a program that does not say that it is ready.
    pub fn not_ready(&mut self) -> ProcessError {
        match self.check() {
            Err(ended) => ended,
            Ok(()) => ProcessError::NotReady(self.name.clone(), last_lines(&self.log)),
        }
    }

    fn kill_group(&self) {
        if let Some(pid) = process(self.pid) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Not after it was waited for: its number may be somebody else's.
        if self.child.id().is_some() {
            self.kill_group();
            // A kill is an order: it is gone a little later, and who ends now ends after it. The
            // status is left to who reaps it.
            if let Some(pid) = process(self.pid) {
                let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
                let _ = waitid(WaitId::Pid(pid), options);
            }
        }
    }
}

fn process(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

/// What a process used so far; none when it is gone or there is no `/proc`.
pub fn usage_of(pid: u32) -> Option<Usage> {
    let resident = resident(pid)?;
    let processor = exact_time(pid).or_else(|| coarse_time(pid))?;
    Some(Usage { processor, resident })
}

fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// The sum over its threads, in nanoseconds; threads that ended are missing.
fn exact_time(pid: u32) -> Option<Duration> {
    let mut sum = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let stat = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        sum += stat.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(Duration::from_nanos(sum))
}

/// By the kernel's ticks.
fn coarse_time(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may have blanks; utime and stime are fields 14 and 15 of proc(5).
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// A folder of one's own that is removed with all that is in it.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one below the system's folder for temporary files.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidegate-loadtest-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A port of 127.0.0.1 that was free just now.
///
/// # Errors
/// When there is none.
pub fn free_port() -> io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Raises this process' limit of open files to what it may have; children inherit it.
pub fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // What cannot be raised shows where it is too little.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_ends_when_it_is_dropped() {
        let scratch = Scratch::new().unwrap();
        let log = scratch.path().join("log");
        let mut command = Command::new("sh");
        // A child of the shell's own, in its group.
        command.args(["-c", "sleep 1000 & echo ready; wait"]).stdout(Stdio::piped());
        let mut running = Running::start("sh", &mut command, &log).unwrap();
        let stdout = running.stdout().unwrap();
        let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(stdout));
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("ready"));
        assert!(running.check().is_ok());
        drop(running);
        // The pipe ends when everybody who holds it is gone, the shell's child too.
        assert_eq!(lines.next_line().await.unwrap(), None);
    }

    #[tokio::test]
    async fn an_early_end_shows_the_last_lines() {
        let scratch = Scratch::new().unwrap();
        let log = scratch.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such thing >&2; exit 3"]);
        let mut running = Running::start("sh", &mut command, &log).unwrap();
        assert_eq!(running.ended().await.unwrap().code(), Some(3));
        let error = running.check().unwrap_err().to_string();
        assert!(error.contains("no such thing"), "{error}");
        assert!(Running::start("x", &mut Command::new("/does/not/exist"), &log).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory_and_took_time() {
        let usage = usage_of(std::process::id()).unwrap();
        assert!(usage.resident > 100_000, "{usage:?}");
        assert!(usage_of(u32::MAX).is_none());
    }
}
