//! What makes objects of objects: the Service's Configuration and Route, their revisions, and the
//! Deployment, private Service and PodAutoscaler of each revision; and states what became of them.
//!
//! Every kind has a queue of names. What changes puts the names that it concerns on the queues; a
//! bounded number of workers takes them off, looks at the mirrors – never at lists – and writes
//! what differs. It works only while this process leads; the mirrors are kept all the time.

pub mod admitted;
mod cluster;
mod collection;
mod configuration;
mod domain_mapping;
mod feeds;
mod knative;
pub mod meta;
pub mod object;
pub mod objects;
mod revision;
mod route;
mod service;
pub mod settings;
pub mod work;
pub mod write;

#[cfg(test)]
pub(super) mod testing;

use std::future::Future;
use std::sync::Arc;

use futures_util::future::{BoxFuture, join, join_all};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use tokio::sync::watch;

use super::spread::Spread;
use super::trials::Trials;

pub use cluster::{Cluster, Queues};
pub use feeds::Feeds;
pub use revision::sample_deployment;
use work::{keep_working, while_leading};

/// What the controller is to work for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The one namespace that is looked at; none = all.
    pub namespace: Option<String>,
    /// The wall clock: times in objects, traffic that moves, revisions that are too old.
    pub now: fn() -> Timestamp,
    /// What the proxies lead to: nothing is called ready before.
    pub spread: Arc<Spread>,
    /// What canaries are decided by.
    pub trials: Arc<Trials>,
    /// Whether there are routes: what is listed here the API server need not send before.
    pub routed: watch::Receiver<bool>,
    /// Whether it is this one that makes room for a Knative that lives.
    pub giving_way: watch::Receiver<bool>,
}

/// Keeps the objects of the cluster in order, for good. Writes only while `leading` says so.
pub fn run(
    client: Client,
    options: Options,
    feeds: Feeds,
    leading: watch::Receiver<bool>,
) -> impl Future<Output = ()> {
    let spread = Arc::clone(&options.spread);
    let (mut cluster, events) = Cluster::new(client.clone(), options.now, spread);
    cluster.trials = Arc::clone(&options.trials);
    async move {
        let follow = cluster.follow(&client, &options, feeds);
        let work = async {
            cluster.complete().await;
            tracing::info!("the objects of the cluster are known");
            cluster.tell_gone_routes();
            let working = while_leading(&leading, || reconcile(&cluster));
            let giving_way = while_leading(&options.giving_way, || knative::give_way(&cluster));
            join(working, giving_way).await;
        };
        join(join(follow, work), events).await;
    }
}

/// Works on every queue.
async fn reconcile(cluster: &Cluster) {
    let queues = &cluster.queues;
    let work: Vec<BoxFuture<'_, ()>> = vec![
        Box::pin(keep_working("Service", &queues.services, |name| {
            service::reconcile(cluster, name)
        })),
        Box::pin(keep_working("Configuration", &queues.configurations, |name| {
            configuration::reconcile(cluster, name)
        })),
        Box::pin(keep_working("collection", &queues.collections, |name| {
            collection::reconcile(cluster, name)
        })),
        Box::pin(keep_working("Revision", &queues.revisions, |name| {
            revision::reconcile(cluster, name)
        })),
        Box::pin(keep_working("Route", &queues.routes, |name| route::reconcile(cluster, name))),
        Box::pin(keep_working("DomainMapping", &queues.domain_mappings, |name| {
            domain_mapping::reconcile(cluster, name)
        })),
    ];
    join_all(work).await;
}
