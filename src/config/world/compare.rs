//! What differs between two worlds, in words.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use crate::model::{RevisionSpec, ScalingSpec, ServiceSpec, Workload, World};

/// A field, and what it is on both sides.
type Difference = (&'static str, [String; 2]);

/// What of services, revisions, traffic and settings is not the same; hosts are each machine's own.
/// The first world is called `here`, the second one `there`.
pub fn differences(one: &World, other: &World, here: &str, there: &str) -> Vec<String> {
    let mut found = Vec::new();
    let names = |world: &World| -> BTreeMap<String, Arc<ServiceSpec>> {
        let named = world.services.iter().map(|spec| (spec.id.to_string(), Arc::clone(spec)));
        named.collect()
    };
    compare(&names(one), &names(other), "service", [here, there], &mut found, services);
    let names = |world: &World| -> BTreeMap<String, Arc<RevisionSpec>> {
        let named = world.revisions.iter().map(|spec| (spec.id.to_string(), Arc::clone(spec)));
        named.collect()
    };
    compare(&names(one), &names(other), "revision", [here, there], &mut found, revisions);
    found
}

fn compare<T>(
    one: &BTreeMap<String, Arc<T>>,
    other: &BTreeMap<String, Arc<T>>,
    what: &str,
    sides: [&str; 2],
    found: &mut Vec<String>,
    differ: fn(&T, &T) -> Vec<Difference>,
) {
    let [here, there] = sides;
    for (name, left) in one {
        let Some(right) = other.get(name) else {
            found.push(format!("{what} {name}: in {here}, not in {there}"));
            continue;
        };
        for (field, [left, right]) in differ(left, right) {
            found.push(format!("{what} {name}: {field}: {left} in {here}, {right} in {there}"));
        }
    }
    let only = other.keys().filter(|name| !one.contains_key(*name));
    found.extend(only.map(|name| format!("{what} {name}: not in {here}, but in {there}")));
}

/// Adds a field that is not the same.
fn add<T: Debug + PartialEq>(found: &mut Vec<Difference>, field: &'static str, one: &T, other: &T) {
    if one != other {
        found.push((field, [format!("{one:?}"), format!("{other:?}")]));
    }
}

fn services(one: &ServiceSpec, other: &ServiceSpec) -> Vec<Difference> {
    let shares = |spec: &ServiceSpec| {
        let mut shares: Vec<String> = spec
            .traffic
            .iter()
            .map(|target| format!("{}={}", target.revision.name, target.percent))
            .collect();
        shares.sort();
        shares.join(" ")
    };
    let tags = |spec: &ServiceSpec| {
        let tags = spec.tags.iter().map(|tag| format!("{}={}", tag.name, tag.revision.name));
        tags.collect::<Vec<_>>().join(" ")
    };
    let mut found = Vec::new();
    add(&mut found, "traffic", &shares(one), &shares(other));
    add(&mut found, "tags", &tags(one), &tags(other));
    found
}

fn revisions(one: &RevisionSpec, other: &RevisionSpec) -> Vec<Difference> {
    let mut found = Vec::new();
    add(
        &mut found,
        "containerConcurrency",
        &one.container_concurrency,
        &other.container_concurrency,
    );
    add(&mut found, "protocol", &one.protocol, &other.protocol);
    add(&mut found, "timeouts", &one.timeouts, &other.timeouts);
    scaling(&mut found, &one.scaling, &other.scaling);
    add(&mut found, "queue", &one.queue, &other.queue);
    add(&mut found, "depends-on", &one.depends_on, &other.depends_on);
    if !is_same_program(&one.workload, &other.workload) {
        // It may hold values of Secrets.
        found.push(("program", ["one".to_owned(), "another".to_owned()]));
    }
    found
}

fn scaling(found: &mut Vec<Difference>, one: &ScalingSpec, other: &ScalingSpec) {
    let before = found.len();
    // What follows from where traffic goes is told of the service.
    let mut one = one.clone();
    if one.reachable != other.reachable {
        (one.reachable, one.min_scale) = (other.reachable, other.min_scale);
    }
    let one = &one;
    add(found, "metric", &one.metric, &other.metric);
    add(found, "target", &one.target_value, &other.target_value);
    add(found, "min-scale", &one.min_scale, &other.min_scale);
    add(found, "max-scale", &one.max_scale, &other.max_scale);
    add(found, "initial-scale", &one.initial_scale, &other.initial_scale);
    add(found, "activation-scale", &one.activation_scale, &other.activation_scale);
    add(found, "stable window", &one.stable_window, &other.stable_window);
    add(found, "panic window", &one.panic_window, &other.panic_window);
    add(found, "scale-down-delay", &one.scale_down_delay, &other.scale_down_delay);
    add(found, "retention", &one.scale_to_zero_retention, &other.scale_to_zero_retention);
    if found.len() == before {
        add(found, "scaling", one, other);
    }
}

/// Whether replicas are the same but for values that only one side may have (of Secrets).
fn is_same_program(one: &Workload, other: &Workload) -> bool {
    match (one, other) {
        (Workload::Process(one), Workload::Process(other)) => one == other,
        (Workload::Static(one), Workload::Static(other)) => one == other,
        (Workload::Pods(one), Workload::Pods(other)) => one == other,
        (Workload::Unavailable(_), _) | (_, Workload::Unavailable(_)) => true,
        _ => false,
    }
}
