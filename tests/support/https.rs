//! Certificates made for a test, and clients that speak TLS.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![expect(clippy::unwrap_used, reason = "tests panic on purpose")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::client::{H1, H2, soon};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// An authority that issues certificates into a folder of its own.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    folder: TempDir,
}

/// The files of one pair.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Pair {
    /// Arguments that make tidegate listen with it.
    pub(crate) fn arguments(&self) -> [&str; 4] {
        ["--tls-cert", self.cert.to_str().unwrap(), "--tls-key", self.key.to_str().unwrap()]
    }
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "an authority of tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let cert = params.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), cert.pem()).unwrap();
        Self { der: cert.der().clone(), issuer: Issuer::new(params, key), folder }
    }

    /// The authority's certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn files(&self, name: &str) -> Pair {
        Pair { cert: self.path(&format!("{name}.crt")), key: self.path(&format!("{name}.key")) }
    }

    /// Writes a pair for these names; `name` is that of its files.
    pub(crate) fn issue(&self, name: &str, names: &[&str]) -> Pair {
        self.issue_valid(name, names, SystemTime::now() - DAY, SystemTime::now() + 30 * DAY)
    }

    pub(crate) fn issue_valid(
        &self,
        name: &str,
        names: &[&str],
        from: SystemTime,
        until: SystemTime,
    ) -> Pair {
        let (cert, key) = self.made(names, from, until);
        let files = self.files(name);
        std::fs::write(&files.cert, cert).unwrap();
        std::fs::write(&files.key, key).unwrap();
        files
    }

    /// A pair as PEM, not written anywhere.
    pub(crate) fn made(
        &self,
        names: &[&str],
        from: SystemTime,
        until: SystemTime,
    ) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = from.into();
        params.not_after = until.into();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        (cert.pem(), key.serialize_pem())
    }

    /// A client that trusts this authority and remembers its sessions.
    pub(crate) fn client(&self, protocols: &[&str]) -> TlsClient {
        self.client_of(protocols, rustls::ALL_VERSIONS)
    }

    pub(crate) fn client_of(
        &self,
        protocols: &[&str],
        versions: &[&'static SupportedProtocolVersion],
    ) -> TlsClient {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        TlsClient(TlsConnector::from(Arc::new(config)))
    }

    /// curl that trusts this authority, for a service's host at an address.
    pub(crate) fn curl(&self, host: &str, at: SocketAddr, arguments: &[&str]) -> Output {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "20", "--noproxy", "*"]);
        command.arg("--cacert").arg(self.ca());
        command.arg("--resolve").arg(format!("{host}:{}:{}", at.port(), at.ip()));
        command.args(arguments).output().unwrap()
    }

    /// `openssl s_client`, its standard input at its end at once; all it said.
    pub(crate) fn openssl(&self, at: SocketAddr, arguments: &[&str]) -> String {
        let output = Command::new("openssl")
            .args(["s_client", "-connect", &at.to_string(), "-CAfile"])
            .arg(self.ca())
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("this test needs openssl: install Debian's package `openssl`");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        text(&output.stdout) + &text(&output.stderr)
    }
}

/// A client's TLS with its sessions.
#[derive(Clone)]
pub(crate) struct TlsClient(TlsConnector);

impl TlsClient {
    /// A connection that asks for a name.
    pub(crate) async fn connect(&self, at: SocketAddr, name: &str) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(at).await.unwrap();
        stream.set_nodelay(true).unwrap();
        self.over(stream, name).await
    }

    /// The same on a connection that is there.
    pub(crate) async fn over(&self, stream: TcpStream, name: &str) -> TlsStream<TcpStream> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        soon(self.0.connect(name, stream)).await.unwrap()
    }

    pub(crate) async fn h1(&self, at: SocketAddr, name: &str) -> H1 {
        let stream = self.connect(at, name).await;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }

    pub(crate) async fn h2(&self, at: SocketAddr, name: &str) -> H2 {
        let stream = self.connect(at, name).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_connection_window_size(1 << 30)
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        sender
    }
}

/// Standard output of a command that succeeded.
pub(crate) fn printed(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {error}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The first of these names in a file's certificate, as the client sees it.
pub(crate) fn serial(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    let certificates = stream.get_ref().1.peer_certificates().unwrap();
    certificates[0].as_ref().to_vec()
}

/// The DER of the first certificate of a file.
pub(crate) fn der(path: &Path) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject as _;
    CertificateDer::from_pem_file(path).unwrap().as_ref().to_vec()
}
