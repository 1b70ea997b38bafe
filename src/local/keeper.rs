//! tidegate's end of the guard: keeps one alive and talks to it.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::limits::{original_descriptor_limit, running_program};
use super::wire::{End, Frames, Order, Report, Start, send};

/// Starts waiting to be sent to the guard; more make their tasks wait.
const START_BOUND: usize = 64;
/// A guard that lived shorter than this is not replaced at once.
const SHORT_LIFE: Duration = Duration::from_secs(1);
/// Longest time for a guard to end after its socket was closed.
const END_BOUND: Duration = Duration::from_secs(3);

/// The command that makes this program a guard.
const GUARD_COMMAND: &str = "__guard";
/// Variables by which a service manager speaks with tidegate: its sockets, readiness and watchdog
/// are not the replicas'.
const MANAGERS: [&str; 7] = [
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// A started program.
#[derive(Debug)]
pub(super) struct Child {
    /// Process id of its first process, and number of its group.
    pub(super) pid: Pid,
    /// Resolves when the first process ended; an error: the guard died and the group was killed.
    pub(super) ended: oneshot::Receiver<End>,
}

/// Why a program could not be started.
#[derive(Debug)]
pub(super) enum StartError {
    /// The kernel refused it.
    Refused(io::Error),
    /// The guard died meanwhile; a new one is being started.
    GuardLost,
}

#[derive(Debug)]
struct Request {
    start: Start,
    descriptors: Vec<OwnedFd>,
    reply: oneshot::Sender<Result<Child, StartError>>,
}

/// Starts programs by the guard. The guard ends when the last of these is dropped.
#[derive(Clone, Debug)]
pub(super) struct Keeper {
    requests: mpsc::Sender<Request>,
    guard: Arc<AtomicU32>,
}

/// What a guard is started with.
#[derive(Clone, Debug)]
pub(super) struct GuardSettings {
    /// The program that understands `__guard`.
    pub(super) program: PathBuf,
    /// Folder that the guard removes at the end.
    pub(super) folder: PathBuf,
}

impl Keeper {
    /// Starts a guard and the task that keeps one alive; the task ends, after the guard, when the
    /// last keeper is dropped. Must be called on a runtime.
    pub(super) fn start(
        settings: GuardSettings,
    ) -> io::Result<(Self, tokio::task::JoinHandle<()>)> {
        let first = Link::start(&settings)?;
        let guard = Arc::new(AtomicU32::new(first.pid()));
        let (requests, received) = mpsc::channel(START_BOUND);
        let task = tokio::spawn(keep(settings, first, received, Arc::clone(&guard)));
        Ok((Self { requests, guard }, task))
    }

    /// Process id of the present guard.
    pub(super) fn guard_pid(&self) -> u32 {
        self.guard.load(Ordering::Relaxed)
    }

    /// Starts a program; `descriptors` become its standard output and standard error.
    pub(super) async fn run(
        &self,
        start: Start,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Child, StartError> {
        let (reply, answer) = oneshot::channel();
        let request = Request { start, descriptors, reply };
        self.requests
            .send(request)
            .await
            .map_err(|_error: mpsc::error::SendError<Request>| StartError::GuardLost)?;
        answer.await.unwrap_or(Err(StartError::GuardLost))
    }
}

async fn keep(
    settings: GuardSettings,
    first: Link,
    mut requests: mpsc::Receiver<Request>,
    guard: Arc<AtomicU32>,
) {
    let mut link = first;
    loop {
        let since = Instant::now();
        let finished = link.serve(&mut requests).await;
        let lost = link.close(finished).await;
        if finished {
            return;
        }
        tracing::error!(
            replicas = lost,
            "the guard process ended; its replicas were killed and are started anew"
        );
        if since.elapsed() < SHORT_LIFE {
            sleep(SHORT_LIFE).await;
        }
        link = loop {
            match Link::start(&settings) {
                Ok(link) => break link,
                Err(error) => {
                    tracing::error!(%error, "cannot start the guard process; trying again");
                    sleep(SHORT_LIFE).await;
                }
            }
            if requests.is_closed() && requests.is_empty() {
                return;
            }
        };
        guard.store(link.pid(), Ordering::Relaxed);
    }
}

/// One guard process.
struct Link {
    process: tokio::process::Child,
    stream: UnixStream,
    frames: Frames,
    hello: Option<Vec<u8>>,
    starting: HashMap<u64, oneshot::Sender<Result<Child, StartError>>>,
    running: HashMap<u64, (Pid, oneshot::Sender<End>)>,
}

impl Link {
    fn start(settings: &GuardSettings) -> io::Result<Self> {
        let (near, far) = std::os::unix::net::UnixStream::pair()?;
        near.set_nonblocking(true)?;
        let mut command = Command::new(running_program(&settings.program));
        command
            .arg(GUARD_COMMAND)
            .stdin(Stdio::from(OwnedFd::from(far)))
            .stdout(Stdio::null())
            // Its own group: a terminal's Ctrl-C is for tidegate, which drains.
            .process_group(0);
        // Replicas inherit the guard's environment.
        for (name, _) in std::env::vars_os() {
            let is_managers = MANAGERS.iter().any(|managers| name == *managers);
            if is_managers || name.as_encoded_bytes().starts_with(b"TIDEGATE_") {
                command.env_remove(name);
            }
        }
        let process = command.spawn()?;
        let hello = Order::Hello {
            descriptors: original_descriptor_limit(),
            folder: settings.folder.clone(),
        };
        Ok(Self {
            process,
            stream: UnixStream::from_std(near)?,
            frames: Frames::default(),
            hello: Some(hello.encode()),
            starting: HashMap::new(),
            running: HashMap::new(),
        })
    }

    fn pid(&self) -> u32 {
        self.process.id().unwrap_or_default()
    }

    /// Serves until the guard is gone (false) or nobody can ask any more (true).
    async fn serve(&mut self, requests: &mut mpsc::Receiver<Request>) -> bool {
        if let Some(hello) = self.hello.take()
            && send(&self.stream, &hello, &[]).await.is_err()
        {
            return false;
        }
        loop {
            tokio::select! {
                biased;
                frame = self.frames.next(&self.stream) => {
                    let Ok(Some((content, _))) = frame else { return false };
                    let Ok(report) = Report::decode(&content) else { return false };
                    self.take(report);
                }
                request = requests.recv() => {
                    let Some(request) = request else { return true };
                    if !self.ask(request).await {
                        return false;
                    }
                }
            }
        }
    }

    async fn ask(&mut self, request: Request) -> bool {
        let Request { start, descriptors, reply } = request;
        self.starting.insert(start.serial, reply);
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        // The guard writes a few bytes a report, so its socket never fills while this waits.
        send(&self.stream, &Order::Start(start).encode(), &borrowed).await.is_ok()
    }

    fn take(&mut self, report: Report) {
        match report {
            Report::Started { serial, pid } => {
                let (Some(pid), Some(reply)) = (Pid::from_raw(pid), self.starting.remove(&serial))
                else {
                    return;
                };
                let (end, ended) = oneshot::channel();
                self.running.insert(serial, (pid, end));
                if reply.send(Ok(Child { pid, ended })).is_err() {
                    let _ = kill_process_group(pid, Signal::KILL);
                }
            }
            Report::Refused { serial, error } => {
                if let Some(reply) = self.starting.remove(&serial) {
                    let error = io::Error::from_raw_os_error(error);
                    let _ = reply.send(Err(StartError::Refused(error)));
                }
            }
            Report::Ended { serial, end } => {
                if let Some((_, ended)) = self.running.remove(&serial) {
                    let _ = ended.send(end);
                }
            }
        }
    }

    /// Ends the link; after a guard's death also everything it had started. Returns how many
    /// programs that were.
    async fn close(mut self, finished: bool) -> usize {
        let lost = self.running.len();
        if !finished {
            for (pid, _) in self.running.values() {
                let _ = kill_process_group(*pid, Signal::KILL);
            }
            // It may live with a broken socket.
            let _ = self.process.start_kill();
        }
        drop(self.stream);
        if timeout(END_BOUND, self.process.wait()).await.is_err() {
            let _ = self.process.start_kill();
        }
        lost
    }
}
