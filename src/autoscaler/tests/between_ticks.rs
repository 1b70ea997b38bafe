//! Pokes and extra decisions.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_first_request_decides_at_once_and_ticks_follow() {
    let home = Home::new(None);
    let spec = plain("a");
    let stats = home.add(&spec);
    home.until(370).await;
    assert_eq!(home.counts(), [], "nothing to state at rest");
    wait(&stats, home.now());
    settle().await;
    assert_eq!(home.counts(), [(370, 1)]);
    let decision = home.autoscaler.recent(&spec.id)[0];
    assert_eq!(decision.cause, Cause::Poke);
    assert_eq!((decision.stable, decision.raw, decision.desired), (1.0, 1, 1));
    home.until(7_500).await;
    assert_eq!(home.counts(), [(2_000, 1), (4_000, 1), (6_000, 1)]);
}

/// The loop of the platform is slow: nothing becomes ready. Waiting requests raise the count
/// every 100 ms at most, only while they exceed the slots, and never lower it.
#[tokio::test(start_paused = true)]
async fn eager_decisions_are_bounded_in_time_and_never_lower() {
    let home = Home::new(None);
    let spec = limited("a", 10);
    let stats = home.add(&spec);
    home.until(310).await;
    for _ in 0..400 {
        wait(&stats, home.now());
        sleep(Duration::from_millis(1)).await;
    }
    home.until(725).await;
    let counts = home.counts();
    assert_eq!(counts[0], (310, 1));
    // The first 10 ms are those of a burst.
    assert_eq!(counts.iter().map(|c| c.0).collect::<Vec<_>>(), [310, 320, 420, 520, 620, 720]);
    assert!(counts.is_sorted_by_key(|c| c.1), "{counts:?}");
    assert_eq!(counts[5].1, 58, "400 in flight / 7, in panic");
    let eager = home.autoscaler.recent(&spec.id);
    assert_eq!(eager.iter().filter(|d| d.cause == Cause::Eager).count(), 5);
    // Half of them go: the running second would ask for less, but it never lowers.
    stats.set_waiting(200);
    for _ in 0..200 {
        stats.leave(0, Nanos(310_000_000), home.now(), Some(200));
    }
    home.until(995).await;
    assert_eq!(home.counts(), []);
    let view = home.autoscaler.view(&spec.id).expect("it is known");
    assert_eq!((view.desired, view.panicking), (58, true));
}

#[tokio::test(start_paused = true)]
async fn eager_can_be_off_and_ends_with_the_shortage() {
    let home = Home::new(None);
    let mut spec = RevisionSpec::clone(&limited("a", 10));
    spec.queue.eager = false;
    let stats = home.add(&Arc::new(spec));
    home.until(50).await;
    for _ in 0..100 {
        wait(&stats, home.now());
    }
    home.until(1_900).await;
    assert_eq!(home.counts(), [(50, 1)]);

    let home = Home::new(None);
    let spec = limited("b", 10);
    let stats = home.add(&spec);
    home.until(50).await;
    for _ in 0..100 {
        wait(&stats, home.now());
    }
    settle().await;
    assert_eq!(home.counts(), [(50, 15)], "a burst is seen as a whole");
    stats.set_replicas(0, 10);
    home.until(1_900).await;
    assert_eq!(home.counts(), [], "ten starting replicas have a slot for each");
}

/// The first request of a burst is decided on alone; the rest must not wait an interval for it.
#[tokio::test(start_paused = true)]
async fn what_comes_with_the_first_request_is_decided_on_soon() {
    let home = Home::new(None);
    let stats = home.add(&limited("a", 10));
    home.until(310).await;
    wait(&stats, home.now());
    settle().await;
    home.until(313).await;
    for _ in 0..99 {
        wait(&stats, home.now());
    }
    home.until(400).await;
    assert_eq!(home.counts(), [(310, 1), (320, 15)], "100 in flight / 7, in panic");
    // The next ones are counted an interval after that.
    for _ in 0..100 {
        wait(&stats, home.now());
    }
    home.until(500).await;
    assert_eq!(home.counts(), [(420, 29)]);
}

