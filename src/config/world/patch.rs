//! Loads in which only some services changed: they alone are built, on the ground of the last load.
//!
//! That is done only where it comes to the same as a load of everything. What reaches further — a
//! ConfigMap, a `Revision` document, something that is wrong, two that want one host — makes the
//! load one of everything.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::admitted::{Admitted, Admitter, Objects};
use super::build::{Build, Built, default_service};
use super::dependencies::has_any;
use super::identity::{Identity, Kind, ObjectKey, identify};
use super::objects::{ChangedFile, Source, sources};
use super::rolling::Moment;
use super::routes::mapping_target;
use super::scalers::scaled;
use super::{Loaded, Loader};
use crate::config::settings::LoggingSettings;
use crate::model::{ObjectName, RevisionId, ServiceId, ServiceSpec, World};

/// What a patch needs of the last load beside its world. There is none of a load with problems, or
/// in which services depended on each other.
#[derive(Debug)]
pub(super) struct Ground {
    /// What is said of files: kinds that are not read.
    pub(super) skipped: Vec<String>,
    /// What is said of services.
    warnings: BTreeMap<ObjectName, Vec<String>>,
    logging: Option<LoggingSettings>,
    /// Whose a host is.
    hosts: HashMap<Arc<str>, ServiceId, foldhash::fast::FixedState>,
}

impl Ground {
    /// The ground that a load of everything leaves.
    pub(super) fn new(
        skipped: Vec<String>,
        warnings: BTreeMap<ObjectName, Vec<String>>,
        logging: Option<LoggingSettings>,
        world: &World,
    ) -> Self {
        let mut ground = Self { skipped, warnings, logging, hosts: HashMap::default() };
        world.services.iter().for_each(|service| ground.give_hosts(service));
        ground
    }

    fn give_hosts(&mut self, service: &ServiceSpec) {
        for host in hosts(service) {
            self.hosts.insert(Arc::clone(host), service.id.clone());
        }
    }

    fn take_hosts(&mut self, service: &ServiceSpec) {
        for host in hosts(service) {
            self.hosts.remove(host);
        }
    }
}

fn hosts(service: &ServiceSpec) -> impl Iterator<Item = &Arc<str>> {
    service.hosts.iter().chain(service.tags.iter().flat_map(|tag| &tag.hosts))
}

/// Objects as they are after a change; none where they are gone.
type Changed<T> = BTreeMap<ObjectKey, Option<T>>;

impl Loader {
    /// Loads what changed and the services whose traffic moves. None: everything is to be loaded.
    pub(super) fn patch(&mut self, files: &[ChangedFile], moment: &Moment<'_>) -> Option<Loaded> {
        let mut ground = self.ground.take()?;
        let changed = self.admit_changed(self.changed_objects(files)?)?;
        if self.changes_dependencies(&changed) {
            return None;
        }
        let unsettled = self.rolling.keys().chain(self.held.keys());
        let mut services: BTreeSet<ServiceId> = unsettled.cloned().collect();
        for (key, now) in &changed {
            let former = self.objects.get(key);
            let is_moved = |now: &Arc<Admitted>| former.is_some_and(|former| former.says(now));
            if !now.as_ref().is_some_and(is_moved) {
                for object in former.into_iter().chain(now) {
                    services.insert(self.reached(key, object)?);
                }
            }
        }
        if services.iter().any(|service| self.is_shared(&service.namespace)) {
            return None;
        }
        for (key, now) in changed {
            match now {
                Some(now) => self.objects.insert(key, now),
                None => self.objects.remove(&key),
            };
        }
        let (built, stamps, former) = self.build_part(&services, moment)?;
        let fits = |host| ground.hosts.get(host).is_none_or(|owner| services.contains(owner));
        if !built.world.services.iter().flat_map(|service| hosts(service)).all(fits) {
            return None;
        }
        let world = self.patched_world(&services, &former, &built.world)?;

        for service in services.iter().filter_map(|id| find(&self.world.services, |s| &s.id, id)) {
            ground.take_hosts(service);
        }
        built.world.services.iter().for_each(|service| ground.give_hosts(service));
        ground.warnings.retain(|service, _| !services.contains(service));
        ground.warnings.extend(built.warnings.of);
        self.stamps.put(services.iter(), stamps);
        self.memo.forget(former.iter());
        self.memo.keep(built.round);
        self.rolling = built.rolling;
        self.held = built.held;
        self.world = Arc::new(world);
        let loaded = Loaded {
            world: Arc::clone(&self.world),
            problems: Vec::new(),
            warnings: self.warnings(&ground.skipped, &[], &ground.warnings),
            logging: ground.logging.clone(),
            observability: self.settings.observability.clone(),
            collected: built.collected,
        };
        self.ground = Some(ground);
        Some(loaded)
    }

