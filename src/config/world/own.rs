//! Own settings: annotations `tidegate.dev/*` on a template.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::annotations::{TEMPLATE_ANNOTATIONS, names};
use super::canary;
use super::dependencies::{self, Needed};
use crate::config::text::{nearest, parse_duration};
use crate::model::{NoWake, QueueSettings};

/// What all own annotations begin with.
pub(super) const PREFIX: &str = "tidegate.dev/";

/// The annotations there are, less the prefix.
const KNOWN: [&str; 9] = names(&TEMPLATE_ANNOTATIONS);

/// Those among them that hold whatever the replicas are: an adopted Service may have them, too.
pub(super) const SHARED_SETTINGS: [&str; 6] =
    ["queue-timeout", "no-wake", "idle-connection", "eager", "waiting-page", dependencies::NAME];

/// A template's own settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct OwnSettings {
    pub(super) queue: QueueSettings,
    pub(super) depends_on: Vec<Needed>,
    pub(super) local_command: Option<Vec<Arc<str>>>,
    pub(super) local_directory: Option<PathBuf>,
    pub(super) static_endpoints: Option<Vec<SocketAddr>>,
}

/// A bad own annotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnError {
    /// The whole key.
    pub(super) key: String,
    pub(super) message: String,
    pub(super) fix: String,
}

/// What a value parser says: message and what to write.
pub(super) type Refused = (String, &'static str);

/// Reads the own annotations among all annotations of a template; every bad one is reported.
pub(super) fn own_settings(
    annotations: &BTreeMap<String, String>,
) -> Result<OwnSettings, Vec<OwnError>> {
    let mut own = OwnSettings::default();
    let mut errors = Vec::new();
    for (key, value) in annotations {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        if let Err((message, fix)) = set(&mut own, name, value.trim()) {
            errors.push(OwnError { key: key.clone(), message, fix: format!("write {fix}") });
        } else if !KNOWN.contains(&name) {
            errors.push(unknown(key, name));
        }
    }
    if own.local_command.is_some() && own.static_endpoints.is_some() {
        errors.push(OwnError {
            key: format!("{PREFIX}static-endpoints"),
            message: format!("contradicts {PREFIX}local-command"),
            fix: "keep one of the two: replicas are started here or run elsewhere".to_owned(),
        });
    }
    if errors.is_empty() { Ok(own) } else { Err(errors) }
}

fn set(own: &mut OwnSettings, name: &str, value: &str) -> Result<(), Refused> {
    match name {
        "queue-timeout" => own.queue.timeout = Some(duration(value)?),
        "idle-connection" => own.queue.idle_connection = Some(duration(value)?),
        "no-wake" => own.queue.no_wake = no_wake(value)?,
        "eager" => own.queue.eager = boolean(value)?,
        "waiting-page" => own.queue.waiting_page = boolean(value)?,
        dependencies::NAME => own.depends_on = dependencies::parse(value)?,
        "local-command" => own.local_command = Some(local_command(value)?),
        "local-directory" => {
            if value.is_empty() {
                return Err(("the folder's name is empty".to_owned(), "\".\" or another folder"));
            }
            own.local_directory = Some(PathBuf::from(value));
        }
        "static-endpoints" => own.static_endpoints = Some(static_endpoints(value)?),
        _ => {}
    }
    Ok(())
}

fn unknown(key: &str, name: &str) -> OwnError {
    if canary::KNOWN.contains(&name) {
        let message = "without effect here".to_owned();
        let fix = "move it to metadata.annotations of the Service or Route".to_owned();
        return OwnError { key: key.to_owned(), message, fix };
    }
    let fix = match nearest(name, KNOWN) {
        Some(near) => format!("write {PREFIX}{near}"),
        None => format!("write one of {PREFIX}{}", KNOWN.join(&format!(", {PREFIX}"))),
    };
    OwnError { key: key.to_owned(), message: "there is no such setting".to_owned(), fix }
}

fn boolean(value: &str) -> Result<bool, Refused> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err((format!("{value:?} is neither true nor false"), "\"true\" or \"false\"")),
    }
}

