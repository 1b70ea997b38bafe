//! Writes to the cluster. What is there already is not written again.

mod status;
mod wanted;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::hash::BuildHasher as _;
use std::time::Duration;

use foldhash::fast::FixedState;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::object::{Object, Parts, VERSION};
use super::work::Failure;
use crate::kubernetes::CONTROLLER_MANAGER;
use crate::kubernetes::kinds::Kind;
use crate::model::ObjectName;

/// A call takes no longer.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// A watch tells of a write sooner.
const BEHIND_MAX: Duration = Duration::from_secs(120);
/// Events that wait to be sent; more are dropped, for nothing depends on them.
const EVENTS_MAX: usize = 1000;

/// Writes objects, statuses and events.
pub struct Writer {
    client: Client,
    /// What was applied last of each object, and to what: it need not be applied again, though
    /// the API server shows it in another form.
    applied: Mutex<HashMap<(Kind, ObjectName), (u64, u64)>>,
    /// The version that each object had after the last write, and when that was.
    written: Mutex<HashMap<(Kind, ObjectName), (u64, Instant)>>,
    /// Since when statuses differ from what is to be written.
    differing: Mutex<HashMap<(Kind, ObjectName), Instant>>,
    events: mpsc::Sender<(Event, ObjectReference)>,
}

pub use status::Pace;
use wanted::{holds, without_empty_maps};

