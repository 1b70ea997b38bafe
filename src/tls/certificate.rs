//! One pair of certificate and key, read from two PEM files and checked as far as clients will
//! check it: a server that starts with a pair nobody accepts would only move the error elsewhere.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// A certificate that is valid for less than this is worth a warning.
const SOON: Duration = Duration::from_secs(7 * 24 * 3600);

/// Where a pair is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairFiles {
    /// The certificate, then the chain up to the root, in PEM.
    pub cert: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

/// A pair in use.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) key: Arc<CertifiedKey>,
    /// DNS names it is for, lower case; `*.` first in those that stand for one label.
    pub(super) names: Vec<String>,
    pub(super) not_after: SystemTime,
}

/// Why a pair cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// A file cannot be read.
    #[error("{0}: cannot be read ({1}); give the path of a PEM file that this user may read")]
    Read(PathBuf, io::Error),
    /// Nothing of the kind is in it.
    #[error("{0}: has no {1}; {2}")]
    Missing(PathBuf, &'static str, String),
    /// It is not PEM, or what is in it is damaged.
    #[error("{0}: is damaged ({1}); write it again from where it was issued")]
    Damaged(PathBuf, String),
    /// The key's kind is not supported.
    #[error(
        "{0}: this kind of key is not supported ({1}); use ECDSA (P-256, P-384), Ed25519 or RSA of 2048 to 8192 bits"
    )]
    Key(PathBuf, rustls::Error),
    /// Certificate and key are not of one pair.
    #[error("{cert}: does not match the key in {key}; {advice}")]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What to do.
        advice: String,
    },
    /// Its time is over.
    #[error("{0}: expired on {1}; have it renewed")]
    Expired(PathBuf, String),
    /// Its time has not come.
    #[error("{0}: is not valid before {1}; check this machine's clock, or wait")]
    NotYet(PathBuf, String),
}

impl Pair {
    /// Reads and checks a pair as of `now`.
    pub(super) fn load(files: &PairFiles, now: SystemTime) -> Result<Self, PairError> {
        Self::of(files, &read(&files.cert)?, &read(&files.key)?, now)
    }

    /// Checks a pair as of `now`; `files` are where it was read.
    pub(super) fn of(
        files: &PairFiles,
        cert: &[u8],
        key: &[u8],
        now: SystemTime,
    ) -> Result<Self, PairError> {
        let chain = chain(&files.cert, cert)?;
        let key = private_key(&files.key, key)?;
        let signing = any_supported_type(&key).map_err(|e| PairError::Key(files.key.clone(), e))?;
        let key = CertifiedKey::new(chain, signing);
        let damaged = |what: String| PairError::Damaged(files.cert.clone(), what);
        let leaf = key.cert.first().map(CertificateDer::as_ref).unwrap_or_default();
        let leaf = Certificate::from_der(leaf).map_err(|e| damaged(e.to_string()))?;
        match key.keys_match() {
            Ok(()) => {}
            Err(rustls::Error::InconsistentKeys(_)) => return Err(mismatch(files, &key)),
            Err(other) => return Err(damaged(other.to_string())),
        }
        let validity = leaf.tbs_certificate().validity();
        let not_after = validity.not_after.to_system_time();
        if not_after <= now {
            let when = validity.not_after.to_date_time().to_string();
            return Err(PairError::Expired(files.cert.clone(), when));
        }
        if validity.not_before.to_system_time() > now {
            let when = validity.not_before.to_date_time().to_string();
            return Err(PairError::NotYet(files.cert.clone(), when));
        }
        Ok(Self { names: names(&leaf), not_after, key: Arc::new(key) })
    }

    /// The end of its validity, in seconds since 1970.
    pub(super) fn expires(&self) -> u64 {
        self.not_after.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |t| t.as_secs())
    }

    /// How long it is still valid.
    pub(super) fn left(&self, now: SystemTime) -> Duration {
        self.not_after.duration_since(now).unwrap_or_default()
    }

    /// Whether that is worth a warning.
    pub(super) fn expires_soon(&self, now: SystemTime) -> bool {
        self.left(now) < SOON
    }
}

fn read(path: &Path) -> Result<Vec<u8>, PairError> {
    std::fs::read(path).map_err(|error| PairError::Read(path.to_owned(), error))
}

/// What a file that lacks something seems to be instead.
fn advice(path: &Path, bytes: &[u8], command: &str) -> String {
    let shown = path.display();
    let has = |text: &str| bytes.windows(text.len()).any(|at| at == text.as_bytes());
    if has("ENCRYPTED") {
        format!("it is protected by a passphrase: openssl pkey -in {shown} -out plain.pem")
    } else if has("PRIVATE KEY-----") || has("BEGIN CERTIFICATE-----") {
        "are --tls-cert and --tls-key exchanged?".to_owned()
    } else if bytes.first() == Some(&0x30) {
        format!("it seems to be DER: openssl {command} -inform der -in {shown} -out {shown}.pem")
    } else {
        "a PEM file begins with -----BEGIN".to_owned()
    }
}

fn chain(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, PairError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match chain {
        Ok(chain) if chain.is_empty() => {
            let advice = advice(path, bytes, "x509");
            Err(PairError::Missing(path.to_owned(), "certificate", advice))
        }
        Ok(chain) => Ok(chain),
        Err(error) => Err(PairError::Damaged(path.to_owned(), error.to_string())),
    }
}

fn private_key(path: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, PairError> {
    PrivateKeyDer::from_pem_slice(bytes).map_err(|error| match error {
        PemError::NoItemsFound => {
            let advice = advice(path, bytes, "pkey");
            PairError::Missing(path.to_owned(), "private key", advice)
        }
        other => PairError::Damaged(path.to_owned(), other.to_string()),
    })
}

/// The key may be that of another certificate in the file.
fn mismatch(files: &PairFiles, key: &CertifiedKey) -> PairError {
    let belongs = |cert: &CertificateDer<'static>| {
        CertifiedKey::new(vec![cert.clone()], Arc::clone(&key.key)).keys_match().is_ok()
    };
    let advice = if key.cert.iter().skip(1).any(belongs) {
        "it matches a later certificate of that file: put that one first, its issuers after it"
    } else {
        "give the two files of one pair, in the order of the options"
    };
    PairError::Mismatch {
        cert: files.cert.clone(),
        key: files.key.clone(),
        advice: advice.to_owned(),
    }
}

/// DNS names of a certificate. The subject's common name is none (RFC 9110 §4.3.4).
fn names(certificate: &Certificate) -> Vec<String> {
    let Ok(Some((_, SubjectAltName(names)))) = certificate.tbs_certificate().get_extension() else {
        return Vec::new();
    };
    let dns = names.iter().filter_map(|name| match name {
        GeneralName::DnsName(name) => Some(name.as_str().trim_end_matches('.')),
        _ => None,
    });
    dns.map(str::to_ascii_lowercase).collect()
}
