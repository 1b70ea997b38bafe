//! Who the client is, told to the replica: `X-Forwarded-*` and `Forwarded` (RFC 7239), and a
//! request id. What an untrusted client says about itself is replaced.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv6Addr};

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName, HeaderValue};
use ipnet::IpNet;

use super::shared::Position;

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
    position: Position,
    ip_text: HeaderValue,
    /// `Forwarded` for the host that was asked for last: clients rarely change it.
    last: RefCell<Option<(HeaderValue, HeaderValue)>>,
    /// The same as lines of a head, with the host they are for.
    lines: RefCell<(Box<str>, Box<[u8]>)>,
}

impl Client {
    pub(super) fn new(
        ip: IpAddr,
        secure: bool,
        trusted_proxies: &[IpNet],
        position: Position,
    ) -> Self {
        let ip = ip.to_canonical();
        let trusted =
            position == Position::Sidecar || trusted_proxies.iter().any(|net| net.contains(&ip));
        let ip_text = HeaderValue::from_str(&ip.to_string())
            .unwrap_or_else(|_never| HeaderValue::from_static("unknown"));
        let (last, lines) = (RefCell::new(None), RefCell::default());
        Self { ip, trusted, secure, position, ip_text, last, lines }
    }

    /// Whether a request came by https: from it, or by what a trusted proxy says of the client
    /// before it.
    pub(super) fn is_secure(&self, headers: &HeaderMap) -> bool {
        if self.secure || !self.trusted {
            return self.secure;
        }
        let given = headers.get(&X_FORWARDED_PROTO).map(HeaderValue::as_bytes);
        let first = given.and_then(|given| given.split(|b| *b == b',').next());
        first.is_some_and(|scheme| scheme.trim_ascii().eq_ignore_ascii_case(b"https"))
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
            let given =
                |name: &str| headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
            if let Some(before) = self.synthesised(given) {
                headers.insert(FORWARDED, before);
            }
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

    /// What `X-Forwarded-*` say, as `Forwarded`, where the peer of a sidecar gave only those
    /// (`pkg/queue/forwarded_shim.go`).
    fn synthesised<'a>(&self, given: impl Fn(&str) -> Vec<&'a [u8]>) -> Option<HeaderValue> {
        if self.position == Position::Edge || !given(FORWARDED.as_str()).is_empty() {
            return None;
        }
        synthesise(&given)
    }

