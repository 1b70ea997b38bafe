//! New revisions that depend on other services: they get traffic once these are ready. Until then
//! the traffic before stays in effect.
//!
//! A service's first revision is not held back: there is nothing else to answer its requests, which
//! wait for replicas anyhow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::dependencies::{of_template, revisions_of};
use super::revisions::RevisionDrafts;
use super::rolling::{Pace, standing};
use super::routes::{ORDERED, RouteDraft};
use super::stamp::{Stamps, TrafficStamp};
use super::{Loader, Moment};
use crate::config::order::{Needs, steps};
use crate::config::rollout::Standing;
use crate::model::{Dependency, RevisionId, ServiceId};

/// Begins the condition of a service whose new revision is held back.
pub const DEPENDENCIES_NOT_READY: &str = "DependenciesNotReady";

/// What a held back revision waits for: one dependency, or one revision of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wait {
    needed: Dependency,
    why: Why,
}

/// Why something is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Why {
    /// There is no such service, or it has no traffic.
    Missing,
    /// Its traffic does not lead to the revision that is asked for.
    Elsewhere,
    /// Its own new revision is held back.
    HeldBack,
    /// A revision has no replica that is ready; and whether none can be started.
    NoReplica(RevisionId, bool),
}

impl Wait {
    fn text(&self) -> String {
        let needed = &self.needed;
        match &self.why {
            Why::Missing => format!("{needed}, which is not there"),
            Why::Elsewhere => format!("{needed}, to which no traffic leads"),
            Why::HeldBack => format!("{needed}, whose new revision waits itself"),
            Why::NoReplica(revision, false) => format!("{needed} ({} starts)", revision.name),
            Why::NoReplica(revision, true) => {
                format!("{needed} ({} cannot be started)", revision.name)
            }
        }
    }
}

/// What a service's new revision waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    waits: Vec<Wait>,
    /// Revisions it needs that were seen ready meanwhile. They need not be ready all at once: where
    /// there are fewer replicas than them, they take turns.
    seen: BTreeSet<RevisionId>,
}

impl Held {
    /// Revisions that are to be started.
    fn awaited(&self) -> impl Iterator<Item = &RevisionId> {
        self.waits.iter().filter_map(|wait| match &wait.why {
            Why::NoReplica(revision, _) => Some(revision),
            Why::Missing | Why::Elsewhere | Why::HeldBack => None,
        })
    }
}

/// Services whose new revisions are held back.
pub(super) type HeldBack = BTreeMap<ServiceId, Held>;

/// Every revision that is waited for, by name.
pub(super) fn awaited(held: &HeldBack) -> Vec<RevisionId> {
    let all: BTreeSet<&RevisionId> = held.values().flat_map(Held::awaited).collect();
    all.into_iter().cloned().collect()
}

