//! `tidegate serve --kubernetes`: objects of a cluster, replicas as pods.

mod admin;
mod aside;
mod peers;
mod prestop;
mod slots;
mod webhook;

pub use peers::peer_families;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::autoscaler::{Autoscaler, ProcessLimits};
use crate::cli::args::{HttpsArgs, ListenArgs, ServeArgs};
use crate::cli::logging::LogHandle;
use crate::kubernetes::SETTINGS_NAMESPACE;
use crate::kubernetes::adoption;
use crate::kubernetes::certificates::{self, HostCertificate};
use crate::kubernetes::client::connect;
use crate::kubernetes::controller;
use crate::kubernetes::feed::{Feed, Relays};
use crate::kubernetes::foreign::{Ownership, Recogniser, recognise};
use crate::kubernetes::kinds::Kind;
use crate::kubernetes::lease::{Leadership, Leading, LeaseSettings, elect};
use crate::kubernetes::observed::Observed;
use crate::kubernetes::scale::{KubernetesTarget, Why};
use crate::kubernetes::source::{Heard, KubernetesSource, Scope};
use crate::kubernetes::spread::{Here, Spread};
use crate::kubernetes::trials::{Counted, Trials};
use crate::model::RevisionId;
use crate::proxy::Settings;
use crate::revision::QueueLimits;
use crate::tls::NamedPair;

use super::carry::{Home, Scaling, Signals, StartError, carry, updates};
use super::inherited::Inherited;
use super::live::Live;
use super::orders::Hands;
use super::rollouts::counted;
use super::serve::{proxy_settings, takers};
use aside::Aside;
use peers::{Others, Place};

/// What to do where the cluster's own means are the right ones, with the rights of who does it.
const INSTEAD: [&str; 4] = [
    "this tidegate serves a cluster, whose pods are replaced with your own rights: add --kubernetes",
    "this tidegate serves a cluster, whose Services are changed with your own rights: add --kubernetes",
    "this tidegate serves a cluster, which is read with your own rights: add --kubernetes",
    "this tidegate serves a cluster, which keeps what pods print: kubectl logs -n NAMESPACE -l \
     serving.knative.dev/revision=REVISION --all-containers --prefix",
];

