//! From the traffic a Route asks for to ready revisions (`pkg/reconciler/route/traffic`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::canaries::tried;
use crate::config::rollout::Rollout;
use crate::kubernetes::conditions::Conditions;
use crate::kubernetes::controller::meta::{CONFIGURATION, SERVICE};
use crate::kubernetes::controller::object::Parts as _;
use crate::model::ObjectName;

/// Condition of a Route: all of its traffic leads somewhere.
pub(super) const ASSIGNED: &str = "AllTrafficAssigned";

/// What is known around a Route; what is named without a namespace is in the Route's.
pub(super) trait Known {
    /// A Configuration.
    fn configuration(&self, name: &str) -> Option<Value>;
    /// A Revision.
    fn revision(&self, name: &str) -> Option<Value>;
    /// A Configuration of any namespace.
    fn configuration_of(&self, name: &ObjectName) -> Option<Value>;
    /// A Revision of any namespace.
    fn revision_of(&self, name: &ObjectName) -> Option<Value>;
    /// A Route of any namespace.
    fn route(&self, name: &ObjectName) -> Option<Value>;
    /// Whether a Service without a Route is served: one that is adopted.
    fn is_adopted(&self, name: &ObjectName) -> bool;
}

/// One entry of the traffic, led to a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) tag: Option<String>,
    pub(super) revision: String,
    /// The revision's Configuration; empty if it has none.
    pub(super) configuration: String,
    /// Whether it follows the newest revision.
    pub(super) is_latest: bool,
    pub(super) percent: u8,
}

/// Traffic, all of it led to ready revisions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    /// As the Route lists it; the same tag and revision once.
    pub(super) targets: Vec<Target>,
    /// The Route's own shares, by revision, and each tag's.
    groups: BTreeMap<Option<String>, Vec<Target>>,
}

/// Why traffic leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// There is no such object: its kind and name.
    Missing(&'static str, String),
    /// None of a Configuration's revisions is ready; and whether the newest failed.
    NoneReady(String, bool),
    /// A revision is not ready; and whether it failed.
    NotReady(String, bool),
    /// A revision is another Service's: its name, the Service it should be of, and the one it is
    /// of, empty = none.
    NotOwned(String, String, String),
}

impl Bad {
    /// Whether waiting does not help.
    const fn is_failure(&self) -> bool {
        match self {
            Self::Missing(..) | Self::NotOwned(..) => true,
            Self::NoneReady(_, failed) | Self::NotReady(_, failed) => *failed,
        }
    }

    /// Says so in the conditions.
    pub(super) fn mark(&self, conditions: &mut Conditions) {
        let (reason, message) = match self {
            Self::Missing(kind, name) => (
                format!("{kind}Missing"),
                format!("{kind} {name:?} referenced in traffic not found."),
            ),
            Self::NoneReady(name, false) => (
                "RevisionMissing".to_owned(),
                format!("Configuration {name:?} is waiting for a Revision to become ready."),
            ),
            Self::NoneReady(name, true) => (
                "RevisionMissing".to_owned(),
                format!("Configuration {name:?} does not have any ready Revision."),
            ),
            Self::NotReady(name, false) => {
                ("RevisionMissing".to_owned(), format!("Revision {name:?} is not yet ready."))
            }
            Self::NotReady(name, true) => {
                ("RevisionMissing".to_owned(), format!("Revision {name:?} failed to become ready."))
            }
            Self::NotOwned(name, expected, actual) => {
                let message = if actual.is_empty() {
                    format!("Revision {name:?} does not belong to Service {expected:?}.")
                } else {
                    format!(
                        "Revision {name:?} belongs to Service {actual:?}, not Service {expected:?}."
                    )
                };
                ("RevisionNotOwned".to_owned(), message)
            }
        };
        if self.is_failure() {
            conditions.mark_false(ASSIGNED, &reason, &message);
        } else {
            conditions.mark_unknown(ASSIGNED, &reason, &message);
        }
    }
}

/// Leads the traffic of a Route to revisions; `kept` are shares whose newest revisions are followed
/// in place of those that came since.
///
/// # Errors
/// The first part that leads nowhere, or the last that waiting will not help.
pub(super) fn resolve(
    route: &Value,
    kept: Option<&Rollout>,
    known: &dyn Known,
) -> Result<Traffic, Bad> {
    let mut traffic = Traffic::default();
    let mut bad: Option<Bad> = None;
    let tried = tried(route);
    let follow = |configuration: &str| match kept.and_then(|kept| kept.newest_of(configuration)) {
        Some(newest) => Ok(newest.to_owned()),
        None => newest(configuration, &tried, known),
    };
    for entry in route.list("/spec/traffic") {
        match target(route, entry, &follow, known) {
            Ok(Some(target)) => traffic.add(target),
            Ok(None) => {}
            Err(found) if bad.is_none() || found.is_failure() => bad = Some(found),
            Err(_) => {}
        }
    }
    if let Some(bad) = bad {
        return Err(bad);
    }
    for group in traffic.groups.values_mut() {
        consolidate(group);
    }
    Ok(traffic)
}

