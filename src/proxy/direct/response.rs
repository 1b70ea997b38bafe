//! Reading the head of a replica's response, and writing it as it goes to the client.

use std::mem::MaybeUninit;
use std::time::Duration;

use http::{HeaderName, Response, StatusCode};
use httparse::{Header, ParserConfig, Status};

use crate::proxy::body::ResponseBody;
use crate::upstream::keep_for;

use super::request::line;
use crate::proxy::framing::{Chunks, Framing};
use crate::proxy::headers::tokens;

/// Headers that a response may have.
const HEADERS_MAX: usize = 100;
/// Bytes of a head.
pub(super) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What the bytes at hand are.
#[derive(Debug)]
pub(super) enum Parsed {
    /// The beginning of a head.
    Partial,
    /// A whole head of so many bytes before the one that counts (RFC 9110 §15.2).
    Informational(usize),
    /// The head.
    Final(Head),
    /// Nothing that could be passed on.
    Bad(&'static str),
}

/// A response's head.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) framing: Framing,
    /// How long the connection may be idle afterwards; none if it ends with this response.
    pub(super) keep: Option<Duration>,
    /// Bytes of the head.
    pub(super) bytes: usize,
}

/// How the client is answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// The request was a HEAD.
    pub(super) head: bool,
    /// The connection to the client ends with this response.
    pub(super) close: bool,
}

/// What concerns us in a response's headers.
#[derive(Default)]
struct Seen {
    close: bool,
    keep_alive: bool,
    /// `Connection` names headers that end here.
    names: bool,
    chunked: bool,
    dated: bool,
    length: Option<u64>,
    kept_for: Option<Option<Duration>>,
}

