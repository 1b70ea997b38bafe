//! One request to a replica and its response to the client, all in the client connection's task:
//! no channel and no second task stands between the two sockets.

use std::future::poll_fn;
use std::ops::Range;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::HeaderValue;

use crate::model::{Problem, Reason};
use crate::proxy::attempt::{Again, Attempts, Stop, admit, admit_at_once, after_failure};
use crate::proxy::body::Cut;
use crate::proxy::exchange::Exchange;
use crate::proxy::forwarded::X_REQUEST_ID;
use crate::proxy::shared::DrainState;
use crate::proxy::worker::{LocalEndpoint, Worker};
use crate::traces::SpanContext;
use crate::upstream::{SendError, Sent, SharedIo};

use super::buffers::{Buffers, SMALL_BYTES};
use super::client::{Client, End};
use super::response::{self, Asked, HEAD_BYTES_MAX, Parsed};
use crate::proxy::framing::{Framing, Then};

/// How long a client has to take an answer of our own.
const OWN_ANSWER_TIME: Duration = Duration::from_secs(10);

/// A body up to this size goes out in one piece with its head: a copy is cheaper than a second
/// piece.
const COPIED_BYTES_MAX: usize = 4 * 1024;

/// A request as it goes to a replica: all of it, so that it can be sent again.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) bytes: Vec<u8>,
    pub(super) replayable: bool,
    pub(super) asked: Asked,
    /// Where in it the request's id is, for answers of our own.
    pub(super) id: Range<usize>,
}

/// On the way down, responses close their connections.
fn asked_now(worker: &Worker, asked: Asked) -> Asked {
    let draining = worker.shared.drain_state() >= DrainState::Draining;
    Asked { close: asked.close || draining, ..asked }
}

/// Whether the connection to the client can carry another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    KeepAlive,
    Close,
}

/// A replica's response, as far as it is there.
struct Answer {
    endpoint: Rc<LocalEndpoint>,
    io: SharedIo,
    head: response::Head,
    /// What was read from the replica.
    input: Vec<u8>,
    /// The head for the client, and what it says of the connection.
    out: Vec<u8>,
    asked: Asked,
    /// Whether the whole request went out.
    sent: bool,
}

/// Carries one request.
pub(super) async fn transfer(
    mut exchange: Exchange,
    mut outgoing: Outgoing,
    client: &mut Client<'_>,
) -> After {
    let answer = match attempts(&mut exchange, &mut outgoing, client).await {
        Ok(answer) => answer,
        Err(Stop::Gone) => return After::Close,
        Err(Stop::Refuse(problem)) => {
            return Box::pin(refuse(exchange, outgoing, client, problem)).await;
        }
    };
    exchange.worker.buffers.give(outgoing.bytes);
    let close = answer.asked.close;
    match relay(&mut exchange, answer, client).await {
        Ok(()) if close => After::Close,
        Ok(()) => After::KeepAlive,
        Err(End::Cut(cut)) => {
            exchange.cut(&cut);
            After::Close
        }
        Err(End::Gone) => After::Close,
    }
}

async fn attempts(
    exchange: &mut Exchange,
    outgoing: &mut Outgoing,
    client: &mut Client<'_>,
) -> Result<Answer, Stop> {
    let mut attempts = Attempts::default();
    loop {
        if !admit_at_once(exchange, attempts.avoid) {
            Box::pin(wait(exchange, outgoing, client, attempts.avoid)).await?;
            exchange.note(&outgoing.bytes[outgoing.id.clone()], None);
        }
        let Some(endpoint) = exchange.hold.endpoint().map(Rc::clone) else {
            return Err(Stop::Gone);
        };
        let now = if attempts.failed == 0 {
            exchange.arrived
        } else {
            exchange.worker.shared.clock.now()
        };
        if let Some(told) = exchange.attempt(&endpoint) {
            name_caller(exchange, &mut outgoing.bytes, told);
        }
        let attempted = match endpoint.pool.take_direct(now) {
            Some((io, _)) => attempt(exchange, &endpoint, io, true, outgoing, client).await?,
            // Boxed: what is rare is not to make the future of every connection larger.
            None => match Box::pin(open(exchange, &endpoint, client)).await? {
                Ok(io) => {
                    exchange.connected();
                    attempt(exchange, &endpoint, io, false, outgoing, client).await?
                }
                Err(error) => Err(error),
            },
        };
        match attempted {
            Ok(answer) => {
                endpoint.state.connected();
                return Ok(answer);
            }
            Err(error) => {
                let again = Again { whole: true, replayable: outgoing.replayable };
                Box::pin(after_failure(exchange, &endpoint, &error, again, &mut attempts)).await?;
            }
        }
    }
}

