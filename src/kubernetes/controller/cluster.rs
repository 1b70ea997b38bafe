//! What is known of the cluster, and whom a change concerns.

mod read;

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join, join_all};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::runtime::watcher;

use super::Options;
use super::feeds::Feeds;
use super::meta::{REVISION, ROUTE};
use super::object::Parts as _;
use super::objects::{Objects, Taking};
use super::route::internal_host;
use super::settings::{SettingsCell, data_of};
use super::write::Writer;
use crate::config::settings::Data;
use crate::kubernetes::feed::{Feed, watch};
use crate::kubernetes::kinds::Kind;
use crate::kubernetes::mirror::Mirror;
use crate::kubernetes::spread::Spread;
use crate::kubernetes::trials::Trials;
use crate::kubernetes::work::Work;
use crate::model::ObjectName;

pub(super) use read::host_of;
use read::{
    configuration, host_and_target, is_needed, name_alone, needed_of, nobody, nothing, revision,
    route, routes, routes_and_needed, scaled, service, state_of_pod, targets,
};

/// How long what happens to the replicas of a ready revision may be missing from its status.
const REST: Duration = Duration::from_secs(1);

/// Mirrors, queues and the way to write: what every reconciler works with.
#[derive(Debug)]
pub struct Cluster {
    /// Services.
    pub services: Objects,
    /// Configurations; those of a Service belong to it.
    pub configurations: Objects,
    /// Routes; those of a Service belong to it.
    pub routes: Objects,
    /// Revisions, by Configuration.
    pub revisions: Objects,
    /// DomainMappings.
    pub domain_mappings: Objects,
    /// ClusterDomainClaims; none where only one namespace is looked at.
    pub domain_claims: Objects,
    /// Internal PodAutoscalers, by revision.
    pub pod_autoscalers: Objects,
    /// Deployments of revisions, by revision.
    pub deployments: Objects,
    /// HorizontalPodAutoscalers, by the Deployment that they scale. Nothing waits for their list.
    pub horizontal_autoscalers: Objects,
    /// Services (core) of revisions, by revision.
    pub revision_services: Objects,
    /// Services (core) of Routes, by Route.
    pub route_services: Objects,
    /// Pods of revisions, by revision; only their state.
    pub pods: Objects,
    config_maps: Mirror<Data>,
    /// Settings.
    pub settings: SettingsCell,
    /// Names to look at.
    pub queues: Queues,
    /// Writes.
    pub writer: Writer,
    /// The host that names in the cluster lead to: tidegate's own Service (core) for callers
    /// inside.
    pub internal_host: String,
    /// What the proxies lead to.
    pub spread: Arc<Spread>,
    /// What canaries are decided by.
    pub trials: Arc<Trials>,
    /// The wall clock.
    pub now: fn() -> Timestamp,
}

/// Names to look at, by what has to be done with them.
#[derive(Debug, Default)]
pub struct Queues {
    /// Services.
    pub services: Work<ObjectName>,
    /// Configurations.
    pub configurations: Work<ObjectName>,
    /// Revisions.
    pub revisions: Work<ObjectName>,
    /// Configurations whose old revisions may have to go.
    pub collections: Work<ObjectName>,
    /// Routes.
    pub routes: Work<ObjectName>,
    /// DomainMappings.
    pub domain_mappings: Work<ObjectName>,
}

impl Cluster {
    /// Nothing known yet; and what sends events.
    pub fn new(
        client: Client,
        now: fn() -> Timestamp,
        spread: Arc<Spread>,
    ) -> (Self, impl Future<Output = ()>) {
        let (writer, events) = Writer::new(client);
        let cluster = Self {
            services: Objects::default(),
            configurations: Objects::default(),
            routes: Objects::default(),
            revisions: Objects::default(),
            domain_mappings: Objects::default(),
            domain_claims: Objects::default(),
            pod_autoscalers: Objects::default(),
            deployments: Objects::default(),
            horizontal_autoscalers: Objects::default(),
            revision_services: Objects::default(),
            route_services: Objects::default(),
            pods: Objects::default(),
            config_maps: Mirror::default(),
            settings: SettingsCell::default(),
            queues: Queues::default(),
            writer,
            internal_host: internal_host(),
            spread,
            trials: Arc::default(),
            now,
        };
        (cluster, events)
    }

