//! Reading a request that can be carried directly, and writing it as it goes to a replica.
//!
//! Only what has one meaning beyond doubt is taken: HTTP/1.1, one well-formed Host, a path as
//! target, a body by `Content-Length` or none, no wish about the connection but to keep or to
//! close it. All else is [`Parsed::Other`], for hyper and the edge to judge.

use std::borrow::Cow;
use std::mem::MaybeUninit;
use std::ops::Range;

use httparse::{Header, ParserConfig, Status};

use crate::model::is_grpc;
use crate::proxy::forwarded::{Client, is_usable_id, new_id};
use crate::proxy::framing::request_length;
use crate::proxy::trace::Told;
use crate::snapshot::{HostKind, normalize};
use crate::traces::{HEADER_BYTES, SPAN_AT};

use super::buffers::SMALL_BYTES;

/// Headers that a request may have here.
pub(super) const HEADERS_MAX: usize = 64;

/// Room for the headers of one request.
pub(super) type Room<'b> = [MaybeUninit<Header<'b>>; HEADERS_MAX];

/// What the bytes at hand are.
#[derive(Debug)]
pub(super) enum Parsed<'h, 'b> {
    /// The beginning of a head.
    Partial,
    /// Not for the direct path.
    Other,
    /// A head.
    Plain(Head<'h, 'b>),
}

/// A request's head.
#[derive(Debug)]
pub(super) struct Head<'h, 'b> {
    pub(super) method: &'b str,
    pub(super) target: &'b str,
    /// Host as the client wrote it, and as routes know it.
    pub(super) authority: &'b str,
    pub(super) host: Cow<'b, str>,
    pub(super) host_kind: HostKind,
    /// Bytes of the head.
    pub(super) bytes: usize,
    /// Bytes of the body.
    pub(super) length: usize,
    /// Whether the client asked for the connection to be closed.
    pub(super) close: bool,
    headers: &'h [Header<'b>],
    kinds: [Kind; HEADERS_MAX],
    has_id: bool,
    /// Whether the client says anything of those before it.
    has_forwarded: bool,
}

/// What a header is to the direct path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Passed on.
    Kept,
    Host,
    Length,
    /// `Connection`.
    Connection,
    /// Between the client and us.
    Dropped,
    /// What a client says of those before it: `Forwarded`, `X-Forwarded-…`.
    Forwarded,
    RequestId,
    /// `traceparent`.
    TraceParent,
    /// `tracestate`.
    TraceState,
    /// Asks for more than the direct path does.
    Other,
}

fn kind(name: &[u8]) -> Kind {
    let is = |text: &[u8]| name.eq_ignore_ascii_case(text);
    match (name.len(), name[0] | 0x20) {
        // What only we may say to a replica, and a tag.
        (_, b'k') if name[1..].starts_with(b"-") => Kind::Other,
        (10, b'k') if is(b"keep-alive") => Kind::Dropped,
        (9.., b'k') if name[..8].eq_ignore_ascii_case(b"knative-") => Kind::Other,
        (2, b't') if is(b"te") => Kind::Other,
        (4, b'h') if is(b"host") => Kind::Host,
        (6, b'e') if is(b"expect") => Kind::Other,
        (7, b'u') if is(b"upgrade") => Kind::Other,
        (9, b'f') if is(b"forwarded") => Kind::Forwarded,
        (10, b'c') if is(b"connection") => Kind::Connection,
        (10, b't') if is(b"tracestate") => Kind::TraceState,
        (11, b't') if is(b"traceparent") => Kind::TraceParent,
        (12, b'x') if is(b"x-request-id") => Kind::RequestId,
        (12, b'g') if is(b"grpc-timeout") => Kind::Other,
        (14, b'c') if is(b"content-length") => Kind::Length,
        (14, b'h') if is(b"http2-settings") => Kind::Other,
        (15, b'x') if is(b"x-forwarded-for") => Kind::Forwarded,
        (16, b'x') if is(b"x-forwarded-host") => Kind::Forwarded,
        (16, b'p') if is(b"proxy-connection") => Kind::Dropped,
        (17, b'x') if is(b"x-forwarded-proto") => Kind::Forwarded,
        (17, b't') if is(b"transfer-encoding") => Kind::Other,
        _ => Kind::Kept,
    }
}

/// Methods that are carried directly.
fn is_plain_method(method: &str) -> bool {
    matches!(method, "GET" | "POST" | "PUT" | "HEAD" | "DELETE" | "PATCH" | "OPTIONS")
}

/// Whether a target is a path whose bytes nobody reads differently (RFC 3986 §3.3, §3.4).
fn is_plain_target(target: &str) -> bool {
    target.starts_with('/')
        && target.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:@?".contains(&b))
}

/// Whether a connection's first line is of no version of HTTP: neither the target nor the version
/// of a request line is one (RFC 9112 §3). Its peer may have meant HTTP/2, whose answer to a wrong
/// preface is the end of the connection (RFC 9113 §3.4); to what looks like HTTP/1 it is a 400.
pub(super) fn is_foreign(input: &[u8]) -> bool {
    let Some(end) = input.windows(2).position(|two| two == b"\r\n") else { return false };
    let mut words = input[..end].split(|byte| *byte == b' ').skip(1);
    let (Some(target), Some(version), None) = (words.next(), words.next(), words.next()) else {
        return false;
    };
    !target.contains(&b'/')
        && !target.contains(&b':')
        && target != b"*"
        && !version.to_ascii_uppercase().starts_with(b"HTTP")
}

