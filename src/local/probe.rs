//! One probe of a replica: does it answer? Commands are run here, all else is asked over the
//! network.

mod exec;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::model::{Probe, ProbeAction, Protocol};
use crate::platform::probe::{ask, bound};

pub(super) use crate::platform::probe::{connect_pace, first_open, pace};
pub(super) use exec::Commands;

/// Where a replica can be asked.
#[derive(Debug)]
pub(super) struct Prober {
    /// What its port speaks.
    pub(super) protocol: Protocol,
    /// Runs exec probes in the replica's surroundings; none where it is not this machine's child.
    pub(super) commands: Option<Commands>,
}

impl Prober {
    /// Asks once. An error is what was wrong, for people.
    pub(super) async fn ask(&self, probe: &Probe, address: SocketAddr) -> Result<(), String> {
        match (&probe.action, &self.commands) {
            (ProbeAction::Exec { command }, Some(commands)) => {
                let bound = bound(probe);
                match tokio::time::timeout(bound, commands.ask(command, bound)).await {
                    Ok(answer) => answer,
                    Err(_elapsed) => Err(format!("no answer within {} ms", bound.as_millis())),
                }
            }
            _ => ask(probe, self.protocol, address).await,
        }
    }
}

/// The two loopback addresses of a port, in the order they are tried.
pub(super) fn loopbacks(port: u16) -> [SocketAddr; 2] {
    [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)]
        .map(|ip| SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_other_loopback_is_tried() {
        let Ok(listener) = std::net::TcpListener::bind("[::1]:0") else { return };
        let address = listener.local_addr().unwrap();
        assert_eq!(first_open(&loopbacks(address.port())).await, Some(address));
        drop(listener);
        assert_eq!(first_open(&loopbacks(address.port())).await, None);
    }
}
