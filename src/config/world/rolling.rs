//! Traffic that moves to a new revision step by step: when it begins, and what each step changes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::admitted::metadata_map;
use super::canary::{self, TAKEN_BACK, canary_rules, set_canaries};
use super::stamp::TrafficStamp;
use super::{Loaded, Loader};
use crate::config::rollout::{ConfigurationRollout, Rollout, Stand, Standing, Trial, UnixNanos};
use crate::config::text::parse_duration;
use crate::model::{
    CanaryRules, Evidence, ObjectName, RevisionId, ServiceId, ServiceSpec, TrafficTarget, Workload,
    World,
};

/// Annotations with the duration of a rollout, the one that wins first.
const ANNOTATIONS: [&str; 2] =
    ["serving.knative.dev/rollout-duration", "serving.knative.dev/rolloutDuration"];

/// Begins the condition of traffic that moves, as Knative names it.
pub(super) const CONDITION: &str = "RolloutInProgress";

/// How often canaries are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What was counted of an old and a new revision since a step began, told by that moment.
pub type Counted<'a> = &'a dyn Fn(&RevisionId, &RevisionId, UnixNanos) -> Option<Evidence>;

/// The moment of a load, and what is known then of revisions.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    /// When it is.
    pub now: UnixNanos,
    /// How a revision is doing.
    pub standing: &'a dyn Fn(&RevisionId) -> Standing,
    /// Whether a revision has a replica that is ready.
    pub is_ready: &'a dyn Fn(&RevisionId) -> bool,
    /// What was counted of revisions that are compared.
    pub counted: Counted<'a>,
}

impl Default for Moment<'_> {
    /// The beginning of time, when nothing has been tried yet.
    fn default() -> Self {
        Self {
            now: UnixNanos(0),
            standing: &|_| Standing::Pending,
            is_ready: &|_| false,
            counted: &|_, _, _| None,
        }
    }
}

impl fmt::Debug for Moment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Moment").field("now", &self.now).finish_non_exhaustive()
    }
}

/// What [`Loader::advance`] comes to.
#[derive(Clone, Debug)]
pub enum Advance {
    /// Nothing changed.
    Still,
    /// Shares moved, or what is said of them changed; all else is the same.
    Moved(Arc<World>),
    /// A revision has lost its last share, or got its first one.
    Loaded(Box<Loaded>),
    /// The same: the files are to be loaded again, at this moment.
    Reload,
}

/// How the traffic of a service or route moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Speed {
    /// In so long; zero = at once.
    Over(Duration),
    /// On evidence.
    Canary(Arc<CanaryRules>),
}

impl Speed {
    /// The rules of canaries, if there are any.
    pub(super) const fn rules(&self) -> Option<&Arc<CanaryRules>> {
        match self {
            Self::Over(_) => None,
            Self::Canary(rules) => Some(rules),
        }
    }

    /// The state now of traffic with this target.
    fn moved(
        &self,
        target: Rollout,
        before: Option<&Rollout>,
        route: &ServiceId,
        (world, moment): (&World, &Moment<'_>),
    ) -> Rollout {
        let stand = |name: &str| standing(world, moment, route, name);
        match self {
            Self::Over(duration) => target.advanced(before, *duration, moment.now, &stand),
            Self::Canary(rules) => {
                let id = |name: &str| ObjectName::new(Arc::clone(&route.namespace), name);
                let compare =
                    |old: &str, new: &str, since| (moment.counted)(&id(old), &id(new), since);
                let (now, stand, compare) = (moment.now, &stand, &compare);
                target.tried(before, &Trial { rules, now, stand, compare })
            }
        }
    }
}

/// What says how fast traffic moves.
pub(super) struct Pace<'a> {
    pub(super) moment: &'a Moment<'a>,
    /// The cluster's duration.
    pub(super) default: Duration,
    /// The world so far.
    pub(super) world: &'a World,
}

impl Pace<'_> {
    /// How long the traffic of a service or route takes to move: by its annotation, else by
    /// `config-network`. An annotation of zero is as good as none, as in Knative.
    fn duration(&self, object: &Value) -> Duration {
        let annotations = metadata_map(object, "annotations");
        let text = ANNOTATIONS.iter().find_map(|name| annotations.get(*name));
        let nanos = text.and_then(|text| parse_duration(text).ok()).unwrap_or(0);
        let seconds = Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)).as_secs();
        if seconds > 0 { Duration::from_secs(seconds) } else { self.default }
    }

    /// How the traffic of a service or route moves.
    pub(super) fn speed(&self, object: &Value) -> Speed {
        let annotations = metadata_map(object, "annotations");
        // Checked when the object was admitted.
        match canary_rules(&annotations) {
            Ok(Some(rules)) => Speed::Canary(Arc::new(rules)),
            Ok(None) | Err(_) => Speed::Over(self.duration(object)),
        }
    }

    /// The state now of a route's traffic with this target, and what is said of it.
    pub(super) fn moved(
        &self,
        speed: &Speed,
        target: Rollout,
        before: Option<&Rollout>,
        route: &ServiceId,
    ) -> (Rollout, Vec<String>) {
        let rollout = speed.moved(target, before, route, (self.world, self.moment));
        let stand = |name: &str| standing(self.world, self.moment, route, name);
        let conditions = conditions(&rollout, speed, &stand);
        (rollout, conditions)
    }
}

