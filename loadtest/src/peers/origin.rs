//! The origin: a server that costs as little as can be, so that the proxy before it is the limit.
//!
//! `GET /` answers 2 bytes, `/64k` 65,536; bodies of requests are read and forgotten.

use std::io;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const BUFFER: usize = 16 << 10;
const HEAD_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 64;
const LARGE: usize = 64 << 10;

/// Answers until it is stopped.
///
/// # Errors
/// When connections cannot be accepted.
pub async fn serve(listener: TcpListener) -> io::Result<()> {
    let large: &'static [u8] = Vec::leak(response(&vec![b'x'; LARGE]));
    let small: &'static [u8] = Vec::leak(response(b"ok"));
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            // A broken connection concerns only its client, who notices.
            let _ = answer(stream, small, large).await;
        });
    }
}

fn response(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

async fn answer(mut stream: TcpStream, small: &[u8], large: &[u8]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = BytesMut::with_capacity(BUFFER);
    loop {
        let request = loop {
            if let Some(request) = Request::parse(&buffer)? {
                break request;
            }
            if buffer.len() > HEAD_MAX {
                return Err(bad("the head is too long"));
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        buffer.advance(request.head);
        let mut missing = request.body;
        loop {
            let here = missing.min(buffer.len());
            buffer.advance(here);
            missing -= here;
            if missing == 0 {
                break;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        stream.write_all(if request.large { large } else { small }).await?;
        if request.last {
            return stream.shutdown().await;
        }
    }
}

/// What matters of a request.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    /// Bytes of the head.
    head: usize,
    /// Bytes of the body.
    body: usize,
    large: bool,
    /// The client wants no further answer on this connection.
    last: bool,
}

impl Request {
    /// None when the head is not complete.
    fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        let parsed = request.parse(bytes).map_err(|error| bad(&error.to_string()))?;
        let httparse::Status::Complete(head) = parsed else { return Ok(None) };
        let large = request.path == Some("/64k");
        let mut found = Self { head, body: 0, large, last: request.version == Some(0) };
        for header in request.headers {
            if header.name.eq_ignore_ascii_case("content-length") {
                let text = std::str::from_utf8(header.value).unwrap_or_default();
                found.body = text.trim().parse().map_err(|_error| bad("content-length"))?;
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(bad("this origin reads no chunked body"));
            } else if header.name.eq_ignore_ascii_case("connection") {
                found.last |= header.value.eq_ignore_ascii_case(b"close");
            }
        }
        Ok(Some(found))
    }
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_understood_when_its_head_is_complete() {
        let text =
            b"POST /64k HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: Close\r\n\r\n";
        assert_eq!(Request::parse(&text[..text.len() - 1]).unwrap(), None);
        let whole = Request { head: text.len(), body: 5, large: true, last: true };
        assert_eq!(Request::parse(text).unwrap(), Some(whole));
        assert!(Request::parse(b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(Request::parse(b"\0").is_err());
    }

    #[tokio::test]
    async fn bodies_are_skipped_and_connections_kept() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        tokio::spawn(serve(listener));
        let first = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
        let second = b"GET /64k HTTP/1.1\r\nConnection: close\r\n\r\n";
        client.write_all(&[&first[..], second].concat()).await.unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        let expected = [response(b"ok"), response(&vec![b'x'; LARGE])].concat();
        assert!(all == expected, "{} bytes instead of {}", all.len(), expected.len());
    }
}
