//! Volumes and where containers mount them.

use std::collections::HashSet;

use serde_json::Value as Json;

use super::findings::{Findings, Path};
use super::mask::{self, VOLUME_FEATURES, check_fields};
use super::names;
use super::pod::Pod;
use super::view::{child, has, list, text};
use crate::config::settings::Features;
use crate::config::text::{Quantity, quote};

const RESERVED_PATHS: [&str; 3] = ["/", "/dev", "/dev/log"];

/// Checks a pod's volumes; `mounted` are the names that its containers mount.
pub(super) fn check(
    volumes: &[Json],
    mounted: &HashSet<&str>,
    features: &Features,
    at: &Path,
    out: &mut Findings,
) {
    let mut seen = HashSet::new();
    for (index, volume) in volumes.iter().enumerate() {
        let at = at.index(index);
        let name = text(volume, "name");
        if !seen.insert(name) {
            let message = format!("duplicate volume name {}", quote(name));
            out.say(at.field("name"), message, "write a name that no other volume has");
        }
        if !mounted.contains(name) {
            let message = format!("volume with name {} not mounted", quote(name));
            let fix = format!("write a volumeMount with name: {name}, or remove the volume");
            out.say(at.field("name"), message, fix);
        }
        check_volume(volume, features, &at, out);
    }
}

fn check_volume(volume: &Json, features: &Features, at: &Path, out: &mut Findings) {
    let name = text(volume, "name");
    if name.is_empty() {
        out.missing(at.field("name"), "write name: and the name that volumeMounts use");
    } else if !names::dns1123_label(name).is_empty() {
        out.invalid(at.field("name"), name, format!("write {}", names::suggestion(name)));
    } else {
        // With a bad name Knative does not get to these.
        check_disabled(volume, features, out);
    }
    let allowed = |source: &str| mask::volume_source(source, features);
    check_fields(volume, "VolumeSource", allowed, at, out);
    check_sources(volume, features, at, out);
}

/// Kinds of volumes that a feature switches, by name; these have no path in Knative.
fn check_disabled(volume: &Json, features: &Features, out: &mut Findings) {
    let name = text(volume, "name");
    let claim = child(volume, "persistentVolumeClaim");
    if !claim.is_null() {
        let claim_name = text(claim, "claimName");
        let mut off = |what: &str, feature: &str, rest: &str| {
            if !features.is_enabled(feature) {
                let message = format!(
                    "Persistent volume {what} support is disabled, but found persistent volume claim {claim_name}{rest}"
                );
                let fix = format!(
                    "remove it, or set {feature}: \"enabled\" in the ConfigMap config-features"
                );
                out.say_all(Vec::new(), message, fix);
            }
        };
        off("claim", "kubernetes.podspec-persistent-volume-claim", "");
        if claim.get("readOnly") != Some(&Json::Bool(true)) {
            let feature = "kubernetes.podspec-persistent-volume-write";
            off("write", feature, " that is not read-only");
        }
    }
    let kinds = [
        ("image", "Image"),
        ("emptyDir", "EmptyDir"),
        ("hostPath", "HostPath"),
        ("csi", "CSI"),
        ("ephemeral", "Ephemeral"),
    ];
    for (source, title) in kinds {
        let feature = VOLUME_FEATURES.iter().find(|f| f.0 == source).map_or("", |f| f.1);
        if has(volume, source) && !features.is_enabled(feature) {
            let message =
                format!("{title} volume support is disabled, but found {title} volume {name}");
            let fix = format!(
                "remove it, or set {feature}: \"enabled\" in the ConfigMap config-features"
            );
            out.say_all(Vec::new(), message, fix);
        }
    }
}

