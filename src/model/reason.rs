//! The stable tokens by which tidegate names why it answered a request itself.

use std::fmt;

/// Why tidegate answered instead of a replica. The token is the same in the response body, the
/// access log and the metrics label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// No service has this host.
    NoRoute,
    /// The request is malformed or ambiguous.
    BadRequest,
    /// HTTP without TLS came to a listener that speaks TLS.
    PlainHttp,
    /// The host is for https only, and the request came without TLS.
    HttpsRedirect,
    /// The request's head is larger than 64 KiB.
    HeadTooLarge,
    /// The request's target alone leaves no room for the rest of its head.
    TargetTooLong,
    /// The request's head did not arrive in time.
    HeadTimeout,
    /// The bound of waiting requests is reached.
    QueueFull,
    /// The request waited longer than `tidegate.dev/queue-timeout`.
    QueueTimeout,
    /// `tidegate.dev/no-wake` keeps this request from starting a replica.
    Asleep,
    /// A browser is shown a page while a replica starts (`tidegate.dev/waiting-page`).
    WaitingPage,
    /// Traffic names a revision that does not exist.
    RevisionMissing,
    /// The manifest has only an image and nothing says which program that is here.
    NoLocalCommand,
    /// A ConfigMap or Secret that the revision needs is missing.
    MissingConfig,
    /// The replica's program could not be started, ended at once or never became ready.
    StartFailed,
    /// The service was removed while the request waited.
    ServiceRemoved,
    /// `timeoutSeconds` has passed.
    RequestTimeout,
    /// `responseStartTimeoutSeconds` has passed without a response.
    ResponseStartTimeout,
    /// `idleTimeoutSeconds` has passed without a byte in either direction.
    IdleTimeout,
    /// The client's `grpc-timeout` has passed.
    GrpcTimeout,
    /// No connection to the replica could be made.
    UpstreamConnect,
    /// The replica broke the connection or sent an invalid response.
    UpstreamBroke,
    /// tidegate is going down and the request could not be finished.
    ShuttingDown,
}

impl Reason {
    /// Every reason, in the order of declaration.
    pub const ALL: [Self; 23] = [
        Self::NoRoute,
        Self::BadRequest,
        Self::PlainHttp,
        Self::HttpsRedirect,
        Self::HeadTooLarge,
        Self::TargetTooLong,
        Self::HeadTimeout,
        Self::QueueFull,
        Self::QueueTimeout,
        Self::Asleep,
        Self::WaitingPage,
        Self::RevisionMissing,
        Self::NoLocalCommand,
        Self::MissingConfig,
        Self::StartFailed,
        Self::ServiceRemoved,
        Self::RequestTimeout,
        Self::ResponseStartTimeout,
        Self::IdleTimeout,
        Self::GrpcTimeout,
        Self::UpstreamConnect,
        Self::UpstreamBroke,
        Self::ShuttingDown,
    ];

    /// The token, `snake_case`.
    pub const fn token(self) -> &'static str {
        match self {
            Self::NoRoute => "no_route",
            Self::BadRequest => "bad_request",
            Self::PlainHttp => "plain_http",
            Self::HttpsRedirect => "https_redirect",
            Self::HeadTooLarge => "head_too_large",
            Self::TargetTooLong => "target_too_long",
            Self::HeadTimeout => "head_timeout",
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::Asleep => "asleep",
            Self::WaitingPage => "waiting_page",
            Self::RevisionMissing => "revision_missing",
            Self::NoLocalCommand => "no_local_command",
            Self::MissingConfig => "missing_config",
            Self::StartFailed => "start_failed",
            Self::ServiceRemoved => "service_removed",
            Self::RequestTimeout => "request_timeout",
            Self::ResponseStartTimeout => "response_start_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::GrpcTimeout => "grpc_timeout",
            Self::UpstreamConnect => "upstream_connect",
            Self::UpstreamBroke => "upstream_broke",
            Self::ShuttingDown => "shutting_down",
        }
    }

    /// The HTTP status that goes with it.
    pub const fn status(self) -> u16 {
        match self {
            Self::NoRoute | Self::ServiceRemoved => 404,
            Self::HttpsRedirect => 301,
            Self::BadRequest | Self::PlainHttp => 400,
            Self::HeadTooLarge => 431,
            Self::TargetTooLong => 414,
            Self::HeadTimeout => 408,
            Self::QueueFull
            | Self::Asleep
            | Self::WaitingPage
            | Self::RevisionMissing
            | Self::NoLocalCommand
            | Self::MissingConfig
            | Self::StartFailed
            | Self::ShuttingDown => 503,
            Self::QueueTimeout
            | Self::RequestTimeout
            | Self::ResponseStartTimeout
            | Self::IdleTimeout
            | Self::GrpcTimeout => 504,
            Self::UpstreamConnect | Self::UpstreamBroke => 502,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

/// Why requests for something are refused, in words a person can act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The token.
    pub reason: Reason,
    /// What happened and what to do, one or more lines; never holds a Secret's value.
    pub message: std::sync::Arc<str>,
}

impl Problem {
    /// A problem from its parts.
    pub fn new(reason: Reason, message: impl Into<std::sync::Arc<str>>) -> Self {
        Self { reason, message: message.into() }
    }
}
