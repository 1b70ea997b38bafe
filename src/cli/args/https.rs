//! Options of listeners that speak TLS.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;

use super::parse::listen_address;

/// HTTPS on the data listeners.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "HTTPS")]
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
}

impl HttpsArgs {
    /// What these options lack or contradict, and what to write.
    ///
    /// # Errors
    /// A text for the person who wrote them.
    pub fn check(&self) -> Result<(), String> {
        let (certs, keys) = (self.tls_cert.len(), self.tls_key.len());
        if certs != keys {
            return Err(format!(
                "{certs} --tls-cert and {keys} --tls-key: give each certificate its key, in the \
                 same order"
            ));
        }
        match (self.https.is_empty(), certs) {
            (false, 0) => {
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
