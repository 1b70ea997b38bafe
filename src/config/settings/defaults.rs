//! `config-defaults`.

use std::collections::BTreeMap;

use super::Data;
use super::reader::Reader;
use crate::config::problem::ConfigProblem;
use crate::config::text::{Quantity, Template};

/// Fields that a container's name may be made of.
const NAME_FIELDS: [&str; 3] = ["Name", "Namespace", "GenerateName"];
const NAME_MAPS: [&str; 2] = ["Annotations", "Labels"];

/// What revisions get for fields that they leave out.
#[derive(Clone, Debug, PartialEq)]
pub struct DefaultsConfig {
    /// `revision-timeout-seconds`.
    pub revision_timeout_seconds: i64,
    /// `max-revision-timeout-seconds`.
    pub max_revision_timeout_seconds: i64,
    /// `revision-response-start-timeout-seconds`; 0 = none.
    pub revision_response_start_timeout_seconds: i64,
    /// `revision-idle-timeout-seconds`; 0 = none.
    pub revision_idle_timeout_seconds: i64,
    /// `container-concurrency`; 0 = unlimited.
    pub container_concurrency: i64,
    /// `container-concurrency-max-limit`.
    pub container_concurrency_max_limit: i64,
    /// `allow-container-concurrency-zero`.
    pub allow_container_concurrency_zero: bool,
    /// `enable-service-links`; none = not given to revisions.
    pub enable_service_links: Option<bool>,
    /// `container-name-template`.
    pub container_name_template: Template,
    /// `init-container-name-template`.
    pub init_container_name_template: Template,
    /// `revision-{cpu,memory,ephemeral-storage}-request`, by resource, as written.
    pub requests: BTreeMap<&'static str, String>,
    /// `revision-{cpu,memory,ephemeral-storage}-limit`, by resource, as written.
    pub limits: BTreeMap<&'static str, String>,
}

impl Default for DefaultsConfig {
    /// Knative's defaults.
    fn default() -> Self {
        Self {
            revision_timeout_seconds: 300,
            max_revision_timeout_seconds: 600,
            revision_response_start_timeout_seconds: 300,
            revision_idle_timeout_seconds: 0,
            container_concurrency: 0,
            container_concurrency_max_limit: 1000,
            allow_container_concurrency_zero: true,
            enable_service_links: Some(false),
            container_name_template: Template::text("user-container"),
            init_container_name_template: Template::text("init-container"),
            requests: BTreeMap::new(),
            limits: BTreeMap::new(),
        }
    }
}

/// Reads `config-defaults`; Knative's defaults stand for the keys that are absent.
pub fn parse_config_defaults(data: &Data) -> Result<DefaultsConfig, Vec<ConfigProblem>> {
    let mut c = DefaultsConfig::default();
    let mut r = Reader::new(data, "");
    template("init-container-name-template", &mut c.init_container_name_template, &mut r);
    template("container-name-template", &mut c.container_name_template, &mut r);
    r.bool("allow-container-concurrency-zero", &mut c.allow_container_concurrency_zero);
    if let Some(raw) = r.raw("enable-service-links") {
        c.enable_service_links = match raw.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        };
    }
    r.int("revision-timeout-seconds", 64, &mut c.revision_timeout_seconds);
    r.int("max-revision-timeout-seconds", 64, &mut c.max_revision_timeout_seconds);
    r.int("revision-idle-timeout-seconds", 64, &mut c.revision_idle_timeout_seconds);
    r.int("container-concurrency", 64, &mut c.container_concurrency);
    r.int("container-concurrency-max-limit", 64, &mut c.container_concurrency_max_limit);
    for resource in ["cpu", "memory", "ephemeral-storage"] {
        quantity(resource, "request", &mut c.requests, &mut r);
        quantity(resource, "limit", &mut c.limits, &mut r);
    }
    c.revision_response_start_timeout_seconds = c.revision_timeout_seconds;
    let response_start = &mut c.revision_response_start_timeout_seconds;
    r.int("revision-response-start-timeout-seconds", 64, response_start);
    if r.is_clean() {
        check(&c, &mut r);
    }
    r.finish(c)
}

fn template(key: &str, target: &mut Template, r: &mut Reader<'_>) {
    let Some(raw) = r.raw(key) else { return };
    match Template::parse(raw, &NAME_FIELDS, &NAME_MAPS) {
        Ok(read) => *target = read,
        Err(e) => r.refuse(key, e.to_string(), "write a name, or a template such as {{.Name}}"),
    }
}

fn quantity(
    resource: &'static str,
    bound: &str,
    target: &mut BTreeMap<&'static str, String>,
    r: &mut Reader<'_>,
) {
    let key = format!("revision-{resource}-{bound}");
    let Some(raw) = r.raw(&key) else { return };
    if Quantity::parse(raw).is_some() {
        target.insert(resource, raw.to_owned());
    } else {
        let message = format!(
            "failed to parse {key:?}: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        );
        r.refuse(&key, message, "write an amount such as 500m or 256Mi");
    }
}

fn check(c: &DefaultsConfig, r: &mut Reader<'_>) {
    let mut not_above = |low: &str, value: i64, high: &str, limit: i64| {
        let message = format!("{low} ({value}) cannot be greater than {high} ({limit})");
        r.refuse(low, message, format!("write {limit} or less, or a larger {high}"));
    };
    let timeout = c.revision_timeout_seconds;
    if timeout > c.max_revision_timeout_seconds {
        let max = "max-revision-timeout-seconds";
        not_above("revision-timeout-seconds", timeout, max, c.max_revision_timeout_seconds);
    }
    for (key, value) in [
        ("revision-response-start-timeout-seconds", c.revision_response_start_timeout_seconds),
        ("revision-idle-timeout-seconds", c.revision_idle_timeout_seconds),
    ] {
        if value > 0 && value > timeout {
            not_above(key, value, "revision-timeout-seconds", timeout);
        }
    }
    let mut out_of_bounds = |key: &str, value: i64, low: i64, high: i64| {
        let message = format!("expected {low} <= {value} <= {high}: {key}");
        r.refuse(key, message, format!("write a value from {low} to {high}"));
    };
    let limit = c.container_concurrency_max_limit;
    if limit < 1 {
        out_of_bounds("container-concurrency-max-limit", limit, 1, i32::MAX.into());
    }
    if c.container_concurrency < 0 || c.container_concurrency > limit {
        out_of_bounds("container-concurrency", c.container_concurrency, 0, limit);
    }
}
