//! A client of the admin API: one connection, one request after the other.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

const TIMEOUT: Duration = Duration::from_secs(5);
/// A thousand services are about 1 MB.
const ANSWER_LIMIT: usize = 64 << 20;

/// Why nothing can be shown.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error(
        "no tidegate answers at {0} ({1}): start one with `tidegate -f PATH`, or give its --admin \
         address"
    )]
    Connect(SocketAddr, io::Error),
    #[error("{0} does not answer as a tidegate's admin listener does: {1}")]
    Answer(SocketAddr, String),
}

pub(super) struct Client {
    address: SocketAddr,
    sender: SendRequest<Empty<Bytes>>,
}

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> Result<Self, ClientError> {
        let address = SocketAddr::new(reachable(address.ip()), address.port());
        let stream = timeout(TIMEOUT, TcpStream::connect(address))
            .await
            .unwrap_or_else(|elapsed| Err(io::Error::new(io::ErrorKind::TimedOut, elapsed)))
            .map_err(|error| ClientError::Connect(address, error))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| ClientError::Answer(address, error.to_string()))?;
        // Its end shows in the request that needs it.
        tokio::spawn(connection);
        Ok(Self { address, sender })
    }

    /// The JSON at a path.
    pub(super) async fn get(&mut self, path: &str) -> Result<serde_json::Value, ClientError> {
        let address = self.address;
        let problem = |text: String| ClientError::Answer(address, format!("{path}: {text}"));
        let answer = timeout(TIMEOUT, self.exchange(path)).await;
        let late = || Err(format!("no answer within {TIMEOUT:?}"));
        let (status, body) = answer.unwrap_or_else(|_| late()).map_err(problem)?;
        if status != StatusCode::OK {
            return Err(problem(format!("{status} {}", String::from_utf8_lossy(&body).trim())));
        }
        serde_json::from_slice(&body).map_err(|error| problem(error.to_string()))
    }

    async fn exchange(&mut self, path: &str) -> Result<(StatusCode, Bytes), String> {
        let request = Request::get(path)
            .header(header::HOST, self.address.to_string())
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        self.sender.ready().await.map_err(|error| error.to_string())?;
        let answer = self.sender.send_request(request).await.map_err(|error| error.to_string())?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_LIMIT).collect().await;
        Ok((head.status, body.map_err(|error| error.to_string())?.to_bytes()))
    }
}

/// An address to listen on that means "all" is called by loopback.
const fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        other => other,
    }
}
