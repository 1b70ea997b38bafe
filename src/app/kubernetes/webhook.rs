//! The admission webhook beside the data plane.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::super::carry::StartError;
use super::super::listeners::bind_webhook;
use super::{reachable, spawn};
use crate::cli::args::ServeArgs;
use crate::config::order::Needs;
use crate::kubernetes::client::{connect, own_namespace, pod_namespace};
use crate::kubernetes::feed::Feed;
use crate::kubernetes::foreign::Ownership;
use crate::kubernetes::lease::Leadership;
use crate::kubernetes::source::Scope;
use crate::kubernetes::spread::Spread;
use crate::kubernetes::webhook::{
    KeeperSettings, LiveSettings, NeedsOf, Reach, Served, WebhookConfig, WebhookServer, keep,
};

/// Where it listens if nothing is said.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED), 8444);

/// A running webhook with what keeps its certificate, registration and settings.
pub(super) struct Webhook {
    _server: WebhookServer,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Starts it where the API server can be told of it: not for one namespace, which has no right to
/// say what is asked of all, and not without an address.
pub(super) async fn start(
    args: &ServeArgs,
    scope: &Scope,
    leadership: &Leadership,
    ownership: &Ownership,
    config_maps: Feed,
    spread: &Arc<Spread>,
) -> Result<Option<Webhook>, StartError> {
    let reach = match (&args.cluster.webhook_url, pod_namespace()) {
        (Some(url), _) => Reach::Url(url.clone()),
        (None, Some(namespace)) => Reach::Service { namespace },
        (None, None) => {
            tracing::info!(
                "no pod and no --webhook-url: objects are checked when they are taken up"
            );
            return Ok(None);
        }
    };
    if scope.namespace.is_some() {
        tracing::info!("with --namespace objects are checked when they are taken up");
        return Ok(None);
    }
    let listener = bind_webhook(reachable(args.cluster.webhook.unwrap_or(ADDRESS)))?;
    let (served, settings) = (Arc::new(Served::default()), Arc::new(LiveSettings::default()));
    let config = WebhookConfig {
        listener,
        served: Arc::clone(&served),
        settings: Arc::clone(&settings),
        client: Some(connect().await?),
        needs: needs(Arc::clone(spread)),
    };
    let server = WebhookServer::start(config)?;
    tracing::info!(address = %server.address(), "answers the API server's questions about objects");
    let client = connect().await?;
    let keeper = KeeperSettings {
        namespace: own_namespace(&client),
        reach,
        settings_namespace: scope.settings.clone(),
    };
    let keeping = keep(client, keeper, served, leadership.clone(), ownership.alone());
    let following = async move { settings.follow(config_maps).await };
    Ok(Some(Webhook { _server: server, tasks: vec![spawn(keeping), spawn(following)] }))
}

/// What services depend on by the revisions that they lead to; nothing while nothing is known.
fn needs(spread: Arc<Spread>) -> NeedsOf {
    Arc::new(move || {
        let Some(world) = spread.here() else { return Needs::new() };
        let mut needs = Needs::new();
        for service in &world.services {
            let tagged = service.tags.iter().map(|tag| &tag.revision);
            let revisions = service.routed().chain(tagged).filter_map(|id| world.revision(id));
            let needed = revisions.flat_map(|revision| &revision.depends_on);
            needs.insert(service.id.clone(), needed.map(|needed| needed.service.clone()).collect());
        }
        needs
    })
}