/// Tells the replica which span it is called by.
fn name_caller(exchange: &Exchange, bytes: &mut [u8], told: SpanContext) {
    let digits = told.span.digits();
    let at = exchange.trace.as_ref().map(|trace| trace.span_at..trace.span_at + digits.len());
    if let Some(named) = at.and_then(|at| bytes.get_mut(at)) {
        named.copy_from_slice(&digits);
    }
}

/// Takes a slot: at once, or after waiting in line with no more memory than the request needs.
async fn wait(
    exchange: &mut Exchange,
    outgoing: &mut Outgoing,
    client: &mut Client<'_>,
    avoid: Option<u64>,
) -> Result<(), Stop> {
    let worker = Rc::clone(&exchange.worker);
    let mut admitted = pin!(admit(exchange, avoid));
    poll_fn(|cx| {
        if client.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Stop::Gone));
        }
        let admitted = admitted.as_mut().poll(cx);
        if admitted.is_pending() && outgoing.bytes.capacity() == SMALL_BYTES {
            let exact = outgoing.bytes.as_slice().to_vec();
            worker.buffers.give(std::mem::replace(&mut outgoing.bytes, exact));
        }
        admitted
    })
    .await
}

async fn open(
    exchange: &Exchange,
    endpoint: &LocalEndpoint,
    client: &mut Client<'_>,
) -> Result<Result<SharedIo, SendError>, Stop> {
    let mut opening = pin!(endpoint.pool.open_direct());
    poll_fn(|cx| match client.poll_gone(cx) {
        Poll::Ready(()) => Poll::Ready(Err(Stop::Gone)),
        Poll::Pending => {
            exchange.timer().poll_unless_fired(opening.as_mut(), cx).map_err(Stop::from)
        }
    })
    .await
}

/// Sends the request on this connection and reads the head of the response.
async fn attempt(
    exchange: &Exchange,
    endpoint: &Rc<LocalEndpoint>,
    io: SharedIo,
    reused: bool,
    outgoing: &Outgoing,
    client: &mut Client<'_>,
) -> Result<Result<Answer, SendError>, Stop> {
    let mut sending = Sending {
        exchange,
        io: &io,
        outgoing,
        sent: 0,
        reused,
        input: Vec::new(),
        out: exchange.worker.buffers.small(),
        asked: outgoing.asked,
    };
    let received = poll_fn(|cx| {
        if let Some(fired) = exchange.timer().fired() {
            return Poll::Ready(Err(Stop::from(fired)));
        }
        if let Poll::Ready(received) = sending.poll(cx) {
            return Poll::Ready(Ok(received));
        }
        if client.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Stop::Gone));
        }
        exchange.timer().register(cx.waker());
        Poll::Pending
    })
    .await;
    let Sending { sent, input, out, asked, .. } = sending;
    let buffers = &exchange.worker.buffers;
    match received {
        Ok(Ok(head)) => {
            let sent = sent == outgoing.bytes.len();
            Ok(Ok(Answer { endpoint: Rc::clone(endpoint), io, head, input, out, asked, sent }))
        }
        Ok(Err(error)) => {
            buffers.give(input);
            buffers.give(out);
            Ok(Err(error))
        }
        Err(stop) => Err(stop),
    }
}

