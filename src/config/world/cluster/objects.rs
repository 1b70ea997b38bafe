//! What matters of each object, read once when it changed.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::traffic::{private_names, traffic};
use crate::config::admission::{AUTOSCALING, Annotations};
use crate::config::scaling::{PodAutoscalerSettings, resolve};
use crate::config::settings::AutoscalerConfig;
use crate::config::world::admitted::{label, metadata_map};
use crate::config::world::canary::route_canary;
use crate::config::world::dependencies::Needed;
use crate::config::world::env::{list, text};
use crate::config::world::own::own_settings;
use crate::config::world::probes::probes;
use crate::config::world::routes::mapping_target;
use crate::config::world::scalers::Target;
use crate::config::world::stamp::TrafficStamp;
use crate::config::world::workload::{
    container_concurrency, protocol, serving_container, timeouts,
};
use crate::model::{
    CanaryRules, ContainerConcurrency, ObjectName, ObjectReference, PodsSpec, Probes, Protocol,
    QueueSettings, RevisionId, RevisionSpec, ServiceId, Timeouts, Workload,
};

const SERVICE_LABEL: &str = "serving.knative.dev/service";
const CONFIGURATION_LABEL: &str = "serving.knative.dev/configuration";
/// Whether a route leads to a revision: `pending`, `active` or `reserve`.
const ROUTING_STATE: &str = "serving.knative.dev/routingState";
/// Knative's port where a template names none.
const USER_PORT: u16 = 8080;

/// A condition's status; none if there is no such condition.
fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| text(condition, "type") == Some(kind))
}

fn holds(object: &Value, kind: &str) -> bool {
    condition(object, kind).and_then(|condition| text(condition, "status")) == Some("True")
}

pub(super) fn created(object: &Value) -> Arc<str> {
    object.pointer("/metadata/creationTimestamp").and_then(Value::as_str).unwrap_or("").into()
}

/// What matters of a Revision.
#[derive(Clone, Debug, PartialEq)]
pub struct RevisionObject {
    /// Its UID: one of the same name later is another.
    pub uid: Arc<str>,
    /// Whether it is ready, or was.
    pub was_ready: bool,
    service: Option<Arc<str>>,
    configuration: Arc<str>,
    concurrency: ContainerConcurrency,
    protocol: Protocol,
    timeouts: Timeouts,
    queue: QueueSettings,
    depends_on: Vec<Needed>,
    /// Of autoscaling, and the progress deadline.
    annotations: Annotations,
    /// Whether a route leads to it, where that is known.
    is_routed: Option<bool>,
    port: u16,
    probes: Probes,
}

impl RevisionObject {
    /// Reads an admitted Revision.
    pub fn read(object: &Value) -> Self {
        let spec = object.get("spec").unwrap_or(&Value::Null);
        let mut annotations = metadata_map(object, "annotations");
        // Checked at admission; one made without it counts as having none.
        let own = own_settings(&annotations).unwrap_or_default();
        annotations.retain(|key, _| {
            key.starts_with(AUTOSCALING) || key == "serving.knative.dev/progress-deadline"
        });
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let container = serving_container(spec);
        let port = list(container, "ports").first();
        let port = port.and_then(|port| port.get("containerPort")?.as_u64());
        let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        Self {
            uid: object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or("").into(),
            was_ready: holds(object, "Ready"),
            service: label(object, SERVICE_LABEL).map(Arc::from),
            configuration: label(object, CONFIGURATION_LABEL).unwrap_or(name).into(),
            concurrency: container_concurrency(spec),
            protocol: protocol(spec),
            timeouts: timeouts(spec),
            queue: own.queue,
            depends_on: own.depends_on,
            annotations,
            is_routed: match label(object, ROUTING_STATE) {
                Some("active") => Some(true),
                Some("reserve") => Some(false),
                _ => None,
            },
            port: port.unwrap_or(USER_PORT),
            probes: probes(container),
        }
    }

    /// The configuration it was stamped from.
    pub(super) fn configuration_of(&self, id: &RevisionId) -> ObjectName {
        ObjectName::new(Arc::clone(&id.namespace), Arc::clone(&self.configuration))
    }

    /// Its effective settings: those of the PodAutoscaler that people wrote win over those of its
    /// own one, and these over its annotations.
    pub(super) fn resolve(
        &self,
        id: &RevisionId,
        autoscaler: &AutoscalerConfig,
        own: Option<&ScalerObject>,
        public: Option<&ScalerObject>,
    ) -> RevisionSpec {
        let mut annotations = self.annotations.clone();
        annotations.extend(
            own.iter()
                .flat_map(|own| own.settings.iter())
                .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        let stated = own.and_then(|own| own.is_reachable);
        // Unknown counts as reachable, as in Knative.
        let is_reachable = stated.or(self.is_routed).unwrap_or(true);
        let public = public.map(|public| &public.settings);
        let mut scaling = resolve(autoscaler, &annotations, self.concurrency, is_reachable, public);
        scaling.initialized = own.map(|own| own.is_initialized);
        let deployment = || ObjectReference {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            name: format!("{}-deployment", id.name).into(),
        };
        let pods = PodsSpec {
            scaled: own.and_then(|own| own.reference.clone()).unwrap_or_else(deployment),
            port: self.port,
            probes: self.probes.clone(),
        };
        RevisionSpec {
            id: id.clone(),
            service: self
                .service
                .as_ref()
                .map(|name| ServiceId::new(Arc::clone(&id.namespace), Arc::clone(name))),
            configuration: Arc::clone(&self.configuration),
            container_concurrency: self.concurrency,
            protocol: self.protocol,
            timeouts: self.timeouts,
            scaling,
            queue: self.queue.clone(),
            depends_on: self.depends_on.iter().map(|needed| needed.by(&id.namespace)).collect(),
            workload: Workload::Pods(Arc::new(pods)),
        }
    }
}

/// What a PodAutoscaler that people write scales.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scaled {
    /// All revisions of a service or configuration.
    Configuration(ObjectName),
    /// One revision.
    Revision(RevisionId),
    /// A workload that is adopted: its kind and name.
    Workload(Arc<str>, ObjectName),
}

