//! WebSocket: messages come back as they were.

use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{self, HeaderName};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use super::body::{self, Body};
use super::http::{plain, value};
use super::state::{InFlight, State};

/// Upgrades the connection, which counts as one request for its life; anything but a WebSocket
/// handshake gets 426.
pub(super) fn answer(
    state: &Arc<State>,
    alive: mpsc::Sender<()>,
    mut request: Request<Incoming>,
    in_flight: InFlight,
) -> Response<Body> {
    let headers = request.headers();
    let asks = headers.get(header::UPGRADE).is_some_and(|value| {
        value.to_str().is_ok_and(|value| value.eq_ignore_ascii_case("websocket"))
    });
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes()));
    let (true, Some(accept)) = (asks, key.and_then(|key| key.parse().ok())) else {
        let mut response = plain(StatusCode::UPGRADE_REQUIRED, "connect with a WebSocket client\n");
        response.headers_mut().insert(header::UPGRADE, value("websocket"));
        return response.map(|body| body::counted(body, in_flight));
    };
    let protocol = headers.get(header::SEC_WEBSOCKET_PROTOCOL).cloned();
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(tunnel(Arc::clone(state), alive, upgrade, in_flight));
    let mut response = Response::new(body::full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, value("websocket"));
    headers.insert(header::CONNECTION, value("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(HeaderName::from_static("x-echo-pid"), std::process::id().into());
    // The first protocol offered is as good as any.
    let first = protocol.as_ref().and_then(|value| value.to_str().ok()?.split(',').next());
    if let Some(first) = first.and_then(|first| first.trim().parse().ok()) {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, first);
    }
    response
}

async fn tunnel(
    state: Arc<State>,
    alive: mpsc::Sender<()>,
    upgrade: OnUpgrade,
    in_flight: InFlight,
) {
    let Ok(io) = upgrade.await else { return };
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(io), Role::Server, None).await;
    let mut stop = state.stop();
    loop {
        let message = tokio::select! {
            message = socket.next() => message,
            () = stop.asked() => {
                let going = CloseFrame { code: CloseCode::Away, reason: "going down".into() };
                let _ = socket.close(Some(going)).await;
                break;
            }
        };
        match message {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                if socket.send(message).await.is_err() {
                    break;
                }
            }
            // Pings and closes are answered below us.
            Some(Ok(_)) => {}
            Some(Err(_)) | None => break,
        }
    }
    drop((in_flight, alive));
}
