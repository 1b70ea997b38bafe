//! The certificate that the webhook shows, exchanged without anybody noticing.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};

use super::super::keys::{CertificateError, Issued};

/// The pair that handshakes are made with.
#[derive(Debug, Default)]
pub struct Served {
    pair: ArcSwapOption<CertifiedKey>,
}

impl Served {
    /// Puts a pair in use.
    ///
    /// # Errors
    /// It cannot be used; the former one stays.
    pub fn put(&self, issued: &Issued) -> Result<(), CertificateError> {
        self.pair.store(Some(Arc::new(issued.pair()?)));
        Ok(())
    }

    /// The library's configuration with whatever pair is in use; without one handshakes fail.
    pub(super) fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        // One protocol: the API server spreads over replicas only with one connection per request.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.pair.load_full()
    }
}
