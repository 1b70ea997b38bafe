//! From many files to the [`World`]: objects are collected and admitted one by one, templates
//! stamped, traffic resolved, hosts given out.
//!
//! ```text
//! files ─ parse (cached) ─▶ objects ─ admit, else former self ─▶ objects in effect
//!       ─ stamp ─▶ revisions ─ traffic, PodAutoscalers, ConfigMaps ─▶ World
//! ```
//!
//! A [`Loader`] keeps what the last load left: the former self of every object, the stamps, and
//! the last world, whose unchanged parts are used again.

mod admitted;
mod annotations;
mod build;
mod canary;
pub mod cluster;
mod compare;
mod data;
mod dependencies;
mod env;
mod export;
mod files;
mod gate;
mod hosts;
mod identity;
mod memo;
mod objects;
mod ordered;
mod own;
mod patch;
mod probes;
mod retention;
mod revisions;
mod rolling;
mod routes;
mod run;
mod scalers;
mod settings;
mod shell;
mod stamp;
mod stamp_changes;
mod traffic;
mod volumes;
mod workload;

#[cfg(test)]
mod tests;

pub use admitted::own_problems;
pub use annotations::{
    ADOPTION_ANNOTATIONS, OwnAnnotation, SERVICE_ANNOTATIONS, TEMPLATE_ANNOTATIONS,
};
pub use canary::{route_canary, taken_back_condition};
pub use compare::differences;
pub use dependencies::{closes_circle, of_template as dependencies_of};
pub use export::{Export, world_of};
pub use files::{FileChange, FilePath, SourceFile};
pub use gate::DEPENDENCIES_NOT_READY;
pub use ordered::{NewTraffic, OrderError, OrderedTraffic, TrafficChange, traffic_block};
pub use rolling::{Advance, Counted, Moment};
pub use shell::{SplitError, split_command};
pub use stamp::{StampedRevision, Stamps, TrafficStamp};
pub use stamp_changes::StampChanges;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::admission::Annotations;
use super::problem::{ConfigProblem, Severity};
use super::rollout::UnixNanos;
use super::settings::{LoggingSettings, ObservabilityConfig};
use crate::model::{Dependency, ObjectName, RevisionId, ServiceId, World};
use admitted::{Admitter, Objects};
use build::{Build, Built, data_set, default_service};
use dependencies::refuse_circles;
use gate::HeldBack;
use identity::{Kind, ObjectKey};
use memo::Memo;
use objects::{Collected, FileCache, collect};
use patch::Ground;
use rolling::Speed;
use run::RunCommands;
use settings::{KnativeConfigMaps, Settings};

/// How files are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoaderOptions {
    /// `--domain`: wins over `config-domain`. Without both, `localhost`.
    pub domain: Option<String>,
    /// `--default-service`: `NAME` or `NAMESPACE/NAME`. Without it, the only service.
    pub default_service: Option<String>,
    /// `--run [NAMESPACE/]NAME='COMMAND'`: name of a service or revision, and the command's text.
    pub run: Vec<(String, String)>,
    /// `--strict`: what is skipped with a warning otherwise is a problem.
    pub strict: bool,
    /// Autoscaling annotations of all revisions that win over whatever the files say: what other
    /// settings would come to.
    pub scaling: Annotations,
    /// Whether one machine's defaults hold: initial scale 0, progress deadline 60 s.
    pub one_machine: bool,
}

impl Default for LoaderOptions {
    /// One machine, nothing given.
    fn default() -> Self {
        Self {
            domain: None,
            default_service: None,
            run: Vec::new(),
            strict: false,
            scaling: Annotations::new(),
            one_machine: true,
        }
    }
}

/// What a load comes to.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The world; parts that did not change are the same `Arc` as before.
    pub world: Arc<World>,
    /// Everything that is wrong, in the order of files and lines.
    pub problems: Vec<ConfigProblem>,
    /// What is not wrong and still worth saying, one text each. All of them with every load: who
    /// logs them compares with those before.
    pub warnings: Vec<String>,
    /// What `config-logging` or a `LoggingConfig` says; none without either.
    pub logging: Option<LoggingSettings>,
    /// `config-observability`.
    pub observability: ObservabilityConfig,
    /// Revisions that no traffic names and that were past the retention limits: forgotten.
    pub collected: Vec<RevisionId>,
}

