//! TLS between proxies: both sides show a certificate of the authority that they share.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use kube::Client;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::SERVICE;
use crate::kubernetes::keys::{
    CertificateError, Issued, KeyError, KeySecret, Purpose, Rotation, trusted,
};

/// Name of the Secret.
const SECRET: &str = "tidegate-peers";
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// After something failed.
const AGAIN: Duration = Duration::from_secs(2);

/// Both roles with the keys in use.
struct Both {
    server: TlsAcceptor,
    client: TlsConnector,
}

/// The keys in use; exchanged without an end to connections that exist.
#[derive(Default)]
pub struct PeerKeys {
    both: ArcSwapOption<Both>,
    are_there: watch::Sender<bool>,
}

impl std::fmt::Debug for PeerKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerKeys").finish_non_exhaustive()
    }
}

impl PeerKeys {
    /// Puts a pair in use, and authorities to trust.
    ///
    /// # Errors
    /// They cannot be used; the former ones stay.
    pub fn put(&self, pair: &Issued, authorities: &str) -> Result<(), CertificateError> {
        let both = Both::new(pair, authorities)?;
        self.both.store(Some(Arc::new(both)));
        self.are_there.send_replace(true);
        Ok(())
    }

    /// Returns once there are keys.
    pub(super) async fn exist(&self) {
        // The sender is ours: it does not end before.
        drop(self.are_there.subscribe().wait_for(|are_there| *are_there).await);
    }

    /// The called side of a handshake.
    ///
    /// # Errors
    /// The caller is not known, or left.
    pub(super) async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let both = self.both.load_full().ok_or(io::ErrorKind::NotConnected)?;
        both.server.accept(stream).await.map(TlsStream::Server)
    }

    /// The calling side of a handshake.
    ///
    /// # Errors
    /// The other side is not known, or left.
    pub(super) async fn call<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let both = self.both.load_full().ok_or(io::ErrorKind::NotConnected)?;
        let name = ServerName::try_from(SERVICE).map_err(io::Error::other)?;
        both.client.connect(name, stream).await.map(TlsStream::Client)
    }

    /// Keeps the keys current for good, made or renewed where they have to be.
    pub async fn keep(&self, client: &Client, namespace: &str) {
        let mut rotation = Rotation::default();
        let mut is_failing = false;
        loop {
            let wait = match self.look(client, namespace, &mut rotation).await {
                Ok(()) => {
                    is_failing = false;
                    LOOK_EVERY
                }
                // The other one's are there by the next look.
                Err(KeyError::Conflict) => Duration::from_millis(100),
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::warn!(
                            %error,
                            "the keys that proxies know each other by cannot be kept: nothing is \
                             scaled down without them. The role needs the Secret {SECRET} in its \
                             namespace"
                        );
                    }
                    AGAIN
                }
            };
            sleep(wait).await;
        }
    }

    async fn look(
        &self,
        client: &Client,
        namespace: &str,
        rotation: &mut Rotation,
    ) -> Result<(), KeyError> {
        let secret = KeySecret { client, namespace, name: SECRET, purpose: Purpose::Peers };
        let issued = secret.current(&[SERVICE.to_owned()]).await?;
        if rotation.take(&issued)?
            && let Some(pair) = rotation.pair()
        {
            self.put(pair, rotation.authorities())?;
        }
        Ok(())
    }
}

impl Both {
    fn new(pair: &Issued, authorities: &str) -> Result<Self, CertificateError> {
        let broken = |error: &dyn std::fmt::Display| CertificateError::Use(error.to_string());
        let roots = Arc::new(trusted(authorities)?);
        let pair = Arc::new(SingleCertAndKey::from(pair.pair()?));
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|error| broken(&error))?;
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| broken(&error))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::clone(&pair) as Arc<dyn ResolvesServerCert>);
        // Every connection shows its key anew.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| broken(&error))?
            .with_root_certificates(roots)
            .with_client_cert_resolver(pair as Arc<dyn ResolvesClientCert>);
        client.resumption = Resumption::disabled();
        Ok(Self {
            server: TlsAcceptor::from(Arc::new(server)),
            client: TlsConnector::from(Arc::new(client)),
        })
    }
}
