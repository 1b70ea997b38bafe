//! A backend that somebody else runs, for a sidecar: where it is, and whether it is ready. It
//! reports the one endpoint while it is, and takes every count for granted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::model::{EndpointId, Probe, Protocol, RevisionId, RevisionSpec, World};
use crate::platform::tick::Ticker;
use crate::platform::{
    ConfigSource, Endpoint, ReplicaCounts, ScaleError, ScaleOrder, ScaleTarget, SourceError,
    Update, Updates,
};

use super::health;
use super::probe::{Prober, pace};

/// One that has not come for so long is asked less often.
const LONG_AWAY: Duration = Duration::from_secs(10);
/// The pause from then on.
const PACE_AWAY: Duration = Duration::from_millis(100);
/// Looking up a name takes no longer.
const LOOKUP_BOUND: Duration = Duration::from_secs(5);
/// A name is looked up no more often.
const LOOKUP_EVERY: Duration = Duration::from_secs(1);

/// Which backend.
#[derive(Clone, Debug)]
pub struct Backend {
    /// An IP address or a name, which is looked up whenever the backend is not ready.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// How it is asked whether it is ready.
    pub probe: Probe,
}

/// Reports a world that never changes, and the backend as the only replica of a revision.
#[derive(Debug)]
pub struct BackendSource {
    world: Arc<World>,
    revision: RevisionId,
    backend: Backend,
}

impl BackendSource {
    /// A source of `world`, whose `revision` the backend serves.
    pub fn new(world: Arc<World>, revision: RevisionId, backend: Backend) -> Self {
        Self { world, revision, backend }
    }

    fn replicas(&self, address: Option<SocketAddr>) -> Update {
        let endpoint =
            |address: SocketAddr| Endpoint { id: EndpointId::new(address.to_string()), address };
        Update::Replicas {
            revision: self.revision.clone(),
            endpoints: address.map(endpoint).into_iter().collect(),
            counts: ReplicaCounts { ready: u32::from(address.is_some()), ..Default::default() },
        }
    }
}

impl ConfigSource for BackendSource {
    async fn run(self, updates: Updates) -> Result<(), SourceError> {
        let prober = Prober { protocol: self.backend.protocol, commands: None };
        if updates.send(Update::World(Arc::clone(&self.world))).await.is_err() {
            return Ok(());
        }
        loop {
            let address = self.backend.ready(&prober).await;
            tracing::info!(revision = %self.revision, %address, "the backend is ready");
            if updates.send(self.replicas(Some(address))).await.is_err() {
                return Ok(());
            }
            let reason = health::lost(&prober, &self.backend.probe, address).await;
            tracing::warn!(revision = %self.revision, %address, reason,
                "the backend is not ready; requests wait");
            if updates.send(self.replicas(None)).await.is_err() {
                return Ok(());
            }
        }
    }
}

impl Backend {
    /// The first of its addresses that is ready, as soon as one is.
    async fn ready(&self, prober: &Prober) -> SocketAddr {
        let ticker = Ticker::new();
        let since = Instant::now();
        let (mut looked, mut addresses) = (None::<Instant>, Vec::new());
        let mut said = String::new();
        loop {
            if looked.is_none_or(|at| at.elapsed() >= LOOKUP_EVERY) {
                looked = Some(Instant::now());
                addresses = self.addresses().await;
            }
            let mut last = format!("the name {:?} leads to no address", self.host);
            for address in &addresses {
                match prober.ask(&self.probe, *address).await {
                    Ok(()) => return *address,
                    Err(error) => last = error,
                }
            }
            let away = since.elapsed();
            if away >= LONG_AWAY && said != last {
                tracing::warn!(reason = last, "still waiting for the backend");
                said = last;
            }
            let pause = if away < LONG_AWAY { pace(&self.probe.action, away) } else { PACE_AWAY };
            ticker.pause(pause).await;
        }
    }

    async fn addresses(&self) -> Vec<SocketAddr> {
        let looked_up = tokio::net::lookup_host((self.host.as_str(), self.port));
        match timeout(LOOKUP_BOUND, looked_up).await {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(_)) | Err(_) => Vec::new(),
        }
    }
}

/// Takes every count: there is the one backend, and nobody here starts or stops it.
#[derive(Clone, Copy, Debug, Default)]
pub struct BackendTarget;

impl ScaleTarget for BackendTarget {
    async fn scale(&self, _: &Arc<RevisionSpec>, _: ScaleOrder) -> Result<(), ScaleError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;
    use crate::local::tests::tcp_probe;

    async fn ready(updates: &mut mpsc::Receiver<Update>) -> Vec<SocketAddr> {
        let update = timeout(Duration::from_secs(20), updates.recv()).await.unwrap();
        match update.unwrap() {
            Update::Replicas { endpoints, counts, .. } => {
                assert_eq!(counts.ready as usize, endpoints.len());
                endpoints.into_iter().map(|endpoint| endpoint.address).collect()
            }
            other => panic!("not about replicas: {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_backend_is_reported_while_it_takes_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let probe = Probe { period: Duration::from_millis(5), failure_threshold: 2, ..tcp_probe() };
        let backend = Backend {
            host: "localhost".to_owned(),
            port: address.port(),
            protocol: Protocol::Http1,
            probe,
        };
        let revision = RevisionId::new("default", "backend-00001");
        let source = BackendSource::new(Arc::default(), revision, backend);
        let (sender, mut updates) = mpsc::channel(1);
        let running = tokio::spawn(source.run(sender));
        assert!(matches!(updates.recv().await, Some(Update::World(_))));
        assert_eq!(ready(&mut updates).await, [address]);
        drop(listener);
        assert_eq!(ready(&mut updates).await, []);
        let again = TcpListener::bind(address).await.unwrap();
        assert_eq!(ready(&mut updates).await, [address]);
        drop((updates, again));
        assert!(timeout(Duration::from_secs(20), running).await.unwrap().unwrap().is_ok());
    }
}
