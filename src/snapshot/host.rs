//! The Host of a request, compared without case, port or trailing dot.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

/// What kind of host it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKind {
    /// A name that may be a service's.
    Name,
    /// `localhost` or an IP address: the default service's.
    Local,
}

/// The host of an authority (`name`, `name:port`, `[v6]:port`) in the form that routes are kept
/// in. None if it is malformed (RFC 9110 §7.2, RFC 3986 §3.2.2).
pub fn normalize(authority: &str) -> Option<(Cow<'_, str>, HostKind)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        address.parse::<Ipv6Addr>().ok()?;
        let port_ok = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return port_ok.then_some((Cow::Borrowed(address), HostKind::Local));
    }
    let (mut end, mut upper) = (authority.len(), false);
    for (index, byte) in authority.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {}
            b'A'..=b'Z' => upper = true,
            b':' => {
                end = index;
                break;
            }
            _ => return None,
        }
    }
    let (host, port) = authority.split_at(end);
    if !is_port(port.strip_prefix(':').unwrap_or_default()) {
        return None;
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() || host.len() > 253 {
        return None;
    }
    let host = if upper { Cow::Owned(host.to_ascii_lowercase()) } else { Cow::Borrowed(host) };
    let is_address =
        host.as_bytes().last().is_some_and(u8::is_ascii_digit) && host.parse::<IpAddr>().is_ok();
    let kind = if is_address || host == "localhost" { HostKind::Local } else { HostKind::Name };
    Some((host, kind))
}

/// A port, or nothing after the colon (RFC 3986 allows that).
fn is_port(text: &str) -> bool {
    text.is_empty() || (text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        use HostKind::{Local, Name};
        let cases = [
            ("hello.default.localhost", Some(("hello.default.localhost", Name))),
            ("Hello.Default.LOCALHOST.:8080", Some(("hello.default.localhost", Name))),
            ("hello:", Some(("hello", Name))),
            ("localhost:8080", Some(("localhost", Local))),
            ("127.0.0.1", Some(("127.0.0.1", Local))),
            ("[::1]:8080", Some(("::1", Local))),
            ("[::1]", Some(("::1", Local))),
            ("1.2.3.example1", Some(("1.2.3.example1", Name))),
            ("", None),
            (".", None),
            ("a b", None),
            ("a/b", None),
            ("user@host", None),
            ("host:80:80", None),
            ("host:http", None),
            ("host:65536", None),
            ("[::1", None),
            ("[hello]", None),
            ("[::1]x", None),
            ("::1", None),
        ];
        for (authority, expected) in cases {
            let found = normalize(authority);
            let found = found.as_ref().map(|(host, kind)| (host.as_ref(), *kind));
            assert_eq!(found, expected, "{authority:?}");
        }
    }
}
