//! Canaries as they take effect: what is counted for them, what is said of them, what is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::admin::metrics::{Family, Kind, Value};
use crate::admin::view::{CanaryView, FiguresView};
use crate::config::canary::{compared, missing, missing_words, seen_words, taken_back_words};
use crate::model::{
    Canary, Compared, Figures, Harm, RevisionId, ServiceId, ServiceSpec, UnixNanos, World,
};
use crate::revision::Revision;
use crate::stats::Comparisons;

use super::live::Live;
use super::rollouts::counted;

/// What is kept of canaries.
#[derive(Debug, Default)]
pub(super) struct Canaries {
    /// What is counted of revisions beside each other.
    pub(super) comparisons: Comparisons,
    /// Revisions whose requests are counted for it.
    compared: Mutex<BTreeSet<RevisionId>>,
    /// How many were taken back since the start, by service.
    taken_back: Mutex<BTreeMap<ServiceId, u64>>,
}

impl Canaries {
    /// Another configuration takes effect.
    pub(super) fn look(
        &self,
        former: &World,
        world: &World,
        revision: impl Fn(&RevisionId) -> Option<Arc<Revision>>,
    ) {
        let mut compared = BTreeSet::new();
        for service in &world.services {
            let tried = service.canaries.iter().filter(|known| known.state.taken_back.is_none());
            compared.extend(tried.flat_map(|known| [known.old.clone(), known.new.clone()]));
        }
        let mut known = self.compared.lock();
        // One that was made anew is told again.
        let told = known.difference(&compared).map(|id| (id, false));
        for (id, is_compared) in told.chain(compared.iter().map(|id| (id, true))) {
            if let Some(revision) = revision(id) {
                revision.stats().set_compared(is_compared);
            }
        }
        *known = compared;
        drop(known);
        for (index, service) in world.services.iter().enumerate() {
            // Most are what they were and where they were: nothing is looked for then.
            let same_place = former.services.get(index);
            if same_place.is_some_and(|before| Arc::ptr_eq(before, service)) {
                continue;
            }
            let before = former.service(&service.id);
            if before.is_some_and(|before| Arc::ptr_eq(before, service)) {
                continue;
            }
            self.say(before.and_then(|before| own(before)), own(service), service);
        }
    }

    /// One line for each step.
    fn say(&self, before: Option<&Canary>, now: Option<&Canary>, service: &ServiceSpec) {
        let id = &service.id;
        let before = before.filter(|before| before.state.taken_back.is_none());
        match (before, now) {
            (None, None) => {}
            (Some(before), None) => {
                let new = &before.new.name;
                let is_through = service.traffic.iter().any(|target| target.revision == before.new);
                if is_through {
                    tracing::info!(service = %id, "canary: {new} is through, and has all");
                } else {
                    tracing::info!(service = %id, "canary: {new} is not tried any more");
                }
            }
            (before, Some(now)) => {
                let is_same = before.is_some_and(|before| before.new == now.new);
                let (old, new) = (&now.old.name, &now.new.name);
                let (share, of) = (now.share, now.of);
                match &now.state.taken_back {
                    Some(back) if is_same => {
                        *self.taken_back.lock().entry(id.clone()).or_default() += 1;
                        let why = taken_back_words(back.harm, back.seen.as_ref(), &now.rules, old);
                        tracing::warn!(service = %id, "canary: {new} is taken back: {why}");
                    }
                    Some(_) => {}
                    None if !is_same => tracing::info!(
                        service = %id,
                        "canary: {new} is tried with {share} of {of} % beside {old}"
                    ),
                    None if before.is_some_and(|before| before.state.step < now.state.step) => {
                        let seen = now.state.passed.as_ref();
                        let seen = seen.map(|seen| seen_words(seen, old, new)).unwrap_or_default();
                        tracing::info!(
                            service = %id,
                            "canary: {new} gets {share} of {of} %, for no harm was seen: {seen}"
                        );
                    }
                    None => {}
                }
            }
        }
    }

