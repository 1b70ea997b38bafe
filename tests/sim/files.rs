//! The manifests of a run, as text: edited, broken, removed, mended.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use fastrand::Rng;
use tidegate::config::world::SourceFile;

use crate::weather::{Service, Weather};

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    /// No YAML.
    Syntax,
    /// YAML that no manifest may be.
    Value,
    /// Cut off in the middle, as an editor may leave it for a moment.
    Half,
}

/// Where a service's traffic goes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Traffic {
    Latest,
    /// All to an older revision: a rollback.
    Pinned(String),
    /// A share to an older one.
    Split(String, u8),
}

/// A service's manifest.
#[derive(Clone, Debug)]
struct Manifest {
    service: Service,
    /// Goes into the template: another one is another revision.
    edition: u32,
    traffic: Traffic,
    comments: u32,
    /// Whether it depends on the service before it.
    needs: bool,
    harm: Option<Harm>,
    removed: bool,
}

/// All manifests.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    manifests: Vec<Manifest>,
    /// Whether new revisions are tried.
    tried: bool,
    bystander: bool,
    /// Services whose last file may go.
    removable: BTreeSet<usize>,
}

/// The longest list of revisions of a service in one run.
const EDITIONS_MAX: u32 = 4;

impl Files {
    pub(crate) fn new(weather: &Weather) -> Self {
        let manifest = |(n, service): (usize, &Service)| Manifest {
            service: service.clone(),
            needs: weather.needs && n > 0,
            edition: 1,
            traffic: Traffic::Latest,
            comments: 0,
            harm: None,
            removed: false,
        };
        let last = weather.services.len() - 1;
        Self {
            manifests: weather.services.iter().enumerate().map(manifest).collect(),
            tried: weather.canary.is_some(),
            bystander: false,
            removable: weather.removals.then_some(last).into_iter().collect(),
        }
    }

    /// The files as they are read.
    pub(crate) fn read(&self) -> Vec<SourceFile> {
        let mut files: Vec<SourceFile> = self
            .manifests
            .iter()
            .enumerate()
            .filter(|(_, manifest)| !manifest.removed)
            .map(|(n, manifest)| {
                SourceFile::new(format!("s{n}.yaml"), manifest.text(n, self.tried))
            })
            .collect();
        if self.bystander {
            files.push(SourceFile::new("bystander.yaml", BYSTANDER));
        }
        files
    }

    /// One change; gives what it was. `stamped` names a service's revisions, oldest first.
    pub(crate) fn edit(&mut self, rng: &mut Rng, stamped: impl Fn(usize) -> Vec<String>) -> String {
        let n = rng.usize(..self.manifests.len());
        let manifest = &mut self.manifests[n];
        let file = format!("s{n}.yaml");
        if manifest.removed {
            manifest.removed = false;
            return format!("{file} is put back");
        }
        if manifest.harm.take().is_some() {
            return format!("{file} is mended");
        }
        match rng.u8(..100) {
            0..25 if manifest.edition < EDITIONS_MAX => {
                manifest.edition += 1;
                format!("{file} has a new template, edition {}", manifest.edition)
            }
            25..50 => {
                let older = stamped(n);
                let Some(older) = (!older.is_empty()).then(|| &older[rng.usize(..older.len())])
                else {
                    return format!("{file} is written again");
                };
                manifest.traffic = match rng.u8(..3) {
                    0 => Traffic::Latest,
                    1 => Traffic::Pinned(older.clone()),
                    _ => Traffic::Split(older.clone(), rng.u8(1..100)),
                };
                format!("{file} sends its traffic to {:?}", manifest.traffic)
            }
            50..70 => {
                let harm = [Harm::Syntax, Harm::Value, Harm::Half][rng.usize(..3)];
                manifest.harm = Some(harm);
                format!("{file} is broken: {harm:?}")
            }
            70..80 if self.removable.contains(&n) => {
                // Its revisions go with it, and are not there when it is put back.
                (manifest.removed, manifest.traffic) = (true, Traffic::Latest);
                format!("{file} is removed")
            }
            80..90 => {
                self.bystander = !self.bystander;
                format!("bystander.yaml is {}", if self.bystander { "added" } else { "removed" })
            }
            _ => {
                manifest.comments += 1;
                format!("{file} has another comment")
            }
        }
    }

