//! The hooks of pods that have to go.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::super::carry::StartError;
use super::super::listeners::bind_prestop;
use super::super::live::Live;
use super::reachable;
use crate::cli::args::ServeArgs;
use crate::kubernetes::client::pod_namespace;
use crate::kubernetes::peers::Peers;
use crate::kubernetes::prestop::{Left, Look, PreStopServer};

/// Where it listens if nothing is said.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED), 8446);

/// Where kubelets are to ask: in a pod, to which a Service can lead, or where it is said.
pub(super) fn open(args: &ServeArgs) -> Result<Option<std::net::TcpListener>, StartError> {
    let address = args.cluster.prestop.or_else(|| pod_namespace().map(|_| ADDRESS));
    Ok(address.map(|address| bind_prestop(reachable(address))).transpose()?)
}

/// Answers them. None if that cannot be started: pods end without it, too.
pub(super) fn start(
    listener: std::net::TcpListener,
    live: &Arc<Live>,
    peers: Option<Peers>,
) -> Option<PreStopServer> {
    PreStopServer::start(listener, look(Arc::clone(live), peers))
        .inspect(|server| tracing::info!(address = %server.address(), "answers preStop hooks"))
        .inspect_err(|error| tracing::error!(%error, "preStop hooks cannot be answered"))
        .ok()
}

fn look(live: Arc<Live>, peers: Option<Peers>) -> Look {
    let is_complete =
        move || peers.as_ref().is_none_or(|peers| peers.members().borrow().is_complete());
    Box::new(move |id| match live.revision(id) {
        Some(revision) if is_complete() => Left::Requests(revision.load_leaving()),
        Some(revision) => Left::AtLeast(revision.load_leaving()),
        // Of what is deleted the proxies tell each other nothing any more.
        None => Left::AtLeast(live.leaving(id).map_or(0, |revision| revision.load_leaving())),
    })
}
