//! What comes before the first request of a connection: a PROXY header, a TLS handshake.

use std::net::IpAddr;

use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::server::TlsStream;

use crate::model::Reason;
use crate::tls::{Handshake, Outcome, TlsServer};
use crate::upstream::{SharedIo, Socket};

use super::connection::{DISCARD_BYTES, DISCARD_TIME};
use super::direct::FIRST_BYTE_WAIT;
use super::listen::{Entry, Guest};
use super::proxy_protocol::{self, HEAD_BYTES, LINE_BYTES_MAX, Malformed, Told};
use super::worker::Worker;

/// Brings a connection to its first request, within the time that the first head has.
pub(super) async fn welcome(
    worker: &Worker,
    entry: &Entry,
    mut stream: TcpStream,
    ip: IpAddr,
) -> Option<Guest> {
    let deadline = Instant::now() + worker.shared.settings.head_timeout;
    let told = if entry.proxy_protocol && is_asked(worker, ip) {
        let told = timeout_at(deadline, introduction(worker, &mut stream)).await;
        told.unwrap_or(Err("it did not come in time")).unwrap_or_else(|why| {
            worker.shared.refused(Reason::BadRequest);
            worker.shared.note_no_introduction(ip, why);
            None
        })?
    } else {
        Told::default()
    };
    let ip = told.source.unwrap_or(ip);
    let (outside, service) = (entry.outside, entry.service.clone());
    let Some(tls) = &entry.tls else {
        let (socket, secure) = (Socket::Tcp(stream), told.secure);
        return Some(Guest { socket, ip, secure, outside, service });
    };
    let socket = Socket::Tls(encrypt(worker, tls, stream, deadline).await?);
    Some(Guest { socket, ip, secure: true, outside, service })
}

/// Whether a peer is to say who its client is: all are, or those that are trusted.
fn is_asked(worker: &Worker, ip: IpAddr) -> bool {
    let trusted = &worker.shared.settings.trusted_proxies;
    trusted.is_empty() || trusted.iter().any(|network| network.contains(&ip.to_canonical()))
}

/// Reads a PROXY header, and nothing behind it. None when the peer left before its end, or
/// tidegate is going down and nothing has come.
async fn introduction(worker: &Worker, stream: &mut TcpStream) -> Result<Option<Told>, Malformed> {
    if !begun(worker, stream).await {
        return Ok(None);
    }
    let mut first = [0; 12];
    if stream.read_exact(&mut first).await.is_err() {
        return Ok(None);
    }
    match proxy_protocol::version(&first)? {
        proxy_protocol::Version::V1 => line(stream, &first).await,
        proxy_protocol::Version::V2 => header(stream, &first).await,
    }
}

async fn line(stream: &mut TcpStream, first: &[u8]) -> Result<Option<Told>, Malformed> {
    let mut line = first.to_vec();
    while !line.ends_with(b"\n") {
        let mut room = [0; LINE_BYTES_MAX];
        let room = &mut room[..LINE_BYTES_MAX - line.len()];
        if room.is_empty() {
            return Err("the line of the PROXY header does not end");
        }
        let Ok(seen @ 1..) = stream.peek(room).await else { return Ok(None) };
        let end = room[..seen].iter().position(|byte| *byte == b'\n').map_or(seen, |at| at + 1);
        if stream.read_exact(&mut room[..end]).await.is_err() {
            return Ok(None);
        }
        line.extend_from_slice(&room[..end]);
    }
    proxy_protocol::line(&line).map(Some)
}

async fn header(stream: &mut TcpStream, first: &[u8; 12]) -> Result<Option<Told>, Malformed> {
    let mut head = [0; HEAD_BYTES];
    head[..12].copy_from_slice(first);
    if stream.read_exact(&mut head[12..]).await.is_err() {
        return Ok(None);
    }
    let mut whole = head.to_vec();
    whole.resize(HEAD_BYTES + proxy_protocol::tail(&head)?, 0);
    if stream.read_exact(&mut whole[HEAD_BYTES..]).await.is_err() {
        return Ok(None);
    }
    proxy_protocol::header(&whole).map(Some)
}

/// Makes the handshake; a client that speaks plain HTTP is told so.
async fn encrypt(
    worker: &Worker,
    tls: &TlsServer,
    stream: TcpStream,
    deadline: Instant,
) -> Option<Box<TlsStream<TcpStream>>> {
    let handshake = async {
        if begun(worker, &stream).await { Some(tls.handshake(stream).await) } else { None }
    };
    match timeout_at(deadline, handshake).await {
        Ok(Some(Handshake::Done(stream))) => Some(stream),
        Ok(Some(Handshake::PlainHttp(stream))) => {
            refuse_plain(worker, stream).await;
            None
        }
        Ok(Some(Handshake::Failed) | None) => None,
        Err(_elapsed) => {
            tls.count(Outcome::Timeout);
            None
        }
    }
}

/// Waits for the first byte; false when tidegate is going down and none has come in a moment.
async fn begun(worker: &Worker, stream: &TcpStream) -> bool {
    let mut byte = [0];
    // A new socket counts as readable until somebody has looked.
    tokio::select! {
        biased;
        _ = stream.peek(&mut byte) => return true,
        () = worker.closing() => {}
    }
    timeout(FIRST_BYTE_WAIT, stream.peek(&mut byte)).await.is_ok()
}

async fn refuse_plain(worker: &Worker, stream: TcpStream) {
    const REASON: Reason = Reason::PlainHttp;
    worker.shared.refused(REASON);
    let body = format!("{REASON}: this port speaks TLS: write https:// in place of http://\n");
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {}\r\ntidegate-reason: {REASON}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut io = SharedIo::new(Socket::Tcp(stream));
    // A new connection has room for it; a client that is gone will not miss it.
    if let Some(Ok(())) = io.write_all(answer.as_bytes()).now_or_never() {
        io.discard(DISCARD_BYTES, DISCARD_TIME).await;
    }
}
