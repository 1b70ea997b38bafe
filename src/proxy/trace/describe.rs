//! A request and its way in OpenTelemetry's words (semantic conventions for HTTP spans).

use std::net::IpAddr;
use std::sync::Arc;

use http::Version;
use http::uri::Authority;

use crate::traces::{Attribute, Value};

/// Methods that are known; others may be anything.
const METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// What stands for those.
pub(super) const OTHER: &str = "_OTHER";

/// A request as it came.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct Asked<'a> {
    pub(in crate::proxy) method: &'a str,
    /// Path and query.
    pub(in crate::proxy) target: &'a str,
    /// The host, as the client wrote it.
    pub(in crate::proxy) authority: &'a str,
    pub(in crate::proxy) version: Version,
    pub(in crate::proxy) secure: bool,
    pub(in crate::proxy) client: IpAddr,
    pub(in crate::proxy) user_agent: Option<&'a [u8]>,
    /// `tracestate`.
    pub(in crate::proxy) state: Option<&'a [u8]>,
}

/// What is kept of a text that a client wrote.
const TEXT_BYTES: usize = 1_024;
/// Longest `tracestate` that is kept; half of one would be another (W3C Trace Context §3.3.1.5).
const STATE_BYTES: usize = 512;

/// `tracestate`, as it came.
pub(super) fn state(value: Option<&[u8]>) -> String {
    let fits = value.filter(|value| value.len() <= STATE_BYTES);
    fits.map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
}

/// What a client wrote, as a text within bounds: many may wait for a collector that is away.
fn text(value: &[u8]) -> Value {
    let kept = &value[..value.len().min(TEXT_BYTES)];
    Value::from(String::from_utf8_lossy(kept).into_owned())
}

/// The method, and what else is to be known of a request. What is
/// asked for in a query stays out: it may be a secret.
pub(super) fn request(asked: &Asked<'_>) -> (&'static str, Vec<Attribute>) {
    let known = METHODS.into_iter().find(|known| *known == asked.method);
    let mut attributes: Vec<Attribute> = Vec::with_capacity(16);
    let method = known.unwrap_or(OTHER);
    attributes.push(("http.request.method", method.into()));
    if known.is_none() {
        attributes.push(("http.request.method_original", text(asked.method.as_bytes())));
    }
    let path = asked.target.split('?').next().unwrap_or_default();
    attributes.push(("url.path", text(path.as_bytes())));
    attributes.push(("url.scheme", if asked.secure { "https" } else { "http" }.into()));
    if let Ok(authority) = asked.authority.parse::<Authority>() {
        attributes.push(("server.address", text(authority.host().as_bytes())));
        attributes.extend(authority.port_u16().map(|port| ("server.port", port.into())));
    }
    attributes.push(("network.protocol.version", version(asked.version).into()));
    attributes.push(("client.address", asked.client.into()));
    attributes.extend(asked.user_agent.map(|agent| ("user_agent.original", text(agent))));
    (method, attributes)
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}

/// Why a request went to its revision and not to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Choice {
    /// The host is a tag's.
    TagHost(Arc<str>),
    /// The header names a tag.
    TagHeader(Arc<str>),
    /// It was drawn, by this share in per cent; none if the share has just changed.
    Share(Option<u8>),
}

impl Choice {
    pub(super) fn attributes(&self) -> Vec<Attribute> {
        let tag = |tag: &Arc<str>| ("tidegate.route.tag", tag.to_string().into());
        let by = |by: &'static str| ("tidegate.route.by", by.into());
        match self {
            Self::TagHost(name) => vec![by("tag_host"), tag(name)],
            Self::TagHeader(name) => vec![by("tag_header"), tag(name)],
            Self::Share(percent) => {
                let percent = percent
                    .map(|percent| ("tidegate.route.percent", Value::Number(i64::from(percent))));
                [by("share")].into_iter().chain(percent).collect()
            }
        }
    }
}