/// Serves until SIGTERM or SIGINT, then drains.
pub(super) async fn run(
    args: &ServeArgs,
    inherited: Inherited,
    log: &Arc<LogHandle>,
) -> Result<(), StartError> {
    let mut signals = Signals::catch()?;
    let place = Place::from_environment();
    let others = Others::open(args, &place)?;
    let scope = scope(args.cluster.namespace.as_deref());
    let observed = Arc::new(Observed::default());
    let (leading, leadership) = elect();
    let (drain, draining) = watch::channel(false);
    // Each part has connections of its own: what one does, another does not wait for.
    let settings = Settings { one_machine: false, ..proxy_settings(args, log) };
    let take = takers(log, &settings);
    let source =
        KubernetesSource::new(connect().await?, scope.clone(), Arc::clone(&observed), take);
    let (recogniser, ownership) = recognise();
    let (relays, fed) = Fed::all();
    let source = source.beside(ownership.alone()).relaying(relays);
    let target =
        KubernetesTarget::new(connect().await?, Arc::clone(&observed), leadership.clone(), &source);
    let (found, certificates) = watch::channel(Vec::new());
    let known: (Arc<Spread>, Arc<Trials>) = Default::default();
    let turns = [true, false].map(|alone| leads_and(alone, &leadership, &ownership));
    let controller = controller(&scope, fed.controller, &known, turns, source.complete()).await?;
    let mut tasks = vec![following_certificates(fed.domain_mappings, found).await?];
    let adopted = source.adoption();
    tasks.push(spawn(adoption::keep(Rc::clone(&adopted), connect().await?, leadership.watch())));
    tasks.push(keeping_warm(target.clone()));
    tasks.push(recognising(recogniser, scope.settings.clone()).await?);
    let webhook =
        webhook::start(args, &scope, &leadership, &ownership, fed.config_maps, &known.0).await?;
    let client = connect().await?;
    let hooks = prestop::open(args)?;
    let lease = LeaseSettings::from_environment(&client, &place.me.0);
    let hints = Arc::clone(&lease.hints);
    let electing = tokio::task::spawn_local(elected(client, lease, leading, draining));
    let speaking = Rc::new(RefCell::new(None));
    let spoken = Rc::clone(&speaking);
    let holding = Rc::new(RefCell::new(None));
    let held = Rc::clone(&holding);
    let explained = target.clone();
    let home = Home {
        hands: Hands::none(INSTEAD),
        target,
        updates: updates(),
        settings,
        inherited,
        inside: args.http_internal.iter().map(|address| reachable(*address)).collect(),
        certificates: Some(certificates),
        ports: Some(adopted.ports()),
        reviewer: Some(admin::reviewer(connect().await?)),
        queue: QueueLimits::default(),
        shares: others.as_ref().map(Others::shares),
        scaling: Scaling::Decided(ProcessLimits::default()),
        memory: None,
        families: others.as_ref().map(Others::families),
        restored: BTreeMap::new(),
        drain: Some(drain),
        source: move |live: &Arc<Live>, autoscaler: &Arc<Autoscaler>| {
            let peers = others.as_ref().map(Others::peers);
            *held.borrow_mut() = hooks.and_then(|hooks| prestop::start(hooks, live, peers.clone()));
            known.0.begin(in_effect(Arc::clone(live)), peers);
            known.1.begin(counting(Arc::clone(live)));
            *spoken.borrow_mut() = others
                .and_then(|others| others.start(live, autoscaler, leadership, hints, observed));
            explained.explain(why(Arc::clone(autoscaler)));
            source.hearing(heard(Arc::clone(live)))
        },
    };
    let listen = reachable_listeners(&args.listen);
    let admin = carry(home, &listen, &args.drain, log, &mut signals).await?;
    tasks.iter().for_each(JoinHandle::abort);
    drop(controller);
    drop(webhook);
    drop(electing.await);
    // Pods that are still held may have requests of other proxies.
    drop(holding.take());
    // Last: until then it has a say, and requests.
    drop(speaking.take());
    drop(admin);
    tracing::info!("ended");
    Ok(())
}

/// Keeps the connection warm by which counts are written.
fn keeping_warm(target: KubernetesTarget) -> JoinHandle<()> {
    tokio::task::spawn_local(async move { target.keep_warm().await })
}

/// Has Knative recognised, by what lives in its namespace.
async fn recognising(
    recogniser: Recogniser,
    namespace: String,
) -> Result<JoinHandle<()>, StartError> {
    let client = connect().await?;
    Ok(spawn(async move { recogniser.run(&client, &namespace).await }))
}

/// What the source's watches are relayed to.
struct Fed {
    controller: controller::Feeds,
    domain_mappings: Feed,
    config_maps: Feed,
}

impl Fed {
    fn all() -> (Relays, Self) {
        let mut relays = Relays::default();
        let fed = Self {
            controller: controller::Feeds::of(&mut relays),
            domain_mappings: relays.feed(Kind::DomainMapping, None),
            config_maps: relays.feed(Kind::ConfigMap, None),
        };
        (relays, fed)
    }
}

/// Takes part in the election until the drain: the Lease is given up then, so that the next one
/// need not wait for its end.
async fn elected(
    client: Client,
    settings: LeaseSettings,
    leading: Leading,
    mut draining: watch::Receiver<bool>,
) {
    // Gone without a word is the end, too.
    let stopped = async { drop(draining.wait_for(|draining| *draining).await) };
    leading.run(&client, &settings, stopped).await;
}

/// Whether this replica leads, and no Knative lives – only then Knative's kinds are written here –
/// or one does: then what is in its way goes.
fn leads_and(
    wanted: bool,
    leadership: &Leadership,
    ownership: &Ownership,
) -> watch::Receiver<bool> {
    let (mut leading, mut alone) = (leadership.watch(), ownership.alone());
    let (both, watched) = watch::channel(false);
    drop(spawn(async move {
        loop {
            let is_wanted = *alone.borrow_and_update() == Some(wanted);
            let is_so = *leading.borrow_and_update() && is_wanted;
            both.send_if_modified(|was_so| std::mem::replace(was_so, is_so) != is_so);
            tokio::select! {
                Ok(()) = leading.changed() => {}
                Ok(()) = alone.changed() => {}
                else => return,
            }
        }
    }));
    watched
}

