//! Checking objects and settings, with Knative's words; what to write instead comes as warnings
//! beside them, which `kubectl` prints.

use std::collections::BTreeMap;

use kube::core::admission::AdmissionResponse;
use serde_json::Value as Json;

use super::review::{Around, Question, denied};
use crate::config::admission::is_same_spec;
use crate::config::problem::knative_text;
use crate::config::settings::{CONFIG_MAPS, unknown_setting, validate_settings};
use crate::config::world::{closes_circle, dependencies_of, own_problems};
use crate::config::yaml::Node;
use crate::config::{ConfigProblem, Kind, admit};
use crate::model::ObjectName;

/// Warnings that are sent; the API server cuts all of them at 4 KiB together.
const WARNINGS_MAX: usize = 16;
/// Longest warning in bytes; the API server cuts at 256 characters.
const WARNING_LENGTH: usize = 250;

const UNKNOWN_FIELD: &str = "unknown field ";

/// A ConfigMap's key with examples, and the annotation with their checksum.
const EXAMPLE: &str = "_example";
const EXAMPLE_CHECKSUM: &str = "knative.dev/example-checksum";

pub(super) fn decide(
    question: &Question,
    around: &Around<'_>,
    allowed: AdmissionResponse,
) -> AdmissionResponse {
    let node = Node::from_json(&question.object);
    let Some(kind) = Kind::of(&node) else { return allowed };
    if is_leaving(question, kind) {
        return allowed;
    }
    let stored = question.stored.as_ref().map(Node::from_json);
    let mut admission = admit(&node, around.context, stored.as_ref());
    admission.problems.extend(own(question, around, kind, (&node, stored.as_ref())));
    // Unknown fields are the API server's to refuse (`fieldValidation`): a newer CRD may have them.
    let (unknown, problems): (Vec<_>, Vec<_>) =
        admission.problems.into_iter().partition(|p| p.message.starts_with(UNKNOWN_FIELD));
    let fixes = problems.iter().filter_map(fix);
    let others = unknown.iter().chain(&admission.warnings).map(warning);
    let warned = with_warnings(allowed, fixes.chain(others));
    if problems.is_empty() {
        return warned;
    }
    denied(warned, &format!("validation failed: {}", knative_text(&problems)))
}

/// What is wrong with the settings `tidegate.dev/*`. What is stored already stays writable.
fn own(
    question: &Question,
    around: &Around<'_>,
    kind: Kind,
    (node, stored): (&Node, Option<&Node>),
) -> Vec<ConfigProblem> {
    let name = match kind {
        Kind::Service => "Service",
        Kind::Configuration => "Configuration",
        Kind::Revision => "Revision",
        Kind::Route => "Route",
        _ => return Vec::new(),
    };
    let mut problems = own_problems(name, node);
    let template = question.object.pointer("/spec/template").unwrap_or(&Json::Null);
    let id = ObjectName::new(
        question.request.namespace.as_deref().unwrap_or_default(),
        question.request.name.as_str(),
    );
    let depends_on = dependencies_of(template, &id.namespace);
    if !depends_on.is_empty() {
        problems.extend(closes_circle(&id, &depends_on, (around.needs)()));
    }
    let before = match (problems.as_slice(), stored) {
        ([], _) | (_, None) => Vec::new(),
        (_, Some(stored)) => own_problems(name, stored),
    };
    let is_new = |problem: &ConfigProblem| {
        before
            .iter()
            .all(|known| (&known.path, &known.message) != (&problem.path, &problem.message))
    };
    problems.retain(is_new);
    problems
}

/// An object that is being deleted and only loses its finalizers: it must be able to go, also if
/// it would not be admitted any more.
fn is_leaving(question: &Question, kind: Kind) -> bool {
    let is_deleted =
        question.object.pointer("/metadata/deletionTimestamp").is_some_and(Json::is_string);
    let is_same = |stored: &Json| is_same_spec(kind, stored, &question.object);
    is_deleted && question.stored.as_ref().is_some_and(is_same)
}

/// A ConfigMap: its settings if it has any.
pub(super) fn decide_settings(
    question: &Question,
    _: &Around<'_>,
    allowed: AdmissionResponse,
) -> AdmissionResponse {
    let text = |pointer: &str| question.object.pointer(pointer).and_then(Json::as_str);
    let name = text("/metadata/name").unwrap_or_default();
    if !CONFIG_MAPS.contains(&name) {
        return allowed;
    }
    let data = question.object.get("data").and_then(Json::as_object);
    let data: BTreeMap<String, String> = data
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect();
    let annotations = question.object.pointer("/metadata/annotations");
    let expected = annotations.and_then(|a| a.get(EXAMPLE_CHECKSUM)).and_then(Json::as_str);
    if let (Some(example), Some(expected)) = (data.get(EXAMPLE), expected)
        && checksum(example) != expected
    {
        let message = format!(
            "validation failed: the update modifies a key in {EXAMPLE:?} which is probably not what \
             you want. Instead, copy the respective setting to the top-level of the ConfigMap, \
             directly below \"data\""
        );
        return denied(allowed, &message);
    }
    let problems = validate_settings(name, &data);
    let unknown = data.keys().filter_map(|key| {
        let known = unknown_setting(name, key)?;
        Some(format!("data.{key}: unknown key, which is ignored; write {known}"))
    });
    let warned = with_warnings(allowed, problems.iter().filter_map(fix).chain(unknown));
    if problems.is_empty() {
        return warned;
    }
    let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
    denied(warned, &format!("validation failed: {}", messages.join("\n")))
}

/// What to write instead.
fn fix(problem: &ConfigProblem) -> Option<String> {
    let fix = problem.fix.as_ref()?;
    Some(if problem.path.is_empty() { fix.clone() } else { format!("{}: {fix}", problem.path) })
}

fn warning(problem: &ConfigProblem) -> String {
    let message = format!("{}: {}", problem.path, problem.message);
    problem.fix.as_ref().map_or(message.clone(), |fix| format!("{message}; {fix}"))
}

/// One line each: a control character would have the API server drop the warning.
fn with_warnings(
    mut response: AdmissionResponse,
    warnings: impl Iterator<Item = String>,
) -> AdmissionResponse {
    let cut = |mut line: String| {
        line.truncate(line.floor_char_boundary(WARNING_LENGTH));
        line.replace(char::is_control, " ")
    };
    let lines: Vec<String> = warnings.take(WARNINGS_MAX).map(cut).collect();
    response.warnings = (!lines.is_empty()).then_some(lines);
    response
}

/// Knative's checksum of the examples (`knative.dev/pkg/configmap/example.go`): spaces around them
/// and the number of line ends do not count.
pub(super) fn checksum(example: &str) -> String {
    let mut normal = String::with_capacity(example.len());
    let mut is_in_line_end = false;
    for part in example.trim().replace("\r\n", "\n").chars() {
        let is_line_end = part == '\n';
        if is_line_end && !is_in_line_end {
            // Two characters, as they stand in Knative's replacement.
            normal.push_str("\\n");
        } else if !is_line_end {
            normal.push(part);
        }
        is_in_line_end = is_line_end;
    }
    format!("{:08x}", crc32(normal.as_bytes()))
}

/// CRC-32 of IEEE 802.3, bit by bit: a few kilobytes, when somebody edits the settings.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            let mask = (crc & 1).wrapping_neg();
            (crc >> 1) ^ (0xEDB8_8320 & mask)
        })
    })
}