    /// Writes the same as lines of an HTTP/1.1 head. `given` says what the client said of those
    /// before it; none if nothing.
    pub(super) fn write_lines<'a>(
        &self,
        out: &mut Vec<u8>,
        host: &str,
        given: Option<impl Fn(&str) -> Vec<&'a [u8]>>,
    ) {
        if self.trusted
            && let Some(given) = given
        {
            out.extend_from_slice(&self.lines_after(host, given));
            return;
        }
        let mut lines = self.lines.borrow_mut();
        if *lines.0 != *host || lines.1.is_empty() {
            *lines = (host.into(), self.lines_after(host, |_: &str| Vec::new()).into());
        }
        out.extend_from_slice(&lines.1);
    }

    fn lines_after<'a>(&self, host: &str, given: impl Fn(&str) -> Vec<&'a [u8]>) -> Vec<u8> {
        let forwarded = element(self.ip, host, self.scheme());
        let before = self.synthesised(&given);
        let mut out = Vec::new();
        let mut line = |name: &HeaderName, values: &[&[u8]], separator: &[u8]| {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(&values.join(separator));
            out.extend_from_slice(b"\r\n");
        };
        for (name, ours) in [(&X_FORWARDED_FOR, &self.ip_text), (&FORWARDED, &forwarded)] {
            let mut values = given(name.as_str());
            if *name == FORWARDED {
                values.extend(before.as_ref().map(HeaderValue::as_bytes));
            }
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

/// `Forwarded` from `X-Forwarded-For`, `-Host` and `-Proto`: the first node has them all, the
/// others only themselves. None if there are none, or if they cannot be written so.
fn synthesise<'a>(given: &impl Fn(&str) -> Vec<&'a [u8]>) -> Option<HeaderValue> {
    let text = |name: &HeaderName| {
        let joined = given(name.as_str()).join(&b", "[..]);
        String::from_utf8(joined).ok().filter(|text| !text.trim().is_empty())
    };
    let (nodes, host) = (text(&X_FORWARDED_FOR), text(&X_FORWARDED_HOST));
    let mut first = Vec::new();
    let nodes = nodes.unwrap_or_default();
    let mut nodes = nodes.split(',').map(str::trim).filter(|node| !node.is_empty());
    first.extend(nodes.next().map(|node| format!("for={}", node_text(node))));
    first.extend(host.map(|host| format!("host={}", quoted(&host))));
    first.extend(text(&X_FORWARDED_PROTO).map(|proto| format!("proto={}", quoted(&proto))));
    if first.is_empty() {
        return None;
    }
    let rest = nodes.map(|node| format!("for={}", node_text(node)));
    let elements: Vec<_> = std::iter::once(first.join(";")).chain(rest).collect();
    HeaderValue::try_from(elements.join(", ")).ok()
}

/// A node: IPv6 in brackets, quoted (RFC 7239 §6).
fn node_text(node: &str) -> String {
    match node.parse::<Ipv6Addr>() {
        Ok(ip) => format!("\"[{ip}]\""),
        Err(_) => quoted(node),
    }
}

/// A token as it is, anything else in quotes.
fn quoted(text: &str) -> String {
    let token = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if token { text.to_owned() } else { format!("\"{}\"", text.replace(['"', '\\'], "")) }
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
        written(&Client::new(ip.parse().unwrap(), secure, &nets, Position::Edge), given)
    }

    fn written(client: &Client, given: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let mut out = Vec::new();
        let values = |name: &str| headers.get_all(name).iter().map(|v| v.as_bytes()).collect();
        client.write_lines(&mut out, "hello.example:8080", (!given.is_empty()).then_some(values));
        client.write(&mut headers, Some(&HeaderValue::from_static("hello.example:8080")));
        let mut lines: Vec<_> =
            headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        lines.sort();
        let out = String::from_utf8(out).unwrap();
        let mut direct: Vec<_> = out.lines().collect();
        direct.sort_unstable();
        assert_eq!(direct, lines, "both paths say the same");
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
    fn a_sidecar_tells_what_its_peer_was_told() {
        let forwarded = |given: &[(&'static str, &'static str)]| {
            let client = Client::new("10.0.0.1".parse().unwrap(), false, &[], Position::Sidecar);
            let lines = written(&client, given).into_iter();
            let line = lines.filter_map(|l| Some(l.strip_prefix("forwarded: ")?.to_owned())).next();
            let ours = "for=10.0.0.1;host=\"hello.example:8080\";proto=http";
            let line = line.unwrap();
            let before = line.strip_suffix(ours).unwrap_or_else(|| panic!("{line}"));
            before.strip_suffix(", ").unwrap_or(before).to_owned()
        };
        assert_eq!(forwarded(&[]), "");
        assert_eq!(forwarded(&[("forwarded", "for=2.2.2.2")]), "for=2.2.2.2");
        let all = [
            ("x-forwarded-for", "1.1.1.1, 2001:db8::1"),
            ("x-forwarded-for", "2.2.2.2"),
            ("x-forwarded-host", "a.example:80"),
            ("x-forwarded-proto", "https"),
        ];
        assert_eq!(
            forwarded(&all),
            "for=1.1.1.1;host=\"a.example:80\";proto=https, for=\"[2001:db8::1]\", for=2.2.2.2"
        );
        assert_eq!(forwarded(&[("x-forwarded-proto", "https")]), "proto=https");
        assert_eq!(forwarded(&[all[0], ("forwarded", "for=3.3.3.3")]), "for=3.3.3.3");
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
