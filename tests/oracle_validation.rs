//! Every recorded admission of Knative, reproduced: the same verdict, the same messages at the
//! same paths, the same warnings.

#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "support/oracle.rs"]
mod oracle;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;
use tidegate::config::admission::validate_annotations;
use tidegate::config::settings::parse_config_autoscaler;
use tidegate::config::text::Quantity;
use tidegate::config::yaml::Node;
use tidegate::config::{AdmissionContext, ConfigProblem, admit};
use tidegate::kubernetes::webhook;

/// Problems with one message and its details, at their paths.
type Merged = BTreeMap<(String, String), BTreeSet<String>>;

/// What a row expects or what came of it.
#[derive(Debug, PartialEq)]
struct Outcome {
    valid: bool,
    /// The whole text, where the recording has one.
    error: Option<String>,
    errors: Merged,
    warnings: Merged,
    /// The object with everything filled in, where the recording has one.
    object: Option<Json>,
}

fn texts(json: &Json) -> BTreeMap<String, String> {
    let entries = json.as_object().into_iter().flatten();
    entries.map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned())).collect()
}

/// Details are compared but for printed differences, which every implementation prints its way.
fn details(message: &str, details: &str) -> String {
    if message.ends_with("(-old +new)") { String::new() } else { details.to_owned() }
}

fn recorded(list: &Json) -> Merged {
    let mut merged = Merged::new();
    for item in list.as_array().into_iter().flatten() {
        let text = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
        let details = details(&text("message"), &text("details"));
        let paths = item["paths"].as_array().into_iter().flatten();
        let paths = paths.map(|path| path.as_str().unwrap().to_owned());
        merged.entry((text("message"), details)).or_default().extend(paths);
    }
    merged
}

fn produced(problems: &[ConfigProblem]) -> Merged {
    let mut merged = Merged::new();
    for problem in problems {
        let details = details(&problem.message, problem.details.as_deref().unwrap_or_default());
        let paths = merged.entry((problem.message.clone(), details)).or_default();
        // No field name holds ", ".
        paths.extend(problem.path.split(", ").filter(|p| !p.is_empty()).map(str::to_owned));
    }
    merged
}

