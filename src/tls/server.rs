//! The server side of TLS for one set of listeners.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::ServerSessionMemoryCache;
use rustls::version::{TLS12, TLS13};

use super::certificate::{Pair, PairError, PairFiles};
use super::choice::{Choices, Named, Resolver};
use super::handshake::Counts;
use super::reload::Seen;

/// TLS 1.2 sessions that are remembered for clients that take no tickets.
const SESSIONS: usize = 4096;

/// Why a listener cannot speak TLS: every pair with a problem, one a line.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Pairs that cannot be used.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Pairs(Vec<PairError>),
    /// The library's own.
    #[error("TLS cannot be set up: {0}")]
    Library(#[from] rustls::Error),
}

/// What metrics say of one certificate.
#[derive(Clone, Debug)]
pub struct CertificateState {
    /// Its file.
    pub file: String,
    /// DNS names it is for.
    pub names: Vec<String>,
    /// End of its validity, in seconds since 1970.
    pub not_after: u64,
    /// Whether the files have changed to something that cannot be used.
    pub outdated: bool,
}

/// TLS for one set of listeners.
#[derive(Debug)]
pub struct TlsServer {
    pub(super) config: Arc<ServerConfig>,
    pub(super) files: Vec<PairFiles>,
    /// What the files were when they were read.
    pub(super) opened: Vec<Seen>,
    pub(super) choices: Arc<ArcSwap<Choices>>,
    pub(super) named: Arc<ArcSwap<Named>>,
    pub(super) counts: Counts,
    /// Changed pairs: those that could not be used, and those that were taken up.
    pub(super) reloads: [AtomicU64; 2],
    pub(super) outdated: Vec<AtomicBool>,
}

impl TlsServer {
    /// Reads all pairs; the first is for clients that name nothing known: without any, those are
    /// refused. `protocols` are offered
    /// by ALPN (RFC 7301), the preferred one first.
    ///
    /// # Errors
    /// Every pair that cannot be used as of `now`.
    pub fn open(
        files: Vec<PairFiles>,
        protocols: &[&str],
        now: SystemTime,
    ) -> Result<Arc<Self>, TlsError> {
        let opened = files.iter().map(Seen::look).collect();
        let (mut pairs, mut problems) = (Vec::new(), Vec::new());
        for files in &files {
            match Pair::load(files, now) {
                Ok(pair) => {
                    announce(files, &pair, now);
                    pairs.push(Arc::new(pair));
                }
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(TlsError::Pairs(problems));
        }
        let choices = Arc::new(ArcSwap::from_pointee(Choices::new(pairs)));
        let named = Arc::<ArcSwap<Named>>::default();
        let resolver = Resolver { choices: Arc::clone(&choices), named: Arc::clone(&named) };
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        config.ticketer = ring::Ticketer::new()?;
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        Ok(Arc::new(Self {
            config: Arc::new(config),
            outdated: files.iter().map(|_| AtomicBool::new(false)).collect(),
            files,
            opened,
            choices,
            named,
            counts: Counts::default(),
            reloads: Default::default(),
        }))
    }

    /// Changed pairs so far: those that could not be used, and those that were taken up.
    pub fn reloads(&self) -> [u64; 2] {
        [0, 1].map(|good: usize| self.reloads[good].load(Ordering::Relaxed))
    }

    /// Certificates in use, in the order given, then those of single hosts.
    pub fn certificates(&self) -> Vec<CertificateState> {
        let choices = self.choices.load_full();
        let pairs = self.files.iter().zip(&choices.pairs).zip(&self.outdated);
        let of_files = pairs.map(|((files, pair), outdated)| CertificateState {
            file: files.cert.display().to_string(),
            names: pair.names.clone(),
            not_after: pair.expires(),
            outdated: outdated.load(Ordering::Relaxed),
        });
        let named = self.named.load_full();
        let of_hosts = named.iter().map(|(host, pair)| CertificateState {
            file: format!("DomainMapping {host}"),
            names: pair.names.clone(),
            not_after: pair.expires(),
            outdated: false,
        });
        let mut of_hosts: Vec<CertificateState> = of_hosts.collect();
        of_hosts.sort_by(|a, b| a.file.cmp(&b.file));
        of_files.chain(of_hosts).collect()
    }
}

/// Says what a certificate is for.
pub(super) fn announce(files: &PairFiles, pair: &Pair, now: SystemTime) {
    let (file, names) = (files.cert.display(), pair.names.join(" "));
    let days = pair.left(now).as_secs() / (24 * 3600);
    if pair.expires_soon(now) {
        tracing::warn!(%file, %names, days, "certificate expires soon: have it renewed");
    } else {
        tracing::info!(%file, %names, days, "certificate in use");
    }
    if pair.names.is_empty() {
        tracing::warn!(%file, "the certificate has no DNS name (subjectAltName): clients that ask \
            by name refuse it");
    }
}
