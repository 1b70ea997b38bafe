//! The connection to the API server.

use std::time::Duration;

use kube::{Client, Config};

/// Establishing a connection takes no longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection on which something is awaited and nothing comes for so long is given up. kube bounds
/// how long it waits for a watch's next event, not for a list nor for a watch to begin. Longer than
/// a watch may be silent ([`super::feed::WATCH_TIMEOUT_S`]).
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(70);

/// The API server cannot be found or spoken to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Neither a pod's service account nor a kubeconfig.
    #[error(
        "no cluster to serve for: {0}\nrun it in a pod with a service account, or name a \
         kubeconfig with the variable KUBECONFIG"
    )]
    Config(#[from] kube::config::InferConfigError),
    /// What was found cannot be used.
    #[error("the cluster's configuration cannot be used: {0}")]
    Client(#[from] kube::Error),
}

/// A client from `KUBECONFIG`, `~/.kube/config` or the pod's service account. It does not try again
/// by itself: an old count must not arrive after a newer one. Callers bound each call in time.
///
/// # Errors
/// Nothing to connect with, or something that cannot be used. The API server is not called yet.
pub async fn connect() -> Result<Client, ConnectError> {
    let mut config = Config::infer().await?;
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    config.reset_reader_on_write = true;
    Ok(Client::try_from(config)?)
}

/// The namespace of the pod that this is (`POD_NAMESPACE`); none outside of one.
pub fn pod_namespace() -> Option<String> {
    std::env::var("POD_NAMESPACE").ok().filter(|namespace| !namespace.is_empty())
}

/// tidegate's own namespace: the pod's, outside of one the kubeconfig's.
pub fn own_namespace(client: &Client) -> String {
    pod_namespace().unwrap_or_else(|| client.default_namespace().to_owned())
}