/// Holds back new revisions among what is routed; `former` are those that were.
pub(super) fn hold_back(
    routes: &mut [RouteDraft<'_>],
    drafts: &RevisionDrafts<'_>,
    stamps: &Stamps,
    pace: &Pace<'_>,
    former: &HeldBack,
) -> HeldBack {
    let news: BTreeMap<ServiceId, News> =
        routes.iter().filter_map(|route| news(route, drafts, stamps)).collect();
    let mut held = HeldBack::new();
    if news.is_empty() {
        return held;
    }
    let needs: Needs<ServiceId> = news
        .iter()
        .map(|(id, news)| (id.clone(), news.needed.iter().map(|n| n.service.clone()).collect()))
        .collect();
    // What is needed is decided on first: its own new revision may be held back.
    for id in steps(&needs).concat() {
        let (Some(news), Ok(index)) = (news.get(&id), find(routes, &id)) else { continue };
        let mut seen = former.get(&id).map(|held| held.seen.clone()).unwrap_or_default();
        let mut waits_for = |needed| waits(needed, routes, &held, pace, &mut seen);
        let waits: Vec<Wait> = news.needed.iter().flat_map(&mut waits_for).collect();
        if waits.is_empty() {
            continue;
        }
        let texts: Vec<String> = waits.iter().map(Wait::text).collect();
        let text = format!(
            "{DEPENDENCIES_NOT_READY}: {} gets traffic once what it depends on is ready: {}",
            news.revisions.join(", "),
            texts.join("; ")
        );
        routes[index].keep(news.before.clone(), text, pace);
        held.insert(id, Held { waits, seen });
    }
    held
}

fn find(routes: &[RouteDraft<'_>], id: &ServiceId) -> Result<usize, usize> {
    routes.binary_search_by(|route| route.id.cmp(id))
}

/// Revisions that are to get traffic for the first time, and depend on something.
struct News {
    revisions: Vec<String>,
    needed: BTreeSet<Dependency>,
    /// The traffic that stays in effect meanwhile.
    before: TrafficStamp,
}

fn news(
    route: &RouteDraft<'_>,
    drafts: &RevisionDrafts<'_>,
    stamps: &Stamps,
) -> Option<(ServiceId, News)> {
    let before = stamps.good_traffic(route.id).filter(|_| route.is_resolved)?;
    let namespace = &route.id.namespace;
    let id = |name: &str| RevisionId::new(Arc::clone(namespace), name);
    let known: BTreeSet<&str> = before.revisions().collect();
    if known.is_empty() || !known.iter().all(|name| drafts.contains_key(&id(name))) {
        return None;
    }
    let new: BTreeSet<&str> =
        route.traffic.revisions().filter(|name| !known.contains(name)).collect();
    let mut news = News { revisions: Vec::new(), needed: BTreeSet::new(), before: before.clone() };
    for name in new {
        let needed = drafts.get(&id(name)).map(|draft| of_template(draft.template, namespace));
        let needed = needed.unwrap_or_default();
        if !needed.is_empty() {
            news.revisions.push(name.to_owned());
            news.needed.extend(needed);
        }
    }
    (!news.needed.is_empty()).then(|| (route.id.clone(), news))
}

/// What there is to wait for of one dependency; nothing if it is ready. What is ready is added to
/// what was `seen` so.
fn waits(
    needed: &Dependency,
    routes: &[RouteDraft<'_>],
    held: &HeldBack,
    pace: &Pace<'_>,
    seen: &mut BTreeSet<RevisionId>,
) -> Vec<Wait> {
    let wait = |why| Wait { needed: needed.clone(), why };
    let (routed, tagged) = match find(routes, &needed.service) {
        Ok(index) => routes[index].leads(),
        Err(_) => match pace.world.service(&needed.service) {
            Some(service) => (
                service.routed().cloned().collect(),
                service.tags.iter().map(|tag| tag.revision.clone()).collect(),
            ),
            None => (Vec::new(), Vec::new()),
        },
    };
    if routed.is_empty() {
        return vec![wait(Why::Missing)];
    }
    if needed.revision.is_none() && held.contains_key(&needed.service) {
        return vec![wait(Why::HeldBack)];
    }
    let Some(revisions) = revisions_of(needed, &routed, &tagged) else {
        return vec![wait(Why::Elsewhere)];
    };
    let mut waits = Vec::new();
    for id in revisions {
        let is_failing = is_failing(&id, pace);
        if (pace.moment.is_ready)(&id) {
            seen.insert(id);
        } else if is_failing || !seen.contains(&id) {
            seen.remove(&id);
            waits.push(wait(Why::NoReplica(id, is_failing)));
        }
    }
    waits
}

fn is_failing(revision: &RevisionId, pace: &Pace<'_>) -> bool {
    standing(pace.world, pace.moment, revision, &revision.name) == Standing::Failing
}

impl RouteDraft<'_> {
    /// Keeps the traffic before, which moves on if it moves.
    fn keep(&mut self, before: TrafficStamp, text: String, pace: &Pace<'_>) {
        let target = before.rollout.target();
        let (rollout, conditions) = pace.moved(&self.speed, target, Some(&before.rollout), self.id);
        self.conditions.retain(|text| text == ORDERED);
        self.conditions.extend(conditions);
        self.conditions.push(text);
        self.traffic = TrafficStamp { rollout, ordered: self.traffic.ordered.take(), ..before };
    }

    /// Revisions that its traffic, and that its tags lead to.
    fn leads(&self) -> (Vec<RevisionId>, Vec<RevisionId>) {
        let id = |name: &str| RevisionId::new(Arc::clone(&self.id.namespace), name);
        let routed = self.traffic.shares().iter().map(|share| id(&share.revision_name)).collect();
        (routed, self.traffic.tags.iter().map(|(_, revision)| id(revision)).collect())
    }
}

impl Loader {
    /// Services whose new revision is held back until what it depends on is ready.
    pub fn held_back(&self) -> impl Iterator<Item = &ServiceId> {
        self.held.keys()
    }

    /// Whether something that a revision waits for is not as it was.
    pub(super) fn is_wait_over(&self, moment: &Moment<'_>) -> bool {
        let pace = Pace { moment, default: std::time::Duration::ZERO, world: &self.world };
        self.held.values().flat_map(|held| &held.waits).any(|wait| match &wait.why {
            Why::NoReplica(revision, failed) => {
                (moment.is_ready)(revision) || is_failing(revision, &pace) != *failed
            }
            Why::Missing | Why::Elsewhere | Why::HeldBack => false,
        })
    }
}
