//! The https side of the data listeners: certificates at start, URLs, metrics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use crate::admin::metrics::{Family, Kind, Value};
use crate::cli::args::HttpsArgs;
use crate::tls::{PairFiles, TlsError, TlsServer};

/// Protocols offered, the preferred one first.
const PROTOCOLS: [&str; 2] = ["h2", "http/1.1"];

/// What comes between scheme, host and port in the URLs that people see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShownAt {
    /// Whether the scheme is https.
    pub secure: bool,
    /// The listener's port.
    pub port: u16,
}

impl ShownAt {
    /// The first https listener, else the first one.
    pub(super) fn new(http: &[SocketAddr], https_port: Option<u16>) -> Option<Self> {
        let secure = https_port.map(|port| Self { secure: true, port });
        secure.or_else(|| http.first().map(|at| Self { secure: false, port: at.port() }))
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

/// Reads the certificates of the https listeners, if there are any.
///
/// # Errors
/// Every pair that cannot be used, and what to do.
pub(super) fn open_tls(args: &HttpsArgs) -> Result<Option<Arc<TlsServer>>, TlsError> {
    if args.https.is_empty() {
        return Ok(None);
    }
    let pairs = args.pairs().map(|(cert, key)| PairFiles { cert: cert.into(), key: key.into() });
    TlsServer::open(pairs.collect(), &PROTOCOLS, SystemTime::now()).map(Some)
}

/// Takes up changed certificates for as long as the event loop runs.
pub(super) fn keep_current(tls: Option<&Arc<TlsServer>>) {
    if let Some(tls) = tls {
        drop(tokio::task::spawn_local(Arc::clone(tls).keep_current()));
    }
}

/// Series of a listener's handshakes and certificates.
pub(super) fn tls_families(tls: &TlsServer, listener: &'static str) -> Vec<Family> {
    let listener = ("listener", Arc::from(listener));
    let mut handshakes =
        Family::new("tidegate_tls_handshakes", Kind::Counter, "TLS handshakes by how they ended.");
    for (outcome, count) in tls.handshakes() {
        let labels = vec![listener.clone(), ("result", outcome.word().into())];
        handshakes.push(&Arc::default(), labels, Value::Whole(count));
    }
    let mut expiry = Family::new(
        "tidegate_tls_certificate_expiry_timestamp_seconds",
        Kind::Gauge,
        "End of a certificate's validity, in seconds since 1970.",
    );
    let mut outdated = Family::new(
        "tidegate_tls_certificate_outdated",
        Kind::Gauge,
        "1 while a pair's files have changed to what cannot be used: the pair before stays.",
    );
    for certificate in tls.certificates() {
        let labels = vec![listener.clone(), ("file", certificate.file.into())];
        let bad = u64::from(certificate.outdated);
        outdated.push(&Arc::default(), labels.clone(), Value::Whole(bad));
        expiry.push(&Arc::default(), labels, Value::Whole(certificate.not_after));
    }
    let mut reloads =
        Family::new("tidegate_tls_reloads", Kind::Counter, "Changed pairs, by what came of them.");
    for (result, count) in ["failed", "taken_up"].into_iter().zip(tls.reloads()) {
        let labels = vec![listener.clone(), ("result", result.into())];
        reloads.push(&Arc::default(), labels, Value::Whole(count));
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
            ShownAt::new(&of(http), port).map(|at| at.url("a.b"))
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
