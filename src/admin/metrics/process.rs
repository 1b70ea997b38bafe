//! `process_*`: the process itself, under the names every Prometheus client gives them.

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::family::{Family, Kind, Value};

/// The first scrape may be long after the start; [`started`] is called at the start.
static STARTED: LazyLock<SystemTime> = LazyLock::new(SystemTime::now);

/// Remembers that the process starts now. Later calls change nothing.
pub(crate) fn started() {
    LazyLock::force(&STARTED);
}

pub(super) fn families() -> Vec<Family> {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
    let started = STARTED.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let gauge = |name, help, value| Some(Family::new(name, Kind::Gauge, help).single(value));
    [
        Some(
            Family::new(
                "process_cpu_seconds",
                Kind::Counter,
                "Total user and system CPU time spent in seconds.",
            )
            .single(Value::Real(cpu)),
        ),
        gauge(
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            Value::Real(started),
        ),
        getrlimit(Resource::Nofile).current.and_then(|limit| {
            gauge(
                "process_max_fds",
                "Maximum number of open file descriptors.",
                Value::Whole(limit),
            )
        }),
        open_descriptors().and_then(|count| {
            gauge("process_open_fds", "Number of open file descriptors.", Value::Whole(count))
        }),
        status_bytes("VmRSS:").and_then(|bytes| {
            gauge(
                "process_resident_memory_bytes",
                "Resident memory size in bytes.",
                Value::Whole(bytes),
            )
        }),
        status_bytes("VmSize:").and_then(|bytes| {
            gauge(
                "process_virtual_memory_bytes",
                "Virtual memory size in bytes.",
                Value::Whole(bytes),
            )
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// None where there is no `/proc`.
fn open_descriptors() -> Option<u64> {
    // The listing itself holds one.
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count();
    Some((count as u64).saturating_sub(1))
}

/// A line of `/proc/self/status`, for example `VmRSS:   1234 kB`.
fn status_bytes(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
