//! From YAML and objects to the [`crate::model`]: the only room that knows Knative's rules for
//! manifests, their defaults and their error messages. No I/O.

pub mod admission;
pub mod problem;
pub mod scaling;
pub mod settings;
pub mod text;
pub mod world;
pub mod yaml;

pub use problem::{ConfigProblem, Severity};
