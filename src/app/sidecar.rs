//! `tidegate sidecar`: what Knative's queue-proxy is to a pod, for one backend that runs already.
//! The data path of `serve`, with one revision and one endpoint.

use std::process::ExitCode;
use std::sync::Arc;

use crate::autoscaler::Statement;
use crate::cli::args::SidecarArgs;
use crate::cli::logging::LogHandle;
use crate::config::sidecar::SidecarSettings;
use crate::local::{Backend, BackendSource, BackendTarget};
use crate::model::{Protocol, Timeouts};
use crate::proxy::{Position, Settings};
use crate::revision::QueueLimits;

use super::carry::{Home, Scaling, Signals, StartError, access_log, carry, live, updates};
use super::inherited::Inherited;
use super::orders::Hands;

/// What to do where somebody else runs the backend.
const INSTEAD: [&str; 4] = [
    "this is a sidecar: who started its backend restarts it",
    "this is a sidecar: all of its requests go to its one backend",
    "this is a sidecar: its options are all there is",
    "this is a sidecar: who started its backend has what it prints",
];

/// Serves until SIGTERM or SIGINT, then drains. A second signal ends at once.
pub fn sidecar(args: &SidecarArgs) -> ExitCode {
    let inherited = Inherited::take();
    live(&args.log, async move |log| run(args, inherited?.without_inside()?, log).await)
}

async fn run(
    args: &SidecarArgs,
    inherited: Inherited,
    log: &Arc<LogHandle>,
) -> Result<(), StartError> {
    let mut signals = Signals::catch()?;
    let protocol = if args.h2c { Protocol::H2c } else { Protocol::Http1 };
    let configured = settings(args, protocol).world().map_err(StartError::Usage)?;
    let backend = Backend {
        host: args.upstream.host.clone(),
        port: args.upstream.port,
        protocol,
        probe: configured.probe,
    };
    let revision = configured.revision;
    let depth = configured.queue_depth;
    let home = Home {
        hands: Hands::none(INSTEAD),
        reviewer: None,
        drain: None,
        source: |_: &Arc<_>, _: &Arc<_>| {
            BackendSource::new(configured.world, revision.clone(), backend)
        },
        target: BackendTarget,
        updates: updates(),
        settings: Settings {
            position: Position::Sidecar,
            health_path: args.listen.health_path.clone(),
            access_log: access_log(&args.log, log),
            ..Settings::default()
        },
        inherited,
        inside: Vec::new(),
        certificates: None,
        ports: None,
        queue: QueueLimits { revision: depth, process: depth },
        shares: None,
        scaling: Scaling::Stated(Statement { revision: revision.clone(), desired: 1 }),
        memory: None,
        families: None,
        restored: std::collections::BTreeMap::new(),
    };
    let admin = carry(home, &args.listen, &args.drain, log, &mut signals).await?;
    drop(admin);
    tracing::info!("ended");
    Ok(())
}

fn settings(args: &SidecarArgs, protocol: Protocol) -> SidecarSettings {
    SidecarSettings {
        name: args.name.clone(),
        container_concurrency: args.container_concurrency,
        queue_depth: args.queue_depth,
        queue_timeout: args.queue_timeout,
        protocol,
        timeouts: Timeouts {
            request: args.timeout,
            response_start: args.response_start_timeout,
            idle: args.idle_timeout,
        },
        readiness_path: args.readiness_path.clone(),
        readiness_period: args.readiness_period,
    }
}
