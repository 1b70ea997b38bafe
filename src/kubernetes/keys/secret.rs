//! Keys in a Secret that all replicas read by its name.

use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use kube::api::{DynamicObject, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::timeout;

use super::super::kinds::Kind;
use super::{CertificateError, Issued, Purpose};

/// A call takes no longer.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Keys cannot be read, made or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The API server refuses.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// They cannot be made or used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// No answer.
    #[error("the API server does not answer")]
    Silent(#[from] tokio::time::error::Elapsed),
    /// Two made them at once; the other one's stand.
    #[error("another replica wrote it at the same moment")]
    Conflict,
}

/// A Secret with keys, and what they are for.
#[derive(Clone, Copy)]
pub struct KeySecret<'a> {
    /// Reads and writes it.
    pub client: &'a Client,
    /// tidegate's own namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'static str,
    /// What its keys are for.
    pub purpose: Purpose,
}

impl std::fmt::Debug for KeySecret<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl KeySecret<'_> {
    /// The keys in it, made or renewed if they have to be.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub async fn current(&self, names: &[String]) -> Result<Issued, KeyError> {
        let api = Kind::Secret.in_namespace(self.client, self.namespace);
        let secret = timeout(CALL_TIMEOUT, api.get_opt(self.name)).await??;
        let now = SystemTime::now();
        let found = secret.as_ref().and_then(read);
        let new = match &found {
            Some(issued) => issued.renewed(self.purpose, names, now)?,
            None => Some(Issued::new(self.purpose, names, now)?),
        };
        let Some(new) = new else { return found.ok_or(KeyError::Conflict) };
        store(&api, self.name, secret, &new).await?;
        tracing::info!(secret = self.name, "made a certificate");
        Ok(new)
    }
}

const KEYS: [&str; 4] = ["ca.crt", "ca.key", "tls.crt", "tls.key"];

fn read(secret: &DynamicObject) -> Option<Issued> {
    let text = |key: &str| {
        let value = secret.data.get("data")?.get(key)?.clone();
        let bytes: ByteString = serde_json::from_value(value).ok()?;
        String::from_utf8(bytes.0).ok()
    };
    let [authorities, authority_key, certificate, key] = KEYS.map(text);
    Some(Issued {
        authorities: authorities?,
        authority_key: authority_key?,
        certificate: certificate?,
        key: key?,
    })
}

/// Writes the pair, unless somebody else did meanwhile.
async fn store(
    api: &Api<DynamicObject>,
    name: &str,
    secret: Option<DynamicObject>,
    issued: &Issued,
) -> Result<(), KeyError> {
    let is_new = secret.is_none();
    let mut secret = secret.unwrap_or_else(|| {
        let mut secret = DynamicObject::new(name, &Kind::Secret.resource());
        secret.data = json!({"type": "kubernetes.io/tls"});
        secret
    });
    let values = [&issued.authorities, &issued.authority_key, &issued.certificate, &issued.key];
    for (key, value) in KEYS.into_iter().zip(values) {
        secret.data["data"][key] = json!(ByteString(value.clone().into_bytes()));
    }
    let params = PostParams::default();
    let written = if is_new {
        timeout(CALL_TIMEOUT, api.create(&params, &secret)).await?
    } else {
        timeout(CALL_TIMEOUT, api.replace(name, &params, &secret)).await?
    };
    match written {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Err(KeyError::Conflict),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_as_it_was_written() {
        let names = ["a.svc".to_owned()];
        let issued = Issued::new(Purpose::Peers, &names, SystemTime::now()).unwrap();
        let mut secret = DynamicObject::new("a", &Kind::Secret.resource());
        assert_eq!(read(&secret), None);
        let values = [&issued.authorities, &issued.authority_key, &issued.certificate, &issued.key];
        secret.data = json!({"data": {}});
        for (key, value) in KEYS.into_iter().zip(values) {
            assert_eq!(read(&secret), None);
            secret.data["data"][key] = json!(ByteString(value.clone().into_bytes()));
        }
        assert_eq!(read(&secret), Some(issued));
    }
}
