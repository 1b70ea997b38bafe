//! Filling in: what admission adds to an object, and who made and changed it, as a JSON patch
//! (RFC 6902).

use json_patch::{Patch, PatchOperation};
use kube::core::admission::AdmissionResponse;
use serde_json::{Map, Value as Json};

use super::review::{Around, Question, denied};
use crate::config::admission::is_same_spec;
use crate::config::yaml::Node;
use crate::config::{AdmissionContext, Kind, admit};

const CREATOR: &str = "serving.knative.dev/creator";
const MODIFIER: &str = "serving.knative.dev/lastModifier";

pub(super) fn decide(
    question: &Question,
    around: &Around<'_>,
    allowed: AdmissionResponse,
) -> AdmissionResponse {
    let patch = patch(question, around.context);
    if patch.0.is_empty() {
        return allowed;
    }
    let fallback = allowed.clone();
    allowed
        .with_patch(patch)
        .unwrap_or_else(|error| denied(fallback, &format!("mutation failed: {error}")))
}

/// The fewest operations. Nothing is removed: what could not be read is for the validation to
/// refuse, and what is not known here is kept.
fn patch(question: &Question, ctx: &AdmissionContext) -> Patch {
    let node = Node::from_json(&question.object);
    let Some(kind) = Kind::of(&node) else { return Patch::default() };
    let stored = question.stored.as_ref().map(Node::from_json);
    let mut wanted = admit(&node, ctx, stored.as_ref()).object;
    sign(&mut wanted, kind, question);
    let mut patch = json_patch::diff(&part(&question.object), &part(&wanted));
    patch.0.retain(|operation| !matches!(operation, PatchOperation::Remove(_)));
    patch
}

/// What is ever filled in.
fn part(object: &Json) -> Json {
    let mut part = Map::new();
    if let Some(metadata) = object.get("metadata").and_then(Json::as_object) {
        let annotations =
            metadata.get("annotations").map(|a| ("annotations".to_owned(), a.clone()));
        part.insert("metadata".to_owned(), Json::Object(annotations.into_iter().collect()));
    }
    if let Some(spec) = object.get("spec") {
        part.insert("spec".to_owned(), spec.clone());
    }
    Json::Object(part)
}

/// Who made it and who changed it last (Knative's `SetUserInfo`); those that another object owns
/// have theirs from there.
fn sign(object: &mut Json, kind: Kind, question: &Question) {
    let is_owned =
        object.pointer("/metadata/ownerReferences").is_some_and(|owners| !owners.is_null());
    let is_signed = match kind {
        Kind::Service | Kind::DomainMapping => true,
        Kind::Configuration | Kind::Route => !is_owned,
        _ => false,
    };
    if !is_signed {
        return;
    }
    let keys: &[&str] = match &question.stored {
        Some(stored) if is_same_spec(kind, stored, object) => return,
        Some(_) => &[MODIFIER],
        None => &[CREATOR, MODIFIER],
    };
    let annotations = &mut object["metadata"]["annotations"];
    if !annotations.is_object() {
        *annotations = Json::Object(Map::new());
    }
    for key in keys {
        annotations[*key] = question.user().into();
    }
}
