//! `tidegate serve`: the order of going up, and of going down.

use std::cell::RefCell;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::admin::server::{AdminServer, Config as AdminConfig};
use crate::autoscaler::{Autoscaler, ProcessLimits, Statement};
use crate::cli::args::ServeArgs;
use crate::cli::logging::{self, LogHandle};
use crate::cli::{complain, exit};
use crate::config::settings::LoggingSettings;
use crate::local::source::{FileSource, OpenError, TakeLogging};
use crate::local::{Supervisor, SupervisorSettings, raise_descriptor_limit};
use crate::platform::ConfigSource;
use crate::proxy::{AccessLog, DrainState, Settings, Shared};
use crate::revision::{ProcessQueue, QueueLimits, Setting};
use crate::stats::{Clock, Pokes};

use super::control::{Control, ControlParts};
use super::https::ShownAt;
use super::listeners::{ListenError, Listeners, announce};
use super::rollouts::outcome;
use super::state::{Keeping, place, restored};
use super::threads::{Workers, start_workers};
use super::validate::loader_options;
use super::views::{Sources, views};

/// Updates and statements that may wait for the control loop.
const UPDATES: usize = 1024;
const STATEMENTS: usize = 65_536;
/// How often the end of the last requests is looked for.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// Why serving could not begin.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("{0}")]
    Config(#[from] OpenError),
    #[error("{0}")]
    Log(#[from] logging::LogError),
    #[error("{0}")]
    Listen(#[from] ListenError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Serves until SIGTERM or SIGINT, then drains. A second signal ends at once.
pub fn serve(args: &ServeArgs) -> ExitCode {
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
    let result = runtime.block_on(run(args, &log));
    log.flush();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(match error {
                StartError::Config(_) | StartError::Listen(ListenError::Tls(_)) => exit::CONFIG,
                StartError::Log(_) => exit::USAGE,
                StartError::Listen(ListenError::Bind(_)) | StartError::Io(_) => exit::FAILURE,
            })
        }
    }
}

async fn run(args: &ServeArgs, log: &Arc<LogHandle>) -> Result<(), StartError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut source = open_source(args, log).await?;
    let memory = source.memory();
    let (updates, received) = mpsc::channel(UPDATES);
    // Before the limit is raised: the guard and all it starts keep the original one.
    let supervisor = Supervisor::start(supervisor_settings(args)?, updates.clone())?;
    if let Err(error) = raise_descriptor_limit() {
        tracing::warn!(%error, "the limit of open files stays as it was");
    }
    let Listeners { doors, http, https, admin, tls } = Listeners::open(args)?;
    let clock = Clock::start();
    let shared = Shared::new(proxy_settings(args, log), clock);
    let pokes = Arc::new(Pokes::default());
    let limits = ProcessLimits { max_replicas: Some(args.max_replicas) };
    let autoscaler = Arc::new(Autoscaler::new(Arc::clone(&pokes), clock, limits));
    let shown_at = ShownAt::new(&http, &https);
    let seed = fastrand::u64(..);
    let workers = Rc::new(start_workers(args.worker_count(), &shared, doors, seed)?);
    let parts = ControlParts {
        shared: Arc::clone(&shared),
        setting: setting(args),
        pokes,
        target: supervisor.handle(),
        seed,
        shown_at,
    };
    let mut control = Control::new(parts, Arc::clone(&autoscaler));
    control.restore(restored(source.take_replicas()));
    let live = control.live();
    let source = source.with_outcome(outcome(Arc::clone(&live)));
    let sources = Sources {
        live: Arc::clone(&live),
        autoscaler: Arc::clone(&autoscaler),
        shared: Arc::clone(&shared),
        shown_at: shown_at.unwrap_or(ShownAt { secure: false, port: 80 }),
        instance: instance().into(),
        memory: memory.clone(),
        log: Arc::clone(log),
        tls,
    };
    let config = AdminConfig { listener: admin, hosts: args.admin_host.clone() };
    let admin = AdminServer::start(config, views(sources))?;
    let (statements, stated) = mpsc::channel(STATEMENTS);
    let scaling = tokio::task::spawn_local(scale(Arc::clone(&autoscaler), statements));
    let refreshed = Rc::clone(&workers);
    let controlling = tokio::task::spawn_local(async move {
        control.run(received, stated, move || refreshed.refresh()).await;
    });
    let sourcing = tokio::task::spawn_local(source.run(updates));
    let keeping = Keeping::start(memory, &live, &autoscaler);
    wait_until_serving(&shared).await;
    announce(&http, &https, admin.address());
    stop_signal(&mut terminate, &mut interrupt).await;
    keeping.as_ref().inspect(|keeping| keeping.freeze());
    tokio::select! {
        () = drain(args, &shared, &workers) => {}
        () = stop_signal(&mut terminate, &mut interrupt) => {
            tracing::warn!("second signal: ending at once");
        }
    }
    sourcing.abort();
    scaling.abort();
    controlling.abort();
    drop(controlling.await);
    if let Some(workers) = Rc::into_inner(workers) {
        workers.stop();
    }
    if let Some(keeping) = keeping {
        keeping.close().await;
    }
    supervisor.shutdown().await;
    drop(admin);
    tracing::info!("ended");
    Ok(())
}