    /// Returns once all objects were listed.
    pub async fn complete(&self) {
        self.config_maps.complete().await;
        for objects in [
            &self.services,
            &self.configurations,
            &self.routes,
            &self.revisions,
            &self.domain_mappings,
            &self.pod_autoscalers,
            &self.deployments,
            &self.revision_services,
            &self.route_services,
            &self.pods,
        ] {
            objects.complete().await;
        }
    }

    /// Keeps everything current, for good.
    pub async fn follow(&self, client: &Client, options: &Options, mut feeds: Feeds) {
        let settings = feeds.take(Kind::ConfigMap, None);
        let (one, parts) = (self.written(), self.made());
        // What is in no namespace is not for somebody with rights in one.
        let claims = options.namespace.is_none().then(|| self.claimed());
        let all = one
            .into_iter()
            .chain(parts)
            .chain(claims)
            .map(|one| self.follow_one(client, options, &mut feeds, one));
        let all = join_all(all.collect::<Vec<_>>());
        join(all, async {
            if let Some(settings) = settings {
                self.follow_settings(settings).await;
            }
        })
        .await;
    }

    /// What people write, and what is made of it.
    fn written(&self) -> Vec<Followed<'_>> {
        let of = |kind, objects, owner, mentions, told| {
            let taking = Taking { part: |_| (), owner, mentions };
            Followed { kind, objects, label: None, taking, told }
        };
        vec![
            of(Kind::Service, &self.services, nobody, nothing, |Self { queues, .. }, name, _| {
                queues.services.add(name.clone());
            }),
            of(
                Kind::Configuration,
                &self.configurations,
                service,
                routes,
                |Self { queues, .. }, name, owner| {
                    queues.configurations.add(name.clone());
                    queues.collections.add(name.clone());
                    tell(&queues.services, owner);
                },
            ),
            of(Kind::Route, &self.routes, service, targets, |Self { queues, .. }, name, owner| {
                queues.routes.add(name.clone());
                tell(&queues.services, owner);
            }),
            of(
                Kind::Revision,
                &self.revisions,
                configuration,
                routes_and_needed,
                |Self { queues, .. }, name, owner| {
                    queues.revisions.add(name.clone());
                    tell(&queues.configurations, owner);
                    tell(&queues.collections, owner);
                },
            ),
            of(
                Kind::DomainMapping,
                &self.domain_mappings,
                nobody,
                host_and_target,
                |Self { queues, .. }, name, _| queues.domain_mappings.add(name.clone()),
            ),
        ]
    }

    /// Which namespace has which host.
    fn claimed(&self) -> Followed<'_> {
        Followed {
            kind: Kind::ClusterDomainClaim,
            objects: &self.domain_claims,
            label: None,
            taking: Taking { part: |_| (), owner: nobody, mentions: nothing },
            told: |_, _, _| (),
        }
    }

    /// What is made of revisions and of Routes.
    fn made(&self) -> Vec<Followed<'_>> {
        let of = |kind, objects, part| {
            let taking = Taking { part, owner: revision, mentions: nothing };
            Followed { kind, objects, label: Some(REVISION), taking, told: Self::tell_revision }
        };
        let of_route = Followed {
            kind: Kind::CoreService,
            objects: &self.route_services,
            label: Some(ROUTE),
            taking: Taking { part: |_| (), owner: route, mentions: nothing },
            told: |Self { queues, .. }, _, owner| tell(&queues.routes, owner),
        };
        let of_others = Followed {
            kind: Kind::HorizontalPodAutoscaler,
            objects: &self.horizontal_autoscalers,
            label: None,
            taking: Taking { part: name_alone, owner: scaled, mentions: nothing },
            told: |_, _, _| (),
        };
        vec![
            of(Kind::PodAutoscaler, &self.pod_autoscalers, |_| ()),
            of(Kind::Deployment, &self.deployments, |_| ()),
            of(Kind::CoreService, &self.revision_services, |_| ()),
            of(Kind::Pod, &self.pods, state_of_pod),
            of_route,
            of_others,
        ]
    }

    fn follow_one<'a>(
        &'a self,
        client: &Client,
        options: &Options,
        feeds: &mut Feeds,
        followed: Followed<'a>,
    ) -> BoxFuture<'a, ()> {
        let Followed { kind, objects, label, taking, told } = followed;
        let changed = move |name: &ObjectName, owner: Option<&ObjectName>| {
            told(self, name, owner);
            self.tell_mentioning(kind, name);
            if kind == Kind::HorizontalPodAutoscaler {
                let revision = owner.and_then(|name| self.revision_of(name));
                tell(&self.queues.revisions, revision.as_ref());
            }
        };
        if let Some(feed) = feeds.take(kind, label) {
            return Box::pin(objects.take_all(feed.events(), taking, changed));
        }
        let api = kind.objects(client, options.namespace.as_deref());
        let mut routed = options.routed.clone();
        Box::pin(async move {
            // One that ends first ends all.
            if routed.wait_for(|routed| *routed).await.is_ok() {
                let events = watch(api, watcher::Config::default());
                objects.take_all(events, taking, changed).await;
            }
        })
    }

    /// Something that was made of a revision changed. One that is ready is not in a hurry: most
    /// often its replicas start or end just then, and what is written about that would take turns
    /// with the starts themselves.
    fn tell_revision(&self, _: &ObjectName, owner: Option<&ObjectName>) {
        let Some(owner) = owner else { return };
        let is_ready = self.revisions.get(owner).is_some_and(|revision| revision.is_ready);
        let rest = if is_ready { REST } else { Duration::ZERO };
        self.queues.revisions.add_after(owner.clone(), rest);
    }

    /// The revision that a Deployment is of.
    fn revision_of(&self, deployment: &ObjectName) -> Option<ObjectName> {
        let deployment = self.deployments.get(deployment)?.value();
        let revision = deployment.label(REVISION);
        (!revision.is_empty()).then(|| ObjectName::new(deployment.name().namespace, revision))
    }

    /// Has looked at what mentions an object: a Route those its traffic names, a DomainMapping the
    /// Route it leads to, and others of its host. And at Routes of which an object says that they
    /// lead to it: a new revision says so before its Route was asked.
    fn tell_mentioning(&self, kind: Kind, name: &ObjectName) {
        let noted = match kind {
            Kind::Configuration => self.configurations.mentioned_by(name),
            Kind::Revision => self.revisions.mentioned_by(name),
            _ => BTreeSet::new(),
        };
        // One that is not known may only not be known yet: its note is not to be taken off again and
        // again.
        let known = noted.into_iter().filter(|route| self.routes.get(route).is_some());
        known.for_each(|route| self.queues.routes.add(route));
        if kind == Kind::Route {
            self.tell_depending(name);
        }
        let (objects, queue, name) = match kind {
            Kind::Configuration | Kind::Revision => {
                (&self.routes, &self.queues.routes, name.clone())
            }
            Kind::Route => (&self.domain_mappings, &self.queues.domain_mappings, name.clone()),
            Kind::DomainMapping => {
                (&self.domain_mappings, &self.queues.domain_mappings, host_of(&name.name))
            }
            Kind::ClusterDomainClaim => {
                // A claim may have outlived the mapping that it was made for.
                if let Some(claim) = self.domain_claims.get(name) {
                    let value = claim.value();
                    let mapping = ObjectName::new(value.text("/spec/namespace"), &*name.name);
                    self.queues.domain_mappings.add(mapping);
                }
                (&self.domain_mappings, &self.queues.domain_mappings, host_of(&name.name))
            }
            _ => return,
        };
        objects.mentioning(&name).into_iter().for_each(|name| queue.add(name));
    }

    /// Has Routes looked at whose revisions depend on one: their new traffic may wait for it.
    fn tell_depending(&self, needed: &ObjectName) {
        for revision in self.revisions.mentioning(&needed_of(needed)) {
            let routes = self.revisions.mentioned_by(&revision).into_iter();
            let known = routes.filter(|route| self.routes.get(route).is_some());
            known.for_each(|route| self.queues.routes.add(route));
        }
    }

    /// Has Routes looked at that are gone while something says that they lead to it.
    pub fn tell_gone_routes(&self) {
        for objects in [&self.configurations, &self.revisions] {
            let gone =
                objects.mentioned().into_iter().filter(|name| self.routes.get(name).is_none());
            let gone = gone.filter(|name| !is_needed(name));
            gone.for_each(|name| self.queues.routes.add(name));
        }
    }

    async fn follow_settings(&self, feed: Feed) {
        let queues = &self.queues;
        let changed = |_: &ObjectName| {
            let maps = self.config_maps.all().into_iter();
            let maps: HashMap<String, Data> =
                maps.map(|(name, data)| (name.name.to_string(), (*data).clone())).collect();
            if !self.settings.take(&maps) {
                return;
            }
            // Everything may look different now.
            for (objects, queue) in [
                (&self.services, &queues.services),
                (&self.configurations, &queues.collections),
                (&self.revisions, &queues.revisions),
                (&self.routes, &queues.routes),
                (&self.domain_mappings, &queues.domain_mappings),
            ] {
                objects.names().into_iter().for_each(|name| queue.add(name));
            }
        };
        self.config_maps.take_all(feed.events(), data_of, changed).await;
    }
}

