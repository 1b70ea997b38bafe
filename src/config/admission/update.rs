//! What may not change when an object is replaced.

use serde_json::{Map, Value as Json};

use super::findings::{Finding, Findings, Path};
use super::mask::is_set;
use super::metadata::annotations;
use super::schema::{self, Type};
use super::view::{child, text};
use super::volumes::quantity;

/// How alike two values must be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Likeness {
    /// Nothing given and an empty list are the same.
    Meaning,
    /// They are not.
    Exact,
}

/// A value in the one form that all equal values have.
fn canonical(value: &Json, ty: &Type, likeness: Likeness) -> Option<Json> {
    match (ty, value) {
        (_, Json::Null) => None,
        (Type::Optional(inner), _) => match canonical(value, inner, likeness) {
            Some(json) => Some(json),
            // Given, though zero.
            None if value.is_object() => Some(Json::Object(Map::new())),
            None => Some(value.clone()),
        },
        (Type::Object(name), Json::Object(map)) => {
            let object = schema::object(name);
            let fields: Map<String, Json> = map
                .iter()
                .filter_map(|(key, value)| {
                    let field = object.field(key)?;
                    Some((key.clone(), canonical(value, &field.ty, likeness)?))
                })
                .collect();
            (!fields.is_empty()).then_some(Json::Object(fields))
        }
        (Type::List(inner), Json::Array(items)) => {
            let items: Vec<Json> = items
                .iter()
                .map(|item| canonical(item, inner, likeness).unwrap_or(Json::Null))
                .collect();
            (likeness == Likeness::Exact || !items.is_empty()).then_some(Json::Array(items))
        }
        (Type::Map(inner), Json::Object(map)) => {
            let map: Map<String, Json> = map
                .iter()
                .map(|(key, value)| {
                    (key.clone(), canonical(value, inner, likeness).unwrap_or(Json::Null))
                })
                .collect();
            (likeness == Likeness::Exact || !map.is_empty()).then_some(Json::Object(map))
        }
        (Type::Quantity, _) => {
            Some(quantity(value).map_or_else(|| value.clone(), |q| q.to_string().into()))
        }
        _ => is_set(value, ty).then(|| value.clone()),
    }
}

fn same(a: &Json, b: &Json, kind: &str, likeness: Likeness) -> bool {
    let ty = Type::Object(kind.to_owned());
    canonical(a, &ty, likeness) == canonical(b, &ty, likeness)
}

/// Fields, outermost first, in which two values differ.
fn differences(old: &Json, new: &Json, ty: &Type, at: &Path, found: &mut Vec<String>) {
    let likeness = Likeness::Exact;
    if canonical(old, ty, likeness) == canonical(new, ty, likeness) {
        return;
    }
    match ty {
        Type::Optional(inner) => differences(old, new, inner, at, found),
        Type::Object(name) if old.is_object() && new.is_object() => {
            for field in &schema::object(name).fields {
                let (old, new) = (child(old, &field.name), child(new, &field.name));
                differences(old, new, &field.ty, &at.field(&field.name), found);
            }
        }
        Type::List(inner) => match (old.as_array(), new.as_array()) {
            (Some(old), Some(new)) if old.len() == new.len() => {
                for (index, (old, new)) in old.iter().zip(new).enumerate() {
                    differences(old, new, inner, &at.index(index), found);
                }
            }
            _ => found.push(at.as_str().to_owned()),
        },
        _ => found.push(at.as_str().to_owned()),
    }
}

/// Whether the specs of two objects of a kind say the same.
pub fn is_same_spec(kind: super::Kind, old: &Json, new: &Json) -> bool {
    let spec = format!("{}Spec", kind.schema());
    same(child(old, "spec"), child(new, "spec"), &spec, Likeness::Meaning)
}

/// Creator and last modifier: the first may not change, the second only with the spec.
pub(super) fn check_authors(old: &Json, new: &Json, spec_kind: &str, out: &mut Findings) {
    let (before, after) = (annotations(old), annotations(new));
    let at = Path::root().field("metadata").field("annotations");
    let value = |annotations: &super::annotations::Annotations, key: &str| {
        annotations.get(key).cloned().unwrap_or_default()
    };
    let creator = "serving.knative.dev/creator";
    if value(&before, creator) != value(&after, creator) {
        let fix = match before.get(creator) {
            Some(old) => format!("write {old}"),
            None => "remove it".to_owned(),
        };
        out.say(at.field(creator), "annotation value is immutable", fix);
    }
    let modifier = "serving.knative.dev/lastModifier";
    let (old_value, new_value) = (value(&before, modifier), value(&after, modifier));
    if old_value != new_value
        && same(child(old, "spec"), child(new, "spec"), spec_kind, Likeness::Meaning)
    {
        out.invalid(at.field(modifier), new_value, format!("write {old_value}"));
    }
}

/// A template with a name may change only with its name.
pub(super) fn check_template_name(old: &Json, new: &Json, at: &Path, out: &mut Findings) {
    let name = |template: &Json| text(child(template, "metadata"), "name").to_owned();
    if name(new).is_empty() || name(new) != name(old) {
        return;
    }
    let kind = "RevisionTemplateSpec";
    if same(old, new, kind, Likeness::Exact) {
        return;
    }
    let mut changed = Vec::new();
    differences(old, new, &Type::Object(kind.to_owned()), at, &mut changed);
    out.push(Finding {
        message: "Saw the following changes without a name change (-old +new)".to_owned(),
        paths: vec![at.field("metadata").field("name")],
        details: changed.join(", "),
        fix: "write another name, or remove it".to_owned(),
        ..Finding::default()
    });
}

/// A revision's spec never changes.
pub(super) fn check_revision(old: &Json, new: &Json, out: &mut Findings) {
    let (before, after) = (child(old, "spec"), child(new, "spec"));
    if same(before, after, "RevisionSpec", Likeness::Exact) {
        return;
    }
    let at = Path::root().field("spec");
    let mut changed = Vec::new();
    differences(before, after, &Type::Object("RevisionSpec".to_owned()), &at, &mut changed);
    out.push(Finding {
        message: "Immutable fields changed (-old +new)".to_owned(),
        paths: vec![at],
        details: changed.join(", "),
        fix: "write a revision with another name".to_owned(),
        ..Finding::default()
    });
}

/// Whether a new template keeps the name that somebody gave to the old one. Knative fills in
/// nothing then, as that would change it.
pub(super) fn keeps_name(old: &Json, new: &Json) -> bool {
    let name = |object: &Json| {
        text(child(child(child(object, "spec"), "template"), "metadata"), "name").to_owned()
    };
    !name(new).is_empty() && name(new) == name(old)
}
