//! One pass over a request's headers, instead of a lookup for each that concerns us.

use http::HeaderMap;
use http::header::HeaderValue;

use crate::model::is_grpc;

use super::headers::is_ours;

/// Which headers that concern us are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) hosts: u8,
    pub(super) lengths: u8,
    pub(super) encodings: u8,
    pub(super) cookies: u8,
    pub(super) connection: bool,
    /// Anything else between the client and us.
    pub(super) hop: bool,
    pub(super) te: bool,
    pub(super) upgrade: bool,
    pub(super) expect: bool,
    /// What only we may say.
    pub(super) ours: bool,
    pub(super) grpc: bool,
    pub(super) grpc_timeout: bool,
    pub(super) request_id: bool,
    pub(super) tag: bool,
}

/// A scanned request.
#[derive(Debug, Default)]
pub(super) struct Scan<'a> {
    pub(super) seen: Seen,
    /// The first Host.
    pub(super) host: Option<&'a HeaderValue>,
    /// The first Content-Length.
    pub(super) length: Option<&'a HeaderValue>,
    /// The first Transfer-Encoding.
    pub(super) encoding: Option<&'a HeaderValue>,
}

/// Looks at every header once.
pub(super) fn scan(headers: &HeaderMap) -> Scan<'_> {
    let mut scan = Scan::default();
    let seen = &mut scan.seen;
    for (name, value) in headers {
        let name = name.as_str();
        match name.as_bytes()[0] {
            b'h' if name == "host" => {
                scan.host.get_or_insert(value);
                seen.hosts = seen.hosts.saturating_add(1);
            }
            b'h' if name == "http2-settings" => seen.hop = true,
            b'c' => match name {
                "connection" => seen.connection = true,
                "cookie" => seen.cookies = seen.cookies.saturating_add(1),
                "content-length" => {
                    scan.length.get_or_insert(value);
                    seen.lengths = seen.lengths.saturating_add(1);
                }
                "content-type" => {
                    seen.grpc |= is_grpc(value.as_bytes());
                }
                _ => {}
            },
            b't' if name == "te" => seen.te = true,
            b't' if name == "transfer-encoding" => {
                scan.encoding.get_or_insert(value);
                seen.encodings = seen.encodings.saturating_add(1);
                seen.hop = true;
            }
            b'u' if name == "upgrade" => (seen.hop, seen.upgrade) = (true, true),
            b'k' => match name {
                "keep-alive" => seen.hop = true,
                "knative-serving-tag" => seen.tag = true,
                _ => seen.ours |= is_ours(name),
            },
            b'p' if name == "proxy-connection" => seen.hop = true,
            b'e' if name == "expect" => seen.expect = true,
            b'g' if name == "grpc-timeout" => seen.grpc_timeout = true,
            b'x' if name == "x-request-id" => seen.request_id = true,
            _ => {}
        }
    }
    scan
}
