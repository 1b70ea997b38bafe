//! `tidegate validate`: what the first load of `serve` checks, and nothing else.

use std::process::ExitCode;

use crate::cli::args::{Manifests, ValidateArgs};
use crate::cli::{complain, exit, say};
use crate::config::admission::Annotations;
use crate::config::world::{Loaded, Loader, LoaderOptions, SourceFile};
use crate::local::files::ConfigFiles;

/// Settings of the loader as the command line gives them.
pub(super) fn loader_options(
    manifests: &Manifests,
    default_service: Option<String>,
) -> LoaderOptions {
    LoaderOptions {
        domain: Some(manifests.domain.clone()),
        default_service,
        run: manifests.run.iter().map(|run| (run.target(), run.command.clone())).collect(),
        strict: manifests.strict,
        scaling: Annotations::new(),
        one_machine: true,
    }
}

/// Manifests, loaded once.
pub(super) struct Checked {
    pub(super) loader: Loader,
    pub(super) loaded: Loaded,
    /// What it was loaded from.
    pub(super) files: Vec<SourceFile>,
}

/// Loads manifests and says what is wrong with them; none after a problem that is no manifest's.
pub(super) fn load(manifests: &Manifests) -> Option<Checked> {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(format_args!("no event loop: {error}"));
            return None;
        }
    };
    let files = match runtime.block_on(ConfigFiles::open(manifests.files.clone())) {
        Ok(files) => files.files(),
        Err(error) => {
            complain(error);
            return None;
        }
    };
    let mut loader = Loader::new(loader_options(manifests, None));
    let loaded = loader.load(&files);
    Some(Checked { loader, loaded, files })
}

/// Checks manifests: 0 without a problem, else 1.
pub fn validate(args: &ValidateArgs) -> ExitCode {
    let Some(Checked { loaded, files, .. }) = load(&args.manifests) else {
        return ExitCode::from(exit::FAILURE);
    };
    for warning in &loaded.warnings {
        say(format_args!("warning: {warning}"));
    }
    for problem in &loaded.problems {
        say(problem);
    }
    if !loaded.problems.is_empty() {
        complain(format_args!("problems: {}", loaded.problems.len()));
        return ExitCode::from(exit::FAILURE);
    }
    say(format_args!(
        "valid: {} files, {} services, {} revisions",
        files.len(),
        loaded.world.services.len(),
        loaded.world.revisions.len()
    ));
    ExitCode::SUCCESS
}
