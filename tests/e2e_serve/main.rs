//! `tidegate serve` as a newcomer uses it: from the command line to an answer.
#![expect(clippy::unwrap_used, reason = "tests panic on purpose")]

#[path = "../support/client.rs"]
mod client;
#[path = "../support/serving.rs"]
mod serving;

mod command_line;
mod dependencies;
mod estimate;
mod examples;
mod first_answer;
mod manifests;
mod routes;
