//! Clients that do not speak HTTP, or not well enough: they get an answer or an end, soon, and none
//! of it reaches a replica.

use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use crate::ledger::{Ledger, Property};

/// How long such a client may be kept: the head's time, and some for what was refused.
const KEPT: Duration = Duration::from_secs(18);

/// What they say. A number for which no request was sent would be out of the ledger's range.
const SAYINGS: [&[u8]; 9] = [
    b"",
    b"GET /4000000000/1/1/0/plain HTTP/1.1\r\nhost: s0.default.loc",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnot a frame at all, but long enough to be taken for one",
    b"PRI * HT",
    b"POST /4000000000/1/1/0/plain HTTP/1.1\r\nhost: s0.default.localhost\r\n\
      transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"POST /4000000000/1/1/0/plain HTTP/1.1\r\nhost: s0.default.localhost\r\n\
      content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    b"GET /4000000000/1/1/0/plain HTTP/1.1\r\nhost: s0.default.localhost\r\n\
      host: s1.default.localhost\r\n\r\n",
    b"GET  /4000000000/1/1/0/plain\r\n\r\n",
];

/// Says something and waits for the end.
pub(crate) async fn talk(mut stream: DuplexStream, kind: usize, ledger: &Rc<Ledger>) {
    let kind = kind % SAYINGS.len();
    ledger.note(format_args!("a client talks nonsense {kind}"));
    let began = ledger.now();
    // It may be refused while it is still talking.
    drop(stream.write_all(SAYINGS[kind]).await);
    let mut answer = Vec::new();
    let read = tokio::time::timeout(KEPT * 20, stream.read_to_end(&mut answer)).await;
    let ran = ledger.history.awake(began, ledger.now());
    if read.is_err() || ran > KEPT {
        ledger.violated(
            Property::InTime,
            format_args!("nonsense {kind} was listened to for {ran:?}"),
        );
    }
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    if status.is_some_and(|status| !matches!(status, "400" | "408" | "431" | "503")) {
        ledger.violated(
            Property::RightAnswer,
            format_args!("nonsense {kind} was answered with {status:?}"),
        );
    }
}
