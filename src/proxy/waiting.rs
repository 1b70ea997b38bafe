//! The page that a person sees in place of an empty window while a first replica starts
//! (`tidegate.dev/waiting-page`). Only for who looks at it: a browser that goes to a page. It needs
//! nothing from elsewhere and no script; it asks again by itself, which keeps the demand.

use std::time::Duration;

use http::Response;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, RETRY_AFTER,
};

use crate::model::{Problem, Reason};

use super::body::ResponseBody;

/// A wait that is shorter is no wait to a person.
pub(super) const PAGE_AFTER: Duration = Duration::from_secs(1);

const PAGE: &str = include_str!("waiting/page.html");

/// Nothing but its own style.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
);

/// What there is to be said of a wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    /// How long it has been.
    pub(super) waited: Duration,
    /// How long the last start took.
    pub(super) usual: Option<Duration>,
    /// Whether a replica is on its way up.
    pub(super) starting: bool,
}

/// Whether a person waits for the answer: a browser goes to a page (Fetch Metadata,
/// `Sec-Fetch-Mode`), which no script can claim.
pub(super) fn is_navigation<'h>(
    method: &str,
    header: impl Fn(&'static str) -> Option<&'h [u8]>,
) -> bool {
    method == "GET"
        && header("sec-fetch-mode") == Some(b"navigate")
        && header("accept").is_some_and(takes_html)
}

/// Whether `text/html` is named, and not with a weight of zero.
fn takes_html(accept: &[u8]) -> bool {
    accept.split(|byte| *byte == b',').any(|range| {
        let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let html = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/html"));
        let weight = parts.find_map(|part| {
            let (name, value) = part.split_at_checked(2)?;
            name.eq_ignore_ascii_case(b"q=").then_some(value)
        });
        let refused = weight.is_some_and(|w| w.iter().all(|byte| matches!(byte, b'0' | b'.')));
        html && !refused
    })
}

/// Why a request ends for which the page is shown.
pub(super) fn starting() -> Problem {
    Problem::new(Reason::WaitingPage, "a replica is starting; a browser is shown a page meanwhile")
}

/// Makes the page of an answer of our own.
pub(super) fn show(response: &mut Response<ResponseBody>, wait: Wait) {
    *response.body_mut() = ResponseBody::text(page(wait));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
}

fn page(wait: Wait) -> String {
    let Wait { waited, usual, starting } = wait;
    let what = if starting {
        "This site was at rest. It is starting now."
    } else {
        "This site was at rest. A start has been asked for."
    };
    let waited_for = seconds(waited.as_secs());
    let (time, progress) = match usual.map(|usual| (usual, usual.as_secs_f64())) {
        None => (format!("Waiting for {waited_for}."), String::new()),
        Some((usual, _)) if waited > usual => {
            let usually = seconds(whole(usual));
            (format!("Waiting for {waited_for}, longer than the usual {usually}."), String::new())
        }
        Some((usual, most)) => {
            let usually = seconds(whole(usual));
            let value = waited.as_secs_f64();
            (
                format!("Waiting for {waited_for}. It is usually ready within {usually}."),
                format!(" value=\"{value:.1}\" max=\"{most:.1}\""),
            )
        }
    };
    PAGE.replace("{what}", what).replace("{time}", &time).replace("{progress}", &progress)
}

/// Seconds, rounded up.
fn whole(time: Duration) -> u64 {
    u64::try_from(time.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX)
}

fn seconds(count: u64) -> String {
    match count {
        0 | 1 => "1 second".to_owned(),
        2..120 => format!("{count} seconds"),
        _ => format!("{} minutes", count / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_navigations_of_browsers() {
        let html = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        for (method, mode, accept, expected) in [
            ("GET", Some("navigate"), Some(html), true),
            ("GET", Some("navigate"), Some("TEXT/HTML; q=0.1"), true),
            ("GET", Some("navigate"), Some("text/html;level=1;q=1.0"), true),
            // curl, and programs that fetch.
            ("GET", None, Some("*/*"), false),
            ("GET", None, Some(html), false),
            ("GET", Some("cors"), Some("*/*"), false),
            ("GET", Some("cors"), Some(html), false),
            ("GET", Some("no-cors"), Some("image/*"), false),
            ("GET", Some("same-origin"), Some(html), false),
            ("GET", Some("websocket"), None, false),
            // A download, or a page that is not to be one of ours.
            ("GET", Some("navigate"), None, false),
            ("GET", Some("navigate"), Some("*/*"), false),
            ("GET", Some("navigate"), Some("application/json"), false),
            ("GET", Some("navigate"), Some("text/html;q=0, */*"), false),
            ("GET", Some("navigate"), Some("text/html;q=0.000"), false),
            ("GET", Some("navigate, cors"), Some(html), false),
            // What must not be sent again by itself.
            ("POST", Some("navigate"), Some(html), false),
            ("HEAD", Some("navigate"), Some(html), false),
            ("PUT", Some("navigate"), Some(html), false),
            ("get", Some("navigate"), Some(html), false),
        ] {
            let header = |name: &str| match name {
                "sec-fetch-mode" => mode.map(str::as_bytes),
                _ => accept.map(str::as_bytes),
            };
            assert_eq!(is_navigation(method, header), expected, "{method} {mode:?} {accept:?}");
        }
    }

    #[test]
    fn says_how_long_it_took_and_takes() {
        let text = |waited: u64, usual: Option<u64>| {
            let usual = usual.map(Duration::from_millis);
            page(Wait { waited: Duration::from_millis(waited), usual, starting: true })
        };
        let known = text(1_100, Some(5_400));
        assert!(known.contains("Waiting for 1 second. It is usually ready within 6 seconds."));
        assert!(known.contains(
            "<progress aria-label=\"Start\" aria-describedby=\"time\" value=\"1.1\" max=\"5.4\">"
        ));
        let late = text(9_000, Some(5_400));
        assert!(late.contains("Waiting for 9 seconds, longer than the usual 6 seconds."));
        assert!(late.contains("aria-describedby=\"time\"></progress>"));
        let new = text(130_000, None);
        assert!(new.contains("<p id=\"time\">Waiting for 2 minutes.</p>"), "{new}");
        for name in ["{what}", "{time}", "{progress}"] {
            assert!(PAGE.contains(name) && !new.contains(name), "{name}");
        }
    }

    #[test]
    fn needs_nothing_from_elsewhere() {
        for word in ["http://", "https://", "<script", "<link", "<img", "@import", "url("] {
            assert!(!PAGE.contains(word), "{word}");
        }
    }
}
