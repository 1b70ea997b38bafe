//! What protects the listeners: certificates and the token at start, URLs, metrics.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;

use crate::admin::metrics::{Family, Kind, Label, Value};
use crate::admin::{Token, TokenError};
use crate::cli::args::{HttpsArgs, TokenArgs};
use crate::model::{ServiceSpec, is_cluster_local};
use crate::tls::{NamedPair, PairFiles, TlsError, TlsServer};

/// Protocols offered, the preferred one first.
const PROTOCOLS: [&str; 2] = ["h2", "http/1.1"];

/// What comes between scheme, host and port in the URLs that people see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShownAt {
    /// Whether the scheme is https.
    pub secure: bool,
    /// The listener's port.
    pub port: u16,
    /// Port of the first listener for callers inside, where hosts that only they see are answered
    /// by it alone.
    pub inside: Option<u16>,
}

impl ShownAt {
    /// The first https listener, else the first one.
    pub(super) fn new(
        http: &[SocketAddr],
        inside: &[SocketAddr],
        https_port: Option<u16>,
    ) -> Option<Self> {
        let port = |listeners: &[SocketAddr]| listeners.first().map(SocketAddr::port);
        let inside = port(inside);
        let secure = https_port.map(|port| Self { secure: true, port, inside });
        secure.or_else(|| port(http).map(|port| Self { secure: false, port, inside }))
    }

    /// The URL of a service by one of its hosts.
    pub fn url_of(self, service: &ServiceSpec, host: &str) -> String {
        match self.inside.filter(|_| is_cluster_local(host, &service.id.namespace)) {
            Some(port) => Self { secure: false, port, inside: None }.url(host),
            None => self.url(host),
        }
    }

    /// The URL of a host, without a path. A scheme's own port is left out.
    pub fn url(self, host: &str) -> String {
        let (scheme, own) = if self.secure { ("https", 443) } else { ("http", 80) };
        if self.port == own {
            return format!("{scheme}://{host}");
        }
        format!("{scheme}://{host}:{}", self.port)
    }
}

/// The port by which clients reach the https listeners, if there are any.
pub(super) fn https_port(args: &HttpsArgs, https: &[SocketAddr]) -> Option<u16> {
    https.first().map(|address| args.https_port.unwrap_or(address.port()))
}

/// TLS of all listeners.
#[derive(Clone, Debug, Default)]
pub(super) struct TlsServers {
    /// Of the data listeners.
    pub(super) https: Option<Arc<TlsServer>>,
    pub(super) admin: Option<Arc<TlsServer>>,
}

impl TlsServers {
    /// Reads the certificates of the listeners that have any.
    ///
    /// # Errors
    /// Every pair that cannot be used, and what to do.
    pub(super) fn open(args: &HttpsArgs) -> Result<Self, TlsError> {
        let now = SystemTime::now();
        let pair = |(cert, key): (&Path, &Path)| PairFiles { cert: cert.into(), key: key.into() };
        let pairs: Vec<PairFiles> = args.pairs().map(pair).collect();
        let mut servers = Self::default();
        // Without any, hosts may get theirs later.
        if !args.https.is_empty() {
            servers.https = Some(TlsServer::open(pairs, &PROTOCOLS, now)?);
        }
        if let (Some(cert), Some(key)) = (&args.admin.admin_tls_cert, &args.admin.admin_tls_key) {
            servers.admin = Some(TlsServer::open(vec![pair((cert, key))], &["http/1.1"], now)?);
        }
        Ok(servers)
    }

    /// Takes up changed certificates for as long as the event loop runs.
    pub(super) fn keep_current(&self) {
        for server in self.https.iter().chain(&self.admin) {
            drop(tokio::task::spawn_local(Arc::clone(server).keep_current()));
        }
    }

