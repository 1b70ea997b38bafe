//! The direct path: plain HTTP/1.1 from a client to a replica without a library between the two
//! sockets, for a quarter of the instructions. It is the front door of every connection, and takes
//! only requests that have one meaning beyond doubt; the first other one, and all that follow it on
//! its connection, are hyper's.
//!
//! ```text
//! client ─▶ request.rs ─▶ transfer.rs ─▶ replica        what is not plain ─▶ hyper
//!        ◀─ response.rs ◀─ framing.rs ◀─
//! ```
//!
//! Routing, places, retries, timers and counts are those of every request (`attempt.rs`,
//! `exchange.rs`). A whole request is in memory before it is sent: one whose body is longer than
//! what was read with its head is not plain.

mod buffers;
mod client;
mod date;
mod request;
mod response;
#[cfg(test)]
mod tests;
mod transfer;

use std::mem::MaybeUninit;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::Version;

use crate::model::Protocol;
use crate::stats::Nanos;

use super::access_log::Record;
use super::connection::Connection;
use super::edge::Checked;
use super::exchange::Exchange;
use super::trace::{Asked as TraceOf, Decision, Trace};
use super::waiting::is_navigation;
use super::worker::{LocalRevision, Worker};

pub(super) use buffers::Buffers;
pub(super) use date::DateLine;

use buffers::SMALL_BYTES;
use client::Client;
use request::{HEADERS_MAX, Head, Parsed};
use response::Asked;
use transfer::{After, Outgoing, transfer};

/// How long a connection on which nothing was sent yet is waited for on the way down: its client has
/// only just connected, and what it sends is under way.
pub(super) const FIRST_BYTE_WAIT: Duration = Duration::from_millis(500);

/// How HTTP/2 begins (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How TLS begins (RFC 8446 §5.1).
const HANDSHAKE_RECORD: u8 = 0x16;

/// Who serves a connection on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nobody: it ended.
    Nobody,
    /// hyper, as HTTP/1; what was read is unread.
    Http1,
    /// hyper, as HTTP/2; what was read is unread.
    Http2,
    /// Nobody: it speaks nothing that is known here.
    Foreign,
}

/// What the bytes at hand come to.
enum Begun {
    /// The beginning of something.
    Partial,
    /// Something for hyper.
    Other(Next),
    /// A request.
    Request(Exchange, Outgoing),
}

/// Serves a connection from its first byte, for as long as its requests are plain.
pub(super) async fn serve(worker: &Rc<Worker>, connection: &Rc<Connection>) -> Next {
    let mut client = Client {
        io: &connection.io,
        secure: connection.client.secure,
        buffers: &worker.buffers,
        input: Vec::new(),
    };
    loop {
        if client.input.is_empty() && !read(connection, &mut client).await {
            return Next::Nobody;
        }
        match begin(worker, connection, &mut client) {
            Begun::Partial if client.input.len() < SMALL_BYTES => {
                if !read(connection, &mut client).await {
                    return Next::Nobody;
                }
            }
            Begun::Partial => return hand_over(client, Next::Http1),
            Begun::Other(next) => return hand_over(client, next),
            Begun::Request(exchange, outgoing) => {
                let after = transfer(exchange, outgoing, &mut client).await;
                if after == After::Close || connection.is_finishing() {
                    return Next::Nobody;
                }
            }
        }
    }
}

