//! Which pair a client gets: by the name it asks for (RFC 6066 §3), else the first.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::Pair;

/// The pairs in use, and where each name leads.
#[derive(Debug)]
pub(super) struct Choices {
    pub(super) pairs: Vec<Arc<Pair>>,
    /// Pairs for a name, in the order given; `*.` first in names that stand for one label.
    by_name: HashMap<Box<str>, Vec<usize>>,
}

impl Choices {
    /// The first pair is for clients that name nothing known.
    pub(super) fn new(pairs: Vec<Arc<Pair>>) -> Self {
        let mut by_name: HashMap<Box<str>, Vec<usize>> = HashMap::new();
        for (index, pair) in pairs.iter().enumerate() {
            for name in &pair.names {
                by_name.entry(name.as_str().into()).or_default().push(index);
            }
        }
        Self { pairs, by_name }
    }

    /// Pairs for a name: those that have it as it is, else those with a wildcard for its first
    /// label (RFC 9525 §6.3), else the first.
    pub(super) fn candidates(&self, name: Option<&str>) -> impl Iterator<Item = &Arc<Pair>> {
        let name = name.unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
        let wildcard = || {
            let (_, parent) = name.split_once('.')?;
            self.by_name.get(format!("*.{parent}").as_str())
        };
        let found = self.by_name.get(name.as_str()).or_else(wildcard);
        let indices = found.map_or(&[0][..], Vec::as_slice);
        indices.iter().filter_map(|index| self.pairs.get(*index))
    }
}

/// Pairs of single hosts, which are theirs whatever names they are made for.
pub(super) type Named = HashMap<Box<str>, Arc<Pair>>;

/// What the library asks at each handshake.
#[derive(Debug)]
pub(super) struct Resolver {
    pub(super) choices: Arc<ArcSwap<Choices>>,
    pub(super) named: Arc<ArcSwap<Named>>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = self.named.load();
        if !named.is_empty()
            && let Some(name) = hello.server_name()
            && let Some(pair) = named.get(&*name.trim_end_matches('.').to_ascii_lowercase())
        {
            return Some(Arc::clone(&pair.key));
        }
        let choices = self.choices.load();
        let mut candidates = choices.candidates(hello.server_name()).peekable();
        let first = candidates.peek().map(|pair| Arc::clone(&pair.key));
        // An RSA and an ECDSA certificate may have the same name: the client says what it can.
        let usable =
            candidates.find(|pair| pair.key.key.choose_scheme(hello.signature_schemes()).is_some());
        usable.map(|pair| Arc::clone(&pair.key)).or(first)
    }
}
