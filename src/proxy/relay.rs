//! A request that hyper carries: what it is on its way out, and what its response holds.

use std::rc::Rc;

use http::HeaderValue;

use crate::model::Problem;
use crate::upstream::{Lease, Returned, SharedIo};

use super::body::Cut;
use super::exchange::Exchange;
use super::forwarded::X_REQUEST_ID;
use super::outgoing::Outgoing;

/// One request, its way out, and the connection that its response comes on.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) exchange: Exchange,
    /// The request as it goes on.
    pub(super) outgoing: Outgoing,
    pub(super) grpc: bool,
    pub(super) lease: Option<Lease>,
    pub(super) returned: Option<Rc<Returned>>,
    /// The client's socket, where a cut response must be a reset to be seen.
    pub(super) reset_if_cut: Option<SharedIo>,
}

impl Relay {
    pub(super) fn new(exchange: Exchange, outgoing: Outgoing, grpc: bool) -> Box<Self> {
        Box::new(Self { exchange, outgoing, grpc, lease: None, returned: None, reset_if_cut: None })
    }

    /// tidegate answers itself.
    pub(super) fn refuse(&mut self, problem: &Problem) {
        self.exchange.refuse(problem);
    }

    /// Has it noted that it waited, or why it is refused.
    pub(super) fn note(&mut self, problem: Option<&Problem>) {
        let id = self.outgoing.headers.get(&X_REQUEST_ID);
        self.exchange.note(id.map_or(b"", HeaderValue::as_bytes), problem);
    }

    /// The response ended in order.
    pub(super) fn complete(&mut self) {
        let now = self.exchange.complete();
        let uploaded = self.returned.as_ref().is_none_or(|r| r.is_finished());
        if let Some(lease) = self.lease.take() {
            // One whose upload has not ended is closed instead: it may never end.
            if uploaded {
                lease.finish(now);
            } else {
                // Its rest is to be read, or the client would lose the response to a reset.
                self.exchange.connection().refused_upload();
            }
        }
    }

    /// The response had begun and cannot be finished.
    pub(super) fn cut(&mut self, cut: &Cut) {
        self.exchange.cut(cut);
        if let Some(io) = &self.reset_if_cut {
            io.reset_on_close();
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Closes a connection that is in the middle of something, before its slot is free.
        self.lease = None;
    }
}
