//! The other proxies of the cluster.

use std::net::{Ipv6Addr, SocketAddr};

use super::super::carry::StartError;
use super::super::listeners::bind_peers;
use super::super::views::MoreFamilies;
use super::reachable;
use crate::admin::metrics::{Family, Kind, Value};
use crate::cli::args::ServeArgs;
use crate::kubernetes::peers::{PeerId, Peers, PeersConfig, PeersThread};

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
            pod: given("POD_NAMESPACE").zip(given("POD_UID")),
        }
    }

    /// The other proxies, not called yet; none where this is the only one.
    pub(super) fn peers(&self) -> Option<Peers> {
        let (_, uid) = self.pod.as_ref()?;
        Some(Peers::new(self.me.clone(), uid))
    }
}

/// Starts to speak with them.
pub(super) fn start(
    args: &ServeArgs,
    place: &Place,
    peers: Option<&Peers>,
) -> Result<Option<PeersThread>, StartError> {
    let (Some(peers), Some((namespace, uid))) = (peers, &place.pod) else {
        tracing::info!("POD_UID and POD_NAMESPACE are not set: this is the only proxy");
        return Ok(None);
    };
    let listener = bind_peers(reachable(args.cluster.peers.unwrap_or(ADDRESS)))?;
    let config = PeersConfig { listener, namespace: namespace.clone(), uid: uid.clone() };
    Ok(Some(PeersThread::start(peers.clone(), config)?))
}

/// Metrics of who is there.
pub(super) fn families(peers: &Peers) -> MoreFamilies {
    let members = peers.members();
    Box::new(move || {
        let (connected, missing) = {
            let members = members.borrow();
            (members.connected.len(), members.cut_off.len() + members.unheard.len())
        };
        let gauge = |name, help, count: usize| {
            Family::new(name, Kind::Gauge, help).single(Value::Whole(count as u64))
        };
        vec![
            gauge(
                "tidegate_peers_connected",
                "Other proxies that this one speaks with.",
                connected,
            ),
            gauge(
                "tidegate_peers_missing",
                "Other proxies that may have requests and cannot be reached: nothing is scaled \
                 down while there is one.",
                missing,
            ),
        ]
    })
}
