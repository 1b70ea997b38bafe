//! Builds the world from the objects in effect.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::LoaderOptions;
use super::admitted::{Objects, metadata_map};
use super::data::DataSet;
use super::dependencies::{missing, problem};
use super::gate::{HeldBack, awaited, hold_back};
use super::identity::Kind;
use super::memo::{Basis, Round};
use super::own::own_settings;
use super::retention::Usage;
use super::revisions::{Configuration, RevisionDraft, RevisionDrafts};
use super::revisions::{configurations, drafts, stamp_all};
use super::rolling::{Moment, Pace, Speed};
use super::routes::{RouteDraft, routes, service_specs};
use super::run::{RunCommands, object_name};
use super::scalers::{Scalers, scalers};
use super::settings::Settings;
use super::stamp::Stamps;
use super::workload::{Subject, container_concurrency, protocol, timeouts, workload};
use crate::config::admission::logging_settings;
use crate::config::problem::ConfigProblem;
use crate::config::scaling::{progress_deadline, resolve};
use crate::config::settings::LoggingSettings;
use crate::model::{
    Dependency, ObjectName, Reason, RevisionId, RevisionSpec, ServiceId, ServiceSpec, Workload,
    World,
};

/// What a world is built from.
pub(super) struct Build<'a> {
    /// What the build before made, and of what.
    pub(super) round: RefCell<Round>,
    pub(super) objects: &'a Objects,
    pub(super) settings: &'a Settings,
    pub(super) options: &'a LoaderOptions,
    pub(super) run: &'a RunCommands,
    /// The world before, whose unchanged parts are used again.
    pub(super) former: &'a World,
    /// What was held back before.
    pub(super) held: &'a HeldBack,
    pub(super) moment: &'a Moment<'a>,
    /// Whether the objects are only some of those in effect.
    pub(super) is_part: bool,
}

/// What is built.
pub(super) struct Built {
    /// Without a default service.
    pub(super) world: World,
    pub(super) logging: Option<LoggingSettings>,
    /// Revisions that were past the retention limits and are forgotten.
    pub(super) collected: Vec<RevisionId>,
    /// Services whose traffic moves, and how.
    pub(super) rolling: BTreeMap<ServiceId, Speed>,
    /// Services whose new revision waits for what it depends on.
    pub(super) held: HeldBack,
    pub(super) warnings: Warnings,
    /// Whether services depend on each other: two have revisions of one name or want one host, or
    /// one names revisions that are not there, which may be meant to come with others.
    pub(super) is_entangled: bool,
    /// What was made, for the next build.
    pub(super) round: Round,
}

/// What is not wrong and still worth saying.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    /// What is about no one service.
    pub(super) general: Vec<String>,
    /// What is about a service, or a configuration given apart.
    pub(super) of: BTreeMap<ObjectName, Vec<String>>,
}

impl Warnings {
    /// Adds one about a service.
    pub(super) fn add(&mut self, service: &ServiceId, text: &str) {
        let texts = self.of.entry(service.clone()).or_default();
        texts.push(format!("service {service}: {text}"));
    }
}

