//! Counts without load, and the way there.

use super::*;

/// The time from the end of the last request to the count 0, for every phase of the tick.
#[tokio::test(start_paused = true)]
async fn zero_about_sixty_seconds_after_the_last_request() {
    let (mut least, mut most) = (u128::MAX, 0);
    for (phase, took) in (0..2_000).step_by(125).flat_map(|p| [(p, 1), (p, 40), (p, 3_210)]) {
        let home = Home::new(None);
        let spec = plain("a");
        let stats = home.add_instant(&spec);
        home.until(2_000 + phase).await;
        let arrived = home.now();
        wait(&stats, arrived);
        home.until(2_000 + phase + took).await;
        stats.leave(0, arrived, home.now(), Some(200));
        home.until(80_000).await;
        let stated = home.counts();
        assert_eq!(stated[0].1, 1);
        let zero = stated.iter().find(|(_, desired)| *desired == 0).expect("it goes to zero").0;
        let after = zero - u128::from(2_000 + phase + took);
        (least, most) = (least.min(after), most.max(after));
        let view = home.autoscaler.view(&spec.id).expect("it is known");
        assert!(!view.active, "windows are dropped");
        assert_eq!(view.desired, 0);
        assert_eq!(home.autoscaler.recent(&spec.id).len(), 20, "and old decisions");
    }
    println!("zero is stated {least}–{most} ms after the last request");
    assert!(least >= 60_000 && most <= 64_000, "{least}–{most}");
}

#[tokio::test(start_paused = true)]
async fn each_part_of_going_to_zero_has_its_say() {
    async fn zero_after(scaling: ScalingSpec) -> Option<u128> {
        let home = Home::new(None);
        let stats = home.add_instant(&scaled("a", scaling));
        home.until(100).await;
        let arrived = home.now();
        wait(&stats, arrived);
        home.until(200).await;
        stats.leave(0, arrived, home.now(), Some(200));
        home.until(400_000).await;
        home.counts().iter().find(|(_, desired)| *desired == 0).map(|(at, _)| at / 1_000)
    }
    let default = ScalingSpec::default;
    assert_eq!(zero_after(default()).await, Some(64));
    let retention = Duration::from_secs(120);
    let retained = ScalingSpec { scale_to_zero_retention: retention, ..default() };
    assert_eq!(zero_after(retained).await, Some(62 + 120));
    let window = Duration::from_secs(6);
    let short = ScalingSpec { stable_window: window, panic_window: window / 6, ..default() };
    assert_eq!(zero_after(short).await, Some(10));
    let delayed = ScalingSpec { scale_down_delay: Duration::from_secs(30), ..default() };
    assert_eq!(zero_after(delayed).await, Some(58 + 30 + 2), "the last 1 was decided at 58");
    assert_eq!(zero_after(ScalingSpec { scale_to_zero: false, ..default() }).await, None);
    assert_eq!(zero_after(ScalingSpec { min_scale: 1, ..default() }).await, None);
}

#[tokio::test(start_paused = true)]
async fn resting_counts_are_stated_without_a_request() {
    let home = Home::new(None);
    home.add_instant(&scaled("a", ScalingSpec { min_scale: 2, ..ScalingSpec::default() }));
    settle().await;
    assert_eq!(home.counts(), [(0, 2)]);
    home.until(300_000).await;
    assert!(home.counts().iter().all(|(_, desired)| *desired == 2));

    let home = Home::new(None);
    let initial = scaled("b", ScalingSpec { initial_scale: 3, ..ScalingSpec::default() });
    home.add_instant(&initial);
    settle().await;
    assert_eq!(home.counts()[0].1, 3);
    home.until(300_000).await;
    assert_eq!(home.counts().last().expect("it was stated").1, 0);
    assert!(home.autoscaler.view(&initial.id).expect("it is known").initialized);

    let home = Home::new(None);
    let stats = RevisionStats::new(initial.id.clone(), home.clock, 1, Arc::clone(&home.pokes));
    let restored = Restored { replicas: 0, initialized: true };
    home.autoscaler.restore(Arc::clone(&initial), stats, restored);
    home.until(10_000).await;
    assert_eq!(home.counts(), [], "a restart starts nothing");
}