    /// A service has a new template.
    pub(crate) fn next_edition(&mut self, service: usize) -> String {
        let manifest = &mut self.manifests[service];
        manifest.edition += 1;
        format!("s{service}.yaml has a new template, edition {}", manifest.edition)
    }

    /// Everything is readable and there.
    pub(crate) fn mend(&mut self) {
        for manifest in &mut self.manifests {
            manifest.harm = None;
            manifest.removed = false;
        }
    }

    /// Services whose files are there, in whatever state.
    pub(crate) fn present(&self) -> impl Iterator<Item = usize> {
        let removed = self.manifests.iter().map(|manifest| manifest.removed);
        removed.enumerate().filter(|(_, removed)| !removed).map(|(service, _)| service)
    }

    /// Whether anything is not as it should be.
    pub(crate) fn are_harmed(&self) -> bool {
        self.manifests.iter().any(|manifest| manifest.harm.is_some())
    }
}

impl Manifest {
    fn text(&self, n: usize, tried: bool) -> String {
        let mut text = self.whole(n).unwrap_or_default();
        if tried {
            text = text.replace(&format!("{{name: s{n}}}"), &format!("{{name: s{n}, {TRIED}}}"));
        }
        match self.harm {
            None => text,
            Some(Harm::Syntax) => text.replace("containers:", "containers: [\n  :"),
            Some(Harm::Value) => text.replace("timeoutSeconds: ", "timeoutSeconds: -"),
            Some(Harm::Half) => text[..text.len() / 3].to_owned(),
        }
    }

    fn whole(&self, n: usize) -> Result<String, std::fmt::Error> {
        let service = &self.service;
        let mut text = String::new();
        for comment in 0..self.comments {
            writeln!(text, "# {comment}")?;
        }
        writeln!(text, "apiVersion: serving.knative.dev/v1\nkind: Service")?;
        writeln!(text, "metadata: {{name: s{n}}}\nspec:\n  template:\n    metadata:")?;
        writeln!(text, "      annotations:")?;
        let mut annotation =
            |name: &str, value: &dyn std::fmt::Display| writeln!(text, "        {name}: '{value}'");
        annotation("tidegate.dev/local-command", &"[\"replica\"]")?;
        annotation("autoscaling.knative.dev/min-scale", &service.min)?;
        annotation("autoscaling.knative.dev/initial-scale", &service.initial)?;
        if let Some(max) = service.max {
            annotation("autoscaling.knative.dev/max-scale", &max)?;
        }
        if let Some(target) = service.target {
            annotation("autoscaling.knative.dev/target", &target)?;
        }
        if let Some(timeout) = service.queue_timeout {
            annotation("tidegate.dev/queue-timeout", &format_args!("{}s", timeout.as_secs()))?;
        }
        if let Some(before) = n.checked_sub(1).filter(|_| self.needs) {
            annotation("tidegate.dev/depends-on", &format_args!("s{before}"))?;
        }
        if !service.eager {
            annotation("tidegate.dev/eager", &false)?;
        }
        writeln!(text, "    spec:\n      containerConcurrency: {}", service.limit)?;
        writeln!(text, "      timeoutSeconds: {}", service.timeout.as_secs())?;
        writeln!(text, "      containers:\n      - image: example/s{n}")?;
        if service.h2c {
            writeln!(text, "        ports: [{{name: h2c, containerPort: 8080}}]")?;
        }
        writeln!(text, "        env: [{{name: EDITION, value: '{}'}}]", self.edition)?;
        match &self.traffic {
            Traffic::Latest => {}
            Traffic::Pinned(revision) => {
                writeln!(text, "  traffic: [{{revisionName: {revision}, percent: 100}}]")?;
            }
            Traffic::Split(revision, percent) => writeln!(
                text,
                "  traffic:\n  - {{revisionName: {revision}, percent: {percent}}}\n  \
                 - {{latestRevision: true, percent: {}}}",
                100 - percent
            )?,
        }
        Ok(text)
    }
}

/// How new revisions are tried.
const TRIED: &str = "annotations: {tidegate.dev/rollout: canary, \
                     tidegate.dev/rollout-step-time: 2s, tidegate.dev/rollout-samples: '20'}";

/// A service that nobody asks for.
const BYSTANDER: &str = "\
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: bystander}
spec:
  template:
    spec:
      containerConcurrency: 1
      containers:
      - image: example/bystander
        command: [replica]
";
