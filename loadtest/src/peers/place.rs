//! A quiet place to measure in: a network namespace of its own, and processors that are not shared.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Set for the program once it is inside.
const INSIDE: &str = "LOADTEST_NAMESPACE";

/// Brings up loopback; more ports, as each closed connection keeps one for a minute; and the
/// congestion control without a timer for each send, which some machines have as their default.
const SETUP: &str = "ip link set lo up && { \
     echo '1024 65000' > /proc/sys/net/ipv4/ip_local_port_range; \
     echo reno > /proc/sys/net/ipv4/tcp_congestion_control; } 2>/dev/null; ip link show lo up | grep -q UP";

/// Runs this program again within a network namespace of its own, if this user may have one;
/// returns when that is not so, or when it is inside already.
pub fn enter() {
    if std::env::var_os(INSIDE).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    // As root, or as a user who may be root within a namespace.
    for options in [&["--net"][..], &["--map-root-user", "--net"]] {
        let tried = Command::new("unshare")
            .args(options)
            .args(["--", "sh", "-c", SETUP])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !tried.is_ok_and(|status| status.success()) {
            continue;
        }
        // This process becomes it, so that signals and the exit code need no messenger. It returns
        // only if it fails; then the measurement goes on without.
        let _ = Command::new("unshare")
            .args(options)
            .args(["--", "sh", "-c", &format!("{SETUP}; exec \"$@\""), "loadtest"])
            .arg(&program)
            .args(std::env::args_os().skip(1))
            .env(INSIDE, "1")
            .exec();
    }
}

/// Whether this program has a network namespace of its own.
pub fn is_own_network() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Which processors the proxy has, and which everybody else.
#[derive(Clone, Copy, Debug)]
pub struct Cores {
    all: CpuSet,
    proxy: CpuSet,
    others: CpuSet,
    /// Processors that are not the proxy's.
    pub others_count: usize,
}

impl Cores {
    /// The first one for the proxy; none when there is only one.
    pub fn split() -> Option<Self> {
        let all = sched_getaffinity(None).ok()?;
        let mut numbers = (0..CpuSet::MAX_CPU).filter(|&number| all.is_set(number));
        let first = numbers.next()?;
        let (mut proxy, mut others) = (CpuSet::new(), all);
        proxy.set(first);
        others.unset(first);
        let others_count = numbers.count();
        (others_count > 0).then_some(Self { all, proxy, others, others_count })
    }

    /// What this thread starts from now on, programs and threads, has the proxy's processor.
    pub fn for_proxy(&self) {
        pin(&self.proxy);
    }

    /// The same with the others' processors; this thread as well.
    pub fn for_others(&self) {
        pin(&self.others);
    }

    /// Nothing is kept apart any more.
    pub fn give_back(&self) {
        pin(&self.all);
    }
}

/// What cannot be pinned runs anywhere.
fn pin(set: &CpuSet) {
    let _ = sched_setaffinity(None, set);
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_proxys_processor_is_nobody_elses() {
        // On a thread of its own, as its processors change.
        std::thread::spawn(|| {
            let Some(cores) = Cores::split() else { return };
            cores.for_proxy();
            let count = || sched_getaffinity(None).unwrap().count() as usize;
            assert_eq!(count(), 1);
            cores.for_others();
            assert_eq!(count(), cores.others_count);
            cores.give_back();
            assert_eq!(count(), cores.others_count + 1);
        })
        .join()
        .unwrap();
    }
}
