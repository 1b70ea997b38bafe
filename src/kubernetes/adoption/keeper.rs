//! What is written of an adopted Service: its conditions and events; and where its name is taken
//! over, its selector and the slices that lead it.
//!
//! Taking a name over: the slice to tidegate is made empty, all proxies listen on its port, then it
//! leads to those that take a connection there, and only then the selector is made to lead nowhere.
//! Giving it back goes the other way, and the slices stay until the cluster's own lead to pods.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::slices::{OwnSlice, SliceEnd, free_port, to_gates, to_pods};
use super::status::{ADOPTED, Condition, SCALED, conditions, status};
use super::{Adopted, Adoption, Gate, Served};
use crate::config::world::cluster::{AdoptedService, Refusal, SELECTOR_KEY};
use crate::kubernetes::controller::work::{Failure, Next, keep_working, while_leading};
use crate::kubernetes::controller::write::{Weight, Writer, bounded};
use crate::kubernetes::kinds::Kind;
use crate::kubernetes::{CONTROLLER_MANAGER, SCALER_MANAGER};
use crate::model::{ObjectName, ServiceId};

/// A pod of tidegate that does not take a connection within this is not led to.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// When to look again at what is about to be there.
const SOON: Duration = Duration::from_millis(100);
/// After so long it is said that something is missing.
const LONG: Duration = Duration::from_secs(2);
/// Slices stay no longer than this for a cluster that does not make its own.
const RELEASE_MAX: Duration = Duration::from_secs(5);
/// How long connections are still taken after nobody is led here any more: nodes take that up within
/// a second or two.
const LINGER: Duration = Duration::from_secs(3);

/// Keeps adopted Services in order for good; writes only while `leading` says so.
pub fn keep(
    adoption: Rc<Adoption>,
    client: Client,
    leading: watch::Receiver<bool>,
) -> impl Future<Output = ()> {
    let (writer, events) = Writer::new(client.clone());
    let keeper = Keeper {
        adoption,
        client,
        writer,
        assigned: RefCell::default(),
        releasing: RefCell::default(),
        waiting: RefCell::default(),
    };
    async move {
        let work = || {
            let queue = &keeper.adoption.queue;
            keep_working("adopted Service", queue, |name| keeper.reconcile(name))
        };
        join(while_leading(&leading, work), events).await;
    }
}

pub(super) struct Keeper {
    pub(super) adoption: Rc<Adoption>,
    client: Client,
    writer: Writer,
    /// Ports that were given out and may not be in the mirror yet.
    assigned: RefCell<HashMap<ServiceId, u16>>,
    /// Since when slices are not needed any more.
    releasing: RefCell<HashMap<ServiceId, Instant>>,
    /// Since when no pod of tidegate takes connections.
    waiting: RefCell<HashMap<ServiceId, Instant>>,
}

/// What became of a Service's own name.
enum Name {
    /// It leads to tidegate; in words.
    Taken(String),
    /// It cannot.
    Refused(Refusal),
    /// It will in a moment, if it does not yet.
    Waits(Duration),
    /// There is nobody for it to lead to; what is made so far stays.
    Lacks,
}

impl Keeper {
    #[cfg(test)]
    pub(super) fn new(adoption: Rc<Adoption>, client: Client) -> Self {
        let (writer, _events) = Writer::new(client.clone());
        let (assigned, releasing, waiting) = Default::default();
        Self { adoption, client, writer, assigned, releasing, waiting }
    }

    pub(super) async fn reconcile(&self, name: ObjectName) -> Result<Next, Failure> {
        let Some(service) = self.adoption.services.get(&name) else {
            return self.give_back(&name, None).await;
        };
        if !service.is_wanted {
            let next = self.give_back(&name, Some(&service)).await?;
            if !service.is_taken && next == Next::WhenTold {
                self.forget(&name, &service).await?;
            }
            return Ok(next);
        }
        let Some(judged) = self.adoption.judge(&name) else { return Ok(Next::WhenTold) };
        let of_name = match &judged {
            Ok(adopted) if service.takes_name => {
                Some(self.take_name(&name, &service, adopted).await?)
            }
            _ => None,
        };
        let (next, of_name) = match of_name {
            Some(Name::Waits(after)) => return Ok(Next::After(after)),
            Some(Name::Taken(message)) => (Next::WhenTold, Some(Ok(message))),
            Some(Name::Lacks) => {
                let message = "no pod of tidegate takes connections for it";
                (Next::After(LONG), Some(Err(Refusal::new("NoProxy", message))))
            }
            Some(Name::Refused(refusal)) => {
                (self.give_back(&name, Some(&service)).await?, Some(Err(refusal)))
            }
            None => (self.give_back(&name, Some(&service)).await?, None),
        };
        let served = self.adoption.served.borrow().get(&name).cloned();
        let served = match (served, &judged) {
            (Some(served), _) => served,
            // It does not matter where it is served if it is not.
            (None, Err(_)) => Served::HostsTaken,
            // The routing table says so in a moment.
            (None, Ok(_)) => return Ok(next),
        };
        let wanted = conditions(&service, &judged, &served, of_name.as_ref());
        self.show(&name, &service, &wanted).await?;
        Ok(next)
    }

