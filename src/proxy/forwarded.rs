//! Who the client is, told to the replica: `X-Forwarded-*` and `Forwarded` (RFC 7239), and a
//! request id. What an untrusted client says about itself is replaced.

use std::cell::RefCell;
use std::net::IpAddr;

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName, HeaderValue};
use ipnet::IpNet;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest request id that is kept.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// The client of one connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) ip: IpAddr,
    pub(super) trusted: bool,
    /// Whether it speaks TLS with us.
    pub(super) secure: bool,
    ip_text: HeaderValue,
    /// `Forwarded` for the host that was asked for last: clients rarely change it.
    last: RefCell<Option<(HeaderValue, HeaderValue)>>,
    /// The same as lines of a head, with the host they are for.
    lines: RefCell<(Box<str>, Box<[u8]>)>,
}

impl Client {
    pub(super) fn new(ip: IpAddr, secure: bool, trusted_proxies: &[IpNet]) -> Self {
        let ip = ip.to_canonical();
        let trusted = trusted_proxies.iter().any(|net| net.contains(&ip));
        let ip_text = HeaderValue::from_str(&ip.to_string())
            .unwrap_or_else(|_never| HeaderValue::from_static("unknown"));
        Self { ip, trusted, secure, ip_text, last: RefCell::new(None), lines: RefCell::default() }
    }

    /// The scheme of its requests.
    pub(super) const fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// Writes the headers for a request to `host`.
    pub(super) fn write(&self, headers: &mut HeaderMap, host: Option<&HeaderValue>) {
        let forwarded = self.forwarded(host);
        let scheme = HeaderValue::from_static(self.scheme());
        if self.trusted {
            append(headers, &X_FORWARDED_FOR, &self.ip_text);
            append(headers, &FORWARDED, &forwarded);
            if !headers.contains_key(&X_FORWARDED_PROTO) {
                headers.insert(X_FORWARDED_PROTO.clone(), scheme);
            }
            if let Some(host) = host
                && !headers.contains_key(&X_FORWARDED_HOST)
            {
                headers.insert(X_FORWARDED_HOST.clone(), host.clone());
            }
            return;
        }
        headers.insert(X_FORWARDED_FOR.clone(), self.ip_text.clone());
        headers.insert(X_FORWARDED_PROTO.clone(), scheme);
        match host {
            Some(host) => drop(headers.insert(X_FORWARDED_HOST.clone(), host.clone())),
            None => drop(headers.remove(&X_FORWARDED_HOST)),
        }
        headers.insert(FORWARDED, forwarded);
    }

    /// Writes the same as lines of an HTTP/1.1 head. `given` says what the client said.
    pub(super) fn write_lines<'a>(
        &self,
        out: &mut Vec<u8>,
        host: &str,
        given: impl Fn(&str) -> Vec<&'a [u8]>,
    ) {
        if self.trusted {
            out.extend_from_slice(&self.lines_after(host, given));
            return;
        }
        let mut lines = self.lines.borrow_mut();
        if *lines.0 != *host || lines.1.is_empty() {
            *lines = (host.into(), self.lines_after(host, |_| Vec::new()).into());
        }
        out.extend_from_slice(&lines.1);
    }

    fn lines_after<'a>(&self, host: &str, given: impl Fn(&str) -> Vec<&'a [u8]>) -> Vec<u8> {
        let forwarded = element(self.ip, host, self.scheme());
        let mut out = Vec::new();
        let mut line = |name: &HeaderName, values: &[&[u8]], separator: &[u8]| {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(&values.join(separator));
            out.extend_from_slice(b"\r\n");
        };
        for (name, ours) in [(&X_FORWARDED_FOR, &self.ip_text), (&FORWARDED, &forwarded)] {
            let mut values = given(name.as_str());
            values.push(ours.as_bytes());
            line(name, &values, b", ");
        }
        for (name, ours) in [(&X_FORWARDED_PROTO, self.scheme()), (&X_FORWARDED_HOST, host)] {
            let values = given(name.as_str());
            if values.is_empty() {
                line(name, &[ours.as_bytes()], b"");
            }
            for value in values {
                line(name, &[value], b"");
            }
        }
        out
    }

    fn forwarded(&self, host: Option<&HeaderValue>) -> HeaderValue {
        let none = HeaderValue::from_static("");
        let host = host.unwrap_or(&none);
        let mut last = self.last.borrow_mut();
        if let Some((for_host, value)) = &*last
            && for_host == host
        {
            return value.clone();
        }
        let value = element(self.ip, host.to_str().unwrap_or_default(), self.scheme());
        *last = Some((host.clone(), value.clone()));
        value
    }
}

/// One element of `Forwarded`; IPv6 addresses and hosts with a port are quoted (RFC 7239 §4, §6).
fn element(ip: IpAddr, host: &str, scheme: &str) -> HeaderValue {
    let mut text = match ip {
        IpAddr::V4(ip) => format!("for={ip}"),
        IpAddr::V6(ip) => format!("for=\"[{ip}]\""),
    };
    if !host.is_empty() {
        let token = host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        let quote = if token { "" } else { "\"" };
        text.push_str(&format!(";host={quote}{host}{quote}"));
    }
    text.push_str(";proto=");
    text.push_str(scheme);
    HeaderValue::from_str(&text).unwrap_or_else(|_never| HeaderValue::from_static("for=unknown"))
}

