//! What is measured, and what a restart finds.

use super::*;

#[tokio::test(start_paused = true)]
async fn replicas_found_at_start_are_kept_for_a_window() {
    let home = Home::new(None);
    let spec = plain("a");
    let stats = home.add_instant(&spec);
    home.until(1_500).await;
    stats.set_replicas(4, 0);
    stats.poke();
    home.until(61_000).await;
    let counts = home.counts();
    assert!(!counts.is_empty() && counts.iter().all(|(_, desired)| *desired == 4), "{counts:?}");
    let decisions = home.autoscaler.recent(&spec.id);
    assert!(decisions[0].panicking && decisions[0].clamps.contains(Clamp::PanicFloor));
    home.until(140_000).await;
    assert_eq!(home.counts().last().expect("it was stated").1, 0);
}

#[tokio::test(start_paused = true)]
async fn requests_a_second_are_measured() {
    let home = Home::new(None);
    let scaling = ScalingSpec {
        metric: crate::model::Metric::Rps,
        target_value: 10.0,
        total_value: 10.0,
        ..ScalingSpec::default()
    };
    let spec = scaled("a", scaling);
    let stats = home.add_instant(&spec);
    for n in 0..400_u64 {
        home.until(3_010 + n * 25).await;
        let now = home.now();
        if stats.ready() == 0 {
            wait(&stats, now);
            settle().await;
        } else {
            stats.arrive(0, now);
        }
        stats.leave(0, now, home.now(), Some(200));
    }
    home.until(12_999).await;
    let view = home.autoscaler.view(&spec.id).expect("it is known");
    assert_eq!(view.desired, 4, "40 a second, 10 each");
    assert!((36.0..=40.0).contains(&view.stable), "{view:?}");
}

#[tokio::test(start_paused = true)]
async fn found_replicas_are_never_told_to_end_before_a_decision() {
    let home = Home::new(None);
    home.until(101_500).await;
    let spec = plain("a");
    let stats = RevisionStats::new(spec.id.clone(), home.clock, 1, Arc::clone(&home.pokes));
    stats.set_replicas(4, 0);
    home.autoscaler.upsert(Arc::clone(&spec), Arc::clone(&stats));
    stats.arrive(0, home.now());
    stats.poke();
    home.until(104_500).await;
    assert_eq!(home.counts(), [(102_000, 4), (104_000, 4)]);
}

/// The process stood still for half a window: the seconds it missed had the same load.
#[tokio::test(start_paused = true)]
async fn missed_seconds_are_filled_with_their_average() {
    let home = Home::new(None);
    let spec = plain("a");
    let stats = home.add_instant(&spec);
    home.until(10).await;
    wait(&stats, home.now());
    for _ in 1..100 {
        stats.arrive(0, home.now());
    }
    home.until(60_500).await;
    advance(Duration::from_secs(30)).await;
    settle().await;
    let view = home.autoscaler.view(&spec.id).expect("it is known");
    assert!((view.stable - 100.0).abs() < 0.01, "{view:?}");
}

#[tokio::test(start_paused = true)]
async fn a_new_target_counts_from_the_next_tick() {
    let home = Home::new(None);
    let stats = home.add_instant(&plain("a"));
    home.until(10).await;
    wait(&stats, home.now());
    for _ in 1..60 {
        stats.arrive(0, home.now());
    }
    home.until(20_500).await;
    assert_eq!(home.counts().last().expect("it was stated").1, 1);
    let scaling = ScalingSpec { target_value: 10.0, ..ScalingSpec::default() };
    home.autoscaler.upsert(scaled("a", scaling), Arc::clone(&stats));
    home.until(22_500).await;
    assert_eq!(home.counts().last().expect("it was stated").1, 6);
}

#[tokio::test(start_paused = true)]
async fn new_stats_for_a_known_revision_start_anew() {
    let home = Home::new(None);
    let spec = plain("a");
    let old = home.add_instant(&spec);
    home.until(10).await;
    wait(&old, home.now());
    for _ in 1..100 {
        old.arrive(0, home.now());
    }
    home.until(6_500).await;
    let new = RevisionStats::new(spec.id.clone(), home.clock, 1, Arc::clone(&home.pokes));
    for _ in 0..100 {
        new.arrive(0, home.now());
    }
    home.autoscaler.upsert(Arc::clone(&spec), new);
    home.until(7_500).await;
    let view = home.autoscaler.view(&spec.id).expect("it is known");
    assert!((view.panic - 100.0).abs() < 0.1, "{view:?}");
}