    /// Takes up the certificates of single hosts for as long as the event loop runs.
    pub(super) fn take_named(&self, mut certificates: watch::Receiver<Vec<NamedPair>>) {
        let Some(server) = self.https.clone() else { return };
        drop(tokio::task::spawn_local(async move {
            while certificates.changed().await.is_ok() {
                let pairs = certificates.borrow_and_update().clone();
                server.set_named(&pairs, SystemTime::now());
            }
        }));
    }

    /// Series of handshakes and certificates; none without TLS.
    pub(super) fn families(&self) -> Vec<Family> {
        let servers = [("https", &self.https), ("admin", &self.admin)];
        let servers: Vec<_> = servers
            .into_iter()
            .filter_map(|(name, server)| Some((("listener", Arc::from(name)), server.as_ref()?)))
            .collect();
        if servers.is_empty() { Vec::new() } else { families(&servers) }
    }
}

/// The token of the admin listener, if one is set.
///
/// # Errors
/// It cannot be read, or is none.
pub(super) fn admin_token(args: &TokenArgs) -> Result<Option<Token>, TokenError> {
    match (&args.admin_token_file, &args.admin_token) {
        (Some(file), _) => Token::open(file).map(Some),
        (None, Some(token)) => Token::new(token, "TIDEGATE_ADMIN_TOKEN").map(Some),
        (None, None) => Ok(None),
    }
}

fn families(servers: &[(Label, &Arc<TlsServer>)]) -> Vec<Family> {
    let counter = |name, help| Family::new(name, Kind::Counter, help);
    let gauge = |name, help| Family::new(name, Kind::Gauge, help);
    let mut handshakes = counter("tidegate_tls_handshakes", "TLS handshakes by how they ended.");
    let mut reloads = counter("tidegate_tls_reloads", "Changed pairs, by what came of them.");
    let mut expiry = gauge(
        "tidegate_tls_certificate_expiry_timestamp_seconds",
        "End of a certificate's validity, in seconds since 1970.",
    );
    let mut outdated = gauge(
        "tidegate_tls_certificate_outdated",
        "1 while a pair's files have changed to what cannot be used: the pair before stays.",
    );
    for (listener, tls) in servers {
        let labels = |name, value: &str| vec![listener.clone(), (name, value.into())];
        let push = |family: &mut Family, labels, value| {
            family.push(&Arc::default(), labels, Value::Whole(value));
        };
        for (outcome, count) in tls.handshakes() {
            push(&mut handshakes, labels("result", outcome.word()), count);
        }
        for (result, count) in ["failed", "taken_up"].into_iter().zip(tls.reloads()) {
            push(&mut reloads, labels("result", result), count);
        }
        for certificate in tls.certificates() {
            let labels = labels("file", &certificate.file);
            push(&mut outdated, labels.clone(), u64::from(certificate.outdated));
            push(&mut expiry, labels, certificate.not_after);
        }
    }
    vec![handshakes, expiry, outdated, reloads]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_port_that_is_not_the_schemes_own() {
        let url = |http: &str, https: &str| {
            let of = |text: &str| -> Vec<SocketAddr> { text.parse().into_iter().collect() };
            let port = https_port(&HttpsArgs::default(), &of(https));
            ShownAt::new(&of(http), &[], port).map(|at| at.url("a.b"))
        };
        assert_eq!(url("127.0.0.1:80", "[::1]:443").as_deref(), Some("https://a.b"));
        assert_eq!(url("127.0.0.1:80", "").as_deref(), Some("http://a.b"));
        assert_eq!(url("127.0.0.1:443", "").as_deref(), Some("http://a.b:443"));
        assert_eq!(url("127.0.0.1:80", "[::]:80").as_deref(), Some("https://a.b:80"));
        assert_eq!(url("", ""), None);
        let given = HttpsArgs { https_port: Some(443), ..HttpsArgs::default() };
        assert_eq!(https_port(&given, &["[::]:8443".parse().unwrap()]), Some(443));
        assert_eq!(https_port(&given, &[]), None);
    }
}