/// Reads a head and writes it to `out`, which is left as it was unless there is a final head. A
/// missing date is written by `date` (RFC 9110 §6.6.1).
pub(super) fn read(
    input: &[u8],
    asked: Asked,
    out: &mut Vec<u8>,
    date: impl FnOnce(&mut Vec<u8>),
) -> Parsed {
    let mut room = [MaybeUninit::<Header<'_>>::uninit(); HEADERS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let config = ParserConfig::default();
    let bytes = match config.parse_response_with_uninit_headers(&mut response, input, &mut room) {
        Ok(Status::Complete(bytes)) => bytes,
        Ok(Status::Partial) => return Parsed::Partial,
        Err(_refused) => return Parsed::Bad("its response is malformed"),
    };
    let status = response.code.unwrap_or_default();
    match status {
        101 => return Parsed::Bad("it switched protocols without having been asked to"),
        100..200 => return Parsed::Informational(bytes),
        200.. => {}
        _ => return Parsed::Bad("its response has no valid status"),
    }
    let seen = match look(response.headers) {
        // RFC 9112 §6.1.
        Ok(seen) if seen.chunked && response.version == Some(0) => {
            return Parsed::Bad("HTTP/1.0 has no Transfer-Encoding");
        }
        Ok(seen) => seen,
        Err(why) => return Parsed::Bad(why),
    };
    let framing = framing(&seen, status, asked);
    out.reserve(bytes + 128);
    write_status(out, status, response.reason.unwrap_or_default());
    write_headers(response.headers, &seen, out);
    if !seen.dated {
        date(out);
    }
    end_head(out, &seen, &framing, status, asked);
    let persistent = match response.version {
        Some(1) => !seen.close,
        _ => seen.keep_alive && !seen.close,
    };
    // Where another reader of both framings would see its end is anybody's guess.
    let both = seen.chunked && seen.length.is_some();
    let keep = if persistent && !both && framing != Framing::Close {
        seen.kept_for.unwrap_or_else(|| keep_for(None))
    } else {
        None
    };
    Parsed::Final(Head { status, framing, keep, bytes })
}

fn look(headers: &[Header<'_>]) -> Result<Seen, &'static str> {
    let mut seen = Seen::default();
    for header in headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        match (header.name.len(), header.name.as_bytes()[0] | 0x20) {
            (4, b'd') if is("date") => seen.dated = true,
            (10, b'c') if is("connection") => {
                for token in tokens(header.value) {
                    if token.eq_ignore_ascii_case(b"close") {
                        seen.close = true;
                    } else if token.eq_ignore_ascii_case(b"keep-alive") {
                        seen.keep_alive = true;
                    } else {
                        seen.names = true;
                    }
                }
            }
            (10, b'k') if is("keep-alive") => seen.kept_for = Some(keep_for(Some(header.value))),
            (14, b'c') if is("content-length") => {
                let length = length(header.value).ok_or("its Content-Length is not a number")?;
                if seen.length.replace(length).is_some_and(|other| other != length) {
                    return Err("its Content-Lengths differ");
                }
            }
            (17, b't') if is("transfer-encoding") => {
                if !header.value.eq_ignore_ascii_case(b"chunked") || seen.chunked {
                    return Err("its Transfer-Encoding is not `chunked`");
                }
                seen.chunked = true;
            }
            _ => {}
        }
    }
    Ok(seen)
}

fn length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    if digits { std::str::from_utf8(value).ok()?.parse().ok() } else { None }
}

fn has_no_body(status: u16, asked: Asked) -> bool {
    asked.head || matches!(status, 204 | 304)
}

fn framing(seen: &Seen, status: u16, asked: Asked) -> Framing {
    if has_no_body(status, asked) {
        Framing::NONE
    } else if seen.chunked {
        Framing::Chunked(Chunks::default())
    } else {
        seen.length.map_or(Framing::Close, Framing::Length)
    }
}

fn write_status(out: &mut Vec<u8>, status: u16, reason: &str) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes what passes through.
fn write_headers(headers: &[Header<'_>], seen: &Seen, out: &mut Vec<u8>) {
    for header in headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        let ends_here = match (header.name.len(), header.name.as_bytes()[0] | 0x20) {
            (7, b'u') => is("upgrade"),
            (10, b'c') => is("connection"),
            (10, b'k') => is("keep-alive"),
            (14, b'c') => is("content-length"),
            (16, b'p') => is("proxy-connection"),
            (17, b't') => is("transfer-encoding"),
            _ => false,
        };
        if !(ends_here || seen.names && is_named(headers, header.name)) {
            line(out, header.name.as_bytes(), header.value);
        }
    }
}

/// Whether `Connection` says that a header ends here. What frames a message stays.
fn is_named(headers: &[Header<'_>], name: &str) -> bool {
    !name.eq_ignore_ascii_case("trailer")
        && headers
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case("connection"))
            .flat_map(|header| tokens(header.value))
            .any(|token| token.eq_ignore_ascii_case(name.as_bytes()))
}

/// Writes what says where the body ends, and the empty line.
fn end_head(out: &mut Vec<u8>, seen: &Seen, framing: &Framing, status: u16, asked: Asked) {
    let length = match framing {
        // To a HEAD, and with a 304, it says what a GET would bring.
        _ if has_no_body(status, asked) => seen.length.filter(|_| status != 204 && !seen.chunked),
        Framing::Length(length) => Some(*length),
        Framing::Chunked(_) | Framing::Close => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            None
        }
    };
    if let Some(length) = length {
        write_length(out, length);
    }
    if asked.close {
        out.extend_from_slice(b"connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

fn write_length(out: &mut Vec<u8>, length: u64) {
    let mut digits = itoa::Buffer::new();
    line(out, b"content-length", digits.format(length).as_bytes());
}

/// Writes an answer of our own.
pub(super) fn write_own(
    response: Response<ResponseBody>,
    asked: Asked,
    out: &mut Vec<u8>,
    date: impl FnOnce(&mut Vec<u8>),
) {
    let (parts, body) = response.into_parts();
    let text = body.into_text();
    let reason = StatusCode::canonical_reason(&parts.status).unwrap_or_default();
    write_status(out, parts.status.as_u16(), reason);
    for (name, value) in &parts.headers {
        line(out, HeaderName::as_str(name).as_bytes(), value.as_bytes());
    }
    date(out);
    write_length(out, text.len() as u64);
    if asked.close {
        out.extend_from_slice(b"connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
    if !asked.head {
        out.extend_from_slice(&text);
    }
}