/// What matters of a PodAutoscaler of either group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalerObject {
    /// Whether as many replicas as the initial scale asks for were ready once.
    pub is_initialized: bool,
    scaled: Option<Scaled>,
    reference: Option<ObjectReference>,
    settings: PodAutoscalerSettings,
    is_reachable: Option<bool>,
}

impl ScalerObject {
    /// Reads an admitted PodAutoscaler of this namespace.
    pub fn read(namespace: &Arc<str>, object: &Value) -> Self {
        let name = |name: &str| ObjectName::new(Arc::clone(namespace), name);
        let reference = object.pointer("/spec/scaleTargetRef").and_then(|reference| {
            Some(ObjectReference {
                api_version: text(reference, "apiVersion")?.into(),
                kind: text(reference, "kind")?.into(),
                name: text(reference, "name")?.into(),
            })
        });
        let reachability = object.pointer("/spec/reachability").and_then(Value::as_str);
        Self {
            is_initialized: holds(object, "ScaleTargetInitialized"),
            scaled: match Target::of(object) {
                Some(Target::Configuration(of)) => Some(Scaled::Configuration(name(of))),
                Some(Target::Revision(of)) => Some(Scaled::Revision(name(of))),
                None => reference
                    .as_ref()
                    .filter(|of: &&ObjectReference| *of.api_version == *"apps/v1")
                    .map(|of| Scaled::Workload(Arc::clone(&of.kind), name(&of.name))),
            },
            reference,
            settings: PodAutoscalerSettings::of_object(object),
            is_reachable: match reachability {
                Some("Reachable") => Some(true),
                Some("Unreachable") => Some(false),
                _ => None,
            },
        }
    }

    pub(super) const fn scaled(&self) -> Option<&Scaled> {
        self.scaled.as_ref()
    }

    pub(super) const fn settings(&self) -> &PodAutoscalerSettings {
        &self.settings
    }
}

/// What matters of a Route.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteObject {
    pub(super) created: Arc<str>,
    pub(super) labels: Annotations,
    pub(super) annotations: Annotations,
    /// None while no revision has got any.
    pub(super) traffic: Option<TrafficStamp>,
    /// Names that its status says only the cluster sees: none is its own, the others are tags.
    pub(super) private: BTreeSet<Option<String>>,
    /// Why it is not ready, as its status says.
    pub(super) why: Option<String>,
    /// By what canaries are judged, where new revisions are; and what is wrong with that.
    pub(super) canary: (Option<Arc<CanaryRules>>, Vec<String>),
}

impl RouteObject {
    /// Reads an admitted Route; `rollout` names the annotation with shares that move.
    pub fn read(object: &Value, rollout: &str) -> Self {
        let annotations = metadata_map(object, "annotations");
        let rollout = annotations.get(rollout).and_then(|text| serde_json::from_str(text).ok());
        let why = condition(object, "Ready").and_then(|ready| {
            let reason = text(ready, "reason").filter(|reason| !reason.is_empty())?;
            let message = text(ready, "message").unwrap_or_default();
            Some(format!("{reason}: {message}"))
        });
        let mut own = annotations;
        own.retain(|key, _| !is_written_by_programs(key));
        let (rules, wrong) = route_canary(object);
        Self {
            canary: (rules.map(Arc::new), wrong),
            created: created(object),
            labels: metadata_map(object, "labels"),
            annotations: own,
            traffic: traffic(object, rollout),
            private: private_names(object),
            why,
        }
    }

    /// Where its traffic goes; none while no revision has got any.
    pub const fn traffic(&self) -> Option<&TrafficStamp> {
        self.traffic.as_ref()
    }
}

/// Annotations that change without meaning anything here.
fn is_written_by_programs(key: &str) -> bool {
    key.starts_with("kubectl.kubernetes.io/") || key.starts_with("networking.internal.knative.dev/")
}

/// What matters of a DomainMapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingObject {
    pub(super) created: Arc<str>,
    pub(super) annotations: Annotations,
    /// The route it leads to, in its own namespace.
    pub(super) target: Option<ServiceId>,
    /// Whether its status says that the host is its own.
    pub(super) is_claimed: bool,
}

impl MappingObject {
    /// Reads an admitted DomainMapping.
    pub fn read(name: &ObjectName, object: &Value) -> Self {
        let mut annotations = metadata_map(object, "annotations");
        annotations.retain(|key, _| !is_written_by_programs(key));
        Self {
            created: created(object),
            annotations,
            target: mapping_target(name, object)
                .filter(|target| target.namespace == name.namespace),
            is_claimed: holds(object, "DomainClaimed"),
        }
    }
}
