//! Bugs planted on purpose. A simulation that does not catch them would not catch others.

use tidegate::revision::planted::{Bug, plant};

use crate::ledger::Property;
use crate::world::run;

/// Each bug, what may catch it, and within how many seeds.
const BUGS: [(Bug, &[Property], u64); 12] = [
    (Bug::LostWakeup, &[Property::Slots], 20),
    (Bug::KeptPlace, &[Property::Waiting, Property::Slots, Property::LeftBehind], 50),
    (Bug::KeptSlot, &[Property::LeftBehind, Property::InTime], 300),
    (Bug::OneTooMany, &[Property::Concurrency, Property::Slots], 20),
    (Bug::VictimForgotten, &[Property::Slots], 50),
    (Bug::FlapForgets, &[Property::Concurrency], 100),
    (Bug::LastFirst, &[Property::Order], 50),
    (Bug::BusyStopped, &[Property::StoppedIdle], 50),
    (Bug::ProcessLeak, &[Property::LeftBehind, Property::RightAnswer], 50),
    (Bug::NoPoke, &[Property::Woken, Property::InTime, Property::RightAnswer], 20),
    (Bug::AsideForEver, &[Property::LeftBehind], 300),
    (Bug::NeverDrained, &[Property::LeftBehind], 100),
];

/// With `PLANTED` and `SEED` one run is shown, else each bug must be caught.
#[test]
fn each_is_caught() {
    if let Some(seed) = crate::number("SEED") {
        let name = std::env::var("PLANTED").unwrap_or_default();
        plant(BUGS.iter().map(|(bug, ..)| *bug).find(|bug| format!("{bug:?}") == name));
        let outcome = run(seed);
        println!("{}\nseed {seed} with {name}: {:?}", outcome.text, outcome.violation);
        return;
    }
    let mut missed = Vec::new();
    for (bug, catchers, seeds) in BUGS {
        plant(Some(bug));
        let (failed, _) = crate::first_failure(0..seeds);
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
