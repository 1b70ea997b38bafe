//! Seeds. `SLOT_SEEDS` says how many.

use std::collections::{BTreeMap, BTreeSet};

use super::{Millis, Step, World};
use crate::model::{EndpointId, RevisionId};

/// How long things go wrong.
const STORM: Millis = 60_000;
/// Whoever waits is served within that, once nothing is wrong: it is longer than any request.
const PATIENCE: Millis = 40_000;
/// By then one that needs all slots has them.
const GATHERED: Millis = 3_000;

impl World {
    fn run_until(&mut self, seed: u64, end: Millis) {
        while self.steps.first_key_value().is_some_and(|((at, _), _)| *at < end) {
            self.step();
            self.check(seed);
        }
        self.now = end;
    }

    fn waiting(&self) -> u32 {
        let alive = self.alive();
        let processes = alive.iter().filter_map(|at| self.processes[*at].as_ref());
        processes.flat_map(|p| p.revisions.0.values()).map(|here| here.waiting).sum()
    }

    /// Everybody that waits is served.
    fn drain(&mut self, seed: u64) {
        while self.waiting() > 0 {
            let served = self.served;
            let end = self.now + PATIENCE;
            self.run_until(seed, end);
            assert!(self.served > served, "seed {seed}, {} ms: nobody is served", self.now);
        }
    }

    /// One that needs all slots of these endpoints gets them.
    fn gather(&mut self, seed: u64, id: &RevisionId, of: &BTreeSet<EndpointId>) {
        let slots = |of: &BTreeSet<_>| self.limits[id] * u32::try_from(of.len()).unwrap_or(0);
        let (slots, all) = (slots(of), slots(&self.endpoints[id]));
        let at = self.alive()[0];
        for _ in 0..all * 100 {
            self.after(0, Step::Request { at, revision: id.clone() });
        }
        let end = self.now + GATHERED;
        self.run_until(seed, end);
        let process = self.processes[at].as_ref();
        let lines = process.iter().flat_map(|process| process.revisions.0[id].lines.values());
        let own: u32 = lines.filter(|l| of.contains(&l.endpoint)).map(|line| line.own).sum();
        assert_eq!(own, slots, "seed {seed}: slots of {of:?}");
    }

    /// Replicas of each revision that are to be used in full: where a node is lost, those that are
    /// made from now on, and all others else.
    fn sound(&mut self, ids: &[RevisionId]) -> BTreeMap<RevisionId, BTreeSet<EndpointId>> {
        let former = self.endpoints.clone();
        if self.lost.is_empty() {
            return former;
        }
        for id in ids {
            (0..self.rng.u32(1..=2)).for_each(|_| self.add_endpoint(id));
        }
        let younger = self.endpoints.iter().map(|(id, all)| (id.clone(), all - &former[id]));
        younger.collect()
    }
}

fn play(seed: u64) {
    let mut world = World::new(seed);
    world.after(3_000, Step::Fault);
    world.run_until(seed, STORM);
    world.calm();
    let end = world.now + PATIENCE;
    world.run_until(seed, end);
    let ids: Vec<_> = world.limits.keys().cloned().collect();
    let sound = world.sound(&ids);
    world.drain(seed);
    // The last requests end.
    let end = world.now + PATIENCE;
    world.run_until(seed, end);
    for (id, of) in &sound {
        world.gather(seed, id, of);
    }
    world.drain(seed);
    assert!(world.served > 100, "seed {seed}: only {} requests", world.served);
}

#[test]
fn no_replica_gets_more_than_its_limit_and_nobody_starves() {
    let seeds = std::env::var("SLOT_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    (0..seeds.unwrap_or(12)).for_each(play);
}
