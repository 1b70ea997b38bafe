//! Options of listeners that speak TLS, and of who may speak to them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::BoolishValueParser;

use super::parse::listen_address;

/// HTTPS on the data listeners.
#[derive(Args, Clone, Debug, Default)]
pub struct HttpsArgs {
    /// Where HTTPS requests come in, besides --http; repeatable
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_HTTPS", value_delimiter = ',')]
    #[arg(value_parser = listen_address)]
    pub https: Vec<SocketAddr>,

    /// Certificate with its chain (PEM) for --https; repeatable, chosen by the host that a client
    /// asks for, the first one for all others
    #[arg(long, value_name = "FILE", env = "TIDEGATE_TLS_CERT", value_delimiter = ',')]
    pub tls_cert: Vec<PathBuf>,

    /// Private key (PEM) of each --tls-cert, in the same order
    #[arg(long, value_name = "FILE", env = "TIDEGATE_TLS_KEY", value_delimiter = ',')]
    pub tls_key: Vec<PathBuf>,

    /// Port by which clients reach --https, for redirects and shown URLs [default: its own]
    #[arg(long, value_name = "PORT", env = "TIDEGATE_HTTPS_PORT")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub https_port: Option<u16>,

    /// Connections begin with a PROXY header (version 1 or 2) that says who the client is: all of
    /// them, or those of --trusted-proxies where it is given
    #[arg(long, env = "TIDEGATE_PROXY_PROTOCOL", value_parser = BoolishValueParser::new())]
    pub proxy_protocol: bool,

    /// Of the admin listener.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// TLS and the token of the admin listener.
#[derive(Args, Clone, Debug, Default)]
pub struct AdminArgs {
    /// Certificate with its chain (PEM): the admin listener speaks TLS
    #[arg(long, value_name = "FILE", env = "TIDEGATE_ADMIN_TLS_CERT")]
    #[arg(requires = "admin_tls_key")]
    pub admin_tls_cert: Option<PathBuf>,

    /// Private key (PEM) of --admin-tls-cert
    #[arg(long, value_name = "FILE", env = "TIDEGATE_ADMIN_TLS_KEY")]
    #[arg(requires = "admin_tls_cert")]
    pub admin_tls_key: Option<PathBuf>,

    /// The token.
    #[command(flatten)]
    pub token: TokenArgs,
}

/// The token of an admin listener, for both sides.
#[derive(Args, Clone, Debug, Default)]
pub struct TokenArgs {
    /// File with the token that requests to the admin listener must show (`Authorization: Bearer`),
    /// all but /livez and /readyz; or the token itself in the variable TIDEGATE_ADMIN_TOKEN
    #[arg(long, value_name = "FILE", env = "TIDEGATE_ADMIN_TOKEN_FILE")]
    pub admin_token_file: Option<PathBuf>,

    /// By its variable: on a command line everybody on the machine can read it.
    #[arg(long, value_name = "TOKEN", env = "TIDEGATE_ADMIN_TOKEN", hide_env_values = true)]
    #[arg(hide = true, conflicts_with = "admin_token_file")]
    pub admin_token: Option<String>,
}

/// How a client knows the admin listener.
#[derive(Args, Clone, Debug, Default)]
pub struct AdminClientArgs {
    /// The admin listener speaks TLS: its certificate, or its authority's (PEM)
    #[arg(long, value_name = "FILE", env = "TIDEGATE_ADMIN_CA")]
    pub admin_ca: Option<PathBuf>,

    /// Name in the admin listener's certificate [default: its IP address]
    #[arg(long, value_name = "NAME", env = "TIDEGATE_ADMIN_NAME", requires = "admin_ca")]
    pub admin_name: Option<String>,

    /// The token.
    #[command(flatten)]
    pub token: TokenArgs,
}

impl HttpsArgs {
    /// What these options lack or contradict, and what to write. In a cluster hosts may get their
    /// certificates from it.
    ///
    /// # Errors
    /// A text for the person who wrote them.
    pub fn check(&self, in_cluster: bool) -> Result<(), String> {
        let (certs, keys) = (self.tls_cert.len(), self.tls_key.len());
        if certs != keys {
            return Err(format!(
                "{certs} --tls-cert and {keys} --tls-key: give each certificate its key, in the \
                 same order"
            ));
        }
        match (self.https.is_empty(), certs) {
            (false, 0) if !in_cluster => {
                Err("--https needs a certificate: add --tls-cert FILE --tls-key FILE".to_owned())
            }
            (true, 0) if self.https_port.is_some() => {
                Err("--https-port is for --https, which is missing: add --https ADDR".to_owned())
            }
            (true, 1..) => {
                Err("--tls-cert is for --https, which is missing: add --https ADDR".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Certificates and their keys.
    pub fn pairs(&self) -> impl Iterator<Item = (&Path, &Path)> {
        self.tls_cert.iter().zip(&self.tls_key).map(|(cert, key)| (cert.as_path(), key.as_path()))
    }
}