/// An event's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// For information.
    Normal,
    /// Something is wrong.
    Warning,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    /// A writer, and what sends its events.
    pub fn new(client: Client) -> (Self, impl Future<Output = ()>) {
        let (events, mut waiting) = mpsc::channel::<(Event, ObjectReference)>(EVENTS_MAX);
        let reporter = Reporter { controller: CONTROLLER_MANAGER.to_owned(), instance: None };
        let recorder = Recorder::new(client.clone(), reporter);
        let send = async move {
            while let Some((event, object)) = waiting.recv().await {
                let sent = tokio::time::timeout(CALL_TIMEOUT, recorder.publish(&event, &object));
                if let Ok(Err(error)) = sent.await {
                    tracing::debug!(%error, reason = event.reason, "an event was not taken");
                }
            }
        };
        let writer = Self {
            client,
            applied: Mutex::default(),
            written: Mutex::default(),
            differing: Mutex::default(),
            events,
        };
        (writer, send)
    }

    /// Applies an object unless it is there as wanted; fields of other managers stay. `live` is
    /// the object as it is known. Returns it as it is now.
    ///
    /// # Errors
    /// The API server refuses it, or cannot be reached.
    pub async fn apply(
        &self,
        kind: Kind,
        wanted: &Value,
        live: Option<&Value>,
    ) -> Result<Value, Failure> {
        let name = wanted.name();
        let wanted = &*without_empty_maps(wanted);
        let wanted_hash = hash(wanted);
        if let Some(live) = live {
            let known = self.applied.lock().get(&(kind, name.clone())).copied();
            if known == Some((wanted_hash, hash(live))) || holds(kind, wanted, live) {
                return Ok(live.clone());
            }
        }
        let params = PatchParams::apply(CONTROLLER_MANAGER).force();
        let api = kind.in_namespace(&self.client, &name.namespace);
        let doing = || format!("apply {} {name}", kind.kind());
        let patch = Patch::Apply(wanted);
        let answer = bounded(doing, api.patch(&name.name, &params, &patch)).await?;
        let answer = value_of(answer);
        self.note_written(kind, &answer);
        self.applied.lock().insert((kind, name), (wanted_hash, hash(&answer)));
        Ok(answer)
    }

    /// Makes an object that is not there yet.
    ///
    /// # Errors
    /// As [`Self::apply`]; 409 where there is one of that name.
    pub async fn create(&self, kind: Kind, wanted: &Value) -> Result<Value, Failure> {
        let name = wanted.name();
        let doing = || format!("create {} {name}", kind.kind());
        let object: DynamicObject = serde_json::from_value(wanted.clone())
            .map_err(|error| Failure::Other(format!("{}: {error}", doing())))?;
        let params =
            PostParams { field_manager: Some(CONTROLLER_MANAGER.to_owned()), dry_run: false };
        let api = kind.in_namespace(&self.client, &name.namespace);
        bounded(doing, api.create(&params, &object)).await.map(value_of)
    }

    /// Applies a part of an object as somebody else, without taking fields from anybody.
    ///
    /// # Errors
    /// As [`Self::apply`]; 409 where a field is somebody's with another value.
    pub async fn apply_as(&self, manager: &str, kind: Kind, wanted: &Value) -> Result<(), Failure> {
        let name = wanted.name();
        let api = kind.in_namespace(&self.client, &name.namespace);
        let params = PatchParams::apply(manager);
        let doing = || format!("apply a part of {} {name}", kind.kind());
        let answer = bounded(doing, api.patch(&name.name, &params, &Patch::Apply(wanted))).await?;
        self.note_written(kind, &value_of(answer));
        Ok(())
    }

    /// An object as it is right now: to be asked for only where a mirror may be behind.
    ///
    /// # Errors
    /// The API server refuses, or cannot be reached.
    pub async fn read(&self, kind: Kind, name: &ObjectName) -> Result<Option<Value>, Failure> {
        Ok(self.read_whole(kind, name).await?.map(|object| object.value()))
    }

    /// The same, with who manages it.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn read_whole(
        &self,
        kind: Kind,
        name: &ObjectName,
    ) -> Result<Option<Object>, Failure> {
        let api = kind.in_namespace(&self.client, &name.namespace);
        let doing = || format!("get {} {name}", kind.kind());
        let found: Option<DynamicObject> = bounded(doing, api.get_opt(&name.name)).await?;
        Ok(found.and_then(|object| Object::keep(&object, |_| ())))
    }

    /// Merges a patch into an object's metadata (RFC 7386), if the object still is as it is known.
    /// Answers its version then.
    ///
    /// # Errors
    /// The API server refuses it, or cannot be reached; 409 or [`Failure::Behind`] where there is a
    /// newer version.
    pub async fn merge(
        &self,
        kind: Kind,
        object: &Value,
        mut metadata: Value,
    ) -> Result<Value, Failure> {
        let name = object.name();
        metadata[VERSION] = self.base(kind, object)?;
        let params = PatchParams::default();
        let api = kind.in_namespace(&self.client, &name.namespace);
        let doing = || format!("patch {} {name}", kind.kind());
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        let answer = value_of(bounded(doing, api.patch(&name.name, &params, &patch)).await?);
        self.note_written(kind, &answer);
        Ok(answer["metadata"][VERSION].clone())
    }

    /// Whether what is known of an object is older than what was written to it last.
    pub fn is_behind(&self, kind: Kind, object: &Value) -> bool {
        let last = self.written.lock().get(&(kind, object.name())).copied();
        // Not for good: where the API server's store was put back to a former state, versions are.
        let last = last.filter(|(_, at)| at.elapsed() < BEHIND_MAX);
        version(object).zip(last).is_some_and(|(known, (last, _))| known < last)
    }

    /// The version that a write is based on.
    fn base(&self, kind: Kind, object: &Value) -> Result<Value, Failure> {
        if self.is_behind(kind, object) {
            return Err(Failure::Behind(format!("{} {}", kind.kind(), object.name())));
        }
        Ok(object.pointer("/metadata/resourceVersion").cloned().unwrap_or_default())
    }

    fn note_written(&self, kind: Kind, answer: &Value) {
        if let Some(version) = version(answer) {
            self.written.lock().insert((kind, answer.name()), (version, Instant::now()));
        }
    }

    /// Deletes an object, this very one. One that is gone is fine.
    ///
    /// # Errors
    /// The API server refuses, or cannot be reached.
    pub async fn delete(&self, kind: Kind, object: &Object) -> Result<(), Failure> {
        let name = &object.name;
        let preconditions =
            Preconditions { uid: Some(object.uid.to_string()), resource_version: None };
        let params = DeleteParams::background().preconditions(preconditions);
        let api = kind.in_namespace(&self.client, &name.namespace);
        let doing = || format!("delete {} {name}", kind.kind());
        gone_is_fine(bounded(doing, api.delete(&name.name, &params)).await.map(drop))
    }

    /// Forgets what was applied to an object that is gone.
    pub fn forget(&self, kind: Kind, name: &ObjectName) {
        self.applied.lock().remove(&(kind, name.clone()));
        self.written.lock().remove(&(kind, name.clone()));
        self.differing.lock().remove(&(kind, name.clone()));
    }

    /// Notes an event about an object. Never waits.
    pub fn event(&self, about: &Value, weight: Weight, reason: &str, message: String) {
        let text = |pointer: &str| Some(about.text(pointer).to_owned());
        let reference = ObjectReference {
            api_version: text("/apiVersion"),
            kind: text("/kind"),
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name"),
            uid: text("/metadata/uid"),
            ..ObjectReference::default()
        };
        let type_ = match weight {
            Weight::Normal => EventType::Normal,
            Weight::Warning => EventType::Warning,
        };
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(message),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let _ = self.events.try_send((event, reference));
    }
}

/// An object as the API server sent it, without what is not kept of one.
fn value_of(object: DynamicObject) -> Value {
    Object::keep(&object, |_| ()).map(|object| object.value()).unwrap_or_default()
}

/// A call with an end.
///
/// # Errors
/// The API server refuses it, or does not answer in time.
pub(in crate::kubernetes) async fn bounded<T>(
    doing: impl Fn() -> String,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => {
            answer.map_err(|error| Failure::Api { doing: doing(), source: Box::new(error) })
        }
        Err(_) => Err(Failure::Timeout(doing())),
    }
}

