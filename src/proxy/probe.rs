//! Probes of Knative's own parts, which a sidecar answers as queue-proxy does: the header
//! `K-Network-Probe` (`pkg/queue/health`, `knative.dev/networking/pkg/http/header`). They are
//! neither load nor log.

use http::header::HeaderValue;
use http::{HeaderMap, Response, StatusCode};

use super::body::ResponseBody;
use super::shared::{DrainState, Position};
use super::worker::Worker;

const NETWORK_PROBE: &str = "k-network-probe";
const NETWORK_HASH: &str = "k-network-hash";

impl Worker {
    /// Whether a load balancer may send requests: a sidecar is ready as its backend is.
    pub(super) fn is_ready(&self) -> bool {
        self.shared.drain_state() == DrainState::Serving
            && (self.shared.settings.position == Position::Edge || self.has_replica())
    }

    fn has_replica(&self) -> bool {
        self.with_snapshot(|snapshot| {
            let service = snapshot.default_service();
            let revision = service.and_then(|service| service.split.draw());
            revision.is_some_and(|revision| revision.stats().ready() > 0)
        })
    }
}

/// The answer to a probe; none if the request is none.
pub(super) fn network_probe(
    worker: &Worker,
    headers: &HeaderMap,
) -> Option<Response<ResponseBody>> {
    let probe = headers.get(NETWORK_PROBE).filter(|value| !value.is_empty())?;
    if worker.shared.drain_state() > DrainState::Serving {
        return Some(text(StatusCode::SERVICE_UNAVAILABLE, "shutting down"));
    }
    Some(match probe.as_bytes() {
        b"queue" if worker.is_ready() => text(StatusCode::OK, "queue"),
        b"queue" => text(StatusCode::SERVICE_UNAVAILABLE, ""),
        b"probe" => echo(headers.get(NETWORK_HASH)),
        other => {
            let value = String::from_utf8_lossy(other);
            text(StatusCode::BAD_REQUEST, &format!("unexpected probe header value: {value:?}"))
        }
    })
}

/// The ingress' probe: its hash comes back.
fn echo(hash: Option<&HeaderValue>) -> Response<ResponseBody> {
    let Some(hash) = hash.filter(|hash| !hash.is_empty()) else {
        return text(StatusCode::BAD_REQUEST, "a probe must have the header K-Network-Hash");
    };
    let mut response = text(StatusCode::OK, "");
    response.headers_mut().insert(NETWORK_HASH, hash.clone());
    response
}

fn text(status: StatusCode, body: &str) -> Response<ResponseBody> {
    let body =
        if body.is_empty() { ResponseBody::empty() } else { ResponseBody::text(body.to_owned()) };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}