/// Appends to a list header, in one line.
fn append(headers: &mut HeaderMap, name: &HeaderName, value: &HeaderValue) {
    let mut parts: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    parts.push(value.as_bytes());
    if let Ok(joined) = HeaderValue::from_bytes(&parts.join(&b", "[..])) {
        headers.insert(name.clone(), joined);
    }
}

/// Eight hexadecimal digits, all at once in one word: each nibble gets a byte, and `a`–`f` are
/// moved up to the letters.
fn hex(number: u32) -> [u8; 8] {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let mut x = u64::from(number);
    x = (x | (x << 16)) & 0x0000_ffff_0000_ffff;
    x = (x | (x << 8)) & 0x00ff_00ff_00ff_00ff;
    x = (x | (x << 4)) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = ((x + 6 * EACH) >> 4) & EACH;
    (x + u64::from(b'0') * EACH + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

/// Whether a request's id can be kept.
pub(super) fn is_usable_id(id: &[u8]) -> bool {
    !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX && id.iter().all(u8::is_ascii_graphic)
}

/// A new request's id.
pub(super) fn new_id(rng: &mut fastrand::Rng) -> [u8; 32] {
    let mut text = [0_u8; 32];
    for half in text.chunks_exact_mut(8) {
        half.copy_from_slice(&hex(rng.u32(..)));
    }
    text
}

/// The request's id: kept if it has a usable one, else made.
pub(super) fn request_id(headers: &mut HeaderMap, given: bool, rng: &mut fastrand::Rng) {
    if given && headers.get(&X_REQUEST_ID).is_some_and(|id| is_usable_id(id.as_bytes())) {
        return;
    }
    if let Ok(id) = HeaderValue::from_bytes(&new_id(rng)) {
        headers.insert(X_REQUEST_ID.clone(), id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(ip: &str, trusted: bool, given: &[(&'static str, &'static str)]) -> Vec<String> {
        seen_by(ip, trusted, false, given)
    }

    fn seen_by(
        ip: &str,
        trusted: bool,
        secure: bool,
        given: &[(&'static str, &'static str)],
    ) -> Vec<String> {
        let nets: Vec<IpNet> = if trusted {
            vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()]
        } else {
            vec![]
        };
        let client = Client::new(ip.parse().unwrap(), secure, &nets);
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, HeaderValue::from_static(value));
        }
        client.write(&mut headers, Some(&HeaderValue::from_static("hello.example:8080")));
        let mut lines: Vec<_> =
            headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    #[test]
    fn a_stranger_is_not_believed() {
        let given = [("x-forwarded-for", "1.1.1.1"), ("forwarded", "for=1.1.1.1")];
        assert_eq!(
            seen("::1", false, &given),
            [
                "forwarded: for=\"[::1]\";host=\"hello.example:8080\";proto=http",
                "x-forwarded-for: ::1",
                "x-forwarded-host: hello.example:8080",
                "x-forwarded-proto: http",
            ]
        );
    }

    #[test]
    fn over_tls_the_scheme_is_https() {
        let given = [("x-forwarded-proto", "http"), ("forwarded", "proto=http")];
        assert_eq!(
            seen_by("10.0.0.1", false, true, &given),
            [
                "forwarded: for=10.0.0.1;host=\"hello.example:8080\";proto=https",
                "x-forwarded-for: 10.0.0.1",
                "x-forwarded-host: hello.example:8080",
                "x-forwarded-proto: https",
            ]
        );
    }

    #[test]
    fn a_trusted_proxy_is_appended_to() {
        let given = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "https")];
        assert_eq!(
            seen("::ffff:10.0.0.1", true, &given),
            [
                "forwarded: for=10.0.0.1;host=\"hello.example:8080\";proto=http",
                "x-forwarded-for: 1.1.1.1, 10.0.0.1",
                "x-forwarded-host: hello.example:8080",
                "x-forwarded-proto: https",
            ]
        );
    }

    #[test]
    fn digits_are_hexadecimal() {
        for number in [0, 1, 0x0123_4567, 0x89ab_cdef, u32::MAX] {
            assert_eq!(hex(number), format!("{number:08x}").as_bytes());
        }
    }

    #[test]
    fn request_ids_are_made_or_kept() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut headers = HeaderMap::new();
        request_id(&mut headers, true, &mut rng);
        let made = headers[&X_REQUEST_ID].clone();
        assert_eq!(made.len(), 32);
        request_id(&mut headers, true, &mut rng);
        assert_eq!(headers[&X_REQUEST_ID], made, "kept");
        headers.insert(X_REQUEST_ID.clone(), HeaderValue::from_static("with space"));
        request_id(&mut headers, true, &mut rng);
        assert_ne!(headers[&X_REQUEST_ID], "with space");
    }
}
