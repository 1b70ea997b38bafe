//! The order of going up, and of going down, whatever the home.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::admin::server::{AdminServer, Config as AdminConfig, Reviewer};
use crate::autoscaler::{Autoscaler, ProcessLimits, Restored, Statement};
use crate::cli::args::{DrainArgs, ListenArgs, LogArgs};
use crate::cli::logging::{self, LogHandle};
use crate::cli::{complain, exit};
use crate::kubernetes::client::ConnectError;
use crate::local::raise_descriptor_limit;
use crate::local::source::OpenError;
use crate::local::state::Memory;
use crate::model::RevisionId;
use crate::platform::{ConfigSource, ScaleTarget, Update, Updates};
use crate::proxy::{AccessLog, DrainState, Settings, Shared};
use crate::revision::{ProcessQueue, QueueLimits, Setting};
use crate::stats::{Clock, Pokes};
use crate::tls::NamedPair;

use super::control::{Control, ControlParts};
use super::doors::{Ports, keep_open};
use super::https::ShownAt;
use super::inherited::{InheritError, Inherited};
use super::listeners::{ListenError, Listeners, announce};
use super::live::Live;
use super::notify::Manager;
use super::orders::{Hands, orders};
use super::state::Keeping;
use super::threads::{Workers, configured, start_workers};
use super::views::{MoreFamilies, Sources, views};

/// Updates that may wait for the control loop. Few: whoever has more waits, and sends one world
/// where it would have sent several, and statements get their turn.
const UPDATES: usize = 8;
/// Statements that may wait for it.
const STATEMENTS: usize = 65_536;
/// How long the last spans may take to go to their collector.
const LAST_SPANS: Duration = Duration::from_secs(5);
/// How often the end of the last requests is looked for.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// Why serving could not begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("{0}")]
    Config(#[from] OpenError),
    #[error("{0}")]
    Log(#[from] logging::LogError),
    #[error("{0}")]
    Cluster(#[from] ConnectError),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Listen(#[from] ListenError),
    #[error("{0}")]
    Inherit(#[from] InheritError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl StartError {
    fn code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::Cluster(_)
            | Self::Inherit(_)
            | Self::Listen(ListenError::Tls(_) | ListenError::Token(_)) => exit::CONFIG,
            Self::Log(_) | Self::Usage(_) => exit::USAGE,
            Self::Listen(ListenError::Bind(_)) | Self::Io(_) => exit::FAILURE,
        }
    }
}

/// Who says how many replicas there are to be.
#[derive(Debug)]
pub(super) enum Scaling {
    /// The autoscaler, within these bounds.
    Decided(ProcessLimits),
    /// One number for good.
    Stated(Statement),
}

impl Scaling {
    fn limits(&self) -> ProcessLimits {
        match self {
            Self::Decided(limits) => *limits,
            Self::Stated(_) => ProcessLimits::default(),
        }
    }
}

/// What one home of the program has of its own.
pub(super) struct Home<F, T> {
    /// Makes the source, which may look at what its updates have become, and at decisions.
    pub(super) source: F,
    /// Makes replicas.
    pub(super) target: T,
    /// Both ends of the updates' channel.
    pub(super) updates: (Updates, mpsc::Receiver<Update>),
    /// Settings of the data listeners.
    pub(super) settings: Settings,
    /// Sockets that a service manager opened.
    pub(super) inherited: Inherited,
    /// Addresses of data listeners for callers inside: where there are any, or other machines,
    /// hosts that only those see are answered there alone.
    pub(super) inside: Vec<SocketAddr>,
    /// Certificates of single hosts, as they are found.
    pub(super) certificates: Option<watch::Receiver<Vec<NamedPair>>>,
    /// Ports that are single services', as they are wanted.
    pub(super) ports: Option<watch::Receiver<Ports>>,
    /// Bounds of waiting requests.
    pub(super) queue: QueueLimits,
    /// Told of revisions whose slots are to be looked at, where other proxies share them.
    pub(super) shares: Option<Arc<Pokes>>,
    /// Who decides.
    pub(super) scaling: Scaling,
    /// Keeps the state, if anything does.
    pub(super) memory: Option<Memory>,
    /// Who says of callers from elsewhere that the admin API is for them.
    pub(super) reviewer: Option<Reviewer>,
    /// What it can be told to do.
    pub(super) hands: Hands,
    /// Told when the way down begins.
    pub(super) drain: Option<watch::Sender<bool>>,
    /// Metrics of what only this home has.
    pub(super) families: Option<MoreFamilies>,
    /// Counts from before a restart.
    pub(super) restored: BTreeMap<RevisionId, Restored>,
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Catches them from now on.
    pub(super) fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// A channel for updates.
pub(super) fn updates() -> (Updates, mpsc::Receiver<Update>) {
    mpsc::channel(UPDATES)
}

/// Runs `life` on an event loop with a log; the exit code says how it ended.
pub(super) fn live(
    args: &LogArgs,
    life: impl AsyncFnOnce(&Arc<LogHandle>) -> Result<(), StartError>,
) -> ExitCode {
    let log = match logging::init(args.log_format, &args.log_level) {
        Ok(log) => Arc::new(log),
        Err(error) => {
            complain(error);
            return ExitCode::from(exit::USAGE);
        }
    };
    let runtime =
        match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => runtime,
            Err(error) => {
                complain(format_args!("no event loop: {error}"));
                return ExitCode::from(exit::FAILURE);
            }
        };
    let result = runtime.block_on(life(&log));
    log.flush();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(error.code())
        }
    }
}

