//! What of a pool cannot be seen from outside.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::LocalSet;

use crate::model::{Nanos, Protocol};

use super::{Connector, EndpointPool, RequestBody, Returned};

/// A pool whose connections end in the vector.
fn pool() -> (Rc<EndpointPool>, Arc<Mutex<Vec<DuplexStream>>>) {
    let peers = Arc::new(Mutex::new(Vec::new()));
    let accepted = Arc::clone(&peers);
    let network = Arc::new(move |_| {
        let (ours, theirs) = tokio::io::duplex(1024);
        accepted.lock().push(theirs);
        Ok(ours)
    });
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    (EndpointPool::new(address, Protocol::Http1, Connector::Memory(network)), peers)
}

/// A client's body of `bytes`: only a server makes one.
async fn upload(bytes: usize) -> Incoming {
    let (mut client, server) = tokio::io::duplex(bytes + 1024);
    let head = format!("POST / HTTP/1.1\r\nContent-Length: {bytes}\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(&vec![b'x'; bytes]).await.unwrap();
    let (give, body) = tokio::sync::oneshot::channel();
    let give = Mutex::new(Some(give));
    let service = service_fn(move |request: Request<Incoming>| {
        drop(give.lock().take().unwrap().send(request.into_body()));
        std::future::pending::<Result<Response<String>, std::convert::Infallible>>()
    });
    tokio::task::spawn_local(async move {
        let _client = client;
        let serve = hyper::server::conn::http1::Builder::new();
        drop(serve.serve_connection(TokioIo::new(server), service).await);
    });
    body.await.unwrap()
}

/// What is read up to the end of a head.
async fn head(peer: &mut DuplexStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(peer.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_is_read_but_not_sent_leaves_no_usable_connection() {
    let test = async {
        let (pool, peers) = pool();
        // More than the connection takes, less than hyper buffers: all of it was read.
        let body = upload(64 * 1024).await;
        let home = Rc::<Returned>::default();
        let lent = RequestBody::lent(body, Rc::clone(&home));
        let sending = {
            let pool = Rc::clone(&pool);
            tokio::task::spawn_local(async move {
                let request = Request::post("/").header("content-length", "65536").body(lent);
                let (response, lease) = pool.send(Nanos(0), |_| request.unwrap()).await.unwrap();
                response.into_body().collect().await.unwrap();
                lease
            })
        };
        while peers.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        let mut first = peers.lock().remove(0);
        head(&mut first).await;
        first.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        let lease = sending.await.unwrap();
        assert!(home.is_finished(), "the whole upload was taken from the client");
        lease.finish(Nanos(0));
        assert!(pool.is_empty(), "kept a connection whose endpoint does not read");
    };
    LocalSet::new().run_until(test).await;
}
