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
    pub(super) fn new(http: &[SocketAddr], https: &[SocketAddr]) -> Option<Self> {
        let of = |secure, address: &SocketAddr| Self { secure, port: address.port() };
        let secure = https.first().map(|address| of(true, address));
        secure.or_else(|| http.first().map(|address| of(false, address)))
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
    for certificate in tls.certificates() {
        let labels = vec![listener.clone(), ("file", certificate.file.into())];
        expiry.push(&Arc::default(), labels, Value::Whole(certificate.not_after));
    }
    vec![handshakes, expiry]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_port_that_is_not_the_schemes_own() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (http, https) = ([address("127.0.0.1:80")], [address("[::1]:443")]);
        let url = |http: &[SocketAddr], https: &[SocketAddr]| {
            ShownAt::new(http, https).map(|at| at.url("a.b"))
        };
        assert_eq!(url(&http, &https).as_deref(), Some("https://a.b"));
        assert_eq!(url(&http, &[]).as_deref(), Some("http://a.b"));
        let odd = [address("127.0.0.1:443")];
        assert_eq!(url(&odd, &[]).as_deref(), Some("http://a.b:443"));
        assert_eq!(url(&http, &[address("127.0.0.1:80")]).as_deref(), Some("https://a.b:80"));
        assert_eq!(url(&[], &[]), None);
    }
}
