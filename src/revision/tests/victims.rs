use super::super::Plan;
use super::*;

impl Room {
    /// The plan of a moment that is later than the one before.
    pub(super) async fn plan(&self, desired: u32, starting: u32) -> Plan {
        tokio::time::advance(Duration::from_millis(1)).await;
        let plan = self.revision.plan(desired, starting, self.now());
        self.holds();
        plan
    }

    /// Takes slots until replica 1 has `loads[0]`, replica 2 `loads[1]` and so on.
    pub(super) fn load(&self, loads: &[usize]) -> Vec<Permit> {
        let mut held = Vec::new();
        let mut surplus = Vec::new();
        while held.len() < loads.iter().sum() {
            let permit = self.granted();
            let replica = replica_of(&permit);
            let index = replica[1..].parse::<usize>().expect("r and a number") - 1;
            let has = held.iter().filter(|p| replica_of(p) == replica).count();
            if has < loads[index] { held.push(permit) } else { surplus.push(permit) }
        }
        held
    }
}

pub(super) fn names(spare: &[EndpointId]) -> Vec<String> {
    spare.iter().map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn the_least_loaded_go_and_only_when_they_are_empty() {
    let room = Room::new(5);
    room.report(&[1, 2, 3]);
    let mut held = room.load(&[2, 0, 1]);
    let plan = room.plan(1, 0).await;
    assert_eq!(room.shown(), ["r1 2 ready", "r2 0 victim", "r3 1 victim"]);
    assert_eq!((plan.replicas, plan.waits), (3, true), "both still count");
    let plan = room.plan(1, 0).await;
    assert_eq!(room.shown(), ["r1 2 ready", "r2 0 stopping", "r3 1 victim"]);
    assert_eq!((plan.replicas, plan.waits), (2, true));
    assert_eq!(names(&plan.spare), ["r1", "r3", "r2"], "who is to go is last");
    room.report(&[1, 3]);
    // The last request of the victim ends: nobody has to wait for the next tick.
    assert_eq!(room.replans.take(), []);
    held.retain(|permit| replica_of(permit) != "r3");
    assert_eq!(room.replans.take(), [room.revision.id().clone()]);
    assert!(room.revision.take_replan());
    let plan = room.plan(1, 0).await;
    assert_eq!((plan.replicas, plan.waits), (1, false));
    assert_eq!(names(&plan.spare), ["r1", "r3"]);
}

#[tokio::test(start_paused = true)]
async fn a_victim_gets_nothing_while_others_have_room() {
    let room = Room::new(2);
    room.report(&[1, 2]);
    let held = room.load(&[1, 0]);
    room.plan(1, 0).await;
    let other = room.granted();
    assert_eq!(replica_of(&other), "r1");
    assert_eq!(room.shown(), ["r1 2 ready", "r2 0 victim"]);
    drop((held, other));
}

#[tokio::test(start_paused = true)]
async fn new_load_takes_a_victim_back_the_busiest_first() {
    let room = Room::new(2);
    room.report(&[1, 2, 3]);
    let held = room.load(&[2, 1, 0]);
    room.plan(1, 0).await;
    room.pokes.take();
    room.revision.stats().take_poke();
    let other = room.granted();
    assert_eq!(replica_of(&other), "r2");
    assert_eq!(room.shown(), ["r1 2 ready", "r2 2 ready", "r3 0 victim"]);
    assert_eq!(room.pokes.take().len(), 1, "the autoscaler is to see this load");
    drop((held, other));
}

#[tokio::test(start_paused = true)]
async fn a_waiter_is_not_left_beside_a_victim() {
    let room = Room::new(1);
    room.report(&[1, 2]);
    let mut held = room.load(&[1, 1]);
    room.plan(1, 0).await;
    let mut waiter = room.waiting();
    // The older of two equals goes, and its slot is the one that becomes free.
    held.retain(|permit| replica_of(permit) != "r2");
    room.holds();
    assert_eq!(replica_of(&served(&mut waiter)), "r2");
}

#[tokio::test(start_paused = true)]
async fn what_is_condemned_gets_nothing_any_more() {
    let room = Room::new(1);
    room.report(&[1, 2]);
    let held = room.load(&[1, 0]);
    room.plan(1, 0).await;
    room.plan(1, 0).await;
    assert_eq!(room.shown(), ["r1 1 ready", "r2 0 stopping"]);
    let mut waiter = room.waiting();
    waits(&mut waiter);
    drop(held);
    assert_eq!(replica_of(&served(&mut waiter)), "r1");
}

#[tokio::test(start_paused = true)]
async fn a_higher_count_takes_victims_back() {
    let room = Room::new(1);
    room.report(&[1, 2, 3]);
    room.plan(1, 0).await;
    assert_eq!(room.shown().iter().filter(|s| s.ends_with("victim")).count(), 2);
    let plan = room.plan(3, 0).await;
    assert_eq!((plan.replicas, plan.waits), (3, false));
    assert_eq!(room.shown(), ["r1 0 ready", "r2 0 ready", "r3 0 ready"]);
}

#[tokio::test(start_paused = true)]
async fn a_victim_whose_time_is_over_is_stopped_with_its_requests() {
    let room = Room::new(1);
    room.report(&[1, 2]);
    let held = room.load(&[1, 1]);
    room.plan(1, 0).await;
    tokio::time::advance(TIMEOUT - Duration::from_millis(2)).await;
    let plan = room.plan(1, 0).await;
    assert_eq!((plan.replicas, plan.waits), (2, true));
    let plan = room.plan(1, 0).await;
    assert_eq!((plan.replicas, plan.waits), (1, false));
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn what_the_platform_keeps_after_all_is_used_again() {
    let room = Room::new(1);
    room.report(&[1, 2]);
    room.plan(1, 0).await;
    room.plan(1, 0).await;
    assert_eq!(room.shown().iter().filter(|s| s.ends_with("stopping")).count(), 1);
    // Before the platform acted, the count was raised: it never stops that replica.
    let plan = room.plan(2, 0).await;
    assert_eq!(plan.replicas, 2);
    tokio::time::advance(Duration::from_secs(5)).await;
    room.plan(2, 0).await;
    assert_eq!(room.shown(), ["r1 0 ready", "r2 0 ready"]);
}

#[tokio::test(start_paused = true)]
async fn starting_replicas_go_before_ready_ones() {
    let room = Room::new(1);
    room.report(&[1, 2]);
    let plan = room.plan(3, 4).await;
    assert_eq!((plan.replicas, plan.waits), (3, false));
    assert_eq!(room.shown(), ["r1 0 ready", "r2 0 ready"]);
    let plan = room.plan(1, 4).await;
    assert_eq!((plan.replicas, plan.waits), (2, true));
    assert_eq!(room.shown().iter().filter(|s| s.ends_with("victim")).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_oldest_victim_goes_first_among_equals() {
    let room = Room::new(1);
    room.report(&[1, 2]);
    room.plan(1, 0).await;
    let victim = |room: &Room| room.shown().iter().position(|s| s.ends_with("victim"));
    let first = victim(&room);
    assert!(first.is_some());
    room.report(&[1, 2, 3]);
    tokio::time::advance(Duration::from_millis(1)).await;
    let plan = room.plan(2, 0).await;
    assert!(!plan.waits, "the one chosen before is the one that goes: {:?}", room.shown());
    assert_eq!(room.shown().iter().position(|s| s.ends_with("stopping")), first);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_not_ready_for_a_moment_keeps_its_requests() {
    let room = Room::new(1);
    room.report(&[1, 2]);
    let held = room.load(&[1, 0]);
    room.report(&[2]);
    // The platform counts it among those that start; one more really does.
    let plan = room.plan(1, 2).await;
    assert_eq!((plan.replicas, plan.waits), (2, true));
    assert_eq!(names(&plan.spare), ["r2", "r1"], "what starts goes before it");
    drop(held);
    let plan = room.plan(1, 2).await;
    assert_eq!((plan.replicas, plan.waits), (1, false));
}

#[tokio::test(start_paused = true)]
async fn one_that_ends_with_its_requests_is_not_replaced() {
    let room = Room::new(1);
    room.report(&[1, 2]);
    let held = room.load(&[1, 0]);
    room.report(&[2]);
    let plan = room.plan(1, 0).await;
    assert_eq!((plan.replicas, plan.waits), (1, false));
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_removed_revision_that_comes_back_keeps_its_requests() {
    let room = Room::new(2);
    room.report(&[1, 2]);
    let held = room.load(&[1, 0]);
    room.revision.remove();
    assert_eq!(room.shown(), ["r1 1 victim", "r2 0 victim"]);
    room.revision.revive(room.revision.spec());
    assert!(!room.revision.is_removed());
    assert_eq!(room.shown(), ["r1 1 ready", "r2 0 ready"]);
    let plan = room.plan(1, 0).await;
    assert_eq!(room.shown(), ["r1 1 ready", "r2 0 victim"], "the idle one goes");
    assert_eq!(names(&plan.spare), ["r1", "r2"]);
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn what_other_proxies_have_on_an_endpoint_spares_it_until_it_ends() {
    let room = Room::new(5);
    room.report(&[1, 2, 3]);
    let _held = room.load(&[0, 1, 0]);
    let (other, third): (Arc<str>, Arc<str>) = ("other".into(), "third".into());
    room.revision.set_loads_elsewhere(&other, vec![(id(1), 1), (id(9), 4)]);
    room.revision.set_loads_elsewhere(&third, vec![(id(1), 1)]);
    room.plan(1, 0).await;
    assert_eq!(room.shown(), ["r1 0 ready", "r2 1 victim", "r3 0 victim"]);
    room.revision.set_loads_elsewhere(&other, Vec::new());
    room.revision.set_loads_elsewhere(&third, vec![(id(3), 1)]);
    let plan = room.plan(1, 0).await;
    assert_eq!(names(&plan.spare), ["r2", "r3", "r1"], "nobody has anything on the last");
    // One that comes back has what was told of it.
    room.report(&[2]);
    room.report(&[2, 3]);
    room.plan(0, 0).await;
    room.plan(0, 0).await;
    assert_eq!(room.shown(), ["r2 1 victim", "r3 0 victim"]);
    room.replans.take();
    assert!(room.revision.take_replan() || room.replans.take().is_empty());
    room.revision.set_loads_elsewhere(&third, Vec::new());
    assert_eq!(room.replans.take(), [room.revision.id().clone()], "its last request ended there");
    room.plan(0, 0).await;
    assert_eq!(room.shown(), ["r2 1 victim", "r3 0 stopping"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_left_on_endpoints_that_go_is_counted_with_that_of_other_proxies() {
    let room = Room::new(5);
    room.report(&[1, 2, 3]);
    let held = room.load(&[1, 2, 0]);
    let other: Arc<str> = "other".into();
    let say = |loads: &[(u16, u32)]| {
        let loads = loads.iter().map(|(number, load)| (id(*number), *load)).collect();
        room.revision.set_loads_elsewhere(&other, loads);
    };
    say(&[(1, 1), (3, 4)]);
    assert_eq!(room.revision.load_leaving(), 0, "all stay");
    room.report(&[1]);
    assert_eq!(room.revision.load_leaving(), 2 + 4, "two and three go");
    drop(held);
    assert_eq!(room.revision.load_leaving(), 4, "here nothing is known of three any more");
    say(&[(1, 1)]);
    assert_eq!(room.revision.load_leaving(), 0);
    room.report(&[]);
    assert_eq!(room.revision.load_leaving(), 1);
    say(&[]);
    assert_eq!(room.revision.load_leaving(), 0);
}
