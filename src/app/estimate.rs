//! `tidegate estimate`: what settings would have come to under a load that was measured.

mod load;
mod table;

use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use super::validate::{Checked, load as load_manifests, loader_options};
use crate::autoscaler::{Estimate, estimate};
use crate::cli::args::{EstimateArgs, EstimateOutput};
use crate::cli::{complain, exit, say};
use crate::config::admission::{AUTOSCALING, Annotations, autoscaling_names};
use crate::config::problem::ConfigProblem;
use crate::config::text::nearest;
use crate::config::world::{Loaded, Loader, LoaderOptions, SourceFile};
use crate::model::{Metric, RevisionSpec, ServiceId, World};
use load::Load;

/// Prints estimates: 0, or 1 after a problem.
pub fn estimate_settings(args: &EstimateArgs) -> ExitCode {
    match rows(args) {
        Ok(rows) => {
            match args.output {
                EstimateOutput::Table => say(table::table(&rows, args.price).trim_end()),
                EstimateOutput::Json => say(table::json(&rows, args.price)),
            }
            ExitCode::SUCCESS
        }
        Err(problems) => {
            problems.iter().for_each(complain);
            ExitCode::from(exit::FAILURE)
        }
    }
}

/// What one service comes to with one kind of settings.
#[derive(Debug)]
struct Row {
    service: ServiceId,
    /// What is set; none = as the manifests have it.
    settings: Option<String>,
    metric: Metric,
    estimate: Estimate,
}

fn rows(args: &EstimateArgs) -> Result<Vec<Row>, Vec<String>> {
    let load = Load::read(&args.load).map_err(|problem| vec![problem])?;
    // What is wrong with the files themselves has been said.
    let Checked { files, loaded, .. } = load_manifests(&args.manifests).ok_or_else(Vec::new)?;
    let texts = |problems: &[ConfigProblem]| -> Vec<String> {
        problems.iter().map(ToString::to_string).collect()
    };
    if !loaded.problems.is_empty() {
        return Err(texts(&loaded.problems));
    }
    let services = chosen(args, &loaded.world, &load)?;
    let mut worlds = vec![(None, loaded.world)];
    let mut problems = Vec::new();
    for text in &args.settings {
        let changed = match annotations(text) {
            Ok(scaling) => changed(text, scaling, &files, args),
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        problems.extend(texts(&changed.problems));
        worlds.push((Some(text.clone()), changed.world));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    // What is compared stands together.
    let pairs = services.iter().flat_map(|service| worlds.iter().map(move |of| (service, of)));
    let rows = pairs.filter_map(|(service, (settings, world))| {
        let scaling = &newest(service, world)?.scaling;
        Some(Row {
            service: service.clone(),
            settings: settings.clone(),
            metric: scaling.metric,
            estimate: estimate(scaling, load.of(service), args.cold_start),
        })
    });
    Ok(rows.collect())
}

/// The manifests with other settings, and what is wrong with these.
fn changed(text: &str, scaling: Annotations, files: &[SourceFile], args: &EstimateArgs) -> Loaded {
    let files = [files, &[probe(text, &scaling)]].concat();
    let options = LoaderOptions { scaling, ..loader_options(&args.manifests, None) };
    Loader::new(options).load(&files)
}

/// The services that were asked for, else those that had load.
fn chosen(args: &EstimateArgs, world: &World, load: &Load) -> Result<Vec<ServiceId>, Vec<String>> {
    let known = || {
        let names: Vec<String> = world.services.iter().map(|s| s.id.to_string()).collect();
        names.join(", ")
    };
    let mut problems = Vec::new();
    for service in &args.services {
        if world.service(service).is_none() {
            problems.push(format!("there is no service {service}; known: {}", known()));
        } else if !load.has(service) {
            problems.push(format!(
                "{} has no series of {service}: {}",
                args.load.display(),
                load.named()
            ));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    if !args.services.is_empty() {
        return Ok(args.services.clone());
    }
    let all = world.services.iter().map(|service| &service.id);
    let chosen: Vec<ServiceId> = all.filter(|id| load.has(id)).cloned().collect();
    if chosen.is_empty() {
        let (file, named) = (args.load.display(), load.named());
        return Err(vec![format!("{file} has no series of {}: {named}", known())]);
    }
    // One series without a name may be anybody's.
    if load.is_unnamed() && chosen.len() > 1 {
        return Err(vec![format!(
            "{}: its series has no label `service`: name the service that it is of ({})",
            args.load.display(),
            known()
        )]);
    }
    Ok(chosen)
}

/// What a service's newest requests go to.
fn newest<'a>(service: &ServiceId, world: &'a World) -> Option<&'a Arc<RevisionSpec>> {
    let service = world.service(service)?;
    let revisions = service.routed().filter_map(|id| world.revision(id));
    revisions.max_by(|a, b| a.id.name.cmp(&b.id.name))
}

/// Settings as they were given, as annotations.
fn annotations(text: &str) -> Result<Annotations, String> {
    let mut annotations = Annotations::new();
    for pair in text.split(',') {
        let Some((key, value)) = pair.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(format!("--set {text}: write KEY=VALUE, such as min-scale=1"));
        };
        let key = key.trim();
        let key =
            key.strip_prefix(AUTOSCALING).and_then(|rest| rest.strip_prefix('/')).unwrap_or(key);
        if !autoscaling_names().any(|known| known == key) {
            let near = nearest(key, autoscaling_names());
            let near = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
            return Err(format!("--set {text}: there is no {AUTOSCALING}/{key}{near}"));
        }
        if matches!(key, "metric" | "class") {
            return Err(format!(
                "--set {text}: the load is measured in the metric that the manifests have: change \
                 {key} in a copy of the file, and ask for a load in that"
            ));
        }
        annotations.insert(format!("{AUTOSCALING}/{key}"), value.trim().to_owned());
    }
    Ok(annotations)
}

/// An object that is admitted if these annotations are, and that scales nothing.
fn probe(text: &str, annotations: &Annotations) -> SourceFile {
    let object = json!({
        "apiVersion": "autoscaling.internal.knative.dev/v1alpha1",
        "kind": "PodAutoscaler",
        "metadata": {"name": "estimate", "annotations": annotations},
        "spec": {"protocolType": "http1", "scaleTargetRef": {
            "apiVersion": "serving.knative.dev/v1", "kind": "Revision", "name": "estimate",
        }},
    });
    SourceFile::new(format!("--set {text}"), object.to_string())
}