/// Loads files again and again.
#[derive(Debug)]
pub struct Loader {
    options: LoaderOptions,
    run: RunCommands,
    memo: Memo,
    cache: FileCache,
    config_maps: KnativeConfigMaps,
    settings: Arc<Settings>,
    /// Counts changes of the settings, so that what was admitted under others is looked at again.
    settings_count: u64,
    objects: Objects,
    stamps: Stamps,
    world: Arc<World>,
    /// Services whose traffic moves, and how.
    rolling: BTreeMap<ServiceId, Speed>,
    /// Services whose new revision waits for what it depends on.
    held: HeldBack,
    /// What the next load can build on, if it can.
    ground: Option<Ground>,
    /// Whether this is the first load, and whether something was missing in it.
    is_first: bool,
    misses: bool,
}

impl Loader {
    /// A loader that has loaded nothing yet.
    pub fn new(options: LoaderOptions) -> Self {
        let config_maps = KnativeConfigMaps::default();
        Self {
            run: RunCommands::new(&options.run),
            settings: Arc::new(config_maps.settings(&options)),
            options,
            memo: Memo::default(),
            cache: FileCache::default(),
            config_maps,
            settings_count: 0,
            objects: Objects::new(),
            stamps: Stamps::default(),
            world: Arc::new(World::default()),
            rolling: BTreeMap::new(),
            held: HeldBack::new(),
            ground: None,
            is_first: true,
            misses: false,
        }
    }

    /// The same with stamps of an earlier life.
    #[must_use]
    pub fn with_stamps(mut self, stamps: Stamps) -> Self {
        #[cfg(planted)]
        if crate::model::planted::is(crate::model::planted::Bug::StampsLost) {
            return self;
        }
        self.stamps = stamps;
        self
    }

    /// The stamps as the last load left them: what a restart must not forget.
    pub const fn stamps(&self) -> &Stamps {
        &self.stamps
    }

    /// What each service, or configuration given apart, depends on.
    pub fn dependencies(&self) -> BTreeMap<ServiceId, Arc<[Dependency]>> {
        dependencies::of_all(&self.objects)
    }

    /// Whether a load at this time may find revisions to collect. May say yes for nothing.
    pub fn may_collect(&self, now: UnixNanos) -> bool {
        self.misses || self.stamps.may_collect(&self.settings.retention, now)
    }

    /// Loads all files at a time that stands still: moving traffic does not get further.
    pub fn load(&mut self, files: &[SourceFile]) -> Loaded {
        self.load_at(files, &Moment::default())
    }

    /// Loads all files: takes what is not as it was, see [`Self::load_changes`].
    pub fn load_at(&mut self, files: &[SourceFile], moment: &Moment<'_>) -> Loaded {
        let changes = self.cache.changes(files);
        self.load_changes(changes, moment)
    }

    /// Loads files of which these changed; others are as they were given last. What is bad keeps its
    /// former self, what is good takes effect. A change of some services costs what they cost;
    /// without any change everything is looked at anew.
    pub fn load_changes(&mut self, changes: Vec<FileChange>, moment: &Moment<'_>) -> Loaded {
        let changed = self.cache.take(changes);
        if !changed.is_empty()
            && let Some(loaded) = self.patch(&changed, moment)
        {
            return loaded;
        }
        self.load_whole(moment)
    }

    fn load_whole(&mut self, moment: &Moment<'_>) -> Loaded {
        self.ground = None;
        let mut collected = collect(&self.cache, self.options.strict);
        let mut problems = std::mem::take(&mut collected.problems);
        let skipped = std::mem::take(&mut collected.warnings);
        if self.config_maps.update(&collected, &self.options, &mut problems) {
            self.settings = Arc::new(self.config_maps.settings(&self.options));
            self.settings_count += 1;
            self.memo.forget_settings();
        }
        self.admit(&collected, &mut problems);
        self.forget_stamps(&collected);
        let build = Build {
            round: RefCell::new(self.memo.round(data_set(&self.objects))),
            objects: &self.objects,
            settings: &self.settings,
            options: &self.options,
            run: &self.run,
            former: &self.world,
            held: &self.held,
            moment,
            is_part: false,
        };
        let Built { world, logging, collected, rolling, held, warnings, is_entangled, round } =
            build.build(&mut self.stamps, &mut problems);
        self.memo.keep(round);
        problems.extend(self.run.problems());
        let mut general = warnings.general;
        let default_service = default_service(&self.options, &world.services, &mut general);
        problems.sort_by(|a, b| {
            (&a.file, a.document, a.line, &a.path).cmp(&(&b.file, b.document, b.line, &b.path))
        });
        let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
        let rejected = errors.map(|problem| Arc::from(problem.to_string())).collect();
        self.world = Arc::new(World { rejected, default_service, ..world });
        self.rolling = rolling;
        self.held = held;
        let loaded = Loaded {
            world: Arc::clone(&self.world),
            warnings: self.warnings(&skipped, &general, &warnings.of),
            logging: logging.clone(),
            observability: self.settings.observability.clone(),
            collected,
            problems,
        };
        let stand_alone = loaded.problems.is_empty() && general.is_empty() && !is_entangled;
        if stand_alone && self.run.is_empty() && self.stamps_have_owners() {
            self.ground = Some(Ground::new(skipped, warnings.of, logging, &self.world));
        }
        loaded
    }