    /// The objects of changed files, former and present, where all are of kinds that reach only
    /// services by name.
    fn changed_objects(&self, files: &[ChangedFile]) -> Option<Changed<Source>> {
        let mut changed: Changed<Source> = BTreeMap::new();
        for file in files {
            for source in file.former.iter().flat_map(|former| sources(&file.path, former)) {
                changed.insert(key_of(&source)?, None);
            }
        }
        for file in files {
            let Some(now) = &file.now else { continue };
            if now.error.is_some() {
                return None;
            }
            for source in sources(&file.path, now) {
                let key = key_of(&source)?;
                let stands_twice = match changed.get(&key) {
                    Some(former) => former.is_some(),
                    None => self.objects.contains_key(&key),
                };
                if stands_twice {
                    return None;
                }
                changed.insert(key, Some(source));
            }
        }
        Some(changed)
    }

    /// Whether circles or missing services may come or go by a change.
    fn changes_dependencies(&self, changed: &Changed<Arc<Admitted>>) -> bool {
        let is_change = |(key, now): (&ObjectKey, &Option<Arc<Admitted>>)| {
            let former = self.objects.get(key);
            let depends = |object: &Arc<Admitted>| !object.depends_on.is_empty();
            former.is_some() != now.is_some()
                || former.is_some_and(depends)
                || now.as_ref().is_some_and(depends)
        };
        let mut services = changed.iter().filter(|(key, _)| key.kind == Kind::Service);
        services.any(is_change) && {
            let has_some = |object: &Arc<Admitted>| !object.depends_on.is_empty();
            changed.values().flatten().any(has_some) || has_any(&self.objects)
        }
    }

    fn admit_changed(&self, changed: Changed<Source>) -> Option<Changed<Arc<Admitted>>> {
        let strict = self.options.strict;
        let admitter = Admitter::new(&self.settings, self.settings_count, strict, &self.stamps);
        let admit = |(key, source): (ObjectKey, Option<Source>)| {
            let now = match source {
                Some(source) => Some(admitter.admit(&key, &source, self.objects.get(&key)).ok()?),
                None => None,
            };
            Some((key, now))
        };
        changed.into_iter().map(admit).collect()
    }

    /// The service that an object is, leads to or sets.
    fn reached(&self, key: &ObjectKey, object: &Admitted) -> Option<ServiceId> {
        match key.kind {
            Kind::Service => Some(key.name.clone()),
            Kind::DomainMapping => mapping_target(&key.name, &object.object),
            Kind::PodAutoscaler => {
                let namespace = &key.name.namespace;
                let owner = |revision: &str| {
                    let id = RevisionId::new(Arc::clone(namespace), revision);
                    find(&self.world.revisions, |revision| &revision.id, &id)
                        .map(|revision| Arc::clone(&revision.configuration))
                };
                let name = scaled(&object.object, owner)?;
                Some(ServiceId::new(Arc::clone(namespace), name))
            }
            _ => None,
        }
    }

    /// Whether a namespace has objects that services' revisions and traffic may be shared with.
    fn is_shared(&self, namespace: &Arc<str>) -> bool {
        [Kind::Configuration, Kind::Route, Kind::Revision].into_iter().any(|kind| {
            let first = ObjectKey { kind, name: ObjectName::new(Arc::clone(namespace), "") };
            let next = self.objects.range(first..).next();
            next.is_some_and(|(key, _)| key.kind == kind && key.name.namespace == *namespace)
        })
    }

