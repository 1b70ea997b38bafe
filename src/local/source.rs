//! Files as the source of configuration.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::config::problem::ConfigProblem;
use crate::config::settings::LoggingSettings;
use crate::config::world::{Loaded, Loader, LoaderOptions};
use crate::platform::{ConfigSource, SourceError, Update, Updates};

use super::files::{ConfigFiles, FilesError};
use super::state::{self, Memory, Place, Replicas, StateError, StateFolder};

/// How often old revisions are looked for that nobody needs any more.
const COLLECT_EVERY: Duration = Duration::from_secs(600);

/// Takes what the configuration says about logging.
pub type TakeLogging = Box<dyn Fn(Option<&LoggingSettings>)>;

/// Manifests in files, loaded again whenever they change.
pub struct FileSource {
    files: ConfigFiles,
    loader: Loader,
    first: Option<Loaded>,
    said: BTreeSet<String>,
    take_logging: TakeLogging,
    memory: Option<Memory>,
    replicas: Replicas,
    /// Seconds since the Unix epoch.
    clock: fn() -> u64,
}

impl std::fmt::Debug for FileSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileSource").field("files", &self.files).finish_non_exhaustive()
    }
}

/// The first load did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Files are missing or cannot be read.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The manifests have problems.
    #[error("{}", texts(.0))]
    Problems(Vec<ConfigProblem>),
    /// The state of an earlier life cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
}

fn texts(problems: &[ConfigProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl FileSource {
    /// Reads and loads for the first time, on top of what is remembered at `place`; any problem is
    /// an error then.
    pub async fn open(
        paths: Vec<std::path::PathBuf>,
        options: LoaderOptions,
        take_logging: TakeLogging,
        place: Option<&Place>,
    ) -> Result<Self, OpenError> {
        let files = ConfigFiles::open(paths.clone()).await?;
        let folder = match place {
            Some(place) => StateFolder::open(place, &paths)?,
            None => None,
        };
        let mut loader = Loader::new(options);
        let mut replicas = Replicas::default();
        if let Some(folder) = &folder {
            let remembered = folder.read()?;
            tracing::info!(folder = %folder.path().display(), "state is kept");
            loader = loader.with_stamps(remembered.stamps);
            replicas = remembered.replicas;
        }
        loader.set_now(state::now());
        let loaded = loader.load(&files.files());
        if !loaded.problems.is_empty() {
            return Err(OpenError::Problems(loaded.problems));
        }
        let memory = folder.map(Memory::start).transpose()?;
        let (first, said) = (Some(loaded), BTreeSet::new());
        let clock = state::now;
        Ok(Self { files, loader, first, said, take_logging, memory, replicas, clock })
    }

    /// What keeps the state, if anything does.
    pub fn memory(&self) -> Option<Memory> {
        self.memory.clone()
    }

    /// Replicas as they were before a restart.
    pub fn take_replicas(&mut self) -> Replicas {
        std::mem::take(&mut self.replicas)
    }

    /// Says what is new since the last load, and hands the world on. Revisions are remembered
    /// before they get traffic, so that their names mean the same after a restart at any moment.
    async fn hand_on(&mut self, loaded: Loaded, updates: &Updates) -> bool {
        (self.take_logging)(loaded.logging.as_ref());
        let mut said = BTreeSet::new();
        for problem in &loaded.problems {
            let text = problem.to_string();
            if !self.said.contains(&text) {
                tracing::error!("not taken, its former self stays in effect: {text}");
            }
            said.insert(text);
        }
        for text in loaded.warnings {
            if !self.said.contains(&text) {
                tracing::warn!("{text}");
            }
            said.insert(text);
        }
        self.said = said;
        for revision in &loaded.collected {
            tracing::info!(%revision, "collected: no traffic names it, and config-gc keeps it no longer");
        }
        if let Some(memory) = &self.memory {
            // What cannot be written does not hold up an edit: it may be what helps.
            memory.save_revisions(self.loader.stamps()).await;
        }
        updates.send(Update::World(loaded.world)).await.is_ok()
    }

    /// The next world: because files changed, or because revisions have become too old.
    async fn next(&mut self) -> Loaded {
        loop {
            let look = Instant::now() + COLLECT_EVERY;
            let changed = tokio::select! {
                files = self.files.next() => Some(files),
                () = sleep_until(look) => None,
            };
            self.loader.set_now((self.clock)());
            match changed {
                Some(files) => {
                    let loaded = self.loader.load(&files);
                    tracing::info!(
                        services = loaded.world.services.len(),
                        problems = loaded.problems.len(),
                        "configuration loaded"
                    );
                    return loaded;
                }
                None if self.loader.may_collect() => return self.loader.load(&self.files.files()),
                None => {}
            }
        }
    }
}

impl ConfigSource for FileSource {
    async fn run(mut self, updates: Updates) -> Result<(), SourceError> {
        if let Some(first) = self.first.take()
            && !self.hand_on(first, &updates).await
        {
            return Ok(());
        }
        loop {
            let loaded = self.next().await;
            if !self.hand_on(loaded, &updates).await {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::sync::mpsc;

    use super::*;

    fn service(command: &str) -> String {
        format!(
            "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{name: hello}}\nspec:\n  \
             template: {{spec: {{containers: [{{image: example/x, command: [{command}]}}]}}}}\n---\n\
             apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: config-gc}}\ndata:\n  \
             min-non-active-revisions: \"0\"\n"
        )
    }

    async fn open(file: &std::path::Path, place: Option<&Place>) -> FileSource {
        let options = LoaderOptions::default();
        FileSource::open(vec![file.to_owned()], options, Box::new(|_| {}), place).await.unwrap()
    }

    fn names(loaded: &Loaded) -> Vec<&str> {
        loaded.world.revisions.iter().map(|revision| &*revision.id.name).collect()
    }

    /// Nothing changes, and still the old revision goes when it is old enough. Time is tokio's: it
    /// stands still while files are read.
    #[tokio::test(start_paused = true)]
    async fn old_revisions_are_collected_without_an_edit() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("app.yaml");
        fs::write(&file, service("a")).unwrap();
        let mut source = open(&file, None).await;
        fs::write(&file, service("b")).unwrap();
        assert_eq!(names(&source.next().await), ["hello-00001", "hello-00002"]);
        let start = Instant::now();
        source.clock = || state::now() + 49 * 3600;
        assert_eq!(names(&source.next().await), ["hello-00002"]);
        assert!(start.elapsed() >= COLLECT_EVERY, "{:?}", start.elapsed());
    }

    /// What the application is told has been written before.
    #[tokio::test]
    async fn a_revision_is_remembered_before_it_gets_traffic() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("app.yaml");
        let state = folder.path().join("state");
        let place = Place::Folder(state.clone());
        fs::write(&file, service("a")).unwrap();
        let mut source = open(&file, Some(&place)).await;
        assert!(!state.join("revisions.json").exists(), "it might yet fail to start");
        let (updates, mut received) = mpsc::channel(1);
        let first = source.first.take().unwrap();
        assert!(source.hand_on(first, &updates).await);
        let Some(Update::World(world)) = received.recv().await else { panic!("it was sent") };
        assert_eq!(&*world.revisions[0].id.name, "hello-00001");
        let written = fs::read_to_string(state.join("revisions.json")).unwrap();
        assert!(written.contains("hello-00001"), "{written}");
        let second =
            FileSource::open(vec![file], LoaderOptions::default(), Box::new(|_| {}), Some(&place));
        let refused = second.await;
        assert!(matches!(refused, Err(OpenError::State(StateError::Held { .. }))));
    }
}
