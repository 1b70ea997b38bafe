//! Objects as the source of configuration and endpoints.
//!
//! ```text
//! mirrors ─ changes ─▶ ClusterWorld ─▶ World
//!                 └──▶ one revision: slices, pods, own probes ─▶ endpoints, counts, failures
//! ```
//!
//! A change costs what its object is part of. While watches are lost everything stays as it was.

mod adopted;
mod changes;
pub(in crate::kubernetes) mod facts;
mod mirrors;
mod probing;
mod replicas;
#[cfg(test)]
mod tests;
mod tracked;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::adoption::Adoption;
use super::client::own_namespace;
use super::feed::Relays;
use super::kinds::Kind;
use super::observed::{Count, Hold, Observed};
use crate::config::settings::Takers;
use crate::config::world::cluster::ClusterWorld;
use crate::model::{ObjectName, RevisionId, RevisionSpec, Workload, World};
use crate::platform::{ConfigSource, SourceError, Update, Updates};
use mirrors::{Mirrors, all};
use tracked::Tracked;

pub(super) use changes::{Change, Tell};
pub use mirrors::Scope;

/// Whether a revision got a request here.
pub type Heard = Box<dyn Fn(&RevisionId) -> bool>;

/// How often it is looked whether one that was adopted got its first request.
const LISTEN_EVERY: Duration = Duration::from_millis(500);

/// As long as starting fails, those that wait are told so this often.
const FAIL_EVERY: Duration = Duration::from_millis(500);

/// Follows the objects of a cluster.
pub struct KubernetesSource {
    client: Client,
    scope: Scope,
    observed: Arc<Observed>,
    takers: Takers,
    tell: Tell,
    adoption: Rc<Adoption>,
    heard: Heard,
    alone: watch::Receiver<Option<bool>>,
    complete: watch::Sender<bool>,
    relays: Relays,
}

impl std::fmt::Debug for KubernetesSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubernetesSource").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl KubernetesSource {
    /// A source that tells the scaler what it observes.
    pub fn new(client: Client, scope: Scope, observed: Arc<Observed>, takers: Takers) -> Self {
        let tell = Tell::default();
        let adoption = Adoption::new(Arc::clone(&tell));
        // What a receiver holds stays when its sender is gone.
        let alone = watch::channel(Some(true)).1;
        let heard: Heard = Box::new(|_| false);
        let complete = watch::Sender::new(false);
        let relays = Relays::default();
        Self { client, scope, observed, takers, tell, adoption, heard, alone, complete, relays }
    }

    /// Has it know which revisions got requests.
    #[must_use]
    pub fn hearing(self, heard: Heard) -> Self {
        Self { heard, ..self }
    }

    /// Has it serve only what is adopted while somebody else reconciles Knative's kinds.
    #[must_use]
    pub fn beside(self, alone: watch::Receiver<Option<bool>>) -> Self {
        Self { alone, ..self }
    }

    /// Has it relay what its watches say.
    #[must_use]
    pub fn relaying(self, relays: Relays) -> Self {
        Self { relays, ..self }
    }

    /// Whether all objects were listed: from then on requests have routes.
    pub fn complete(&self) -> watch::Receiver<bool> {
        self.complete.subscribe()
    }

    /// What is known of adopted Services.
    pub fn adoption(&self) -> Rc<Adoption> {
        Rc::clone(&self.adoption)
    }

    /// Where the scaler tells what it wrote.
    pub(super) fn tell(&self) -> Tell {
        Arc::clone(&self.tell)
    }
}