    /// Writes conditions, and says what is new of them.
    async fn show(
        &self,
        name: &ServiceId,
        service: &AdoptedService,
        wanted: &[Condition],
    ) -> Result<(), Failure> {
        let live = &service.conditions;
        let Some(status) = status(wanted, live, Timestamp::now()) else { return Ok(()) };
        self.apply_status(name, CONTROLLER_MANAGER, &status).await?;
        for condition in wanted.iter().filter(|condition| condition.is_new(live)) {
            let is_expected = condition.holds || condition.reason == "NoRequestSeen";
            let weight = if is_expected { Weight::Normal } else { Weight::Warning };
            let reason = match (condition.kind, condition.holds) {
                (ADOPTED | SCALED, true) => condition.reason,
                (ADOPTED, false) => "NotAdopted",
                (SCALED, false) => "NotScaled",
                (_, true) => "ServiceAdopted",
                (_, false) => "ServiceNotAdopted",
            };
            let about = about(name, &service.uid);
            self.writer.event(&about, weight, reason, condition.message.clone());
        }
        Ok(())
    }

    /// Takes away what it shows of having been adopted.
    async fn forget(&self, name: &ServiceId, service: &AdoptedService) -> Result<(), Failure> {
        let nothing = json!({});
        self.apply_status(name, CONTROLLER_MANAGER, &nothing).await?;
        self.apply_status(name, SCALER_MANAGER, &nothing).await?;
        let message = "no longer adopted; its pods and their number stay as they are".to_owned();
        self.writer.event(&about(name, &service.uid), Weight::Normal, "Released", message);
        Ok(())
    }

    async fn apply_status(
        &self,
        name: &ServiceId,
        manager: &str,
        status: &Value,
    ) -> Result<(), Failure> {
        apply_status(&self.client, name, manager, status).await
    }

    /// Has callers of the Service's own name come through tidegate.
    async fn take_name(
        &self,
        name: &ServiceId,
        service: &AdoptedService,
        adopted: &Adopted,
    ) -> Result<Name, Failure> {
        if let Some(refusal) = &service.fixed_name {
            return Ok(Name::Refused(refusal.clone()));
        }
        match self.adoption.served.borrow().get(name) {
            // The routing table says so in a moment.
            None => return Ok(Name::Waits(SOON)),
            Some(Served::Knative) => {
                let message = "something of Knative's has this name";
                return Ok(Name::Refused(Refusal::new("NameTaken", message)));
            }
            Some(Served::At(_) | Served::HostsTaken) => {}
        }
        self.releasing.borrow_mut().remove(name);
        let Some(port) = self.port_of(name) else {
            let message = "all ports of tidegate's pods that there are for this are taken";
            return Ok(Name::Refused(Refusal::new("NoPort", message)));
        };
        let known = self.known(name);
        let gates = self.gates(port, &known).await;
        let pods: Vec<_> = self.adoption.pods(name).into_iter().map(|(_, pod)| pod).collect();
        let mut wanted = to_gates(service, &name.name, port, &gates);
        wanted.extend(to_pods(service, &name.name, adopted, &pods));
        self.apply_slices(name, &service.uid, &wanted, &known).await?;
        if gates.is_empty() {
            let since = *self.waiting.borrow_mut().entry(name.clone()).or_insert_with(Instant::now);
            return Ok(if since.elapsed() < LONG { Name::Waits(SOON) } else { Name::Lacks });
        }
        self.waiting.borrow_mut().remove(name);
        if !service.is_taken {
            self.lead_nowhere(name, true).await?;
        }
        Ok(Name::Taken(taken(service)))
    }