/// An object's version as a number: those of a kind count up (Kubernetes' KEP 5504).
fn version(object: &Value) -> Option<u64> {
    object.text("/metadata/resourceVersion").parse().ok()
}

fn gone_is_fine(result: Result<(), Failure>) -> Result<(), Failure> {
    match result {
        // 409 for a deletion: the name is another object's by now.
        Err(failure) if matches!(failure.code(), Some(404 | 409)) => Ok(()),
        other => other,
    }
}

/// Identity of what an apply is about: not the status, nor the count, which is another's.
fn hash(object: &Value) -> u64 {
    let mut spec = object.get("spec").cloned().unwrap_or_default();
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("replicas");
    }
    let metadata = ["labels", "annotations", "ownerReferences"]
        .map(|key| object.get("metadata").and_then(|metadata| metadata.get(key)));
    FixedState::default().hash_one(json!([metadata, spec]).to_string())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Server, deployment};
    use super::*;

    fn kept(value: &Value) -> Object {
        Object::keep(&serde_json::from_value(value.clone()).unwrap(), |_| ()).unwrap()
    }

    #[tokio::test]
    async fn what_is_there_is_not_written_again() {
        // The API server shows it in another form, and counts and states what it likes.
        let answer = deployment(|live| {
            live["spec"]["template"]["spec"]["containers"][0]["image"] = json!("docker.io/i");
        });
        let (client, server) = Server::start({
            let answer = answer.clone();
            move |_| (200, answer.clone())
        });
        let (writer, _events) = Writer::new(client);
        let wanted = deployment(|_| ());
        writer.apply(Kind::Deployment, &wanted, None).await.unwrap();
        let path = "/apis/apps/v1/namespaces/ns/deployments/d?&force=true&fieldManager=";
        assert_eq!(server.calls(), [format!("PATCH {path}{CONTROLLER_MANAGER}")]);
        let mut live = answer;
        live["status"] = json!({"replicas": 1});
        live["spec"]["replicas"] = json!(1);
        writer.apply(Kind::Deployment, &wanted, Some(&live)).await.unwrap();
        assert_eq!(server.calls(), [""; 0]);
        live["spec"]["template"]["spec"]["containers"][0]["image"] = json!("other");
        writer.apply(Kind::Deployment, &wanted, Some(&live)).await.unwrap();
        assert_eq!(server.calls().len(), 1, "somebody changed it");
    }

    /// Of what was found once, such as that a revision had its first replicas, nothing is taken
    /// back because the watch is late.
    #[tokio::test]
    async fn nothing_is_written_on_the_strength_of_an_older_version() {
        let of = |version: &str| {
            deployment(|object| {
                object["metadata"]["resourceVersion"] = json!(version);
                object["status"] = json!({"a": 1});
            })
        };
        let (client, server) = Server::start(move |_| (200, of("7")));
        let (writer, _events) = Writer::new(client);
        let kind = Kind::Deployment;
        writer.status(kind, &of("5"), &json!({"a": 2}), Pace::AtOnce).await.unwrap();
        let expected = json!({"metadata": {"resourceVersion": "5"}, "status": {"a": 2}});
        assert_eq!(server.bodies(), [expected]);
        for object in [of("5"), of("6")] {
            let failure =
                writer.status(kind, &object, &json!({"a": 3}), Pace::AtOnce).await.unwrap_err();
            assert!(failure.is_ordinary(), "{failure}");
            assert!(writer.merge(kind, &object, json!({})).await.unwrap_err().is_ordinary());
        }
        assert_eq!(server.calls(), [""; 0]);
        writer.status(kind, &of("7"), &json!({"a": 3}), Pace::AtOnce).await.unwrap();
        assert_eq!(server.calls().len(), 1);
    }

    #[tokio::test]
    async fn a_refusal_says_what_was_refused() {
        let refusal = json!({"kind": "Status", "message": "no such thing", "code": 422});
        let (client, server) = Server::start(move |_| (422, refusal.clone()));
        let (writer, _events) = Writer::new(client);
        let failure = writer.apply(Kind::Deployment, &deployment(|_| ()), None).await.unwrap_err();
        assert!(failure.to_string().starts_with("apply Deployment ns/d: "), "{failure}");
        assert_eq!((failure.code(), &*failure.words()), (Some(422), "no such thing"));
        let (client, _server) =
            Server::start(|_| (404, json!({"kind": "Status", "message": "gone", "code": 404})));
        drop(server);
        let (writer, _events) = Writer::new(client);
        let object = deployment(|_| ());
        writer.status(Kind::Deployment, &object, &json!({"a": 2}), Pace::AtOnce).await.unwrap();
        writer.delete(Kind::Deployment, &kept(&object)).await.unwrap();
    }
}
