//! A revision: its Deployment, its private Service and its PodAutoscaler, and what became of them
//! (`pkg/reconciler/revision`, `pkg/reconciler/autoscaling/kpa`).

mod contest;
mod digest;
mod made;
mod pod;
mod scaler;
mod status;

use std::sync::Arc;

use serde_json::Value;

use super::Cluster;
use super::admitted::admitted;
use super::object::{Object, Parts};
use super::settings::Settings;
use super::work::{Failure, Next};
use super::write::{Pace, Weight};
use crate::kubernetes::kinds::Kind;
use crate::kubernetes::{CONTROLLER_MANAGER, names};
use crate::model::ObjectName;
pub(super) use contest::target;
pub use made::sample_deployment;
use made::{UNREACHABLE, bounds, name_of};
use scaler::{Scale, ScalerStatus};
use status::RevisionStatus;

/// Field manager of a new Deployment's count, until the scaler takes it over by its first write.
/// Not the scaler's own name: by that the scaler knows that it has written before.
const COUNT_MANAGER: &str = "tidegate-initial-scale";

/// Brings a revision in order.
///
/// # Errors
/// A write failed, or something of its name belongs to somebody else.
pub(super) async fn reconcile(cluster: &Cluster, name: ObjectName) -> Result<Next, Failure> {
    let Some(object) = cluster.revisions.get(&name).filter(|object| !object.is_leaving) else {
        forget(cluster, &name);
        return Ok(Next::WhenTold);
    };
    let revision = object.value();
    let settings = cluster.settings.get();
    let mut status = RevisionStatus::of(&revision, (cluster.now)());
    let was_ready = status.is_ready();
    let mut filled = None;
    let done = match admitted(&revision, &settings.admission) {
        Ok(full) => {
            let revision = filled.insert(full);
            follow(cluster, revision, &settings, &mut status).await
        }
        Err(problem) => {
            // Only without the webhook.
            status.unavailable("InvalidRevision", &problem);
            Ok(Next::WhenTold)
        }
    };
    if done.is_err() && !was_ready && status.is_ready() {
        // Not before all of it is there.
        status.deploying();
    }
    if let Err(failure) = done.as_ref()
        && !failure.is_ordinary()
    {
        cluster.writer.event(&revision, Weight::Warning, "InternalError", failure.to_string());
    }
    if !was_ready && status.is_ready() {
        let message = "Revision becomes ready upon all resources being ready".to_owned();
        cluster.writer.event(&revision, Weight::Normal, "RevisionReady", message);
    }
    let wanted = status.value(filled.as_ref().unwrap_or(&revision));
    let pace = Pace::of(&revision, &wanted);
    let next = cluster.writer.status(Kind::Revision, &revision, &wanted, pace).await?;
    done.map(|of_scaler| of_scaler.or(next))
}

fn forget(cluster: &Cluster, revision: &ObjectName) {
    let of = |name: String| ObjectName::new(&*revision.namespace, name);
    cluster.writer.forget(Kind::Deployment, &of(names::deployment(&revision.name)));
    cluster.writer.forget(Kind::CoreService, &of(names::private_service(&revision.name)));
    cluster.writer.forget(Kind::PodAutoscaler, revision);
    cluster.writer.forget(Kind::Revision, revision);
}

async fn follow(
    cluster: &Cluster,
    revision: &Value,
    settings: &Settings,
    status: &mut RevisionStatus,
) -> Result<Next, Failure> {
    let deployment = make_deployment(cluster, revision, settings, status).await?;
    let pods = cluster.pods.of(&revision.name());
    let pods: Vec<Value> =
        pods.iter().filter(|pod| !pod.is_leaving).map(|pod| pod.value()).collect();
    status.take_deployment(&deployment, &pods, settings.deployment.pod_is_always_schedulable);
    status.take_images(revision, &pods);
    let contest = contest_of(cluster, &name_of(revision, names::deployment));
    status.take_contest(contest.as_deref());
    make_private_service(cluster, revision, status).await?;
    let scale = Scale::of(&deployment);
    let is_broken = status.is_broken() && scale.wanted > 0 && scale.ready == 0;
    let scaler = make_scaler(cluster, revision, settings, is_broken, status).await?;
    let is_reachable = made::reachability(revision, is_broken) != UNREACHABLE;
    let bounds = bounds(revision, &settings.admission.autoscaler, is_reachable);
    let mut scaler_status = ScalerStatus::of(&scaler, (cluster.now)());
    let name = revision.name();
    let private = name_of(revision, names::private_service);
    let was_initialized = scaler_status.is_initialized();
    scaler_status.take(&name.name, &private.name, scale, &bounds);
    scaler_status.take_contest(contest.as_deref());
    status.take_scaler(&scaler_status, scale);
    let wanted = scaler_status.value(&scaler);
    // That it once had what it was to begin with is not to be missed; all else only informs.
    let pace = Pace::Settled.at_once_if(!was_initialized && scaler_status.is_initialized());
    cluster.writer.status(Kind::PodAutoscaler, &scaler, &wanted, pace).await
}

/// Who else writes the count of a Deployment.
fn contest_of(cluster: &Cluster, deployment: &ObjectName) -> Option<String> {
    let kept = cluster.deployments.get(deployment)?;
    contest::contest(&kept, &cluster.horizontal_autoscalers.of(deployment))
}

