//! A replica's process group, and its end.

use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::output::Tail;
use super::wire::End;

/// How long the last lines are waited for after the end of a program.
const LAST_LINES: Duration = Duration::from_millis(250);
/// Pause between two looks whether a group is empty.
const GROUP_PAUSE: Duration = Duration::from_millis(5);
/// How long a killed group may take to vanish; beyond that the kernel holds it.
const KILL_BOUND: Duration = Duration::from_secs(2);

/// How a replica is told to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It is not.
    No,
    /// SIGTERM, SIGKILL after its grace.
    Gracefully,
    /// SIGKILL.
    Now,
}

/// A replica's process group.
#[derive(Debug)]
pub(super) struct Running {
    /// Its number: the first process' id.
    pub(super) group: Pid,
    /// When it was started.
    pub(super) since: Instant,
    ended: oneshot::Receiver<End>,
    /// How the first process ended, once it has.
    end: Option<Option<End>>,
    /// What it printed last.
    pub(super) tail: Tail,
}

impl Running {
    /// A group that was just started.
    pub(super) fn new(group: Pid, ended: oneshot::Receiver<End>) -> Self {
        Self { group, since: Instant::now(), ended, end: None, tail: Tail::default() }
    }

    /// Its number as the kernel writes it.
    pub(super) fn number(&self) -> i32 {
        self.group.as_raw_nonzero().get()
    }

    /// Resolves when the first process has ended; none: with the guard. Cancel safe.
    pub(super) async fn ended(&mut self) -> Option<End> {
        match self.end {
            Some(end) => end,
            None => {
                let end = (&mut self.ended).await.ok();
                self.end = Some(end);
                end
            }
        }
    }

    /// The first process ended by itself: kills the rest, which holds the pipes open, and returns
    /// the last lines.
    pub(super) async fn wreck(&mut self) -> Vec<String> {
        let _ = kill_process_group(self.group, Signal::KILL);
        self.tail.ended(LAST_LINES).await;
        self.tail.lines()
    }

    /// Ends whatever of the group still lives: SIGTERM and `grace` first, unless it is urgent or
    /// the first process has ended already. False: the kernel does not end it.
    pub(super) async fn clear_away(
        &mut self,
        grace: Duration,
        stop: &mut watch::Receiver<Stop>,
    ) -> bool {
        let urgent = *stop.borrow() == Stop::Now;
        // Without its first process a group that nobody told to go is a wreck.
        let wreck = self.end.is_some();
        if !urgent && !wreck && kill_process_group(self.group, Signal::TERM).is_ok() {
            let until = Instant::now() + grace;
            tokio::select! {
                _ = timeout_at(until, self.vanished()) => {}
                () = urged(stop) => {}
            }
        }
        let _ = kill_process_group(self.group, Signal::KILL);
        let gone = timeout(KILL_BOUND, self.vanished()).await.is_ok();
        self.tail.ended(LAST_LINES).await;
        gone
    }

    /// How the first process ended, once it has.
    pub(super) fn end(&self) -> Option<End> {
        self.end.flatten()
    }

    /// Resolves when the first process has ended and nothing is left of its group.
    async fn vanished(&mut self) {
        self.ended().await;
        while test_kill_process_group(self.group) != Err(Errno::SRCH) {
            sleep(GROUP_PAUSE).await;
        }
    }
}

/// Resolves when the replica is told to go.
pub(super) async fn told(stop: &mut watch::Receiver<Stop>) {
    // An error: the supervisor is gone, which is an order too.
    let _ = stop.wait_for(|stop| *stop != Stop::No).await;
}

/// Resolves when the replica is told to go at once.
async fn urged(stop: &mut watch::Receiver<Stop>) {
    let _ = stop.wait_for(|stop| *stop == Stop::Now).await;
}
