//! The watches: of Services, tidegate's slices and pods always; of workloads and autoscalers in
//! namespaces that have an adopted Service; of pods by the selector of each.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use kube::api::DynamicObject;
use kube::runtime::watcher::Config;
use kube::{Api, Client};
use serde_json::Value;
use tokio::task::AbortHandle;

use super::slices::{MANAGED_BY, OwnSlice};
use super::{Adoption, Gate, Pod, Pods, Scaled, Space, Workload};
use crate::config::world::cluster::{AdoptedService, WorkloadObject};
use crate::kubernetes::feed::{Relays, watch};
use crate::kubernetes::kinds::Kind;
use crate::kubernetes::mirror::{Mirror, value};
use crate::kubernetes::source::facts::{DeploymentFacts, PodFacts, text};
use crate::model::{ObjectName, ObjectReference, ServiceId};

/// Selects tidegate's own pods.
const GATES: &str = "app.kubernetes.io/name=tidegate";

/// Where objects are read.
#[derive(Clone)]
pub(super) struct Cluster {
    pub(super) client: Client,
    /// tidegate's own namespace.
    pub(super) own: String,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("own", &self.own).finish_non_exhaustive()
    }
}

fn follow<T: PartialEq + 'static>(
    mirror: Rc<Mirror<T>>,
    (api, config): (Api<DynamicObject>, Config),
    keep: impl Fn(&DynamicObject) -> Option<T> + 'static,
    changed: impl Fn(&ObjectName) + 'static,
) -> AbortHandle {
    let task = async move { mirror.follow(api, config, keep, changed).await };
    tokio::task::spawn_local(task).abort_handle()
}

impl Adoption {
    /// Follows everything for as long as the event loop runs. `own` is tidegate's namespace.
    pub(in crate::kubernetes) fn follow(
        self: &Rc<Self>,
        client: &Client,
        namespace: Option<&str>,
        own: String,
        relays: &mut Relays,
    ) {
        let cluster = Cluster { client: client.clone(), own };
        self.cluster.replace(Some(cluster.clone()));
        let labelled = |labels: &str| Config::default().labels(labels);
        let adoption = Rc::clone(self);
        let services = watch(Kind::CoreService.objects(client, namespace), Config::default());
        let services = relays.relayed(Kind::CoreService, services);
        drop(tokio::task::spawn_local(async move {
            let keep = |object: &DynamicObject| AdoptedService::read(&value(object));
            let changed = |name: &ObjectName| adoption.service_changed(name);
            adoption.services.take_all(services, keep, changed).await;
        }));
        let adoption = Rc::clone(self);
        let api = Kind::EndpointSlice.objects(client, namespace);
        drop(tokio::task::spawn_local(async move {
            let keep = |object: &DynamicObject| OwnSlice::read(&value(object));
            let changed = |name: &ObjectName| adoption.slice_changed(name);
            adoption.slices.follow(api, labelled(MANAGED_BY), keep, changed).await;
        }));
        let adoption = Rc::clone(self);
        let api = Kind::Pod.in_namespace(client, &cluster.own);
        drop(tokio::task::spawn_local(async move {
            let keep = |object: &DynamicObject| Gate::read(&value(object));
            let changed = |_: &ObjectName| {
                adoption.names().into_iter().for_each(|name| adoption.queue.add(name));
            };
            adoption.gates.follow(api, labelled(GATES), keep, changed).await;
        }));
    }

    /// Returns once everything was listed.
    pub(in crate::kubernetes) async fn complete(&self) {
        self.services.complete().await;
        self.slices.complete().await;
        for name in self.names() {
            self.complete_of(&name).await;
        }
    }

    async fn complete_of(&self, name: &ServiceId) {
        let space = self.spaces.borrow().get(&name.namespace).map(|space| {
            let Space { deployments, stateful_sets, scalers, .. } = space;
            (Rc::clone(deployments), Rc::clone(stateful_sets), Rc::clone(scalers))
        });
        if let Some((deployments, stateful_sets, scalers)) = space {
            deployments.complete().await;
            stateful_sets.complete().await;
            scalers.complete().await;
        }
        let pods = self.pods.borrow().get(name).map(|pods| Rc::clone(&pods.mirror));
        if let Some(pods) = pods {
            pods.complete().await;
        }
    }

    /// A Service is adopted, is no more, or is another one than before.
    pub(super) fn service_changed(self: &Rc<Self>, name: &ObjectName) {
        match self.services.get(name) {
            Some(service) => self.begin(name, &service),
            None => {
                self.pods.borrow_mut().remove(name);
                self.seen.borrow_mut().remove(name);
                let is_last = !self.names().iter().any(|other| other.namespace == name.namespace);
                if is_last {
                    self.spaces.borrow_mut().remove(&name.namespace);
                }
            }
        }
        self.remake_ports();
        self.told(name);
    }