    /// Whether each stamp is of an object there is: one without may have to be forgotten later.
    fn stamps_have_owners(&self) -> bool {
        let owners = [Kind::Service, Kind::Configuration, Kind::Route];
        let names = self.objects.keys().filter(|key| owners.contains(&key.kind));
        let names: BTreeSet<String> = names.map(|key| key.name.to_string()).collect();
        self.stamps.owners().all(|name| names.contains(name))
    }

    /// All warnings.
    fn warnings(
        &self,
        skipped: &[String],
        general: &[String],
        of: &BTreeMap<ObjectName, Vec<String>>,
    ) -> Vec<String> {
        let mut warnings = [skipped, general].concat();
        warnings.extend(of.values().flatten().cloned());
        warnings.extend(self.config_maps.warnings().cloned());
        warnings.extend(self.objects.values().flat_map(|admitted| &admitted.warnings).cloned());
        warnings
    }

    /// Admits what the files hold; what cannot be admitted keeps its former self.
    fn admit(&mut self, collected: &Collected, problems: &mut Vec<ConfigProblem>) {
        let strict = self.options.strict;
        let admitter = Admitter::new(&self.settings, self.settings_count, strict, &self.stamps);
        let mut objects = Objects::new();
        for (key, source) in &collected.objects {
            if settings::is_knatives(key) {
                continue;
            }
            let former = self.objects.get(key);
            if collected.contested.contains(key) {
                objects.extend(former.map(|former| (key.clone(), Arc::clone(former))));
                continue;
            }
            match admitter.admit(key, source, former) {
                Ok(admitted) => {
                    objects.insert(key.clone(), admitted);
                }
                Err(found) => {
                    problems.extend(found);
                    #[cfg(planted)]
                    if crate::model::planted::is(crate::model::planted::Bug::BrokenIsGone) {
                        continue;
                    }
                    objects.extend(former.map(|former| (key.clone(), Arc::clone(former))));
                }
            }
        }
        for (key, former) in &self.objects {
            if !collected.objects.contains_key(key)
                && collected.broken_files.contains(&former.source.file)
            {
                objects.insert(key.clone(), Arc::clone(former));
            }
        }
        refuse_circles(&mut objects, &self.objects, problems);
        self.objects = objects;
    }

    /// Revisions go with the service or configuration that made them. While a file cannot be read,
    /// or an object not be admitted, nobody knows what is gone. Nor at the first load: a file may
    /// just be replaced. Nor as long as there was no service at all: that is more likely a folder
    /// that is not mounted yet.
    fn forget_stamps(&mut self, collected: &Collected) {
        let is_first = std::mem::take(&mut self.is_first);
        self.misses = false;
        if !collected.broken_files.is_empty() {
            return;
        }
        let known = |kinds: [Kind; 2]| -> BTreeSet<String> {
            let present = self.objects.keys().chain(collected.objects.keys());
            present
                .filter(|key: &&ObjectKey| kinds.contains(&key.kind))
                .map(|key| ObjectName::to_string(&key.name))
                .collect()
        };
        let configurations = known([Kind::Service, Kind::Configuration]);
        let routes = known([Kind::Service, Kind::Route]);
        if configurations.is_empty() && routes.is_empty() && self.world.revisions.is_empty() {
            return;
        }
        if is_first {
            self.misses = self.stamps.configurations().any(|name| !configurations.contains(name));
            return;
        }
        self.stamps.retain(|name| configurations.contains(name), |name| routes.contains(name));
    }
}
