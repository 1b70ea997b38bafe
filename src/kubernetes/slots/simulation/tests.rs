//! What must hold.

use super::*;

/// A few seconds. With more, from 288 on, some still fail: see the module.
const SEEDS: u64 = 40;

#[test]
fn never_more_than_the_limit_and_soon_everybody_is_served() {
    let mut served = 0;
    for seed in 0..SEEDS {
        let mut world = World::new(seed, 2 + (seed % 4) as usize);
        world.elect();
        world.run(3 * SECOND);
        for _ in 0..4 {
            for _ in 0..world.rng.u32(1..6) {
                let mode = world.rng.u32(..11);
                world.fault(mode);
                // At times longer than a lease and a request.
                let longest = if world.rng.u32(..6) == 0 { 35 } else { 3 };
                let until = world.now + world.rng.u64(..longest * SECOND);
                world.run(until);
            }
            world.settle();
        }
        served += world.served;
    }
    assert!(served > 500 * SEEDS, "only {served} requests: too little happened");
}

#[test]
fn a_quiet_cluster_costs_a_renewal_and_its_answer_for_each_member() {
    let mut world = World::new(7, 4);
    world.elect();
    world.run(10 * SECOND);
    world.is_quiet = true;
    world.run(15 * SECOND);
    world.messages = 0;
    world.run(85 * SECOND);
    // A hundred renewals of three members.
    assert!((560..=620).contains(&world.messages), "{} messages", world.messages);
}

#[test]
fn one_that_is_alone_has_everything_without_a_word() {
    let mut world = World::new(7, 1);
    world.load = 1_000;
    world.begun_after = SECOND;
    world.run(5 * SECOND);
    assert_eq!(world.messages, 0);
    assert_eq!(world.processes[0].seat.until(), None);
    assert!(world.served > 1_000, "{} served", world.served);
}