#[tokio::test(start_paused = true)]
async fn a_restored_count_is_stated_at_once_and_ebbs_away_like_any_other() {
    let home = Home::new(None);
    let scaling = ScalingSpec { max_scale: Some(6), ..ScalingSpec::default() };
    for (name, replicas) in [("a", 4), ("b", 9), ("c", 1)] {
        let spec = scaled(name, scaling.clone());
        let stats = RevisionStats::new(spec.id.clone(), home.clock, 1, Arc::clone(&home.pokes));
        home.instant.lock().push(Arc::clone(&stats));
        let restored = Restored { replicas, initialized: true };
        home.autoscaler.restore(spec, stats, restored);
    }
    settle().await;
    let of = |all: &[(Duration, Statement)], name: &str| -> Vec<u32> {
        let of = all.iter().filter(|(_, s)| &*s.revision.name == name);
        of.map(|(_, s)| s.desired).collect()
    };
    let first = home.take();
    assert_eq!(["a", "b", "c"].map(|name| of(&first, name)), [vec![4], vec![6], vec![1]]);
    // The clients of before need some time to come back.
    home.until(59_000).await;
    let minute = home.take();
    for (name, count) in [("a", 4), ("b", 6), ("c", 1)] {
        assert!(of(&minute, name).iter().all(|desired| *desired == count), "{name}: {minute:?}");
    }
    home.until(200_000).await;
    let rest = home.take();
    for name in ["a", "b", "c"] {
        assert_eq!(of(&rest, name).last(), Some(&0), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn restored_counts_keep_to_the_bound_of_the_process() {
    let home = Home::new(Some(3));
    for name in ["a", "b"] {
        let spec = plain(name);
        let stats = RevisionStats::new(spec.id.clone(), home.clock, 1, Arc::clone(&home.pokes));
        let restored = Restored { replicas: 4, initialized: true };
        home.autoscaler.restore(spec, stats, restored);
    }
    settle().await;
    let stated = home.take();
    let last = |name: &str| stated.iter().rev().find(|(_, s)| &*s.revision.name == name);
    let total: u32 = ["a", "b"].iter().filter_map(|n| last(n)).map(|(_, s)| s.desired).sum();
    assert_eq!(total, 3);
}

#[tokio::test(start_paused = true)]
async fn revisions_at_rest_are_not_touched() {
    let home = Home::new(None);
    let all: Vec<_> = (0..10_000).map(|n| home.add(&plain(&format!("r{n}")))).collect();
    settle().await;
    assert_eq!(home.autoscaler.state.lock().active_count(), 0);
    assert_eq!(home.autoscaler.state.lock().next_turn(), None, "there is no timer");
    wait(&all[4_711], home.now());
    home.until(9_000).await;
    assert_eq!(home.autoscaler.state.lock().active_count(), 1);
    assert_eq!(home.counts().len(), 1 + 4);
}

#[tokio::test(start_paused = true)]
async fn new_settings_take_effect_at_once() {
    let home = Home::new(None);
    let spec = plain("a");
    let stats = home.add_instant(&spec);
    home.until(500).await;
    let min = ScalingSpec { min_scale: 3, ..ScalingSpec::default() };
    home.autoscaler.upsert(scaled("a", min), Arc::clone(&stats));
    settle().await;
    assert_eq!(home.counts(), [(500, 3)]);
    let max = ScalingSpec { max_scale: Some(1), ..ScalingSpec::default() };
    home.until(5_000).await;
    home.counts();
    let last = home.autoscaler.recent(&spec.id).pop().expect("there were ticks");
    assert_eq!((last.decided, last.desired), (1, 3));
    assert!(last.clamps.contains(Clamp::MinScale));
    home.autoscaler.upsert(scaled("a", max), Arc::clone(&stats));
    home.until(200_000).await;
    assert_eq!(home.counts().last().expect("it was stated").1, 0);
    home.autoscaler.remove(&spec.id);
    stats.poke();
    settle().await;
    assert_eq!(home.counts(), []);
    assert_eq!(home.autoscaler.view(&spec.id), None);
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_revision_starts_nothing() {
    let home = Home::new(None);
    let scaling = ScalingSpec { initial_scale: 3, reachable: false, ..ScalingSpec::default() };
    let stats = home.add(&scaled("a", scaling.clone()));
    home.until(5_000).await;
    assert_eq!(home.counts(), []);
    let reachable = ScalingSpec { reachable: true, ..scaling };
    home.autoscaler.upsert(scaled("a", reachable), stats);
    settle().await;
    assert_eq!(home.counts(), [(5_000, 3)], "a route leads to it now");
}
