//! How a recorded request ended, and its hand-over.

use crate::model::{Reason, RevisionSpec};
use crate::stats::Nanos;
use crate::traces::{Kind, Recorded, Span, Tracer, Value};

use super::describe::OTHER;
use super::{GRPC_STATUS, Trace};
use crate::proxy::grpc;

/// How a request ended.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::proxy) struct Ending {
    /// The status that the client was told; none if it left before.
    pub(in crate::proxy) status: Option<u16>,
    /// What a gRPC call ended with, where the replica said so.
    pub(in crate::proxy) grpc: Option<grpc::Status>,
    /// Why tidegate answered itself, or cut the response.
    pub(in crate::proxy) reason: Option<Reason>,
    /// Bytes of the response's body.
    pub(in crate::proxy) bytes: u64,
}

impl Ending {
    /// Of which type the failure is, if it is one of ours or of the replica's.
    fn error(&self) -> Option<String> {
        let failed = self.status.filter(|status| *status >= 500);
        match self.reason {
            // What a client did wrong is no failure here.
            Some(reason) if failed.is_some() || self.status.is_none_or(|status| status < 400) => {
                Some(reason.token().to_owned())
            }
            _ => failed.map(|status| status.to_string()).or_else(|| {
                let failed = self.grpc.filter(|status| status.is_failure());
                failed.map(|status| status.name().to_owned())
            }),
        }
    }
}

impl Trace {
    /// The request ended; `spec` is of its revision, if that was found.
    pub(in crate::proxy) fn end(
        self,
        now: Nanos,
        ending: Ending,
        spec: Option<&RevisionSpec>,
        tracer: &Tracer,
    ) {
        tracer.finish(self.recorded(now, ending, spec));
    }

    pub(super) fn recorded(
        mut self,
        now: Nanos,
        ending: Ending,
        spec: Option<&RevisionSpec>,
    ) -> Recorded {
        // Cut, which is the replica's failure or ours; or given up, as the client or a timer did.
        let cut = ending.reason.map(|reason| (reason.token(), String::new()));
        self.end_attempt(now, cut, ending.grpc);
        let mut attributes = std::mem::take(&mut self.attributes);
        if let Some(status) = ending.status {
            attributes.push(("http.response.status_code", status.into()));
        }
        if let Some(status) = ending.grpc {
            attributes.push((GRPC_STATUS, status.code().into()));
        }
        // What tidegate says itself is not counted.
        if ending.bytes > 0 || ending.reason.is_none() {
            let bytes = i64::try_from(ending.bytes).unwrap_or(i64::MAX);
            attributes.push(("http.response.body.size", Value::Number(bytes)));
        }
        if let Some(reason) = ending.reason {
            attributes.push(("tidegate.reason", reason.token().into()));
        }
        if let Some(spec) = spec {
            attributes.push(("k8s.namespace.name", spec.id.namespace.to_string().into()));
            attributes.push(("kn.revision.name", spec.id.name.to_string().into()));
            attributes.push(("kn.configuration.name", spec.configuration.to_string().into()));
            let service = spec.service.as_ref();
            attributes.extend(service.map(|id| ("kn.service.name", id.name.to_string().into())));
        }
        let error = ending.error();
        if let Some(kind) = &error {
            attributes.push(("error.type", kind.clone().into()));
        }
        let (own, parent) = (self.decision.own, self.decision.parent);
        self.spans.push(Span {
            id: own.span,
            parent: parent.map(|parent| parent.span),
            is_parent_remote: parent.is_some(),
            // Paths are too many to be in a name; methods that nobody knows, too.
            name: if self.method == OTHER { "HTTP" } else { self.method }.into(),
            kind: Kind::Server,
            start: self.wall.of(self.arrived),
            end: self.wall.of(now),
            attributes,
            events: Vec::new(),
            // The type says it all.
            error: error.map(|_| String::new()),
        });
        let (trace, flags) = (own.trace, own.flags());
        Recorded { trace, flags, state: self.state, spans: self.spans }
    }
}
