//! Has the API server try what would be made of a template: for a dry run (`kubectl --dry-run=server`)
//! of a Service or Configuration, as Knative does (`pkg/webhook/podspec_dryrun.go`).
//!
//! Knative tries a pod. Here it is the Deployment, whose template the API server checks by the same
//! rules: nothing needs the right to make pods for it.

use std::time::Duration;

use kube::Client;
use kube::api::{DynamicObject, PostParams};
use serde_json::Value as Json;
use tokio::time::timeout;

use crate::kubernetes::CONTROLLER_MANAGER;
use crate::kubernetes::controller::sample_deployment;
use crate::kubernetes::kinds::Kind;

/// Less than the API server waits for the webhook.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// A Configuration with this label is its Service's, which was tried already.
const SERVICE_LABEL: &str = "/metadata/labels/serving.knative.dev~1service";

/// A template to try, in a namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    namespace: String,
    template: Json,
}

impl Trial {
    /// What an object would have made, if it is one that has something made.
    pub(super) fn of(kind: &str, namespace: Option<&str>, object: &Json) -> Option<Self> {
        let is_tried = match kind {
            "Service" => true,
            "Configuration" => object.pointer(SERVICE_LABEL).is_none(),
            _ => false,
        };
        let template = object.pointer("/spec/template").filter(|template| template.is_object())?;
        let namespace = namespace.unwrap_or_default().to_owned();
        is_tried.then(|| Self { namespace, template: template.clone() })
    }

    /// Tries it.
    ///
    /// # Errors
    /// Why it would not be made.
    pub(super) async fn run(&self, client: &Client) -> Result<(), String> {
        let api = Kind::Deployment.in_namespace(client, &self.namespace);
        let sample = sample_deployment(&self.namespace, &self.template);
        let sample: DynamicObject = serde_json::from_value(sample)
            .map_err(|error| format!("dry run failed with {error}: spec.template"))?;
        let params =
            PostParams { dry_run: true, field_manager: Some(CONTROLLER_MANAGER.to_owned()) };
        match timeout(CALL_TIMEOUT, api.create(&params, &sample)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(kube::Error::Api(status))) => refused(&status.message),
            Ok(Err(error)) => refused(&error.to_string()),
            Err(_elapsed) => refused("no answer of the API server in time"),
        }
    }
}

/// Another webhook that cannot be asked without effect says nothing about the template.
fn refused(message: &str) -> Result<(), String> {
    if message.contains("does not support dry run") {
        tracing::warn!(message, "a template could not be tried");
        return Ok(());
    }
    Err(format!("dry run failed with {message}: spec.template"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_tried() {
        let object = |label: Option<&str>| {
            let mut object = json!({"metadata": {}, "spec": {"template": {"spec": {}}}});
            if let Some(label) = label {
                object["metadata"]["labels"] = json!({"serving.knative.dev/service": label});
            }
            object
        };
        let is_tried = |kind: &str, object: &Json| Trial::of(kind, Some("ns"), object).is_some();
        assert!(is_tried("Service", &object(None)));
        assert!(is_tried("Configuration", &object(None)));
        assert!(!is_tried("Configuration", &object(Some("hello"))), "with its Service");
        assert!(!is_tried("Route", &object(None)));
        assert!(!is_tried("Service", &json!({"spec": {}})), "its own check says so");
    }

    #[test]
    fn what_cannot_be_tried_is_admitted() {
        assert_eq!(refused("webhook \"x\" does not support dry run"), Ok(()));
        assert_eq!(
            refused("Deployment.apps \"x\" is invalid").unwrap_err(),
            "dry run failed with Deployment.apps \"x\" is invalid: spec.template"
        );
    }
}