/// The text that the original makes of its errors.
fn whole(merged: &Merged) -> String {
    let line = |((message, details), paths): (&(String, String), &BTreeSet<String>)| {
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let details = if details.is_empty() { String::new() } else { format!("\n{details}") };
        format!("{message}: {}{details}", paths.join(", "))
    };
    merged.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// An object without what says nothing: nulls, zeros, empty texts, lists and mappings.
fn stripped(json: &Json) -> Option<Json> {
    match json {
        Json::Object(map) => {
            let map: serde_json::Map<String, Json> =
                map.iter().filter_map(|(k, v)| Some((k.clone(), field(k, v)?))).collect();
            (!map.is_empty()).then_some(Json::Object(map))
        }
        Json::Array(items) => {
            let items: Vec<Json> =
                items.iter().map(|item| stripped(item).unwrap_or(Json::Null)).collect();
            (!items.is_empty()).then_some(Json::Array(items))
        }
        Json::Null | Json::Bool(false) => None,
        Json::String(text) if text.is_empty() => None,
        Json::Number(number) if number.as_f64() == Some(0.0) => None,
        other => Some(other.clone()),
    }
}

/// A field without what says nothing. Amounts of resources are compared by value: the original
/// keeps some spellings and not others.
fn field(key: &str, json: &Json) -> Option<Json> {
    let (true, Json::Object(amounts)) = (matches!(key, "limits" | "requests"), json) else {
        return stripped(json);
    };
    let amount = |json: &Json| {
        let quantity = json.as_str().and_then(Quantity::parse);
        quantity.map_or_else(|| json.clone(), |quantity| quantity.to_string().into())
    };
    let amounts: serde_json::Map<String, Json> =
        amounts.iter().map(|(name, json)| (name.clone(), amount(json))).collect();
    (!amounts.is_empty()).then_some(Json::Object(amounts))
}

fn expected(row: &Json) -> Outcome {
    Outcome {
        valid: row["valid"].as_bool().unwrap(),
        error: row["error"].as_str().map(str::to_owned),
        errors: recorded(&row["errors"]),
        warnings: recorded(&row["warnings"]),
        object: row.get("defaulted").and_then(stripped),
    }
}

fn outcome(row: &Json, kind: &str) -> Result<Outcome, String> {
    let settings = parse_config_autoscaler(&texts(&row["configmap"]));
    if kind == "configmap" {
        let problems = settings.err().unwrap_or_default();
        // The original stops at its first problem.
        let error = problems.first().map(|problem| problem.message.clone());
        let (errors, warnings) = (Merged::new(), Merged::new());
        return Ok(Outcome { valid: problems.is_empty(), error, errors, warnings, object: None });
    }
    let autoscaler = settings.map_err(|problems| format!("settings: {problems:?}"))?;
    let (problems, warnings, object) = match kind {
        "annotations" => {
            let problems = validate_annotations(&texts(&row["annotations"]), &autoscaler);
            (problems, Vec::new(), None)
        }
        "service" | "route" | "service-update" => {
            let ctx = AdmissionContext { autoscaler, ..AdmissionContext::default() };
            let stored = row.get("old_object").map(Node::from_json);
            let admission = admit(&Node::from_json(&row["object"]), &ctx, stored.as_ref());
            let object = row.get("defaulted").and(stripped(&admission.object));
            (admission.problems, admission.warnings, object)
        }
        other => return Err(format!("the kind {other} is not known to this test")),
    };
    let errors = produced(&problems);
    Ok(Outcome {
        valid: problems.is_empty(),
        error: (!errors.is_empty()).then(|| whole(&errors)),
        errors,
        warnings: produced(&warnings),
        object,
    })
}

/// Differences between what a row says and what came of it.
fn differences(row: &Json) -> Option<String> {
    let kind = row["kind"].as_str().unwrap();
    let found = match outcome(row, kind) {
        Ok(found) => found,
        Err(message) => return Some(message),
    };
    let wanted = expected(row);
    if row.get("decode_error").is_some() {
        // The decoder's text is the original's own affair.
        return found.valid.then(|| "must be refused".to_owned());
    }
    (found != wanted).then(|| format!("wanted {wanted:#?}\nfound {found:#?}"))
}

/// The same row asked of the webhook: the verdict, and the text that `kubectl` prints.
fn through_the_webhook(row: &Json) -> Option<String> {
    let (object, stored) = (&row["object"], row.get("old_object"));
    let review = serde_json::json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "1",
            "kind": {"group": "serving.knative.dev", "version": "v1", "kind": object["kind"]},
            "resource": {"group": "serving.knative.dev", "version": "v1", "resource": "any"},
            "operation": if stored.is_some() { "UPDATE" } else { "CREATE" },
            "userInfo": {"username": "anna"}, "object": object, "oldObject": stored,
        },
    });
    let autoscaler = parse_config_autoscaler(&texts(&row["configmap"])).unwrap();
    let ctx = AdmissionContext { autoscaler, ..AdmissionContext::default() };
    let answer = webhook::answer(webhook::VALIDATION, review.to_string().as_bytes(), &ctx);
    let answer: Json = serde_json::from_slice(&answer.unwrap()).unwrap();
    let response = &answer["response"];
    let found = (response["allowed"].as_bool(), response["status"]["message"].as_str());
    let wanted = row["error"].as_str().map(|error| format!("validation failed: {error}"));
    if row.get("decode_error").is_some() {
        // The decoder's text is the original's own affair; of a field that is not known the API
        // server speaks itself.
        let is_unknown = |w: &Json| w.as_str().is_some_and(|w| w.contains("unknown field"));
        let warned = response["warnings"].as_array().is_some_and(|all| all.iter().any(is_unknown));
        return (found.0 == Some(true) && !warned).then(|| "must be refused".to_owned());
    }
    if wanted.as_ref().is_some_and(|text| text.contains("(-old +new)")) {
        return (found.0 != Some(false)).then(|| "must be refused".to_owned());
    }
    let wanted = (row["valid"].as_bool(), wanted.as_deref());
    (found != wanted).then(|| format!("wanted {wanted:?}\nfound {found:?}"))
}

#[test]
fn the_webhook_says_the_same() {
    let (mut count, mut failures) = (0, Vec::new());
    for file in oracle::files("validation") {
        for row in file.json["rows"].as_array().unwrap() {
            if !matches!(row["kind"].as_str().unwrap(), "service" | "route" | "service-update") {
                continue;
            }
            count += 1;
            if let Some(difference) = through_the_webhook(row) {
                let id = row["id"].as_str().unwrap_or("?");
                failures.push(format!("{} {id}: {difference}", file.path.display()));
            }
        }
    }
    println!("{count} cases");
    assert!(count >= 300, "only {count} cases");
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_recorded_admission_is_reproduced() {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut failures = Vec::new();
    for file in oracle::files("validation") {
        for row in file.json["rows"].as_array().unwrap() {
            *counts.entry(row["kind"].as_str().unwrap().to_owned()).or_default() += 1;
            if let Some(difference) = differences(row) {
                let id = row["id"].as_str().unwrap_or("?");
                failures.push(format!("{} {id}: {difference}", file.path.display()));
            }
        }
    }
    for (kind, count) in &counts {
        println!("{kind}: {count} cases");
    }
    println!("skipped kinds: none");
    assert!(counts.values().sum::<usize>() >= 537, "the recorded cases are missing");
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}