/// A request before the revision is known, and one while everything stood still for an hour.
#[tokio::test(start_paused = true)]
async fn nothing_is_lost_by_pauses() {
    let home = Home::new(None);
    let spec = plain("a");
    let stats = RevisionStats::new(spec.id.clone(), home.clock, 1, Arc::clone(&home.pokes));
    for _ in 0..100 {
        wait(&stats, home.now());
    }
    settle().await;
    home.autoscaler.upsert(Arc::clone(&spec), Arc::clone(&stats));
    settle().await;
    assert_eq!(home.counts().last().expect("it was stated").1, 2);
    stats.set_replicas(2, 0);
    stats.set_waiting(0);
    home.until(10_000).await;
    home.counts();
    advance(Duration::from_secs(3_600)).await;
    settle().await;
    let counts = home.counts();
    assert_eq!(counts.iter().map(|c| c.1).collect::<Vec<_>>(), [2], "one tick, same count");
    let view = home.autoscaler.view(&spec.id).expect("it is known");
    assert!((view.stable - 100.0).abs() < 1e-3, "{view:?}");
}

#[tokio::test(start_paused = true)]
async fn without_panic_eager_decisions_never_lower_either() {
    let home = Home::new(None);
    let mut spec = RevisionSpec::clone(&limited("a", 10));
    spec.scaling.panic_threshold = 1e9;
    let spec = Arc::new(spec);
    let stats = home.add(&spec);
    home.until(100).await;
    for _ in 0..100 {
        wait(&stats, home.now());
    }
    settle().await;
    assert_eq!(home.counts(), [(100, 15)]);
    for _ in 0..50 {
        stats.leave(0, Nanos(100_000_000), home.now(), Some(200));
    }
    stats.set_waiting(50);
    home.until(450).await;
    assert_eq!(home.counts(), [], "50 in flight would be 8");
    // New settings between two extra decisions do not bring the next one forward.
    for _ in 0..100 {
        wait(&stats, home.now());
    }
    home.autoscaler.upsert(Arc::clone(&spec), Arc::clone(&stats));
    settle().await;
    assert_eq!(home.counts(), [(450, 15)]);
    home.until(505).await;
    assert_eq!(home.counts(), [(500, 22)], "150 in flight");
}

#[tokio::test(start_paused = true)]
async fn crowded_queues_do_not_wake_the_task_again_and_again() {
    let home = Home::new(None);
    let stats = home.add(&limited("a", 10));
    home.until(50).await;
    wait(&stats, home.now());
    settle().await;
    for _ in 0..1_000 {
        stats.poke();
    }
    assert_eq!(home.pokes.take().len(), 0, "held back until the next look");
    home.until(151).await;
    stats.set_waiting(0);
    home.until(260).await;
    stats.poke();
    assert_eq!(home.pokes.take().len(), 1, "nobody waits: the next poke counts");
}

/// A poke that changed nothing, just before the tick at which an activation is given up, does not
/// delay the one of a request just after it.
#[tokio::test(start_paused = true)]
async fn at_zero_no_poke_is_held_back() {
    // With a replica that never becomes ready it stays active, without one it goes to rest.
    for starting in [0, 1] {
        let home = Home::new(None);
        let stats = home.add(&plain("a"));
        home.until(1_960).await;
        let arrived = home.now();
        wait(&stats, arrived);
        home.until(1_990).await;
        stats.set_replicas(0, starting);
        stats.leave(0, arrived, home.now(), None);
        stats.set_waiting(0);
        home.until(91_950).await;
        stats.poke();
        settle().await;
        assert_eq!(home.counts().last(), Some(&(90_000, 1)), "60 s and 30 s have not passed");
        home.until(92_005).await;
        assert_eq!(home.counts(), [(92_000, 0)]);
        wait(&stats, home.now());
        settle().await;
        assert_eq!(home.counts(), [(92_005, 1)]);
    }
}

#[tokio::test(start_paused = true)]
async fn waking_from_rest_is_no_tick() {
    let home = Home::new(None);
    home.until(101_300).await;
    let spec = plain("a");
    let stats = RevisionStats::new(spec.id.clone(), home.clock, 1, Arc::clone(&home.pokes));
    wait(&stats, home.now());
    home.autoscaler.upsert(Arc::clone(&spec), stats);
    home.until(104_500).await;
    let decisions = home.autoscaler.recent(&spec.id);
    let when: Vec<_> = decisions.iter().map(|d| (d.cause, d.at.as_millis())).collect();
    let ticks = [(Cause::Tick, 102_000), (Cause::Tick, 104_000)];
    assert_eq!(when, [&[(Cause::Poke, 101_300)], &ticks[..]].concat());
    let wall = decisions[1].unix_ms - decisions[0].unix_ms;
    assert_eq!(wall, 700);
}
