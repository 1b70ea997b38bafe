//! Headers on their way through (RFC 9110 §7.6.1, RFC 9112 §6).

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, StatusCode};

use crate::snapshot::normalize;

use super::scan::Seen;
use super::shared::Position;

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
static HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
pub(super) static TAG: HeaderName = HeaderName::from_static("knative-serving-tag");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// What a request's headers ask of the connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// The protocol to upgrade to, if the connection is to be upgraded.
    pub(super) upgrade: Option<HeaderValue>,
    /// `Expect: 100-continue`.
    pub(super) expects_continue: bool,
}

/// Removes what is between the client and us, and what only we may say; reports what was asked.
pub(super) fn strip_request(
    headers: &mut HeaderMap,
    seen: Seen,
    http2: bool,
    position: Position,
) -> Asked {
    let mut asked = Asked::default();
    if seen.upgrade && !http2 {
        asked.upgrade = upgrade(headers);
    }
    let keeps_trailers = seen.te && has_token(headers, &TE, b"trailers");
    if seen.connection {
        strip_named(headers);
    }
    if seen.hop {
        for name in [&TRANSFER_ENCODING, &UPGRADE, &KEEP_ALIVE, &PROXY_CONNECTION, &HTTP2_SETTINGS]
        {
            headers.remove(name);
        }
    }
    if seen.te {
        headers.remove(&TE);
        if keeps_trailers {
            headers.insert(TE, TRAILERS);
        }
    }
    if seen.ours {
        match position {
            Position::Edge => strip_ours(headers),
            Position::Sidecar => take_ours(headers),
        }
    }
    if seen.expect {
        asked.expects_continue =
            headers.get(EXPECT).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    }
    if http2 && seen.cookies > 1 {
        join_cookies(headers);
    }
    asked
}

/// Headers by which Knative's parts talk to each other; a client must not say them.
pub(super) fn is_ours(name: &str) -> bool {
    name.starts_with("k-") || (name.starts_with("knative-serving-") && name != TAG.as_str())
}

fn strip_ours(headers: &mut HeaderMap) {
    let ours: Vec<HeaderName> =
        headers.keys().filter(|name| is_ours(name.as_str())).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
}

/// What a peer within Knative says is taken as queue-proxy takes it: the Host that the activator
/// replaced is restored, and the names that lead to a revision have done their work.
fn take_ours(headers: &mut HeaderMap) {
    headers.remove("knative-serving-revision");
    headers.remove("knative-serving-namespace");
    let original = headers.get("k-original-host");
    if let Some(host) = original.filter(|host| host.to_str().is_ok_and(is_authority)) {
        headers.insert(HOST, host.clone());
    }
}

fn is_authority(text: &str) -> bool {
    normalize(text).is_some()
}

/// Removes `Connection` and every header it names.
fn strip_named(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
        // Naming these would take away what frames or routes the message.
        .filter(|name| *name != HOST && *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING)
        .filter(|name| *name != TE && *name != http::header::TRAILER)
        .collect();
    headers.remove(CONNECTION);
    for name in named {
        headers.remove(name);
    }
}

/// The protocol of an upgrade that both headers ask for. `h2c` is not offered: clients that know
/// speak HTTP/2 at once (RFC 9113 §3.1 deprecates it).
fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    if !has_token(headers, &CONNECTION, b"upgrade") {
        return None;
    }
    let value = headers.get(UPGRADE)?;
    let is_h2c = tokens(value.as_bytes()).any(|token| token.eq_ignore_ascii_case(b"h2c"));
    (!is_h2c).then(|| value.clone())
}

/// The tokens of a field's value that is a list (RFC 9110, section 5.6.1).
pub(super) fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &[u8]) -> bool {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| tokens(value.as_bytes()))
        .any(|known| known.eq_ignore_ascii_case(token))
}

