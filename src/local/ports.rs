//! Ports for replicas.

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use parking_lot::Mutex;

/// Tries before it is said that no port is free.
const TRIES: usize = 100;

/// Lowest port that is given.
const LOWEST: u16 = 10_000;
/// The kernel's own range where it cannot be read: Linux' default.
const EPHEMERAL: (u16, u16) = (32_768, 60_999);

/// Ports that replicas have. Between the choice and the program's own bind nobody holds one, so
/// two replicas are kept from getting the same, and none comes from the range from which the
/// kernel takes ports for outgoing connections and for binds to port 0.
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
        let ephemeral = ephemeral_range();
        for _ in 0..TRIES {
            let number = draw(ephemeral);
            let any = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, number)));
            if any.is_err() {
                continue;
            }
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

/// The kernel's range for ports that nobody chose.
fn ephemeral_range() -> (u16, u16) {
    let read = || {
        let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
        let mut bounds = text.split_whitespace();
        Some((bounds.next()?.parse().ok()?, bounds.next()?.parse().ok()?))
    };
    read().unwrap_or(EPHEMERAL)
}

/// A random port outside the kernel's range, or any above the lowest if that leaves too few.
fn draw((low, high): (u16, u16)) -> u16 {
    const ENOUGH: u16 = 2_000;
    let below = low.saturating_sub(LOWEST);
    let above = u16::MAX - high;
    if below.saturating_add(above) < ENOUGH {
        return fastrand::u16(LOWEST..);
    }
    let drawn = fastrand::u16(..below + above);
    if drawn < below { LOWEST + drawn } else { high + 1 + (drawn - below) }
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
    fn ports_are_not_the_kernels() {
        for _ in 0..1_000 {
            let port = draw((32_768, 60_999));
            assert!((LOWEST..32_768).contains(&port) || port > 60_999, "{port}");
            assert!((LOWEST..40_000).contains(&draw((40_000, 65_535))));
            assert!(draw((1_024, 65_535)) >= LOWEST, "too few outside: any");
        }
    }

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
