//! Judging the head of an HTTP/1 request before hyper reads it (RFC 9112 §3, §5, §6).

use std::mem::MaybeUninit;

use httparse::{Header, ParserConfig, Status};

use crate::model::Reason;

use super::framing::{Chunks, Framing, request_length};
use super::guard::Refused;
use super::headers::tokens;

/// Headers that a request may have.
const HEADERS_MAX: usize = 100;

/// What the bytes at hand are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// The beginning of a head.
    Partial,
    /// Refused; whether it is a HEAD.
    Refused(Refused, bool),
    /// A head with one meaning, as far as framing goes.
    Plain(Head),
}

/// A head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Its bytes, with empty lines before it.
    pub(super) bytes: usize,
    /// How its body ends.
    pub(super) framing: Framing,
    /// It asks for another protocol.
    pub(super) switches: bool,
}

/// Judges what a connection's next bytes are; a head has at most `max` bytes.
pub(super) fn judge(input: &[u8], max: usize) -> Judged {
    let mut room = [MaybeUninit::<Header<'_>>::uninit(); HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let config = ParserConfig::default();
    let parsed = config.parse_request_with_uninit_headers(&mut request, input, &mut room);
    let refused = |reason, why, request: &httparse::Request<'_, '_>| {
        Judged::Refused(Refused { reason, why }, request.method == Some("HEAD"))
    };
    let bytes = match parsed {
        Ok(Status::Complete(bytes)) if bytes <= max => bytes,
        Ok(Status::Partial) if input.len() < max => return Judged::Partial,
        Ok(_) if is_in_first_line(&input[..max]) => {
            return refused(Reason::TargetTooLong, "the target leaves no room in 64 KiB", &request);
        }
        Ok(_) => return refused(Reason::HeadTooLarge, "the head has over 64 KiB", &request),
        Err(httparse::Error::TooManyHeaders) => {
            return refused(Reason::HeadTooLarge, "there are over 100 headers", &request);
        }
        Err(_malformed) => {
            return refused(Reason::BadRequest, "the head is malformed", &request);
        }
    };
    match look(&request) {
        Ok((framing, switches)) => Judged::Plain(Head { bytes, framing, switches }),
        Err(why) => refused(Reason::BadRequest, why, &request),
    }
}

/// Whether not even the request line is whole.
fn is_in_first_line(input: &[u8]) -> bool {
    let start = input.iter().position(|b| !matches!(b, b'\r' | b'\n')).unwrap_or(0);
    !input[start..].contains(&b'\n')
}

/// The framing of the body, and whether another protocol is asked for.
fn look(request: &httparse::Request<'_, '_>) -> Result<(Framing, bool), &'static str> {
    check_target(request.method.unwrap_or_default(), request.path.unwrap_or_default())?;
    let (mut length, mut chunked) = (None, false);
    let (mut upgrade, mut connection) = (None, false);
    for header in &*request.headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            if length.replace(request_length(header.value).ok_or(LENGTH)?).is_some() {
                return Err(LENGTH);
            }
        } else if is("transfer-encoding") {
            if chunked || !header.value.eq_ignore_ascii_case(b"chunked") {
                return Err("Transfer-Encoding must be `chunked`, once");
            }
            chunked = true;
        } else if is("upgrade") {
            upgrade.get_or_insert(header.value);
        } else if is("connection") {
            connection |= has_token(header.value, b"upgrade");
        }
    }
    let framing = match (length, chunked) {
        (Some(_), true) => return Err("Content-Length and Transfer-Encoding exclude each other"),
        (None, true) if request.version == Some(0) => {
            return Err("HTTP/1.0 has no Transfer-Encoding");
        }
        (None, true) => Framing::Chunked(Chunks::default()),
        (length, false) => Framing::Length(length.unwrap_or(0)),
    };
    let switches = connection && upgrade.is_some_and(|value| !has_token(value, b"h2c"));
    Ok((framing, switches))
}

const LENGTH: &str = "Content-Length must be one decimal number without leading zeros";

/// What the URI parser would drop or not look at. The rest is the edge's.
fn check_target(method: &str, target: &str) -> Result<(), &'static str> {
    if target.contains('#') {
        return Err("a request's target has no fragment");
    }
    if method == "CONNECT" || target == "*" || target.starts_with('/') {
        return Ok(());
    }
    let scheme = target.split_once("://").map(|(scheme, _)| scheme);
    let is_http =
        |scheme: &str| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    if scheme.is_some_and(is_http) {
        Ok(())
    } else {
        Err("the request's target must be a path or an absolute http URL")
    }
}

fn has_token(value: &[u8], token: &[u8]) -> bool {
    tokens(value).any(|known| known.eq_ignore_ascii_case(token))
}
