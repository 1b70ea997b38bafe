//! What the last build made of each revision, and of what: one that is made of the same things is
//! the same, and is not resolved again. So a change of one service costs what one service costs.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use super::data::{Data, DataSet};
use super::revisions::RevisionDraft;
use crate::config::scaling::PodAutoscalerSettings;
use crate::model::{ObjectName, RevisionId, RevisionSpec};

/// The revisions of the last build.
#[derive(Debug, Default)]
pub(super) struct Memo {
    made: MadeOf,
    data: Arc<DataSet>,
    /// Something that any revision may depend on has changed.
    is_stale: bool,
}

type MadeOf = HashMap<RevisionId, Made, foldhash::fast::FixedState>;

/// A revision, and what it was made of beside what all are made of.
#[derive(Clone, Debug)]
struct Made {
    template: Arc<Value>,
    directory: PathBuf,
    is_reachable: bool,
    scaler: Option<PodAutoscalerSettings>,
    spec: Arc<RevisionSpec>,
}

/// What a revision is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Basis<'a> {
    pub(super) draft: &'a RevisionDraft<'a>,
    pub(super) is_reachable: bool,
    pub(super) scaler: Option<&'a PodAutoscalerSettings>,
}

impl Memo {
    /// The settings have changed: every revision is made anew by the next build.
    pub(super) fn forget_settings(&mut self) {
        self.is_stale = true;
    }

    /// Begins a build of everything with these ConfigMaps and Secrets.
    pub(super) fn round(&mut self, data: DataSet) -> Round {
        let is_stale = std::mem::take(&mut self.is_stale) || !is_same_data(&self.data, &data);
        self.data = Arc::new(data);
        let former = std::mem::take(&mut self.made);
        let made =
            MadeOf::with_capacity_and_hasher(former.len(), foldhash::fast::FixedState::default());
        Round { made, former, data: Arc::clone(&self.data), is_stale }
    }

    /// Begins a build that may make only these revisions and new ones, while settings, ConfigMaps
    /// and Secrets are what they were.
    pub(super) fn part<'a>(&self, ids: impl Iterator<Item = &'a RevisionId>) -> Round {
        let known = ids.filter_map(|id| Some((id.clone(), self.made.get(id)?.clone())));
        let data = Arc::clone(&self.data);
        Round { made: MadeOf::default(), former: known.collect(), data, is_stale: self.is_stale }
    }

    /// Keeps what a build made: after one of everything, that alone.
    pub(super) fn keep(&mut self, round: Round) {
        if self.made.is_empty() {
            self.made = round.made;
        } else {
            self.made.extend(round.made);
        }
    }

    /// Forgets revisions.
    pub(super) fn forget<'a>(&mut self, ids: impl Iterator<Item = &'a RevisionId>) {
        for id in ids {
            self.made.remove(id);
        }
    }
}

/// One build. What it does not ask for is forgotten.
#[derive(Debug)]
pub(super) struct Round {
    made: MadeOf,
    former: MadeOf,
    data: Arc<DataSet>,
    is_stale: bool,
}

impl Round {
    /// The revision: the former one unless it is made of other things and comes out differently.
    pub(super) fn revision(
        &mut self,
        id: &RevisionId,
        basis: Basis<'_>,
        make: impl FnOnce(&DataSet) -> RevisionSpec,
    ) -> Arc<RevisionSpec> {
        let former = match self.former.remove_entry(id) {
            Some((id, former)) if !self.is_stale && former.is_made_of(basis) => {
                let spec = Arc::clone(&former.spec);
                self.made.insert(id, former);
                return spec;
            }
            former => former.map(|(_, former)| former.spec),
        };
        let spec = make(&self.data);
        let spec = match former {
            Some(former) if *former == spec => former,
            _ => Arc::new(spec),
        };
        let made = Made {
            template: Arc::clone(basis.draft.template),
            directory: basis.draft.directory.to_owned(),
            is_reachable: basis.is_reachable,
            scaler: basis.scaler.cloned(),
            spec: Arc::clone(&spec),
        };
        self.made.insert(id.clone(), made);
        spec
    }
}

impl Made {
    fn is_made_of(&self, basis: Basis<'_>) -> bool {
        let Basis { draft, is_reachable, scaler } = basis;
        Arc::ptr_eq(&self.template, draft.template)
            && self.directory == draft.directory
            && self.is_reachable == is_reachable
            && self.scaler.as_ref() == scaler
            && self.spec.service.as_ref() == draft.service
            && *self.spec.configuration == *draft.configuration
    }
}

/// Whether these are the same objects, not only of the same content.
fn is_same_data(a: &DataSet, b: &DataSet) -> bool {
    is_same_map(&a.config_maps, &b.config_maps) && is_same_map(&a.secrets, &b.secrets)
}

fn is_same_map(a: &HashMap<ObjectName, Arc<Data>>, b: &HashMap<ObjectName, Arc<Data>>) -> bool {
    let is_in_b = |(name, data): (&ObjectName, &Arc<Data>)| {
        b.get(name).is_some_and(|other| Arc::ptr_eq(data, other))
    };
    a.len() == b.len() && a.iter().all(is_in_b)
}
