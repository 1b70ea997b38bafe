//! Traces of requests, as a collector decodes them: OTLP over gRPC and over HTTP.
#![expect(clippy::unwrap_used, reason = "tests panic on purpose")]

#[path = "../support/backend.rs"]
mod backend;
#[path = "../support/client.rs"]
mod client;
#[path = "../support/https.rs"]
mod https;
#[path = "../support/serving.rs"]
mod serving;

mod collector;
mod configured;
mod context;
mod delivery;
mod spans;
