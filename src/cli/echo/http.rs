//! The paths of the backend.

use std::sync::Arc;
use std::time::Duration;

use ::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use ::http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::json;
use tokio::sync::mpsc;

use super::body::{self, Body, Gone, Writer};
use super::query::{BadParameter, Query};
use super::state::State;
use super::{grpc, websocket};

const INDEX: &str = "\
/            greeting with the variable TARGET
/whoami      pid, host, revision, requests, in flight, as JSON
/headers     the request as JSON
/echo        the request's body and trailers, streamed as they arrive
/delay       ?ms=N waits before it answers
/size        ?bytes=N sends that many bytes
/status      ?code=N answers with that status
/sse         ?n=N&interval_ms=M server-sent events; n=0 never ends
/trailers    a body with trailers
/cut         ?bytes=N&of=M breaks off after N of M bytes
/env         ?name=N a variable of the environment
/exit        ?code=N ends the process at once
/health      200
/ws          WebSocket, messages echoed
ms, bytes, code combine on every path that is not a stream. gRPC: grpc.health.v1.Health,
tidegate.Echo/{Unary,ClientStream,ServerStream,Bidi}.
";

/// Answers one request; it counts as in flight until its response has been sent.
pub(super) async fn answer(
    state: Arc<State>,
    alive: mpsc::Sender<()>,
    request: Request<Incoming>,
) -> Response<Body> {
    let in_flight = state.enter();
    // Over HTTP/1 the body is left out below us.
    let bodiless = request.method() == Method::HEAD && request.version() == Version::HTTP_2;
    if grpc::is_grpc(&request) {
        return grpc::answer(&state, request).map(|body| body::counted(body, in_flight));
    }
    if request.uri().path() == "/ws" {
        return websocket::answer(&state, alive, request, in_flight);
    }
    let query = Query::parse(request.uri().query());
    let response = match route(&state, &query, request).await {
        Ok(response) => response,
        Err(BadParameter(text)) => plain(StatusCode::BAD_REQUEST, text),
    };
    let response = if bodiless { without_body(response) } else { response };
    response.map(|body| body::counted(body, in_flight))
}

/// What HEAD gets: the head that goes with the body.
fn without_body(mut response: Response<Body>) -> Response<Body> {
    if let Some(bytes) = response.body().size_hint().exact() {
        response.headers_mut().entry(header::CONTENT_LENGTH).or_insert(bytes.into());
    }
    response.map(|_| body::full(""))
}

async fn route(
    state: &Arc<State>,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Response<Body>, BadParameter> {
    let delay = Duration::from_millis(query.number("ms")?.unwrap_or(0));
    let is_health = request.uri().path().starts_with("/health");
    let delay = if is_health { delay } else { delay + state.slow() };
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/echo" => {
            wait(delay).await;
            return Ok(echo(request));
        }
        "/sse" => {
            wait(delay).await;
            return sse(state, query);
        }
        "/trailers" => {
            wait(delay).await;
            return Ok(trailers());
        }
        "/cut" => {
            wait(delay).await;
            return cut(query);
        }
        _ => {}
    }
    let about = describe(&request);
    let received = discard(request.into_body()).await;
    wait(delay).await;
    if !is_health && state.fails() {
        return Ok(plain(StatusCode::INTERNAL_SERVER_ERROR, "failed on purpose\n"));
    }
    let mut response = match path.as_str() {
        "/" => plain(StatusCode::OK, state.greeting()),
        "/whoami" => as_json(serde_json::to_value(state.who_am_i()).unwrap_or_default()),
        "/headers" => {
            let mut about = about;
            about["body_bytes"] = json!(received);
            as_json(about)
        }
        "/delay" | "/size" | "/status" => plain(StatusCode::OK, "ok\n"),
        "/health" | "/healthz" => plain(StatusCode::OK, "ok\n"),
        "/help" => plain(StatusCode::OK, INDEX),
        "/env" => match State::environment(query.get("name").unwrap_or_default()) {
            Some(value) => plain(StatusCode::OK, value + "\n"),
            None => plain(StatusCode::NOT_FOUND, "no such variable; give ?name=NAME\n"),
        },
        "/exit" => {
            state.exit(query.number("code")?.unwrap_or(0));
            // The runtime is dropped before anything could be sent.
            std::future::pending().await
        }
        _ => plain(StatusCode::NOT_FOUND, INDEX),
    };
    if let Some(bytes) = query.number("bytes")? {
        *response.body_mut() = body::fill(bytes);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, value("application/octet-stream"));
    }
    if let Some(code) = query.number::<u16>("code")? {
        // 1xx cannot be a final answer.
        *response.status_mut() =
            StatusCode::from_u16(code).ok().filter(|code| !code.is_informational()).ok_or_else(
                || BadParameter(format!("parameter code={code}: write a status from 200 to 999\n")),
            )?;
    }
    Ok(response)
}

