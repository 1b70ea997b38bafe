//! HTTP/2 by hand: frames that no library would send (RFC 9113 §4, RFC 7541 §6).

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::case::Frame;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// How the stream ended.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Statuses of the response; none if the stream was reset or the connection ended.
    pub(crate) statuses: Vec<u16>,
    pub(crate) body: Vec<u8>,
}

/// Sends frames on stream 1 and reads until it has ended.
pub(crate) async fn send(at: SocketAddr, frames: &[Frame]) -> Outcome {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    out.extend(frame(4, 0, 0, &[]));
    for (number, what) in frames.iter().enumerate() {
        let end = if number + 1 == frames.len() { END_STREAM } else { 0 };
        out.extend(match what {
            Frame::Headers(fields) => frame(HEADERS, END_HEADERS | end, 1, &block(fields)),
            Frame::Data(bytes) => frame(0, end, 1, bytes),
        });
    }
    stream.write_all(&out).await.unwrap();
    read(&mut stream).await
}

async fn read(stream: &mut TcpStream) -> Outcome {
    let mut outcome = Outcome::default();
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).await.is_err() {
            return outcome;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        if stream.read_exact(&mut payload).await.is_err() {
            return outcome;
        }
        let (kind, flags, on_stream) = (head[3], head[4], head[8] == 1);
        match kind {
            HEADERS if on_stream => outcome.statuses.extend(status(&payload)),
            0 if on_stream => outcome.body.extend(payload),
            RST_STREAM if on_stream && outcome.statuses.is_empty() => return outcome,
            GOAWAY => return outcome,
            _ => {}
        }
        if matches!(kind, HEADERS | 0) && on_stream && flags & END_STREAM != 0 {
            return outcome;
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags, 0, 0, 0, stream];
    [&head, payload].concat()
}

/// Literal fields without indexing, as they are.
fn block(fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            string(&mut out, text);
        }
    }
    out
}

fn string(out: &mut Vec<u8>, text: &[u8]) {
    match u8::try_from(text.len()) {
        Ok(length @ 0..=126) => out.push(length),
        _ => {
            out.push(127);
            let mut left = text.len() - 127;
            while left >= 128 {
                out.push((left % 128) as u8 | 128);
                left /= 128;
            }
            out.push(left as u8);
        }
    }
    out.extend_from_slice(text);
}

/// The status that a block begins with; none for trailers.
fn status(block: &[u8]) -> Option<u16> {
    let mut rest = block;
    // Changes of the table's size.
    while rest.first().is_some_and(|b| b & 0xe0 == 0x20) {
        rest = &rest[1..];
    }
    match *rest.first()? {
        indexed @ 0x88..=0x8e => Some([200, 204, 206, 304, 400, 404, 500][indexed as usize - 0x88]),
        // A literal whose name is `:status`, the value by Huffman's code or plain.
        0x08 | 0x48 | 0x18 => match *rest.get(1)? {
            3 => std::str::from_utf8(rest.get(2..5)?).ok()?.parse().ok(),
            2 | 0x82 => Some(digits(&rest[2..4])),
            0x83 => Some(digits(&rest[2..5])),
            _ => None,
        },
        _ => None,
    }
}

/// Three digits in Huffman's code (RFC 7541, appendix B).
fn digits(bytes: &[u8]) -> u16 {
    let bits = bytes.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
    let mut left = bytes.len() * 8;
    let mut number = 0;
    for _ in 0..3 {
        let five = bits >> (left - 5) & 31;
        let digit = if five < 3 {
            left -= 5;
            five
        } else {
            let six = bits >> (left - 6) & 63;
            left -= 6;
            six - 22
        };
        number = number * 10 + digit as u16;
    }
    number
}
