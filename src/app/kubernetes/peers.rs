//! The other proxies of the cluster.

use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};

use super::super::carry::StartError;
use super::super::listeners::bind_peers;
use super::super::live::Live;
use super::super::views::MoreFamilies;
use super::slots::SharedRevisions;
use super::{reachable, spawn};
use crate::admin::metrics::{Family, Kind, Value};
use crate::autoscaler::Autoscaler;
use crate::cli::args::ServeArgs;
use crate::kubernetes::client::pod_namespace;
use crate::kubernetes::lease::{Hints, Leadership};
use crate::kubernetes::observed::Observed;
use crate::kubernetes::peers::{PeerId, Peers, PeersConfig, PeersThread, Reports, Sources};
use crate::kubernetes::slots::Slots;
use crate::stats::Pokes;

/// Where they call if nothing is said.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED), 8445);

/// What the pod says of itself.
#[derive(Debug)]
pub(super) struct Place {
    /// This life of it.
    pub(super) me: PeerId,
    /// Its namespace and UID, where other proxies can find it.
    pub(super) pod: Option<(String, String)>,
}

impl Place {
    /// By the variables `POD_NAME`, `POD_NAMESPACE` and `POD_UID`; outside of a pod the machine's
    /// name, and nobody else.
    pub(super) fn from_environment() -> Self {
        let given = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let machine = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self {
            me: PeerId::new(&given("POD_NAME").unwrap_or_else(machine)),
            pod: pod_namespace().zip(given("POD_UID")),
        }
    }
}

/// The other proxies, with what is spoken with them.
pub(super) struct Others {
    peers: Peers,
    listener: TcpListener,
    namespace: String,
    uid: String,
    /// The only namespace that is served, if it is only one.
    served: Option<String>,
    /// Reports that were lost, once there is somebody who counts them.
    reports: Arc<OnceLock<Arc<Reports>>>,
    /// Revisions whose slots are to be looked at.
    shares: Arc<Pokes>,
}

impl Others {
    /// Opens where they call; none where this is the only proxy.
    pub(super) fn open(args: &ServeArgs, place: &Place) -> Result<Option<Self>, StartError> {
        let Some((namespace, uid)) = place.pod.clone() else {
            tracing::info!("POD_UID and POD_NAMESPACE are not set: this is the only proxy");
            return Ok(None);
        };
        let listener = bind_peers(reachable(args.cluster.peers.unwrap_or(ADDRESS)))?;
        let peers = Peers::new(place.me.clone(), &uid);
        Ok(Some(Self {
            peers,
            listener,
            namespace,
            uid,
            served: args.cluster.namespace.clone(),
            reports: Arc::default(),
            shares: Arc::default(),
        }))
    }

    /// Who they are.
    pub(super) fn peers(&self) -> Peers {
        self.peers.clone()
    }

    /// Told of revisions whose slots are to be looked at.
    pub(super) fn shares(&self) -> Arc<Pokes> {
        Arc::clone(&self.shares)
    }

    /// Speaks with them: every proxy decides from the load of all. None if that cannot be started;
    /// then nothing is lowered.
    pub(super) fn start(
        self,
        live: &Arc<Live>,
        autoscaler: &Arc<Autoscaler>,
        leadership: Leadership,
        hints: Arc<Hints>,
        observed: Arc<Observed>,
    ) -> Option<PeersThread> {
        autoscaler.set_incomplete(true);
        let reports = Reports::new(sources(live));
        reports.listen(&self.peers);
        drop(self.reports.set(Arc::clone(&reports)));
        let (mut members, autoscaler) = (self.peers.members(), Arc::clone(autoscaler));
        let poked = autoscaler.pokes().also();
        drop(spawn(async move {
            loop {
                let is_complete = members.borrow_and_update().is_complete();
                autoscaler.set_incomplete(!is_complete);
                if members.changed().await.is_err() {
                    return;
                }
            }
        }));
        let slots = Slots {
            local: Box::new(SharedRevisions::new(live)),
            pokes: self.shares,
            leadership,
            hints,
            observed,
            namespace: self.served,
        };
        let slots = slots.sit_down(&self.peers);
        let config = PeersConfig {
            listener: self.listener,
            namespace: self.namespace,
            uid: self.uid,
            reports,
            poked,
            slots,
        };
        PeersThread::start(self.peers, config)
            .inspect_err(|error| tracing::error!(%error, "other proxies cannot be spoken with"))
            .ok()
    }
}

/// What is told to the others, and what they tell.
fn sources(live: &Arc<Live>) -> Sources {
    let [all, one, here, elsewhere] = [(); 4].map(|()| Arc::clone(live));
    Sources {
        all: Box::new(move || all.revisions().iter().map(|r| Arc::clone(r.stats())).collect()),
        one: Box::new(move |id| one.revision(id).map(|r| Arc::clone(r.stats()))),
        loads: Box::new(move |id| here.revision(id).map_or_else(Vec::new, |r| r.loads())),
        elsewhere: Box::new(move |id, proxy, loads| {
            if let Some(revision) = elsewhere.revision(id) {
                revision.set_loads_elsewhere(proxy, loads);
            }
        }),
    }
}

impl Others {
    /// Metrics of who is there.
    pub(super) fn families(&self) -> MoreFamilies {
        let (members, reports) = (self.peers.members(), Arc::clone(&self.reports));
        Box::new(move || {
            let (connected, missing) = {
                let members = members.borrow();
                (members.connected.len(), members.cut_off.len() + members.unheard.len())
            };
            let lost = reports.get().map_or(0, |reports| reports.lost());
            peer_families(connected as u64, missing as u64, lost)
        })
    }
}

/// Metrics of other proxies: how many are spoken with, how many are missing, and how many reports
/// did not come.
pub fn peer_families(connected: u64, missing: u64, lost: u64) -> Vec<Family> {
    let family =
        |name, kind, help, count| Family::new(name, kind, help).single(Value::Whole(count));
    vec![
        family(
            "tidegate_peers_connected",
            Kind::Gauge,
            "Other proxies that this one speaks with.",
            connected,
        ),
        family(
            "tidegate_peers_missing",
            Kind::Gauge,
            "Other proxies that may have requests and cannot be reached: nothing is scaled down \
             while there is one.",
            missing,
        ),
        family(
            "tidegate_peer_reports_lost",
            Kind::Counter,
            "Reports of load of other proxies that did not come.",
            lost,
        ),
    ]
}