fn check_sources(volume: &Json, features: &Features, at: &Path, out: &mut Findings) {
    for source in ["secret", "configMap"] {
        check_items(child(volume, source), at, out);
    }
    for (index, source) in list(child(volume, "projected"), "sources").iter().enumerate() {
        check_projection(source, &at.field("projected").index(index), out);
    }
    let empty = child(volume, "emptyDir");
    if !empty.is_null() {
        let medium = text(empty, "medium");
        if !matches!(medium, "" | "Memory") {
            let fix = "write Memory, or remove it";
            out.invalid(at.field("emptyDir").field("medium"), medium, fix);
        }
        if let Some(limit) = quantity(child(empty, "sizeLimit")).filter(|l| l.is_negative()) {
            let fix = "write an amount such as 64Mi";
            out.invalid(at.field("emptyDir").field("sizeLimit"), limit, fix);
        }
    }
    let image = child(volume, "image");
    if !image.is_null() {
        if text(image, "reference").is_empty() {
            let fix = "write reference: and the image";
            out.missing(at.field("image").field("reference"), fix);
        }
        let policy = text(image, "pullPolicy");
        if !matches!(policy, "" | "IfNotPresent" | "Always" | "Never") {
            let fix = "write IfNotPresent, Always or Never";
            out.invalid(at.field("image").field("pullPolicy"), policy, fix);
        }
    }
    let known = ["secret", "configMap", "projected"]
        .into_iter()
        .chain(VOLUME_FEATURES.iter().map(|(source, _)| *source));
    let given: Vec<&str> = known.filter(|source| has(volume, source)).collect();
    if given.is_empty() {
        let on = VOLUME_FEATURES.iter().filter(|(_, feature)| features.is_enabled(feature));
        let usable = ["secret", "configMap", "projected"].into_iter().chain(on.map(|(s, _)| *s));
        out.missing_one_of(usable.map(|source| at.field(source)).collect());
    } else if given.len() > 1 {
        out.multiple_one_of(given.into_iter().map(|source| at.field(source)).collect());
    }
}

/// A decoded quantity, which may be a number.
pub(super) fn quantity(json: &Json) -> Option<Quantity> {
    match json {
        Json::String(text) => Quantity::parse(text),
        Json::Number(number) => Quantity::parse(&number.to_string()),
        _ => None,
    }
}

fn check_items(source: &Json, at: &Path, out: &mut Findings) {
    for (index, item) in list(source, "items").iter().enumerate() {
        for field in ["key", "path"] {
            if text(item, field).is_empty() {
                let fix = format!("write {field}:");
                out.missing(at.field("items").index(index).field(field), fix);
            }
        }
    }
}

fn check_projection(source: &Json, at: &Path, out: &mut Findings) {
    let kinds = ["secret", "configMap", "serviceAccountToken", "downwardAPI"];
    let allowed = |name: &str| kinds.contains(&name);
    check_fields(source, "VolumeProjection", allowed, at, out);
    for kind in ["secret", "configMap"] {
        let projection = child(source, kind);
        if projection.is_null() {
            continue;
        }
        let at = at.field(kind);
        if text(projection, "name").is_empty() {
            out.missing(at.field("name"), format!("write name: and the {kind}'s name"));
        }
        check_items(projection, &at, out);
    }
    let token = child(source, "serviceAccountToken");
    if !token.is_null() && text(token, "path").is_empty() {
        out.missing(at.field("serviceAccountToken").field("path"), "write path:");
    }
    for (index, file) in list(child(source, "downwardAPI"), "items").iter().enumerate() {
        check_downward(file, &at.field("downwardAPI").field("items").index(index), out);
    }
    let given: Vec<&str> = kinds.into_iter().filter(|kind| has(source, kind)).collect();
    if given.is_empty() {
        out.missing_one_of(kinds.map(|kind| at.field(kind)).into());
    } else if given.len() > 1 {
        out.multiple_one_of(given.into_iter().map(|kind| at.field(kind)).collect());
    }
}

fn check_downward(file: &Json, at: &Path, out: &mut Findings) {
    let paths = || vec![at.field("fieldRef"), at.field("resourceFieldRef")];
    match (has(file, "fieldRef"), has(file, "resourceFieldRef")) {
        (false, false) => out.missing_one_of(paths()),
        (true, true) => {
            let message = "Within a single item, cannot set both";
            out.say_all(paths(), message, "keep one of fieldRef, resourceFieldRef");
        }
        _ => {}
    }
    if text(file, "path").is_empty() {
        out.missing(at.field("path"), "write path:");
    }
}

