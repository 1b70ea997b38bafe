//! tidegate on a real Kubernetes: `tests/cluster` starts one for these tests, on this machine, with
//! real containers, and it ends with them. Where that cannot be done the tests say so and pass; with
//! `CI` set they fail.
#![expect(clippy::unwrap_used, reason = "tests panic on purpose")]

mod access;
mod adoption;
mod canary;
mod client;
mod depending;
mod ending;
mod kinds;
mod laptop;
#[path = "../support/serving.rs"]
mod machine;
mod moving;
mod pipeline;
mod proxies;
mod serving;
mod stage;
mod waiting;
