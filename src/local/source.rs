//! Files as the source of configuration.

use std::collections::BTreeSet;

use crate::config::problem::ConfigProblem;
use crate::config::settings::LoggingSettings;
use crate::config::world::{Loaded, Loader, LoaderOptions};
use crate::platform::{ConfigSource, SourceError, Update, Updates};

use super::files::{ConfigFiles, FilesError};

/// Takes what the configuration says about logging.
pub type TakeLogging = Box<dyn Fn(Option<&LoggingSettings>)>;

/// Manifests in files, loaded again whenever they change.
pub struct FileSource {
    files: ConfigFiles,
    loader: Loader,
    first: Option<Loaded>,
    said: BTreeSet<String>,
    take_logging: TakeLogging,
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
}

fn texts(problems: &[ConfigProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl FileSource {
    /// Reads and loads for the first time; any problem is an error then.
    pub async fn open(
        paths: Vec<std::path::PathBuf>,
        options: LoaderOptions,
        take_logging: TakeLogging,
    ) -> Result<Self, OpenError> {
        let files = ConfigFiles::open(paths).await?;
        let mut loader = Loader::new(options);
        let loaded = loader.load(&files.files());
        if !loaded.problems.is_empty() {
            return Err(OpenError::Problems(loaded.problems));
        }
        Ok(Self { files, loader, first: Some(loaded), said: BTreeSet::new(), take_logging })
    }

    /// Says what is new since the last load, and hands the world on.
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
        updates.send(Update::World(loaded.world)).await.is_ok()
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
            let files = self.files.next().await;
            let loaded = self.loader.load(&files);
            tracing::info!(
                services = loaded.world.services.len(),
                problems = loaded.problems.len(),
                "configuration loaded"
            );
            if !self.hand_on(loaded, &updates).await {
                return Ok(());
            }
        }
    }
}
