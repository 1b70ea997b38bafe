//! The paths of the admin listener.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode, Uri};
use http_body_util::Full;
use serde::Serialize;
use serde_json::{Value, json};

use super::dashboard::{File, is_for_a_person, redirect};
use super::metrics::{Format, classic_families, own_families};
use super::order::Declined;
use super::view::{Lines, Views};
use crate::model::RevisionId;
use crate::server::Answer;

const INDEX: &str = "\
tidegate
/dashboard                                       for people: what happens now
/livez                                           the process is alive
/readyz                                          it accepts traffic
/metrics                                         for Prometheus
/metrics/knative                                 the classic names of Knative's dashboards
/api/v1/services                                 services as JSON
/api/v1/revisions                                revisions as JSON
/api/v1/revisions/NAMESPACE/NAME                 one of them
/api/v1/revisions/NAMESPACE/NAME/decisions       the autoscaler's last decisions
/api/v1/revisions/NAMESPACE/NAME/logs            the last lines that its replicas printed
/api/v1/export                                   all that is in effect, as objects of Kubernetes
/api/v1/requests/ID                              a request that waited or was refused, lately

To be told, with POST and Content-Type: application/json
/api/v1/revisions/NAMESPACE/NAME/wake            start a replica if there is none
/api/v1/revisions/NAMESPACE/NAME/restart         replace its replicas
/api/v1/services/NAMESPACE/NAME/traffic          other shares of traffic
";

enum Page {
    Index,
    Dashboard(File),
    Live,
    Ready,
    Metrics { classic: bool },
    Services,
    Revisions,
    Revision(RevisionId),
    Decisions(RevisionId),
    Logs(RevisionId),
    Requests(String),
}

impl Page {
    fn find(path: &str) -> Option<Self> {
        if let Some(file) = File::find(path) {
            return Some(Self::Dashboard(file));
        }
        let segments: Vec<_> = path.split('/').skip(1).collect();
        Some(match segments[..] {
            [""] => Self::Index,
            ["livez"] => Self::Live,
            ["readyz"] => Self::Ready,
            ["metrics"] => Self::Metrics { classic: false },
            ["metrics", "knative"] => Self::Metrics { classic: true },
            ["api", "v1", "services"] => Self::Services,
            ["api", "v1", "revisions"] => Self::Revisions,
            ["api", "v1", "revisions", namespace, name] => {
                Self::Revision(RevisionId::new(namespace, name))
            }
            ["api", "v1", "revisions", namespace, name, "decisions"] => {
                Self::Decisions(RevisionId::new(namespace, name))
            }
            ["api", "v1", "revisions", namespace, name, "logs"] => {
                Self::Logs(RevisionId::new(namespace, name))
            }
            ["api", "v1", "requests", id] => Self::Requests(decoded(id)?),
            _ => return None,
        })
    }
}

/// Answers a request that was let in.
pub(super) fn answer(method: &Method, uri: &Uri, headers: &HeaderMap, views: &Views) -> Answer {
    let Some(page) = Page::find(uri.path()) else {
        return error(StatusCode::NOT_FOUND, "no such path; / lists all");
    };
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, "this path is only read: use GET");
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    match page {
        Page::Index if is_for_a_person(headers) => redirect(),
        Page::Dashboard(file) => file.answer(),
        Page::Index => text(StatusCode::OK, INDEX),
        Page::Live => text(StatusCode::OK, "ok\n"),
        Page::Ready => {
            let readiness = (views.readiness)();
            let status =
                if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            text(status, readiness.state + "\n")
        }
        Page::Metrics { classic } => metrics(headers, views, classic),
        Page::Services => as_json(&(views.services)()),
        Page::Revisions => as_json(&(views.revisions)()),
        Page::Revision(id) => found(&id, (views.revision)(&id)),
        Page::Decisions(id) => found(&id, (views.decisions)(&id)),
        Page::Logs(id) => match lines(uri.query().unwrap_or_default()) {
            Ok(asked) => found(&id, (views.logs)(&id, asked)),
            Err(why) => error(StatusCode::BAD_REQUEST, &why),
        },
        Page::Requests(id) => as_json(&json!({"requests": (views.requests)(&id)})),
    }
}

/// A part of a path, without its percent-encoding (RFC 3986 §2.1).
fn decoded(part: &str) -> Option<String> {
    percent_encoding::percent_decode_str(part).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// Which lines a query asks for.
fn lines(query: &str) -> Result<Lines, String> {
    let mut lines = Lines::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let bad = || format!("{pair:?} means nothing here: write after=NUMBER or tail=NUMBER");
        let (key, value) = pair.split_once('=').ok_or_else(bad)?;
        match (key, value.parse::<u64>().map_err(|_error| bad())?) {
            ("after", number) => lines.after = number,
            ("tail", count) => lines.tail = Some(usize::try_from(count).unwrap_or(usize::MAX)),
            _ => return Err(bad()),
        }
    }
    Ok(lines)
}

/// What became of an order.
pub(super) fn done(done: Result<Value, Declined>) -> Answer {
    match done {
        Ok(value) => as_json(&value),
        Err(declined) => {
            let mut answer = error(declined.status, &declined.message);
            if declined.status == StatusCode::METHOD_NOT_ALLOWED {
                answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            }
            answer
        }
    }
}

fn metrics(headers: &HeaderMap, views: &Views, classic: bool) -> Answer {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::negotiate(accept);
    let input = (views.metrics)();
    let families = if classic { classic_families(&input) } else { own_families(&input) };
    match format.write(families) {
        Ok(body) => typed(StatusCode::OK, format.content_type(), body),
        Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be written"),
    }
}

fn found<T: Serialize>(id: &RevisionId, view: Option<T>) -> Answer {
    match view {
        Some(view) => as_json(&view),
        None => {
            error(StatusCode::NOT_FOUND, &format!("no revision {id}; /api/v1/revisions lists all"))
        }
    }
}

fn as_json(view: &impl Serialize) -> Answer {
    match serde_json::to_string(view) {
        Ok(body) => typed(StatusCode::OK, "application/json", body + "\n"),
        Err(problem) => error(StatusCode::INTERNAL_SERVER_ERROR, &problem.to_string()),
    }
}

/// The answer to who does not show the token (RFC 6750 §3).
pub(super) fn unauthorized() -> Answer {
    let mut answer = error(
        StatusCode::UNAUTHORIZED,
        "this needs the token: Authorization: Bearer TOKEN (tidegate status: add \
         --admin-token-file FILE)",
    );
    let challenge = HeaderValue::from_static("Bearer realm=\"tidegate\"");
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    answer
}

/// An error as every path gives it.
pub(super) fn error(status: StatusCode, message: &str) -> Answer {
    let body = json!({ "status": status.as_u16(), "message": message });
    typed(status, "application/json", format!("{body}\n"))
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    typed(status, "text/plain; charset=utf-8", body)
}

pub(super) fn typed(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    // State of one moment; and nothing here is to be guessed to be a page.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
