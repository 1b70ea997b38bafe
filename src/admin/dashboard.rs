//! The dashboard: a page, its style and its script, which asks the JSON API once a second. The
//! three hold nothing of what is served, so they are for everybody who may call the listener; what
//! they show comes only to who shows a token where one is needed.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;

use super::routes::typed;
use crate::server::Answer;

/// Nothing from elsewhere, nothing inline, in nobody's frame.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// One of its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum File {
    Page,
    Style,
    Script,
}

impl File {
    /// The file at a path.
    pub(super) fn find(path: &str) -> Option<Self> {
        match path {
            "/dashboard" => Some(Self::Page),
            "/dashboard/style.css" => Some(Self::Style),
            "/dashboard/script.js" => Some(Self::Script),
            _ => None,
        }
    }

    pub(super) fn answer(self) -> Answer {
        let (content_type, text) = match self {
            Self::Page => ("text/html; charset=utf-8", include_str!("dashboard/index.html")),
            Self::Style => ("text/css; charset=utf-8", include_str!("dashboard/style.css")),
            Self::Script => ("text/javascript; charset=utf-8", include_str!("dashboard/script.js")),
        };
        let mut answer = typed(StatusCode::OK, content_type, text);
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        answer
    }
}

/// Whether a request for `path` is answered without a token.
pub(super) fn is_open(path: &str, headers: &HeaderMap) -> bool {
    File::find(path).is_some() || path == "/" && is_for_a_person(headers)
}

/// Whether a browser asks, which shows pages.
pub(super) fn is_for_a_person(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let mut ranges = accept.unwrap_or_default().split(',');
    ranges.any(|range| range.split(';').next().is_some_and(|kind| kind.trim() == "text/html"))
}

/// Where a browser finds it that asks for the listener itself.
pub(super) fn redirect() -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SEE_OTHER;
    let headers = answer.headers_mut();
    headers.insert(header::LOCATION, HeaderValue::from_static("/dashboard"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
