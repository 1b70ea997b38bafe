//! Files as the source of configuration.

mod progress;
#[cfg(test)]
mod remembering;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use crate::config::problem::ConfigProblem;
use crate::config::settings::Takers;
use crate::config::world::{
    Advance, Export, FileChange, Loaded, Loader, LoaderOptions, Moment, NewTraffic, OrderError,
    TrafficChange,
};
use crate::model::{ServiceId, World};
use crate::platform::{ConfigSource, SourceError, Update, Updates};

use super::files::{ConfigFiles, FilesError};
use super::state::{Memory, Place, Replicas, StateError, StateFolder};
use progress::{Progress, Wall};

pub use progress::{CountedOf, InEffect, IsReady, Outcome, StandingOf};

/// After something happened to replicas, moving traffic is looked at no sooner than this: more
/// often happens right after it.
const BREATH: Duration = Duration::from_millis(20);

/// How often old revisions are looked for that nobody needs any more.
const COLLECT_EVERY: Duration = Duration::from_secs(600);

/// What is missing at the start counts as deleted if it does not come for so long: a file may just
/// be replaced.
const MISSING_FOR: Duration = Duration::from_secs(2);

/// Questions and orders that may wait.
const ASKS: usize = 16;

/// What the source is asked, or told.
#[derive(Debug)]
pub enum Ask {
    /// Other traffic for a service.
    Traffic(TrafficAsk),
    /// All that is in effect; the values of Secrets too, or not.
    Export(bool, oneshot::Sender<Export>),
}

/// An order for a service's traffic.
#[derive(Debug)]
pub struct TrafficAsk {
    /// Whose.
    pub service: ServiceId,
    /// What it is to be.
    pub new: NewTraffic,
    /// Only say what would change.
    pub dry_run: bool,
    /// Told what changed, once it is remembered and handed on.
    pub reply: oneshot::Sender<Result<TrafficChange, OrderError>>,
}

/// Why the source wakes.
enum Wake {
    /// Somebody asks.
    Ask(Ask),
    /// Files changed.
    Files(Vec<FileChange>),
    /// Moving traffic may get further.
    Rollout,
    /// Revisions may have become too old.
    Collect,
}

