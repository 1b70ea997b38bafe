//! An object's metadata.

use serde_json::Value as Json;

use super::findings::{Findings, Path, texts};
use super::names;
use super::view::{child, list, text};

/// Name or prefix of a name, as Knative requires it of its objects.
pub(super) fn check_name(metadata: &Json, at: &Path, out: &mut Findings) {
    let name = text(metadata, "name");
    let prefix = text(metadata, "generateName");
    if !prefix.is_empty() {
        let errors = names::dns1035_prefix(prefix);
        if !errors.is_empty() {
            let message = format!("not a DNS 1035 label prefix: [{}]", errors.join(" "));
            let fix = format!("write {}-", names::suggestion(prefix));
            out.say(at.field("generateName"), message, fix);
            return;
        }
    }
    if !name.is_empty() {
        let errors = names::dns1035_label(name);
        if !errors.is_empty() {
            let message = format!("not a DNS 1035 label: [{}]", errors.join(" "));
            out.say(at.field("name"), message, format!("write {}", names::suggestion(name)));
        }
    }
    if name.is_empty() && prefix.is_empty() {
        out.say(at.field("name"), "name or generateName is required", "write name: and a name");
    }
}

/// Name of a ConfigMap, Secret or the like.
pub(super) fn check_plain_name(metadata: &Json, at: &Path, out: &mut Findings) {
    let name = text(metadata, "name");
    if name.is_empty() {
        out.missing(at.field("name"), "write name: and a name");
        return;
    }
    for error in names::dns1123_subdomain(name) {
        let fix = format!("write {}", names::suggestion(name));
        out.invalid(at.field("name"), format!("{name}: {error}"), fix);
    }
}

/// A label that says who owns the object must agree with its owner references.
pub(super) fn check_owner_label(
    metadata: &Json,
    label: &str,
    kind: &str,
    at: &Path,
    out: &mut Findings,
) {
    let labels = texts(metadata.get("labels"));
    let Some(owner) = labels.get(label) else { return };
    let owned = list(metadata, "ownerReferences")
        .iter()
        .any(|reference| text(reference, "kind") == kind && text(reference, "name") == owner);
    if !owned {
        let fix = format!(
            "remove the label, or write ownerReferences with kind: {kind} and name: {owner}"
        );
        out.missing(at.field("labels").field(label), fix);
    }
}

/// Name of a revision given in the template of the object with the metadata `parent`.
pub(super) fn check_revision_name(template: &Json, parent: &Json, at: &Path, out: &mut Findings) {
    let name = text(template, "name");
    let generated = text(template, "generateName");
    let parent_name = text(parent, "name");
    if !generated.is_empty() {
        let errors = names::dns1035_prefix(generated);
        if !errors.is_empty() {
            let value = format!("not a DNS 1035 label prefix: [{}]", errors.join(" "));
            out.invalid(at.field("generateName"), value, format!("write {parent_name}-"));
            return;
        }
    }
    if name.is_empty() {
        return;
    }
    let at = at.field("name");
    let errors = names::dns1035_label(name);
    let prefix = format!("{parent_name}-");
    if !errors.is_empty() {
        let value = format!("not a DNS 1035 label: [{}]", errors.join(" "));
        out.invalid(at, value, format!("write {}", names::suggestion(name)));
    } else if parent_name.is_empty() && !text(parent, "generateName").is_empty() {
        let fix = "remove it: a service with generateName names its revisions itself";
        out.disallowed(vec![at], fix);
    } else if !name.starts_with(&prefix) {
        use crate::config::text::quote;
        let value = format!("{} must have prefix {}", quote(name), quote(&prefix));
        out.invalid(at, value, format!("write {prefix}{name}"));
    }
}

/// Annotations of an object.
pub(super) fn annotations(object: &Json) -> super::annotations::Annotations {
    texts(child(object, "metadata").get("annotations"))
}
