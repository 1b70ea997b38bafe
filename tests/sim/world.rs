//! One run: the whole program between a fake platform and fake clients, on virtual time.

use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tidegate::app::{Control, ControlParts, Live};
use tidegate::autoscaler::{Autoscaler, ProcessLimits, Statement};
use tidegate::model::{
    ContainerConcurrency, ObjectName, Probe, ProbeAction, Probes, ProcessSpec, Protocol,
    QueueSettings, RevisionId, RevisionSpec, ScalingSpec, ServiceSpec, Timeouts, TrafficTarget,
    Workload, World,
};
use tidegate::platform::ConfigSource as _;
use tidegate::proxy::{DrainState, Message, Settings, Shared, Worker};
use tidegate::revision::{ProcessQueue, Revision, Setting};
use tidegate::stats::{Clock, Pokes};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;

use crate::checker::{Checker, Judge};
use crate::clients::Clients;
use crate::ledger::{Ledger, Property, Violation};
use crate::platform::{Platform, Target};
use crate::replica::Network;
use crate::weather::{Phase, Weather};

/// From the last request to zero: the stable window and two ticks.
const TO_ZERO: Duration = Duration::from_secs(64);
/// Panic that begins with the last requests delays that by the panic window and a tick.
const PANIC_LONGER: Duration = Duration::from_secs(8);
/// A revision that was never ready keeps its count for the progress deadline and 30 s; one that
/// was not ready for a moment keeps it for another stable window.
const ACTIVATING_LONGER: Duration = Duration::from_secs(95);
/// Reports, and replicas on their way out.
const SETTLE: Duration = Duration::from_secs(15);

/// How a run went.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) text: String,
    pub(crate) violation: Option<Violation>,
    pub(crate) lasted: Duration,
    pub(crate) requests: usize,
}

/// Name of a service's revision.
pub(crate) fn revision_id(service: usize) -> RevisionId {
    ObjectName::new("default", format!("s{service}-00001"))
}

/// Runs one seed.
pub(crate) fn run(seed: u64) -> Outcome {
    crate::forget_panics();
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build_local(LocalOptions::default())
        .expect("a runtime");
    runtime.block_on(async {
        let weather = Weather::of(seed);
        let ledger = Rc::new(Ledger::new());
        ledger.note(format_args!("{weather:?}"));
        let story = story(seed, &weather, &ledger);
        tokio::select! {
            biased;
            () = ledger.until_violated() => {}
            () = story => {}
        }
        let lasted = ledger.now();
        let requests = ledger.with_requests(<[_]>::len);
        let (text, violation) = ledger.close();
        Outcome { text, violation, lasted, requests }
    })
}

/// The program and all around it.
struct Stage {
    weather: Weather,
    ledger: Rc<Ledger>,
    platform: Rc<Platform>,
    shared: Arc<Shared>,
    autoscaler: Arc<Autoscaler>,
    live: Arc<Live>,
    process: Arc<ProcessQueue>,
    workers: Vec<(Rc<Worker>, Arc<AtomicU32>)>,
}

impl Stage {
    fn set(seed: u64, weather: &Weather, ledger: &Rc<Ledger>) -> Self {
        let network = Arc::new(Network::default());
        let (platform, source) = Platform::new(seed ^ 1, ledger, &network, weather);
        for service in 0..weather.revisions.len() {
            platform.belongs(&revision_id(service), service);
        }
        let clock = Clock::start();
        let settings = Settings { connector: network.connector(), ..Settings::default() };
        let shared = Shared::new(settings, clock);
        let pokes = Arc::new(Pokes::default());
        let limits = ProcessLimits { max_replicas: weather.max_replicas };
        let autoscaler = Arc::new(Autoscaler::new(Arc::clone(&pokes), clock, limits));
        let process = Arc::new(ProcessQueue::new(weather.queue));
        let setting = Setting {
            workers: weather.workers,
            process: Arc::clone(&process),
            replans: Arc::default(),
        };
        let parts = ControlParts {
            shared: Arc::clone(&shared),
            setting,
            pokes,
            target: Target(Rc::clone(&platform)),
            seed,
            shown_at: None,
        };
        let mut control = Control::new(parts, Arc::clone(&autoscaler));
        let live = control.live();
        let mut workers = Vec::new();
        let mut senders = Vec::new();
        for index in 0..weather.workers {
            let load = Arc::new(AtomicU32::new(0));
            let worker_seed = seed.wrapping_add(index as u64);
            let worker = Worker::new(index, Arc::clone(&shared), Arc::clone(&load), worker_seed);
            let (sender, messages) = mpsc::channel::<Message>(1024);
            tokio::task::spawn_local(Rc::clone(&worker).run(messages));
            workers.push((worker, load));
            senders.push(sender);
        }
        let (statements, stated) = mpsc::channel(1024);
        let sink = sink(weather, ledger, statements);
        let scaling = Arc::clone(&autoscaler);
        tokio::task::spawn_local(async move { scaling.run(sink).await });
        let (updates, received) = mpsc::channel(1024);
        tokio::task::spawn_local(async move {
            let refresh = move || {
                for sender in &senders {
                    sender.try_send(Message::Refresh).expect("workers keep up");
                }
            };
            control.run(received, stated, refresh).await;
        });
        tokio::task::spawn_local(source.run(updates));
        Self {
            weather: weather.clone(),
            ledger: Rc::clone(ledger),
            platform,
            shared,
            autoscaler,
            live,
            process,
            workers,
        }
    }
}

