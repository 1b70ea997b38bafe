//! Short, exact pauses. Tokio's timer has a wheel of one millisecond, so its `sleep(1 ms)` takes
//! two; a timer descriptor wakes within tens of microseconds.

use std::time::Duration;

/// Pauses of one task.
#[derive(Debug)]
pub struct Ticker {
    #[cfg(target_os = "linux")]
    timer: Option<tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>>,
}

impl Default for Ticker {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(target_os = "linux")]
impl Ticker {
    /// A ticker; without a descriptor left it falls back to tokio's timer.
    pub fn new() -> Self {
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        #[expect(
            deprecated,
            reason = "unsound only for types whose descriptor is not their own; an OwnedFd's is"
        )]
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)
            .ok()
            .and_then(|timer| tokio::io::unix::AsyncFd::new(timer).ok());
        Self { timer }
    }

    /// Waits for `pause`, which must not be zero.
    pub async fn pause(&self, pause: Duration) {
        match &self.timer {
            Some(timer) if exact(timer, pause).await.is_ok() => {}
            _ => tokio::time::sleep(pause).await,
        }
    }
}

#[cfg(target_os = "linux")]
async fn exact(
    timer: &tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>,
    pause: Duration,
) -> std::io::Result<()> {
    use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
    let value = Itimerspec {
        it_interval: Timespec::default(),
        it_value: Timespec::try_from(pause)
            .map_err(|_error: std::num::TryFromIntError| std::io::ErrorKind::InvalidInput)?,
    };
    timerfd_settime(timer.get_ref(), TimerfdTimerFlags::empty(), &value)?;
    loop {
        let mut ready = timer.readable().await?;
        let read = ready.try_io(|timer| {
            let mut expirations = [0_u8; 8];
            Ok(rustix::io::read(timer.get_ref(), &mut expirations)?)
        });
        if let Ok(read) = read {
            return read.map(drop);
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Ticker {
    /// A ticker over tokio's timer.
    pub fn new() -> Self {
        Self {}
    }

    /// Waits for `pause`.
    pub async fn pause(&self, pause: Duration) {
        tokio::time::sleep(pause).await;
    }
}
