//! The running autoscaler under paused time, with a platform that makes replicas at once.

mod between_ticks;
mod elsewhere;
mod measuring;
mod resting;
mod sharing;

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
        depends_on: Vec::new(),
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
