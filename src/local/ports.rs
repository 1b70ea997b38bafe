//! Ports for replicas.

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use parking_lot::Mutex;

/// Tries before it is said that no port is free.
const TRIES: usize = 100;

/// Ports that replicas have. The kernel names a free one; between that and the program's own
/// bind nobody holds it, so two replicas are kept from getting the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Ports(Arc<Mutex<HashSet<u16>>>);

/// A replica's port, given back when dropped.
#[derive(Debug)]
pub(super) struct Port {
    number: u16,
    ports: Ports,
}

impl Ports {
    /// A port that is free on both address families and that no other replica has.
    pub(super) fn take(&self) -> io::Result<Port> {
        for _ in 0..TRIES {
            let any = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?;
            let number = any.local_addr()?.port();
            drop(any);
            let v6 = TcpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, number)));
            // Any other error means that there is no IPv6 here.
            let taken = v6.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse);
            if !taken && self.0.lock().insert(number) {
                return Ok(Port { number, ports: self.clone() });
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "no free port was found for a replica"))
    }
}

impl Port {
    /// Its number.
    pub(super) fn number(&self) -> u16 {
        self.number
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.ports.0.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let ports = Ports::default();
        let taken: Vec<Port> = (0..50).map(|_| ports.take().unwrap()).collect();
        let numbers: HashSet<u16> = taken.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), taken.len());
        drop(taken);
        assert!(ports.0.lock().is_empty(), "given back");
    }
}
