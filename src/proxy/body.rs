//! The body of a response on its way to the client, holding what the request took until its end.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::grpc;
use super::relay::Relay;
use super::sweep::Fired;

/// Why a response that had begun was cut.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cut {
    /// The endpoint broke off.
    #[error("the replica broke off: {0}")]
    Upstream(#[from] hyper::Error),
    /// The endpoint broke off on the direct path.
    #[error("the replica broke off: {0}")]
    Broken(#[from] std::io::Error),
    /// The endpoint ended before what it announced, or otherwise than it should.
    #[error("the replica ended the response early")]
    Short,
    /// A timer.
    #[error("{0}")]
    Timeout(crate::model::Reason),
}

/// What may be wrong with an end that looks clean: HTTP/2 ends of two kinds look alike from here.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// Bytes still to come, where the response said how many.
    pub(super) bytes: Option<u64>,
    /// gRPC: the end is in trailers.
    pub(super) trailers: bool,
}

/// The body of a response.
#[derive(Debug)]
pub(super) struct ResponseBody(Kind);

#[derive(Debug)]
enum Kind {
    Text(Option<Bytes>),
    Stream(Stream),
}

#[derive(Debug)]
struct Stream {
    incoming: Incoming,
    relay: Option<Box<Relay>>,
    expected: Expected,
}

impl ResponseBody {
    pub(super) fn empty() -> Self {
        Self(Kind::Text(None))
    }

    pub(super) fn text(text: impl Into<Bytes>) -> Self {
        Self(Kind::Text(Some(text.into())))
    }

    /// Whether it is tidegate's own.
    pub(super) fn is_text(&self) -> bool {
        matches!(self.0, Kind::Text(_))
    }

    /// tidegate's own text; nothing of what a replica says.
    pub(super) fn into_text(self) -> Bytes {
        match self.0 {
            Kind::Text(text) => text.unwrap_or_default(),
            Kind::Stream(_) => Bytes::new(),
        }
    }

    pub(super) fn stream(incoming: Incoming, relay: Box<Relay>, expected: Expected) -> Self {
        let mut stream = Stream { incoming, relay: Some(relay), expected };
        if stream.incoming.is_end_stream() && !stream.expected.trailers {
            // hyper does not poll a body that is empty from the start.
            stream.complete();
        }
        Self(Kind::Stream(stream))
    }
}

impl Stream {
    /// The response ended in order.
    fn complete(&mut self) {
        if let Some(mut relay) = self.relay.take() {
            relay.complete();
        }
    }

    fn cut(&mut self, cut: Cut) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(mut relay) = self.relay.take() {
            relay.cut(&cut);
        }
        Poll::Ready(Some(Err(cut)))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let Some(relay) = &mut self.relay else { return Poll::Ready(None) };
        if let Some(Fired::Timeout(reason)) = relay.exchange.timer().fired() {
            return self.cut(Cut::Timeout(reason));
        }
        loop {
            let Some(relay) = &mut self.relay else { return Poll::Ready(None) };
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Pending => {
                    relay.exchange.timer().register(cx.waker());
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) => {
                    if let Some(data) = frame.data_ref() {
                        relay.exchange.sent(data.len());
                        if let Some(left) = &mut self.expected.bytes {
                            *left = left.saturating_sub(data.len() as u64);
                        }
                        // Never forwarded: a peer may count empty frames as an attack.
                        if data.is_empty() && !self.incoming.is_end_stream() {
                            continue;
                        }
                    } else if let Some(trailers) = frame.trailers_ref()
                        && std::mem::take(&mut self.expected.trailers)
                    {
                        relay.exchange.call_ended(grpc::Status::of(trailers));
                    }
                    if self.incoming.is_end_stream() && self.ends_in_order() {
                        self.complete();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(Some(Err(error))) => return self.cut(Cut::Upstream(error)),
                Poll::Ready(None) if self.ends_in_order() => {
                    self.complete();
                    return Poll::Ready(None);
                }
                Poll::Ready(None) => return self.cut(Cut::Short),
            }
        }
    }

    fn ends_in_order(&self) -> bool {
        !self.expected.trailers && self.expected.bytes.unwrap_or(0) == 0
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut self.0 {
            Kind::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Kind::Stream(stream) => stream.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Text(text) => text.is_none(),
            Kind::Stream(stream) => stream.relay.is_none() && stream.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |t| t.len() as u64)),
            Kind::Stream(stream) => stream.incoming.size_hint(),
        }
    }
}
