//! Events that say what was scaled and why. They are written a little later than what they tell of:
//! the API server and the node are busy with the start itself then, and somebody waits for that.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http::header::CONTENT_TYPE;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::call::Write;
use crate::kubernetes::SCALER_MANAGER;
use crate::model::RevisionId;

/// Events waiting or on the way at once; further ones are left out.
const PENDING: usize = 256;
/// Pause before one is written. Its time is that of what it tells.
const REST: Duration = Duration::from_secs(1);
/// Longest note (`events.k8s.io`).
const NOTE_BYTES: usize = 1024;

/// Writes events beside everything else.
pub(super) struct Notes {
    client: Client,
    instance: String,
    pending: Arc<Semaphore>,
}

impl Notes {
    pub(super) fn new(client: Client) -> Self {
        let instance = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { client, instance, pending: Arc::new(Semaphore::new(PENDING)) }
    }

    /// A count was written.
    pub(super) fn scaled(&self, id: &RevisionId, write: &Write, why: Option<&str>) {
        let reason = if write.to > write.from { "ScaledUp" } else { "ScaledDown" };
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        let note = format!("replicas {} → {}{why}", write.from, write.to);
        self.write(id, event(id, &self.instance, ("Normal", reason), &note, write));
    }

    /// Somebody else goes on writing the count.
    pub(super) fn contested(&self, id: &RevisionId, write: &Write, managers: &str) {
        let note = format!(
            "{managers} writes the replicas of {} {} too: for five minutes tidegate only scales it \
             from 0; remove one of the two, or its `replicas`",
            write.scaled.kind, write.scaled.name
        );
        self.write(id, event(id, &self.instance, ("Warning", "ScaleConflict"), &note, write));
    }

    fn write(&self, id: &RevisionId, event: Value) {
        let Ok(permit) = Arc::clone(&self.pending).try_acquire_owned() else { return };
        let url = format!("/apis/events.k8s.io/v1/namespaces/{}/events", id.namespace);
        let request = Request::post(url).header(CONTENT_TYPE, "application/json");
        let Ok(request) = request.body(event.to_string().into_bytes()) else { return };
        let client = self.client.clone();
        drop(tokio::task::spawn_local(async move {
            let _permit = permit;
            tokio::time::sleep(REST).await;
            let sent = client.request::<Value>(request);
            match tokio::time::timeout(super::CALL_TIMEOUT, sent).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!(%error, "an event could not be written"),
                Err(_elapsed) => tracing::debug!("an event could not be written in time"),
            }
        }));
    }
}

fn event(
    id: &RevisionId,
    instance: &str,
    (kind, reason): (&str, &str),
    note: &str,
    write: &Write,
) -> Value {
    let now = Timestamp::now();
    let note = &note[..note.floor_char_boundary(NOTE_BYTES)];
    json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {
            "name": format!("{}.{:x}", id.name, now.as_nanosecond()), "namespace": *id.namespace,
        },
        "eventTime": format!("{now:.6}"),
        "reportingController": SCALER_MANAGER, "reportingInstance": instance,
        "type": kind, "reason": reason, "action": "Scale", "note": note,
        "regarding": {
            "apiVersion": "serving.knative.dev/v1", "kind": "Revision",
            "namespace": *id.namespace, "name": *id.name,
        },
        "related": {
            "apiVersion": *write.scaled.api_version, "kind": *write.scaled.kind,
            "namespace": *id.namespace, "name": *write.scaled.name,
        },
    })
}
