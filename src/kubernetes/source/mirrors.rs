//! The objects that the data plane follows.

use std::rc::Rc;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::Stream;
use futures_util::future::LocalBoxFuture;
use kube::Client;
use kube::api::DynamicObject;
use kube::runtime::watcher::Config;
use serde_json::Value;

use super::changes::{Change, Tell};
use super::facts::{DeploymentFacts, PodFacts, Slice};
use crate::config::settings::{CONFIG_MAPS, Data};
use crate::config::world::cluster::{MappingObject, RevisionObject, RouteObject, ScalerObject};
use crate::kubernetes::ROLLOUT_ANNOTATION;
use crate::kubernetes::controller::meta::REVISION;
use crate::kubernetes::feed::{Relays, Seen, watch};
use crate::kubernetes::kinds::Kind;
use crate::kubernetes::mirror::{Mirror, name_of, value};
use crate::model::ObjectName;

/// Which objects matter.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The only namespace; none = all.
    pub namespace: Option<String>,
    /// The namespace of ConfigMaps that are settings.
    pub settings: String,
}

/// Copies of all objects that matter.
#[derive(Debug, Default)]
pub(super) struct Mirrors {
    pub(super) routes: Mirror<RouteObject>,
    pub(super) revisions: Mirror<RevisionObject>,
    pub(super) mappings: Mirror<MappingObject>,
    pub(super) scalers: Mirror<ScalerObject>,
    pub(super) public_scalers: Mirror<ScalerObject>,
    pub(super) settings: Mirror<Data>,
    pub(super) deployments: Mirror<DeploymentFacts>,
    pub(super) slices: Mirror<Slice>,
    pub(super) pods: Mirror<PodFacts>,
}

impl Mirrors {
    /// Follows all kinds for as long as the event loop runs; changes are told.
    pub(super) fn follow(
        self: &Rc<Self>,
        client: &Client,
        scope: &Scope,
        relays: &mut Relays,
        tell: &Tell,
    ) {
        let of_revisions = Config::default().labels(REVISION);
        for (kind, config) in [
            (Kind::Route, Config::default()),
            (Kind::Revision, Config::default()),
            (Kind::DomainMapping, Config::default()),
            (Kind::PodAutoscaler, Config::default()),
            (Kind::PublicPodAutoscaler, Config::default()),
            (Kind::ConfigMap, Config::default()),
            (Kind::Deployment, of_revisions.clone()),
            (Kind::EndpointSlice, of_revisions.clone()),
            (Kind::Pod, of_revisions),
        ] {
            let namespace = match kind {
                Kind::ConfigMap => Some(scope.settings.as_str()),
                _ => scope.namespace.as_deref(),
            };
            let api = kind.objects(client, namespace);
            let events = relays.relayed(kind, watch(api, config));
            let mirrors = Rc::clone(self);
            let tell = Arc::clone(tell);
            drop(tokio::task::spawn_local(async move {
                mirrors.follow_one(kind, events, tell).await;
            }));
        }
    }

    fn follow_one(
        self: Rc<Self>,
        kind: Kind,
        events: impl Stream<Item = Seen> + 'static,
        tell: Tell,
    ) -> LocalBoxFuture<'static, ()> {
        let changed = move |name: &ObjectName| {
            tell.tell(Change::Object(kind, name.clone()));
        };
        async move {
            macro_rules! follow {
                ($mirror:ident, $keep:expr) => {
                    self.$mirror.take_all(events, $keep, changed).await
                };
            }
            match kind {
                Kind::Route => follow!(routes, |object| {
                    Some(RouteObject::read(&value(object), ROLLOUT_ANNOTATION))
                }),
                Kind::Revision => {
                    follow!(revisions, |object| Some(RevisionObject::read(&value(object))));
                }
                Kind::DomainMapping => follow!(mappings, |object| {
                    let name = name_of(object);
                    Some(MappingObject::read(&name, &value(object)))
                }),
                Kind::PodAutoscaler => follow!(scalers, scaler),
                Kind::PublicPodAutoscaler => follow!(public_scalers, scaler),
                Kind::ConfigMap => follow!(settings, settings),
                Kind::Deployment => {
                    follow!(deployments, |object| Some(DeploymentFacts::read(&value(object))));
                }
                Kind::EndpointSlice => {
                    follow!(slices, |object| Slice::read(&value(object)));
                }
                Kind::Pod => follow!(pods, |object| PodFacts::read(&value(object))),
                Kind::Service
                | Kind::Configuration
                | Kind::CoreService
                | Kind::StatefulSet
                | Kind::HorizontalPodAutoscaler
                | Kind::Secret
                | Kind::Lease
                | Kind::ClusterDomainClaim => {}
            }
        }
        .boxed_local()
    }

    /// Returns once all kinds were listed.
    pub(super) async fn complete(&self) {
        self.settings.complete().await;
        self.revisions.complete().await;
        self.scalers.complete().await;
        self.public_scalers.complete().await;
        self.routes.complete().await;
        self.mappings.complete().await;
        self.deployments.complete().await;
        self.slices.complete().await;
        self.pods.complete().await;
    }
}

fn scaler(object: &DynamicObject) -> Option<ScalerObject> {
    let namespace = name_of(object).namespace;
    Some(ScalerObject::read(&namespace, &value(object)))
}

/// Data of a ConfigMap that is settings.
pub(super) fn settings(object: &DynamicObject) -> Option<Data> {
    let name = name_of(object).name;
    CONFIG_MAPS.into_iter().find(|known| **known == *name)?;
    let data = object.data.get("data").and_then(Value::as_object);
    let data = data.into_iter().flatten().filter(|(key, _)| *key != "_example");
    Some(data.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect())
}

/// The objects of these names that are there.
pub(super) fn all<'a, T: PartialEq>(
    mirror: &Mirror<T>,
    names: impl IntoIterator<Item = &'a ObjectName>,
) -> Vec<Arc<T>> {
    names.into_iter().filter_map(|name| mirror.get(name)).collect()
}