pub(super) fn duration(value: &str) -> Result<Duration, Refused> {
    let fix = "a time such as \"30s\" or \"5m\"";
    let nanos = parse_duration(value).map_err(|error| (error, fix))?;
    match u64::try_from(nanos) {
        Ok(nanos) if nanos > 0 => Ok(Duration::from_nanos(nanos)),
        _ => Err((format!("{value:?} is not more than zero"), fix)),
    }
}

/// A list separated by commas: `/health` is a path prefix, `HEAD` a method, all else a prefix of
/// `User-Agent`; `method:`, `path:` and `agent:` in front say it outright.
fn no_wake(value: &str) -> Result<Vec<NoWake>, Refused> {
    let fix = "a list such as \"HEAD, /healthz, agent:UptimeRobot/\"";
    let entries: Vec<&str> = value.split(',').map(str::trim).filter(|e| !e.is_empty()).collect();
    if entries.is_empty() {
        return Err(("the list is empty".to_owned(), fix));
    }
    let is_method = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')
    };
    entries
        .into_iter()
        .map(|entry| {
            let (kind, rest) = match entry.split_once(':') {
                Some((kind @ ("method" | "path" | "agent"), rest)) => (kind, rest.trim()),
                _ if entry.starts_with('/') => ("path", entry),
                _ if is_method(entry) => ("method", entry),
                _ => ("agent", entry),
            };
            match kind {
                "method" if is_method(&rest.to_ascii_uppercase()) => {
                    Ok(NoWake::Method(rest.to_ascii_uppercase().into()))
                }
                "path" if rest.starts_with('/') => Ok(NoWake::PathPrefix(rest.into())),
                "agent" if !rest.is_empty() => Ok(NoWake::UserAgentPrefix(rest.into())),
                _ => Err((format!("{entry:?} is no method, path or User-Agent"), fix)),
            }
        })
        .collect()
}

fn local_command(value: &str) -> Result<Vec<Arc<str>>, Refused> {
    let fix = "a JSON array such as '[\"node\", \"server.js\"]'";
    let words: Vec<Arc<str>> = serde_json::from_str::<Vec<String>>(value)
        .map_err(|error| (format!("this is no JSON array of texts: {error}"), fix))?
        .into_iter()
        .map(Arc::from)
        .collect();
    match words.first() {
        Some(program) if !program.is_empty() => Ok(words),
        _ => Err(("there is no program in it".to_owned(), fix)),
    }
}

