//! Simulation of the whole program on virtual time: the real control loop, autoscaler and workers,
//! real HTTP on both sides over pipes in memory, and a platform and clients that behave as badly as
//! a seed has it.
//!
//! ```text
//! cargo test --test sim                                   # the usual seeds
//! SEEDS=5000 cargo test --test sim                        # more of them
//! SEED=42 cargo test --test sim seeds -- --nocapture      # one, with everything that happened
//! tests/sim/planted.sh                                    # it must catch bugs planted on purpose
//! ```

mod body;
mod checker;
mod clients;
mod ledger;
#[cfg(planted)]
mod planted;
mod platform;
mod replica;
mod weather;
mod world;

use std::cell::Cell;
#[cfg(not(planted))]
use std::fmt::Write as _;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use world::{Outcome, run};

#[cfg(not(planted))]
/// Seeds of a usual run.
const SEEDS: u64 = 300;
#[cfg(not(planted))]
/// Lines shown of a seed that failed; all of them with `SEED`.
const LINES: usize = 40;

thread_local! {
    static PANICKED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a task of this thread's run panicked.
fn panicked() -> bool {
    PANICKED.get()
}

/// A new run begins. Panics in tasks are noticed from now on.
fn forget_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let former = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICKED.set(true);
            former(info);
        }));
    });
    PANICKED.set(false);
}

/// Runs seeds on all cores until one fails; gives that one, if any, and how many were run.
fn first_failure(seeds: std::ops::Range<u64>) -> (Option<(u64, Outcome)>, u64) {
    let next = AtomicU64::new(seeds.start);
    let failed: Mutex<Option<(u64, Outcome)>> = Mutex::new(None);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while failed.lock().is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = run(seed);
                    if outcome.violation.is_some() {
                        let mut failed = failed.lock();
                        if failed.as_ref().is_none_or(|(other, _)| seed < *other) {
                            *failed = Some((seed, outcome));
                        }
                    }
                }
            });
        }
    });
    let run = next.into_inner().min(seeds.end) - seeds.start;
    (failed.into_inner(), run)
}

#[cfg(not(planted))]
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

#[cfg(not(planted))]
#[test]
fn seeds() {
    if let Some(seed) = number("SEED") {
        let Outcome { text, violation, lasted, requests } = run(seed);
        println!("{text}\nseed {seed}: {requests} requests in {lasted:?} of virtual time");
        assert!(violation.is_none(), "seed {seed}: {violation:?}");
        return;
    }
    let (failed, _) = first_failure(0..number("SEEDS").unwrap_or(SEEDS));
    if let Some((seed, Outcome { text, violation, .. })) = failed {
        let mut message = String::new();
        writeln!(message, "{}\n\nseed {seed}: {violation:?}", tail(&text)).expect("a String");
        write!(message, "to see all: SEED={seed} cargo test --test sim seeds -- --nocapture")
            .expect("a String");
        panic!("{message}");
    }
}

/// The same seed gives the same run, to the last line.
#[cfg(not(planted))]
#[test]
fn a_seed_is_a_run() {
    for seed in 0..12 {
        let (one, other) = (run(seed), run(seed));
        let differs = one.text.lines().zip(other.text.lines()).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(one.text.len(), other.text.len(), "seed {seed}");
    }
}
