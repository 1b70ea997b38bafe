//! The admission webhook over real TLS: what the API server does with it.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tidegate::config::AdmissionContext;
use tidegate::kubernetes::keys::{Issued, Purpose};
use tidegate::kubernetes::webhook::{
    DEFAULTING, LiveSettings, Served, VALIDATION, WebhookConfig, WebhookServer,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const NAME: &str = "tidegate-webhook.gate.svc";

struct Stage {
    issued: Issued,
    served: Arc<Served>,
    server: WebhookServer,
}

fn stage() -> Stage {
    let issued = Issued::new(Purpose::Webhook, &[NAME.to_owned()], SystemTime::now()).unwrap();
    let served = Arc::new(Served::default());
    served.put(&issued).unwrap();
    let server = WebhookServer::start(WebhookConfig {
        listener: std::net::TcpListener::bind("127.0.0.1:0").unwrap(),
        served: Arc::clone(&served),
        settings: Arc::new(LiveSettings::fixed(AdmissionContext::default())),
        client: None,
        needs: Arc::new(std::collections::BTreeMap::new),
    })
    .unwrap();
    Stage { issued, served, server }
}

type Connection = SendRequest<Full<Bytes>>;

/// A connection as the API server makes it: by the Service's name, trusting its bundle alone. With
/// it the certificate that was shown.
async fn connect(
    address: SocketAddr,
    bundle: &str,
) -> Result<(Connection, CertificateDer<'static>), std::io::Error> {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(authority.unwrap()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(ServerName::try_from(NAME).unwrap(), stream).await?;
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    Ok((sender, shown))
}

async fn send(
    connection: &mut Connection,
    method: Method,
    path: &str,
    body: impl Into<Bytes>,
) -> (StatusCode, String) {
    let request = Request::builder()
        .method(method)
        .uri(format!("{path}?timeout=5s"))
        .header("host", format!("{NAME}:443"))
        .header("content-type", "application/json")
        .body(Full::new(body.into()))
        .unwrap();
    let response = connection.send_request(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn review(name: &str) -> String {
    json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "serving.knative.dev", "version": "v1", "kind": "Service"},
            "resource": {"group": "serving.knative.dev", "version": "v1", "resource": "services"},
            "name": name, "namespace": "default", "operation": "CREATE",
            "userInfo": {"username": "anna", "groups": ["system:authenticated"]},
            "object": {
                "apiVersion": "serving.knative.dev/v1", "kind": "Service",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {"template": {"spec": {"containers": [{"image": "example.com/hello"}]}}},
            },
            "oldObject": null, "dryRun": false,
        },
    })
    .to_string()
}

#[tokio::test]
async fn the_api_server_is_answered_on_connections_that_it_keeps() {
    let stage = stage();
    let (mut connection, _) =
        connect(stage.server.address(), &stage.issued.authorities).await.unwrap();
    for name in ["hello", "Hello"] {
        let (status, body) = send(&mut connection, Method::POST, VALIDATION, review(name)).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status, StatusCode::OK);
        assert_eq!(body["response"]["allowed"], name == "hello", "{body:#}");
        assert_eq!(body["response"]["uid"], "705ab4f5-6393-11e8-b7cc-42010a800002");
    }
    let (status, body) = send(&mut connection, Method::POST, DEFAULTING, review("hello")).await;
    assert_eq!(status, StatusCode::OK);
    // Kubernetes takes patches as base64: JSON's form of bytes in Go.
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["response"]["patchType"], "JSONPatch", "{body:#}");
    assert!(body["response"]["patch"].is_string(), "{body:#}");
}

#[tokio::test]
async fn what_is_no_question_is_refused() {
    let stage = stage();
    let (mut connection, _) =
        connect(stage.server.address(), &stage.issued.authorities).await.unwrap();
    let large = vec![b' '; 9 << 20];
    let table: [(Method, &str, Vec<u8>, u16); 4] = [
        (Method::GET, VALIDATION, Vec::new(), 405),
        (Method::POST, "/", Vec::new(), 404),
        (Method::POST, VALIDATION, b"{".to_vec(), 400),
        (Method::POST, VALIDATION, large, 413),
    ];
    for (method, path, body, expected) in table {
        let (status, body) = send(&mut connection, method, path, body).await;
        assert_eq!(status.as_u16(), expected, "{path}: {body}");
    }
}

#[tokio::test]
async fn a_new_certificate_is_taken_up_without_losing_a_connection() {
    let stage = stage();
    let address = stage.server.address();
    let (mut old, first) = connect(address, &stage.issued.authorities).await.unwrap();
    let names = [NAME.to_owned()];
    let stranger = Issued::new(Purpose::Webhook, &names, SystemTime::now()).unwrap();
    let refused = connect(address, &stranger.authorities).await.unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");

    let more = [NAME.to_owned(), "tidegate-webhook.gate.svc.cluster.local".to_owned()];
    let renewed =
        stage.issued.renewed(Purpose::Webhook, &more, SystemTime::now()).unwrap().unwrap();
    assert_eq!(renewed.authorities, stage.issued.authorities);
    stage.served.put(&renewed).unwrap();
    let (_, second) = connect(address, &stage.issued.authorities).await.unwrap();
    assert_ne!(first, second);
    let (status, _) = send(&mut old, Method::POST, VALIDATION, review("hello")).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn it_ends_when_it_is_dropped() {
    let stage = stage();
    let address = stage.server.address();
    let (connection, _) = connect(address, &stage.issued.authorities).await.unwrap();
    let server = stage.server;
    tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
    drop(connection);
}
