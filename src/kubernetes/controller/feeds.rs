//! What the controller need not watch, because it is watched for the data plane.

use std::collections::HashMap;

use super::meta::{REVISION, ROUTE};
use crate::kubernetes::feed::{Feed, Relays};
use crate::kubernetes::kinds::Kind;

/// Kinds, and the label that their objects have.
const FED: [(Kind, Option<&str>); 9] = [
    (Kind::Route, None),
    (Kind::Revision, None),
    (Kind::DomainMapping, None),
    (Kind::PodAutoscaler, Some(REVISION)),
    (Kind::Deployment, Some(REVISION)),
    (Kind::Pod, Some(REVISION)),
    (Kind::CoreService, Some(REVISION)),
    (Kind::CoreService, Some(ROUTE)),
    (Kind::ConfigMap, None),
];

/// What the data plane's watches say.
#[derive(Debug)]
pub struct Feeds(HashMap<(Kind, Option<&'static str>), Feed>);

impl Feeds {
    /// Has it relayed.
    pub fn of(relays: &mut Relays) -> Self {
        Self(FED.into_iter().map(|of| (of, relays.feed(of.0, of.1))).collect())
    }

    /// The feed of a kind with this label, if it is watched for the data plane.
    pub(super) fn take(&mut self, kind: Kind, label: Option<&'static str>) -> Option<Feed> {
        self.0.remove(&(kind, label))
    }
}