/// The configuration in effect here.
fn in_effect(live: Arc<Live>) -> Here {
    Box::new(move || live.world())
}

/// What is counted here, and reported by other proxies, of revisions beside each other.
fn counting(live: Arc<Live>) -> Counted {
    Box::new(move |old, new, since| counted(&live, old, new, since))
}

/// Whether a revision got a request here.
fn heard(live: Arc<Live>) -> Heard {
    Box::new(move |id: &RevisionId| {
        let revision = live.revision(id);
        revision.is_some_and(|revision| {
            let stats = revision.stats();
            stats.read(stats.clock().now()).arrivals > 0
        })
    })
}

/// Keeps the objects of the cluster in order.
async fn controller(
    scope: &Scope,
    feeds: controller::Feeds,
    known: &(Arc<Spread>, Arc<Trials>),
    [leading, giving_way]: [watch::Receiver<bool>; 2],
    routed: watch::Receiver<bool>,
) -> Result<Aside, StartError> {
    let namespace = scope.namespace.clone();
    let now = Timestamp::now;
    let (spread, trials) = known.clone();
    let options = controller::Options { namespace, now, spread, trials, routed, giving_way };
    Aside::start("controller", async move |client| {
        Box::pin(controller::run(client, options, feeds, leading)).await;
    })
    .await
}

async fn following_certificates(
    domain_mappings: Feed,
    certificates: watch::Sender<Vec<NamedPair>>,
) -> Result<JoinHandle<()>, StartError> {
    let following = certificates::follow(connect().await?, domain_mappings, move |found| {
        certificates.send_replace(found.into_iter().map(named).collect());
    });
    Ok(spawn(following))
}

fn named(found: HostCertificate) -> NamedPair {
    NamedPair {
        host: found.host,
        source: format!("Secret {}", found.secret).into(),
        certificate: found.certificate,
        key: found.key,
    }
}

fn spawn(work: impl Future<Output = ()> + 'static) -> JoinHandle<()> {
    tokio::task::spawn_local(work)
}

/// Which objects matter: where only one namespace is looked at, its ConfigMaps are the settings.
fn scope(namespace: Option<&str>) -> Scope {
    let given = std::env::var("SYSTEM_NAMESPACE").ok().filter(|name| !name.is_empty());
    let settings = given.or_else(|| namespace.map(str::to_owned));
    Scope {
        namespace: namespace.map(str::to_owned),
        settings: settings.unwrap_or_else(|| SETTINGS_NAMESPACE.to_owned()),
    }
}

fn reachable_listeners(listen: &ListenArgs) -> ListenArgs {
    let all = |addresses: &[SocketAddr]| addresses.iter().copied().map(reachable).collect();
    ListenArgs {
        http: all(&listen.http),
        https: HttpsArgs { https: all(&listen.https.https), ..listen.https.clone() },
        admin: reachable(listen.admin),
        ..listen.clone()
    }
}

/// The address, or its like of IPv4 on a node without IPv6.
fn reachable(address: SocketAddr) -> SocketAddr {
    let is_any = address.is_ipv6() && address.ip().is_unspecified();
    if is_any && std::net::UdpSocket::bind("[::1]:0").is_err() {
        return SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port());
    }
    address
}

/// Why a revision has the count it has: its last decision.
fn why(autoscaler: Arc<Autoscaler>) -> Why {
    Box::new(move |id: &RevisionId| {
        let decision = autoscaler.recent(id).pop()?;
        let view = autoscaler.view(id)?;
        Some(format!(
            "load {:.1} over the stable window, {:.1} over the panic window, {} waiting; target \
             {} each",
            // Without the sign of a negative zero.
            decision.stable + 0.0,
            decision.panic + 0.0,
            decision.waiting,
            view.target
        ))
    })
}
