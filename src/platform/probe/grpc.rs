//! `grpc`: `grpc.health.v1.Health/Check` answers `SERVING`. The two messages are a string and an
//! enumeration, so no code generator is needed.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};

/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: u64 = 1;
/// An answer is a few bytes.
const MOST_BYTES: usize = 64 * 1024;

/// Asks once, on a connection of its own.
pub(super) async fn ask(address: SocketAddr, service: &str) -> Result<(), String> {
    let stream = super::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", super::USER_AGENT)
        .body(Full::new(message(service)))
        .map_err(|error| error.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let (head, body) = response.into_parts();
        let body =
            Limited::new(body, MOST_BYTES).collect().await.map_err(|error| error.to_string())?;
        let status = body
            .trailers()
            .and_then(|trailers| trailers.get("grpc-status"))
            .or_else(|| head.headers.get("grpc-status"))
            .map(|status| String::from_utf8_lossy(status.as_bytes()).into_owned());
        match status.as_deref() {
            Some("0") => Ok(body.to_bytes()),
            Some(status) => Err(format!("the health check answered gRPC status {status}")),
            None => {
                Err(format!("the health check answered HTTP {} without a gRPC status", head.status))
            }
        }
    };
    tokio::pin!(answer, connection);
    let bytes = tokio::select! {
        biased;
        bytes = &mut answer => bytes?,
        ended = &mut connection => {
            ended.map_err(|error| error.to_string())?;
            answer.await?
        }
    };
    match serving_status(&bytes) {
        Some(SERVING) => Ok(()),
        Some(status) => {
            Err(format!("the health check answered serving status {status}, not SERVING"))
        }
        None => Err("the health check's answer is no HealthCheckResponse".into()),
    }
}

/// A `HealthCheckRequest`, framed: no compression, length, field 1 of type string.
fn message(service: &str) -> Bytes {
    let mut content = BytesMut::new();
    if !service.is_empty() {
        content.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            // The low seven bits.
            content.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        content.put_u8(length as u8);
        content.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(content.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(content.len()).unwrap_or(u32::MAX));
    framed.put_slice(&content);
    framed.freeze()
}

/// Field 1 of a framed, uncompressed `HealthCheckResponse`; 0 where it is left out.
fn serving_status(framed: &[u8]) -> Option<u64> {
    let (head, content) = framed.split_at_checked(5)?;
    let length = u32::from_be_bytes(head[1..].try_into().ok()?);
    if head[0] != 0 || content.len() != length as usize {
        return None;
    }
    let mut rest = content;
    let mut status = 0;
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        match key & 7 {
            0 => {
                let value = varint(&mut rest)?;
                if key >> 3 == 1 {
                    status = value;
                }
            }
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            1 => rest = rest.get(8..)?,
            5 => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue, Response};
    use hyper::body::Frame;
    use proptest::prelude::*;

    #[test]
    fn messages_are_protobuf() {
        assert_eq!(&message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&message("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = message(&"x".repeat(300));
        assert_eq!(&long[..8], [0, 0, 0, 1, 0x2f, 0x0a, 0xac, 0x02]);
        for (framed, status) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], Some(1)),
            (&[0, 0, 0, 0, 2, 8, 2], Some(2)),
            (&[0, 0, 0, 0, 0], Some(0)),
            (&[0, 0, 0, 0, 6, 0x12, 2, 9, 9, 8, 1], Some(1)),
            (&[0, 0, 0, 0, 3, 8, 1], None),
            (&[1, 0, 0, 0, 2, 8, 1], None),
            (&[0, 0], None),
        ] {
            assert_eq!(serving_status(framed), status, "{framed:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = serving_status(&bytes);
        }
    }

    /// One answer of a real h2c server.
    async fn answered(content: &'static [u8], grpc_status: &'static str) -> Result<(), String> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper::service::service_fn(
                move |request: Request<hyper::body::Incoming>| async move {
                    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                    let asked = request.into_body().collect().await.unwrap().to_bytes();
                    assert_eq!(asked, message("shop"));
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", HeaderValue::from_static(grpc_status));
                    let frames =
                        [Frame::data(Bytes::from_static(content)), Frame::trailers(trailers)];
                    let body = Frames(frames.into_iter().collect());
                    Ok::<_, std::convert::Infallible>(Response::new(body))
                },
            );
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        let verdict = ask(address, "shop").await;
        server.abort();
        verdict
    }

    struct Frames(std::collections::VecDeque<Frame<Bytes>>);

    impl http_body::Body for Frames {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            std::task::Poll::Ready(self.0.pop_front().map(Ok))
        }
    }

    #[tokio::test]
    async fn only_serving_is_well() {
        assert_eq!(answered(&[0, 0, 0, 0, 2, 8, 1], "0").await, Ok(()));
        assert!(answered(&[0, 0, 0, 0, 2, 8, 2], "0").await.unwrap_err().contains("status 2"));
        assert!(answered(&[], "12").await.unwrap_err().contains("gRPC status 12"));
    }
}
