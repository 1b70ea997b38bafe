//! Kubernetes behind both seams: objects in, pods out.
//!
//! Two halves meet only in the objects of the cluster, so each can be restarted, replaced or run
//! elsewhere without the other:
//!
//! ```text
//! controller (leader)   Service ─▶ Configuration ─▶ Revision ─▶ Deployment, private Service, PodAutoscaler
//!                               └▶ Route ─▶ traffic in its status, Services for the names in the cluster
//! data plane (each)     Route, Revision, DomainMapping, ConfigMaps ─▶ World
//!                       EndpointSlices, pods ─▶ endpoints        counts ─▶ `/scale` of Deployments
//! ```
//!
//! # Who writes what
//!
//! | object | name | written by |
//! |---|---|---|
//! | Configuration, Route | the Service's | controller |
//! | Revision | `CONFIGURATION-00001` or the template's name | controller |
//! | Deployment | `REVISION-deployment` | controller, without `replicas` once it exists; scaler, `/scale` alone |
//! | Service (core), selects the pods of a revision | `REVISION-private` | controller; its slices are the endpoints |
//! | Service (core), leads to tidegate | `REVISION`, `ROUTE`, `TAG-ROUTE` | controller |
//! | PodAutoscaler (internal) | `REVISION` | controller; status by the leading scaler |
//! | Route's `status.traffic` | | controller: revisions and percents, those of the moment while traffic moves |
//! | Route's annotation [`ROLLOUT_ANNOTATION`] | | controller: where a rollout duration or a canary is set, the percents in effect of all that follows a newest revision and how far canaries are, before `status.traffic` |
//!
//! | Service (core) that is adopted: its conditions, one key of its selector | somebody's | controller |
//! | EndpointSlices of a Service whose name is taken over | `SERVICE-tidegate`, `SERVICE-pods` | controller |
//! | count of what is adopted | | scaler, `/scale` alone |
//!
//! Pods carry Knative's labels: `serving.knative.dev/revision`, `…/configuration`, `…/service`.
//! A container's user port is where tidegate connects: there is no sidecar.

pub mod adoption;
pub mod certificates;
pub mod client;
pub mod conditions;
pub mod controller;
pub mod feed;
pub mod foreign;
pub mod keys;
pub mod kinds;
pub mod lease;
pub mod mirror;
pub mod names;
pub mod observed;
pub mod peers;
pub mod prestop;
pub mod review;
pub mod scale;
pub mod slots;
pub mod source;
pub mod spread;
pub mod trials;
pub mod webhook;
pub mod work;

#[cfg(test)]
mod simulation;

/// Annotation of a Route with the shares in effect while its traffic moves step by step: JSON as
/// Knative keeps it on its Ingress (`networking.internal.knative.dev/rollout`).
pub const ROLLOUT_ANNOTATION: &str = "networking.internal.knative.dev/rollout";

/// Field manager of everything the controller applies.
pub const CONTROLLER_MANAGER: &str = "tidegate-controller";

/// Field manager of counts on `/scale`.
pub const SCALER_MANAGER: &str = "tidegate-scaler";

/// Namespace of the ConfigMaps that are settings, unless `SYSTEM_NAMESPACE` names another one.
pub const SETTINGS_NAMESPACE: &str = "knative-serving";
