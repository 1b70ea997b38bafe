//! Worlds from manifests, load after load.

mod canary;
mod depending;
mod examples;
mod exporting;
mod former_self;
mod hosting;
mod invariants;
mod ordering;
mod patches;
mod retention;
mod rolling;
mod scaling;
mod stamping;
mod whole;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::model::{RevisionSpec, ServiceSpec, Workload};

/// A loader and the files it is given.
struct Bench {
    loader: Loader,
    files: BTreeMap<String, String>,
    /// Seconds since the Unix epoch.
    now: u64,
}

impl Bench {
    fn new() -> Self {
        Self::with(LoaderOptions::default())
    }

    fn with(options: LoaderOptions) -> Self {
        Self { loader: Loader::new(options), files: BTreeMap::new(), now: 0 }
    }

    /// Loads all files with this one written anew.
    fn write(&mut self, path: &str, text: &str) -> Loaded {
        self.files.insert(path.to_owned(), text.to_owned());
        self.load()
    }

    /// Loads all files but this one.
    fn remove(&mut self, path: &str) -> Loaded {
        self.files.remove(path);
        self.load()
    }

    fn load(&mut self) -> Loaded {
        let files: Vec<SourceFile> =
            self.files.iter().map(|(path, text)| SourceFile::new(path, text.as_str())).collect();
        let moment = Moment { now: self.moment(), ..Moment::default() };
        self.loader.load_at(&files, &moment)
    }

    fn moment(&self) -> UnixNanos {
        UnixNanos(self.now * 1_000_000_000)
    }
}

/// A service with a command, further lines below `spec`, and lines below the template's `spec`.
fn service(name: &str, command: &str, spec: &str) -> String {
    format!(
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  \
         template:\n    spec:\n      containers:\n      - image: example/{name}\n        \
         command: [{command}]\n{spec}"
    )
}

/// A service as one line: where its traffic goes, its tags, why it cannot serve.
fn traffic_of(service: &ServiceSpec) -> String {
    let mut text = format!("{}:", service.id);
    for target in &service.traffic {
        text.push_str(&format!(" {} {}%", target.revision.name, target.percent));
    }
    for tag in &service.tags {
        text.push_str(&format!(" {}→{}", tag.name, tag.revision.name));
    }
    if let Some(problem) = &service.problem {
        text.push_str(&format!(" {}", problem.reason));
    }
    text
}

/// All services, one a line.
fn traffic(loaded: &Loaded) -> String {
    loaded.world.services.iter().map(|service| traffic_of(service)).collect::<Vec<_>>().join("\n")
}

/// All revisions with their commands, one a line.
fn revisions(loaded: &Loaded) -> String {
    let line = |revision: &Arc<RevisionSpec>| {
        let command = match &revision.workload {
            Workload::Process(process) => process.command.join(" "),
            Workload::Static(addresses) => format!("{addresses:?}"),
            Workload::Unavailable(problem) => problem.reason.to_string(),
            Workload::Pods(pods) => format!("pods of {}", pods.scaled.name),
        };
        let reachable = if revision.scaling.reachable { "" } else { " (unreachable)" };
        format!("{}: {command}{reachable}", revision.id)
    };
    loaded.world.revisions.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// All problems as printed.
fn problems(loaded: &Loaded) -> String {
    loaded.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Asserts that nothing is wrong.
#[track_caller]
fn assert_good(loaded: &Loaded) {
    assert_eq!(problems(loaded), "");
    assert!(loaded.world.rejected.is_empty());
}
