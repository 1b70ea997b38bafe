//! What a request must be before anything is done with it. The parser below lets more through than
//! can be forwarded with one meaning (RFC 9112 §3.2, §6.1, §11.2).

use std::borrow::Cow;

use http::{Method, Request, Version};

use crate::snapshot::{HostKind, normalize};

use super::scan::Scan;

/// What the edge found out about a request.
#[derive(Debug)]
pub(super) struct Checked<'a> {
    /// The host it is for, normalised; none for HTTP/1.0 without Host.
    pub(super) host: Option<(Cow<'a, str>, HostKind)>,
    /// The authority as the client wrote it.
    pub(super) authority: Option<&'a str>,
}

/// Why a request is refused, in words.
pub(super) type Refused = &'static str;

/// Checks a request's head.
pub(super) fn check<'a, B>(
    request: &'a Request<B>,
    scan: &Scan<'a>,
) -> Result<Checked<'a>, Refused> {
    let uri = request.uri();
    if request.method() == Method::CONNECT {
        return Err("CONNECT is not supported: this is a reverse proxy");
    }
    if uri.path() == "*" {
        if request.method() != Method::OPTIONS {
            return Err("the target `*` is for OPTIONS only");
        }
    } else if !uri.path().starts_with('/') {
        return Err("the request's target must be a path or an absolute http URL");
    }
    if uri.scheme_str().is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
        return Err("the scheme must be http or https");
    }
    check_framing(scan)?;
    let authority = authority(request, scan)?;
    let host = match authority {
        Some(text) => Some(normalize(text).ok_or("the Host header is malformed")?),
        None => None,
    };
    Ok(Checked { host, authority })
}

/// The one authority that all places where it may stand agree on.
fn authority<'a, B>(request: &'a Request<B>, scan: &Scan<'a>) -> Result<Option<&'a str>, Refused> {
    let header = match scan.host {
        Some(value) => Some(value.to_str().map_err(|_invalid| "the Host header is malformed")?),
        None => None,
    };
    if scan.seen.hosts > 1 {
        return Err("there is more than one Host header");
    }
    let target = request.uri().authority().map(http::uri::Authority::as_str);
    match (target, header) {
        (Some(target), Some(header)) => {
            if !target.eq_ignore_ascii_case(header) {
                return Err("the request's target and its Host header name different hosts");
            }
            Ok(Some(header))
        }
        (Some(target), None) if request.version() == Version::HTTP_2 => Ok(Some(target)),
        (None, None) if request.version() == Version::HTTP_2 => {
            Err("there is neither :authority nor a Host header")
        }
        (None | Some(_), None) if request.version() == Version::HTTP_11 => {
            Err("the Host header is missing")
        }
        (target, header) => Ok(header.or(target)),
    }
}

fn check_framing(scan: &Scan<'_>) -> Result<(), Refused> {
    if let Some(encoding) = scan.encoding {
        if !encoding.as_bytes().eq_ignore_ascii_case(b"chunked") || scan.seen.encodings > 1 {
            return Err("Transfer-Encoding must be `chunked`, once");
        }
        if scan.length.is_some() {
            return Err("Content-Length and Transfer-Encoding exclude each other");
        }
    }
    if let Some(length) = scan.length {
        let bytes = length.as_bytes();
        let canonical = bytes.iter().all(u8::is_ascii_digit)
            && !bytes.is_empty()
            && (bytes.len() == 1 || bytes[0] != b'0');
        if !canonical || scan.seen.lengths > 1 {
            return Err("Content-Length must be one decimal number without leading zeros");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::scan::scan;
    use super::*;

    fn verdict(build: impl FnOnce(http::request::Builder) -> http::request::Builder) -> String {
        let request = build(Request::builder()).body(()).expect("a request");
        match check(&request, &scan(request.headers())) {
            Ok(checked) => match checked.host {
                Some((host, _)) => format!("to {host}"),
                None => "to nobody".into(),
            },
            Err(refused) => refused.to_owned(),
        }
    }

    #[test]
    fn hosts_must_agree() {
        let missing = "the Host header is missing";
        let differ = "the request's target and its Host header name different hosts";
        assert_eq!(verdict(|b| b.uri("/")), missing);
        assert_eq!(verdict(|b| b.uri("/").version(Version::HTTP_10)), "to nobody");
        assert_eq!(verdict(|b| b.uri("/").header("host", "A.b:80")), "to a.b");
        assert_eq!(
            verdict(|b| b.uri("/").header("host", "a").header("host", "a")),
            "there is more than one Host header"
        );
        assert_eq!(verdict(|b| b.uri("http://a/").header("host", "b")), differ);
        assert_eq!(verdict(|b| b.uri("http://a/").header("host", "a")), "to a");
        assert_eq!(verdict(|b| b.uri("http://a/")), missing);
        assert_eq!(verdict(|b| b.uri("http://a/").version(Version::HTTP_2)), "to a");
        let both = |b: http::request::Builder| {
            b.uri("http://a/").version(Version::HTTP_2).header("host", "b")
        };
        assert_eq!(verdict(both), differ);
    }

    #[test]
    fn framing_must_have_one_meaning() {
        let length = "Content-Length must be one decimal number without leading zeros";
        let chunked = "Transfer-Encoding must be `chunked`, once";
        let cases: [(&[(&str, &str)], &str); 9] = [
            (&[("content-length", "0")], "to a"),
            (&[("content-length", "002")], length),
            (&[("content-length", "+2")], length),
            (&[("content-length", "2"), ("content-length", "2")], length),
            (&[("transfer-encoding", "chunked")], "to a"),
            (&[("transfer-encoding", "gzip, chunked")], chunked),
            (&[("transfer-encoding", "identity"), ("transfer-encoding", "chunked")], chunked),
            (&[("transfer-encoding", "xchunked")], chunked),
            (
                &[("transfer-encoding", "chunked"), ("content-length", "2")],
                "Content-Length and Transfer-Encoding exclude each other",
            ),
        ];
        for (headers, expected) in cases {
            let found = verdict(|mut b| {
                b = b.uri("/").header("host", "a");
                for (name, value) in headers {
                    b = b.header(*name, *value);
                }
                b
            });
            assert_eq!(found, expected, "{headers:?}");
        }
    }

    #[test]
    fn targets() {
        let host = |b: http::request::Builder| b.header("host", "a");
        assert_eq!(verdict(|b| host(b).method("OPTIONS").uri("*")), "to a");
        assert_eq!(verdict(|b| host(b).uri("*")), "the target `*` is for OPTIONS only");
        assert!(verdict(|b| host(b).method("CONNECT").uri("a:80")).starts_with("CONNECT"));
    }
}