/// Reads more; false when the connection has ended, or is to end and nothing has begun. A request
/// that is on its way already is still read: its client would see a reset. A new client's is given
/// a moment; others know that a connection may end between two requests.
async fn read(connection: &Connection, client: &mut Client<'_>) -> bool {
    let mut looked_again = false;
    loop {
        let read = std::future::poll_fn(|cx| match client.poll_read(cx) {
            Poll::Ready(read) => Poll::Ready(Some(matches!(read, Ok(n) if n > 0))),
            Poll::Pending if client.input.is_empty() && connection.is_finishing() => {
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        });
        match read.await {
            Some(read) => return read,
            None if !connection.was_served() => {
                let first = std::future::poll_fn(|cx| client.poll_read(cx));
                let first = tokio::time::timeout(FIRST_BYTE_WAIT, first).await;
                return matches!(first, Ok(Ok(n)) if n > 0);
            }
            None if looked_again => return false,
            None => {
                looked_again = true;
                // One turn of the event loop: what has arrived is known then.
                tokio::task::yield_now().await;
            }
        }
    }
}

fn hand_over(client: Client<'_>, next: Next) -> Next {
    // Not the buffer itself: a connection would hold on to all of it.
    client.io.unread(client.input.as_slice().to_vec());
    client.buffers.give(client.input);
    next
}

/// Looks at the bytes at hand; a whole plain request is taken from them.
fn begin(worker: &Rc<Worker>, connection: &Rc<Connection>, client: &mut Client<'_>) -> Begun {
    if !connection.was_served() && client.input[0] == HANDSHAKE_RECORD {
        worker.shared.note_tls_on_http(connection.client.ip);
    }
    if !connection.was_served() && client.input[0] == PREFACE[0] {
        let length = PREFACE.len().min(client.input.len());
        if client.input[..length] == PREFACE[..length] {
            let whole = length == PREFACE.len();
            return if whole { Begun::Other(Next::Http2) } else { Begun::Partial };
        }
    }
    let mut room = [MaybeUninit::uninit(); HEADERS_MAX];
    let head = match request::parse(&client.input, &mut room) {
        Parsed::Partial => return Begun::Partial,
        Parsed::Other if !connection.was_served() && request::is_foreign(&client.input) => {
            return Begun::Other(Next::Foreign);
        }
        Parsed::Other => return Begun::Other(Next::Http1),
        Parsed::Plain(head) => head,
    };
    let end = head.bytes + head.length;
    // Routed last: a share of the traffic is drawn by it.
    if client.input.len() < end || worker.may_be_health(head.target) {
        return Begun::Other(Next::Http1);
    }
    let checked = Checked {
        host: Some((head.host.clone(), head.host_kind)),
        authority: Some(head.authority),
    };
    let way = connection.way(connection.client.secure);
    let arrived = worker.shared.clock.now();
    let Ok(local) = worker.route(&checked, None, way) else {
        return Begun::Other(Next::Http1);
    };
    let (plain, page) = local.with_spec(|spec| {
        let plain = spec.protocol == Protocol::Http1 && spec.queue.no_wake.is_empty();
        (plain, spec.queue.waiting_page)
    });
    if !plain {
        connection.keep_drawn(local);
        return Begun::Other(Next::Http1);
    }
    let body = &client.input[head.bytes..end];
    let page = page && is_navigation(head.method, |name| head.header(name));
    let (mut exchange, outgoing) = take(worker, connection, &head, local, arrived, body);
    exchange.page = page;
    client.consume(end);
    Begun::Request(exchange, outgoing)
}

fn take(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    head: &Head<'_, '_>,
    local: Rc<LocalRevision>,
    arrived: Nanos,
    body: &[u8],
) -> (Exchange, Outgoing) {
    let decision = if worker.shared.settings.tracer.is_on() {
        worker.decide(head.trace_parent())
    } else {
        None
    };
    let mut exchange = Exchange::begin(worker, local, arrived, connection.begin(arrived), true);
    if worker.is_logged() {
        exchange.log = Some(Record::new(
            head.method,
            head.target,
            Version::HTTP_11,
            head.authority,
            connection.client.ip,
            |name| head.header(name),
        ));
    }
    let mut bytes = worker.buffers.small();
    let told = decision.map(Decision::told);
    let id = {
        let rng = &mut worker.rng.borrow_mut();
        head.write(&mut bytes, &connection.client, rng, told.as_ref())
    };
    if let Some(decision) = decision.filter(|decision| decision.is_recorded()) {
        let span_at = request::span_at(bytes.len());
        record(&mut exchange, decision, connection, head, span_at);
    }
    bytes.extend_from_slice(body);
    let asked = Asked { head: head.method == "HEAD", close: head.close };
    (exchange, Outgoing { bytes, replayable: head.is_replayable(), asked, id })
}

/// Begins to record a request.
fn record(
    exchange: &mut Exchange,
    decision: Decision,
    connection: &Connection,
    head: &Head<'_, '_>,
    span_at: usize,
) {
    let worker = &exchange.worker;
    let asked = TraceOf {
        method: head.method,
        target: head.target,
        authority: head.authority,
        version: Version::HTTP_11,
        secure: connection.client.secure,
        client: connection.client.ip,
        user_agent: head.header("user-agent"),
        state: head.header("tracestate"),
    };
    let mut trace = Trace::begin(worker, decision, &asked, exchange.arrived);
    let way = connection.way(connection.client.secure);
    trace.routed(&worker.choice(head.authority, None, way, &exchange.local.revision));
    trace.span_at = span_at;
    if let Some(log) = &mut exchange.log {
        log.traced(decision.told().context);
    }
    exchange.trace = Some(trace);
}
