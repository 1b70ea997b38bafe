//! Simulation of the whole program on virtual time: the real control loop, autoscaler and workers,
//! real HTTP on both sides over pipes in memory, and a platform and clients that behave as badly as
//! a seed has it.
//!
//! ```text
//! cargo test --test sim                                        # the usual seeds
//! SEEDS=10000 cargo test --test sim seeds                      # more of them, on all cores
//! FROM=10000 SEEDS=20000 KEEP_GOING=1 cargo test --test sim seeds -- --nocapture
//!                                                              # others, and all that fail
//! SEED=42 cargo test --test sim seeds -- --nocapture           # one, with everything that happened
//! tests/sim/planted.sh                                         # bugs planted on purpose
//! ```
//!
//! A run is storm, then calm, then nothing: phases of load under the faults of its weather
//! ([`weather`], most are off in most runs), then no more requests and no more faults, then no
//! configuration. What must hold is listed in [`ledger::Property`]; [`checker`] looks at it ten times
//! a second, [`judge`] at the end of every request, [`shadow`] at every decision of the autoscaler.

mod ask;
mod body;
mod canary;
mod checker;
mod clients;
mod faults;
mod files;
mod history;
mod judge;
mod ledger;
mod life;
mod lines;
mod needs;
mod nonsense;
#[cfg(planted)]
mod planted;
mod platform;
mod replica;
mod shadow;
#[cfg(not(planted))]
mod soak;
mod valve;
mod weather;
mod world;

use std::cell::Cell;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

#[cfg(not(planted))]
use ledger::Violation;
#[cfg(not(planted))]
use weather::Weather;
use world::Outcome;
#[cfg(not(planted))]
use world::{run, run_in};

#[cfg(not(planted))]
/// Seeds of a usual run.
const SEEDS: u64 = 200;
#[cfg(not(planted))]
/// Lines shown of a seed that failed; all of them with `SEED`.
const LINES: usize = 40;

/// What four cycles of the same load may leave: a table that grew because more happened at once.
#[cfg(not(planted))]
const KEPT_BYTES: i64 = 16 * 1024;

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

/// Runs seeds on all cores and gives each outcome to `done`, until that says false.
fn each(
    seeds: std::ops::Range<u64>,
    run: impl Fn(u64) -> Outcome + Sync,
    done: impl Fn(u64, Outcome) -> bool + Sync,
) -> u64 {
    let next = AtomicU64::new(seeds.start);
    let go_on = AtomicBool::new(true);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while go_on.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    if !done(seed, run(seed)) {
                        go_on.store(false, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    next.into_inner().min(seeds.end) - seeds.start
}

/// Runs seeds until one fails; gives that one, if any.
fn first_failure(
    seeds: std::ops::Range<u64>,
    run: impl Fn(u64) -> Outcome + Sync,
) -> Option<(u64, Outcome)> {
    let failed: Mutex<Option<(u64, Outcome)>> = Mutex::new(None);
    each(seeds, run, |seed, outcome| {
        let fails = outcome.violation.is_some();
        let mut failed = failed.lock();
        if fails && failed.as_ref().is_none_or(|(other, _)| seed < *other) {
            *failed = Some((seed, outcome));
        }
        !fails
    });
    failed.into_inner()
}

/// What happened last, what must not have happened, and how to see all of it.
#[cfg(not(planted))]
fn explained(seed: u64, text: &str, violation: &Violation) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(LINES)..].join("\n");
    let Violation { property, text } = violation;
    format!(
        "{tail}\n\nseed {seed}: {property:?}: {text}\n\
         to see all: SEED={seed} cargo test --locked --test sim seeds -- --nocapture"
    )
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

#[cfg(not(planted))]
#[test]
fn seeds() {
    if let Some(seed) = number("SEED") {
        let Outcome { text, violation, lasted, requests, .. } = run(seed);
        println!("{text}\nseed {seed}: {requests} requests in {lasted:?} of virtual time");
        if let Some(Violation { property, text }) = violation {
            panic!("seed {seed}: {property:?}: {text}");
        }
        return;
    }
    let seeds = number("FROM").unwrap_or(0)..number("SEEDS").unwrap_or(SEEDS);
    if number("KEEP_GOING").is_some() {
        return survey(seeds);
    }
    if let Some((seed, Outcome { text, violation: Some(violation), .. })) =
        first_failure(seeds, run)
    {
        panic!("{}", explained(seed, &text, &violation));
    }
}

/// Runs all seeds, however many fail, and says which.
#[cfg(not(planted))]
#[expect(clippy::print_stdout, reason = "asked for by hand")]
fn survey(seeds: std::ops::Range<u64>) {
    let failed = AtomicU64::new(0);
    let (requests, decisions, lasted) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let run = each(seeds, run, |seed, outcome| {
        requests.fetch_add(outcome.requests as u64, Ordering::Relaxed);
        decisions.fetch_add(outcome.decisions, Ordering::Relaxed);
        lasted.fetch_add(outcome.lasted.as_secs(), Ordering::Relaxed);
        if let Some(Violation { property, text }) = outcome.violation {
            failed.fetch_add(1, Ordering::Relaxed);
            println!("seed {seed}: {property:?}: {text}");
        }
        true
    });
    println!(
        "{run} seeds, {} requests, {} decisions compared, {} h of virtual time",
        requests.into_inner(),
        decisions.into_inner(),
        lasted.into_inner() / 3_600
    );
    assert_eq!(failed.into_inner(), 0, "seeds that failed");
}

/// A bad revision is taken back and a good one gets through, whatever clients do and however often
/// the program begins again.
#[cfg(not(planted))]
#[test]
fn canaries() {
    let seeds = number("FROM").unwrap_or(0)..number("SEEDS").unwrap_or(24);
    let seeds = number("SEED").map_or(seeds, |seed| seed..seed + 1);
    let failed = first_failure(seeds, |seed| run_in(seed, &Weather::of_canary(seed)));
    if let Some((seed, Outcome { text, violation: Some(violation), .. })) = failed {
        panic!("{}", explained(seed, &text, &violation).replace("seeds", "canaries"));
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

/// After the same load again and again no more memory is in use than after the first times, which
/// fill what is kept for the next.
#[cfg(not(planted))]
#[test]
fn memory_is_back_when_all_is_quiet() {
    let (grown, violation) = soak::soak(8);
    assert!(violation.is_none(), "{violation:?}");
    let later = &grown[4..];
    assert!(later.iter().sum::<i64>() < KEPT_BYTES, "bytes more after each cycle: {grown:?}");
}
