//! Whether the Secret that a mapping names has a certificate that can be served. It is not watched
//! (that takes the right to list), so it is looked at again from time to time.

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde_json::Value;

use super::super::object::Parts as _;
use crate::config::text::base64;
use crate::model::ObjectName;

/// Why a Secret's certificate cannot be served.
///
/// # Errors
/// The reason, for people.
pub(super) fn check(name: &ObjectName, secret: Option<&Value>) -> Result<(), String> {
    let secret = secret
        .ok_or_else(|| format!("Secret {name} not found: make it, with tls.crt and tls.key"))?;
    let part = |key: &str| {
        let data = secret.get("data").and_then(|data| data.get(key)).and_then(Value::as_str);
        data.and_then(base64).filter(|bytes| !bytes.is_empty()).ok_or_else(|| {
            format!("Secret {name} has no {key}: kubectl create secret tls makes one that has it")
        })
    };
    let (chain, key) = (part("tls.crt")?, part("tls.key")?);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain =
        chain.ok_or_else(|| format!("tls.crt of Secret {name} is no certificate in PEM"))?;
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|error| format!("tls.key of Secret {name} is no private key in PEM: {error}"))?;
    CertifiedKey::from_der(chain, key, &default_provider()).map(drop).map_err(|error| {
        format!("the certificate and key of Secret {name} cannot be used: {error}")
    })
}

/// The Secret of a mapping.
pub(super) fn secret_of(mapping: &Value) -> Option<ObjectName> {
    let name = mapping.text("/spec/tls/secretName");
    (!name.is_empty()).then(|| ObjectName::new(mapping.text("/metadata/namespace"), name))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use serde_json::json;

    use super::*;

    fn secret(parts: &[(&str, &str)]) -> Value {
        let data = parts.iter().map(|(key, text)| {
            let bytes = ByteString(text.as_bytes().to_vec());
            ((*key).to_owned(), serde_json::to_value(bytes).unwrap())
        });
        json!({"data": data.collect::<serde_json::Map<_, _>>()})
    }

    #[test]
    fn what_is_wrong_with_a_secret() {
        let name = ObjectName::new("ns", "cert");
        let made = || rcgen::generate_simple_self_signed(["shop.org".to_owned()]).unwrap();
        let (one, other) = (made(), made());
        let (certificate, key) = (one.cert.pem(), one.signing_key.serialize_pem());
        let said = |parts: &[(&str, &str)]| check(&name, Some(&secret(parts))).unwrap_err();
        assert_eq!(
            check(&name, Some(&secret(&[("tls.crt", &certificate), ("tls.key", &key)]))),
            Ok(())
        );
        assert!(check(&name, None).unwrap_err().contains("not found"));
        assert!(said(&[("tls.crt", &certificate)]).contains("has no tls.key"));
        assert!(said(&[("tls.crt", "x"), ("tls.key", &key)]).contains("no certificate"));
        assert!(said(&[("tls.crt", &certificate), ("tls.key", "x")]).contains("no private key"));
        let wrong = other.signing_key.serialize_pem();
        assert!(said(&[("tls.crt", &certificate), ("tls.key", &wrong)]).contains("cannot be used"));
    }
}
