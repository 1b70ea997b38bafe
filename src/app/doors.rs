//! Listeners of single services, as they are wanted.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::threads::DoorChange;
use crate::model::ServiceId;
use crate::proxy::{Door, Entry};

/// Which port is whose.
pub(super) type Ports = BTreeMap<ServiceId, u16>;

/// Keeps a listener open at each port that is wanted, at the address of another one: requests that come in there are
/// for its service, whatever host they name.
pub(super) async fn keep_open(
    wanted: Option<watch::Receiver<Ports>>,
    doors: mpsc::Sender<DoorChange>,
    beside: Option<SocketAddr>,
) {
    let Some(mut wanted) = wanted else { return };
    let ip = beside.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |address| address.ip());
    let mut open = Ports::new();
    loop {
        let ports = wanted.borrow_and_update().clone();
        let gone = open.iter().filter(|(service, port)| ports.get(*service) != Some(*port));
        let gone: Vec<ServiceId> = gone.map(|(service, _)| service.clone()).collect();
        for service in gone {
            open.remove(&service);
            tracing::info!(%service, "its own name leads here no more");
            drop(doors.send(DoorChange::Close(Arc::new(service))).await);
        }
        for (service, port) in &ports {
            if open.contains_key(service) {
                continue;
            }
            let address = SocketAddr::new(ip, *port);
            match Door::bind(address) {
                Ok(door) => {
                    tracing::info!(%service, %address, "callers of its own name come in here");
                    let service_id = Arc::new(service.clone());
                    let entry =
                        Entry { service: Some(Arc::clone(&service_id)), ..Entry::default() };
                    let door = door.with(Arc::new(entry));
                    drop(doors.send(DoorChange::Open(service_id, door)).await);
                    open.insert(service.clone(), *port);
                }
                // No connection is led here then; tried again with the next change.
                Err(error) => tracing::error!(%error, %service, %address, "cannot listen"),
            }
        }
        if wanted.changed().await.is_err() {
            return;
        }
    }
}
