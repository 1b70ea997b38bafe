use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use super::*;

/// A server of the test's own: the status is the path's number, the body says `hello`.
async fn server(http2: bool) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections: Arc<AtomicUsize> = Arc::default();
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let io = TokioIo::new(stream);
            let service = service_fn(answer);
            tokio::spawn(async move {
                // A client that leaves is no problem of the test's.
                let _ = if http2 {
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    builder.serve_connection(io, service).await
                } else {
                    hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
                };
            });
        }
    });
    (address, connections)
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let status: u16 = request.uri().path()[1..].parse().unwrap();
    let builder = Response::builder().status(status).header("tidegate-reason", "queue_full");
    Ok(builder.body(Full::new(Bytes::from_static(b"hello\nworld"))).unwrap())
}

fn ask(address: SocketAddr, status: u16) -> Ask {
    Ask::get(&format!("http://{address}/{status}")).unwrap()
}

fn open(rate: f64, millis: u64) -> Load {
    let shape = Shape::constant(rate, Duration::from_millis(millis));
    Load::Open(Schedule { shape, arrivals: Arrivals::Uniform, seed: 1 })
}

#[tokio::test]
async fn every_request_of_a_schedule_is_sent_once() {
    let (address, connections) = server(false).await;
    let plan =
        Plan { connections: 4, labels: true, ..Plan::new(ask(address, 200), open(500.0, 200)) };
    let recording = run(plan).await.unwrap();
    assert_eq!((recording.due, recording.good, recording.bad_total()), (100, 100, 0));
    assert_eq!(recording.latency.count(), 100);
    assert_eq!(recording.bytes, 1100);
    assert_eq!(recording.buckets.iter().map(|b| b.labels["hello"]).sum::<u64>(), 100);
    assert_eq!((connections.load(Ordering::SeqCst), recording.connects), (4, 4));
}

#[tokio::test]
async fn threads_share_the_work_and_count_together() {
    let (address, connections) = server(false).await;
    let plan =
        Plan { connections: 6, threads: 3, ..Plan::new(ask(address, 200), open(500.0, 200)) };
    let recording = run(plan).await.unwrap();
    assert_eq!((recording.due, recording.good), (100, 100));
    assert_eq!(connections.load(Ordering::SeqCst), 6);
}

#[tokio::test]
async fn a_burst_is_sent_whole_and_refusals_keep_their_reason() {
    let (address, _) = server(false).await;
    let plan = Plan::new(ask(address, 503), Load::AtOnce { requests: 30 });
    let recording = run(plan).await.unwrap();
    assert_eq!((recording.due, recording.good), (30, 0));
    assert_eq!(recording.bad["503 queue_full"], 30);
    assert_eq!(recording.bad_latency.count(), 30);
}

#[tokio::test]
async fn streams_share_an_http2_connection() {
    let (address, connections) = server(true).await;
    let ask = Ask { protocol: Protocol::Http2, ..ask(address, 200) };
    let plan =
        Plan { connections: 2, streams: 10, ..Plan::new(ask, Load::AtOnce { requests: 40 }) };
    let recording = run(plan).await.unwrap();
    assert_eq!((recording.good, recording.bad_total()), (40, 0), "{:?}", recording.bad);
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_connection_per_request() {
    let (address, connections) = server(false).await;
    let plan = Plan {
        reuse: false,
        connect_first: false,
        ..Plan::new(ask(address, 200), Load::AtOnce { requests: 20 })
    };
    assert_eq!(run(plan).await.unwrap().good, 20);
    assert_eq!(connections.load(Ordering::SeqCst), 20);
}

#[tokio::test]
async fn a_closed_loop_goes_on_for_its_time() {
    let (address, _) = server(false).await;
    let load = Load::Closed { duration: Duration::from_millis(100) };
    let recording =
        run(Plan { connections: 2, ..Plan::new(ask(address, 200), load) }).await.unwrap();
    assert!(recording.good > 2, "{recording:?}");
    assert!(recording.elapsed >= Duration::from_millis(100));
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let plan = Plan::new(ask(address, 200), Load::AtOnce { requests: 3 });
    let recording = run(plan).await.unwrap();
    assert_eq!(recording.bad["connect: refused"], 3);
}

/// A server that takes connections and says nothing.
#[tokio::test]
async fn silence_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let load = Load::AtOnce { requests: 2 };
    let timeout = Duration::from_millis(50);
    let recording = run(Plan { timeout, ..Plan::new(ask(address, 200), load) }).await.unwrap();
    assert_eq!(recording.bad["timeout"], 2);
}

/// A TLS server whose certificate is in the file that is returned.
async fn secure_server(folder: &std::path::Path) -> (SocketAddr, std::path::PathBuf) {
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::pki_types::PrivateKeyDer;

    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = folder.join("ca.pem");
    std::fs::write(&file, made.cert.pem()).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust it leaves.
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let (io, service) = (TokioIo::new(stream), service_fn(answer));
                let _ = if http2 {
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    builder.serve_connection(io, service).await
                } else {
                    hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
                };
            });
        }
    });
    (address, file)
}

#[tokio::test]
async fn tls_with_both_protocols_and_only_to_whom_is_trusted() {
    let scratch = crate::process::Scratch::new().unwrap();
    let (address, file) = secure_server(scratch.path()).await;
    let url = format!("https://localhost:{}/200", address.port());
    let told = async |trust: Trust, protocol| {
        let ask = Ask { trust, protocol, ..Ask::get(&url).unwrap() };
        let plan = Plan::new(ask, Load::AtOnce { requests: 5 });
        run(Plan { connections: 2, ..plan }).await.unwrap()
    };
    for protocol in [Protocol::Http1, Protocol::Http2] {
        for trust in [Trust::File(file.clone()), Trust::Anybody] {
            let recording = told(trust, protocol).await;
            assert_eq!((recording.good, recording.bad_total()), (5, 0), "{:?}", recording.bad);
        }
    }
    // Another certificate authority than the server's.
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&file, other.cert.pem()).unwrap();
    let recording = told(Trust::File(file.clone()), Protocol::Http1).await;
    assert_eq!(recording.good, 0);
    assert!(recording.bad.keys().all(|what| what.starts_with("connect: TLS:")), "{recording:?}");
    // And a file that has none.
    std::fs::write(&file, "nothing").unwrap();
    let ask = Ask { trust: Trust::File(file), ..Ask::get(&url).unwrap() };
    let error = run(Plan::new(ask, Load::AtOnce { requests: 1 })).await.unwrap_err();
    assert!(error.to_string().contains("no certificate"), "{error}");
}