/// How a revision of a route is doing.
pub(super) fn standing(
    world: &World,
    moment: &Moment<'_>,
    route: &ServiceId,
    name: &str,
) -> Standing {
    let id = ObjectName::new(Arc::clone(&route.namespace), name);
    match world.revision(&id).map(|known| &known.workload) {
        Some(Workload::Unavailable(_)) => Standing::Failing,
        Some(Workload::Process(_) | Workload::Static(_) | Workload::Pods(_)) => {
            (moment.standing)(&id)
        }
        // Its first per cent is only being given out.
        None => Standing::Pending,
    }
}

/// Writes the shares in effect into a service, and its canaries.
pub(super) fn set_shares(
    service: &mut ServiceSpec,
    traffic: &TrafficStamp,
    rules: Option<&Arc<CanaryRules>>,
) {
    set_canaries(service, &traffic.rollout, rules);
    let namespace = Arc::clone(&service.id.namespace);
    let target = |revision: &str, percent: u8| TrafficTarget {
        revision: RevisionId::new(Arc::clone(&namespace), revision),
        percent,
    };
    let shares = traffic.shares();
    service.traffic =
        shares.iter().map(|share| target(&share.revision_name, share.percent)).collect();
    for tag in &mut service.tags {
        let moving = traffic.rollout.shares(Some(&tag.name), &tag.revision.name);
        let moving = moving.into_iter().flatten();
        tag.moving = moving.map(|share| target(&share.revision_name, share.percent)).collect();
    }
}

/// What moving traffic is doing, and what was taken back, one line a configuration.
fn conditions(rollout: &Rollout, speed: &Speed, stand: Stand<'_>) -> Vec<String> {
    let said = rollout.configurations.iter().filter_map(|known| match speed {
        Speed::Canary(rules) => canary::condition(known, rules),
        Speed::Over(_) => (!known.is_done()).then(|| condition(known, stand)),
    });
    said.collect()
}

fn condition(configuration: &ConfigurationRollout, stand: Stand<'_>) -> String {
    let newest = configuration.newest();
    let share = configuration.revisions.last().map_or(0, |share| share.percent);
    let of = match &configuration.tag {
        None => format!("{} %", configuration.percent),
        Some(tag) => format!("{} % of tag {tag}", configuration.percent),
    };
    let params = configuration.step_params;
    let next = match stand(newest) {
        Standing::Failing => ", no more while its replicas cannot be started".to_owned(),
        _ if params.step_duration == 0 => ", more once that is in effect".to_owned(),
        _ => {
            let seconds = Duration::from_nanos(params.step_duration).as_secs_f64();
            format!(", {} % more every {} s", params.step_size, (seconds * 10.0).round() / 10.0)
        }
    };
    format!("{CONDITION}: {newest} has {share} of {of}{next}")
}

impl Loader {
    /// Services whose traffic moves.
    pub fn rolling(&self) -> impl Iterator<Item = &ServiceId> {
        self.rolling.keys()
    }

    /// When traffic moves on next; none while that takes a revision to become ready first.
    pub fn next_step(&self, moment: &Moment<'_>) -> Option<UnixNanos> {
        let steps = self.rolling.iter().filter_map(|(id, speed)| {
            let stand = |name: &str| standing(&self.world, moment, id, name);
            match speed {
                Speed::Over(_) => self.stamps.good_traffic(id)?.rollout.next_step(&stand),
                Speed::Canary(_) => Some(moment.now.plus(LOOK_EVERY)),
            }
        });
        steps.min()
    }

    /// Moves traffic on; only the services whose traffic moves, or waits to be given to a new
    /// revision, are looked at.
    pub fn advance(&mut self, moment: &Moment<'_>) -> Advance {
        if self.is_wait_over(moment) {
            let patched = self.patch(&[], moment);
            return patched.map_or(Advance::Reload, |loaded| Advance::Loaded(Box::new(loaded)));
        }
        let mut moved: Vec<(usize, ServiceSpec)> = Vec::new();
        let mut states: Vec<(ServiceId, Rollout)> = Vec::new();
        for (id, speed) in &self.rolling {
            let stand = |name: &str| standing(&self.world, moment, id, name);
            let Some(traffic) = self.stamps.good_traffic(id) else { continue };
            let Some(index) = self.index_of(id) else { continue };
            let before = &traffic.rollout;
            let known = (&*self.world, moment);
            let rollout = speed.moved(before.target(), Some(before), id, known);
            if !rollout.revisions().eq(before.revisions()) {
                let patched = self.patch(&[], moment);
                return patched.map_or(Advance::Reload, |l| Advance::Loaded(Box::new(l)));
            }
            let traffic = TrafficStamp { rollout, ..traffic.clone() };
            let mut service = ServiceSpec::clone(&self.world.services[index]);
            set_shares(&mut service, &traffic, speed.rules());
            let is_said = |text: &str| text.starts_with(CONDITION) || text.starts_with(TAKEN_BACK);
            service.warnings.retain(|text| !is_said(text));
            let conditions = conditions(&traffic.rollout, speed, &stand);
            service.warnings.extend(conditions.into_iter().map(Arc::from));
            if service != *self.world.services[index] {
                moved.push((index, service));
            }
            if traffic.rollout != *before {
                states.push((id.clone(), traffic.rollout));
            }
        }
        // A look at a canary is remembered even if it shows nothing.
        states.into_iter().for_each(|(id, rollout)| self.stamps.set_rollout(&id, rollout));
        if moved.is_empty() {
            return Advance::Still;
        }
        let mut world = World::clone(&self.world);
        for (index, service) in moved {
            world.services[index] = Arc::new(service);
        }
        self.world = Arc::new(world);
        Advance::Moved(Arc::clone(&self.world))
    }

    fn index_of(&self, service: &ServiceId) -> Option<usize> {
        self.world.services.binary_search_by(|known| known.id.cmp(service)).ok()
    }
}
