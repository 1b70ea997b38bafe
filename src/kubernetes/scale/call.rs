//! One write of a count, and what the API server says to it.

use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Request, StatusCode};
use kube::Client;
use kube::api::ApiResource;
use kube::core::{GroupVersionKind, Status};
use serde_json::{Value, json};

use crate::kubernetes::SCALER_MANAGER;
use crate::model::ObjectReference;

/// Pause where the API server is busy and does not say for how long.
const BUSY: Duration = Duration::from_secs(1);

/// How a count is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// By server-side apply: refused if somebody else has written it since, unless it is forced.
    Apply { is_forced: bool },
    /// Only if it still is zero.
    IfZero,
}

/// A count to write.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) namespace: Arc<str>,
    pub(super) scaled: ObjectReference,
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) form: Form,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Written,
    /// Somebody else has written it: who.
    Conflict(String),
    /// Only the scaler itself has written it since, but not by apply: it is to be forced.
    TakeOver,
    /// It was to be zero and is not.
    NotZero,
    /// There is nothing to scale.
    Gone,
    /// The API server is busy.
    Busy(Duration),
    /// Given up for something newer.
    Superseded,
    Failed(String),
}

impl Write {
    /// Whether it starts the first replica.
    pub(super) const fn is_wake(&self) -> bool {
        self.from == 0 && self.to > 0
    }

    fn request(&self) -> Result<Request<Vec<u8>>, http::Error> {
        let (group, version) = match self.scaled.api_version.split_once('/') {
            Some((group, version)) => (group, version),
            None => ("", &*self.scaled.api_version),
        };
        let kind = GroupVersionKind::gvk(group, version, &self.scaled.kind);
        let resource = ApiResource::from_gvk(&kind);
        let url = resource_url(&resource, &self.namespace, &self.scaled.name);
        let (content_type, force, body) = match self.form {
            Form::Apply { is_forced } => {
                ("application/apply-patch+yaml", is_forced, self.applied())
            }
            Form::IfZero => ("application/json-patch+json", false, self.if_zero()),
        };
        let force = if force { "&force=true" } else { "" };
        Request::patch(format!("{url}/scale?fieldManager={SCALER_MANAGER}{force}"))
            .header(CONTENT_TYPE, content_type)
            .body(body.to_string().into_bytes())
    }

    fn applied(&self) -> Value {
        json!({
            "apiVersion": "autoscaling/v1", "kind": "Scale",
            "metadata": {"name": *self.scaled.name, "namespace": *self.namespace},
            "spec": {"replicas": self.to},
        })
    }

    /// Zero is left out of a Scale, so that its `spec` is empty.
    fn if_zero(&self) -> Value {
        json!([
            {"op": "test", "path": "/spec", "value": {}},
            {"op": "add", "path": "/spec/replicas", "value": self.to},
        ])
    }

    /// Writes it.
    pub(super) async fn send(&self, client: &Client) -> Answer {
        let request = match self.request() {
            Ok(request) => request,
            Err(error) => return Answer::Failed(error.to_string()),
        };
        match client.request::<Value>(request).await {
            Ok(_scale) => Answer::Written,
            Err(kube::Error::Api(status)) => self.refused(&status),
            Err(error) => Answer::Failed(error.to_string()),
        }
    }

    fn refused(&self, status: &Status) -> Answer {
        let code = StatusCode::from_u16(status.code).unwrap_or_default();
        let details = status.details.as_ref();
        match code {
            StatusCode::CONFLICT => {
                let causes = details.map(|details| details.causes.as_slice()).unwrap_or_default();
                let managers: Vec<&str> =
                    causes.iter().filter_map(|cause| manager(&cause.message)).collect();
                match (managers.as_slice(), self.form) {
                    // Changed while it was being written: it is tried again.
                    ([], _) => Answer::Busy(Duration::from_millis(10)),
                    // Another replica of tidegate, that wrote it in another form.
                    (names, _) if names.iter().all(|name| *name == SCALER_MANAGER) => {
                        Answer::TakeOver
                    }
                    (names, _) => Answer::Conflict(names.join(", ")),
                }
            }
            StatusCode::UNPROCESSABLE_ENTITY if self.form == Form::IfZero => Answer::NotZero,
            StatusCode::NOT_FOUND => Answer::Gone,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                let seconds = details.map_or(0, |details| details.retry_after_seconds);
                let pause = Duration::from_secs(u64::from(seconds.min(30)));
                Answer::Busy(pause.max(BUSY))
            }
            _ => Answer::Failed(format!("{code}: {}", status.message)),
        }
    }
}

fn resource_url(resource: &ApiResource, namespace: &str, name: &str) -> String {
    let ApiResource { group, version, plural, .. } = resource;
    let root = if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    };
    format!("{root}/namespaces/{namespace}/{plural}/{name}")
}

/// The manager that a conflict names: `conflict with "kubectl" using apps/v1`.
fn manager(message: &str) -> Option<&str> {
    message.split_once('"')?.1.split_once('"').map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(form: Form) -> Write {
        Write {
            namespace: "n".into(),
            scaled: ObjectReference {
                api_version: "apps/v1".into(),
                kind: "Deployment".into(),
                name: "a-deployment".into(),
            },
            from: 0,
            to: 2,
            form,
        }
    }

    fn shown(form: Form) -> String {
        let request = write(form).request().unwrap();
        let content = request.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
        let body = String::from_utf8(request.body().clone()).unwrap();
        format!("{} {}\n{content}\n{body}", request.method(), request.uri())
    }

    #[test]
    fn requests() {
        expect_test::expect![[r#"
            PATCH /apis/apps/v1/namespaces/n/deployments/a-deployment/scale?fieldManager=tidegate-scaler&force=true
            application/apply-patch+yaml
            {"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{"name":"a-deployment","namespace":"n"},"spec":{"replicas":2}}"#]]
        .assert_eq(&shown(Form::Apply { is_forced: true }));
        expect_test::expect![[r#"
            PATCH /apis/apps/v1/namespaces/n/deployments/a-deployment/scale?fieldManager=tidegate-scaler
            application/json-patch+json
            [{"op":"test","path":"/spec","value":{}},{"op":"add","path":"/spec/replicas","value":2}]"#]]
        .assert_eq(&shown(Form::IfZero));
    }

    #[test]
    fn answers() {
        let refused = |form: Form, status: Value| {
            let status: Status = serde_json::from_value(status).unwrap();
            write(form).refused(&status)
        };
        let apply = Form::Apply { is_forced: false };
        let conflict = json!({"code": 409, "details": {"causes": [{
            "reason": "FieldManagerConflict", "field": ".spec.replicas",
            "message": "conflict with \"horizontal-pod-autoscaler\" using autoscaling/v1"}]}});
        let expected = Answer::Conflict("horizontal-pod-autoscaler".to_owned());
        assert_eq!(refused(apply, conflict), expected);
        let own = json!({"code": 409, "details": {"causes": [{
            "message": "conflict with \"tidegate-scaler\" using apps/v1"}]}});
        assert_eq!(refused(apply, own), Answer::TakeOver);
        assert!(matches!(refused(apply, json!({"code": 409})), Answer::Busy(_)));
        assert_eq!(refused(Form::IfZero, json!({"code": 422})), Answer::NotZero);
        assert!(matches!(refused(apply, json!({"code": 422})), Answer::Failed(_)));
        assert_eq!(refused(apply, json!({"code": 404})), Answer::Gone);
        let busy = json!({"code": 429, "details": {"retryAfterSeconds": 3}});
        assert_eq!(refused(apply, busy), Answer::Busy(Duration::from_secs(3)));
    }
}
