//! Which endpoints are younger than a term: no keeper before it can have given slots of them away.

use std::collections::BTreeSet;

use crate::model::EndpointId;

/// What a keeper that is in doubt found out about endpoints, by two lists of pods: one that is in
/// the later and not in the earlier was made between them. Nobody's clock has a part in it. The
/// second list is needed, too: an endpoint in neither may be long gone, and still have requests of
/// a proxy that did not notice.
#[derive(Debug, Default)]
pub(super) struct Births {
    /// In the first list, which was asked for after the term began.
    before: Option<BTreeSet<EndpointId>>,
    /// Are younger.
    born: BTreeSet<EndpointId>,
    /// Are in no list.
    unknown: BTreeSet<EndpointId>,
}

/// What pods are to be listed for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    /// The term.
    pub(super) number: u32,
    /// None of them is in the first list; empty = this is to be the first.
    pub(super) about: BTreeSet<EndpointId>,
}

impl Births {
    /// Whether it is younger than the term.
    pub(super) fn is_born(&self, endpoint: &EndpointId) -> bool {
        self.born.contains(endpoint)
    }

    /// Which of these endpoints are to be looked for; none = no list is needed.
    pub(super) fn ask<'a>(
        &self,
        endpoints: impl Iterator<Item = &'a EndpointId>,
    ) -> Option<BTreeSet<EndpointId>> {
        let Some(before) = &self.before else { return Some(BTreeSet::new()) };
        let is_open = |endpoint: &EndpointId| {
            ![before, &self.born, &self.unknown].iter().any(|all| all.contains(endpoint))
        };
        let about: BTreeSet<_> = endpoints.filter(|e| is_open(e)).cloned().collect();
        (!about.is_empty()).then_some(about)
    }

    /// Pods as they were after that was asked. What is in this list and was not asked about may not
    /// have been known yet when it was sent: it is left for the next one.
    pub(super) fn listed(&mut self, about: BTreeSet<EndpointId>, pods: BTreeSet<EndpointId>) {
        if self.before.is_none() {
            self.before = Some(pods);
            return;
        }
        for endpoint in about {
            let found = if pods.contains(&endpoint) { &mut self.born } else { &mut self.unknown };
            found.insert(endpoint);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<EndpointId> {
        names.iter().map(|name| EndpointId::new(*name)).collect()
    }

    #[test]
    fn what_is_in_the_second_list_alone_is_younger() {
        let mut births = Births::default();
        let all = set(&["old", "gone", "new", "later"]);
        assert_eq!(births.ask(all.iter()), Some(BTreeSet::new()), "the first list");
        births.listed(BTreeSet::new(), set(&["old", "other"]));
        assert_eq!(births.ask(set(&["old"]).iter()), None);
        let about = births.ask(set(&["old", "gone", "new"]).iter()).expect("an ask");
        assert_eq!(about, set(&["gone", "new"]));
        births.listed(about, set(&["old", "new", "later"]));
        let born: Vec<_> = all.iter().filter(|e| births.is_born(e)).collect();
        assert_eq!(born, [&EndpointId::new("new")]);
        // Each is asked about once.
        assert_eq!(births.ask(all.iter()), Some(set(&["later"])));
    }
}