/// Serves until a signal, then drains. The admin listener that is given back is still open.
pub(super) async fn carry<F, S, T>(
    home: Home<F, T>,
    listen: &ListenArgs,
    way_down: &DrainArgs,
    log: &Arc<LogHandle>,
    signals: &mut Signals,
) -> Result<AdminServer, StartError>
where
    F: FnOnce(&Arc<Live>, &Arc<Autoscaler>) -> S,
    S: ConfigSource + 'static,
    T: ScaleTarget + 'static,
{
    if let Err(error) = raise_descriptor_limit() {
        tracing::warn!(%error, "the limit of open files stays as it was");
    }
    home.inherited.check(listen)?;
    let outside = !home.settings.one_machine;
    let Listeners { doors, http, inside, https, https_port, admin, tls } =
        Listeners::open(listen, &home.inside, outside, home.inherited)?;
    let clock = Clock::start();
    let shared = Shared::new(Settings { https_port, ..home.settings }, clock);
    let pokes = Arc::new(Pokes::default());
    let limits = home.scaling.limits();
    let autoscaler = Arc::new(Autoscaler::new(Arc::clone(&pokes), clock, limits));
    // Without a certificate for all, only single hosts have https.
    let shown_port = https_port.filter(|_| listen.https.pairs().next().is_some());
    let shown_at = ShownAt::new(&http, &inside, shown_port);
    let seed = fastrand::u64(..);
    let workers = Rc::new(start_workers(listen.worker_count(), &shared, doors, seed)?);
    let parts = ControlParts {
        shared: Arc::clone(&shared),
        setting: setting(listen, home.queue, home.shares),
        pokes,
        target: home.target,
        seed,
        shown_at,
    };
    let mut control = Control::new(parts, Arc::clone(&autoscaler));
    control.restore(home.restored);
    let live = control.live();
    let (source, hands) = ((home.source)(&live, &autoscaler), home.hands);
    tls.keep_current();
    if let Some(certificates) = home.certificates {
        tls.take_named(certificates);
    }
    let sources = Sources {
        hands: hands.clone(),
        live: Arc::clone(&live),
        autoscaler: Arc::clone(&autoscaler),
        shared: Arc::clone(&shared),
        shown_at: shown_at.unwrap_or(ShownAt { secure: false, port: 80, inside: None }),
        instance: instance().into(),
        memory: home.memory.clone(),
        families: home.families,
        log: Arc::clone(log),
        tls,
    };
    let (reviewer, orders) = (home.reviewer, Some(orders(&live, &hands)));
    let admin = AdminServer::start(AdminConfig { reviewer, orders, ..admin }, views(sources))?;
    let (statements, stated) = mpsc::channel(STATEMENTS);
    let scaling =
        tokio::task::spawn_local(scale(home.scaling, Arc::clone(&autoscaler), statements));
    let refreshed = Rc::clone(&workers);
    let (updates, received) = home.updates;
    let opening = keep_open(home.ports, workers.doors(), http.first().copied());
    let controlling = tokio::task::spawn_local(async move {
        join(control.run(received, stated, move || refreshed.refresh()), opening).await;
    });
    let sourcing = tokio::task::spawn_local(source.run(updates));
    let keeping = Keeping::start(home.memory, &live, &autoscaler);
    configured(&shared).await;
    announce(&http, &inside, &https, admin.address());
    serving(signals).await;
    keeping.as_ref().inspect(|keeping| keeping.freeze());
    let _ = home.drain.map(|drain| drain.send_replace(true));
    tokio::select! {
        () = drain(way_down, &shared, &workers) => {}
        () = signals.next() => tracing::warn!("second signal: ending at once"),
    }
    sourcing.abort();
    scaling.abort();
    controlling.abort();
    drop(controlling.await);
    if let Some(workers) = Rc::into_inner(workers) {
        workers.stop();
    }
    shared.settings.tracer.close(way_down.drain_timeout.min(LAST_SPANS)).await;
    if let Some(keeping) = keeping {
        keeping.close().await;
    }
    Ok(admin)
}

