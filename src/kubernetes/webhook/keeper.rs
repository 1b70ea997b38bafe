//! Keeps the webhook's certificate – in a Secret that all replicas share – and what the API server
//! knows of it.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::super::keys::{CALL_TIMEOUT, KeyError, KeySecret, Purpose, Rotation};
use super::super::lease::Leadership;
use super::registration::{self, Publication, Reach};
use super::served::Served;

/// Name of the Secret.
const SECRET: &str = "tidegate-webhook";
/// How often everything is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// After something failed.
const AGAIN: Duration = Duration::from_secs(2);

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

/// Keeps the pair in use for good; while this replica leads, the registration too. Where
/// tidegate is not `is_alone` it is withdrawn.
pub async fn keep(
    client: Client,
    settings: KeeperSettings,
    served: Arc<Served>,
    leadership: Leadership,
    mut is_alone: watch::Receiver<Option<bool>>,
) {
    let mut keeper =
        Keeper { client, settings, served, rotation: Rotation::default(), published: None };
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
            Err(KeyError::Conflict) | Ok(()) => is_failing = false,
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
    rotation: Rotation,
    /// What was published last; none inside = withdrawn.
    published: Option<Option<Publication>>,
}

impl Keeper {
    async fn look(
        &mut self,
        leadership: &Leadership,
        is_alone: Option<bool>,
    ) -> Result<(), KeyError> {
        let secret = KeySecret {
            client: &self.client,
            namespace: &self.settings.namespace,
            name: SECRET,
            purpose: Purpose::Webhook,
        };
        let issued = secret.current(&self.settings.reach.names()).await?;
        if self.rotation.take(&issued)?
            && let Some(pair) = self.rotation.pair()
        {
            self.served.put(pair)?;
        }
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

    async fn publish(&mut self, authorities: String) -> Result<(), KeyError> {
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

    async fn withdraw(&mut self) -> Result<(), KeyError> {
        if self.published != Some(None) {
            timeout(CALL_TIMEOUT, registration::withdraw(&self.client)).await??;
            self.published = Some(None);
        }
        Ok(())
    }
}
