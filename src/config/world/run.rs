//! Commands that `--run` gives.

use std::collections::HashMap;
use std::sync::Arc;

use super::shell::split_command;
use crate::config::problem::ConfigProblem;
use crate::model::{ObjectName, RevisionId};

/// Commands by service or revision.
#[derive(Debug, Default)]
pub(super) struct RunCommands {
    commands: HashMap<ObjectName, Vec<Arc<str>>>,
    problems: Vec<ConfigProblem>,
}

impl RunCommands {
    /// Splits the commands; those that cannot be split are problems.
    pub(super) fn new(given: &[(String, String)]) -> Self {
        let mut run = Self::default();
        for (target, text) in given {
            let name = object_name(target);
            match split_command(text) {
                Ok(_) if run.commands.contains_key(&name) => {
                    let message = format!("--run names {name} twice");
                    run.problems
                        .push(ConfigProblem::error("", message).fix("remove one of the two"));
                }
                Ok(words) => {
                    run.commands.insert(name, words.into_iter().map(Arc::from).collect());
                }
                Err(error) => {
                    run.problems.push(ConfigProblem::error("", format!("--run {target}: {error}")));
                }
            }
        }
        run
    }

    /// Whether none is given.
    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.problems.is_empty()
    }

    /// Command of a revision: its own, else its service's or configuration's.
    pub(super) fn command(
        &self,
        revision: &RevisionId,
        configuration: &str,
    ) -> Option<&[Arc<str>]> {
        if self.commands.is_empty() {
            return None;
        }
        let configuration = ObjectName::new(Arc::clone(&revision.namespace), configuration);
        let own = self.commands.get(revision);
        own.or_else(|| self.commands.get(&configuration)).map(Vec::as_slice)
    }

    /// What is wrong with the options themselves.
    pub(super) fn problems(&self) -> Vec<ConfigProblem> {
        self.problems.clone()
    }

    /// Names that are neither a known revision's nor a known configuration's.
    pub(super) fn unknown(&self, is_known: impl Fn(&ObjectName) -> bool) -> Vec<&ObjectName> {
        let mut unknown: Vec<&ObjectName> =
            self.commands.keys().filter(|name| !is_known(name)).collect();
        unknown.sort();
        unknown
    }
}

/// `NAMESPACE/NAME`, or a name in `default`.
pub(super) fn object_name(text: &str) -> ObjectName {
    let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
    ObjectName::new(namespace, name)
}
