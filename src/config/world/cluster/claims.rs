//! Who has which host, while objects come and go. A host is its own service's before it is a
//! tag's, a tag's before it is a `DomainMapping`'s, and among equals the oldest object's.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::model::ObjectName;

/// What wants a host, in the order of right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Claimant {
    /// A route, or a tag of it.
    Route(ObjectName),
    /// A `DomainMapping`.
    Mapping(ObjectName),
    /// A Service (core) that is adopted.
    Adopted(ObjectName),
}

impl std::fmt::Display for Claimant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Route(name) => write!(f, "service {name}"),
            Self::Mapping(name) => write!(f, "DomainMapping {name}"),
            Self::Adopted(name) => write!(f, "the adopted Service {name}"),
        }
    }
}

/// One claim.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claim {
    /// 0: the route's own, 1: of a tag, 2: mapped, 3: adopted.
    pub(super) rank: u8,
    /// When the claimant was made: RFC 3339, so that texts are in the order of time.
    pub(super) created: Arc<str>,
    pub(super) claimant: Claimant,
}

/// All claims.
#[derive(Debug, Default)]
pub(super) struct Claims {
    by_host: HashMap<Arc<str>, BTreeSet<Claim>, foldhash::fast::FixedState>,
}

impl Claims {
    /// Adds a claim; answers who had the host so far.
    pub(super) fn add(&mut self, host: &Arc<str>, claim: Claim) -> Option<Claimant> {
        let claims = self.by_host.entry(Arc::clone(host)).or_default();
        let former = claims.first().map(|claim| claim.claimant.clone());
        claims.insert(claim);
        former
    }

    /// Takes a claim back; answers who has the host now.
    pub(super) fn remove(&mut self, host: &Arc<str>, claim: &Claim) -> Option<Claimant> {
        let claims = self.by_host.get_mut(host)?;
        claims.remove(claim);
        let now = claims.first().map(|claim| claim.claimant.clone());
        if now.is_none() {
            self.by_host.remove(host);
        }
        now
    }

    /// The claim that counts.
    pub(super) fn owner(&self, host: &str) -> Option<&Claim> {
        self.by_host.get(host)?.first()
    }
}
