//! `tidegate serve -f`: manifests in files, replicas as child processes.

use std::cell::RefCell;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use http::StatusCode;
use tokio::sync::{mpsc, oneshot};

use crate::admin::order::Declined;
use crate::autoscaler::ProcessLimits;
use crate::cli::args::ServeArgs;
use crate::cli::logging::LogHandle;
use crate::config::settings::{LoggingSettings, TakeLogging, Takers};
use crate::local::source::{Ask, FileSource, OpenError, TrafficAsk};
use crate::local::{Supervisor, SupervisorHandle, SupervisorSettings};
use crate::proxy::Settings;
use crate::revision::QueueLimits;

use super::carry::{Home, Scaling, Signals, StartError, access_log, carry, live, updates};
use super::inherited::Inherited;
use super::orders::{ExportAll, Hands, Renew, SetTraffic, declined};
use super::rollouts::outcome;
use super::state::{place, restored};
use super::traced::take_observability;
use super::validate::loader_options;

/// Serves until SIGTERM or SIGINT, then drains. A second signal ends at once.
pub fn serve(args: &ServeArgs) -> ExitCode {
    let inherited = Inherited::take();
    live(&args.log, async move |log| {
        let inherited = inherited?;
        if args.cluster.kubernetes {
            return super::kubernetes::run(args, inherited, log).await;
        }
        run(args, inherited, log).await
    })
}

async fn run(
    args: &ServeArgs,
    inherited: Inherited,
    log: &Arc<LogHandle>,
) -> Result<(), StartError> {
    let mut signals = Signals::catch()?;
    let settings = proxy_settings(args, log);
    let mut source = open_source(args, takers(log, &settings)).await?;
    let (updates, received) = updates();
    // Before the limit of open files is raised: the guard and all it starts keep the original one.
    let supervisor = Supervisor::start(supervisor_settings(args)?, updates.clone())?;
    let home = Home {
        hands: hands(&supervisor.handle(), source.asks()),
        target: supervisor.handle(),
        updates: (updates, received),
        settings,
        inherited,
        inside: args.http_internal.clone(),
        certificates: None,
        ports: None,
        queue: QueueLimits::default(),
        shares: None,
        scaling: Scaling::Decided(ProcessLimits { max_replicas: Some(args.max_replicas) }),
        memory: source.memory(),
        families: None,
        restored: restored(source.take_replicas()),
        reviewer: None,
        drain: None,
        source: |live: &Arc<_>, _: &Arc<_>| source.with_outcome(outcome(Arc::clone(live))),
    };
    let admin = carry(home, &args.listen, &args.drain, log, &mut signals).await?;
    supervisor.shutdown().await;
    drop(admin);
    tracing::info!("ended");
    Ok(())
}

/// What can be done to replicas on this machine, and to traffic of manifests.
fn hands(supervisor: &SupervisorHandle, asks: mpsc::Sender<Ask>) -> Hands {
    let printed = Arc::clone(supervisor.printed());
    let supervisor = supervisor.clone();
    let renew: Renew = Box::new(move |revision| {
        let supervisor = supervisor.clone();
        Box::pin(
            async move { supervisor.renew(&revision).await.map_err(|error| error.to_string()) },
        )
    });
    let exported = asks.clone();
    let traffic: SetTraffic = Box::new(move |service, new, dry_run| {
        let (reply, answer) = oneshot::channel();
        let ask = Ask::Traffic(TrafficAsk { service, new, dry_run, reply });
        let asked = asked(asks.clone(), ask, answer);
        Box::pin(async move { asked.await?.map_err(|error| declined(&error)) })
    });
    let export: ExportAll = Box::new(move |secrets| {
        let (reply, answer) = oneshot::channel();
        Box::pin(asked(exported.clone(), Ask::Export(secrets, reply), answer))
    });
    Hands::new(renew, traffic, export, printed)
}

/// What the source answers.
async fn asked<T>(
    asks: mpsc::Sender<Ask>,
    ask: Ask,
    answer: oneshot::Receiver<T>,
) -> Result<T, Declined> {
    let gone = || Declined::new(StatusCode::SERVICE_UNAVAILABLE, "tidegate is going down");
    asks.send(ask).await.map_err(|_closed| gone())?;
    answer.await.map_err(|_closed| gone())
}

/// Reads the manifests, on top of what is remembered of a life before.
async fn open_source(args: &ServeArgs, takers: Takers) -> Result<FileSource, OpenError> {
    let default_service = args.default_service.as_ref().map(ToString::to_string);
    FileSource::open(
        args.manifests.files.clone(),
        loader_options(&args.manifests, default_service),
        takers,
        place(args.state_dir.as_ref()).as_ref(),
    )
    .await
}

pub(super) fn proxy_settings(args: &ServeArgs, log: &Arc<LogHandle>) -> Settings {
    Settings {
        health_path: args.listen.health_path.clone(),
        trusted_proxies: args.trusted_proxies.clone(),
        access_log: access_log(&args.log, log),
        ..Settings::default()
    }
}

fn supervisor_settings(args: &ServeArgs) -> io::Result<SupervisorSettings> {
    let detected = SupervisorSettings::detect()?;
    Ok(SupervisorSettings {
        replicas_bound: detected.replicas_bound.max(args.max_replicas),
        shutdown_grace: args.drain.drain_timeout.min(detected.shutdown_grace),
        ..detected
    })
}

/// Logs and traces change as the configuration does.
pub(super) fn takers(log: &Arc<LogHandle>, settings: &Settings) -> Takers {
    Takers {
        logging: take_logging(log),
        observability: take_observability(settings.tracer.clone()),
    }
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
