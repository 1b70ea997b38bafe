//! The EndpointSlices of a Service whose name is taken over: one leads its served port to tidegate,
//! another its other ports to the pods, each for one family of addresses.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{Adopted, Gate, Pod};
use crate::config::world::cluster::AdoptedService;
use crate::kubernetes::names::child;
use crate::kubernetes::source::facts::text;
use crate::model::ServiceId;

/// Label of slices that are tidegate's.
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by=tidegate";
/// Label that says where a slice leads: to `tidegate` or to `pods`.
const LEADS_TO: &str = "tidegate.dev/leads-to";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Ports of tidegate's pods, one for each Service whose name is taken over: below those that
/// systems take for connections of their own, so that none is taken when it is wanted.
const PORTS: std::ops::Range<u16> = 20_000..30_000;
/// Endpoints that a slice may have.
const ENDPOINTS_MAX: usize = 1000;

/// A family of addresses, and what its slices' names end with.
const FAMILIES: [(&str, &str); 2] = [("IPv4", ""), ("IPv6", "-v6")];

/// A slice of tidegate's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnSlice {
    pub(super) service: Arc<str>,
    leads_to_gates: bool,
    family: Arc<str>,
    ports: Vec<SlicePort>,
    pub(super) endpoints: Vec<SliceEnd>,
}

/// A port of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SlicePort {
    /// The name of the Service's port.
    name: Arc<str>,
    number: u16,
    transport: Arc<str>,
}

/// An endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SliceEnd {
    pub(super) address: IpAddr,
    node: Option<Arc<str>>,
    is_ready: bool,
    is_terminating: bool,
}

impl OwnSlice {
    /// Reads a slice that is tidegate's.
    pub(super) fn read(object: &Value) -> Option<Self> {
        let labels = object.pointer("/metadata/labels")?;
        let label = |key: &str| labels.get(key).and_then(Value::as_str);
        let list = |field: &str| object.get(field).and_then(Value::as_array);
        let port = |port: &Value| {
            Some(SlicePort {
                name: text(port, "/name").unwrap_or_default().into(),
                number: port.get("port")?.as_u64().and_then(|n| u16::try_from(n).ok())?,
                transport: text(port, "/protocol").unwrap_or("TCP").into(),
            })
        };
        let end = |end: &Value| {
            let is = |name: &str| end.pointer(&format!("/conditions/{name}"))?.as_bool();
            Some(SliceEnd {
                address: text(end, "/addresses/0")?.parse().ok()?,
                node: text(end, "/nodeName").map(Arc::from),
                is_ready: is("ready").unwrap_or(true),
                is_terminating: is("terminating").unwrap_or(false),
            })
        };
        Some(Self {
            service: label(SERVICE_NAME)?.into(),
            leads_to_gates: label(LEADS_TO) == Some("tidegate"),
            family: text(object, "/addressType")?.into(),
            ports: list("ports").into_iter().flatten().filter_map(port).collect(),
            endpoints: list("endpoints").into_iter().flatten().filter_map(end).collect(),
        })
    }

    /// The port of tidegate's pods that it leads to.
    pub(super) fn gate_port(&self) -> Option<u16> {
        self.ports.first().filter(|_| self.leads_to_gates).map(|port| port.number)
    }

    /// Whether it leads somebody to tidegate.
    pub(super) fn leads_anybody_here(&self) -> bool {
        self.leads_to_gates && !self.endpoints.is_empty()
    }

    /// The same without an endpoint.
    pub(super) fn emptied(&self) -> Self {
        Self { endpoints: Vec::new(), ..self.clone() }
    }

    /// Its name, which says all of what it is.
    pub(super) fn name(&self) -> String {
        let to = if self.leads_to_gates { "-tidegate" } else { "-pods" };
        let end = FAMILIES.iter().find(|(family, _)| **family == *self.family);
        child(&self.service, &format!("{to}{}", end.map_or("", |(_, end)| end)))
    }