    /// Gives a name back: the selector first, then the slices as soon as the cluster has its own.
    async fn give_back(
        &self,
        name: &ServiceId,
        service: Option<&AdoptedService>,
    ) -> Result<Next, Failure> {
        if service.is_some_and(|service| service.is_taken) {
            self.lead_nowhere(name, false).await?;
            return Ok(Next::After(SOON));
        }
        self.assigned.borrow_mut().remove(name);
        let known = self.known(name);
        if known.is_empty() {
            self.releasing.borrow_mut().remove(name);
            return Ok(Next::WhenTold);
        }
        let since = *self.releasing.borrow_mut().entry(name.clone()).or_insert_with(Instant::now);
        let led: Vec<_> = known.iter().filter(|slice| slice.leads_anybody_here()).collect();
        // Of a Service that is gone nobody is led anywhere.
        if let Some(service) = service.filter(|_| !led.is_empty()) {
            if since.elapsed() < RELEASE_MAX && !self.is_led(name).await? {
                return Ok(Next::After(SOON));
            }
            let emptied: Vec<OwnSlice> = led.iter().map(|slice| slice.emptied()).collect();
            for slice in &emptied {
                self.apply_slice(name, &service.uid, slice).await?;
            }
            self.releasing.borrow_mut().insert(name.clone(), Instant::now());
            return Ok(Next::After(SOON));
        }
        // Nodes that have not heard of it yet lead here for another moment.
        if since.elapsed() < LINGER {
            return Ok(Next::After(SOON));
        }
        for slice in known {
            self.delete_slice(name, &slice.name()).await?;
        }
        Ok(Next::WhenTold)
    }

    /// Whether slices of the cluster's own lead to a ready pod, or there is no pod to lead to.
    async fn is_led(&self, name: &ServiceId) -> Result<bool, Failure> {
        let api = Kind::EndpointSlice.in_namespace(&self.client, &name.namespace);
        let labels = format!("kubernetes.io/service-name={}", name.name);
        let list = ListParams::default().labels(&labels);
        let doing = || format!("list the slices of {name}");
        let found = bounded(doing, api.list(&list)).await?;
        let is_ready =
            |end: &Value| end.pointer("/conditions/ready").and_then(Value::as_bool).unwrap_or(true);
        let own = self.known(name);
        let is_foreign = |slice: &str| own.iter().all(|own| own.name() != *slice);
        let mut foreign = found
            .items
            .iter()
            .filter(|slice| slice.metadata.name.as_deref().is_some_and(is_foreign));
        let is_led = foreign.any(|slice| {
            let ends = slice.data.get("endpoints").and_then(Value::as_array);
            ends.into_iter().flatten().any(is_ready)
        });
        let pods = self.adoption.pods(name);
        let has_pods = pods.iter().any(|(_, pod)| pod.facts.is_ready);
        Ok(is_led || (!pods.is_empty() && !has_pods))
    }

    /// tidegate's slices of a Service, as they are.
    fn known(&self, name: &ServiceId) -> Vec<Arc<OwnSlice>> {
        let all = self.adoption.slices.all().into_iter();
        let of = all.filter(|(slice, facts)| {
            slice.namespace == name.namespace && facts.service == name.name
        });
        of.map(|(_, facts)| facts).collect()
    }

    /// The port of tidegate's pods for a Service, the one it has already or a free one.
    fn port_of(&self, name: &ServiceId) -> Option<u16> {
        let known = self.known(name).iter().find_map(|slice| slice.gate_port());
        let mut assigned = self.assigned.borrow_mut();
        if let Some(port) = known.or_else(|| assigned.get(name).copied()) {
            assigned.insert(name.clone(), port);
            return Some(port);
        }
        let slices = self.adoption.slices.all().into_iter();
        let mut taken: HashSet<u16> = slices.filter_map(|(_, slice)| slice.gate_port()).collect();
        taken.extend(assigned.values());
        let port = free_port(|port| taken.contains(&port))?;
        assigned.insert(name.clone(), port);
        Some(port)
    }

