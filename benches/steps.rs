//! What the steps of a request and of a decision cost, in nanoseconds, on one thread:
//! `cargo bench`. A table to look at, not a test: nothing here fails when it is slow.

#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tidegate::autoscaler::{Averages, Decider, Facts, Window};
use tidegate::model::{
    Aggregation, ContainerConcurrency, EndpointId, ObjectName, Protocol, QueueSettings,
    RevisionSpec, ScalingSpec, ServiceSpec, Timeouts, Workload,
};
use tidegate::revision::{Admission, ProcessQueue, QueueLimits, Revision, Setting, pick};
use tidegate::snapshot::{ServiceRoute, Snapshot, Split, normalize};
use tidegate::stats::{Clock, Nanos, Pokes, RevisionStats};
use tokio::time::Instant;

/// Rounds per step; the fastest and the median are shown, so that noise is seen as what it is.
const ROUNDS: usize = 21;
/// Aimed length of one round.
const ROUND: Duration = Duration::from_millis(10);
/// Services in the routing table.
const SERVICES: usize = 1_000;

fn main() {
    println!("{:<44} {:>10} {:>10}", "ns per step", "median", "fastest");
    routing();
    counting();
    slots();
    scaling();
}

fn routing() {
    let snapshot = snapshot();
    let hosts: Vec<String> = (0..SERVICES).map(host).collect();
    let mut next = 0;
    let mut turn = move || {
        next = (next + 1) % SERVICES;
        next
    };
    step("host, normalised", || normalize(black_box("hello.default.localhost:8080")).is_some());
    step("host, upper case", || normalize(black_box("Hello.Default.localhost:8080")).is_some());
    step("route, 1 of 1000 services", || snapshot.route(black_box(&hosts[turn()])).is_some());
    let one = Split::new(vec![(100, revision("one", None))], 1);
    let two = Split::new(vec![(90, revision("old", None)), (10, revision("new", None))], 1);
    step("draw, one revision", || one.draw().is_some());
    step("draw, 90 to 10", || two.draw().is_some());
}

fn counting() {
    let clock = Clock::start();
    let stats = RevisionStats::new(name("counted"), clock, 2, Arc::default());
    step("clock", || clock.now());
    step("request counted, arrival and end", || {
        let now = Nanos(black_box(1));
        stats.arrive(0, now);
        stats.leave(0, now, Nanos(black_box(2_000_000)), Some(200));
    });
    step("concurrency read, 2 workers", || stats.read(Nanos(black_box(3))).in_flight);
}

fn slots() {
    let limited = revision("limited", NonZeroU32::new(10));
    for replicas in [1, 10, 100] {
        limited.set_endpoints(&endpoints(replicas), Nanos(1));
        step(&format!("permit taken and given back, {replicas} replicas"), || {
            match limited.admit(Nanos(2), None) {
                Admission::Granted(permit) => drop(permit),
                other => panic!("a slot is free: {other:?}"),
            }
        });
    }
    let open = revision("open", None);
    open.set_endpoints(&endpoints(10), Nanos(1));
    let set = open.open();
    let mut rng = fastrand::Rng::with_seed(7);
    step("endpoint picked, unlimited, 10 replicas", || {
        let picked = pick(set.open.len(), &mut rng, |i| set.open[i].load_of(0));
        let endpoint = &set.open[picked.unwrap_or(0)];
        endpoint.enter(0);
        endpoint.leave(0)
    });
}

fn scaling() {
    let second = Duration::from_secs(1);
    for (label, aggregation) in
        [("linear", Aggregation::Linear), ("weighted", Aggregation::WeightedExponential)]
    {
        let mut window = Window::new(aggregation, 60 * second, second);
        let mut now = second;
        step(&format!("window of 60 s, sample recorded, {label}"), || {
            now += second;
            window.record(now, black_box(3.0));
        });
        step(&format!("window of 60 s, average, {label}"), || window.average(now));
    }
    let spec = ScalingSpec::default();
    let mut decider = Decider::new(&spec, 1, Duration::ZERO);
    let mut now = second;
    step("decision", || {
        now += second;
        let averages = Averages { stable: black_box(120.0), panic: black_box(130.0) };
        decider.decide(&spec, Facts { ready: Some(2), averages: Some(averages) }, now)
    });
}

/// Measures one step: as many calls a round as fill it.
fn step<T>(name: &str, mut f: impl FnMut() -> T) {
    let mut calls: u32 = 1;
    while timed(calls, &mut f) < ROUND / 2 && calls < 1 << 30 {
        calls *= 2;
    }
    let mut rounds: Vec<f64> =
        (0..ROUNDS).map(|_| timed(calls, &mut f).as_nanos() as f64 / f64::from(calls)).collect();
    rounds.sort_by(f64::total_cmp);
    println!("{name:<44} {:>10.1} {:>10.1}", rounds[ROUNDS / 2], rounds[0]);
}

fn timed<T>(calls: u32, f: &mut impl FnMut() -> T) -> Duration {
    let start = Instant::now();
    for _ in 0..calls {
        black_box(f());
    }
    start.elapsed()
}

fn name(name: &str) -> ObjectName {
    ObjectName::new("default", name)
}

fn host(index: usize) -> String {
    format!("service-{index}.default.localhost")
}

fn endpoints(count: u16) -> Vec<(EndpointId, std::net::SocketAddr)> {
    (0..count)
        .map(|i| (EndpointId::new(i.to_string()), ([127, 0, 0, 1], 10_000 + i).into()))
        .collect()
}

/// A revision without replicas.
fn revision(title: &str, limit: Option<NonZeroU32>) -> Arc<Revision> {
    let spec = RevisionSpec {
        id: name(title),
        service: None,
        configuration: title.into(),
        container_concurrency: limit
            .map_or(ContainerConcurrency::Unlimited, ContainerConcurrency::AtMost),
        protocol: Protocol::Http1,
        timeouts: Timeouts { request: Duration::from_secs(300), response_start: None, idle: None },
        scaling: ScalingSpec::default(),
        queue: QueueSettings::default(),
        workload: Workload::Static(Vec::new()),
    };
    let setting = Setting {
        workers: 2,
        process: Arc::new(ProcessQueue::new(QueueLimits::default())),
        replans: Arc::default(),
    };
    let pokes: Arc<Pokes> = Arc::default();
    let stats = RevisionStats::new(name(title), Clock::start(), setting.workers, pokes);
    Revision::new(Arc::new(spec), stats, &setting, 7)
}

fn snapshot() -> Snapshot {
    let services = (0..SERVICES)
        .map(|index| {
            let spec = ServiceSpec {
                id: name(&format!("service-{index}")),
                hosts: vec![host(index).into()],
                traffic: Vec::new(),
                tags: Vec::new(),
                tag_header_routing: false,
                https_hosts: Vec::new(),
                problem: None,
                warnings: Vec::new(),
            };
            let split = Split::new(vec![(100, revision(&format!("r-{index}"), None))], 1);
            Arc::new(ServiceRoute {
                spec: Arc::new(spec),
                split,
                tags: Vec::new(),
                moving_tags: Vec::new(),
            })
        })
        .collect();
    Snapshot::new(services, None)
}