/// A request on its way out, and what comes back meanwhile.
struct Sending<'a> {
    exchange: &'a Exchange,
    io: &'a SharedIo,
    outgoing: &'a Outgoing,
    sent: usize,
    reused: bool,
    input: Vec<u8>,
    out: Vec<u8>,
    asked: Asked,
}

impl Sending<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<response::Head, SendError>> {
        while self.sent < self.outgoing.bytes.len() {
            match self.io.poll_send(cx, &self.outgoing.bytes[self.sent..]) {
                Poll::Ready(Ok(n)) if n > 0 => self.sent += n,
                // It may have said why before it closed.
                Poll::Ready(Ok(_) | Err(_)) if self.sent > 0 => break,
                Poll::Ready(Ok(_)) => return Poll::Ready(Err(self.broke("connection closed"))),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.broke(&error))),
                // It may answer without having read all.
                Poll::Pending => break,
            }
        }
        loop {
            match ready!(poll_read(self.io, &self.exchange.worker.buffers, &mut self.input, cx)) {
                Ok(0) => return Poll::Ready(Err(self.broke("connection closed"))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(self.broke(&error))),
            }
            if let Some(head) = self.parse() {
                return Poll::Ready(head);
            }
        }
    }

    /// The head, if it is there.
    fn parse(&mut self) -> Option<Result<response::Head, SendError>> {
        let worker = &self.exchange.worker;
        let now = self.exchange.arrived;
        self.asked = asked_now(worker, self.outgoing.asked);
        loop {
            let date = |out: &mut Vec<u8>| worker.date.write(now, out);
            match response::read(&self.input, self.asked, &mut self.out, date) {
                Parsed::Partial if self.input.len() >= HEAD_BYTES_MAX => {
                    return Some(Err(self.broke("the head of its response is too large")));
                }
                Parsed::Partial => return None,
                Parsed::Informational(bytes) => drop(self.input.drain(..bytes)),
                Parsed::Final(head) => return Some(Ok(head)),
                Parsed::Bad(why) => return Some(Err(self.broke(why))),
            }
        }
    }

    fn broke(&self, why: impl ToString) -> SendError {
        let sent = match self.sent {
            0 => Sent::Nothing,
            _ if self.reused && self.input.is_empty() => Sent::Unanswered,
            _ => Sent::Some,
        };
        SendError { reason: Reason::UpstreamBroke, sent, message: why.to_string() }
    }
}

/// Reads into a buffer that is taken when there is something to read, and grows when it is full.
fn poll_read(
    io: &SharedIo,
    buffers: &Buffers,
    input: &mut Vec<u8>,
    cx: &mut Context<'_>,
) -> Poll<std::io::Result<usize>> {
    if input.capacity() == 0 {
        ready!(io.poll_readable(cx))?;
        *input = buffers.small();
    }
    if input.len() == input.capacity() {
        input.reserve(SMALL_BYTES);
    }
    io.poll_fill(cx, input)
}

