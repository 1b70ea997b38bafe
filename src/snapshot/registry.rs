//! Live revisions by name, and the building of snapshots from a world.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{RevisionId, RevisionSpec, ServiceId, ServiceSpec, TrafficTarget, World};
use crate::revision::Revision;

use super::{ServiceRoute, Snapshot, Split};

/// What a new world changed.
#[derive(Debug, Default)]
pub struct Changes {
    /// Revisions that are new.
    pub added: Vec<Arc<Revision>>,
    /// Revisions whose live settings changed.
    pub changed: Vec<Arc<Revision>>,
    /// Revisions that are gone; they were told so.
    pub removed: Vec<Arc<Revision>>,
}

/// The live revisions and routes of the newest world. Only the control side uses it.
#[derive(Debug, Default)]
pub struct Registry {
    revisions: BTreeMap<RevisionId, Arc<Revision>>,
    specs: BTreeMap<RevisionId, Arc<RevisionSpec>>,
    routes: BTreeMap<ServiceId, Arc<ServiceRoute>>,
}

impl Registry {
    /// A live revision.
    pub fn revision(&self, id: &RevisionId) -> Option<&Arc<Revision>> {
        self.revisions.get(id)
    }

    /// All live revisions, by name.
    pub fn revisions(&self) -> impl Iterator<Item = &Arc<Revision>> {
        self.revisions.values()
    }

    /// Takes a new world: `make` makes a live revision for a new spec. Routes of services that did
    /// not change are kept, with their split's counter.
    pub fn apply(
        &mut self,
        world: &World,
        mut make: impl FnMut(&Arc<RevisionSpec>) -> Arc<Revision>,
        seed: u64,
    ) -> (Snapshot, Changes) {
        let mut changes = Changes::default();
        let mut revisions = BTreeMap::new();
        let mut specs = BTreeMap::new();
        for spec in &world.revisions {
            let old = self.specs.get(&spec.id);
            let live = match (self.revisions.remove(&spec.id), old) {
                (Some(live), Some(old)) if Arc::ptr_eq(old, spec) => live,
                (Some(live), Some(old)) if same_template(old, spec) => {
                    live.set_spec(Arc::clone(spec));
                    changes.changed.push(Arc::clone(&live));
                    live
                }
                (former, _) => {
                    if let Some(former) = former {
                        former.remove();
                        changes.removed.push(former);
                    }
                    let live = make(spec);
                    changes.added.push(Arc::clone(&live));
                    live
                }
            };
            revisions.insert(spec.id.clone(), live);
            specs.insert(spec.id.clone(), Arc::clone(spec));
        }
        for (_, gone) in std::mem::take(&mut self.revisions) {
            gone.remove();
            changes.removed.push(gone);
        }
        self.revisions = revisions;
        self.specs = specs;
        let snapshot = self.routes(world, seed);
        (snapshot, changes)
    }

    fn routes(&mut self, world: &World, seed: u64) -> Snapshot {
        let mut routes = BTreeMap::new();
        let mut services = Vec::with_capacity(world.services.len());
        for (number, spec) in (0_u64..).zip(&world.services) {
            let route = match self.routes.get(&spec.id) {
                Some(route) if Arc::ptr_eq(&route.spec, spec) && self.is_current(route) => {
                    Arc::clone(route)
                }
                former => {
                    let seed = seed ^ number.rotate_left(32);
                    Arc::new(self.route(spec, former.map(|former| &**former), seed))
                }
            };
            routes.insert(spec.id.clone(), Arc::clone(&route));
            services.push(route);
        }
        self.routes = routes;
        Snapshot::new(services, world.default_service.as_ref())
    }

    /// The route of a new or changed service. Its draws go on where those of the former one are, so
    /// that small steps of the shares do not begin the same block again and again.
    fn route(
        &self,
        spec: &Arc<ServiceSpec>,
        former: Option<&ServiceRoute>,
        seed: u64,
    ) -> ServiceRoute {
        let live = |id: &RevisionId| self.revisions.get(id).map(Arc::clone);
        let split = |shares: &[TrafficTarget], former: Option<&Split>| {
            let shares = shares.iter().filter_map(|t| Some((t.percent, live(&t.revision)?)));
            Split::new(shares.collect(), seed).going_on(former)
        };
        let tags = spec.tags.iter();
        let moving = spec.tags.iter().filter(|tag| !tag.moving.is_empty());
        ServiceRoute {
            spec: Arc::clone(spec),
            split: split(&spec.traffic, former.map(|former| &former.split)),
            tags: tags.filter_map(|t| Some((Arc::clone(&t.name), live(&t.revision)?))).collect(),
            moving_tags: moving
                .map(|tag| {
                    let former = former.and_then(|former| former.moving_tag(&tag.name));
                    let route = ServiceRoute {
                        spec: Arc::clone(spec),
                        split: split(&tag.moving, former.map(|former| &former.split)),
                        tags: Vec::new(),
                        moving_tags: Vec::new(),
                    };
                    (Arc::clone(&tag.name), Arc::new(route))
                })
                .collect(),
        }
    }

    /// Whether a route still leads to the live revisions of their names.
    fn is_current(&self, route: &ServiceRoute) -> bool {
        let current = |revision: &Arc<Revision>| {
            self.revisions.get(revision.id()).is_some_and(|live| Arc::ptr_eq(live, revision))
        };
        route.split.revisions().all(current)
            && route.tags.iter().all(|(_, r)| current(r))
            && route.moving_tags.iter().all(|(_, tag)| tag.split.revisions().all(current))
    }
}

/// Whether two specs differ at most in what is live: queue and slots stay. The workload is live
/// too (a ConfigMap or `--run` changed): replicas that start from now on are made from the new one.
fn same_template(old: &RevisionSpec, new: &RevisionSpec) -> bool {
    old.container_concurrency == new.container_concurrency && old.protocol == new.protocol
}
