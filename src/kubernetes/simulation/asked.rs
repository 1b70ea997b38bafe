//! A call as the API server reads it.

use std::collections::HashMap;

use http::header::CONTENT_TYPE;
use http::request::Parts;
use serde_json::Value;

use crate::kubernetes::kinds::Kind;
use crate::model::ObjectName;

const KINDS: [Kind; 14] = [
    Kind::Service,
    Kind::Configuration,
    Kind::Revision,
    Kind::Route,
    Kind::DomainMapping,
    Kind::PodAutoscaler,
    Kind::PublicPodAutoscaler,
    Kind::Deployment,
    Kind::CoreService,
    Kind::ConfigMap,
    Kind::Secret,
    Kind::Pod,
    Kind::EndpointSlice,
    Kind::Lease,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    /// Something about no object that is kept: events, the version.
    Other,
}

#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) verb: Verb,
    /// Meaningless for [`Verb::Other`].
    pub(super) kind: Kind,
    /// None = all.
    pub(super) namespace: Option<String>,
    pub(super) name: ObjectName,
    /// `status`, `scale` or nothing.
    pub(super) part: String,
    query: HashMap<String, String>,
    /// How a patch is written.
    pub(super) form: String,
    pub(super) body: Value,
    pub(super) line: String,
}

impl Asked {
    pub(super) fn read(head: &Parts, body: &[u8]) -> Self {
        let path = head.uri.path();
        let query = head.uri.query().unwrap_or_default();
        let query: HashMap<String, String> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), decoded(value)))
            .collect();
        let mut parts = path.trim_matches('/').split('/').collect::<Vec<_>>().into_iter();
        let group = match parts.next() {
            Some("apis") => parts.next().unwrap_or_default(),
            _ => "",
        };
        let _version = parts.next();
        let mut parts = parts.peekable();
        let namespace = parts.next_if(|part| *part == "namespaces").and_then(|_| parts.next());
        let plural = parts.next().unwrap_or_default();
        let kind = KINDS.into_iter().find(|kind| {
            let (of, _, _, name) = kind.names();
            of == group && name == plural
        });
        let name = parts.next();
        let is_watch = query.contains_key("watch");
        let verb = match (head.method.as_str(), kind, name) {
            (_, None, _) => Verb::Other,
            ("GET", _, Some(_)) => Verb::Get,
            ("GET", _, None) if is_watch => Verb::Watch,
            ("GET", _, None) => Verb::List,
            ("POST", ..) => Verb::Create,
            ("PUT", ..) => Verb::Update,
            ("PATCH", ..) => Verb::Patch,
            ("DELETE", ..) => Verb::Delete,
            _ => Verb::Other,
        };
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let given = body["metadata"]["name"].as_str().unwrap_or_default();
        let form = head.headers.get(CONTENT_TYPE).and_then(|form| form.to_str().ok());
        Self {
            verb,
            kind: kind.unwrap_or(Kind::Secret),
            namespace: namespace.map(str::to_owned),
            name: ObjectName::new(namespace.unwrap_or_default(), name.unwrap_or(given)),
            part: parts.next().unwrap_or_default().to_owned(),
            query,
            form: form.unwrap_or_default().to_owned(),
            body,
            // Events are named by the real clock.
            line: format!("{} {}", head.method, if kind.is_some() { path } else { plural }),
        }
    }

    pub(super) fn is_write(&self) -> bool {
        matches!(self.verb, Verb::Create | Verb::Update | Verb::Patch | Verb::Delete)
    }

    pub(super) fn query(&self, key: &str) -> &str {
        self.query.get(key).map_or("", String::as_str)
    }

    /// Whether an object is among those that a list or a watch is about.
    pub(super) fn selects(&self, name: &ObjectName, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        let selector = self.query("labelSelector");
        let is_there = selector.is_empty() || !labels[selector].is_null();
        is_there && self.namespace.as_deref().is_none_or(|namespace| *name.namespace == *namespace)
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        (rest, _) = match (first, byte) {
            (b'%', Some(byte)) => (&tail[2..], bytes.push(byte)),
            (b'+', _) => (tail, bytes.push(b' ')),
            (other, _) => (tail, bytes.push(*other)),
        };
    }
    String::from_utf8(bytes).unwrap()
}
