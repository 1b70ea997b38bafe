//! The Kubernetes side as a whole against a fake API server that is slow, busy, contradicted, of an
//! older revision, deaf or dead, while people change their minds and load comes and goes; time is
//! the tests'.
//!
//! ```text
//! people ─▶ store ◀─ cluster (pods, slices, garbage)
//!             ▲
//!           server ◀── calls, watches ── replicas: controller, source, scaler, election
//! ```
//!
//! ```text
//! cargo test --lib kubernetes::simulation                      # the usual seeds
//! FROM=100 SEEDS=1000 cargo test --lib kubernetes::simulation  # others
//! SEED=7 cargo test --lib kubernetes::simulation -- --nocapture  # one, with all that happened
//! ```
//!
//! What must hold at every moment: who does not lead writes nothing but counts from zero, on the
//! condition that they still are zero; no count is written that was not stated; what people wrote
//! is theirs. In the end: everything is what the people's objects ask for ([`checks`]), nothing is
//! written any more, nothing is listed again, and a fresh replica finds nothing to write. Where all
//! goes well each object is written seldom ([`thrift`]).

mod asked;
mod checks;
mod clock;
mod cluster;
mod fields;
mod people;
mod replica;
mod run;
mod server;
mod store;
mod thrift;
mod watching;
mod weather;

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use run::{Outcome, run};

/// Seeds of a usual run.
const SEEDS: u64 = 6;
/// Lines shown of a seed that failed; all of them with `SEED`. `KEEP_GOING` runs them all.
const LINES: usize = 60;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

#[test]
fn seeds() {
    if let Some(seed) = number("SEED") {
        let Outcome { trace, violation, calls, lasted } = run(seed);
        println!("{}\nseed {seed}: {calls} calls in {lasted:?}", trace.join("\n"));
        assert_eq!(violation, None, "seed {seed}");
        return;
    }
    let from = number("FROM").unwrap_or(0);
    let failed = Mutex::new(Vec::new());
    let next = AtomicU64::new(from);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let until = from + number("SEEDS").unwrap_or(SEEDS);
    let goes_on = || failed.lock().is_empty() || number("KEEP_GOING").is_some();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while goes_on() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= until {
                        return;
                    }
                    let Outcome { trace, violation, .. } = run(seed);
                    if let Some(violation) = violation {
                        failed.lock().push((seed, violation, trace));
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner();
    failed.sort();
    for (seed, violation, _) in &failed {
        println!("seed {seed}: {violation}");
    }
    if let Some((seed, violation, trace)) = failed.first() {
        let shown = trace[trace.len().saturating_sub(LINES)..].join("\n");
        panic!(
            "{shown}\n\nseed {seed}: {violation}\nto see all: SEED={seed} cargo test --lib \
             kubernetes::simulation -- --nocapture"
        );
    }
}

/// The same seed gives the same run, to the last line.
#[test]
fn a_seed_is_a_run() {
    let (one, other) = (run(3).trace, run(3).trace);
    let differs = one.iter().zip(&other).find(|(a, b)| a != b);
    assert_eq!(differs, None);
    assert_eq!(one.len(), other.len());
}
