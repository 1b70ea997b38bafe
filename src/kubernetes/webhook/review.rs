//! One `AdmissionReview` (`admission.k8s.io/v1`): the question read, the answer written.

use std::sync::Arc;

use http::StatusCode;
use k8s_openapi::ByteString;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation};
use kube::core::response::Status;
use serde_json::Value as Json;

use super::trial::Trial;
use super::{CONFIG_VALIDATION, DEFAULTING, NeedsOf, VALIDATION, defaulting, validation};
use crate::config::AdmissionContext;
use crate::config::order::Needs;

/// A request that is no question: what to answer instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The status.
    pub status: StatusCode,
    /// Why.
    pub message: String,
}

impl Refused {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
}

/// What is asked about, the objects as they came: whatever a type does not know must stay.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) request: AdmissionRequest<DynamicObject>,
    /// The object as it would be; null where there is none.
    pub(super) object: Json,
    /// The object as it is; none for a creation.
    pub(super) stored: Option<Json>,
}

impl Question {
    fn read(body: &[u8]) -> Result<Self, serde_json::Error> {
        let mut review: Json = serde_json::from_slice(body)?;
        let mut take = |field: &str| {
            let value = review.pointer_mut(&format!("/request/{field}"));
            value.map_or(Json::Null, Json::take)
        };
        let (object, stored) = (take("object"), take("oldObject"));
        let review: AdmissionReview<DynamicObject> = serde_json::from_value(review)?;
        let request = review.try_into().map_err(<serde_json::Error as serde::de::Error>::custom)?;
        Ok(Self { request, object, stored: Some(stored).filter(|stored| !stored.is_null()) })
    }

    /// Whether there is anything to say: deletions, statuses and connections pass.
    fn is_asked(&self) -> bool {
        let is_write = matches!(self.request.operation, Operation::Create | Operation::Update);
        is_write && self.request.sub_resource.as_ref().is_none_or(String::is_empty)
    }

    /// What is to be tried: for a dry run, whose result says more then.
    fn trial(&self) -> Option<Trial> {
        let AdmissionRequest { dry_run, kind, namespace, .. } = &self.request;
        let trial = Trial::of(&kind.kind, namespace.as_deref(), &self.object);
        trial.filter(|_| *dry_run)
    }

    /// Who asks.
    pub(super) fn user(&self) -> &str {
        self.request.user_info.username.as_deref().unwrap_or_default()
    }
}

/// Knative's answer to what it does not admit: 400, reason `BadRequest`
/// (`knative.dev/pkg/webhook/admission.go`).
pub(super) fn denied(mut response: AdmissionResponse, message: &str) -> AdmissionResponse {
    response.allowed = false;
    response.result = Status::failure(message, "BadRequest").with_code(400);
    response
}

/// An answer before it is sent.
#[derive(Debug)]
pub struct Review {
    response: AdmissionResponse,
    trial: Option<Trial>,
}

impl Review {
    /// What the API server is to try before the answer holds.
    pub const fn trial(&self) -> Option<&Trial> {
        self.trial.as_ref()
    }

    /// The trial failed.
    #[must_use]
    pub fn failed(mut self, why: &str) -> Self {
        self.response = denied(self.response, &format!("validation callback failed: {why}"));
        self
    }

    /// The answer's body.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn into_body(mut self) -> Result<Vec<u8>, Refused> {
        let patch = self.response.patch.take();
        write(self.response, patch).map_err(|error| {
            Refused::new(StatusCode::INTERNAL_SERVER_ERROR, format!("no answer: {error}"))
        })
    }
}

/// What objects are judged against.
pub(super) struct Around<'a> {
    pub(super) context: &'a AdmissionContext,
    /// What services there are depend on.
    pub(super) needs: &'a NeedsOf,
}

/// Answers the body of a request to a path, against the settings alone.
///
/// # Errors
/// There is nothing at that path, or the body is no `AdmissionReview`.
pub fn answer(path: &str, body: &[u8], ctx: &AdmissionContext) -> Result<Vec<u8>, Refused> {
    let needs: NeedsOf = Arc::new(Needs::new);
    review(path, body, &Around { context: ctx, needs: &needs })?.into_body()
}

/// Judges the body of a request to a path.
///
/// # Errors
/// There is nothing at that path, or the body is no `AdmissionReview`.
pub(super) fn review(path: &str, body: &[u8], around: &Around<'_>) -> Result<Review, Refused> {
    let decide = match path {
        DEFAULTING => defaulting::decide,
        VALIDATION => validation::decide,
        CONFIG_VALIDATION => validation::decide_settings,
        _ => {
            let message = format!("there is {DEFAULTING}, {VALIDATION} and {CONFIG_VALIDATION}");
            return Err(Refused::new(StatusCode::NOT_FOUND, message));
        }
    };
    let question = Question::read(body).map_err(|error| {
        Refused::new(StatusCode::BAD_REQUEST, format!("no AdmissionReview: {error}"))
    })?;
    let allowed = AdmissionResponse::from(&question.request);
    let response = if question.is_asked() { decide(&question, around, allowed) } else { allowed };
    let is_tried = path == VALIDATION && response.allowed && question.is_asked();
    let trial = is_tried.then(|| question.trial()).flatten();
    Ok(Review { response, trial })
}

/// The patch as bytes are written in Kubernetes' JSON, where the library would write numbers.
fn write(
    response: AdmissionResponse,
    patch: Option<Vec<u8>>,
) -> Result<Vec<u8>, serde_json::Error> {
    let mut review = serde_json::to_value(response.into_review())?;
    if let Some(patch) = patch {
        review["response"]["patch"] = serde_json::to_value(ByteString(patch))?;
    }
    serde_json::to_vec(&review)
}