/// Tells the service manager that requests are served, and returns with the first signal.
async fn serving(signals: &mut Signals) {
    let manager = Manager::from_environment();
    manager.ready();
    signals.next().await;
    manager.stopping();
}

fn setting(listen: &ListenArgs, queue: QueueLimits, shares: Option<Arc<Pokes>>) -> Setting {
    Setting {
        workers: listen.worker_count(),
        process: Arc::new(ProcessQueue::new(queue)),
        replans: Arc::default(),
        shares,
    }
}

/// States counts to the control loop: the autoscaler's, or the one that is given.
async fn scale(scaling: Scaling, autoscaler: Arc<Autoscaler>, statements: mpsc::Sender<Statement>) {
    if let Scaling::Stated(statement) = scaling {
        // Nobody takes it only on the way down.
        drop(statements.send(statement).await);
        return std::future::pending().await;
    }
    let mut was_behind = false;
    autoscaler
        .run(move |statement| {
            // Stated again on the next tick if the control loop is that far behind.
            let is_behind = statements.try_send(statement).is_err();
            if is_behind && !was_behind {
                tracing::warn!("the control loop is behind: counts are stated again later");
            }
            was_behind = is_behind;
        })
        .await;
}

/// The access log as the command line wants it.
pub(super) fn access_log(args: &LogArgs, log: &Arc<LogHandle>) -> Option<AccessLog> {
    args.access_log.then(|| {
        let log = Arc::clone(log);
        let sink = Arc::new(move |line| log.write_line(line));
        AccessLog { sample: args.access_log_sample, sink }
    })
}

/// The name of this instance: that of its machine or pod.
pub(super) fn instance() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Not ready, still serving; then no new connections; then the last requests, within bounds.
async fn drain(args: &DrainArgs, shared: &Arc<Shared>, workers: &Rc<Workers>) {
    tracing::info!(timeout = ?args.drain_timeout, "draining");
    shared.set_drain_state(DrainState::Draining);
    tokio::time::sleep(args.drain_delay).await;
    shared.set_drain_state(DrainState::Closing);
    workers.close_doors();
    workers.refresh();
    let ended = async {
        workers.doors_closed().await;
        let any = || shared.connections() > 0 || shared.tunnels() > 0;
        while workers.have_connections() || any() {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    };
    if tokio::time::timeout(args.drain_timeout, ended).await.is_err() {
        tracing::warn!(
            connections = shared.connections(),
            upgraded = shared.tunnels(),
            "cut off: they did not end within --drain-timeout"
        );
    }
}
