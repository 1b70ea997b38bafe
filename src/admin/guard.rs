//! Who may ask, besides the token (`token.rs`). What protects the listener from web pages opened on
//! the same machine is that a browser tells the truth about `Host` and `Origin`.

use std::net::IpAddr;

use http::header::{self, HeaderMap};
use http::{Method, StatusCode};

/// A request that is refused before it is looked at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

/// Checks a request to a listener that it reached at `local`.
///
/// # Errors
/// The answer that it gets instead.
pub(super) fn check(
    method: &Method,
    headers: &HeaderMap,
    scheme: &str,
    local: IpAddr,
    hosts: &[String],
) -> Result<(), Refusal> {
    let mut values = headers.get_all(header::HOST).iter();
    let host = match (values.next().map(|host| host.to_str()), values.next()) {
        (Some(Ok(host)), None) => host,
        _ => return refuse(StatusCode::BAD_REQUEST, "give exactly one Host header"),
    };
    if !is_known(host, local, hosts) {
        return refuse(
            StatusCode::FORBIDDEN,
            &format!(
                "Host {host:?} is not this listener's: call it by a loopback name or address, or \
                 allow the name with --admin-host"
            ),
        );
    }
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    let own = |origin: &str| {
        origin.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://")) == Some(host)
    };
    if origin.is_some_and(|origin| !own(origin)) {
        return refuse(
            StatusCode::FORBIDDEN,
            "requests of foreign web pages are refused (Origin differs from Host)",
        );
    }
    let content_type = headers.get(header::CONTENT_TYPE).map(header::HeaderValue::as_bytes);
    let media_type = content_type.and_then(|text| text.split(|byte| *byte == b';').next());
    if !matches!(*method, Method::GET | Method::HEAD)
        && media_type.map(<[u8]>::trim_ascii) != Some(b"application/json")
    {
        let message = "requests that change something need Content-Type: application/json";
        return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, message);
    }
    Ok(())
}

fn refuse(status: StatusCode, message: &str) -> Result<(), Refusal> {
    Err(Refusal { status, message: message.to_owned() })
}

/// Loopback, the address that was connected to, or a configured name; any port.
fn is_known(host: &str, local: IpAddr, hosts: &[String]) -> bool {
    let Ok(authority) = host.parse::<http::uri::Authority>() else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let name = authority.host().trim_end_matches('.');
    let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    if let Ok(ip) = literal.parse::<IpAddr>() {
        let ip = ip.to_canonical();
        return ip.is_loopback() || ip == local.to_canonical() || has(hosts, literal);
    }
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || has(hosts, &name)
}

fn has(hosts: &[String], name: &str) -> bool {
    hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: Method, headers: &[(&'static str, &str)]) -> u16 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let local = "10.1.2.3".parse().unwrap();
        match check(&method, &map, "http", local, &["Admin.example".to_owned()]) {
            Ok(()) => 200,
            Err(refusal) => refusal.status.as_u16(),
        }
    }

    #[test]
    fn hosts() {
        for (host, expected) in [
            ("localhost", 200),
            ("LOCALHOST:9095", 200),
            ("localhost.", 200),
            ("tidegate.localhost:1", 200),
            ("127.0.0.1:9095", 200),
            ("127.8.8.8", 200),
            ("[::1]:9095", 200),
            ("[::ffff:127.0.0.1]", 200),
            ("10.1.2.3:9095", 200),
            ("admin.example:80", 200),
            ("10.1.2.4", 403),
            ("evil.example", 403),
            ("localhost.evil.example", 403),
            ("evillocalhost", 403),
            ("x@localhost", 403),
            ("", 403),
            ("a b", 403),
        ] {
            assert_eq!(status(Method::GET, &[("host", host)]), expected, "{host}");
        }
        assert_eq!(status(Method::GET, &[]), 400);
        assert_eq!(status(Method::GET, &[("host", "localhost"), ("host", "localhost")]), 400);
    }

    #[test]
    fn origins() {
        for (origin, expected) in [
            ("http://localhost:9095", 200),
            ("http://localhost", 403),
            ("https://localhost:9095", 403),
            ("http://evil.example", 403),
            ("null", 403),
        ] {
            let headers = [("host", "localhost:9095"), ("origin", origin)];
            assert_eq!(status(Method::GET, &headers), expected, "{origin}");
        }
    }

    #[test]
    fn writes_need_json() {
        let host = ("host", "localhost");
        assert_eq!(status(Method::POST, &[host]), 415);
        assert_eq!(status(Method::POST, &[host, ("content-type", "text/plain")]), 415);
        for json in ["application/json", "application/json; charset=utf-8"] {
            assert_eq!(status(Method::POST, &[host, ("content-type", json)]), 200, "{json}");
        }
        assert_eq!(status(Method::HEAD, &[host]), 200);
    }
}
