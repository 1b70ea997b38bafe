//! Live revisions by name, and the building of snapshots from a world.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{
    ObjectName, RevisionId, RevisionSpec, ServiceId, ServiceSpec, TrafficTarget, World,
};
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
    /// Services that are new.
    pub services: Vec<Arc<ServiceSpec>>,
}

/// The live revisions and routes of the newest world. Only the control side uses it.
#[derive(Debug, Default)]
pub struct Registry {
    world: Arc<World>,
    revisions: BTreeMap<RevisionId, Arc<Revision>>,
    snapshot: Arc<Snapshot>,
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
    /// not change are kept, with their split's counter. Costs what changed, and a comparison for
    /// each of the rest.
    pub fn apply(
        &mut self,
        world: &Arc<World>,
        mut make: impl FnMut(&Arc<RevisionSpec>) -> Arc<Revision>,
        seed: u64,
    ) -> (Arc<Snapshot>, Changes) {
        let former = std::mem::replace(&mut self.world, Arc::clone(world));
        let mut changes = Changes::default();
        let mut is_remade = false;
        for (old, new) in differences(&former.revisions, &world.revisions, |spec| &spec.id) {
            if let (Some(old), Some(new)) = (old, new)
                && same_template(old, new)
                && let Some(live) = self.revisions.get(&new.id)
            {
                live.set_spec(Arc::clone(new));
                changes.changed.push(Arc::clone(live));
                continue;
            }
            if let Some(gone) = old.and_then(|old| self.revisions.remove(&old.id)) {
                gone.remove();
                changes.removed.push(gone);
                is_remade |= new.is_some();
            }
            if let Some(new) = new {
                let live = make(new);
                changes.added.push(Arc::clone(&live));
                self.revisions.insert(new.id.clone(), live);
            }
        }
        let services = differences(&former.services, &world.services, |spec| &spec.id);
        let new = services.iter().filter(|(old, _)| old.is_none());
        changes.services.extend(new.filter_map(|(_, new)| new.map(Arc::clone)));
        let few = world.services.len() / 8;
        let snapshot = if is_remade || services.len() > few {
            self.all_routes(seed)
        } else {
            self.patched_routes(&services, seed)
        };
        self.snapshot = Arc::new(snapshot);
        (Arc::clone(&self.snapshot), changes)
    }

    /// The table of the new world, where any service may lead elsewhere.
    fn all_routes(&self, seed: u64) -> Snapshot {
        let mut services = Vec::with_capacity(self.world.services.len());
        for (number, spec) in self.world.services.iter().enumerate() {
            services.push(match self.route_before(&spec.id) {
                Some(route) if Arc::ptr_eq(&route.spec, spec) && self.is_current(route) => {
                    Arc::clone(route)
                }
                former => Arc::new(self.route(spec, former, seed, number)),
            });
        }
        Snapshot::new(services, self.world.default_service.as_ref())
    }

    /// The table of the new world, where only these services are other ones.
    fn patched_routes(&self, differences: &[Difference<'_, ServiceSpec>], seed: u64) -> Snapshot {
        let mut services = self.snapshot.services().to_vec();
        let (mut gone, mut added) = (Vec::new(), Vec::new());
        for (old, new) in differences {
            let place = |services: &[Arc<ServiceRoute>], spec: &ServiceSpec| {
                services.binary_search_by(|route| route.spec.id.cmp(&spec.id))
            };
            let former = old.and_then(|old| place(&services, old).ok()).map(|i| services.remove(i));
            if let Some(new) = new {
                // Its number is its place among all services, as if all were made anew.
                let number = self.world.services.binary_search_by(|spec| spec.id.cmp(&new.id));
                let number = number.unwrap_or_else(|place| place);
                let route = Arc::new(self.route(new, former.as_ref(), seed, number));
                let index = place(&services, new).unwrap_or_else(|place| place);
                services.insert(index, Arc::clone(&route));
                added.push(route);
            }
            gone.extend(former);
        }
        self.snapshot.patched(services, &gone, &added, self.world.default_service.as_ref())
    }

    fn route_before(&self, id: &ServiceId) -> Option<&Arc<ServiceRoute>> {
        let services = self.snapshot.services();
        let found = services.binary_search_by(|route| route.spec.id.cmp(id));
        found.ok().map(|index| &services[index])
    }

    /// The route of a new or changed service. Its draws go on where those of the former one are, so
    /// that small steps of the shares do not begin the same block again and again.
    fn route(
        &self,
        spec: &Arc<ServiceSpec>,
        former: Option<&Arc<ServiceRoute>>,
        seed: u64,
        number: usize,
    ) -> ServiceRoute {
        let seed = seed ^ u64::try_from(number).unwrap_or(u64::MAX).rotate_left(32);
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

/// Something as it was and as it is; none where it was not there, or is not any more.
type Difference<'a, T> = (Option<&'a Arc<T>>, Option<&'a Arc<T>>);

/// What differs between two lists in the order of names. What is the same object is not looked at.
fn differences<'a, T>(
    former: &'a [Arc<T>],
    now: &'a [Arc<T>],
    id_of: impl Fn(&T) -> &ObjectName,
) -> Vec<Difference<'a, T>> {
    debug_assert!(now.is_sorted_by(|a, b| id_of(a) < id_of(b)), "a world is in the order of names");
    let mut differing = Vec::new();
    let mut former = former.iter().peekable();
    for new in now {
        if former.next_if(|old| Arc::ptr_eq(old, new)).is_some() {
            continue;
        }
        while let Some(gone) = former.next_if(|old| id_of(old) < id_of(new)) {
            differing.push((Some(gone), None));
        }
        let old = former.next_if(|old| id_of(old) == id_of(new));
        if !old.is_some_and(|old| Arc::ptr_eq(old, new)) {
            differing.push((old, Some(new)));
        }
    }
    differing.extend(former.map(|gone| (Some(gone), None)));
    differing
}

/// Whether two specs differ at most in what is live: queue and slots stay. The workload is live
/// too (a ConfigMap or `--run` changed): replicas that start from now on are made from the new one.
fn same_template(old: &RevisionSpec, new: &RevisionSpec) -> bool {
    old.container_concurrency == new.container_concurrency && old.protocol == new.protocol
}
