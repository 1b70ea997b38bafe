//! `tidegate.dev/depends-on`: what it says, circles that it makes, and what is not there.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::admitted::{Admitted, Objects, metadata_map};
use super::identity::{Kind, ObjectKey};
use super::own::{PREFIX, own_settings};
use crate::config::order::{Needs, circle};
use crate::config::problem::ConfigProblem;
use crate::model::{Dependency, ObjectName, RevisionId, ServiceId};

/// The annotation, less the prefix.
pub(super) const NAME: &str = "depends-on";

/// What to write.
const FIX: &str = "a list of services such as \"db, shop/cart, api=api-00002\"";

/// What to do about a circle.
const BREAK: &str = "leave one of them out: a service that is called back is no dependency";

/// One entry of the list: `[NAMESPACE/]NAME[=REVISION]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Needed {
    /// None = that of who needs it.
    namespace: Option<Arc<str>>,
    service: Arc<str>,
    revision: Option<Arc<str>>,
}

impl Needed {
    /// What it is for something in that namespace.
    pub(super) fn by(&self, namespace: &Arc<str>) -> Dependency {
        let namespace = self.namespace.as_ref().unwrap_or(namespace);
        let name = |name: &Arc<str>| ObjectName::new(Arc::clone(namespace), Arc::clone(name));
        Dependency { service: name(&self.service), revision: self.revision.as_ref().map(name) }
    }
}

/// Reads the list.
pub(super) fn parse(value: &str) -> Result<Vec<Needed>, (String, &'static str)> {
    let entries = value.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let mut found: Vec<Needed> = Vec::new();
    for entry in entries {
        let (service, revision) = match entry.split_once('=') {
            Some((service, revision)) => (service.trim(), Some(revision.trim())),
            None => (entry, None),
        };
        let (namespace, service) = match service.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, service),
        };
        let mut names = [namespace, Some(service), revision].into_iter().flatten();
        if !names.all(is_name) {
            return Err((format!("{entry:?} names no service"), FIX));
        }
        if found
            .iter()
            .any(|known| *known.service == *service && known.namespace.as_deref() == namespace)
        {
            return Err((format!("{service} is named twice"), FIX));
        }
        found.push(Needed {
            namespace: namespace.map(Arc::from),
            service: service.into(),
            revision: revision.map(Arc::from),
        });
    }
    if found.is_empty() {
        return Err(("the list is empty".to_owned(), FIX));
    }
    Ok(found)
}

/// Whether it can be the name of an object (RFC 1123).
fn is_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|byte| is_part(*byte))
        && bytes.last().is_some_and(|byte| is_part(*byte))
        && bytes.len() <= 253
        && bytes.iter().all(|byte| is_part(*byte) || matches!(byte, b'-' | b'.'))
}

/// What a template or a revision in that namespace depends on; nothing where that is not right:
/// that is told elsewhere.
pub fn of_template(template: &Value, namespace: &Arc<str>) -> Vec<Dependency> {
    let mut annotations = metadata_map(template, "annotations");
    annotations.retain(|key, _| key.strip_prefix(PREFIX) == Some(NAME));
    let needed = own_settings(&annotations).unwrap_or_default().depends_on;
    needed.iter().map(|needed| needed.by(namespace)).collect()
}

/// What each service, or configuration given apart, depends on by its newest template.
pub(super) fn needs(objects: &Objects) -> Needs<ServiceId> {
    let mut needs = Needs::new();
    for (key, admitted) in templates(objects) {
        let needed = admitted.depends_on.iter().map(|needed| needed.service.clone());
        needs.entry(key.name.clone()).or_default().extend(needed);
    }
    needs
}

/// What each of them depends on, in the order written.
pub(super) fn of_all(objects: &Objects) -> BTreeMap<ServiceId, Arc<[Dependency]>> {
    let all = templates(objects);
    all.map(|(key, admitted)| (key.name.clone(), Arc::clone(&admitted.depends_on))).collect()
}

