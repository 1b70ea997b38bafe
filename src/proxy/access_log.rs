//! The access log: one JSON line a request, with the fields of Knative's request log template.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Version;

use crate::model::{Reason, RevisionId, ServiceId};
use crate::traces::SpanContext;

/// Takes a line that ends with a line feed; must not block.
pub type LineSink = Arc<dyn Fn(Vec<u8>) + Send + Sync>;

/// Settings of the access log.
#[derive(Clone)]
pub struct AccessLog {
    /// Share of requests that are logged, 0–1.
    pub sample: f64,
    /// Where the lines go.
    pub sink: LineSink,
}

impl std::fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessLog").field("sample", &self.sample).finish_non_exhaustive()
    }
}

/// What is known of a request when it arrives; kept until it ends.
#[derive(Debug)]
pub(super) struct Record {
    method: String,
    url: String,
    protocol: Version,
    host: String,
    user_agent: String,
    referer: String,
    client: IpAddr,
    request_id: String,
    trace_parent: String,
}

/// How it ended.
#[derive(Debug)]
pub(super) struct Ending<'a> {
    pub(super) status: Option<u16>,
    pub(super) reason: Option<Reason>,
    pub(super) bytes: u64,
    pub(super) took: Duration,
    pub(super) waited: Duration,
    pub(super) revision: &'a RevisionId,
    pub(super) service: Option<&'a ServiceId>,
    pub(super) configuration: &'a str,
    pub(super) endpoint: Option<std::net::SocketAddr>,
}

impl Record {
    /// Keeps what the log needs; `header` finds a header's value.
    pub(super) fn new<'a>(
        method: &str,
        url: &str,
        protocol: Version,
        host: &str,
        client: IpAddr,
        header: impl Fn(&str) -> Option<&'a [u8]>,
    ) -> Box<Self> {
        let text = |name: &str| {
            header(name).map(|v| String::from_utf8_lossy(v).into_owned()).unwrap_or_default()
        };
        Box::new(Self {
            method: method.to_owned(),
            url: url.to_owned(),
            protocol,
            host: host.to_owned(),
            user_agent: text("user-agent"),
            referer: text("referer"),
            client,
            request_id: text("x-request-id"),
            trace_parent: text("traceparent"),
        })
    }

    /// The request is recorded in this trace.
    pub(super) fn traced(&mut self, context: SpanContext) {
        self.trace_parent = String::from_utf8_lossy(&context.to_header()).into_owned();
    }

    /// Writes the line.
    pub(super) fn write(&self, ending: &Ending<'_>, sink: &LineSink) {
        let line = serde_json::json!({
            "httpRequest": {
                "requestMethod": self.method,
                "requestUrl": self.url,
                "requestHost": self.host,
                "status": ending.status,
                "responseSize": ending.bytes.to_string(),
                "userAgent": self.user_agent,
                "remoteIp": self.client.to_string(),
                "serverIp": ending.endpoint.map(|e| e.to_string()),
                "referer": self.referer,
                "latency": format!("{:.6}s", ending.took.as_secs_f64()),
                "protocol": format!("{:?}", self.protocol),
            },
            "traceId": self.trace_parent,
            "requestId": self.request_id,
            "queueWait": format!("{:.6}s", ending.waited.as_secs_f64()),
            "reason": ending.reason.map(Reason::token),
            "revision": {
                "name": &*ending.revision.name,
                "namespace": &*ending.revision.namespace,
                "service": ending.service.map(|s| &*s.name),
                "configuration": ending.configuration,
            },
        });
        let mut line = line.to_string().into_bytes();
        line.push(b'\n');
        sink(line);
    }
}
