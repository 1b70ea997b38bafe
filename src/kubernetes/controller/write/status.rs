//! Statuses: each as seldom as it can be without anybody waiting for it.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{Writer, bounded, value_of};
use crate::kubernetes::CONTROLLER_MANAGER;
use crate::kubernetes::controller::object::{Parts as _, VERSION};
use crate::kubernetes::controller::work::{Failure, Next};
use crate::kubernetes::kinds::Kind;

/// Something that is on its way gets so long to arrive: what it says meanwhile is not written.
const SETTLES_WITHIN: Duration = Duration::from_secs(2);

/// How soon a status is written that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// At once: something is done on the strength of it.
    AtOnce,
    /// With what it says a while after it first differed.
    Settled,
}

impl Pace {
    /// At once where somebody may wait for it: whether the object is ready was decided anew.
    pub fn of(object: &Value, wanted: &Value) -> Self {
        let former = decision(object.get("status").unwrap_or(&Value::Null));
        let now = decision(wanted);
        if now.is_some() && now != former { Self::AtOnce } else { Self::Settled }
    }

    /// At once, if so.
    #[must_use]
    pub const fn at_once_if(self, is_urgent: bool) -> Self {
        if is_urgent { Self::AtOnce } else { self }
    }
}

/// Whether a status says that its object is ready or is not, and of which generation.
fn decision(status: &Value) -> Option<(&str, i64)> {
    let conditions = status.list("/conditions").iter();
    let mut ready = conditions.filter(|condition| condition.text("/type") == "Ready");
    let ready = ready.next()?.text("/status");
    let generation = status.int("/observedGeneration").unwrap_or_default();
    matches!(ready, "True" | "False").then_some((ready, generation))
}

impl Writer {
    /// Makes an object's status what is wanted, unless it is so; what it is based on is the object
    /// as it is known. Answers when to look again where it was not written yet. An object that is
    /// gone is fine.
    ///
    /// # Errors
    /// The API server refuses it, or cannot be reached; 409 or [`Failure::Behind`] where there is a
    /// newer version: what was found before may be in it.
    pub async fn status(
        &self,
        kind: Kind,
        object: &Value,
        wanted: &Value,
        pace: Pace,
    ) -> Result<Next, Failure> {
        let empty = json!({});
        let former = object.get("status").unwrap_or(&empty);
        let name = object.name();
        let key = (kind, name.clone());
        let Some(patch) = merge_patch(former, wanted) else {
            self.differing.lock().remove(&key);
            return Ok(Next::WhenTold);
        };
        if pace == Pace::Settled {
            let since = *self.differing.lock().entry(key.clone()).or_insert_with(Instant::now);
            let rest = SETTLES_WITHIN.saturating_sub(since.elapsed());
            if !rest.is_zero() {
                return Ok(Next::After(rest));
            }
        }
        let api = kind.in_namespace(&self.client, &name.namespace);
        let params = PatchParams {
            field_manager: Some(CONTROLLER_MANAGER.to_owned()),
            ..Default::default()
        };
        let base = self.base(kind, object)?;
        let patch = Patch::Merge(json!({ "metadata": {VERSION: base}, "status": patch }));
        let doing = || format!("patch the status of {} {name}", kind.kind());
        match bounded(doing, api.patch_status(&name.name, &params, &patch)).await {
            Ok(answer) => self.note_written(kind, &value_of(answer)),
            Err(failure) if failure.code() == Some(404) => {}
            Err(failure) => return Err(failure),
        }
        self.differing.lock().remove(&key);
        Ok(Next::WhenTold)
    }
}

