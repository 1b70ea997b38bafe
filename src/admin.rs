//! What an operator and Prometheus see: health, metrics, a JSON API, a dashboard. It runs on its own thread
//! and knows the rest only by read-only views that are handed in.

pub mod metrics;
pub mod order;
pub mod server;
pub mod view;

mod dashboard;
mod guard;
mod routes;
mod token;

pub use token::{Token, TokenError};
