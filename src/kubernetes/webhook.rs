//! The admission webhook: what the API server asks before it takes an object in. Objects get
//! Knative's defaults and are refused with Knative's words, by the same code as manifests from
//! files ([`crate::config::admission`]).
//!
//! ```text
//! API server ─ TLS ─▶ server ─▶ review ─▶ defaulting: JSON patch │ validation │ settings
//! Secret `tidegate-webhook` ◀─▶ keeper ─▶ pair in use; CA ─▶ registration ─▶ API server
//! ```
//!
//! Every replica answers, whether it leads or not; none needs the others. Only creations and
//! updates are asked about: nothing stands in the way of a deletion, of a status or of an object of
//! any other kind.

mod defaulting;
mod keeper;
mod registration;
mod review;
mod served;
mod server;
mod settings;
mod trial;
mod validation;

use std::sync::Arc;

use crate::config::order::Needs;
use crate::model::ServiceId;

pub use keeper::{KeeperSettings, keep};
pub use registration::{Publication, Reach, configurations};
pub use review::{Refused, Review, answer};
pub use served::Served;
pub use server::{WebhookConfig, WebhookServer};
pub use settings::LiveSettings;
pub use trial::Trial;

/// What the services there are depend on.
pub type NeedsOf = Arc<dyn Fn() -> Needs<ServiceId> + Send + Sync>;

/// Path of the webhook that fills in defaults.
pub const DEFAULTING: &str = "/defaulting";
/// Path of the webhook that checks objects.
pub const VALIDATION: &str = "/validation";
/// Path of the webhook that checks settings.
pub const CONFIG_VALIDATION: &str = "/config-validation";

#[cfg(test)]
mod tests;