    /// The object; it goes with its Service.
    pub(super) fn object(&self, of: &ServiceId, uid: &str) -> Value {
        let to = if self.leads_to_gates { "tidegate" } else { "pods" };
        let ports = self.ports.iter().map(
            |port| json!({"name": *port.name, "port": port.number, "protocol": *port.transport}),
        );
        let ends = self.endpoints.iter().map(|end| {
            let mut object = Map::new();
            object.insert("addresses".to_owned(), json!([end.address]));
            if let Some(node) = &end.node {
                object.insert("nodeName".to_owned(), json!(**node));
            }
            let conditions = json!({
                "ready": end.is_ready, "serving": end.is_ready || end.is_terminating,
                "terminating": end.is_terminating,
            });
            object.insert("conditions".to_owned(), conditions);
            Value::Object(object)
        });
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "namespace": *of.namespace, "name": self.name(),
                "labels": {
                    SERVICE_NAME: *of.name, LEADS_TO: to,
                    "endpointslice.kubernetes.io/managed-by": "tidegate",
                },
                "ownerReferences": [{
                    "apiVersion": "v1", "kind": "Service", "name": *of.name, "uid": uid,
                }],
            },
            "addressType": *self.family,
            "ports": ports.collect::<Vec<_>>(),
            "endpoints": ends.collect::<Vec<_>>(),
        })
    }
}

/// A port that is nobody's yet.
pub(super) fn free_port(is_taken: impl Fn(u16) -> bool) -> Option<u16> {
    PORTS.into_iter().find(|port| !is_taken(*port))
}

/// What leads the served port to these pods of tidegate, at this port of theirs. The one of IPv4 is
/// there without any, so that the port is known before it is used.
pub(super) fn to_gates(
    service: &AdoptedService,
    name: &str,
    port: u16,
    ends: &[SliceEnd],
) -> Vec<OwnSlice> {
    let Ok(served) = service.served() else { return Vec::new() };
    let port = SlicePort {
        name: Arc::clone(&served.name),
        number: port,
        transport: Arc::clone(&served.transport),
    };
    of_families(name, true, &[port], ends, true)
}

/// What leads all other ports to the pods.
pub(super) fn to_pods(
    service: &AdoptedService,
    name: &str,
    adopted: &Adopted,
    pods: &[Arc<Pod>],
) -> Vec<OwnSlice> {
    let served = service.served.clone().ok();
    let others = service.ports.iter().enumerate().filter(|(index, _)| Some(*index) != served);
    let ports: Vec<SlicePort> = others
        .filter_map(|(_, port)| {
            Some(SlicePort {
                name: Arc::clone(&port.name),
                number: adopted.workload.object.target(port)?,
                transport: Arc::clone(&port.transport),
            })
        })
        .collect();
    if ports.is_empty() {
        return Vec::new();
    }
    let live = pods.iter().filter(|pod| !pod.facts.is_over);
    let ends: Vec<SliceEnd> = live
        .flat_map(|pod| {
            let end = |address: &IpAddr| SliceEnd {
                address: *address,
                node: pod.node.clone(),
                is_ready: pod.facts.is_ready || service.publishes_not_ready,
                is_terminating: pod.facts.is_terminating,
            };
            pod.facts.addresses.iter().map(end).collect::<Vec<_>>()
        })
        .collect();
    of_families(name, false, &ports, &ends, false)
}

fn of_families(
    name: &str,
    leads_to_gates: bool,
    ports: &[SlicePort],
    ends: &[SliceEnd],
    always: bool,
) -> Vec<OwnSlice> {
    let of = |(family, _): &(&str, &str)| {
        let is_v4 = *family == "IPv4";
        let mut endpoints: Vec<SliceEnd> =
            ends.iter().filter(|end| end.address.is_ipv4() == is_v4).cloned().collect();
        endpoints.sort_by_key(|end| end.address);
        endpoints.truncate(ENDPOINTS_MAX);
        let is_there = !endpoints.is_empty() || (always && is_v4);
        is_there.then(|| OwnSlice {
            service: name.into(),
            leads_to_gates,
            family: (*family).into(),
            ports: ports.to_vec(),
            endpoints,
        })
    };
    FAMILIES.iter().filter_map(of).collect()
}

impl SliceEnd {
    /// A pod of tidegate.
    pub(super) fn gate(address: IpAddr, gate: &Gate) -> Self {
        Self { address, node: gate.node.clone(), is_ready: true, is_terminating: false }
    }
}