impl ConfigSource for KubernetesSource {
    async fn run(mut self, updates: Updates) -> Result<(), SourceError> {
        let mirrors = Rc::new(Mirrors::default());
        mirrors.follow(&self.client, &self.scope, &mut self.relays, &self.tell);
        let own = own_namespace(&self.client);
        let namespace = self.scope.namespace.as_deref();
        self.adoption.follow(&self.client, namespace, own, &mut self.relays);
        mirrors.complete().await;
        self.adoption.complete().await;
        let adoption = Rc::clone(&self.adoption);
        let mut state = State::new(mirrors, adoption, self.observed, self.takers);
        let mut alone = self.alone;
        // A sender that is gone says no more than it did.
        let known = alone.wait_for(Option::is_some).await.map(|alone| *alone != Some(false));
        state.set_alone(known.unwrap_or(true));
        let mut again = interval(FAIL_EVERY);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut listen = interval(LISTEN_EVERY);
        listen.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            while let Some(change) = self.tell.take() {
                state.apply(change);
            }
            if state.flush(&updates).await.is_err() {
                return Ok(());
            }
            self.complete.send_if_modified(|complete| !std::mem::replace(complete, true));
            tokio::select! {
                biased;
                change = self.tell.next() => state.apply(change),
                _ = again.tick(), if !state.failing.is_empty() => state.repeat_failures(),
                Ok(()) = alone.changed() => {
                    let known = *alone.borrow_and_update();
                    state.set_alone(known != Some(false));
                }
                _ = listen.tick(), if state.is_listening() => {
                    state.listen(&self.client, &self.heard);
                }
            }
        }
    }
}

/// Nobody takes updates any more.
#[derive(Debug)]
struct Closed;

async fn send(updates: &Updates, update: Update) -> Result<(), Closed> {
    updates.send(update).await.map_err(|_closed| Closed)
}

/// What the source knows.
struct State {
    mirrors: Rc<Mirrors>,
    tell: Tell,
    observed: Arc<Observed>,
    takers: Takers,
    objects: ClusterWorld,
    world: Arc<World>,
    tracked: BTreeMap<RevisionId, Tracked>,
    of_slice: HashMap<ObjectName, RevisionId>,
    of_pod: HashMap<ObjectName, RevisionId>,
    of_deployment: HashMap<ObjectName, RevisionId>,
    /// Revisions to look at.
    due: BTreeSet<RevisionId>,
    /// Revisions whose replicas cannot be started.
    failing: BTreeSet<RevisionId>,
    adoption: Rc<Adoption>,
    /// Adopted Services that it has to be said of where they are served.
    to_note: BTreeSet<RevisionId>,
}

impl State {
    fn new(
        mirrors: Rc<Mirrors>,
        adoption: Rc<Adoption>,
        observed: Arc<Observed>,
        takers: Takers,
    ) -> Self {
        let tell = adoption.tell();
        Self {
            adoption,
            to_note: BTreeSet::new(),
            mirrors,
            tell,
            observed,
            takers,
            objects: ClusterWorld::default(),
            world: Arc::default(),
            tracked: BTreeMap::new(),
            of_slice: HashMap::new(),
            of_pod: HashMap::new(),
            of_deployment: HashMap::new(),
            due: BTreeSet::new(),
            failing: BTreeSet::new(),
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Object(kind, name) => self.object(kind, &name),
            Change::Adopted(name) => self.adopted(&name),
            Change::Scaled(id) => {
                self.due.insert(id);
            }
            Change::Answered(id, endpoint) => {
                if let Some(tracked) = self.tracked.get_mut(&id) {
                    tracked.memory.answered(endpoint);
                    self.due.insert(id);
                }
            }
        }
    }

