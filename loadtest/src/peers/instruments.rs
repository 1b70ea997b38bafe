//! What is read of a proxy from outside: processor time, memory, system calls, instructions.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::installed;
use crate::cli::Failure;
use crate::process::{Running, Scratch, usage_of};

/// How long a tracer may take to attach.
const ATTACH_LIMIT: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// `perf` does not tell when it has attached.
const PERF_ATTACHES: Duration = Duration::from_millis(300);

/// A process and all below it.
pub fn tree(pid: u32) -> Vec<u32> {
    let mut pids = vec![pid];
    let mut next = 0;
    while let Some(&pid) = pids.get(next) {
        next += 1;
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
        for task in tasks.into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(task.path().join("children"));
            pids.extend(
                children
                    .unwrap_or_default()
                    .split_whitespace()
                    .filter_map(|c| c.parse::<u32>().ok()),
            );
        }
    }
    pids
}

/// Processor time of all of them so far; those that are gone count nothing.
pub fn processor(pids: &[u32]) -> Duration {
    pids.iter().filter_map(|&pid| usage_of(pid)).map(|usage| usage.processor).sum()
}

/// Memory of all of them in bytes; a page that several have counts once.
pub fn memory(pids: &[u32]) -> u64 {
    pids.iter().filter_map(|&pid| proportional(pid).or_else(|| Some(usage_of(pid)?.resident))).sum()
}

/// `Pss` of proc_pid_smaps(5).
fn proportional(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Counts something in a proxy while it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// System calls, by `strace`.
    Calls,
    /// Instructions in user mode, by `perf`.
    Instructions,
}

impl Counter {
    const fn program(self) -> &'static str {
        match self {
            Self::Calls => "strace",
            Self::Instructions => "perf",
        }
    }

    /// Why it cannot count here, and what to do; none when it can.
    pub async fn obstacle(self) -> Option<String> {
        let Some(program) = installed(self.program()) else {
            return Some(match self {
                Self::Calls => {
                    "system calls: strace is not installed: apt-get install strace".into()
                }
                Self::Instructions => "instructions: perf is not installed: apt-get install \
                                       linux-perf (or this kernel's linux-tools)"
                    .into(),
            });
        };
        if self == Self::Calls {
            return None;
        }
        let tried = Command::new(program)
            .args(["stat", "-x,", "-e", "instructions:u", "true"])
            .stdin(Stdio::null())
            .output()
            .await;
        let counted = tried
            .is_ok_and(|output| instructions(&String::from_utf8_lossy(&output.stderr)).is_some());
        (!counted).then(|| {
            "instructions: perf counts none here: virtual machines often have no counters; else \
             sysctl kernel.perf_event_paranoid=1"
                .into()
        })
    }

    /// What `load`, which gives back the number of requests, costs a proxy of each; none when
    /// nothing was counted.
    ///
    /// # Errors
    /// When the counter cannot be started, or of the load.
    pub async fn per_request(
        self,
        pids: &[u32],
        load: impl Future<Output = Result<u64, Failure>>,
    ) -> Result<Option<f64>, Failure> {
        let folder = Scratch::new()?;
        let file = folder.path().join("counted");
        let Some(program) = installed(self.program()) else { return Ok(None) };
        let mut command = Command::new(program);
        let numbers: Vec<String> = pids.iter().map(u32::to_string).collect();
        match self {
            Self::Calls => {
                command.args(["-c", "-f", "-q", "-o"]).arg(&file);
                for number in &numbers {
                    command.args(["-p", number]);
                }
            }
            Self::Instructions => {
                command.args(["stat", "-x,", "-e", "instructions:u", "-o"]).arg(&file);
                command.args(["-p", &numbers.join(",")]);
            }
        }
        command.stdout(Stdio::null());
        let log = folder.path().join("log");
        let mut running = Running::start(self.program(), &mut command, &log)?;
        match self {
            Self::Calls => attached(&mut running, pids).await?,
            Self::Instructions => sleep(PERF_ATTACHES).await,
        }
        let requests = load.await?;
        running.check()?;
        // Both tell what they counted when they are interrupted.
        if let Some(pid) = i32::try_from(running.pid()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::INT);
        }
        running.ended().await?;
        let text = std::fs::read_to_string(&file)?;
        let counted = match self {
            Self::Calls => calls(&text),
            Self::Instructions => instructions(&text),
        };
        Ok(counted.filter(|_| requests > 0).map(|counted| counted / requests as f64))
    }
}

/// Waits until every thread is traced.
async fn attached(running: &mut Running, pids: &[u32]) -> Result<(), Failure> {
    let end = Instant::now() + ATTACH_LIMIT;
    while !pids.iter().all(|&pid| is_traced(pid)) {
        running.check()?;
        if Instant::now() >= end {
            return Err(running.not_ready().into());
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

fn is_traced(pid: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    tasks.into_iter().flatten().flatten().all(|task| status_is_traced(&task.path()))
}

fn status_is_traced(task: &Path) -> bool {
    let status = std::fs::read_to_string(task.join("status")).unwrap_or_default();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_none_or(|tracer| tracer.trim() != "0")
}

/// The sum of the column `calls` of `strace -c`.
fn calls(text: &str) -> Option<f64> {
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split_whitespace().collect();
        let is_row = cells.first()?.parse::<f64>().is_ok() && *cells.last()? != "total";
        is_row.then(|| cells.get(3)?.parse::<f64>().ok())?
    });
    let sum: f64 = rows.sum();
    (sum > 0.0).then_some(sum)
}

/// The first cell of the line of `perf stat -x,` that tells instructions.
fn instructions(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.contains("instructions"))?;
    line.split(',').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strace_counts_is_added() {
        let text = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.120000           2     20000       120 recvfrom
 40.00    0.080000           4     20000           sendto
------ ----------- ----------- --------- --------- ----------------
100.00    0.200000           3     40000       120 total
";
        assert_eq!(calls(text), Some(40_000.0));
        assert_eq!(calls("strace: Process 1 attached\n"), None);
    }

    #[test]
    fn what_perf_counts_is_read() {
        let text = "# started on …\n\n123456,,instructions:u,1000,100.00,,\n";
        assert_eq!(instructions(text), Some(123_456.0));
        assert_eq!(instructions("<not supported>,,instructions:u,0,100.00,,\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_tree_has_its_children() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pids = tree(std::process::id());
        assert!(pids.contains(&child.id()), "{pids:?}");
        assert!(memory(&pids) > 100_000);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
