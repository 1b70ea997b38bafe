//! Bugs planted on purpose. A simulation that does not catch them would not catch others.

use tidegate::model::planted::{Bug, plant};

use crate::ledger::{Property, Violation};
use crate::world::{Outcome, run};

/// Each bug, what may catch it, and within how many seeds.
const BUGS: [(Bug, &[Property], u64); 20] = [
    (Bug::LostWakeup, &[Property::Slots], 20),
    (Bug::KeptPlace, &[Property::Waiting, Property::Slots], 40),
    (Bug::KeptSlot, &[Property::LeftBehind, Property::InTime], 100),
    (Bug::OneTooMany, &[Property::Concurrency, Property::Slots], 20),
    (Bug::VictimForgotten, &[Property::Slots], 200),
    (Bug::FlapForgets, &[Property::Concurrency], 300),
    (Bug::LastFirst, &[Property::Order], 40),
    (Bug::BusyStopped, &[Property::StoppedIdle], 200),
    (Bug::ProcessLeak, &[Property::LeftBehind, Property::RightAnswer], 40),
    (Bug::NoPoke, &[Property::Woken, Property::Starved, Property::InTime], 20),
    (Bug::AsideForEver, &[Property::LeftBehind], 400),
    (Bug::NoTurns, &[Property::Starved], 300),
    (Bug::LostSecond, &[Property::Decider], 40),
    (Bug::StaysInFlight, &[Property::Counted, Property::LeftBehind, Property::Zero], 100),
    (Bug::ListedForEver, &[Property::LeftBehind], 20),
    (Bug::StampsLost, &[Property::Restart], 300),
    (Bug::BrokenIsGone, &[Property::FormerSelf], 100),
    (Bug::ReloadDropsQueue, &[Property::RightAnswer], 100),
    (Bug::NeverCloses, &[Property::Drain], 200),
    (Bug::SentAgain, &[Property::OneEnd], 300),
];

/// With `PLANTED` and `SEED` one run is shown, else each bug must be caught.
#[test]
fn each_is_caught() {
    if let Some(seed) = crate::number("SEED") {
        let name = std::env::var("PLANTED").unwrap_or_default();
        plant(BUGS.iter().map(|(bug, ..)| *bug).find(|bug| format!("{bug:?}") == name));
        let Outcome { text, violation, lasted, requests, .. } = run(seed);
        println!("{text}\nseed {seed} with {name:?}: {requests} requests in {lasted:?}");
        println!("{violation:?}");
        return;
    }
    let mut missed = Vec::new();
    println!("{:<18}{:<14}{:>6}  of  what was seen", "bug", "caught by", "seeds");
    for (bug, catchers, seeds) in BUGS {
        plant(Some(bug));
        let failed = crate::first_failure(0..seeds, run);
        plant(None);
        let name = format!("{bug:?}");
        let Some((seed, outcome)) = failed else {
            println!("{name:<18}{:<14}{:>6} {seeds:>4}", "NOT CAUGHT", "");
            missed.push(bug);
            continue;
        };
        let Violation { property, text } = outcome.violation.expect("a failure has one");
        let by = format!("{property:?}");
        println!("{name:<18}{by:<14}{:>6} {seeds:>4}  {text}", seed + 1);
        if !catchers.contains(&property) {
            println!("    which is NOT what should catch it: {catchers:?}");
            missed.push(bug);
        }
    }
    println!("to see one run: PLANTED=(bug) SEED=(seeds - 1) tests/sim/planted.sh");
    assert!(missed.is_empty(), "not caught as they should be: {missed:?}");
}
