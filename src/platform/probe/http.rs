//! `httpGet`: a GET that answers 200–399.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{HOST, HeaderName, HeaderValue, USER_AGENT};
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::model::Protocol;

/// Asks for `path` once; every probe has a connection of its own, as kubelet's.
pub(super) async fn ask(
    address: SocketAddr,
    protocol: Protocol,
    path: &str,
    headers: &[(Arc<str>, Arc<str>)],
) -> Result<(), String> {
    let stream = super::connect(address).await?;
    let request = request(address, protocol, path, headers)?;
    let response = match protocol {
        Protocol::Http1 => {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream))
                    .await
                    .map_err(|error| error.to_string())?;
            exchange(connection, sender.send_request(request)).await
        }
        Protocol::H2c => {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                    .await
                    .map_err(|error| error.to_string())?;
            exchange(connection, sender.send_request(request)).await
        }
    };
    match response.map_err(|error| error.to_string())?.status().as_u16() {
        200..=399 => Ok(()),
        status => Err(format!("GET {path} answered {status}")),
    }
}

/// Drives a connection just until the response's head is there.
async fn exchange(
    connection: impl Future<Output = hyper::Result<()>>,
    response: impl Future<Output = hyper::Result<Response<Incoming>>>,
) -> hyper::Result<Response<Incoming>> {
    tokio::pin!(connection, response);
    tokio::select! {
        biased;
        response = &mut response => response,
        ended = &mut connection => {
            ended?;
            // Ended without an error: the response is there or tells why not.
            response.await
        }
    }
}

fn request(
    address: SocketAddr,
    protocol: Protocol,
    path: &str,
    headers: &[(Arc<str>, Arc<str>)],
) -> Result<Request<Empty<Bytes>>, String> {
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let uri = match protocol {
        Protocol::Http1 => path.clone(),
        Protocol::H2c => format!("http://{address}{path}"),
    };
    let mut request = Request::get(uri)
        .header(USER_AGENT, super::USER_AGENT)
        .body(Empty::new())
        .map_err(|error| format!("its path is no path: {error}"))?;
    if protocol == Protocol::Http1 {
        let host = HeaderValue::try_from(address.to_string())
            .map_err(|error| format!("its address is no host: {error}"))?;
        request.headers_mut().insert(HOST, host);
    }
    for (name, value) in headers {
        let name = HeaderName::try_from(&**name)
            .map_err(|_invalid| format!("`{name}` is no header's name"))?;
        let value = HeaderValue::try_from(&**value)
            .map_err(|_invalid| format!("the value of header `{name}` is not valid"))?;
        // An empty User-Agent means none, for kubelet too.
        if name == USER_AGENT && value.is_empty() {
            request.headers_mut().remove(USER_AGENT);
        } else if name == HOST && protocol == Protocol::H2c {
            let authority = value.to_str().unwrap_or_default();
            *request.uri_mut() = format!("http://{authority}{path}")
                .parse()
                .map_err(|error| format!("`{authority}` is no host: {error}"))?;
        } else if name == HOST || name == USER_AGENT {
            request.headers_mut().insert(name, value);
        } else {
            request.headers_mut().append(name, value);
        }
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Answers one request with `answer`; returns what it was.
    async fn probe(
        answer: &str,
        path: &str,
        headers: &[(Arc<str>, Arc<str>)],
    ) -> (Result<(), String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(head).unwrap()
        };
        tokio::join!(ask(address, Protocol::Http1, path, headers), server)
    }

    #[tokio::test]
    async fn two_and_three_hundreds_are_well() {
        for (status, well) in [
            (200, true),
            (204, true),
            (302, true),
            (399, true),
            (400, false),
            (404, false),
            (503, false),
        ] {
            let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
            let (verdict, _) = probe(&answer, "/", &[]).await;
            assert_eq!(verdict.is_ok(), well, "{status}: {verdict:?}");
        }
        let (verdict, _) = probe("", "/", &[]).await;
        assert!(verdict.is_err(), "closed without an answer");
    }

    #[tokio::test]
    async fn the_request_is_kubelets() {
        let headers = [("Host".into(), "example.com".into()), ("X-A".into(), "1".into())];
        let (_, head) = probe("HTTP/1.1 200 x\r\n\r\n", "healthz?x=1", &headers).await;
        assert!(head.starts_with("GET /healthz?x=1 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("user-agent: kube-probe/"), "{head}");
        assert!(head.contains("host: example.com\r\n"), "{head}");
        assert!(head.contains("x-a: 1\r\n"), "{head}");
    }

    #[tokio::test]
    async fn a_port_that_speaks_h2c_is_asked_so() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
                assert_eq!(request.uri(), "http://example.com/ready?a=1");
                Response::builder().status(204).body(Empty::<Bytes>::new())
            });
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        let headers = [("Host".into(), "example.com".into())];
        assert_eq!(ask(address, Protocol::H2c, "/ready?a=1", &headers).await, Ok(()));
        server.abort();
    }
}