impl Build<'_> {
    /// Builds the world; problems between objects are added.
    pub(super) fn build(self, stamps: &mut Stamps, problems: &mut Vec<ConfigProblem>) -> Built {
        let mut warnings = Warnings::default();
        let configurations = configurations(self.objects, problems);
        stamp_all(&configurations, self.objects, stamps, problems);
        let (mut drafts, is_ambiguous) = drafts(&configurations, self.objects, stamps, problems);
        let pace = Pace {
            moment: self.moment,
            default: self.settings.hosts.network.rollout_duration,
            world: self.former,
        };
        let mut routes = routes(self.objects, &drafts, stamps, &pace, problems);
        let held = hold_back(&mut routes, &drafts, stamps, &pace, self.held);
        let usage = Usage::new(&configurations, &routes, self.objects, self.moment.now);
        let expired = usage.expired(stamps, &self.settings.retention);
        drafts.retain(|id, _| !expired.contains(id));
        let scalers = scalers(self.objects, &drafts, problems);
        warnings.general.extend(scalers.warnings.iter().cloned());
        let revisions = self.revisions(&drafts, &routes, &usage.routed, &scalers);
        let mut conditions = workload_conditions(&revisions);
        let missing = self.missing(&routes, problems);
        let is_missing = !missing.is_empty();
        conditions.extend(missing);
        if self.options.one_machine {
            conditions.extend(ignored_conditions(&configurations));
        }
        self.warn_of_run(&configurations, &drafts, &mut warnings.general);
        usage.note(stamps, &expired);
        let mut rolling = BTreeMap::new();
        for route in routes.iter().filter(|route| route.is_resolved) {
            stamps.set_good_traffic(route.id, &route.traffic);
            if !route.traffic.rollout.is_done() {
                rolling.insert(route.id.clone(), route.speed.clone());
            }
        }
        let is_unsettled = routes.iter().any(|route| !route.is_resolved);
        let (mut services, is_contested) = service_specs(
            routes,
            self.objects,
            &self.settings.hosts,
            self.settings.features.tag_header_based_routing(),
            &mut warnings,
        );
        for (owner, condition) in conditions {
            warnings.add(&owner, &condition);
            if let Ok(index) = services.binary_search_by(|service| service.id.cmp(&owner)) {
                let service = &mut services[index];
                service.warnings.push(condition.lines().next().unwrap_or_default().into());
            }
        }
        let services = self.reused_services(services);
        let logging = self.logging(&mut warnings.general);
        let awaited = awaited(&held);
        let world = World { services, revisions, awaited, ..World::default() };
        Built {
            world,
            logging,
            collected: expired.into_iter().collect(),
            rolling,
            held,
            warnings,
            is_entangled: is_contested || is_unsettled || is_ambiguous || is_missing,
            round: self.round.into_inner(),
        }
    }

    /// All revisions, resolved; those that did not change are the former ones.
    fn revisions(
        &self,
        drafts: &RevisionDrafts<'_>,
        routes: &[RouteDraft<'_>],
        routed: &HashSet<RevisionId>,
        scalers: &Scalers,
    ) -> Vec<Arc<RevisionSpec>> {
        // Configurations that some route leads to: their other revisions have been turned away from.
        let own = routes.iter().filter(|route| route.of_service).map(|route| route.id.clone());
        let routed_to = routed.iter().filter_map(|id| Some(configuration(id, drafts.get(id)?)));
        let configured: HashSet<ObjectName> = own.chain(routed_to).collect();
        let mut round = self.round.borrow_mut();
        drafts
            .iter()
            .map(|(id, draft)| {
                let is_reachable =
                    routed.contains(id) || !configured.contains(&configuration(id, draft));
                let scaler = scalers.get(id);
                round.revision(id, Basis { draft, is_reachable, scaler }, |data| {
                    self.revision(id, draft, is_reachable, scalers, data)
                })
            })
            .collect()
    }

    fn revision(
        &self,
        id: &RevisionId,
        draft: &RevisionDraft<'_>,
        is_reachable: bool,
        scalers: &Scalers,
        data: &DataSet,
    ) -> RevisionSpec {
        let annotations = metadata_map(draft.template, "annotations");
        let mut labels = metadata_map(draft.template, "labels");
        add_own_labels(&mut labels, id, draft);
        let empty = serde_json::Value::Null;
        let spec = draft.template.get("spec").unwrap_or(&empty);
        // Checked when the template was admitted.
        let own = own_settings(&annotations).unwrap_or_default();
        let concurrency = container_concurrency(spec);
        let autoscaler = &self.settings.autoscaler;
        let scaler = scalers.get(id);
        let other = &self.options.scaling;
        let other = (!other.is_empty()).then(|| scaler.cloned().unwrap_or_default().with(other));
        let scaler = other.as_ref().or(scaler);
        let mut scaling = resolve(autoscaler, &annotations, concurrency, is_reachable, scaler);
        if progress_deadline(&annotations).is_none() {
            scaling.progress_deadline = self.settings.progress_deadline;
        }
        let subject = Subject {
            revision: id,
            configuration: draft.configuration,
            spec,
            labels: &labels,
            annotations: &annotations,
            own: &own,
            directory: draft.directory,
            run: self.run.command(id, draft.configuration),
        };
        RevisionSpec {
            id: id.clone(),
            service: draft.service.cloned(),
            configuration: draft.configuration.into(),
            container_concurrency: concurrency,
            protocol: protocol(spec),
            timeouts: timeouts(spec),
            scaling,
            workload: workload(subject, data),
            queue: own.queue,
            depends_on: own.depends_on.iter().map(|needed| needed.by(&id.namespace)).collect(),
        }
    }

    /// What services depend on and is not there: one text each; problems where that is asked for.
    fn missing(
        &self,
        routes: &[RouteDraft<'_>],
        problems: &mut Vec<ConfigProblem>,
    ) -> Vec<(ObjectName, String)> {
        let is_there = |id: &ServiceId| {
            routes.binary_search_by(|route| route.id.cmp(id)).is_ok()
                || self.former.service(id).is_some() && self.is_part
        };
        let missing = missing(self.objects, is_there);
        let text = |needed: &[&Dependency]| {
            let names: Vec<String> = needed.iter().map(ToString::to_string).collect();
            format!("DependencyMissing: it depends on {}, not there", names.join(", "))
        };
        if self.options.strict {
            problems.extend(missing.values().map(|(admitted, needed)| {
                problem(admitted, text(needed), "add them, or correct their names")
            }));
        }
        missing.iter().map(|(key, (_, needed))| (key.name.clone(), text(needed))).collect()
    }

    fn reused_services(&self, services: Vec<ServiceSpec>) -> Vec<Arc<ServiceSpec>> {
        services
            .into_iter()
            .map(|service| match self.former.service(&service.id) {
                Some(former) if **former == service => Arc::clone(former),
                _ => Arc::new(service),
            })
            .collect()
    }

    /// What `LoggingConfig` says on top of `config-logging`.
    fn logging(&self, warnings: &mut Vec<String>) -> Option<LoggingSettings> {
        let mut found = self.objects.iter().filter(|(key, _)| key.kind == Kind::LoggingConfig);
        let own = found.next().map(|(_, admitted)| logging_settings(&admitted.object));
        for (key, admitted) in found {
            warnings.push(format!("{key} at {} is ignored: there is one already", admitted.source));
        }
        match (self.settings.logging.clone(), own) {
            (Some(mut base), Some(own)) => {
                base.level = own.level.or(base.level);
                base.loggers.extend(own.loggers);
                base.forwarders.extend(own.forwarders);
                Some(base)
            }
            (base, own) => own.or(base),
        }
    }

    fn warn_of_run(
        &self,
        configurations: &[Configuration<'_>],
        drafts: &RevisionDrafts<'_>,
        warnings: &mut Vec<String>,
    ) {
        let known: BTreeMap<&ObjectName, ()> =
            configurations.iter().map(|configuration| (configuration.id, ())).collect();
        for name in self.run.unknown(|name| known.contains_key(name) || drafts.contains_key(name)) {
            let names: Vec<String> = known.keys().take(20).map(ToString::to_string).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            warnings.push(format!("--run {name}: there is no such service yet; known: {names}"));
        }
    }
}

/// The service for requests that name none.
pub(super) fn default_service(
    options: &LoaderOptions,
    services: &[Arc<ServiceSpec>],
    warnings: &mut Vec<String>,
) -> Option<ServiceId> {
    let Some(text) = &options.default_service else {
        return match services {
            [only] => Some(only.id.clone()),
            _ => None,
        };
    };
    let name = object_name(text);
    let found = services.binary_search_by(|service| service.id.cmp(&name)).is_ok();
    if !found {
        warnings.push(format!("--default-service {name}: there is no such service yet"));
    }
    found.then_some(name)
}

/// Routed revisions that cannot be started: one text a service and reason.
fn workload_conditions(revisions: &[Arc<RevisionSpec>]) -> Vec<(ObjectName, String)> {
    let mut said: HashSet<(ObjectName, Reason)> = HashSet::new();
    let mut conditions = Vec::new();
    for revision in revisions.iter().filter(|revision| revision.scaling.reachable) {
        let Workload::Unavailable(problem) = &revision.workload else { continue };
        let condition = match problem.reason {
            Reason::NoLocalCommand => "NoLocalCommand",
            _ => "MissingConfig",
        };
        let owner = ObjectName::new(
            Arc::clone(&revision.id.namespace),
            Arc::clone(&revision.configuration),
        );
        if said.insert((owner.clone(), problem.reason)) {
            conditions.push((owner, format!("{condition}: {}", problem.message)));
        }
    }
    conditions
}

/// Parts of templates that mean nothing here: one text a service.
fn ignored_conditions(configurations: &[Configuration<'_>]) -> Vec<(ObjectName, String)> {
    let conditions = configurations.iter().filter_map(|configuration| {
        let ignored = &configuration.admitted.ignored;
        let text = || format!("accepted but without effect here: {}", ignored.join(", "));
        (!ignored.is_empty()).then(|| (configuration.id.clone(), text()))
    });
    conditions.collect()
}

/// Name of a revision's configuration.
fn configuration(id: &RevisionId, draft: &RevisionDraft<'_>) -> ObjectName {
    ObjectName::new(Arc::clone(&id.namespace), draft.configuration)
}

/// The labels that Knative gives a revision's pods, for `fieldRef` to find.
fn add_own_labels(
    labels: &mut BTreeMap<String, String>,
    id: &RevisionId,
    draft: &RevisionDraft<'_>,
) {
    let service = draft.service.map_or("", |service| &*service.name);
    for (name, value) in
        [("revision", &*id.name), ("configuration", draft.configuration), ("service", service)]
    {
        if !value.is_empty() {
            labels.insert(format!("serving.knative.dev/{name}"), value.to_owned());
        }
    }
}

/// The ConfigMaps and Secrets in effect.
pub(super) fn data_set(objects: &Objects) -> DataSet {
    let mut set = DataSet::default();
    for (key, admitted) in objects {
        let Some(data) = &admitted.data else { continue };
        let map = match key.kind {
            Kind::Secret => &mut set.secrets,
            _ => &mut set.config_maps,
        };
        map.insert(key.name.clone(), Arc::clone(data));
    }
    set
}