/// Reads the manifests, on top of what is remembered of a life before.
async fn open_source(args: &ServeArgs, log: &Arc<LogHandle>) -> Result<FileSource, OpenError> {
    let default_service = args.default_service.as_ref().map(ToString::to_string);
    FileSource::open(
        args.manifests.files.clone(),
        loader_options(&args.manifests, default_service),
        take_logging(log),
        place(args.state_dir.as_ref()).as_ref(),
    )
    .await
}

fn setting(args: &ServeArgs) -> Setting {
    Setting {
        workers: args.worker_count(),
        process: Arc::new(ProcessQueue::new(QueueLimits::default())),
        replans: Arc::default(),
    }
}

/// Runs the autoscaler; its statements go to the control loop.
async fn scale(autoscaler: Arc<Autoscaler>, statements: mpsc::Sender<Statement>) {
    autoscaler
        .run(move |statement| {
            // Stated again on the next tick if the control loop is that far behind.
            if statements.try_send(statement).is_err() {
                tracing::warn!("the control loop is behind");
            }
        })
        .await;
}

fn proxy_settings(args: &ServeArgs, log: &Arc<LogHandle>) -> Settings {
    Settings {
        health_path: args.health_path.clone(),
        trusted_proxies: args.trusted_proxies.clone(),
        access_log: args.access_log.then(|| {
            let log = Arc::clone(log);
            let sink = Arc::new(move |line| log.write_line(line));
            AccessLog { sample: args.access_log_sample, sink }
        }),
        ..Settings::default()
    }
}

fn supervisor_settings(args: &ServeArgs) -> io::Result<SupervisorSettings> {
    let detected = SupervisorSettings::detect()?;
    Ok(SupervisorSettings {
        replicas_bound: detected.replicas_bound.max(args.max_replicas),
        shutdown_grace: args.drain_timeout.min(detected.shutdown_grace),
        ..detected
    })
}

/// Levels and collectors change as the configuration does.
fn take_logging(log: &Arc<LogHandle>) -> TakeLogging {
    let log = Arc::clone(log);
    let said = RefCell::new(Vec::new());
    Box::new(move |settings: Option<&LoggingSettings>| {
        let levels = settings.map(super::levels::levels).unwrap_or_default();
        log.set_levels(levels.by_target);
        log.set_forwarders(settings.map_or(&[], |settings| &settings.forwarders));
        if *said.borrow() != levels.unknown {
            let loggers = levels.unknown.join(", ");
            if !loggers.is_empty() {
                tracing::warn!(%loggers, "levels without effect: there are no such parts here");
            }
            said.replace(levels.unknown);
        }
    })
}

fn instance() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

async fn wait_until_serving(shared: &Shared) {
    while shared.drain_state() < DrainState::Serving {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn stop_signal(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Not ready, still serving; then no new connections; then the last requests, within bounds.
async fn drain(args: &ServeArgs, shared: &Arc<Shared>, workers: &Rc<Workers>) {
    tracing::info!(timeout = ?args.drain_timeout, "draining");
    shared.set_drain_state(DrainState::Draining);
    tokio::time::sleep(args.drain_delay).await;
    shared.set_drain_state(DrainState::Closing);
    workers.close_doors();
    workers.refresh();
    let ended = async {
        while shared.connections() > 0 || shared.tunnels() > 0 {
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
