//! From YAML and objects to the [`crate::model`]: the only room that knows Knative's rules for
//! manifests, their defaults and their error messages. No I/O.
//!
//! ```text
//! text ─ yaml ─▶ Node (with places) ─ admission ─▶ object filled in, or every problem
//! ConfigMap data ─ settings ─▶ AutoscalerConfig, NetworkConfig, …
//! files ─ world ─▶ World, by way of all of these; scaling ─▶ ScalingSpec
//! ```
//!
//! [`text`] reads the small formats (durations, quantities, templates), [`problem`] says what is
//! wrong, where, and what to write instead.

pub mod admission;
pub mod order;
pub mod canary;
pub mod problem;
pub mod retention;
pub mod rollout;
pub mod scaling;
pub mod settings;
pub mod sidecar;
pub mod text;
pub mod world;
pub mod yaml;

pub use admission::{Admission, AdmissionContext, Kind, admit};
pub use problem::{ConfigProblem, Severity};