/// The Deployment as it is now, made or brought up to date.
async fn make_deployment(
    cluster: &Cluster,
    revision: &Value,
    settings: &Settings,
    status: &mut RevisionStatus,
) -> Result<Value, Failure> {
    let name = name_of(revision, names::deployment);
    let kept = match cluster.deployments.get(&name) {
        Some(kept) => Some(kept),
        None => cluster.writer.read_whole(Kind::Deployment, &name).await?.map(Arc::new),
    };
    let Some(kept) = kept else {
        status.deploying();
        let replicas = made::initial_replicas(revision, &settings.admission.autoscaler);
        let wanted = made::deployment(revision, settings, Some(replicas));
        let made = cluster.writer.apply(Kind::Deployment, &wanted, None).await;
        let made = made.inspect_err(|failure| refused(status, failure))?;
        hold_count(cluster, &made, replicas.into()).await?;
        return Ok(made);
    };
    let live = kept.value();
    if !live.is_controlled_by(revision) {
        return Err(foreign(revision, "Deployment", &name, status));
    }
    // Without a second owner, leaving the count out would reset it.
    if !is_held(&kept) && !cluster.writer.is_behind(Kind::Deployment, &live) {
        hold_count(cluster, &live, Scale::of(&live).wanted).await?;
    }
    if is_knatives(&live) {
        return Ok(live);
    }
    let wanted = made::deployment(revision, settings, None);
    let made = cluster.writer.apply(Kind::Deployment, &wanted, Some(&live)).await;
    made.inspect_err(|failure| refused(status, failure))
}

/// Whether Knative made a Deployment. Its pods go on as they are, with a queue-proxy that nothing
/// asks any more: bringing it up to date would end them all. The next revision has none.
fn is_knatives(deployment: &Value) -> bool {
    let containers = deployment.list("/spec/template/spec/containers");
    containers.iter().any(|container| container.text("/name") == "queue-proxy")
}

/// Whether somebody else owns a Deployment's count.
fn is_held(deployment: &Object) -> bool {
    deployment.scalers.iter().any(|manager| **manager != *CONTROLLER_MANAGER)
}

/// Gives the count an owner of its own, unless somebody has taken it over by now, or the Deployment
/// is gone.
async fn hold_count(cluster: &Cluster, deployment: &Value, replicas: i64) -> Result<(), Failure> {
    let part = made::held_count(deployment, replicas);
    match cluster.writer.apply_as(COUNT_MANAGER, Kind::Deployment, &part).await {
        Err(failure) if failure.code() == Some(409) => Ok(()),
        other => other,
    }
}

/// What the API server does not take is the manifest's fault: unknown and doubled fields are
/// answered with 500.
fn refused(status: &mut RevisionStatus, failure: &Failure) {
    if matches!(failure.code(), Some(400 | 403 | 422 | 500)) {
        status.unavailable("FailedCreate", &failure.words());
    }
}

async fn make_private_service(
    cluster: &Cluster,
    revision: &Value,
    status: &mut RevisionStatus,
) -> Result<(), Failure> {
    let name = name_of(revision, names::private_service);
    let live = match cluster.revision_services.get(&name) {
        Some(kept) => Some(kept.value()),
        None => cluster.writer.read(Kind::CoreService, &name).await?,
    };
    // Knative's own is its ServerlessService's, and selects the same pods.
    let owner = live.as_ref().and_then(|live| live.controller());
    if owner.is_some_and(|owner| owner.text("/kind") == "ServerlessService") {
        return Ok(());
    }
    if live.as_ref().is_some_and(|live| !live.is_controlled_by(revision)) {
        return Err(foreign(revision, "Service", &name, status));
    }
    let wanted = made::private_service(revision);
    cluster.writer.apply(Kind::CoreService, &wanted, live.as_ref()).await.map(drop)
}

async fn make_scaler(
    cluster: &Cluster,
    revision: &Value,
    settings: &Settings,
    is_broken: bool,
    status: &mut RevisionStatus,
) -> Result<Value, Failure> {
    let name = revision.name();
    let live = match cluster.pod_autoscalers.get(&name) {
        Some(kept) => Some(kept.value()),
        None => cluster.writer.read(Kind::PodAutoscaler, &name).await?,
    };
    if live.as_ref().is_some_and(|live| !live.is_controlled_by(revision)) {
        return Err(foreign(revision, "PodAutoscaler", &name, status));
    }
    let wanted = made::pod_autoscaler(revision, &settings.admission.autoscaler, is_broken);
    cluster.writer.apply(Kind::PodAutoscaler, &wanted, live.as_ref()).await
}

/// Somebody else has an object of that name.
fn foreign(
    revision: &Value,
    kind: &str,
    name: &ObjectName,
    status: &mut RevisionStatus,
) -> Failure {
    let name = &name.name;
    let message = format!("There is an existing {kind} {name:?} that we do not own.");
    status.unavailable("NotOwned", &message);
    let revision = revision.text("/metadata/name");
    Failure::Other(format!("revision: {revision:?} does not own {kind}: {name:?}"))
}

#[cfg(test)]
mod tests;
