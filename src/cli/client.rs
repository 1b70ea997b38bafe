//! A client of the admin API: one connection, one request after the other.

pub(super) mod answers;
mod tls;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::args::{ClientArgs, TokenArgs};
use answers::Status;

/// Longer than the longest answer takes, which waits for a replica.
const TIMEOUT: Duration = Duration::from_secs(9);
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
    #[error("{0}")]
    Setup(String),
    #[error("{0} does not answer as a tidegate's admin listener does: {1}")]
    Answer(SocketAddr, String),
    #[error("{1}")]
    Declined(StatusCode, String),
}

impl ClientError {
    /// Whether there is nothing of that name.
    pub(super) fn is_unknown(&self) -> bool {
        matches!(self, Self::Declined(StatusCode::NOT_FOUND, _))
    }
}

pub(super) struct Client {
    address: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
    token: Option<HeaderValue>,
}

impl Client {
    pub(super) async fn connect(args: &ClientArgs) -> Result<Self, ClientError> {
        let ClientArgs { admin: address, known } = args;
        let token = token(&known.token).map_err(ClientError::Setup)?;
        let address = SocketAddr::new(reachable(address.ip()), address.port());
        let stream = timeout(TIMEOUT, TcpStream::connect(address))
            .await
            .unwrap_or_else(|elapsed| Err(io::Error::new(io::ErrorKind::TimedOut, elapsed)))
            .map_err(|error| ClientError::Connect(address, error))?;
        let sender = match &known.admin_ca {
            None => open(stream).await,
            Some(file) => {
                let connector = tls::connector(file).map_err(ClientError::Setup)?;
                let name = tls::server_name(known.admin_name.as_deref(), address.ip())
                    .map_err(ClientError::Setup)?;
                let stream = timeout(TIMEOUT, connector.connect(name, stream)).await;
                match stream.unwrap_or_else(|elapsed| Err(io::Error::other(elapsed))) {
                    Ok(stream) => open(stream).await,
                    Err(error) => Err(format!(
                        "TLS: {error}; --admin-ca is to have its certificate or its authority's, \
                         --admin-name a name that is in it"
                    )),
                }
            }
        };
        let sender = sender.map_err(|error| ClientError::Answer(address, error))?;
        Ok(Self { address, sender, token })
    }

    /// The JSON at a path.
    pub(super) async fn get(&mut self, path: &str) -> Result<Value, ClientError> {
        self.ask(Method::GET, path, None).await
    }

    /// Has something done.
    pub(super) async fn post(&mut self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.ask(Method::POST, path, Some(body)).await
    }

    /// Services and revisions in one.
    pub(super) async fn whole(&mut self) -> Result<Value, ClientError> {
        let mut whole = self.get("/api/v1/services").await?;
        let revisions = self.get("/api/v1/revisions").await?;
        whole["revisions"] = revisions.get("revisions").cloned().unwrap_or_else(|| json!([]));
        Ok(whole)
    }

    /// The same, as far as it is understood.
    pub(super) async fn status(&mut self) -> Result<Status, ClientError> {
        let whole = self.whole().await?;
        self.read(whole)
    }

    /// The parts of an answer that are needed.
    pub(super) fn read<T: DeserializeOwned>(&self, answer: Value) -> Result<T, ClientError> {
        serde_json::from_value(answer)
            .map_err(|problem| ClientError::Answer(self.address, problem.to_string()))
    }

    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, ClientError> {
        let address = self.address;
        let problem = |text: String| ClientError::Answer(address, format!("{path}: {text}"));
        let answer = timeout(TIMEOUT, self.exchange(method, path, body)).await;
        let late = || Err(format!("no answer within {TIMEOUT:?}"));
        let (status, body) = answer.unwrap_or_else(|_| late()).map_err(problem)?;
        let answer = serde_json::from_slice::<Value>(&body);
        if status != StatusCode::OK {
            let said = answer.ok().and_then(|answer| answer["message"].as_str().map(str::to_owned));
            return Err(match said {
                Some(said) => ClientError::Declined(status, said),
                None => problem(format!("{status} {}", String::from_utf8_lossy(&body).trim())),
            });
        }
        answer.map_err(|error| problem(error.to_string()))
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Bytes), String> {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(header::HOST, self.address.to_string());
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, token);
        }
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
        self.sender.ready().await.map_err(|error| error.to_string())?;
        let answer = self.sender.send_request(request).await.map_err(|error| error.to_string())?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_LIMIT).collect().await;
        Ok((head.status, body.map_err(|error| error.to_string())?.to_bytes()))
    }
}

async fn open<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // Its end shows in the request that needs it.
    tokio::spawn(connection);
    Ok(sender)
}

/// The header that shows the token, if there is one.
fn token(args: &TokenArgs) -> Result<Option<HeaderValue>, String> {
    let text = match (&args.admin_token_file, &args.admin_token) {
        (Some(file), _) => std::fs::read_to_string(file)
            .map_err(|error| format!("--admin-token-file {}: {error}", file.display()))?,
        (None, Some(token)) => token.clone(),
        (None, None) => return Ok(None),
    };
    let mut value = HeaderValue::from_str(&format!("Bearer {}", text.trim()))
        .map_err(|_error| "the admin token has characters that no header can carry".to_owned())?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// An address to listen on that means "all" is called by loopback.
const fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        other => other,
    }
}
