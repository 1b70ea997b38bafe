//! Certificates of DomainMappings (`spec.tls`): Secrets, read by name – they are never listed – and
//! read again from time to time, for a watch would need the right to list.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::api::DynamicObject;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::feed::Feed;
use super::kinds::Kind;
use super::mirror::Mirror;
use crate::config::text::base64;
use crate::model::ObjectName;

/// A Secret is read again after that.
const AGAIN: Duration = Duration::from_secs(60);
/// One that could not be read, or lacks something.
const AGAIN_MISSING: Duration = Duration::from_secs(5);
/// Secrets read in a row; then comes a pause.
const READS: usize = 10;
const PAUSE: Duration = Duration::from_secs(1);
/// A read takes no longer.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The certificate of one host.
#[derive(Clone, PartialEq, Eq)]
pub struct HostCertificate {
    /// The host.
    pub host: Arc<str>,
    /// The Secret.
    pub secret: ObjectName,
    /// `tls.crt`.
    pub certificate: Arc<[u8]>,
    /// `tls.key`.
    pub key: Arc<[u8]>,
}

impl fmt::Debug for HostCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, secret, .. } = self;
        f.debug_struct("HostCertificate").field("host", host).field("secret", secret).finish()
    }
}

/// What of a DomainMapping says which certificate its host has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Mapped {
    created: String,
    /// Name of its Secret.
    secret: Option<String>,
    /// Whether the controller says that the host is its own.
    is_claimed: bool,
}

/// A certificate and its key.
type PemPair = (Arc<[u8]>, Arc<[u8]>);

/// What was read of a Secret.
#[derive(Clone, Debug)]
struct Read {
    at: Instant,
    /// Certificate and key, if it has them.
    pair: Option<PemPair>,
}

/// Tells the certificates of all hosts that have one whenever they changed, for good.
pub async fn follow(
    client: Client,
    domain_mappings: Feed,
    mut told: impl FnMut(Vec<HostCertificate>),
) {
    let mappings = Mirror::default();
    let changed = Notify::new();
    let follow = mappings.take_all(domain_mappings.events(), mapped, |_| changed.notify_one());
    let read = async {
        mappings.complete().await;
        let mut known: HashMap<ObjectName, Read> = HashMap::new();
        let mut last = Vec::new();
        loop {
            let wanted = wanted(mappings.all());
            let names: HashSet<&ObjectName> = wanted.values().collect();
            known.retain(|name, _| names.contains(name));
            let now = Instant::now();
            let mut due: Vec<&ObjectName> = names.into_iter().collect();
            due.retain(|name| known.get(*name).is_none_or(|read| read.is_due(now)));
            due.sort();
            let is_more = due.len() > READS;
            for name in due.into_iter().take(READS) {
                let pair = read_secret(&client, name).await;
                let before = known.remove(name).and_then(|before| before.pair);
                // What cannot be read at the moment stays what it was.
                let pair = pair.unwrap_or(before);
                known.insert(name.clone(), Read { at: Instant::now(), pair });
            }
            let certificates = certificates(&wanted, &known);
            if certificates != last {
                last.clone_from(&certificates);
                told(certificates);
            }
            let pause = if is_more { PAUSE } else { AGAIN_MISSING };
            tokio::select! {
                () = changed.notified(), if !is_more => {}
                () = sleep(pause), if !wanted.is_empty() => {}
            }
        }
    };
    futures_util::future::join(follow, read).await;
}

impl Read {
    fn is_due(&self, now: Instant) -> bool {
        let after = if self.pair.is_some() { AGAIN } else { AGAIN_MISSING };
        now.duration_since(self.at) >= after
    }
}

fn mapped(object: &DynamicObject) -> Option<Mapped> {
    let created = object.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string());
    let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
    let is_claimed = conditions.into_iter().flatten().any(|condition| {
        condition.get("type").and_then(Value::as_str) == Some("DomainClaimed")
            && condition.get("status").and_then(Value::as_str) == Some("True")
    });
    let secret = object.data.pointer("/spec/tls/secretName").and_then(Value::as_str);
    let secret = secret.filter(|name| !name.is_empty()).map(str::to_owned);
    Some(Mapped { created: created.unwrap_or_default(), secret, is_claimed })
}

