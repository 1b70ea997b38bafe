//! Answers of our own: a status, a short body with the stable token, and what to do. gRPC clients
//! get a gRPC status instead (a trailers-only response).

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use http::{Method, Response, StatusCode};

use crate::model::{Problem, Reason};

use super::body::ResponseBody;
use super::grpc;

static X_REASON: HeaderName = HeaderName::from_static("tidegate-reason");

/// The response for a problem.
pub(super) fn response(
    problem: &Problem,
    grpc: bool,
    retry_after_seconds: Option<u64>,
) -> Response<ResponseBody> {
    let mut response = if grpc { grpc_response(problem) } else { plain_response(problem) };
    let headers = response.headers_mut();
    headers.insert(X_REASON.clone(), HeaderValue::from_static(problem.reason.token()));
    if let Some(seconds) = retry_after_seconds {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn plain_response(problem: &Problem) -> Response<ResponseBody> {
    let text = format!("{}: {}\n", problem.reason, problem.message);
    let mut response = Response::new(ResponseBody::text(text));
    *response.status_mut() =
        StatusCode::from_u16(problem.reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn grpc_response(problem: &Problem) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(grpc::STATUS, grpc::Status::from(problem.reason).value());
    let message = grpc::percent_encoded(&format!("{}: {}", problem.reason, problem.message));
    if let Ok(message) = HeaderValue::from_maybe_shared(Bytes::from(message)) {
        headers.insert(grpc::MESSAGE, message);
    }
    response
}

/// The answer to a request that is to come by https: 301 as Knative has it; 308 where a client may
/// not turn the method into GET (RFC 9110 §15.4.2, §15.4.9).
pub(super) fn redirect(method: &Method, location: &str, grpc: bool) -> Response<ResponseBody> {
    let problem = Problem::new(Reason::HttpsRedirect, format!("this host is at {location}"));
    let mut response = response(&problem, grpc, None);
    if !grpc && let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    if !grpc && !matches!(*method, Method::GET | Method::HEAD) {
        *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_clients_are_told_in_their_terms() {
        let problem = Problem::new(Reason::QueueFull, "full\nnow");
        let response = response(&problem, true, Some(3));
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["grpc-message"], "queue_full: full%0Anow");
        assert_eq!(response.headers()["retry-after"], "3");
    }
}