/// Passes a response on.
async fn relay(
    exchange: &mut Exchange,
    answer: Answer,
    client: &mut Client<'_>,
) -> Result<(), End> {
    let Answer { endpoint, io, mut head, mut input, mut out, sent, .. } = answer;
    exchange.answered();
    exchange.respond(head.status);
    let idle = exchange.local.with_spec(|spec| spec.timeouts.idle);
    let now = match idle {
        Some(_) => exchange.worker.shared.clock.now(),
        None => exchange.arrived,
    };
    exchange.timer().response_started(idle, None, now);
    let close_delimited = head.framing == Framing::Close;
    let mut start = head.bytes;
    let mut first = true;
    loop {
        let bytes = &input[start..];
        let piece = head.framing.consume(bytes);
        exchange.sent(piece.content);
        if piece.then == Then::End {
            let clean = sent && piece.taken == bytes.len();
            let now = exchange.complete();
            if let Some(keep) = head.keep.filter(|_| clean) {
                endpoint.pool.put_direct(io.clone(), now, keep);
            }
            // The replica has done its part; the client may take its time.
            exchange.release();
        }
        let body = &bytes[..piece.taken];
        let timer = Some(&**exchange.timer());
        if close_delimited && !body.is_empty() {
            out.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
            out.extend_from_slice(body);
            out.extend_from_slice(b"\r\n");
            client.send(timer, &out, b"").await?;
        } else if body.len() <= COPIED_BYTES_MAX && !out.is_empty() {
            out.extend_from_slice(body);
            client.send(timer, &out, b"").await?;
        } else {
            client.send(timer, &out, body).await?;
        }
        match piece.then {
            Then::More => {}
            Then::End => break,
            Then::Malformed => return Err(End::Cut(Cut::Short)),
        }
        if first {
            first = false;
            grow(&exchange.worker.buffers, &head.framing, &mut input);
        }
        out.clear();
        input.clear();
        start = 0;
        match read_more(exchange, &io, &mut input, client).await? {
            0 if close_delimited => {
                exchange.complete();
                exchange.release();
                client.send(Some(exchange.timer()), b"0\r\n\r\n", b"").await?;
                break;
            }
            0 => return Err(End::Cut(Cut::Short)),
            _ => {}
        }
    }
    exchange.worker.buffers.give(input);
    exchange.worker.buffers.give(out);
    Ok(())
}

/// A body that is long gets a larger buffer.
fn grow(buffers: &Buffers, framing: &Framing, input: &mut Vec<u8>) {
    let long = match framing {
        Framing::Length(left) => *left > SMALL_BYTES as u64,
        Framing::Chunked(_) | Framing::Close => input.len() == input.capacity(),
    };
    if long {
        buffers.give(std::mem::replace(input, buffers.large()));
    }
}

async fn read_more(
    exchange: &Exchange,
    io: &SharedIo,
    input: &mut Vec<u8>,
    client: &mut Client<'_>,
) -> Result<usize, End> {
    poll_fn(|cx| {
        if let Some(fired) = exchange.timer().fired() {
            return Poll::Ready(Err(End::from(fired)));
        }
        match poll_read(io, &exchange.worker.buffers, input, cx) {
            Poll::Ready(Ok(n)) => return Poll::Ready(Ok(n)),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(End::Cut(Cut::Broken(error)))),
            Poll::Pending => {}
        }
        if client.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(End::Gone));
        }
        exchange.timer().register(cx.waker());
        Poll::Pending
    })
    .await
}

/// tidegate answers itself.
async fn refuse(
    mut exchange: Exchange,
    outgoing: Outgoing,
    client: &mut Client<'_>,
    problem: Problem,
) -> After {
    exchange.refuse(&problem);
    exchange.note(&outgoing.bytes[outgoing.id.clone()], Some(&problem));
    let mut response = exchange.refusal(&problem, false);
    if let Ok(id) = HeaderValue::from_bytes(&outgoing.bytes[outgoing.id]) {
        response.headers_mut().insert(X_REQUEST_ID.clone(), id);
    }
    let worker = Rc::clone(&exchange.worker);
    let arrived = exchange.arrived;
    // It has ended, and with it its deadlines: one that has passed must not cut the answer off.
    drop(exchange);
    let mut out = worker.buffers.small();
    let date = |out: &mut Vec<u8>| worker.date.write(arrived, out);
    let asked = asked_now(&worker, outgoing.asked);
    response::write_own(response, asked, &mut out, date);
    let sent = tokio::time::timeout(OWN_ANSWER_TIME, client.send(None, &out, b"")).await;
    worker.buffers.give(out);
    match sent {
        Ok(Ok(())) if !asked.close => After::KeepAlive,
        _ => After::Close,
    }
}
