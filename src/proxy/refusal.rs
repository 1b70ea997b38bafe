//! Answers of our own: a status, a short body with the stable token, and what to do. gRPC clients
//! get a gRPC status instead (a trailers-only response).

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use http::{HeaderMap, Method, Response, StatusCode};

use crate::model::{Problem, Reason};

use super::body::ResponseBody;

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
static X_REASON: HeaderName = HeaderName::from_static("tidegate-reason");

/// Whether a request speaks gRPC.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

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
    headers.insert(GRPC_STATUS.clone(), HeaderValue::from_static(grpc_code(problem.reason)));
    let message = percent_encoded(&format!("{}: {}", problem.reason, problem.message));
    if let Ok(message) = HeaderValue::from_maybe_shared(Bytes::from(message)) {
        headers.insert(GRPC_MESSAGE.clone(), message);
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

/// The gRPC code of a reason (gRPC's `statuscodes.md`).
fn grpc_code(reason: Reason) -> &'static str {
    match reason {
        // What the client asked for is there, but not so.
        Reason::HttpsRedirect => "9",
        Reason::NoRoute | Reason::ServiceRemoved => "12",
        Reason::BadRequest
        | Reason::PlainHttp
        | Reason::HeadTooLarge
        | Reason::TargetTooLong
        | Reason::HeadTimeout => "13",
        Reason::QueueTimeout
        | Reason::RequestTimeout
        | Reason::ResponseStartTimeout
        | Reason::IdleTimeout
        | Reason::GrpcTimeout => "4",
        Reason::QueueFull
        | Reason::Asleep
        | Reason::WaitingPage
        | Reason::RevisionMissing
        | Reason::NoLocalCommand
        | Reason::MissingConfig
        | Reason::StartFailed
        | Reason::UpstreamConnect
        | Reason::UpstreamBroke
        | Reason::ShuttingDown => "14",
    }
}

/// `grpc-message` (gRPC's `PROTOCOL-HTTP2.md`): printable ASCII but `%` stands for itself.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_messages_are_encoded() {
        assert_eq!(percent_encoded("a b\n100 % ü"), "a b%0A100 %25 %C3%BC");
        let problem = Problem::new(Reason::QueueFull, "full\nnow");
        let response = response(&problem, true, Some(3));
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["grpc-message"], "queue_full: full%0Anow");
        assert_eq!(response.headers()["retry-after"], "3");
    }
}
