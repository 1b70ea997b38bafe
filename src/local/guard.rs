//! The guard: a small process that starts every replica and outlives tidegate just long enough
//! to end them all.
//!
//! Children are started from here because a fork of the large process is dear, because its
//! descriptor limit is raised, and because only a process that survives `kill -9` of tidegate can
//! clean up after it. It holds the other end of a socket; when that ends, every process group it
//! started gets SIGKILL. As a subreaper it also finds descendants that left their group.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, kill_process, kill_process_group,
    test_kill_process_group, wait,
};
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};

use super::limits::set_descriptor_limit;
use super::volumes;
use super::wire::{End, Frames, Order, Report, Start, send};

/// How long the guard tries to end what it started before it gives up.
const END_BOUND: Duration = Duration::from_secs(2);
/// Pause between two looks at what still lives.
const END_PAUSE: Duration = Duration::from_millis(2);
/// Exit status for a wrong call (`sysexits.h`, `EX_USAGE`).
const USAGE: u8 = 64;

/// The guard process: `tidegate __guard`, with a socket to tidegate as standard input. Returns
/// when that socket has ended and everything started is gone.
pub fn guard_main() -> ExitCode {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return ExitCode::FAILURE;
    };
    runtime.block_on(async {
        let Ok(stream) = inherited_socket() else { return ExitCode::from(USAGE) };
        let mut groups = Groups::default();
        // An error of the socket is an end of tidegate like any other.
        let served = serve(&stream, &mut groups).await;
        groups.end_all().await;
        if served.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    })
}

fn inherited_socket() -> io::Result<UnixStream> {
    let stream: std::os::unix::net::UnixStream = io::stdin().as_fd().try_clone_to_owned()?.into();
    stream.peer_addr()?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// Process groups started and not known to be empty.
#[derive(Default)]
struct Groups {
    /// Serial by process id of running first processes.
    running: HashMap<Pid, u64>,
    /// Groups whose first process has ended.
    leaderless: Vec<Pid>,
    /// Removed at the end.
    folder: Option<PathBuf>,
}

async fn serve(stream: &UnixStream, groups: &mut Groups) -> io::Result<()> {
    // Handlers, not "ignore": a handler ends with exec, so children are as if never touched.
    // With them the guard outlives Ctrl-C, a closed terminal and a service manager's SIGTERM to
    // all, and tidegate can drain.
    let mut deaf = Vec::new();
    for kind in
        [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()]
    {
        deaf.push(signal(kind)?);
    }
    let mut child_ended = signal(SignalKind::child())?;
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let mut frames = Frames::default();
    loop {
        tokio::select! {
            frame = frames.next(stream) => {
                let Some((content, descriptors)) = frame? else { return Ok(()) };
                match Order::decode(&content)? {
                    Order::Hello { descriptors, folder } => {
                        groups.folder = Some(folder);
                        if let Some(limit) = descriptors {
                            set_descriptor_limit(limit)?;
                        }
                    }
                    Order::Start(start) => {
                        let report = groups.start(&start, descriptors);
                        send(stream, &report.encode(), &[]).await?;
                    }
                }
            }
            _ = child_ended.recv() => {
                for report in groups.reap() {
                    send(stream, &report.encode(), &[]).await?;
                }
            }
        }
    }
}

impl Groups {
    fn start(&mut self, start: &Start, descriptors: Vec<OwnedFd>) -> Report {
        match spawn(start, descriptors) {
            Ok(pid) => {
                self.running.insert(pid, start.serial);
                Report::Started { serial: start.serial, pid: pid.as_raw_nonzero().get() }
            }
            Err(error) => Report::Refused {
                serial: start.serial,
                error: error.raw_os_error().unwrap_or(Errno::INVAL.raw_os_error()),
            },
        }
    }

    /// Takes every ended child; orphans of groups, inherited as subreaper, are among them.
    fn reap(&mut self) -> Vec<Report> {
        let mut reports = Vec::new();
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let Some(end) = end_of(status) else { continue };
            if let Some(serial) = self.running.remove(&pid) {
                self.leaderless.push(pid);
                reports.push(Report::Ended { serial, end });
            }
        }
        // A group's number is not given to another process while the group has members.
        self.leaderless.retain(|pid| test_kill_process_group(*pid) != Err(Errno::SRCH));
        reports
    }

    async fn end_all(mut self) {
        for pid in self.running.keys().chain(&self.leaderless) {
            let _ = kill_process_group(*pid, Signal::KILL);
        }
        let bound = tokio::time::Instant::now() + END_BOUND;
        while tokio::time::Instant::now() < bound {
            self.reap();
            // What left its group comes to the guard once its parent is dead.
            let strays = own_children();
            if strays.is_empty() && wait(WaitOptions::NOHANG).is_err() {
                // No child at all.
                break;
            }
            for pid in strays {
                let _ = kill_process(pid, Signal::KILL);
            }
            tokio::time::sleep(END_PAUSE).await;
        }
        if let Some(folder) = &self.folder {
            volumes::remove_all(folder);
        }
    }
}

fn end_of(status: WaitStatus) -> Option<End> {
    status.exit_status().map(End::Status).or_else(|| status.terminating_signal().map(End::Signal))
}

fn spawn(start: &Start, descriptors: Vec<OwnedFd>) -> io::Result<Pid> {
    let [out, err] = <[OwnedFd; 2]>::try_from(descriptors)
        .map_err(|_error: Vec<OwnedFd>| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut command = Command::new(&start.program);
    if let Some((name, arguments)) = start.argv.split_first() {
        command.arg0(name).args(arguments);
    }
    command
        .envs(start.env.iter().map(|(name, value)| (name, value)))
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err);
    if let Some(directory) = &start.directory {
        command.current_dir(directory);
    }
    let home = start.cgroup.as_deref().and_then(enter_cgroup);
    let child = command.spawn();
    if let Some(home) = home {
        // A failure leaves the guard within a replica's memory limit, which it hardly uses.
        let _ = fs::write(home.join("cgroup.procs"), "0");
    }
    i32::try_from(child?.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Moves the guard into a replica's cgroup, so that the replica is born in it and not a byte of
/// it is charged elsewhere. Returns where the guard came from.
fn enter_cgroup(cgroup: &Path) -> Option<PathBuf> {
    let home = super::cgroup::own_folder()?;
    fs::write(cgroup.join("cgroup.procs"), "0").ok()?;
    Some(home)
}

/// Direct children that still exist; empty where the kernel does not tell.
fn own_children() -> Vec<Pid> {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| {
            text.split_whitespace()
                .filter_map(|pid| pid.parse().ok().and_then(Pid::from_raw))
                .collect::<Vec<_>>()
        })
        .collect()
}
