//! Adopted Services among the revisions that the source follows.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde_json::json;

use super::facts::PodFacts;
use super::{Heard, State};
use crate::config::world::cluster::{Counted, REQUEST_SEEN};
use crate::kubernetes::SCALER_MANAGER;
use crate::kubernetes::adoption::{Adoption, Served, apply_status};
use crate::kubernetes::observed::{Count, Hold, Observed};
use crate::model::{ObjectName, RevisionId, ServiceId};

impl State {
    /// Whether Knative's kinds are tidegate's to serve and to scale.
    pub(super) fn set_alone(&mut self, is_alone: bool) {
        self.objects.set_alone(is_alone);
    }

    /// A Service that is adopted, is no more, or has something else behind it.
    pub(super) fn adopted(&mut self, name: &ServiceId) {
        self.to_note.insert(name.clone());
        if !self.adoption.is_adopted(name) {
            return self.objects.set_adopted(name, None);
        }
        // Until all is known it stays as it is.
        let Some(judged) = self.adoption.judge(name) else { return };
        let Ok(adopted) = judged else { return self.objects.set_adopted(name, None) };
        self.objects.set_adopted(name, Some(adopted.object));
        if !self.objects.is_adopted(name) {
            return;
        }
        let facts = &adopted.workload.facts;
        self.observed.set_hold(
            name,
            match adopted.counted {
                Counted::Free => Hold::Free,
                Counted::AtLeast(_) => Hold::NotLower,
                Counted::Fixed(_) => Hold::Off,
            },
        );
        let count = Count {
            replicas: Some(facts.replicas),
            uid: Arc::clone(&facts.uid),
            is_ours: facts.is_ours,
        };
        self.observed.reported(name, count);
        let tracked = self.tracked.entry(name.clone()).or_default();
        tracked.deployment_problem.clone_from(&facts.problem);
        self.due.insert(name.clone());
    }

    /// Something of Knative's that has this name came, went or changed: it goes before what is
    /// adopted.
    pub(super) fn name_changed(&mut self, name: &ObjectName) {
        if self.adoption.is_adopted(name) {
            self.adopted(name);
        }
    }

    /// Says of adopted Services where they are served.
    pub(super) fn note_served(&mut self) {
        for name in std::mem::take(&mut self.to_note) {
            let served = match self.objects.host(&name) {
                Some(host) if self.objects.is_adopted(&name) => Some(Served::At(host)),
                _ if self.objects.is_adopted(&name) => Some(Served::HostsTaken),
                _ if self.objects.has_adopted(&name) => Some(Served::Knative),
                _ => None,
            };
            self.adoption.note_served(&name, served);
        }
    }

    /// Whether one waits for its first request.
    pub(super) fn is_listening(&self) -> bool {
        self.adoption.has_unseen()
    }

    /// Looks which of them got one, and notes it where a restart does not lose it.
    pub(super) fn listen(&self, client: &Client, heard: &Heard) {
        let unseen = self.adoption.unseen().into_iter();
        for name in unseen.filter(|name| self.objects.is_adopted(name) && heard(name)) {
            self.adoption.note_seen(&name);
            let client = client.clone();
            drop(tokio::task::spawn_local(async move {
                let status = seen(Timestamp::now());
                if let Err(error) = apply_status(&client, &name, SCALER_MANAGER, &status).await {
                    // Tried again as long as it is not there.
                    tracing::debug!(%error, service = %name, "the first request is not noted");
                }
            }));
        }
    }
}

fn seen(now: Timestamp) -> serde_json::Value {
    json!({"conditions": [{
        "type": REQUEST_SEEN, "status": "True", "reason": "RequestSeen",
        "message": "a request came through tidegate", "lastTransitionTime": format!("{now:.0}"),
    }]})
}

/// The pods of what is adopted; none of what is no more.
pub(super) fn pods(
    adoption: &Adoption,
    observed: &Observed,
    id: &RevisionId,
    is_listed: bool,
) -> Vec<Arc<PodFacts>> {
    let pods = if is_listed { adoption.pods(id) } else { Vec::new() };
    let names = pods.iter().map(|(name, pod)| (pod.facts.id.clone(), Arc::clone(&name.name)));
    observed.set_pods(id, names.collect(), false);
    pods.into_iter().map(|(_, pod)| Arc::clone(&pod.facts)).collect()
}
