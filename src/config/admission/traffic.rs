//! Traffic of Services and Routes.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::findings::{Finding, Findings, Path};
use super::names;
use super::view::{has, int, text};
use crate::config::text::quote;

/// Checks a list of traffic targets. A Service's targets may not name a configuration.
pub(super) fn check(targets: &[Json], of_service: bool, at: &Path, out: &mut Findings) {
    let mut tags: HashMap<&str, usize> = HashMap::new();
    let mut sum: i64 = 0;
    for (index, target) in targets.iter().enumerate() {
        check_target(target, of_service, &at.index(index), out);
        sum = sum.wrapping_add(int(target, "percent").unwrap_or(0));
        let tag = text(target, "tag");
        if tag.is_empty() {
            continue;
        }
        let errors = names::dns1035_label(tag);
        if !errors.is_empty() {
            let value = format!("not a DNS 1035 label: [{}]", errors.join(" "));
            let fix = format!("write {}", names::suggestion(tag));
            out.push(Finding {
                message: format!("invalid value: {value}"),
                paths: vec![at.field("tag").index(index)],
                fix,
                meant: Some(at.index(index).field("tag")),
                ..Finding::default()
            });
        }
        match tags.get(tag) {
            Some(first) => {
                let paths = vec![at.index(index).field("tag"), at.index(*first).field("tag")];
                let message = format!("Multiple definitions for {}", quote(tag));
                out.say_all(paths, message, "write each tag once");
            }
            None => {
                tags.insert(tag, index);
            }
        }
    }
    if sum != 100 {
        let fix = if targets.is_empty() {
            "write traffic with one target and percent: 100"
        } else {
            "write percents that add up to 100"
        };
        out.say(at.clone(), format!("Traffic targets sum to {sum}, want 100"), fix);
    }
}

fn check_target(target: &Json, of_service: bool, at: &Path, out: &mut Findings) {
    let revision = text(target, "revisionName");
    if let Some(latest) = target.get("latestRevision").and_then(Json::as_bool)
        && latest != revision.is_empty()
    {
        let message =
            format!("may not set revisionName {} when latestRevision is {latest}", quote(revision));
        let fix = if latest {
            "remove latestRevision, or remove revisionName"
        } else {
            "write revisionName:, or latestRevision: true"
        };
        out.say(at.field("latestRevision"), message, fix);
    }
    check_names(target, of_service, at, out);
    if let Some(percent) = int(target, "percent").filter(|p| !(0..=100).contains(p)) {
        out.out_of_bounds(at.field("percent"), percent, 0, 100);
    }
    if !text(target, "url").is_empty() {
        out.disallowed(vec![at.field("url")], "remove url");
    }
}

fn check_names(target: &Json, of_service: bool, at: &Path, out: &mut Findings) {
    let revision = text(target, "revisionName");
    let configuration = text(target, "configurationName");
    let (revision_at, configuration_at) = (at.field("revisionName"), at.field("configurationName"));
    if of_service && !configuration.is_empty() {
        let fix = "remove it; without revisionName the target is the latest revision";
        out.disallowed(vec![configuration_at], fix);
    } else if !revision.is_empty() && !configuration.is_empty() {
        out.multiple_one_of(vec![revision_at, configuration_at]);
    } else if !revision.is_empty() {
        check_name(revision, revision_at, out);
    } else if !configuration.is_empty() {
        check_name(configuration, configuration_at, out);
    } else if !of_service {
        out.missing_one_of(vec![revision_at, configuration_at]);
    }
}

fn check_name(name: &str, path: Path, out: &mut Findings) {
    let errors = names::qualified_name(name);
    if !errors.is_empty() {
        out.push(Finding {
            message: format!("invalid key name {}", quote(name)),
            paths: vec![path],
            details: errors.join(", "),
            fix: format!("write {}", names::suggestion(name)),
            ..Finding::default()
        });
    }
}

/// Fills in what a target leaves out.
pub(super) fn set_defaults(targets: &mut [Json]) {
    for target in targets {
        let latest = text(target, "revisionName").is_empty();
        super::view::default(target, "latestRevision", latest);
        if !has(target, "percent") {
            super::view::default(target, "percent", 0);
        }
    }
}
