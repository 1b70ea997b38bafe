//! What comes before the first request of a connection: a TLS handshake.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::model::Reason;
use crate::tls::{Handshake, Outcome, TlsServer};
use crate::upstream::{SharedIo, Socket};

use super::connection::{DISCARD_BYTES, DISCARD_TIME};
use super::listen::{Entry, Guest};
use super::worker::Worker;

/// Brings a connection to its first request, within the time that the first head has.
pub(super) async fn welcome(
    worker: &Worker,
    entry: &Entry,
    stream: TcpStream,
    ip: IpAddr,
) -> Option<Guest> {
    let within = worker.shared.settings.head_timeout;
    let Some(tls) = &entry.tls else {
        return Some(Guest { socket: Socket::Tcp(stream), ip, secure: false });
    };
    let socket = Socket::Tls(encrypt(worker, tls, stream, within).await?);
    Some(Guest { socket, ip, secure: true })
}

/// Makes the handshake; a client that speaks plain HTTP is told so.
async fn encrypt(
    worker: &Worker,
    tls: &TlsServer,
    stream: TcpStream,
    within: Duration,
) -> Option<Box<tokio_rustls::server::TlsStream<TcpStream>>> {
    let handshake = async {
        if begun(worker, &stream).await { Some(tls.handshake(stream).await) } else { None }
    };
    match timeout(within, handshake).await {
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

/// Waits for the first byte; false when tidegate is going down and none has come.
async fn begun(worker: &Worker, stream: &TcpStream) -> bool {
    let mut byte = [0];
    // A new socket counts as readable until somebody has looked.
    tokio::select! {
        biased;
        _ = stream.peek(&mut byte) => return true,
        () = worker.closing() => {}
    }
    // One turn of the event loop: what has arrived is known then.
    tokio::task::yield_now().await;
    stream.peek(&mut byte).now_or_never().is_some()
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