fn target(
    route: &Value,
    entry: &Value,
    follow: &dyn Fn(&str) -> Result<String, Bad>,
    known: &dyn Known,
) -> Result<Option<Target>, Bad> {
    let named = entry.text("/revisionName");
    let (revision, configuration) = if named.is_empty() {
        let configuration = entry.text("/configurationName");
        if configuration.is_empty() {
            return Ok(None);
        }
        (follow(configuration)?, configuration.to_owned())
    } else {
        let revision = revision(named, known)?;
        let (expected, actual) = (route.label(SERVICE), revision.label(SERVICE));
        if !expected.is_empty() && expected != actual {
            return Err(Bad::NotOwned(named.to_owned(), expected.to_owned(), actual.to_owned()));
        }
        check_ready(named, &revision)?;
        let configuration = revision.label(CONFIGURATION).to_owned();
        if !configuration.is_empty() && known.configuration(&configuration).is_none() {
            return Err(Bad::Missing("Configuration", configuration));
        }
        (named.to_owned(), configuration)
    };
    let is_latest = entry.get("latestRevision").and_then(Value::as_bool);
    let percent = entry.int("/percent").unwrap_or_default().clamp(0, 100);
    Ok(Some(Target {
        tag: Some(entry.text("/tag")).filter(|tag| !tag.is_empty()).map(str::to_owned),
        revision,
        configuration,
        is_latest: is_latest.unwrap_or(named.is_empty()),
        percent: u8::try_from(percent).unwrap_or(100),
    }))
}

/// The newest ready revision of a Configuration. One that is tried, or was taken back, may have
/// failed since: then it is the canary's end, and the old one has all.
fn newest(name: &str, tried: &BTreeSet<String>, known: &dyn Known) -> Result<String, Bad> {
    let Some(configuration) = known.configuration(name) else {
        return Err(Bad::Missing("Configuration", name.to_owned()));
    };
    let latest = configuration.text("/status/latestReadyRevisionName");
    if latest.is_empty() {
        return Err(Bad::NoneReady(name.to_owned(), ready(&configuration) == "False"));
    }
    let revision = revision(latest, known)?;
    if !tried.contains(latest) {
        check_ready(latest, &revision)?;
    }
    Ok(latest.to_owned())
}

fn revision(name: &str, known: &dyn Known) -> Result<Value, Bad> {
    known.revision(name).ok_or_else(|| Bad::Missing("Revision", name.to_owned()))
}

fn check_ready(name: &str, revision: &Value) -> Result<(), Bad> {
    let ready = ready(revision);
    if ready == "True" && revision.is_observed() {
        return Ok(());
    }
    Err(Bad::NotReady(name.to_owned(), ready == "False"))
}

/// Status of an object's condition `Ready`; empty if it has none.
pub(super) fn ready(object: &Value) -> &str {
    let conditions = object.list("/status/conditions").iter();
    let mut ready = conditions.filter(|condition| condition.text("/type") == "Ready");
    ready.next().map_or("", |condition| condition.text("/status"))
}

impl Traffic {
    fn add(&mut self, target: Target) {
        let same = self.targets.iter_mut().find(|known| {
            known.tag == target.tag
                && known.revision == target.revision
                && known.is_latest == target.is_latest
        });
        match same {
            Some(known) => known.percent = known.percent.saturating_add(target.percent),
            None => self.targets.push(target.clone()),
        }
        self.groups.entry(None).or_default().push(target.clone());
        if target.tag.is_some() {
            self.groups.entry(target.tag.clone()).or_default().push(target);
        }
    }

    /// Tags, the Route itself (none) first.
    pub(super) fn tags(&self) -> impl Iterator<Item = Option<&str>> {
        self.groups.keys().map(Option::as_deref)
    }

    /// What follows newest revisions, all at its target.
    pub(super) fn rollout(&self) -> Rollout {
        let groups = self.groups.iter();
        let following = groups.flat_map(|(tag, targets)| {
            let following = targets.iter().filter(|target| target.is_latest);
            following.map(|target| {
                let Target { configuration, revision, percent, .. } = target;
                (tag.clone(), configuration.clone(), revision.clone(), *percent)
            })
        });
        Rollout::at_target(following)
    }

    /// The traffic as a status shows it: where traffic moves, with the shares of the moment.
    pub(super) fn status(
        &self,
        rollout: &Rollout,
        urls: &BTreeMap<Option<String>, String>,
    ) -> Value {
        let entries = self.targets.iter().flat_map(|target| {
            let moving = rollout.shares(target.tag.as_deref(), &target.revision);
            let shares: Vec<(&str, u8)> = match moving.filter(|_| target.is_latest) {
                Some(shares) => shares
                    .iter()
                    .map(|share| (share.revision_name.as_str(), share.percent))
                    .collect(),
                None => vec![(&target.revision, target.percent)],
            };
            shares.into_iter().map(|(revision, percent)| {
                let mut entry = json!({
                    "latestRevision": target.is_latest,
                    "percent": percent,
                    "revisionName": revision,
                });
                if let Some(tag) = &target.tag {
                    entry["tag"] = json!(tag);
                    entry["url"] = json!(urls.get(&target.tag));
                }
                entry
            })
        });
        entries.collect()
    }
}

/// Adds up what leads to the same revision; what leads to one alone is all of it.
fn consolidate(targets: &mut Vec<Target>) {
    let mut sums: Vec<Target> = Vec::with_capacity(targets.len());
    for target in targets.drain(..) {
        match sums.iter_mut().find(|known| known.revision == target.revision) {
            Some(known) => {
                known.percent = known.percent.saturating_add(target.percent);
                // What follows moves step by step, and what is named with it.
                known.is_latest |= target.is_latest;
            }
            None => sums.push(target),
        }
    }
    if let [only] = sums.as_mut_slice() {
        only.percent = 100;
    }
    *targets = sums;
}