async fn wait(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

/// Reads a body to its end; returns its length.
async fn discard(mut body: Incoming) -> u64 {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    bytes
}

fn describe(request: &Request<Incoming>) -> serde_json::Value {
    let headers: Vec<_> = request
        .headers()
        .iter()
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect();
    json!({
        "method": request.method().as_str(),
        "uri": request.uri().to_string(),
        "version": format!("{:?}", request.version()),
        "headers": headers,
    })
}

fn echo(request: Request<Incoming>) -> Response<Body> {
    let (head, incoming) = request.into_parts();
    let mut response = Response::new(incoming.map_err(Into::into).boxed_unsync());
    // Without `Trailer`, HTTP/1 would drop them.
    for name in [header::CONTENT_TYPE, header::TRAILER] {
        for value in head.headers.get_all(&name) {
            response.headers_mut().append(&name, value.clone());
        }
    }
    response
}

fn sse(state: &State, query: &Query) -> Result<Response<Body>, BadParameter> {
    let count: u64 = query.number("n")?.unwrap_or(10);
    let interval = Duration::from_millis(query.number("interval_ms")?.unwrap_or(100));
    let stop = state.stop();
    let mut response = Response::new(body::streamed(move |writer| async move {
        let mut stop = stop;
        for number in 0.. {
            if count > 0 && number == count {
                break;
            }
            // The first event tells that the stream works, so it does not wait.
            if number > 0 {
                tokio::select! {
                    () = tokio::time::sleep(interval) => {}
                    () = writer.closed() => return Err(Gone),
                    // A stream without an end would hold up the end of the process.
                    () = stop.asked(), if count == 0 => break,
                }
            }
            writer.data(format!("id: {number}\ndata: event {number}\n\n")).await?;
        }
        Ok(())
    }));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, value("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, value("no-cache"));
    Ok(response)
}

fn trailers() -> Response<Body> {
    let name = HeaderName::from_static("x-echo-trailer");
    let mut response = plain(StatusCode::OK, "");
    response.headers_mut().insert(header::TRAILER, value("x-echo-trailer"));
    *response.body_mut() = body::streamed(|writer: Writer| async move {
        writer.data("body before trailers\n").await?;
        let mut trailers = HeaderMap::new();
        trailers.insert(name, value("the end"));
        writer.trailers(trailers).await
    });
    response
}

fn cut(query: &Query) -> Result<Response<Body>, BadParameter> {
    let bytes: usize = query.number("bytes")?.unwrap_or(100).min(16 << 20);
    let of: Option<u64> = query.number("of")?;
    let mut response = plain(StatusCode::OK, "");
    if let Some(of) = of {
        // At least one byte is missing, else the response would be whole.
        let length = of.max(bytes as u64 + 1);
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    *response.body_mut() = body::streamed(move |writer| async move {
        writer.data(vec![b'x'; bytes]).await?;
        // Lets the bytes reach the socket before the connection breaks.
        tokio::time::sleep(Duration::from_millis(20)).await;
        writer.cut("asked to break off").await
    });
    Ok(response)
}

/// A short text.
pub(super) fn plain(status: StatusCode, text: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(body::full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, value("text/plain; charset=utf-8"));
    response
}

fn as_json(json: serde_json::Value) -> Response<Body> {
    let mut response = Response::new(body::full(format!("{json}\n")));
    response.headers_mut().insert(header::CONTENT_TYPE, value("application/json"));
    response
}

pub(super) fn value(text: &'static str) -> HeaderValue {
    HeaderValue::from_static(text)
}
