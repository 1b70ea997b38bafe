//! Keeps the webhook's certificate – in a Secret that all replicas share – and what the API server
//! knows of it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use kube::api::{DynamicObject, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::super::kinds::Kind;
use super::super::lease::Leadership;
use super::certificate::{CertificateError, Issued, Served};
use super::registration::{self, Publication, Reach};

/// Name of the Secret.
const SECRET: &str = "tidegate-webhook";
/// How often everything is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// After something failed.
const AGAIN: Duration = Duration::from_secs(2);
/// A call takes no longer.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the webhook is.
#[derive(Clone, Debug)]
pub struct KeeperSettings {
    /// Namespace of the Secret: tidegate's own.
    pub namespace: String,
    /// How the API server reaches it.
    pub reach: Reach,
    /// Namespace of the ConfigMaps that are settings.
    pub settings_namespace: String,
}

/// What went wrong in a look.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("the API server does not answer")]
    Silent(#[from] tokio::time::error::Elapsed),
    #[error("another replica wrote it at the same moment")]
    Conflict,
}

/// Keeps the pair in use for good; while this replica leads, the registration too. Where
/// tidegate is not `is_alone` it is withdrawn.
pub async fn keep(
    client: Client,
    settings: KeeperSettings,
    served: Arc<Served>,
    leadership: Leadership,
    mut is_alone: watch::Receiver<Option<bool>>,
) {
    let mut keeper = Keeper { client, settings, served, used: None, published: None };
    let mut leading = leadership.watch();
    let mut is_failing = false;
    loop {
        // A statement of its own: the value is locked while it is looked at.
        let alone = *is_alone.borrow_and_update();
        let looked = keeper.look(&leadership, alone).await;
        leading.mark_unchanged();
        let wait = match &looked {
            Ok(()) => LOOK_EVERY,
            Err(_) => AGAIN,
        };
        match looked {
            Err(KeepError::Conflict) | Ok(()) => is_failing = false,
            Err(error) if !std::mem::replace(&mut is_failing, true) => tracing::warn!(
                %error,
                "the admission webhook cannot be kept: objects are checked only when they are taken \
                 up. Its role needs the Secret {SECRET} in its namespace, and the webhook \
                 configurations named tidegate"
            ),
            Err(_) => {}
        }
        let wait = if is_failing { LOOK_EVERY.min(wait * 10) } else { wait };
        tokio::select! {
            () = sleep(wait) => {}
            Ok(()) = leading.changed() => {}
            Ok(()) = is_alone.changed() => {}
        }
    }
}

struct Keeper {
    client: Client,
    settings: KeeperSettings,
    served: Arc<Served>,
    /// The pair in use.
    used: Option<Issued>,
    /// What was published last; none inside = withdrawn.
    published: Option<Option<Publication>>,
}

impl Keeper {
    async fn look(
        &mut self,
        leadership: &Leadership,
        is_alone: Option<bool>,
    ) -> Result<(), KeepError> {
        let issued = self.issued().await?;
        self.take_up(&issued)?;
        match is_alone {
            Some(true) if leadership.is_leading() => self.publish(issued.authorities).await,
            // Nobody leads then, and it does no harm twice.
            Some(false) => self.withdraw().await,
            _ => {
                self.published = None;
                Ok(())
            }
        }
    }

    /// The pair in the Secret, made or renewed if it has to be.
    async fn issued(&self) -> Result<Issued, KeepError> {
        let api = Kind::Secret.in_namespace(&self.client, &self.settings.namespace);
        let secret = timeout(CALL_TIMEOUT, api.get_opt(SECRET)).await??;
        let (names, now) = (self.settings.reach.names(), SystemTime::now());
        let found = secret.as_ref().and_then(read);
        let new = match &found {
            Some(issued) => issued.renewed(&names, now)?,
            None => Some(Issued::new(&names, now)?),
        };
        let Some(new) = new else { return found.ok_or(KeepError::Conflict) };
        store(&api, secret, &new).await?;
        tracing::info!(secret = SECRET, "made a certificate for the admission webhook");
        Ok(new)
    }

    /// Puts a pair in use. One of a new authority waits for a look: the API server has first to
    /// be told whom to trust.
    fn take_up(&mut self, issued: &Issued) -> Result<(), KeepError> {
        if let Some(used) = &mut self.used {
            let is_trusted = used.authorities == issued.authorities;
            if used.authority() != issued.authority() && !is_trusted {
                used.authorities.clone_from(&issued.authorities);
                return Ok(());
            }
            if used == issued {
                return Ok(());
            }
        }
        self.served.put(issued)?;
        self.used = Some(issued.clone());
        Ok(())
    }

    async fn publish(&mut self, authorities: String) -> Result<(), KeepError> {
        let publication = Publication {
            reach: self.settings.reach.clone(),
            authorities,
            settings_namespace: self.settings.settings_namespace.clone(),
            itself: timeout(CALL_TIMEOUT, registration::itself(&self.client)).await??,
        };
        // Also when nothing changed: somebody may have edited or deleted it.
        timeout(CALL_TIMEOUT, registration::publish(&self.client, &publication)).await??;
        let publication = Some(Some(publication));
        if self.published != publication {
            tracing::info!("published the admission webhook");
            self.published = publication;
        }
        Ok(())
    }

    async fn withdraw(&mut self) -> Result<(), KeepError> {
        if self.published != Some(None) {
            timeout(CALL_TIMEOUT, registration::withdraw(&self.client)).await??;
            self.published = Some(None);
        }
        Ok(())
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
    secret: Option<DynamicObject>,
    issued: &Issued,
) -> Result<(), KeepError> {
    let is_new = secret.is_none();
    let mut secret = secret.unwrap_or_else(|| {
        let mut secret = DynamicObject::new(SECRET, &Kind::Secret.resource());
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
        timeout(CALL_TIMEOUT, api.replace(SECRET, &params, &secret)).await?
    };
    match written {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Err(KeepError::Conflict),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_as_it_was_written() {
        let names = ["a.svc".to_owned()];
        let issued = Issued::new(&names, SystemTime::now()).unwrap();
        let mut secret = DynamicObject::new(SECRET, &Kind::Secret.resource());
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