/// Checks a container's mounts.
pub(super) fn check_mounts(mounts: &[Json], pod: &Pod<'_>, at: &Path, out: &mut Findings) {
    let mut seen = HashSet::new();
    let propagation = "kubernetes.podspec-volumes-mount-propagation";
    for (index, mount) in mounts.iter().enumerate() {
        let at = at.index(index);
        let features = &pod.ctx.features;
        let allowed = |name: &str| match name {
            "name" | "readOnly" | "mountPath" | "subPath" => true,
            "mountPropagation" => features.is_allowed(propagation),
            _ => false,
        };
        check_fields(mount, "VolumeMount", allowed, &at, out);
        let name = text(mount, "name");
        let volume = pod.volume(name);
        if volume.is_none() {
            let known: Vec<&str> = pod.volumes.iter().map(|(name, _)| *name).collect();
            let fix = match crate::config::text::nearest(name, known) {
                Some(near) => format!("write {near}"),
                None => format!("write a volume with name: {name}"),
            };
            out.say(at.field("name"), "volumeMount has no matching volume", fix);
        }
        check_mount_path(text(mount, "mountPath"), &mut seen, &at.field("mountPath"), out);
        check_read_only(mount, volume.unwrap_or(&Json::Null), &at, out);
        if has(mount, "mountPropagation") {
            if !features.is_enabled(propagation) {
                let message = format!(
                    "Volume Mount Propagation support is disabled, but found volume mount {name} with mount propagation"
                );
                out.say_all(Vec::new(), message, "remove mountPropagation");
            }
            if !matches!(text(mount, "mountPropagation"), "None" | "HostToContainer") {
                let message = "mount propagation should be set to None or HostToContainer";
                out.say(at.field("mountPropagation"), message, "write None or HostToContainer");
            }
        }
    }
}

fn check_mount_path(path: &str, seen: &mut HashSet<String>, at: &Path, out: &mut Findings) {
    let clean = clean(path);
    if path.is_empty() {
        out.missing(at.clone(), "write mountPath: and an absolute path");
    } else if RESERVED_PATHS.contains(&clean.as_str()) {
        let message = format!("mountPath {} is a reserved path", quote(&clean));
        out.say(at.clone(), message, "write another path, such as /data");
    } else if !path.starts_with('/') {
        out.invalid(at.clone(), path, format!("write /{path}"));
    } else if seen.contains(&clean) {
        let value = format!("{} must be unique", quote(path));
        out.invalid(at.clone(), value, "write a path that no other mount has");
    }
    seen.insert(clean);
}

fn check_read_only(mount: &Json, volume: &Json, at: &Path, out: &mut Findings) {
    let read_only = mount.get("readOnly") == Some(&Json::Bool(true));
    let writable =
        ["emptyDir", "persistentVolumeClaim", "ephemeral"].iter().any(|kind| has(volume, kind));
    if !writable && !read_only {
        let message = "volume mount should be readOnly for this type of volume";
        out.say(at.field("readOnly"), message, "write readOnly: true");
    }
    let claim = child(volume, "persistentVolumeClaim");
    if claim.get("readOnly") == Some(&Json::Bool(true)) && !read_only {
        let message = "volume is readOnly but volume mount is not";
        out.say(at.field("readOnly"), message, "write readOnly: true");
    }
}

/// A path without empty and dot parts, as Go's `path.Clean` gives it.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.last().is_some_and(|last| *last != "..") {
                    parts.pop();
                } else if !rooted {
                    parts.push("..");
                }
            }
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn paths_are_cleaned() {
        let table = [
            ("/dev/", "/dev"),
            ("//a/./b/../c", "/a/c"),
            ("/..", "/"),
            ("a/..", "."),
            ("../a", "../a"),
            ("", "."),
            ("/", "/"),
        ];
        for (path, expected) in table {
            assert_eq!(clean(path), expected, "{path}");
        }
    }
}
