//! What is recorded of one request.

use std::borrow::Cow;
use std::net::IpAddr;

use super::context::{SpanId, TraceId};

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(Cow<'static, str>),
    /// A number.
    Number(i64),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<IpAddr> for Value {
    fn from(address: IpAddr) -> Self {
        Self::from(address.to_string())
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(i64::from(number))
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(i64::from(number))
    }
}

/// A name and a value.
pub type Attribute = (&'static str, Value);

/// Whom a span speaks of (OpenTelemetry's span kinds, those that there are here).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request that came in.
    Server,
    /// A request that went out.
    Client,
    /// A step on the way.
    Internal,
}

/// Something that happened within a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in nanoseconds since 1970.
    pub at: u64,
    /// What.
    pub name: &'static str,
}

/// One span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its identity.
    pub id: SpanId,
    /// The span that it is a part of; none for the first of a trace.
    pub parent: Option<SpanId>,
    /// Whether that is a span of another program.
    pub is_parent_remote: bool,
    /// What it is.
    pub name: Cow<'static, str>,
    /// Whom it speaks of.
    pub kind: Kind,
    /// Its beginning, in nanoseconds since 1970.
    pub start: u64,
    /// Its end, in nanoseconds since 1970.
    pub end: u64,
    /// What is to be known of it.
    pub attributes: Vec<Attribute>,
    /// What happened within it.
    pub events: Vec<Event>,
    /// Why it failed; none if it did not.
    pub error: Option<String>,
}

/// The spans of one request, which has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The trace they belong to.
    pub trace: TraceId,
    /// The known flags of its context.
    pub flags: u8,
    /// `tracestate`, as it came.
    pub state: String,
    /// The spans.
    pub spans: Vec<Span>,
}
