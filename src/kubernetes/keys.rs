//! Keys that tidegate makes for itself and shares among its replicas: an authority of its own, a
//! certificate of it, and how both are renewed without anybody noticing.

mod rotation;
mod secret;

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _,
};
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

pub use rotation::Rotation;
pub use secret::{CALL_TIMEOUT, KeyError, KeySecret};

/// How long the authority is valid.
const AUTHORITY: Duration = Duration::from_secs(10 * 365 * DAY);
/// A new authority is made when the old one is valid for less than this.
const AUTHORITY_LEFT: Duration = Duration::from_secs(365 * DAY);
/// How long a certificate is valid.
const CERTIFICATE: Duration = Duration::from_secs(90 * DAY);
/// A new certificate is made when the old one is valid for less than this.
const CERTIFICATE_LEFT: Duration = Duration::from_secs(30 * DAY);
/// Clocks of the cluster may differ by this.
const SKEW: Duration = Duration::from_secs(3600);
const DAY: u64 = 24 * 3600;

/// A certificate cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Making it failed.
    #[error("a certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// What was found is damaged.
    #[error("the certificate cannot be used: {0}")]
    Use(String),
}

/// What keys are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The API server calls the admission webhook.
    Webhook,
    /// Proxies call each other: each is server and client.
    Peers,
}

impl Purpose {
    const fn common_name(self) -> &'static str {
        match self {
            Self::Webhook => "tidegate webhook",
            Self::Peers => "tidegate peers",
        }
    }

    fn usages(self) -> Vec<ExtendedKeyUsagePurpose> {
        match self {
            Self::Webhook => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Self::Peers => {
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
            }
        }
    }
}

/// An authority and a certificate of it, as they are kept in the Secret; PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Certificates that the other side is to trust: the authority's, then its predecessor's.
    pub authorities: String,
    /// The authority's key.
    pub authority_key: String,
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Issued {
    /// An authority and a certificate for the names (DNS names and addresses).
    ///
    /// # Errors
    /// The library's own.
    pub fn new(
        purpose: Purpose,
        names: &[String],
        now: SystemTime,
    ) -> Result<Self, CertificateError> {
        let key = KeyPair::generate()?;
        let authority = authority_params(purpose, now).self_signed(&key)?.pem();
        Self::issue(purpose, authority, key.serialize_pem(), names, now)
    }

    fn issue(
        purpose: Purpose,
        authorities: String,
        authority_key: String,
        names: &[String],
        now: SystemTime,
    ) -> Result<Self, CertificateError> {
        // Of the authority only its name and key matter for what it signs.
        let issuer =
            Issuer::new(authority_params(purpose, now), KeyPair::from_pem(&authority_key)?);
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = name(purpose.common_name());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = purpose.usages();
        params.use_authority_key_identifier_extension = true;
        params.not_before = (now - SKEW).into();
        params.not_after = (now + CERTIFICATE).into();
        let certificate = params.signed_by(&key, &issuer)?.pem();
        Ok(Self { authorities, authority_key, certificate, key: key.serialize_pem() })
    }

    /// What is to take its place as of `now`, none if it is fine: anew if it cannot be used, with
    /// a new authority beside the old one in time, with a new certificate in time or when a name
    /// is missing.
    ///
    /// # Errors
    /// The library's own.
    pub fn renewed(
        &self,
        purpose: Purpose,
        names: &[String],
        now: SystemTime,
    ) -> Result<Option<Self>, CertificateError> {
        let Ok((_, authority, leaf)) = self.parts() else {
            return Self::new(purpose, names, now).map(Some);
        };
        let left = |certificate: &Certificate| {
            let end = certificate.tbs_certificate().validity().not_after.to_system_time();
            end.duration_since(now).unwrap_or_default()
        };
        if left(&authority) < AUTHORITY_LEFT {
            let mut new = Self::new(purpose, names, now)?;
            if left(&authority) > Duration::ZERO {
                new.authorities.push_str(first_pem(&self.authorities));
            }
            return Ok(Some(new));
        }
        let known = names_of(&leaf);
        if left(&leaf) >= CERTIFICATE_LEFT && names.iter().all(|name| known.contains(name)) {
            return Ok(None);
        }
        let (authorities, key) = (self.authorities.clone(), self.authority_key.clone());
        Self::issue(purpose, authorities, key, names, now).map(Some)
    }

    /// What TLS needs, and both certificates.
    fn parts(&self) -> Result<(CertifiedKey, Certificate, Certificate), CertificateError> {
        let broken = |error: &dyn std::fmt::Display| CertificateError::Use(error.to_string());
        let der = |pem: &str| {
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| broken(&error))
        };
        let parse =
            |der: &CertificateDer<'_>| Certificate::from_der(der).map_err(|error| broken(&error));
        let leaf = der(&self.certificate)?;
        let (authority, parsed) = (parse(&der(&self.authorities)?)?, parse(&leaf)?);
        let signing = KeyPair::from_pem(&self.authority_key)?.subject_public_key_info();
        let of_authority = authority.tbs_certificate().subject_public_key_info().to_der();
        if of_authority.map_err(|error| broken(&error))? != signing {
            return Err(broken(&"the authority's key is not its own"));
        }
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|e| broken(&e))?;
        let key = ring::sign::any_supported_type(&key).map_err(|error| broken(&error))?;
        let pair = CertifiedKey::new(vec![leaf], key);
        pair.keys_match().map_err(|error| broken(&error))?;
        if parsed.tbs_certificate().issuer() != authority.tbs_certificate().subject() {
            return Err(broken(&"it is not of the authority beside it"));
        }
        Ok((pair, authority, parsed))
    }

    /// Certificate and key as handshakes need them.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn pair(&self) -> Result<CertifiedKey, CertificateError> {
        self.parts().map(|(pair, _, _)| pair)
    }

    /// The authority that the certificate is of, PEM.
    pub fn authority(&self) -> &str {
        first_pem(&self.authorities)
    }
}

