//! From YAML and objects to the [`crate::model`]: the only room that knows Knative's rules for
//! manifests, their defaults and their error messages. No I/O.
//!
//! ```text
//! text ─ yaml ─▶ Node (with places) ─ admission ─▶ defaulted object, or every problem
//! ```

pub mod problem;
pub mod yaml;

pub use problem::{ConfigProblem, Severity};