/// The patch (RFC 7386) that makes one the other; none if they are the same.
fn merge_patch(from: &Value, to: &Value) -> Option<Value> {
    let (Value::Object(from), Value::Object(to)) = (from, to) else {
        return (from != to).then(|| to.clone());
    };
    let mut patch = Map::new();
    for (key, to) in to {
        let change = match from.get(key) {
            Some(from) => merge_patch(from, to),
            None => Some(to.clone()),
        };
        if let Some(change) = change {
            patch.insert(key.clone(), change);
        }
    }
    for key in from.keys().filter(|key| !to.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::Server;
    use super::*;

    fn object(status: &Value) -> Value {
        json!({
            "apiVersion": "serving.knative.dev/v1", "kind": "Route",
            "metadata": {"namespace": "ns", "name": "r"}, "status": status,
        })
    }

    fn ready(status: &str, generation: i64) -> Value {
        let conditions = json!([{"type": "Other", "status": "True"},
            {"type": "Ready", "status": status}]);
        json!({"observedGeneration": generation, "conditions": conditions})
    }

    #[test]
    fn a_patch_makes_one_the_other() {
        let from = json!({"a": 1, "b": {"c": [1, 2], "d": "x"}, "e": null, "gone": {"f": 1}});
        let to = json!({"a": 1, "b": {"c": [1], "d": "x"}, "e": null, "new": true});
        let expected = json!({"b": {"c": [1]}, "new": true, "gone": null});
        assert_eq!(merge_patch(&from, &to), Some(expected));
        assert_eq!(merge_patch(&from, &from), None);
    }

    #[test]
    fn what_is_decided_is_waited_for() {
        let pace = |former: &Value, wanted: &Value| Pace::of(&object(former), wanted);
        let nothing = json!({});
        for (former, wanted, expected) in [
            (&nothing, ready("Unknown", 1), Pace::Settled),
            (&nothing, ready("True", 1), Pace::AtOnce),
            (&nothing, ready("False", 1), Pace::AtOnce),
            (&ready("Unknown", 1), ready("True", 1), Pace::AtOnce),
            (&ready("True", 1), ready("False", 1), Pace::AtOnce),
            (&ready("True", 1), ready("Unknown", 2), Pace::Settled),
            (&ready("True", 1), ready("True", 2), Pace::AtOnce),
            (&ready("True", 1), ready("True", 1), Pace::Settled),
            (&nothing, json!({"a": 1}), Pace::Settled),
        ] {
            assert_eq!(pace(former, &wanted), expected, "{former} {wanted}");
        }
    }

    #[tokio::test]
    async fn a_status_is_patched_where_it_differs() {
        let (client, server) = Server::start(|_| (200, object(&json!({}))));
        let (writer, _events) = Writer::new(client);
        let object = object(&json!({"a": 1, "b": [1]}));
        for (wanted, expected) in [
            (json!({"a": 1, "b": [1]}), vec![]),
            (json!({"a": 2, "b": [1]}), vec![json!({"a": 2})]),
        ] {
            let next = writer.status(Kind::Route, &object, &wanted, Pace::AtOnce).await.unwrap();
            assert_eq!(next, Next::WhenTold);
            let patches = server.bodies().into_iter().map(|mut body| body["status"].take());
            assert_eq!(patches.collect::<Vec<_>>(), expected);
        }
    }

    /// What only passes by is not written; what does not pass is, no later for changing.
    #[tokio::test(start_paused = true)]
    async fn what_is_on_its_way_is_written_once_it_had_its_time() {
        let (client, server) = Server::start(|_| (200, object(&json!({}))));
        let (writer, _events) = Writer::new(client);
        let object = object(&json!({}));
        let write = async |wanted: Value, pace: Pace| {
            writer.status(Kind::Route, &object, &wanted, pace).await.unwrap()
        };
        assert_eq!(write(json!({"a": 1}), Pace::Settled).await, Next::After(SETTLES_WITHIN));
        tokio::time::advance(SETTLES_WITHIN * 3 / 4).await;
        assert_eq!(write(json!({"a": 2}), Pace::Settled).await, Next::After(SETTLES_WITHIN / 4));
        assert_eq!(server.calls(), [""; 0]);
        tokio::time::advance(SETTLES_WITHIN / 4).await;
        assert_eq!(write(json!({"a": 3}), Pace::Settled).await, Next::WhenTold);
        assert_eq!(server.bodies()[0]["status"], json!({"a": 3}));
        // The next difference has its own time; what is the same again has none.
        assert_eq!(write(json!({"a": 4}), Pace::Settled).await, Next::After(SETTLES_WITHIN));
        tokio::time::advance(SETTLES_WITHIN * 3 / 4).await;
        assert_eq!(write(json!({}), Pace::Settled).await, Next::WhenTold);
        assert_eq!(write(json!({"a": 5}), Pace::Settled).await, Next::After(SETTLES_WITHIN));
        assert_eq!(server.calls(), [""; 0]);
        assert_eq!(write(json!({"a": 6}), Pace::AtOnce).await, Next::WhenTold);
        assert_eq!(server.calls().len(), 1);
    }
}
