//! One probe of a replica over the network: does it answer?

mod grpc;
mod http;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::model::{Probe, ProbeAction, Protocol};

/// Shortest time a probe is given (Knative's aggressive probing).
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(100);

/// How kubelet names itself; programs tell probes by it.
const USER_AGENT: &str = "kube-probe/1.34";

/// How long a probe may take.
pub fn bound(probe: &Probe) -> Duration {
    probe.timeout.max(SHORTEST_TIMEOUT)
}

/// Whether a replica can be asked from here: a command is run where the replica is.
pub const fn is_askable(action: &ProbeAction) -> bool {
    !matches!(action, ProbeAction::Exec { .. })
}

/// Asks once the replica at `address`, whose port speaks `protocol`.
///
/// # Errors
/// What was wrong, for people.
pub async fn ask(probe: &Probe, protocol: Protocol, address: SocketAddr) -> Result<(), String> {
    let at = |port: &Option<u16>| SocketAddr::new(address.ip(), port.unwrap_or(address.port()));
    let asked = async {
        match &probe.action {
            ProbeAction::Tcp { port } => connect(at(port)).await.map(drop),
            ProbeAction::Http { path, port, headers } => {
                // Only the port that requests go to speaks the revision's protocol.
                let protocol = if port.is_none() { protocol } else { Protocol::Http1 };
                http::ask(at(port), protocol, path, headers).await
            }
            ProbeAction::Grpc { port, service } => grpc::ask(at(port), service).await,
            ProbeAction::Exec { .. } => Err("a command cannot be run in this replica".to_owned()),
        }
    };
    let bound = bound(probe);
    match timeout(bound, asked).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(format!("no answer within {} ms", bound.as_millis())),
    }
}

/// The pause between two probes until a replica is ready for the first time; `running` is how
/// long it has been probed.
pub fn pace(action: &ProbeAction, running: Duration) -> Duration {
    match action {
        ProbeAction::Tcp { .. } => connect_pace(running),
        ProbeAction::Http { .. } | ProbeAction::Grpc { .. } => Duration::from_millis(25),
        ProbeAction::Exec { .. } => Duration::from_millis(250),
    }
}

/// The pause between two attempts to connect.
pub fn connect_pace(running: Duration) -> Duration {
    if running < Duration::from_secs(1) {
        Duration::from_millis(1)
    } else {
        Duration::from_millis(5)
    }
}

/// The first of `addresses` that takes a connection.
pub async fn first_open(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    for address in addresses {
        if matches!(timeout(SHORTEST_TIMEOUT, connect(*address)).await, Ok(Ok(_))) {
            return Some(*address);
        }
    }
    None
}

async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| format!("no connection to {address}: {error}"))?;
    // A port among the ephemeral ones can be connected to itself while nobody listens.
    if stream.local_addr().is_ok_and(|local| local == address) {
        return Err(format!("no connection to {address}: nobody listens"));
    }
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paces_of_the_design() {
        let millis = |action: &ProbeAction, running| {
            pace(action, Duration::from_millis(running)).as_millis()
        };
        let tcp = ProbeAction::Tcp { port: None };
        let http = ProbeAction::Http { path: "/".into(), port: None, headers: vec![] };
        let grpc = ProbeAction::Grpc { port: None, service: "".into() };
        let exec = ProbeAction::Exec { command: vec!["true".into()] };
        assert_eq!((millis(&tcp, 0), millis(&tcp, 999), millis(&tcp, 1_000)), (1, 1, 5));
        assert_eq!((millis(&http, 0), millis(&grpc, 5_000), millis(&exec, 0)), (25, 25, 250));
        assert!(is_askable(&tcp) && !is_askable(&exec));
    }
}
