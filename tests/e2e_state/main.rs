//! What a restart finds again: revisions, traffic, replicas; however the one before ended.

#![expect(clippy::unwrap_used, reason = "tests panic on purpose")]

#[path = "../support/client.rs"]
mod client;
#[path = "../support/serving.rs"]
mod serving;

mod folder;
mod full_disk;
mod replicas;
mod revisions;
mod rollout;
mod stage;
