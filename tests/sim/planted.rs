//! Bugs planted on purpose. A simulation that does not catch them would not catch others.

use tidegate::revision::planted::{Bug, plant};

use crate::ledger::Property;
use crate::world::{Outcome, run};

/// Each bug, what may catch it, and within how many seeds.
const BUGS: [(Bug, &[Property], u64); 11] = [
    (Bug::LostWakeup, &[Property::Slots], 20),
    (Bug::KeptPlace, &[Property::Waiting, Property::Slots], 20),
    (Bug::KeptSlot, &[Property::LeftBehind, Property::InTime], 50),
    (Bug::OneTooMany, &[Property::Concurrency, Property::Slots], 20),
    (Bug::VictimForgotten, &[Property::Slots], 200),
    (Bug::FlapForgets, &[Property::Concurrency], 200),
    (Bug::LastFirst, &[Property::Order], 20),
    (Bug::BusyStopped, &[Property::StoppedIdle], 100),
    (Bug::ProcessLeak, &[Property::LeftBehind, Property::RightAnswer], 20),
    (Bug::NoPoke, &[Property::Woken, Property::InTime, Property::RightAnswer], 20),
    (Bug::AsideForEver, &[Property::LeftBehind], 200),
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
    for (bug, catchers, seeds) in BUGS {
        plant(Some(bug));
        let failed = crate::first_failure(0..seeds);
        plant(None);
        let Some((seed, outcome)) = failed else {
            println!("{bug:?}: NOT caught in {seeds} seeds");
            missed.push(bug);
            continue;
        };
        let violation = outcome.violation.expect("a failure has one");
        let right = catchers.contains(&violation.property);
        println!(
            "{bug:?}: caught at seed {seed} by {:?}{}: {}\n    to see all: \
             PLANTED={bug:?} SEED={seed} tests/sim/planted.sh",
            violation.property,
            if right { "" } else { ", which is NOT what should catch it" },
            violation.text,
        );
        if !right {
            missed.push(bug);
        }
    }
    assert!(missed.is_empty(), "not caught as they should be: {missed:?}");
}
