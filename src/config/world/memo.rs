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
    made: HashMap<RevisionId, Made, foldhash::fast::FixedState>,
    data: DataSet,
    /// Something that any revision may depend on has changed.
    is_stale: bool,
}

/// A revision, and what it was made of beside what all are made of.
#[derive(Debug)]
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

    /// Begins a build with these ConfigMaps and Secrets. What it does not ask for is forgotten.
    pub(super) fn round(&mut self, data: DataSet) -> Round<'_> {
        let is_stale = std::mem::take(&mut self.is_stale) || !is_same_data(&self.data, &data);
        self.data = data;
        let former = std::mem::take(&mut self.made);
        self.made.reserve(former.len());
        Round { memo: self, former, is_stale }
    }
}

/// One build.
#[derive(Debug)]
pub(super) struct Round<'a> {
    memo: &'a mut Memo,
    former: HashMap<RevisionId, Made, foldhash::fast::FixedState>,
    is_stale: bool,
}

impl Round<'_> {
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
                self.memo.made.insert(id, former);
                return spec;
            }
            former => former.map(|(_, former)| former.spec),
        };
        let spec = make(&self.memo.data);
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
        self.memo.made.insert(id.clone(), made);
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