fn templates(objects: &Objects) -> impl Iterator<Item = (&ObjectKey, &Arc<Admitted>)> {
    objects.iter().filter(|(key, _)| matches!(key.kind, Kind::Service | Kind::Configuration))
}

/// Whether anything depends on anything.
pub(super) fn has_any(objects: &Objects) -> bool {
    templates(objects).any(|(_, admitted)| !admitted.depends_on.is_empty())
}

/// The circle that a service, which is to depend on others, makes with what there is; none if it
/// makes none.
pub fn closes_circle(
    service: &ServiceId,
    depends_on: &[Dependency],
    mut needs: Needs<ServiceId>,
) -> Option<ConfigProblem> {
    let needed = depends_on.iter().map(|needed| needed.service.clone()).collect();
    needs.insert(service.clone(), needed);
    let members = circle(&needs).filter(|members| members.contains(service))?;
    let path = format!("spec.template.metadata.annotations.{PREFIX}{NAME}");
    Some(ConfigProblem::error(path, circle_text(&members)).fix(BREAK))
}

fn circle_text(members: &[ServiceId]) -> String {
    let names = members.iter().chain(members.first()).map(ToString::to_string);
    format!("a circle: {}", names.collect::<Vec<_>>().join(" → "))
}

/// Takes back what makes a circle: each of its members that changed keeps its `former` self.
pub(super) fn refuse_circles(
    objects: &mut Objects,
    former: &Objects,
    problems: &mut Vec<ConfigProblem>,
) {
    if !has_any(objects) {
        return;
    }
    // There was none before, and each turn takes back something that changed: it ends.
    while let Some(members) = circle(&needs(objects)) {
        let text = circle_text(&members);
        let mut is_same = true;
        for member in members {
            let service = ObjectKey { kind: Kind::Service, name: member };
            let key = if objects.contains_key(&service) {
                service
            } else {
                ObjectKey { kind: Kind::Configuration, ..service }
            };
            let Some(admitted) = objects.get(&key) else { continue };
            let before = former.get(&key);
            if before.is_some_and(|before| before.depends_on == admitted.depends_on) {
                continue;
            }
            is_same = false;
            problems.push(problem(admitted, text.clone(), BREAK));
            match before {
                Some(before) => objects.insert(key, Arc::clone(before)),
                None => objects.remove(&key),
            };
        }
        if is_same {
            return;
        }
    }
}

/// A problem with what a template depends on.
pub(super) fn problem(admitted: &Admitted, message: String, fix: &str) -> ConfigProblem {
    let key = format!("{PREFIX}{NAME}");
    let path = ["spec", "template", "metadata", "annotations"];
    let entries = admitted.source.node().at(&path).and_then(|node| node.as_map());
    let entry = entries.unwrap_or_default().iter().find(|entry| entry.key == key);
    let problem = ConfigProblem::error(format!("{}.{key}", path.join(".")), message).fix(fix);
    admitted.source.place(problem.at_line(entry.map_or(0, |entry| entry.line)))
}

/// Dependencies of newest templates that `is_there` does not know, by who has them.
pub(super) fn missing(
    objects: &Objects,
    is_there: impl Fn(&ServiceId) -> bool,
) -> BTreeMap<&ObjectKey, (&Admitted, Vec<&Dependency>)> {
    let mut missing = BTreeMap::new();
    for (key, admitted) in templates(objects) {
        let unknown = admitted.depends_on.iter().filter(|needed| !is_there(&needed.service));
        let unknown: Vec<_> = unknown.collect();
        if !unknown.is_empty() {
            missing.insert(key, (&**admitted, unknown));
        }
    }
    missing
}

/// The revisions that a dependency comes to, of those that its service's traffic, then its tags,
/// lead to. None: that does not lead to the one that is asked for.
pub(super) fn revisions_of(
    needed: &Dependency,
    routed: &[RevisionId],
    tagged: &[RevisionId],
) -> Option<Vec<RevisionId>> {
    match &needed.revision {
        None => Some(routed.to_vec()),
        Some(one) if routed.contains(one) || tagged.contains(one) => Some(vec![one.clone()]),
        Some(_) => None,
    }
}
