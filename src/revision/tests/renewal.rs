//! Replicas that are replaced while requests come and go.

use super::victims::names;
use super::*;

/// What is stated: count, and who goes.
fn stated(plan: &crate::revision::Plan) -> String {
    format!("{} -{}", plan.replicas, names(&plan.replaced).join(" -"))
}

#[tokio::test(start_paused = true)]
async fn none_goes_before_another_is_ready_nor_with_a_request() {
    let room = Room::new(5);
    room.report(&[1, 2]);
    let held = room.load(&[0, 1]);
    room.revision.renew(false);
    assert_eq!(room.replans.take(), [room.revision.id().clone()]);
    assert_eq!(stated(&room.plan(2, 0).await), "3 -", "one more, to begin with");
    assert_eq!(stated(&room.plan(2, 1).await), "3 -");
    assert_eq!(room.shown(), ["r1 0 ready", "r2 1 ready"]);
    room.report(&[1, 2, 3]);
    assert_eq!(stated(&room.plan(2, 0).await), "3 -");
    assert_eq!(room.shown(), ["r1 0 victim", "r2 1 ready", "r3 0 ready"]);
    assert_eq!(stated(&room.plan(2, 0).await), "3 -r1", "and another one is started");
    assert_eq!(room.revision.to_renew(), 2);
    room.report(&[2, 3, 4]);
    room.plan(2, 0).await;
    assert_eq!(room.shown(), ["r2 1 victim", "r3 0 ready", "r4 0 ready"]);
    assert_eq!(stated(&room.plan(2, 0).await), "3 -", "it has a request");
    drop(held);
    assert_eq!(stated(&room.plan(2, 0).await), "2 -r2");
    room.report(&[3, 4]);
    assert_eq!(stated(&room.plan(2, 0).await), "2 -");
    assert_eq!(room.revision.to_renew(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_that_can_run_only_once_goes_first() {
    let room = Room::new(2);
    room.report(&[1]);
    let held = room.granted();
    room.revision.renew(true);
    room.plan(1, 0).await;
    assert_eq!(room.shown(), ["r1 1 victim"]);
    let mut waiter = room.waiting();
    assert_eq!(stated(&room.plan(1, 0).await), "1 -", "it has a request");
    drop(held);
    assert_eq!(stated(&room.plan(1, 0).await), "1 -r1");
    waits(&mut waiter);
    room.report(&[]);
    room.report(&[2]);
    drop(served(&mut waiter));
    assert_eq!(stated(&room.plan(1, 0).await), "1 -");
}

#[tokio::test(start_paused = true)]
async fn it_goes_when_its_time_is_over_and_load_may_end_meanwhile() {
    let room = Room::new(2);
    room.report(&[1, 2]);
    let held = room.load(&[1, 0]);
    room.revision.renew(false);
    room.report(&[1, 2, 3]);
    room.plan(1, 0).await;
    assert_eq!(room.shown(), ["r1 1 victim", "r2 0 victim", "r3 0 ready"]);
    assert_eq!(stated(&room.plan(1, 0).await), "2 -r2");
    tokio::time::advance(TIMEOUT).await;
    assert_eq!(stated(&room.plan(1, 0).await), "1 -r1 -r2");
    drop(held);
    // To zero in the middle of it.
    room.revision.renew(false);
    room.report(&[3]);
    room.plan(0, 0).await;
    assert_eq!(stated(&room.plan(0, 0).await), "0 -r3");
}
