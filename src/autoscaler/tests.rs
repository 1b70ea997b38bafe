//! The running autoscaler under paused time, with a platform that makes replicas at once.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{advance, sleep};

use super::*;
use crate::model::{
    ContainerConcurrency, Protocol, QueueSettings, ScalingSpec, Timeouts, Workload,
};
use crate::model::{Probe, ProbeAction, Probes, ProcessSpec};
use crate::stats::Nanos;

type Stated = Arc<Mutex<Vec<(Duration, Statement)>>>;
type Replicas = Arc<Mutex<Vec<Arc<RevisionStats>>>>;

/// An autoscaler that runs, and a platform behind it.
struct Home {
    autoscaler: Arc<Autoscaler>,
    clock: Clock,
    pokes: Arc<Pokes>,
    stated: Stated,
    /// Revisions whose replicas are ready the moment they are stated.
    instant: Replicas,
    task: JoinHandle<()>,
}

impl Drop for Home {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Home {
    fn new(max_replicas: Option<u32>) -> Self {
        let (clock, pokes) = (Clock::start(), Arc::new(Pokes::default()));
        let limits = ProcessLimits { max_replicas };
        let autoscaler = Arc::new(Autoscaler::new(Arc::clone(&pokes), clock, limits));
        let (stated, instant) = (Stated::default(), Replicas::default());
        let task = tokio::spawn({
            let (autoscaler, stated) = (Arc::clone(&autoscaler), Arc::clone(&stated));
            let instant = Arc::clone(&instant);
            async move {
                let sink = |statement: Statement| {
                    for stats in instant.lock().iter() {
                        if *stats.revision() == statement.revision
                            && stats.ready() != statement.desired
                        {
                            stats.set_replicas(statement.desired, 0);
                            stats.set_waiting(0);
                            stats.poke();
                        }
                    }
                    stated.lock().push((Duration::from_nanos(clock.now().0), statement));
                };
                autoscaler.run(sink).await;
            }
        });
        Self { autoscaler, clock, pokes, stated, instant, task }
    }

    fn add(&self, spec: &Arc<RevisionSpec>) -> Arc<RevisionStats> {
        let stats = RevisionStats::new(spec.id.clone(), self.clock, 1, Arc::clone(&self.pokes));
        self.autoscaler.upsert(Arc::clone(spec), Arc::clone(&stats));
        stats
    }

    fn add_instant(&self, spec: &Arc<RevisionSpec>) -> Arc<RevisionStats> {
        let stats = self.add(spec);
        self.instant.lock().push(Arc::clone(&stats));
        stats
    }

    fn now(&self) -> Nanos {
        self.clock.now()
    }

    fn take(&self) -> Vec<(Duration, Statement)> {
        std::mem::take(&mut *self.stated.lock())
    }

    /// The counts stated since the last call, with their times in milliseconds.
    fn counts(&self) -> Vec<(u128, u32)> {
        self.take().into_iter().map(|(at, s)| (at.as_millis(), s.desired)).collect()
    }