/// Authorities as whoever checks a certificate needs them.
///
/// # Errors
/// One of them is damaged, or there is none.
pub fn trusted(authorities: &str) -> Result<RootCertStore, CertificateError> {
    let broken = |error: &dyn std::fmt::Display| CertificateError::Use(error.to_string());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        let certificate = certificate.map_err(|error| broken(&error))?;
        roots.add(certificate).map_err(|error| broken(&error))?;
    }
    if roots.is_empty() { Err(broken(&"there is no authority")) } else { Ok(roots) }
}

fn authority_params(purpose: Purpose, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&format!("{} authority", purpose.common_name()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.not_before = (now - SKEW).into();
    params.not_after = (now + AUTHORITY).into();
    params
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// The first of several certificates, with its end of line.
fn first_pem(text: &str) -> &str {
    const END: &str = "-----END CERTIFICATE-----";
    let end = text.find(END).map_or(text.len(), |at| at + END.len());
    let rest = text.get(end..).unwrap_or_default();
    let line_end = rest.len() - rest.trim_start_matches(['\r', '\n']).len();
    text.get(..end + line_end).unwrap_or(text)
}

/// DNS names and addresses of a certificate.
fn names_of(certificate: &Certificate) -> Vec<String> {
    let Ok(Some((_, SubjectAltName(names)))) = certificate.tbs_certificate().get_extension() else {
        return Vec::new();
    };
    let text = |name: &GeneralName| match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
        GeneralName::IpAddress(octets) => {
            let octets = octets.as_bytes();
            let v4 = <[u8; 4]>::try_from(octets).map(std::net::IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(octets).map(std::net::IpAddr::from))
                .ok()
                .map(|address| address.to_string())
        }
        _ => None,
    };
    names.iter().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEBHOOK: Purpose = Purpose::Webhook;

    #[test]
    fn what_is_renewed_when() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(60 * 365 * DAY);
        let day = |days: u64| start + Duration::from_secs(days * DAY);
        let names = ["a.svc".to_owned(), "10.0.0.1".to_owned(), "fd00::1".to_owned()];
        let first = Issued::new(WEBHOOK, &names, start).unwrap();
        let what = |issued: &Issued, names: &[String], now: SystemTime| match issued
            .renewed(WEBHOOK, names, now)
            .unwrap()
        {
            None => "nothing",
            Some(new) if new.authorities == issued.authorities => "certificate",
            Some(new) if new.authorities.ends_with(&issued.authorities) => "authority",
            Some(_) => "everything",
        };
        let more = ["a.svc".to_owned(), "b.svc".to_owned()];
        let table: [(&[String], u64, &str); 7] = [
            (&names, 0, "nothing"),
            (&names[..1], 0, "nothing"),
            (&more, 0, "certificate"),
            (&names, 59, "nothing"),
            (&names, 61, "certificate"),
            (&names, 9 * 365 + 1, "authority"),
            (&names, 10 * 365 + 1, "everything"),
        ];
        for (names, days, expected) in table {
            assert_eq!(what(&first, names, day(days)), expected, "day {days} {names:?}");
        }
        // Two authorities are enough.
        let second = first.renewed(WEBHOOK, &names, day(9 * 365 + 1)).unwrap().unwrap();
        let third = second.renewed(WEBHOOK, &names, day(18 * 365 + 3)).unwrap().unwrap();
        let count = |issued: &Issued| issued.authorities.matches("BEGIN CERTIFICATE").count();
        assert_eq!([&first, &second, &third].map(count), [1, 2, 2]);
        for broken in [
            Issued { key: first.authority_key.clone(), ..first.clone() },
            Issued { certificate: "rubbish".to_owned(), ..first.clone() },
            Issued {
                authorities: second.authorities.replace(&first.authorities, ""),
                ..first.clone()
            },
            Issued { authority_key: String::new(), ..first },
        ] {
            let new = broken.renewed(WEBHOOK, &names, start).unwrap().expect("something new");
            assert!(new.parts().is_ok());
        }
    }
}