fn static_endpoints(value: &str) -> Result<Vec<SocketAddr>, Refused> {
    let fix = "addresses with ports such as \"127.0.0.1:9001, [::1]:9002\"";
    let entries: Vec<&str> = value.split(',').map(str::trim).filter(|e| !e.is_empty()).collect();
    if entries.is_empty() {
        return Err(("the list is empty".to_owned(), fix));
    }
    let mut addresses = Vec::with_capacity(entries.len());
    for entry in entries {
        let local = entry.strip_prefix("localhost:").and_then(|port| port.parse().ok());
        let local = local.map(|port: u16| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
        let address = local.or_else(|| entry.parse().ok());
        match address.filter(|address| address.port() != 0) {
            Some(address) if addresses.contains(&address) => {
                return Err((format!("{entry} is named twice"), fix));
            }
            Some(address) => addresses.push(address),
            None => return Err((format!("{entry:?} is no IP address with a port"), fix)),
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(pairs: &[(&str, &str)], expected: &Expect) {
        let annotations = pairs
            .iter()
            .map(|(name, value)| (format!("{PREFIX}{name}"), (*value).to_owned()))
            .collect();
        let text = match own_settings(&annotations) {
            Ok(own) => format!("{own:?}"),
            Err(errors) => errors
                .iter()
                .map(|error| format!("{}: {}; {}\n", error.key, error.message, error.fix))
                .collect(),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn good_values() {
        check(
            &[],
            &expect![
                "OwnSettings { queue: QueueSettings { timeout: None, no_wake: [], idle_connection: None, eager: true, waiting_page: false }, depends_on: [], local_command: None, local_directory: None, static_endpoints: None }"
            ],
        );
        check(
            &[
                ("queue-timeout", "1m30s"),
                ("idle-connection", "5m"),
                ("eager", "false"),
                ("waiting-page", "true"),
                ("no-wake", "HEAD, /healthz, Uptime/2, agent:GET, method:options, path:/a b"),
                ("local-command", "[\"node\", \"server.js\"]"),
                ("local-directory", "../app"),
                ("depends-on", "db, shop/cart ,api=api-00002"),
            ],
            &expect![[
                r#"OwnSettings { queue: QueueSettings { timeout: Some(90s), no_wake: [Method("HEAD"), PathPrefix("/healthz"), UserAgentPrefix("Uptime/2"), UserAgentPrefix("GET"), Method("OPTIONS"), PathPrefix("/a b")], idle_connection: Some(300s), eager: false, waiting_page: true }, depends_on: [Needed { namespace: None, service: "db", revision: None }, Needed { namespace: Some("shop"), service: "cart", revision: None }, Needed { namespace: None, service: "api", revision: Some("api-00002") }], local_command: Some(["node", "server.js"]), local_directory: Some("../app"), static_endpoints: None }"#
            ]],
        );
        check(
            &[("static-endpoints", "127.0.0.1:9001,[::1]:9002, localhost:9003")],
            &expect![
                "OwnSettings { queue: QueueSettings { timeout: None, no_wake: [], idle_connection: None, eager: true, waiting_page: false }, depends_on: [], local_command: None, local_directory: None, static_endpoints: Some([127.0.0.1:9001, [::1]:9002, 127.0.0.1:9003]) }"
            ],
        );
    }

    #[test]
    fn bad_values_say_what_to_write() {
        check(
            &[
                ("queue-timeout", "30"),
                ("idle-connection", "0s"),
                ("eager", "no"),
                ("waiting-page", "yes"),
                ("no-wake", "path:x"),
                ("local-command", "node server.js"),
                ("local-directory", ""),
                ("static-endpoints", "example.com:80"),
                ("que-timeout", "1s"),
                ("depends-on", "db, Cart"),
                ("colour", "red"),
            ],
            &expect![[r#"
                tidegate.dev/colour: there is no such setting; write one of tidegate.dev/queue-timeout, tidegate.dev/no-wake, tidegate.dev/idle-connection, tidegate.dev/eager, tidegate.dev/waiting-page, tidegate.dev/depends-on, tidegate.dev/local-command, tidegate.dev/local-directory, tidegate.dev/static-endpoints
                tidegate.dev/depends-on: "Cart" names no service; write a list of services such as "db, shop/cart, api=api-00002"
                tidegate.dev/eager: "no" is neither true nor false; write "true" or "false"
                tidegate.dev/idle-connection: "0s" is not more than zero; write a time such as "30s" or "5m"
                tidegate.dev/local-command: this is no JSON array of texts: expected ident at line 1 column 2; write a JSON array such as '["node", "server.js"]'
                tidegate.dev/local-directory: the folder's name is empty; write "." or another folder
                tidegate.dev/no-wake: "path:x" is no method, path or User-Agent; write a list such as "HEAD, /healthz, agent:UptimeRobot/"
                tidegate.dev/que-timeout: there is no such setting; write tidegate.dev/queue-timeout
                tidegate.dev/queue-timeout: time: missing unit in duration "30"; write a time such as "30s" or "5m"
                tidegate.dev/static-endpoints: "example.com:80" is no IP address with a port; write addresses with ports such as "127.0.0.1:9001, [::1]:9002"
                tidegate.dev/waiting-page: "yes" is neither true nor false; write "true" or "false"
            "#]],
        );
        check(
            &[
                ("local-command", "[]"),
                ("depends-on", "db, x, db=db-1"),
                ("static-endpoints", "127.0.0.1:1,127.0.0.1:1"),
            ],
            &expect![[r#"
                tidegate.dev/depends-on: db is named twice; write a list of services such as "db, shop/cart, api=api-00002"
                tidegate.dev/local-command: there is no program in it; write a JSON array such as '["node", "server.js"]'
                tidegate.dev/static-endpoints: 127.0.0.1:1 is named twice; write addresses with ports such as "127.0.0.1:9001, [::1]:9002"
            "#]],
        );
    }
}