/// The Secret of each host: what the oldest mapping of its name says, once the host is its own.
fn wanted(mappings: Vec<(ObjectName, Arc<Mapped>)>) -> BTreeMap<Arc<str>, ObjectName> {
    let mut oldest: BTreeMap<Arc<str>, (Arc<Mapped>, ObjectName)> = BTreeMap::new();
    for (name, mapped) in mappings {
        let rank = |mapped: &Mapped, name: &ObjectName| (mapped.created.clone(), name.clone());
        let first = oldest.get(&name.name);
        if first.is_none_or(|(first, of)| rank(&mapped, &name) < rank(first, of)) {
            oldest.insert(Arc::clone(&name.name), (mapped, name));
        }
    }
    let secrets = oldest.into_iter().filter_map(|(host, (mapped, name))| {
        let secret = mapped.secret.clone().filter(|_| mapped.is_claimed)?;
        Some((host, ObjectName::new(name.namespace, secret)))
    });
    secrets.collect()
}

fn certificates(
    wanted: &BTreeMap<Arc<str>, ObjectName>,
    known: &HashMap<ObjectName, Read>,
) -> Vec<HostCertificate> {
    let of = |(host, secret): (&Arc<str>, &ObjectName)| {
        let (certificate, key) = known.get(secret)?.pair.clone()?;
        Some(HostCertificate { host: Arc::clone(host), secret: secret.clone(), certificate, key })
    };
    wanted.iter().filter_map(of).collect()
}

/// What a Secret has; an error when that cannot be told at the moment.
async fn read_secret(client: &Client, name: &ObjectName) -> Result<Option<PemPair>, ()> {
    let api = Kind::Secret.in_namespace(client, &name.namespace);
    let secret = match timeout(READ_TIMEOUT, api.get_opt(&name.name)).await {
        Ok(Ok(secret)) => secret,
        Ok(Err(error)) => {
            tracing::warn!(secret = %name, %error, "a certificate cannot be read");
            return Err(());
        }
        Err(_) => {
            tracing::warn!(secret = %name, "a certificate cannot be read: no answer in time");
            return Err(());
        }
    };
    let value = |key: &str| {
        let data = secret.as_ref()?.data.get("data")?.get(key)?.as_str()?;
        Some(Arc::from(base64(data)?))
    };
    let pair = value("tls.crt").zip(value("tls.key"));
    if pair.is_none() {
        tracing::debug!(secret = %name, "there is no tls.crt with tls.key");
    }
    Ok(pair)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mapping(
        name: &str,
        created: &str,
        secret: &str,
        claimed: &str,
    ) -> (ObjectName, Arc<Mapped>) {
        let (namespace, name) = name.split_once('/').unwrap();
        let object = json!({
            "apiVersion": "serving.knative.dev/v1beta1", "kind": "DomainMapping",
            "metadata": {"namespace": namespace, "name": name, "creationTimestamp": created},
            "spec": {"tls": {"secretName": secret}},
            "status": {"conditions": [{"type": "DomainClaimed", "status": claimed}]},
        });
        let mapped = mapped(&serde_json::from_value(object).unwrap()).unwrap();
        (ObjectName::new(namespace, name), Arc::new(mapped))
    }

    fn shown(mappings: &[(&str, &str, &str, &str)]) -> String {
        let mappings = mappings.iter().map(|(a, b, c, d)| mapping(a, b, c, d)).collect();
        let wanted = wanted(mappings);
        wanted.iter().map(|(host, secret)| format!("{host}={secret} ")).collect()
    }

    const OLD: &str = "2026-01-01T00:00:00Z";
    const NEW: &str = "2026-01-02T00:00:00Z";

    #[test]
    fn only_who_has_a_host_says_which_certificate_it_has() {
        assert_eq!(shown(&[("a/x.org", OLD, "s", "True")]), "x.org=a/s ");
        assert_eq!(shown(&[("a/x.org", OLD, "s", "False")]), "");
        assert_eq!(shown(&[("a/x.org", OLD, "", "True")]), "");
        let two = [("a/x.org", NEW, "s", "True"), ("b/x.org", OLD, "t", "True")];
        assert_eq!(shown(&two), "x.org=b/t ");
        // The newer one says nothing, whatever it says of itself.
        let two = [("a/x.org", NEW, "s", "True"), ("b/x.org", OLD, "", "True")];
        assert_eq!(shown(&two), "");
        let two = [("a/x.org", OLD, "s", "True"), ("a/y.org", OLD, "s", "True")];
        assert_eq!(shown(&two), "x.org=a/s y.org=a/s ");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_missing_is_looked_for_sooner() {
        let at = Instant::now();
        let pair = Some((Arc::from(&b"c"[..]), Arc::from(&b"k"[..])));
        let (found, missing) = (Read { at, pair }, Read { at, pair: None });
        let is_due = |read: &Read, after: u64| read.is_due(at + Duration::from_secs(after));
        assert_eq!([is_due(&found, 5), is_due(&found, 60)], [false, true]);
        assert_eq!([is_due(&missing, 4), is_due(&missing, 5)], [false, true]);
    }
}
