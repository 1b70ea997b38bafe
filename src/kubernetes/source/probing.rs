//! Asks pods that have an address and are not called ready yet, so that each is used the moment
//! it answers: the cluster's own word comes up to a second later.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::changes::{Change, Tell};
use super::replicas::{Replicas, State};
use crate::model::{EndpointId, PodsSpec, Probe, Probes, Protocol, RevisionId};
use crate::platform::probe::{ask, is_askable, pace};
use crate::platform::tick::Ticker;

/// One that has not answered for so long is asked less often.
const LONG: Duration = Duration::from_secs(30);
/// The pause from then on.
const PACE_LONG: Duration = Duration::from_millis(250);

/// The replicas of one revision that are being asked.
#[derive(Debug, Default)]
pub(super) struct Probing {
    tasks: HashMap<EndpointId, (SocketAddr, AbortHandle)>,
}

impl Probing {
    /// Asks those that may become ready, and no others.
    pub(super) fn adjust(
        &mut self,
        revision: &RevisionId,
        (pods, protocol): (&PodsSpec, Protocol),
        replicas: &Replicas,
        tell: &Tell,
    ) {
        let wanted = |id: &EndpointId| {
            let replica = replicas.get(id)?;
            let wanted = replica.is_askable && replica.state == State::Starting;
            let address = replica.address.filter(|_| wanted)?;
            Some(SocketAddr::new(address, pods.port))
        };
        self.tasks.retain(|id, (address, task)| {
            let stays = wanted(id) == Some(*address);
            if !stays {
                task.abort();
            }
            stays
        });
        let startup = pods.probes.startup.as_ref().map(|probe| &probe.action);
        if !is_askable(&pods.probes.readiness.action) || startup.is_some_and(|a| !is_askable(a)) {
            return;
        }
        for id in replicas.keys() {
            let Some(address) = wanted(id).filter(|_| !self.tasks.contains_key(id)) else {
                continue;
            };
            let (probes, tell) = (pods.probes.clone(), Arc::clone(tell));
            let told = Change::Answered(revision.clone(), id.clone());
            let task = tokio::task::spawn_local(async move {
                answers(&probes, protocol, address).await;
                tell.tell(told);
            });
            self.tasks.insert(id.clone(), (address, task.abort_handle()));
        }
    }
}

impl Drop for Probing {
    fn drop(&mut self) {
        self.tasks.values().for_each(|(_, task)| task.abort());
    }
}

/// Returns once a replica passes its startup probe, if it has one, and its readiness probe.
async fn answers(probes: &Probes, protocol: Protocol, address: SocketAddr) {
    let ticker = Ticker::new();
    if let Some(startup) = &probes.startup {
        passes(startup, protocol, address, &ticker).await;
    }
    passes(&probes.readiness, protocol, address, &ticker).await;
}

async fn passes(probe: &Probe, protocol: Protocol, address: SocketAddr, ticker: &Ticker) {
    if !probe.initial_delay.is_zero() {
        sleep(probe.initial_delay).await;
    }
    let since = Instant::now();
    let mut successes = 0;
    loop {
        match ask(probe, protocol, address).await {
            Ok(()) => successes += 1,
            Err(_wrong) => successes = 0,
        }
        if successes >= probe.success_threshold {
            return;
        }
        let asked = since.elapsed();
        let pause = if asked < LONG { pace(&probe.action, asked) } else { PACE_LONG };
        ticker.pause(pause).await;
    }
}
