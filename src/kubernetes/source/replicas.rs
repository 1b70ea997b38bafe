//! From slices and pods to the replicas of one revision.
//!
//! Slices and pods arrive by two watches, so either may be ahead. A pod's own status is where the
//! slices' comes from, so what is known of the pod counts; a pod that was seen and is gone is gone,
//! whatever a slice still says. An endpoint without a pod that is known is as the slices say.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::facts::{PodFacts, Slice, SliceEndpoint};
use crate::model::{EndpointId, Problem};
use crate::platform::{Endpoint, ReplicaCounts};

/// What a replica is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not ready yet, or not any more.
    Starting,
    Ready,
    Stopping,
}

/// One replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Replica {
    pub(super) address: Option<IpAddr>,
    pub(super) state: State,
    /// Whether asking it tells whether it is ready.
    pub(super) is_askable: bool,
}

/// The replicas of a revision, by identity.
pub(super) type Replicas = BTreeMap<EndpointId, Replica>;

/// What is remembered of a revision's replicas from one look to the next.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Pods that were seen.
    seen: HashSet<EndpointId>,
    /// The address of each that is used: one of several stays the same one.
    addresses: HashMap<EndpointId, IpAddr>,
    /// Those the cluster called ready once: from then on it knows better.
    confirmed: HashSet<EndpointId>,
    /// Those that answered before the cluster called them ready.
    answered: HashSet<EndpointId>,
}

impl Memory {
    /// It answered as its readiness probe wants it.
    pub(super) fn answered(&mut self, id: EndpointId) {
        self.answered.insert(id);
    }

    /// Replicas as of now.
    pub(super) fn look(&mut self, slices: &[Arc<Slice>], pods: &[Arc<PodFacts>]) -> Replicas {
        let mut replicas = Replicas::new();
        let sliced = merged(slices);
        let known: HashSet<&EndpointId> = pods.iter().map(|pod| &pod.id).collect();
        for pod in pods {
            self.seen.insert(pod.id.clone());
            if pod.is_over {
                continue;
            }
            let slice = sliced.get(&pod.id);
            let is_stopping = pod.is_terminating || slice.is_some_and(|s| s.is_terminating);
            let mut state = match (is_stopping, pod.is_ready) {
                (true, _) => State::Stopping,
                (false, true) => State::Ready,
                (false, false) => State::Starting,
            };
            if state == State::Ready {
                self.confirmed.insert(pod.id.clone());
            } else if state == State::Starting
                && self.answered.contains(&pod.id)
                && !self.confirmed.contains(&pod.id)
            {
                state = State::Ready;
            }
            let address = self.address(&pod.id, &pod.addresses, slice.map(|s| s.address));
            let is_askable = !pod.is_gated && !self.confirmed.contains(&pod.id);
            replicas.insert(pod.id.clone(), Replica { address, state, is_askable });
        }
        for (id, endpoint) in &sliced {
            if known.contains(id) || self.seen.contains(id) {
                continue;
            }
            let state = match endpoint {
                SliceEndpoint { is_terminating: true, .. } => State::Stopping,
                SliceEndpoint { is_ready: true, .. } => State::Ready,
                _ => State::Starting,
            };
            let address = self.address(id, &[], Some(endpoint.address));
            replicas.insert(id.clone(), Replica { address, state, is_askable: false });
        }
        let is_left = |id: &EndpointId| known.contains(id) || sliced.contains_key(id);
        self.seen.retain(is_left);
        self.confirmed.retain(is_left);
        self.answered.retain(is_left);
        self.addresses.retain(|id, _| is_left(id));
        replicas
    }

    /// The address that is used: what it was, as long as it is still one of its own.
    fn address(
        &mut self,
        id: &EndpointId,
        of_pod: &[IpAddr],
        of_slice: Option<IpAddr>,
    ) -> Option<IpAddr> {
        let former = self.addresses.get(id).copied();
        let is_own = |address: &IpAddr| of_pod.is_empty() || of_pod.contains(address);
        let address = former.filter(is_own).or_else(|| of_pod.first().copied()).or(of_slice)?;
        self.addresses.insert(id.clone(), address);
        Some(address)
    }
}

/// All slices of a Service in one: an endpoint may be in two for a moment, and has one entry for
/// each family. What is not terminating wins, then what is ready, then IPv4.
fn merged(slices: &[Arc<Slice>]) -> BTreeMap<EndpointId, SliceEndpoint> {
    let mut merged: BTreeMap<EndpointId, SliceEndpoint> = BTreeMap::new();
    let right = |e: &SliceEndpoint| (!e.is_terminating, e.is_ready, e.address.is_ipv4());
    for endpoint in slices.iter().flat_map(|slice| &slice.endpoints) {
        match merged.get_mut(&endpoint.id) {
            Some(known) if right(known) >= right(endpoint) => {}
            Some(known) => *known = endpoint.clone(),
            None => {
                merged.insert(endpoint.id.clone(), endpoint.clone());
            }
        }
    }
    merged
}

/// The endpoints that take requests.
pub(super) fn endpoints(replicas: &Replicas, port: u16) -> Vec<Endpoint> {
    let ready = replicas.iter().filter(|(_, replica)| replica.state == State::Ready);
    let mut taken = BTreeSet::new();
    ready
        .filter_map(|(id, replica)| {
            let address = SocketAddr::new(replica.address?, port);
            // One address cannot be two pods' at once: one of them is not gone yet.
            taken.insert(address).then(|| Endpoint { id: id.clone(), address })
        })
        .collect()
}

/// How many are doing what, where `asked` replicas are asked for: those that are not there yet
/// start, too.
pub(super) fn counts(replicas: &Replicas, asked: Option<u32>) -> ReplicaCounts {
    let count = |state: State| {
        let number = replicas.values().filter(|replica| replica.state == state).count();
        u32::try_from(number).unwrap_or(u32::MAX)
    };
    let ready = count(State::Ready);
    let starting = match asked {
        Some(asked) => asked.saturating_sub(ready),
        None => count(State::Starting),
    };
    ReplicaCounts { starting, ready, stopping: count(State::Stopping) }
}

/// Why none of the pods can be started; none while one may still be.
pub(super) fn problem(pods: &[Arc<PodFacts>]) -> Option<&Problem> {
    let mut starting = pods.iter().filter(|pod| !pod.is_over && !pod.is_terminating).peekable();
    starting.peek()?;
    let mut first = None;
    for pod in starting {
        let problem = pod.problem.as_ref()?;
        first = first.or(Some(problem));
    }
    first
}