    /// Series of services that have canaries, or had some that were taken back.
    pub(super) fn families(&self, world: &World) -> Vec<Family> {
        let mut share = Family::new(
            "tidegate_rollout_share",
            Kind::Gauge,
            "Part of the traffic, 0 to 1, that a canary's new revision has.",
        );
        let mut state = Family::new(
            "tidegate_rollout_state",
            Kind::Gauge,
            "1 for what a canary is: tried, or taken_back.",
        );
        let mut taken_back = Family::new(
            "tidegate_rollout_taken_back",
            Kind::Counter,
            "Canaries of a service that were taken back since the start.",
        );
        let labels = |id: &ServiceId| {
            vec![("namespace", Arc::clone(&id.namespace)), ("service", Arc::clone(&id.name))]
        };
        for service in &world.services {
            let Some(canary) = own(service) else { continue };
            let mut shared = labels(&service.id);
            shared.push(("revision", Arc::clone(&canary.new.name)));
            let shared = shared.into();
            let part = f64::from(canary.share) / f64::from(canary.of.max(1));
            share.push(&shared, Vec::new(), Value::Real(part));
            let word = vec![("state", Arc::from(state_word(canary)))];
            state.push(&shared, word, Value::Whole(1));
        }
        for (service, count) in &*self.taken_back.lock() {
            if world.service(service).is_some() {
                taken_back.push(&labels(service).into(), Vec::new(), Value::Whole(*count));
            }
        }
        vec![share, state, taken_back]
    }
}

/// The canary that is shown of a service: that of its own hosts, else that of a tag.
fn own(service: &ServiceSpec) -> Option<&Canary> {
    service.canaries.iter().min_by_key(|canary| canary.tag.clone())
}

fn state_word(canary: &Canary) -> &'static str {
    if canary.state.taken_back.is_some() { "taken_back" } else { "tried" }
}

/// A service's canary as it is now.
pub(super) fn view(live: &Live, service: &ServiceSpec) -> Option<CanaryView> {
    let canary = own(service)?;
    let Canary { tag: _, old, new, share, of, rules, state } = canary;
    let mut view = CanaryView {
        state: state_word(canary).to_owned(),
        old: old.name.to_string(),
        new: new.name.to_string(),
        share: *share,
        of: *of,
        step: state.step + 1,
        steps: rules.steps.to_vec(),
        max_errors: f64::from(rules.max_errors) / 100.0,
        max_latency: f64::from(rules.max_latency) / 100.0,
        ..CanaryView::default()
    };
    if let Some(back) = &state.taken_back {
        view.reason = Some(harm_word(back.harm).to_owned());
        view.why = taken_back_words(back.harm, back.seen.as_ref(), rules, &old.name);
        view.share = back.share;
        view.taken_back_unix_ms = Some(millis(back.at));
        view.seen = back.seen.as_ref().map(figures_views);
        return Some(view);
    }
    let is_counted = !state.since.is_unset();
    let evidence = counted(live, old, new, state.since).filter(|_| is_counted);
    match evidence {
        Some(evidence) => {
            let missing = missing(rules, &evidence);
            view.why = missing_words(&missing, rules, &old.name);
            view.over_s = evidence.over.as_secs_f64();
            view.seen = Some(figures_views(&compared(&evidence)));
        }
        None => "a replica of it that is ready".clone_into(&mut view.why),
    }
    Some(view)
}

fn millis(at: UnixNanos) -> u64 {
    at.0 / 1_000_000
}

/// Old, then new.
fn figures_views(seen: &Compared) -> [FiguresView; 2] {
    let view = |figures: &Figures| FiguresView {
        requests: figures.requests,
        errors: figures.errors,
        median_ms: figures.median_us as f64 / 1000.0,
        p95_ms: figures.p95_us as f64 / 1000.0,
    };
    [view(&seen.old), view(&seen.new)]
}

const fn harm_word(harm: Harm) -> &'static str {
    match harm {
        Harm::Errors => "errors",
        Harm::Median => "median",
        Harm::P95 => "p95",
        Harm::CannotStart => "cannot_start",
    }
}