    /// Builds these services alone; with what is built, their stamps, and the revisions they had.
    fn build_part(
        &mut self,
        services: &BTreeSet<ServiceId>,
        moment: &Moment<'_>,
    ) -> Option<(Built, super::Stamps, Vec<RevisionId>)> {
        let objects = self.objects_of(services);
        let mut stamps = self.stamps.part(services.iter());
        let former: Vec<RevisionId> = stamps.revision_ids().collect();
        let is_there = |name: &str| {
            let is = |key: &ObjectKey| key.kind == Kind::Service && key.name.to_string() == name;
            objects.keys().any(is)
        };
        stamps.retain(is_there, is_there);
        let build = Build {
            round: RefCell::new(self.memo.part(former.iter())),
            objects: &objects,
            settings: &self.settings,
            options: &self.options,
            run: &self.run,
            former: &self.world,
            held: &self.held,
            moment,
            is_part: true,
        };
        let mut problems = Vec::new();
        let built = build.build(&mut stamps, &mut problems);
        let stands_alone =
            problems.is_empty() && !built.is_entangled && built.warnings.general.is_empty();
        stands_alone.then_some((built, stamps, former))
    }

    /// The services and what leads to them or sets them.
    fn objects_of(&self, services: &BTreeSet<ServiceId>) -> Objects {
        let own = services.iter().filter_map(|id| {
            let key = ObjectKey { kind: Kind::Service, name: id.clone() };
            self.objects.get(&key).map(|object| (key, Arc::clone(object)))
        });
        let first = |kind| ObjectKey { kind, name: ObjectName::new("", "") };
        let others = self.objects.range(first(Kind::DomainMapping)..first(Kind::ConfigMap));
        let reach = |(key, object): &(&ObjectKey, &Arc<Admitted>)| {
            self.reached(key, object).is_some_and(|service| services.contains(&service))
        };
        let others = others.filter(reach).map(|(key, object)| (key.clone(), Arc::clone(object)));
        own.chain(others).collect()
    }

    /// The world with these services, and the revisions they had, replaced. None where others have
    /// revisions of the new names, or there is something to say of the default service.
    fn patched_world(
        &self,
        services: &BTreeSet<ServiceId>,
        former: &[RevisionId],
        new: &World,
    ) -> Option<World> {
        let mut world = World::clone(&self.world);
        replace(&mut world.services, |service| &service.id, services.iter(), &new.services)?;
        replace(&mut world.revisions, |revision| &revision.id, former.iter(), &new.revisions)?;
        let mut warnings = Vec::new();
        world.awaited.clone_from(&new.awaited);
        world.default_service = default_service(&self.options, &world.services, &mut warnings);
        warnings.is_empty().then_some(world)
    }
}

/// The key of an object that reaches only services, by name.
fn key_of(source: &Source) -> Option<ObjectKey> {
    match identify(source.node()) {
        Identity::Object(key) => {
            let reaches = [Kind::Service, Kind::PodAutoscaler, Kind::DomainMapping];
            reaches.contains(&key.kind).then_some(key)
        }
        Identity::Skipped(_) | Identity::Broken(_) => None,
    }
}

fn find<'a, T>(
    all: &'a [Arc<T>],
    id_of: impl Fn(&T) -> &ObjectName,
    id: &ObjectName,
) -> Option<&'a Arc<T>> {
    all.binary_search_by(|known| id_of(known).cmp(id)).ok().map(|index| &all[index])
}

/// Replaces some of what is sorted by name. None where one of the new ones is there already.
fn replace<'a, T>(
    all: &mut Vec<Arc<T>>,
    id_of: impl Fn(&T) -> &ObjectName,
    former: impl Iterator<Item = &'a ObjectName>,
    new: &[Arc<T>],
) -> Option<()> {
    for id in former {
        if let Ok(index) = all.binary_search_by(|known| id_of(known).cmp(id)) {
            all.remove(index);
        }
    }
    for one in new {
        match all.binary_search_by(|known| id_of(known).cmp(id_of(one))) {
            Ok(_) => return None,
            Err(index) => all.insert(index, Arc::clone(one)),
        }
    }
    Some(())
}
