//! What is said of canaries: an event for each step, and what a Service says of one that was taken
//! back.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::config::canary::{seen_words, taken_back_words};
use crate::config::rollout::{ConfigurationRollout, Rollout};
use crate::config::world::{route_canary, taken_back_condition};
use crate::kubernetes::ROLLOUT_ANNOTATION;
use crate::kubernetes::controller::object::Parts as _;
use crate::kubernetes::controller::write::Weight;
use crate::model::CanaryRules;

/// An event: its type, reason and message.
pub(super) type News = (Weight, &'static str, String);

/// The shares that a Route notes on itself.
pub(super) fn noted(route: &Value) -> Option<Rollout> {
    serde_json::from_str(route.annotation(ROLLOUT_ANNOTATION)).ok()
}

/// Revisions of a Route that are tried, or were taken back.
pub(super) fn tried(route: &Value) -> BTreeSet<String> {
    let noted = route_canary(route).0.and_then(|_| noted(route)).unwrap_or_default();
    let canaries = noted.configurations.iter().filter(|known| known.canary.is_some());
    canaries.map(|known| known.newest().to_owned()).collect()
}

/// Why a Route's newest revision has no traffic, if it was taken back.
pub(in crate::kubernetes::controller) fn taken_back(route: &Value) -> Option<String> {
    taken_back_condition(route, &noted(route)?)
}

/// What happened from one state of a Route's shares to the next.
pub(super) fn news(route: &Value, now: Option<&Rollout>) -> Vec<News> {
    let (Some(rules), _) = route_canary(route) else { return Vec::new() };
    let before = noted(route).unwrap_or_default();
    let all = now.into_iter().flat_map(|now| &now.configurations);
    // Tags move with what the Route itself has.
    let own = all.filter(|known| known.tag.is_none());
    own.filter_map(|now| {
        let is_same = |before: &&ConfigurationRollout| {
            before.tag == now.tag && before.configuration_name == now.configuration_name
        };
        one(before.configurations.iter().find(is_same), now, &rules)
    })
    .collect()
}

fn one(
    before: Option<&ConfigurationRollout>,
    now: &ConfigurationRollout,
    rules: &CanaryRules,
) -> Option<News> {
    let before = before.filter(|before| before.canary.is_some() && !before.is_done());
    let new = now.newest();
    let is_same = before.is_some_and(|before| before.newest() == new);
    let Some(state) = &now.canary else {
        let is_through = is_same && now.revisions.len() == 1;
        let text = || format!("{new} has all of the traffic: no harm was seen");
        return is_through.then(|| (Weight::Normal, "CanaryPassed", text()));
    };
    let old = now.revisions.first()?.revision_name.as_str();
    let (share, of) = (now.revisions.last()?.percent, now.percent);
    let step = before.and_then(|before| before.canary.as_ref()).map(|state| state.step);
    match &state.taken_back {
        Some(back) if is_same => {
            let why = taken_back_words(back.harm, back.seen.as_ref(), rules, old);
            Some((Weight::Warning, "CanaryTakenBack", format!("{new} is taken back: {why}")))
        }
        Some(_) => None,
        None if !is_same => {
            let text = format!("{new} is tried with {share} of {of} % beside {old}");
            Some((Weight::Normal, "CanaryBegun", text))
        }
        None if step < Some(state.step) => {
            let seen = state.passed.as_ref().map(|seen| seen_words(seen, old, new));
            let seen = seen.unwrap_or_default();
            let text = format!("{new} gets {share} of {of} %, for no harm was seen: {seen}");
            Some((Weight::Normal, "CanaryStep", text))
        }
        None => None,
    }
}
