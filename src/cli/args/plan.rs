//! Arguments of `tidegate plan`.

use clap::{Args, ValueEnum};

use super::Manifests;
use super::parse::object_name;
use crate::model::ServiceId;

pub(super) const EXAMPLES: &str = "\
Examples:
  tidegate plan -f ./manifests          all services; those of a step need only earlier ones
  tidegate plan -f ./manifests web      web, and what it needs
  tidegate plan -f ./manifests -o json  for scripts

What a service needs is its template's annotation
  tidegate.dev/depends-on: db, shop/cart, api=api-00002
Exit codes: 0 fine, 1 a problem, for example a circle.";

/// Form of a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PlanOutput {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Options of `plan`.
#[derive(Args, Clone, Debug)]
pub struct PlanArgs {
    /// Which manifests.
    #[command(flatten)]
    pub manifests: Manifests,

    /// Only these, and what they need [default: all]
    #[arg(value_name = "[NAMESPACE/]NAME", value_parser = object_name)]
    pub services: Vec<ServiceId>,

    /// Form of the output
    #[arg(short = 'o', long, value_enum, default_value_t)]
    pub output: PlanOutput,
}