struct Followed<'a> {
    kind: Kind,
    objects: &'a Objects,
    /// Only objects with this label.
    label: Option<&'static str>,
    taking: Taking,
    /// Puts on queues whom a change concerns: the object, and whom it belongs to.
    told: fn(&Cluster, &ObjectName, Option<&ObjectName>),
}

fn tell(queue: &Work<ObjectName>, name: Option<&ObjectName>) {
    if let Some(name) = name {
        queue.add(name.clone());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::time::Instant;

    use super::super::testing::Server;
    use super::*;

    /// What is new is made at once; what a start from zero does to one that is ready is stated
    /// when the start is over.
    #[tokio::test(start_paused = true)]
    async fn what_happens_to_a_ready_revision_is_looked_at_a_little_later() {
        let revision = |name: &str, ready: &str| {
            json!({
                "metadata": {"namespace": "ns", "name": name, "generation": 1},
                "status": {
                    "observedGeneration": 1, "conditions": [{"type": "Ready", "status": ready}],
                },
            })
        };
        let items = [revision("ready", "True"), revision("new", "Unknown")];
        let list = json!({"metadata": {"resourceVersion": "1"}, "items": items});
        let (client, _server) = Server::start(move |_| (200, list.clone()));
        let (cluster, _events) = Cluster::new(client.clone(), Timestamp::now, Arc::default());
        let taking = Taking { part: |_| (), owner: nobody, mentions: nothing };
        let events = watch(Kind::Revision.objects(&client, None), watcher::Config::default());
        tokio::select! {
            () = cluster.revisions.take_all(events, taking, |_, _| ()) => {}
            () = cluster.revisions.complete() => {}
        }
        let start = Instant::now();
        let pod = ObjectName::new("ns", "pod");
        for name in ["ready", "new"] {
            cluster.tell_revision(&pod, Some(&ObjectName::new("ns", name)));
        }
        for (name, after) in [("new", Duration::ZERO), ("ready", REST)] {
            assert_eq!(*cluster.queues.revisions.next().await.name, *name);
            assert_eq!(start.elapsed(), after, "{name}");
        }
    }
}