    fn begin(self: &Rc<Self>, name: &ServiceId, service: &AdoptedService) {
        let mut is_new = false;
        if !self.spaces.borrow().contains_key(&name.namespace) {
            let space = self.space(&name.namespace);
            self.spaces.borrow_mut().insert(Arc::clone(&name.namespace), space);
            is_new = true;
        }
        let is_same =
            self.pods.borrow().get(name).is_some_and(|pods| pods.selector == service.selector);
        if !is_same {
            let pods = self.pods_of(name, &service.selector);
            self.pods.borrow_mut().insert(name.clone(), pods);
            is_new = true;
        }
        if is_new {
            // Told when all is known, whether or not anything was found.
            let (adoption, name) = (Rc::clone(self), name.clone());
            drop(tokio::task::spawn_local(async move {
                adoption.complete_of(&name).await;
                adoption.told(&name);
            }));
        }
    }

    fn space(self: &Rc<Self>, namespace: &Arc<str>) -> Space {
        let mut space = Space::default();
        let cluster = self.cluster.borrow();
        let Some(cluster) = &*cluster else { return space };
        let told = || {
            let (adoption, namespace) = (Rc::clone(self), Arc::clone(namespace));
            move |_: &ObjectName| {
                let names = adoption.names().into_iter();
                let here = names.filter(|name| name.namespace == namespace);
                here.for_each(|name| adoption.told(&name));
            }
        };
        let at = |kind: Kind| (kind.in_namespace(&cluster.client, namespace), Config::default());
        for (kind, mirror) in
            [(Kind::Deployment, &space.deployments), (Kind::StatefulSet, &space.stateful_sets)]
        {
            let keep = move |object: &DynamicObject| Some(Workload::read(kind, &value(object)));
            space.tasks.push(follow(Rc::clone(mirror), at(kind), keep, told()));
        }
        let scalers = Rc::clone(&space.scalers);
        let keep = |object: &DynamicObject| scaled(&value(object));
        space.tasks.push(follow(scalers, at(Kind::HorizontalPodAutoscaler), keep, told()));
        space
    }

    fn pods_of(self: &Rc<Self>, name: &ServiceId, selector: &BTreeMap<String, String>) -> Pods {
        let mut pods = Pods::default();
        pods.selector.clone_from(selector);
        let cluster = self.cluster.borrow();
        // Without a selector it would be all pods.
        let Some(cluster) = cluster.as_ref().filter(|_| !selector.is_empty()) else {
            return pods;
        };
        let labels: Vec<String> =
            selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let at = (
            Kind::Pod.in_namespace(&cluster.client, &name.namespace),
            Config::default().labels(&labels.join(",")),
        );
        let (adoption, told) = (Rc::clone(self), name.clone());
        let of = Arc::clone(&name.name);
        let keep = move |object: &DynamicObject| Pod::read(&of, &value(object));
        let changed = move |_: &ObjectName| adoption.told(&told);
        pods.task = Some(follow(Rc::clone(&pods.mirror), at, keep, changed));
        pods
    }

    pub(super) fn slice_changed(&self, slice: &ObjectName) {
        self.remake_ports();
        let known = self.slices.get(slice).map(|slice| Arc::clone(&slice.service));
        match known {
            Some(service) => self.told(&ObjectName::new(&*slice.namespace, service)),
            // It is gone: whose it was is not known any more.
            None => {
                let names = self.names().into_iter();
                let here = names.filter(|name| name.namespace == slice.namespace);
                here.for_each(|name| self.told(&name));
            }
        }
    }

    /// Which ports are to be listened on: those in the slices of Services that are adopted.
    fn remake_ports(&self) {
        let mut slices = self.slices.all();
        slices.sort_by(|a, b| a.0.cmp(&b.0));
        let (mut ports, mut taken) = (BTreeMap::new(), BTreeSet::new());
        for (name, slice) in slices {
            let service = ServiceId::new(Arc::clone(&name.namespace), Arc::clone(&slice.service));
            if let Some(port) = slice.gate_port()
                && self.services.get(&service).is_some()
                && (ports.get(&service) == Some(&port) || taken.insert(port))
            {
                ports.insert(service, port);
            }
        }
        self.ports.send_if_modified(|former| {
            let differs = *former != ports;
            *former = ports;
            differs
        });
    }
}

impl Workload {
    pub(super) fn read(kind: Kind, object: &Value) -> Self {
        Self {
            object: Arc::new(WorkloadObject::read(kind.kind(), object)),
            facts: DeploymentFacts::read(object),
        }
    }
}

fn node(object: &Value) -> Option<Arc<str>> {
    text(object, "/spec/nodeName").map(Arc::from)
}

impl Pod {
    pub(super) fn read(of: &str, object: &Value) -> Option<Self> {
        Some(Self { facts: Arc::new(PodFacts::of(of, object)?), node: node(object) })
    }
}

impl Gate {
    pub(super) fn read(object: &Value) -> Option<Self> {
        let facts = PodFacts::of("", object)?;
        let is_ready = facts.is_ready;
        Some(Self { addresses: facts.addresses, node: node(object), is_ready })
    }
}

/// What a HorizontalPodAutoscaler scales.
pub(super) fn scaled(object: &Value) -> Option<Scaled> {
    let of = object.pointer("/spec/scaleTargetRef")?;
    Some(ObjectReference {
        api_version: text(of, "/apiVersion").unwrap_or_default().into(),
        kind: text(of, "/kind")?.into(),
        name: text(of, "/name")?.into(),
    })
}
