//! New revisions that depend on other services get traffic once these are ready
//! (`tidegate.dev/depends-on`). Until then the traffic before stays in effect; a Route's first one
//! waits for nobody.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::traffic::{Known, Traffic, ready};
use crate::config::world::dependencies_of;
use crate::kubernetes::controller::object::Parts as _;
use crate::model::{Dependency, ServiceId};

/// When a Route that waits is looked at again.
pub(super) const AGAIN: Duration = Duration::from_secs(5);

/// What new revisions of the traffic wait for, in words; none if they wait for nothing.
pub(super) fn waits(route: &Value, traffic: &Traffic, known: &dyn Known) -> Option<String> {
    let before: BTreeSet<&str> = led_to(route).collect();
    if before.is_empty() || before.iter().any(|name| known.revision(name).is_none()) {
        return None;
    }
    let namespace = route.name().namespace;
    let new: BTreeSet<&str> = traffic.targets.iter().map(|target| &*target.revision).collect();
    let mut revisions = Vec::new();
    let mut texts = Vec::new();
    for name in new.difference(&before) {
        let Some(revision) = known.revision(name) else { continue };
        let waits: Vec<String> = dependencies_of(&revision, &namespace)
            .iter()
            .filter(|needed| !comes_back(needed, &route.name(), known))
            .filter_map(|needed| wait(needed, known))
            .collect();
        if !waits.is_empty() {
            revisions.push(*name);
            texts.extend(waits);
        }
    }
    (!revisions.is_empty()).then(|| {
        format!(
            "{} gets traffic once what it depends on is ready: {}.",
            revisions.join(", "),
            texts.join("; ")
        )
    })
}

/// Revisions that a Route leads to as its status says.
fn led_to(route: &Value) -> impl Iterator<Item = &str> {
    let traffic = route.list("/status/traffic").iter();
    traffic.map(|entry| entry.text("/revisionName")).filter(|name| !name.is_empty())
}

/// Why a dependency is not ready; none if it is.
fn wait(needed: &Dependency, known: &dyn Known) -> Option<String> {
    let Some(route) = known.route(&needed.service) else {
        // Its only revision is what runs.
        if known.is_adopted(&needed.service) {
            return None;
        }
        return Some(format!("{needed}, which is not there"));
    };
    let is_led_to = |one: &ServiceId| led_to(&route).any(|name| *name == *one.name);
    if !needed.revision.as_ref().is_none_or(is_led_to) {
        return Some(format!("{needed}, to which no traffic leads"));
    }
    let is_ready = ready(&route) == "True" && route.is_observed();
    (!is_ready).then(|| format!("{needed}, which is not ready"))
}

/// Whether what is needed needs the Route itself: each would wait for the other. The webhook
/// admits no circle, where there is one.
fn comes_back(needed: &Dependency, own: &ServiceId, known: &dyn Known) -> bool {
    let mut seen = BTreeSet::new();
    let mut left = vec![needed.service.clone()];
    while let Some(service) = left.pop() {
        if service == *own {
            return true;
        }
        if !seen.insert(service.clone()) {
            continue;
        }
        let Some(route) = known.route(&service) else { continue };
        let configurations = route.list("/spec/traffic").iter();
        let latest = configurations.filter_map(|entry| {
            let name =
                ServiceId::new(Arc::clone(&service.namespace), entry.text("/configurationName"));
            Some(known.configuration_of(&name)?.text("/status/latestReadyRevisionName").to_owned())
        });
        let revisions = led_to(&route).map(str::to_owned).chain(latest);
        for name in revisions.collect::<BTreeSet<_>>() {
            let name = ServiceId::new(Arc::clone(&service.namespace), name.as_str());
            let revision = known.revision_of(&name);
            let needed = revision.iter().flat_map(|r| dependencies_of(r, &service.namespace));
            left.extend(needed.map(|needed| needed.service));
        }
    }
    false
}
