//! What happens to requests while things change: files are edited, replicas die, tidegate ends.
#![expect(clippy::unwrap_used, reason = "tests panic on purpose")]

#[path = "../support/client.rs"]
mod client;
#[path = "../support/serving.rs"]
mod serving;

mod canary;
mod ending;
mod load;
mod reload;
mod rollout;
mod scaling;