/// One cookie header for HTTP/1 (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let parts: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&parts.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// Sets the framing of a request to an HTTP/1 endpoint. The library below takes it from the
/// version and the method, and would send some bodies without any.
pub(super) fn frame_request(headers: &mut HeaderMap, method: &Method, exact: Option<u64>) {
    if exact == Some(0) {
        return;
    }
    if exact.is_none() {
        headers.remove(CONTENT_LENGTH);
        // Set for methods that usually have no body, where it would be left out.
        if matches!(*method, Method::GET | Method::HEAD) {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
}

/// Whether an endpoint frames its response by something that readers take for different things
/// (RFC 9112 §6.1).
pub(super) fn has_odd_encoding(headers: &HeaderMap) -> bool {
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    encodings.next().is_some_and(|first| !is_chunked(first) || encodings.next().is_some())
}

/// Removes what is between the endpoint and us. `switching` keeps what an upgrade needs.
pub(super) fn strip_response(headers: &mut HeaderMap, status: StatusCode) {
    let switching = status == StatusCode::SWITCHING_PROTOCOLS;
    let (mut connection, mut hop, mut encoded) = (false, false, false);
    for (name, _) in &*headers {
        match name.as_str() {
            "connection" => connection = true,
            "transfer-encoding" => (hop, encoded) = (true, true),
            "keep-alive" | "proxy-connection" | "upgrade" => hop = true,
            _ => {}
        }
    }
    let upgrade = if switching { headers.get(UPGRADE).cloned() } else { None };
    if connection {
        strip_named(headers);
    }
    if hop {
        for name in [&TRANSFER_ENCODING, &UPGRADE, &KEEP_ALIVE, &PROXY_CONNECTION] {
            headers.remove(name);
        }
    }
    if encoded {
        // Both were there: the encoding framed it (RFC 9112 §6.3).
        headers.remove(CONTENT_LENGTH);
    }
    if let Some(upgrade) = upgrade {
        headers.insert(UPGRADE, upgrade);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::scan::scan;
    use super::*;

    fn strip(headers: &mut HeaderMap, http2: bool) -> Asked {
        let seen = scan(headers).seen;
        strip_request(headers, seen, http2, Position::Edge)
    }

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn shown(map: &HeaderMap) -> Vec<String> {
        map.iter().map(|(n, v)| format!("{n}: {}", v.to_str().expect("text"))).collect()
    }

    #[test]
    fn hop_by_hop_and_ours_go() {
        let mut headers = map(&[
            ("host", "a"),
            ("connection", "close, X-Once, host"),
            ("x-once", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "gzip, trailers"),
            ("k-proxy-request", "activator"),
            ("knative-serving-revision", "evil"),
            ("knative-serving-tag", "blue"),
            ("trailer", "x-sum"),
            ("x-kept", "yes"),
        ]);
        assert_eq!(strip(&mut headers, false), Asked::default());
        let mut left = shown(&headers);
        left.sort();
        let expected = [
            "host: a",
            "knative-serving-tag: blue",
            "te: trailers",
            "trailer: x-sum",
            "x-kept: yes",
        ];
        assert_eq!(left, expected);
    }

    #[test]
    fn a_sidecar_believes_its_peer() {
        let given = [
            ("host", "10.0.0.7:8012"),
            ("k-original-host", "hello.default.example.com"),
            ("k-proxy-request", "activator"),
            ("knative-serving-revision", "hello-00001"),
            ("knative-serving-namespace", "default"),
            ("knative-serving-tag", "blue"),
        ];
        let mut headers = map(&given);
        let seen = scan(&headers).seen;
        strip_request(&mut headers, seen, false, Position::Sidecar);
        let mut left = shown(&headers);
        left.sort();
        let expected = [
            "host: hello.default.example.com",
            "k-original-host: hello.default.example.com",
            "k-proxy-request: activator",
            "knative-serving-tag: blue",
        ];
        assert_eq!(left, expected);
        for bad in ["", "a b", "a/b", "a,b"] {
            let mut headers = map(&[("host", "kept"), ("k-original-host", bad)]);
            let seen = scan(&headers).seen;
            strip_request(&mut headers, seen, false, Position::Sidecar);
            assert_eq!(headers["host"], "kept", "{bad:?}");
        }
    }

    #[test]
    fn upgrades_are_recognised() {
        let websocket = [("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")];
        let asked = strip(&mut map(&websocket), false);
        assert_eq!(asked.upgrade, Some(HeaderValue::from_static("websocket")));
        assert_eq!(strip(&mut map(&websocket), true).upgrade, None, "HTTP/2 has none");
        assert_eq!(strip(&mut map(&[("upgrade", "websocket")]), false).upgrade, None);
        let h2c =
            [("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c"), ("http2-settings", "")];
        let mut headers = map(&h2c);
        assert_eq!(strip(&mut headers, false).upgrade, None);
        assert!(headers.is_empty());
    }

    #[test]
    fn cookies_are_joined_for_http1() {
        let mut headers = map(&[("cookie", "a=1"), ("cookie", "b=2")]);
        strip(&mut headers, true);
        assert_eq!(shown(&headers), ["cookie: a=1; b=2"]);
    }

    #[test]
    fn responses_lose_contradictory_framing() {
        let mut headers = map(&[("transfer-encoding", "chunked"), ("content-length", "5")]);
        strip_response(&mut headers, StatusCode::OK);
        assert!(headers.is_empty());
        let mut headers = map(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
        strip_response(&mut headers, StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(headers.len(), 2);
        let mut headers = map(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
        strip_response(&mut headers, StatusCode::OK);
        assert!(headers.is_empty());
    }

    #[test]
    fn bodies_are_framed() {
        let mut headers = map(&[]);
        frame_request(&mut headers, &Method::GET, None);
        assert_eq!(shown(&headers), ["transfer-encoding: chunked"]);
        let mut headers = map(&[("content-length", "5")]);
        frame_request(&mut headers, &Method::POST, Some(5));
        assert_eq!(shown(&headers), ["content-length: 5"]);
    }
}
