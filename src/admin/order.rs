//! What the JSON API can be told to do: requests with `POST` and a JSON body; and what it has to ask
//! others for.

use futures_util::future::BoxFuture;
use http::{Method, StatusCode, Uri};
use serde::{Deserialize, Serialize};

use crate::model::{RevisionId, ServiceId};

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// `POST /api/v1/revisions/NAMESPACE/NAME/wake`: starts a replica if there is none, as a request
    /// would, and waits for it.
    Wake(RevisionId),
    /// `POST /api/v1/revisions/NAMESPACE/NAME/restart`: replaces its replicas.
    Restart(RevisionId),
    /// `POST /api/v1/services/NAMESPACE/NAME/traffic`: other shares of traffic.
    Traffic(ServiceId, TrafficOrder),
    /// `GET /api/v1/export`: all that is in effect.
    Export {
        /// With the values of Secrets (`?secrets=true`).
        secrets: bool,
    },
}

/// Body of an order for traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrafficOrder {
    /// New shares, which add up to 100. Tags stay where they are.
    #[serde(default)]
    pub targets: Vec<TrafficTarget>,
    /// In place of `targets`: all to the revision before the newest one with traffic.
    #[serde(default)]
    pub rollback: bool,
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
}

/// A share: of a revision by name, or of the latest one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrafficTarget {
    /// Name of the revision; none = the latest ready one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_name: Option<String>,
    /// Per cent.
    pub percent: u8,
}

/// Why an order is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declined {
    /// The answer's status.
    pub status: StatusCode,
    /// What is wrong and what to do.
    pub message: String,
}

impl Declined {
    /// A reason with its status.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// There is nothing of that name.
    pub fn unknown(what: &str, id: &RevisionId) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("no {what} {id}; /api/v1/{what}s lists all"))
    }
}

/// Carries out orders. Called on the admin thread; what is answered is JSON.
pub type Orders =
    Box<dyn Fn(Order) -> BoxFuture<'static, Result<serde_json::Value, Declined>> + Send + Sync>;

/// The order that a request is; none where the path is only read.
///
/// # Errors
/// It is one, with another method or a body that does not say what is meant.
pub(super) fn read(method: &Method, uri: &Uri, body: &[u8]) -> Option<Result<Order, Declined>> {
    let segments: Vec<_> = uri.path().split('/').skip(1).collect();
    if let ["api", "v1", "export"] = segments[..] {
        return (*method == Method::GET).then(|| export(uri.query().unwrap_or_default()));
    }
    let ["api", "v1", kind, namespace, name, what] = segments[..] else { return None };
    let id = || RevisionId::new(namespace, name);
    let order = match (kind, what) {
        ("revisions", "wake") => Ok(Order::Wake(id())),
        ("revisions", "restart") => Ok(Order::Restart(id())),
        ("services", "traffic") => {
            if *method == Method::POST {
                traffic(body).map(|traffic| Order::Traffic(id(), traffic))
            } else {
                Ok(Order::Traffic(id(), TrafficOrder::default()))
            }
        }
        _ => return None,
    };
    if *method != Method::POST {
        let message = "this path is an order: use POST with Content-Type: application/json";
        return Some(Err(Declined::new(StatusCode::METHOD_NOT_ALLOWED, message)));
    }
    Some(order)
}

fn export(query: &str) -> Result<Order, Declined> {
    match query {
        "" | "secrets=false" => Ok(Order::Export { secrets: false }),
        "secrets=true" => Ok(Order::Export { secrets: true }),
        _ => Err(Declined::new(StatusCode::BAD_REQUEST, "write /api/v1/export?secrets=true")),
    }
}

fn traffic(body: &[u8]) -> Result<TrafficOrder, Declined> {
    let decline = |text: String| {
        let example = "{\"targets\": [{\"revisionName\": \"hello-00001\", \"percent\": 100}]}";
        Declined::new(StatusCode::BAD_REQUEST, format!("{text}; write {example}"))
    };
    let order: TrafficOrder =
        serde_json::from_slice(body).map_err(|error| decline(error.to_string()))?;
    if order.rollback != order.targets.is_empty() {
        return Err(decline("either targets or rollback".to_owned()));
    }
    let sum: u32 = order.targets.iter().map(|target| u32::from(target.percent)).sum();
    if !order.rollback && sum != 100 {
        return Err(decline(format!("the shares add up to {sum}, not to 100")));
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(method: &Method, path: &str, body: &str) -> String {
        match read(method, &path.parse().unwrap(), body.as_bytes()) {
            None => "no order".to_owned(),
            Some(Ok(order)) => format!("{order:?}"),
            Some(Err(declined)) => format!("{} {}", declined.status.as_u16(), declined.message),
        }
    }

    #[test]
    fn paths_that_are_orders() {
        let post = Method::POST;
        assert!(shown(&post, "/api/v1/revisions/ns/a-1/wake", "{}").starts_with("Wake("));
        assert!(shown(&post, "/api/v1/revisions/ns/a-1/restart", "").starts_with("Restart("));
        assert!(shown(&Method::GET, "/api/v1/revisions/ns/a/wake", "").starts_with("405 "));
        assert!(shown(&Method::GET, "/api/v1/services/ns/a/traffic", "").starts_with("405 "));
        let get = |path: &str| shown(&Method::GET, path, "");
        assert_eq!(get("/api/v1/export"), "Export { secrets: false }");
        assert_eq!(get("/api/v1/export?secrets=true"), "Export { secrets: true }");
        assert!(get("/api/v1/export?all").starts_with("400 "));
        for path in ["/api/v1/revisions/ns/a", "/api/v1/services/ns/a/wake", "/metrics", "/"] {
            assert_eq!(shown(&post, path, "{}"), "no order", "{path}");
        }
    }

    #[test]
    fn traffic_is_all_of_it() {
        let path = "/api/v1/services/ns/a/traffic";
        let order = |body: &str| shown(&Method::POST, path, body);
        let all = r#"{"targets": [{"revisionName": "a-1", "percent": 90}, {"percent": 10}]}"#;
        assert!(order(all).starts_with("Traffic("), "{}", order(all));
        assert!(order(r#"{"rollback": true, "dryRun": true}"#).contains("dry_run: true"));
        for (body, part) in [
            (r#"{"targets": [{"percent": 90}]}"#, "add up to 90"),
            (r#"{"targets": []}"#, "either targets or rollback"),
            (r#"{"targets": [{"percent": 100}], "rollback": true}"#, "either"),
            (r#"{"targets": [{"percent": 300}]}"#, "300"),
            (r#"{"target": []}"#, "unknown field"),
            ("", "EOF"),
        ] {
            assert!(order(body).starts_with("400 ") && order(body).contains(part), "{body}");
        }
    }
}