    fn object(&mut self, kind: Kind, name: &ObjectName) {
        let mirrors = Rc::clone(&self.mirrors);
        match kind {
            Kind::Route => {
                self.objects.set_route(name, mirrors.routes.get(name));
                self.name_changed(name);
            }
            Kind::Revision => {
                self.objects.set_revision(name, mirrors.revisions.get(name));
                self.name_changed(name);
            }
            Kind::DomainMapping => self.objects.set_mapping(name, mirrors.mappings.get(name)),
            Kind::PodAutoscaler => self.objects.set_scaler(name, mirrors.scalers.get(name)),
            Kind::PublicPodAutoscaler => {
                self.objects.set_public_scaler(name, mirrors.public_scalers.get(name));
            }
            Kind::ConfigMap => self.settings(name),
            Kind::Deployment => {
                if let Some(id) = self.of_deployment.get(name).cloned() {
                    self.deployment(&id, name);
                }
            }
            Kind::EndpointSlice => {
                let revision = mirrors.slices.get(name).map(|slice| Arc::clone(&slice.revision));
                let moved = moved(&mut self.of_slice, name, revision);
                self.note(moved, |tracked| &mut tracked.slices, name);
            }
            Kind::Pod => {
                let revision = mirrors.pods.get(name).map(|pod| Arc::clone(&pod.revision));
                let moved = moved(&mut self.of_pod, name, revision);
                self.note(moved, |tracked| &mut tracked.pods, name);
            }
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

    /// A slice or pod is another revision's than before, or changed.
    fn note(
        &mut self,
        (former, now): (Option<RevisionId>, Option<RevisionId>),
        names: fn(&mut Tracked) -> &mut BTreeSet<ObjectName>,
        name: &ObjectName,
    ) {
        if former != now
            && let Some(id) = former
            && let Some(tracked) = self.tracked.get_mut(&id)
        {
            names(tracked).remove(name);
            self.due.insert(id);
        }
        if let Some(id) = now {
            names(self.tracked.entry(id.clone()).or_default()).insert(name.clone());
            self.due.insert(id);
        }
    }

    fn settings(&mut self, name: &ObjectName) {
        let data = self.mirrors.settings.get(name).map(|data| (*data).clone());
        if let Err(problems) = self.objects.set_settings(&name.name, data) {
            for problem in problems {
                tracing::error!("ConfigMap {name} is not taken, its former self stays: {problem}");
            }
        } else if *name.name == *"config-logging" {
            (self.takers.logging)(self.objects.logging());
        } else if *name.name == *"config-observability" {
            (self.takers.observability)(self.objects.observability());
        }
    }

    /// A revision's Deployment changed, or is only known now to be its.
    fn deployment(&mut self, id: &RevisionId, name: &ObjectName) {
        let facts = self.mirrors.deployments.get(name);
        let count = facts.as_ref().map(|facts| Count {
            replicas: Some(facts.replicas),
            uid: Arc::clone(&facts.uid),
            is_ours: facts.is_ours,
        });
        self.observed.reported(id, count.unwrap_or_default());
        let tracked = self.tracked.entry(id.clone()).or_default();
        tracked.deployment_problem = facts.and_then(|facts| facts.problem.clone());
        self.due.insert(id.clone());
    }

    fn repeat_failures(&mut self) {
        for id in &self.failing {
            if let Some(tracked) = self.tracked.get_mut(id) {
                tracked.is_failure_due = true;
            }
            self.due.insert(id.clone());
        }
    }

    /// Hands on what changed: the world first, then replicas.
    async fn flush(&mut self, updates: &Updates) -> Result<(), Closed> {
        if let Some(world) = self.objects.take() {
            let world = Arc::new(world);
            for found in self.take_specs(&world) {
                send(updates, found).await?;
            }
            self.world = Arc::clone(&world);
            send(updates, Update::World(world)).await?;
            self.to_note.extend(self.adoption.names());
        }
        self.note_served();
        for id in std::mem::take(&mut self.due) {
            for update in self.look(&id) {
                send(updates, update).await?;
            }
        }
        Ok(())
    }

    /// Takes in what is new of revisions; answers what was found of those that were there before.
    fn take_specs(&mut self, world: &World) -> Vec<Update> {
        let mut found = Vec::new();
        let former = Arc::clone(&self.world);
        let mut former = former.revisions.iter().peekable();
        for spec in &world.revisions {
            if former.next_if(|old| Arc::ptr_eq(old, spec)).is_some() {
                continue;
            }
            while let Some(gone) = former.next_if(|old| old.id < spec.id) {
                self.unlist(&gone.id);
            }
            let old = former.next_if(|old| old.id == spec.id);
            // After one that is gone.
            if old.is_some_and(|old| Arc::ptr_eq(old, spec)) {
                continue;
            }
            self.list(spec);
            if old.is_none() {
                found.extend(self.found(spec));
            }
        }
        for gone in former {
            self.unlist(&gone.id);
        }
        found
    }

    fn list(&mut self, spec: &Arc<RevisionSpec>) {
        let id = &spec.id;
        let tracked = self.tracked.entry(id.clone()).or_default();
        tracked.is_listed = true;
        // The application may have made it anew: it is told again.
        tracked.reported = None;
        let former = tracked.spec.replace(Arc::clone(spec));
        let (former, now) = (former.and_then(|spec| deployment(&spec)), deployment(spec));
        if let Some(former) = former.filter(|former| now.as_ref() != Some(former)) {
            self.of_deployment.remove(&former);
        }
        self.due.insert(id.clone());
        tracked.is_adopted = self.objects.is_adopted(id);
        if tracked.is_adopted {
            return;
        }
        self.observed.set_hold(id, Hold::Free);
        if let Some(name) = now {
            self.of_deployment.insert(name.clone(), id.clone());
            self.deployment(id, &name);
        }
    }

    fn unlist(&mut self, id: &RevisionId) {
        if let Some(tracked) = self.tracked.get_mut(id) {
            tracked.is_listed = false;
            // Its pods go with their Deployment, or stay as they are.
            self.observed.set_hold(id, Hold::Off);
            self.due.insert(id.clone());
        }
    }

    /// Replicas that were there before. A new revision begins with its initial scale, as its
    /// Deployment was created with it.
    fn found(&self, spec: &RevisionSpec) -> Option<Update> {
        let replicas = self.observed.count(&spec.id).replicas?;
        let initialized = self.objects.is_initialized(&spec.id);
        let is_new = !initialized && replicas <= spec.scaling.initial_scale;
        (!is_new).then(|| Update::Found { revision: spec.id.clone(), replicas, initialized })
    }

    fn look(&mut self, id: &RevisionId) -> Vec<Update> {
        let Some(tracked) = self.tracked.get_mut(id) else { return Vec::new() };
        let (slices, pods) = if tracked.is_adopted {
            (Vec::new(), adopted::pods(&self.adoption, &self.observed, id, tracked.is_listed))
        } else {
            let names = tracked.pods.iter().filter_map(|name| {
                Some((self.mirrors.pods.get(name)?.id.clone(), Arc::clone(&name.name)))
            });
            let shares = tracked.spec.as_ref().is_some_and(|spec| spec.is_limited());
            self.observed.set_pods(id, names.collect(), shares);
            let slices = all(&self.mirrors.slices, &tracked.slices);
            (slices, all(&self.mirrors.pods, &tracked.pods))
        };
        let updates = tracked.look(id, &slices, &pods, &self.observed, &self.tell);
        if tracked.failing.is_some() {
            self.failing.insert(id.clone());
        } else {
            self.failing.remove(id);
        }
        if tracked.is_gone() {
            // What was adopted is not to be scaled by a late order either.
            let was_adopted = tracked.is_adopted;
            let spec = tracked.spec.take();
            self.tracked.remove(id);
            if let Some(name) = spec.and_then(|spec| deployment(&spec)) {
                self.of_deployment.remove(&name);
            }
            if !was_adopted {
                self.observed.forget(id);
            }
        }
        updates
    }
}

/// The Deployment that says how many replicas there are, if it is one.
fn deployment(spec: &RevisionSpec) -> Option<ObjectName> {
    let Workload::Pods(pods) = &spec.workload else { return None };
    let is_deployment =
        *pods.scaled.kind == *"Deployment" && pods.scaled.api_version.starts_with("apps/");
    is_deployment
        .then(|| ObjectName::new(Arc::clone(&spec.id.namespace), Arc::clone(&pods.scaled.name)))
}

/// Notes whose an object is; answers whose it was and is.
fn moved(
    index: &mut HashMap<ObjectName, RevisionId>,
    name: &ObjectName,
    revision: Option<Arc<str>>,
) -> (Option<RevisionId>, Option<RevisionId>) {
    let now = revision.map(|revision| RevisionId::new(Arc::clone(&name.namespace), revision));
    let former = match &now {
        Some(id) => index.insert(name.clone(), id.clone()),
        None => index.remove(name),
    };
    (former, now)
}
