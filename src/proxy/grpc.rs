//! gRPC as far as a proxy has to know it: which messages are of calls, and how these end
//! (gRPC's `PROTOCOL-HTTP2.md` and `statuscodes.md`).

use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};

use crate::model::{Reason, is_grpc};

pub(super) const STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(super) const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Whether headers are of a call or its response.
pub(super) fn is_call(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| is_grpc(value.as_bytes()))
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    Cancelled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}

/// Every status with its name, by its code.
const ALL: [(Status, &str); 17] = [
    (Status::Ok, "OK"),
    (Status::Cancelled, "CANCELLED"),
    (Status::Unknown, "UNKNOWN"),
    (Status::InvalidArgument, "INVALID_ARGUMENT"),
    (Status::DeadlineExceeded, "DEADLINE_EXCEEDED"),
    (Status::NotFound, "NOT_FOUND"),
    (Status::AlreadyExists, "ALREADY_EXISTS"),
    (Status::PermissionDenied, "PERMISSION_DENIED"),
    (Status::ResourceExhausted, "RESOURCE_EXHAUSTED"),
    (Status::FailedPrecondition, "FAILED_PRECONDITION"),
    (Status::Aborted, "ABORTED"),
    (Status::OutOfRange, "OUT_OF_RANGE"),
    (Status::Unimplemented, "UNIMPLEMENTED"),
    (Status::Internal, "INTERNAL"),
    (Status::Unavailable, "UNAVAILABLE"),
    (Status::DataLoss, "DATA_LOSS"),
    (Status::Unauthenticated, "UNAUTHENTICATED"),
];

impl Status {
    /// What trailers say. Without a code that is one, clients take it for unknown.
    pub(super) fn of(trailers: &HeaderMap) -> Self {
        let text = trailers.get(&STATUS).and_then(|value| value.to_str().ok());
        let code = text.and_then(|text| text.parse::<usize>().ok());
        code.and_then(|code| ALL.get(code)).map_or(Self::Unknown, |(status, _)| *status)
    }

    pub(super) const fn code(self) -> u16 {
        self as u16
    }

    pub(super) fn name(self) -> &'static str {
        ALL[usize::from(self.code())].1
    }

    /// Whether the server is to blame, as OpenTelemetry has it (semantic conventions for gRPC,
    /// "gRPC status", server spans).
    pub(super) fn is_failure(self) -> bool {
        matches!(
            self,
            Self::Unknown
                | Self::DeadlineExceeded
                | Self::Unimplemented
                | Self::Internal
                | Self::Unavailable
                | Self::DataLoss
        )
    }

    /// As a header has it.
    pub(super) fn value(self) -> HeaderValue {
        HeaderValue::from(self.code())
    }
}

impl From<Reason> for Status {
    /// What a call ends with that tidegate answers itself.
    fn from(reason: Reason) -> Self {
        match reason {
            // What the client asked for is there, but not so.
            Reason::HttpsRedirect => Self::FailedPrecondition,
            Reason::NoRoute | Reason::ServiceRemoved => Self::Unimplemented,
            Reason::BadRequest
            | Reason::PlainHttp
            | Reason::HeadTooLarge
            | Reason::TargetTooLong
            | Reason::HeadTimeout => Self::Internal,
            Reason::QueueTimeout
            | Reason::RequestTimeout
            | Reason::ResponseStartTimeout
            | Reason::IdleTimeout
            | Reason::GrpcTimeout => Self::DeadlineExceeded,
            Reason::QueueFull
            | Reason::Asleep
            | Reason::WaitingPage
            | Reason::RevisionMissing
            | Reason::NoLocalCommand
            | Reason::MissingConfig
            | Reason::StartFailed
            | Reason::UpstreamConnect
            | Reason::UpstreamBroke
            | Reason::ShuttingDown => Self::Unavailable,
        }
    }
}

/// A `grpc-message`: printable ASCII but `%` stands for itself.
pub(super) fn percent_encoded(text: &str) -> String {
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
    fn statuses_are_read_and_judged() {
        let table = [
            (Some("0"), "OK", false),
            (Some("5"), "NOT_FOUND", false),
            (Some("8"), "RESOURCE_EXHAUSTED", false),
            (Some("13"), "INTERNAL", true),
            (Some("14"), "UNAVAILABLE", true),
            (Some("16"), "UNAUTHENTICATED", false),
            (Some("17"), "UNKNOWN", true),
            (Some("one"), "UNKNOWN", true),
            (None, "UNKNOWN", true),
        ];
        for (text, name, fails) in table {
            let mut trailers = HeaderMap::new();
            trailers.extend(text.map(|text| (STATUS, HeaderValue::from_static(text))));
            let status = Status::of(&trailers);
            assert_eq!((status.name(), status.is_failure()), (name, fails), "{text:?}");
        }
    }

    #[test]
    fn messages_are_encoded() {
        assert_eq!(percent_encoded("a b\n100 % ü"), "a b%0A100 %25 %C3%BC");
    }
}