/// Passes statements on, and looks at them on their way.
fn sink(
    weather: &Weather,
    ledger: &Rc<Ledger>,
    statements: mpsc::Sender<Statement>,
) -> impl FnMut(Statement) + 'static {
    let weather = weather.clone();
    let ledger = Rc::clone(ledger);
    let mut former = vec![0; weather.revisions.len()];
    move |statement| {
        let known = (0..former.len()).find(|s| revision_id(*s) == statement.revision);
        if let Some(service) = known {
            let desired = statement.desired;
            if std::mem::replace(&mut former[service], desired) != desired {
                ledger.note(format_args!("service {service} is to have {desired} replicas"));
            }
            let revision = &weather.revisions[service];
            let low = if weather.max_replicas.is_some() { 0 } else { revision.min };
            let high = revision.max.unwrap_or(u32::MAX);
            if desired < low || desired > high {
                ledger.violated(
                    Property::Bounds,
                    format_args!("{desired} replicas, bounds are {low} and {high}"),
                );
            }
        }
        statements.try_send(statement).expect("the control loop keeps up");
    }
}

async fn story(seed: u64, weather: &Weather, ledger: &Rc<Ledger>) {
    let stage = Rc::new(Stage::set(seed, weather, ledger));
    let checker = Rc::new(Checker {
        ledger: Rc::clone(ledger),
        weather: weather.clone(),
        live: Arc::clone(&stage.live),
        platform: Rc::clone(&stage.platform),
        process: Arc::clone(&stage.process),
    });
    tokio::task::spawn_local(Rc::clone(&checker).run());
    let specs = specs(weather);
    stage.platform.configure(world(&specs, false));
    while stage.shared.drain_state() < DrainState::Serving {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let revisions: Vec<Weak<Revision>> =
        stage.live.revisions().iter().map(Arc::downgrade).collect();
    let clients = Clients::new(
        seed ^ 2,
        ledger,
        weather,
        Judge::new(weather),
        stage.workers.iter().map(|(worker, load)| (Rc::clone(worker), Arc::clone(load))).collect(),
    );
    let faults = faults(&stage, &specs, seed);
    for phase in &weather.phases {
        clients.phase(phase).await;
        if let Phase::Settle { clients, .. } = phase {
            checker.reached(*clients);
        }
    }
    faults.iter().for_each(tokio::task::AbortHandle::abort);
    stage.platform.calm_down();
    ledger.note(format_args!("no more requests, no more faults"));
    let quiet = ledger.now();
    while clients.are_busy() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    checker.order();
    stage.silence(&checker, quiet).await;
    stage.removed(&checker, &revisions).await;
}

impl Stage {
    /// After the last request: down to zero, and nothing left.
    async fn silence(&self, checker: &Checker, quiet: Duration) {
        let panicking = (0..self.weather.revisions.len())
            .filter_map(|service| self.autoscaler.view(&revision_id(service)))
            .any(|view| view.panicking);
        let slow = self.weather.start_failures > 0.0
            || self.weather.crashes.is_some()
            || self.weather.flaps.is_some()
            || self.weather.start_ms.1 > 3_000
            || self.weather.order_errors > 0.0;
        let (mut since, mut bound) = (self.ledger.last_end(), TO_ZERO);
        if panicking {
            bound += PANIC_LONGER;
        }
        if slow {
            since = since.max(quiet);
            bound += ACTIVATING_LONGER;
        }
        let passed = self.ledger.now() - since;
        tokio::time::sleep(bound.saturating_sub(passed)).await;
        self.ledger.note(format_args!("the count is to be as low as it may be"));
        tokio::time::sleep(SETTLE).await;
        checker.zero();
        checker.nothing_left(self.shared.connections(), self.shared.tunnels());
    }

    /// After the last service was removed nothing is left of it.
    async fn removed(&self, checker: &Checker, revisions: &[Weak<Revision>]) {
        self.platform.configure(World::default());
        tokio::time::sleep(SETTLE).await;
        checker.gone(revisions);
    }

    async fn reloads(self: Rc<Self>, specs: Specs, mut rng: fastrand::Rng) {
        let mut more = false;
        loop {
            tokio::time::sleep(Duration::from_millis(rng.u64(500..20_000))).await;
            more = !more;
            self.platform.configure(world(&specs, more));
        }
    }

    async fn removal(self: Rc<Self>, mut specs: Specs, mut rng: fastrand::Rng) {
        tokio::time::sleep(Duration::from_millis(rng.u64(500..60_000))).await;
        specs.pop();
        self.platform.configure(world(&specs, false));
    }
}

fn faults(stage: &Rc<Stage>, specs: &Specs, seed: u64) -> Vec<tokio::task::AbortHandle> {
    let weather = &stage.weather;
    let platform = || Rc::clone(&stage.platform);
    if let Some(every) = weather.crashes {
        tokio::task::spawn_local(platform().crashes(every));
    }
    if let Some(every) = weather.refusals {
        tokio::task::spawn_local(platform().refusals(every));
    }
    if let Some(every) = weather.flaps {
        tokio::task::spawn_local(platform().flaps(every));
    }
    let rng = fastrand::Rng::with_seed(seed ^ 3);
    let mut ended = Vec::new();
    if weather.removal {
        let removal = Rc::clone(stage).removal(specs.clone(), rng);
        ended.push(tokio::task::spawn_local(removal).abort_handle());
    } else if weather.reloads {
        let reloads = Rc::clone(stage).reloads(specs.clone(), rng);
        ended.push(tokio::task::spawn_local(reloads).abort_handle());
    }
    ended
}

type Specs = Vec<Arc<RevisionSpec>>;

fn specs(weather: &Weather) -> Specs {
    weather
        .revisions
        .iter()
        .enumerate()
        .map(|(service, revision)| Arc::new(spec(service, revision)))
        .collect()
}

fn spec(service: usize, revision: &crate::weather::Revision) -> RevisionSpec {
    RevisionSpec {
        id: revision_id(service),
        service: Some(ObjectName::new("default", format!("s{service}"))),
        configuration: format!("s{service}").into(),
        container_concurrency: NonZeroU32::new(revision.limit)
            .map_or(ContainerConcurrency::Unlimited, ContainerConcurrency::AtMost),
        protocol: Protocol::Http1,
        timeouts: Timeouts { request: revision.timeout, response_start: None, idle: None },
        scaling: ScalingSpec {
            target_value: revision.target,
            total_value: revision.target / 0.7,
            min_scale: revision.min,
            max_scale: revision.max,
            initial_scale: revision.initial,
            ..ScalingSpec::default()
        },
        queue: QueueSettings {
            timeout: revision.queue_timeout,
            eager: revision.eager,
            ..QueueSettings::default()
        },
        workload: Workload::Process(Arc::new(process())),
    }
}

/// A program that nobody starts here.
fn process() -> ProcessSpec {
    ProcessSpec {
        command: vec!["replica".into()],
        directory: None,
        env: Vec::new(),
        volumes: Vec::new(),
        mounts: Vec::new(),
        probes: Probes {
            startup: None,
            readiness: Probe {
                action: ProbeAction::Tcp { port: None },
                initial_delay: Duration::ZERO,
                period: Duration::ZERO,
                timeout: Duration::from_secs(1),
                success_threshold: 1,
                failure_threshold: 3,
            },
            liveness: None,
        },
        memory_limit_bytes: None,
        termination_grace: Duration::from_secs(30),
    }
}

/// The configuration; with `more` it has a service that nobody asks for.
fn world(specs: &Specs, more: bool) -> World {
    let mut revisions = specs.clone();
    if more {
        let mut bystander = spec(
            99,
            &crate::weather::Revision {
                limit: 1,
                target: 0.7,
                min: 0,
                max: None,
                initial: 0,
                timeout: Duration::from_secs(10),
                queue_timeout: None,
                eager: true,
            },
        );
        bystander.id = ObjectName::new("default", "bystander-00001");
        bystander.service = Some(ObjectName::new("default", "bystander"));
        revisions.push(Arc::new(bystander));
    }
    let services = revisions
        .iter()
        .filter_map(|spec| {
            let id = spec.service.clone()?;
            Some(Arc::new(ServiceSpec {
                hosts: vec![format!("{}.{}.localhost", id.name, id.namespace).into()],
                id,
                traffic: vec![TrafficTarget { revision: spec.id.clone(), percent: 100 }],
                tags: Vec::new(),
                tag_header_routing: false,
                problem: None,
                warnings: Vec::new(),
            }))
        })
        .collect();
    World { services, revisions, ..World::default() }
}