    async fn until(&self, ms: u64) {
        let at = self.clock.instant(Nanos(ms * 1_000_000));
        tokio::time::sleep_until(at).await;
        settle().await;
    }
}

/// Lets the running task finish what is due now.
async fn settle() {
    for _ in 0..5 {
        tokio::task::yield_now().await;
    }
}

/// A request that finds no slot.
fn wait(stats: &RevisionStats, now: Nanos) {
    stats.arrive(0, now);
    stats.set_waiting(stats.waiting() + 1);
    stats.poke();
}

fn process() -> Workload {
    let readiness = Probe {
        action: ProbeAction::Tcp { port: None },
        initial_delay: Duration::ZERO,
        period: Duration::ZERO,
        timeout: Duration::from_secs(1),
        success_threshold: 1,
        failure_threshold: 3,
    };
    Workload::Process(Arc::new(ProcessSpec {
        command: vec!["true".into()],
        directory: None,
        env: Vec::new(),
        volumes: Vec::new(),
        mounts: Vec::new(),
        probes: Probes { startup: None, readiness, liveness: None },
        memory_limit_bytes: None,
        termination_grace: Duration::from_secs(30),
    }))
}

fn revision(name: &str, scaling: ScalingSpec) -> RevisionSpec {
    RevisionSpec {
        id: RevisionId::new("default", name),
        service: None,
        configuration: name.into(),
        container_concurrency: ContainerConcurrency::Unlimited,
        protocol: Protocol::Http1,
        timeouts: Timeouts { request: Duration::from_secs(300), response_start: None, idle: None },
        scaling,
        queue: QueueSettings::default(),
        workload: process(),
    }
}

fn limited(name: &str, limit: u32) -> Arc<RevisionSpec> {
    let scaling = ScalingSpec {
        target_value: f64::from(limit) * 0.7,
        total_value: f64::from(limit),
        ..ScalingSpec::default()
    };
    let limit = NonZeroU32::new(limit).expect("limits are positive");
    let container_concurrency = ContainerConcurrency::AtMost(limit);
    Arc::new(RevisionSpec { container_concurrency, ..revision(name, scaling) })
}

fn plain(name: &str) -> Arc<RevisionSpec> {
    Arc::new(revision(name, ScalingSpec::default()))
}

fn scaled(name: &str, scaling: ScalingSpec) -> Arc<RevisionSpec> {
    Arc::new(revision(name, scaling))
}

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
    home.autoscaler.upsert_initialized(Arc::clone(&initial), stats);
    home.until(10_000).await;
    assert_eq!(home.counts(), [], "a restart starts nothing");
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
    settle().await;
    let counts = home.counts();
    assert_eq!(counts[0], (310, 1));
    // 401 requests, 7 each: the fifth raise sees the first 400.
    assert_eq!(counts.iter().map(|c| c.0).collect::<Vec<_>>(), [310, 410, 510, 610, 710]);
    assert!(counts.is_sorted_by_key(|c| c.1), "{counts:?}");
    assert_eq!(counts[4].1, 58, "400 in flight / 7, in panic");
    let eager = home.autoscaler.recent(&spec.id);
    assert_eq!(eager.iter().filter(|d| d.cause == Cause::Eager).count(), 4);
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
async fn the_process_bound_is_shared_fairly() {
    let home = Home::new(Some(4));
    let big = home.add_instant(&limited("big", 1));
    let specs = [limited("b", 2), limited("c", 2)];
    home.until(100).await;
    for _ in 0..20 {
        wait(&big, home.now());
    }
    home.until(2_100).await;
    assert_eq!(home.counts().last().expect("it was stated").1, 4);
    let recent = home.autoscaler.recent(big.revision());
    let last = recent.last().expect("there were decisions");
    assert_eq!(last.desired, 4);
    assert!(last.clamps.contains(Clamp::MaxReplicas) && last.decided > 4);

    for spec in &specs {
        let stats = home.add_instant(spec);
        wait(&stats, home.now());
        settle().await;
        assert_eq!(home.autoscaler.view(&spec.id).expect("known").desired, 1, "at once");
    }
    assert_eq!(home.autoscaler.view(big.revision()).expect("known").desired, 2);
    let mut now = std::collections::BTreeMap::new();
    home.until(30_000).await;
    for (_, statement) in home.take() {
        now.insert(statement.revision, statement.desired);
    }
    assert_eq!(now.values().sum::<u32>(), 4);
    home.autoscaler.remove(&specs[0].id);
    home.until(32_500).await;
    assert_eq!(home.autoscaler.view(big.revision()).expect("known").desired, 3);
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

/// Two revisions under load and one replica for both.
#[tokio::test(start_paused = true)]
async fn singles_take_turns_for_ever() {
    let home = Home::new(Some(1));
    let all = [home.add(&limited("a", 10)), home.add(&limited("b", 10))];
    home.until(100).await;
    for stats in &all {
        wait(stats, home.now());
    }
    home.until(100_000).await;
    let mut shares = [0, 0];
    for (_, statement) in home.take() {
        let index = usize::from(statement.revision == *all[1].revision());
        shares[index] += statement.desired;
    }
    let (least, most) = (shares.iter().min(), shares.iter().max());
    assert!(least >= Some(&20) && most <= Some(&32), "of about 50 ticks: {shares:?}");
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