/// Reads a head, if there is one.
pub(super) fn parse<'h, 'b>(input: &'b [u8], room: &'h mut Room<'b>) -> Parsed<'h, 'b> {
    let mut request = httparse::Request::new(&mut []);
    let parsed =
        ParserConfig::default().parse_request_with_uninit_headers(&mut request, input, room);
    let bytes = match parsed {
        Ok(Status::Complete(bytes)) => bytes,
        Ok(Status::Partial) => return Parsed::Partial,
        Err(_refused) => return Parsed::Other,
    };
    let (Some(method), Some(target), Some(1)) = (request.method, request.path, request.version)
    else {
        return Parsed::Other;
    };
    if !is_plain_method(method) || !is_plain_target(target) {
        return Parsed::Other;
    }
    match scan(request.headers, method, target, bytes) {
        Some(head) => Parsed::Plain(head),
        None => Parsed::Other,
    }
}

fn scan<'h, 'b>(
    headers: &'h [Header<'b>],
    method: &'b str,
    target: &'b str,
    bytes: usize,
) -> Option<Head<'h, 'b>> {
    let mut kinds = [Kind::Kept; HEADERS_MAX];
    let (mut authority, mut length) = (None, None);
    let (mut close, mut has_id, mut has_forwarded) = (false, false, false);
    for (header, at) in headers.iter().zip(&mut kinds) {
        let kind = kind(header.name.as_bytes());
        *at = kind;
        match kind {
            Kind::Kept | Kind::Dropped | Kind::TraceParent | Kind::TraceState => {}
            Kind::Forwarded => has_forwarded = true,
            Kind::Host => {
                let text = std::str::from_utf8(header.value).ok()?;
                if authority.replace(text).is_some() {
                    return None;
                }
            }
            Kind::Length => {
                if length.replace(small_length(header.value)?).is_some() {
                    return None;
                }
            }
            Kind::Connection if header.value.eq_ignore_ascii_case(b"keep-alive") => {}
            Kind::Connection if header.value.eq_ignore_ascii_case(b"close") => close = true,
            // One that cannot be kept is left out, and another is made.
            Kind::RequestId if is_usable_id(header.value) && !has_id => has_id = true,
            Kind::RequestId => *at = Kind::Dropped,
            Kind::Connection | Kind::Other => return None,
        }
        if kind == Kind::Kept && header.name.len() == 12 && is_grpc(header.value) {
            return None;
        }
    }
    let authority = authority?;
    let (host, host_kind) = normalize(authority)?;
    let length = length.unwrap_or(0);
    Some(Head {
        method,
        target,
        authority,
        host,
        host_kind,
        bytes,
        length,
        close,
        headers,
        kinds,
        has_id,
        has_forwarded,
    })
}

/// The length of a body. One that no buffer holds is as good as none: such a body is not carried
/// directly.
fn small_length(value: &[u8]) -> Option<usize> {
    usize::try_from(request_length(value)?).ok().filter(|length| *length <= SMALL_BYTES)
}

impl<'b> Head<'_, 'b> {
    /// The first header of this name.
    pub(super) fn header(&self, name: &str) -> Option<&'b [u8]> {
        let found = self.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| header.value)
    }

    /// Whether an endpoint that may have seen it may see it again (RFC 9110 §9.2.2).
    pub(super) fn is_replayable(&self) -> bool {
        self.length == 0 && matches!(self.method, "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE")
    }

    /// `traceparent`; none if there is not exactly one, as if there were none.
    pub(super) fn trace_parent(&self) -> Option<&'b [u8]> {
        let mut found = self.of_kind(Kind::TraceParent);
        found.next().filter(|_| found.next().is_none())
    }

    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &'b [u8]> {
        let headers = self.headers.iter().zip(self.kinds);
        headers.filter(move |(_, of)| *of == kind).map(|(header, _)| header.value)
    }

    /// Writes the head for a replica, with another trace context than it came with if there is
    /// `told`; says where in it the request's id is.
    pub(super) fn write(
        &self,
        out: &mut Vec<u8>,
        client: &Client,
        rng: &mut fastrand::Rng,
        told: Option<&Told>,
    ) -> Range<usize> {
        let mut id = 0..0;
        out.extend_from_slice(self.method.as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.target.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        for (header, kind) in self.headers.iter().zip(self.kinds) {
            let goes_on = match kind {
                Kind::Kept | Kind::Host | Kind::Length | Kind::RequestId => true,
                Kind::TraceParent => told.is_none(),
                Kind::TraceState => told.is_none_or(|told| !told.begins),
                _ => false,
            };
            if goes_on {
                line(out, header.name.as_bytes(), header.value);
            }
            if kind == Kind::RequestId {
                id = last_value(out, header.value.len());
            }
        }
        let given = self.has_forwarded.then_some(|name: &str| self.given(name));
        client.write_lines(out, self.authority, given);
        if !self.has_id {
            let new = new_id(rng);
            line(out, b"x-request-id", &new);
            id = last_value(out, new.len());
        }
        if let Some(told) = told {
            line(out, b"traceparent", &told.context.to_header());
        }
        out.extend_from_slice(b"\r\n");
        id
    }

    /// What the client says of those before it.
    fn given(&self, name: &str) -> Vec<&'b [u8]> {
        let headers = self.headers.iter().zip(self.kinds);
        headers
            .filter(|(header, kind)| {
                *kind == Kind::Forwarded && header.name.eq_ignore_ascii_case(name)
            })
            .map(|(header, _)| header.value)
            .collect()
    }
}

/// Where the digits of the caller's span are in a head of so many bytes that was written with a
/// trace context.
pub(super) fn span_at(head: usize) -> usize {
    head - b"\r\n\r\n".len() - HEADER_BYTES + SPAN_AT
}

/// Where the value of the header is that was written last.
fn last_value(out: &[u8], length: usize) -> Range<usize> {
    let end = out.len() - b"\r\n".len();
    end - length..end
}

/// Writes one header.
pub(super) fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