    /// tidegate's pods that take connections at a port. Those that are led to already are asked no
    /// more; if none is left, those that are led to stay.
    async fn gates(&self, port: u16, known: &[Arc<OwnSlice>]) -> Vec<SliceEnd> {
        let led = known.iter().filter(|slice| slice.gate_port() == Some(port));
        let led: HashSet<IpAddr> =
            led.flat_map(|slice| &slice.endpoints).map(|end| end.address).collect();
        let gates: Vec<Arc<Gate>> =
            self.adoption.gates.all().into_iter().map(|(_, gate)| gate).collect();
        let ends = gates
            .iter()
            .flat_map(|gate| gate.addresses.iter().map(move |address| (*address, gate)));
        let ends: Vec<_> = ends.collect();
        let asked = ends.iter().filter(|(_, gate)| gate.is_ready).map(async |(address, gate)| {
            let takes = led.contains(address) || {
                let connecting = TcpStream::connect(SocketAddr::new(*address, port));
                matches!(timeout(CONNECT_TIMEOUT, connecting).await, Ok(Ok(_)))
            };
            takes.then(|| SliceEnd::gate(*address, gate))
        });
        let found: Vec<SliceEnd> = join_all(asked).await.into_iter().flatten().collect();
        if !found.is_empty() {
            return found;
        }
        let left = ends.iter().filter(|(address, _)| led.contains(address));
        left.map(|(address, gate)| SliceEnd::gate(*address, gate)).collect()
    }

    /// Makes the slices what is wanted, and takes away those that are not.
    async fn apply_slices(
        &self,
        name: &ServiceId,
        uid: &str,
        wanted: &[OwnSlice],
        known: &[Arc<OwnSlice>],
    ) -> Result<(), Failure> {
        for slice in wanted {
            if known.iter().any(|known| **known == *slice) {
                continue;
            }
            self.apply_slice(name, uid, slice).await?;
        }
        for slice in known {
            if wanted.iter().all(|wanted| wanted.name() != slice.name()) {
                self.delete_slice(name, &slice.name()).await?;
            }
        }
        Ok(())
    }

    async fn apply_slice(
        &self,
        name: &ServiceId,
        uid: &str,
        slice: &OwnSlice,
    ) -> Result<(), Failure> {
        let wanted = slice.object(name, uid);
        self.writer.apply(Kind::EndpointSlice, &wanted, None).await.map(drop)
    }

    async fn delete_slice(&self, of: &ServiceId, slice: &str) -> Result<(), Failure> {
        let api = Kind::EndpointSlice.in_namespace(&self.client, &of.namespace);
        let doing = || format!("delete EndpointSlice {slice}");
        gone_is_fine(bounded(doing, api.delete(slice, &DeleteParams::default())).await)?;
        let name = ObjectName::new(Arc::clone(&of.namespace), slice);
        self.writer.forget(Kind::EndpointSlice, &name);
        Ok(())
    }

    /// Makes the selector of a Service lead nowhere, or what it was.
    async fn lead_nowhere(&self, name: &ServiceId, nowhere: bool) -> Result<(), Failure> {
        let value = if nowhere { json!(*name.name) } else { Value::Null };
        let patch = json!({"spec": {"selector": {SELECTOR_KEY: value}}});
        let api = Kind::CoreService.in_namespace(&self.client, &name.namespace);
        let params = PatchParams {
            field_manager: Some(CONTROLLER_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let doing = || format!("patch the selector of Service {name}");
        gone_is_fine(bounded(doing, api.patch(&name.name, &params, &Patch::Merge(&patch))).await)
    }
}

/// What a taken name does, in words.
fn taken(service: &AdoptedService) -> String {
    let others = service.ports.iter().enumerate();
    let others = others.filter(|(index, _)| service.served != Ok(*index));
    let others: Vec<String> = others.map(|(_, port)| port.number.to_string()).collect();
    let served = service.served().map(|port| port.number).unwrap_or_default();
    let mut message = format!("callers of port {served} go through tidegate");
    if !others.is_empty() {
        message.push_str(&format!("; port {} leads to the pods as before", others.join(", ")));
    }
    message
}

fn about(name: &ServiceId, uid: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": *name.namespace, "name": *name.name, "uid": uid},
    })
}

/// Applies a part of a Service's status as one of several.
pub(in crate::kubernetes) async fn apply_status(
    client: &Client,
    name: &ServiceId,
    manager: &str,
    status: &Value,
) -> Result<(), Failure> {
    let api = Kind::CoreService.in_namespace(client, &name.namespace);
    let object = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": *name.namespace, "name": *name.name}, "status": status,
    });
    let params = PatchParams::apply(manager).force();
    let doing = || format!("apply the status of Service {name}");
    gone_is_fine(
        bounded(doing, api.patch_status(&name.name, &params, &Patch::Apply(&object))).await,
    )
}

fn gone_is_fine<T>(result: Result<T, Failure>) -> Result<(), Failure> {
    match result {
        Err(failure) if failure.code() != Some(404) => Err(failure),
        _ => Ok(()),
    }
}