/// Manifests in files, loaded again whenever they change.
pub struct FileSource {
    files: ConfigFiles,
    loader: Loader,
    first: Option<Loaded>,
    said: BTreeSet<String>,
    takers: Takers,
    wall: Wall,
    progress: Progress,
    /// Services whose traffic moved when it was looked at last.
    rolling: BTreeSet<ServiceId>,
    /// Those whose new revision waited then for what it depends on.
    held: BTreeSet<ServiceId>,
    memory: Option<Memory>,
    replicas: Replicas,
    /// When old revisions are looked for next.
    collect_at: Instant,
    /// Both ends of the channel of questions: it never ends.
    asks: (mpsc::Sender<Ask>, mpsc::Receiver<Ask>),
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
        takers: Takers,
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
        let wall = Wall::new();
        let moment = Moment { now: wall.now(), ..Moment::default() };
        let loaded = loader.load_at(&files.files(), &moment);
        if !loaded.problems.is_empty() {
            return Err(OpenError::Problems(loaded.problems));
        }
        Ok(Self {
            files,
            loader,
            first: Some(loaded),
            said: BTreeSet::new(),
            takers,
            wall,
            progress: Progress::default(),
            rolling: BTreeSet::new(),
            held: BTreeSet::new(),
            memory: folder.map(Memory::start).transpose()?,
            replicas,
            collect_at: Instant::now() + MISSING_FOR,
            asks: mpsc::channel(ASKS),
        })
    }

    /// What keeps the state, if anything does.
    pub fn memory(&self) -> Option<Memory> {
        self.memory.clone()
    }

    /// Where it is asked.
    pub fn asks(&self) -> mpsc::Sender<Ask> {
        self.asks.0.clone()
    }

    /// Replicas as they were before a restart.
    pub fn take_replicas(&mut self) -> Replicas {
        std::mem::take(&mut self.replicas)
    }

    /// The same, told what becomes of its updates. Without, nothing is known of revisions, and
    /// traffic that begins to move stays at its first per cent.
    #[must_use]
    pub fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.progress.outcome = Some(outcome);
        self
    }

    /// Says what is new since the last load, and hands the world on.
    async fn hand_on(&mut self, loaded: Loaded, updates: &Updates) -> bool {
        (self.takers.logging)(loaded.logging.as_ref());
        (self.takers.observability)(&loaded.observability);
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
        self.send(loaded.world, updates).await
    }

    /// Hands a world on, and says whose traffic begins or ends to move or to wait. Revisions are remembered
    /// before they get traffic, so that their names mean the same after a restart at any moment.
    async fn send(&mut self, world: Arc<World>, updates: &Updates) -> bool {
        let rolling: BTreeSet<ServiceId> = self.loader.rolling().cloned().collect();
        for service in rolling.difference(&self.rolling) {
            tracing::info!(%service, "traffic moves to the new revision step by step");
        }
        for service in self.rolling.difference(&rolling) {
            tracing::info!(%service, "its traffic no longer moves");
        }
        self.rolling = rolling;
        let held: BTreeSet<ServiceId> = self.loader.held_back().cloned().collect();
        for service in held.difference(&self.held) {
            tracing::info!(%service, "its new revision gets traffic once what it depends on is ready");
        }
        for service in self.held.difference(&held) {
            tracing::info!(%service, "its new revision waits no more");
        }
        self.held = held;
        if let Some(memory) = &self.memory {
            // What cannot be written does not hold up an edit: it may be what helps.
            memory.save_revisions(self.loader.stamps()).await;
        }
        self.progress.sent = Some(Arc::clone(&world));
        updates.send(Update::World(world)).await.is_ok()
    }

    /// Loads files, or moves traffic on; whether anybody still takes updates.
    async fn take(&mut self, wake: Wake, updates: &Updates) -> bool {
        let now = self.wall.now();
        let reload = |loader: &mut Loader, progress: &Progress, changes| {
            progress.at(now, |moment| loader.load_changes(changes, moment))
        };
        let loaded = match wake {
            Wake::Ask(Ask::Traffic(ask)) => return self.traffic(ask, updates).await,
            Wake::Ask(Ask::Export(secrets, reply)) => {
                // Whoever asked may be gone.
                let _ = reply.send(self.loader.export(secrets));
                return true;
            }
            Wake::Files(changes) => {
                let loaded = reload(&mut self.loader, &self.progress, changes);
                tracing::info!(
                    services = loaded.world.services.len(),
                    problems = loaded.problems.len(),
                    "configuration loaded"
                );
                loaded
            }
            Wake::Rollout => match self.progress.at(now, |moment| self.loader.advance(moment)) {
                Advance::Still => return true,
                Advance::Moved(world) => return self.send(world, updates).await,
                Advance::Loaded(loaded) => *loaded,
                Advance::Reload => reload(&mut self.loader, &self.progress, Vec::new()),
            },
            Wake::Collect => {
                self.collect_at = Instant::now() + COLLECT_EVERY;
                if !self.loader.may_collect(now) {
                    return true;
                }
                reload(&mut self.loader, &self.progress, Vec::new())
            }
        };
        self.hand_on(loaded, updates).await
    }

    /// Carries out an order for traffic; whether anybody still takes updates.
    async fn traffic(&mut self, ask: TrafficAsk, updates: &Updates) -> bool {
        let TrafficAsk { service, new, dry_run, reply } = ask;
        if dry_run {
            // Whoever asked may be gone; so below.
            let _ = reply.send(self.loader.plan_traffic(&service, &new));
            return true;
        }
        let order = |moment: &Moment<'_>| self.loader.order_traffic(&service, &new, moment);
        match self.progress.at(self.wall.now(), order) {
            Ok((change, loaded)) => {
                let shown = |shares: &[(String, u8)]| {
                    let shares = shares.iter().map(|(name, percent)| format!("{name}={percent}"));
                    shares.collect::<Vec<_>>().join(" ")
                };
                let (before, after) = (shown(&change.before), shown(&change.after));
                tracing::info!(%service, %before, %after, "other traffic was ordered");
                let goes_on = self.hand_on(loaded, updates).await;
                let _ = reply.send(Ok(change));
                goes_on
            }
            Err(error) => {
                let _ = reply.send(Err(error));
                true
            }
        }
    }

    /// Waits until files changed, somebody asks, moving traffic may get further, or revisions may be too old.
    async fn wake(&mut self) -> Wake {
        let step = self.progress.at(self.wall.now(), |moment| self.loader.next_step(moment));
        let step = step.map(|at| self.wall.instant(at));
        let moves = !self.rolling.is_empty() || !self.held.is_empty();
        let updated = async {
            self.progress.updated().await;
            sleep(BREATH).await;
        };
        tokio::select! {
            changes = self.files.next() => Wake::Files(changes),
            Some(ask) = self.asks.1.recv() => Wake::Ask(ask),
            () = sleep_until(step.unwrap_or_else(Instant::now)), if step.is_some() => Wake::Rollout,
            () = updated, if moves => Wake::Rollout,
            () = sleep_until(self.collect_at) => Wake::Collect,
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
            let wake = self.wake().await;
            if !self.take(wake, &updates).await {
                return Ok(());
            }
        }
    }
}
