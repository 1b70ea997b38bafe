//! Pairs of single hosts that come from elsewhere than files, such as Secrets.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use super::certificate::{Pair, PairError, PairFiles};
use super::choice::Named;
use super::server::{TlsServer, announce};

/// The pair of one host.
#[derive(Clone, PartialEq, Eq)]
pub struct NamedPair {
    /// The host, lower case.
    pub host: Arc<str>,
    /// Where it comes from, in words.
    pub source: Arc<str>,
    /// The certificate, then the chain up to the root, in PEM.
    pub certificate: Arc<[u8]>,
    /// Its private key, in PEM.
    pub key: Arc<[u8]>,
}

impl std::fmt::Debug for NamedPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, source, .. } = self;
        f.debug_struct("NamedPair").field("host", host).field("source", source).finish()
    }
}

impl TlsServer {
    /// Takes the pairs of single hosts as they are now; they go before those of files. A host whose
    /// pair cannot be used keeps the one before, and it is said why.
    pub fn set_named(&self, pairs: &[NamedPair], now: SystemTime) {
        let former = self.named.load_full();
        let mut named = Named::with_capacity(pairs.len());
        for pair in pairs {
            let host: Box<str> = pair.host.to_ascii_lowercase().into();
            let before = former.get(&host);
            match load(pair, now) {
                Ok(loaded) if before.is_some_and(|before| before.key.cert == loaded.key.cert) => {
                    named.extend(before.map(|before| (host, Arc::clone(before))));
                }
                Ok(loaded) => {
                    announce(&files(pair), &loaded, now);
                    self.reloads[1].fetch_add(u64::from(before.is_some()), Ordering::Relaxed);
                    named.insert(host, Arc::new(loaded));
                }
                Err(error) => {
                    self.reloads[0].fetch_add(1, Ordering::Relaxed);
                    match before {
                        Some(before) => {
                            tracing::error!(%host, "{error}. The pair before stays in use");
                            named.insert(host, Arc::clone(before));
                        }
                        None => tracing::error!(%host, "{error}. There is no https for it"),
                    }
                }
            }
        }
        self.named.store(Arc::new(named));
    }
}

fn load(pair: &NamedPair, now: SystemTime) -> Result<Pair, PairError> {
    Pair::of(&files(pair), &pair.certificate, &pair.key, now)
}

/// What stands for the files in what is said of a pair.
fn files(pair: &NamedPair) -> PairFiles {
    let of = |key: &str| format!("{}: {key}", pair.source).into();
    PairFiles { cert: of("tls.crt"), key: of("tls.key") }
}
