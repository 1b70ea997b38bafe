use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::certificate::{Pair, PairFiles};
use super::choice::Choices;
use super::{NamedPair, TlsError, TlsServer};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn now() -> SystemTime {
    SystemTime::now()
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = (now() - DAY).into();
    params.not_after = (now() + 30 * DAY).into();
    params
}

/// Writes a pair into a folder.
fn write(folder: &TempDir, name: &str, params: CertificateParams) -> PairFiles {
    let key = KeyPair::generate().unwrap();
    let cert = params.self_signed(&key).unwrap();
    let files = files(folder, name);
    std::fs::write(&files.cert, cert.pem()).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    files
}

fn files(folder: &TempDir, name: &str) -> PairFiles {
    let path = |end: &str| folder.path().join(format!("{name}.{end}"));
    PairFiles { cert: path("crt"), key: path("key") }
}

/// Why a pair is refused, without the folder's name.
fn refusal(folder: &TempDir, files: &PairFiles) -> String {
    let text = Pair::load(files, now()).unwrap_err().to_string();
    text.replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn what_is_wrong_with_a_pair_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let good = write(&folder, "good", params(&["a.test"]));
    let other = write(&folder, "other", params(&["b.test"]));
    let pair = |cert: &Path, key: &Path| PairFiles { cert: cert.into(), key: key.into() };
    let text = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let gone = folder.path().join("gone.crt");
    let expired = {
        let mut params = params(&["a.test"]);
        params.not_before = (now() - 3 * DAY).into();
        params.not_after = (now() - DAY).into();
        write(&folder, "expired", params)
    };
    let early = {
        let mut params = params(&["a.test"]);
        params.not_before = (now() + DAY).into();
        write(&folder, "early", params)
    };
    let empty = text("empty.pem", b"");
    let locked = text(
        "locked.key",
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let der = text("der.crt", &[0x30, 0x82, 1, 1]);
    let rubbish =
        text("rubbish.crt", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let reversed = {
        let both = [std::fs::read(&other.cert).unwrap(), std::fs::read(&good.cert).unwrap()];
        text("reversed.crt", &both.concat())
    };
    for (files, expected) in [
        (pair(&gone, &good.key), "gone.crt: cannot be read (No such file"),
        (pair(&good.cert, &other.key), "good.crt: does not match the key in other.key; give"),
        (
            pair(&reversed, &good.key),
            "reversed.crt: does not match the key in good.key; it matches a later",
        ),
        (
            pair(&good.key, &good.cert),
            "good.key: has no certificate; are --tls-cert and --tls-key exchanged?",
        ),
        (pair(&good.cert, &good.cert), "good.crt: has no private key; are --tls-cert"),
        (
            pair(&good.cert, &locked),
            "locked.key: has no private key; it is protected by a passphrase: openssl pkey",
        ),
        (
            pair(&der, &good.key),
            "der.crt: has no certificate; it seems to be DER: openssl x509 -inform der",
        ),
        (pair(&empty, &good.key), "empty.pem: has no certificate; a PEM file begins"),
        (pair(&rubbish, &good.key), "rubbish.crt: is damaged"),
        (expired, "expired.crt: expired on 20"),
        (early, "early.crt: is not valid before 20"),
    ] {
        let text = refusal(&folder, &files);
        assert!(text.starts_with(expected), "{text}\ndoes not begin with\n{expected}");
    }
    assert!(Pair::load(&good, now()).is_ok());
}

#[test]
fn a_week_before_its_end_a_certificate_is_worth_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let pair = Pair::load(&write(&folder, "good", params(&["a.test"])), now()).unwrap();
    assert!(!pair.expires_soon(now()));
    assert!(!pair.expires_soon(now() + 22 * DAY));
    assert!(pair.expires_soon(now() + 24 * DAY));
    assert!(pair.expires_soon(now() + 40 * DAY));
}

#[test]
fn all_pairs_with_problems_are_named_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let good = write(&folder, "good", params(&["a.test"]));
    let wrong = ["one", "two"].map(|name| files(&folder, name));
    let error = TlsServer::open([vec![good], wrong.to_vec()].concat(), &[], now()).unwrap_err();
    assert!(matches!(&error, TlsError::Pairs(problems) if problems.len() == 2));
    assert_eq!(error.to_string().lines().count(), 2);
}

#[test]
fn names_choose_the_pair() {
    let folder = tempfile::tempdir().unwrap();
    let pairs: Vec<Arc<Pair>> = [
        &["first.test"][..],
        &["*.Shop.test", "shop.test"],
        &["cart.shop.test"],
        &["shop.test", "other.test"],
    ]
    .iter()
    .enumerate()
    .map(|(index, names)| {
        let files = write(&folder, &index.to_string(), params(names));
        Arc::new(Pair::load(&files, now()).unwrap())
    })
    .collect();
    let choices = Choices::new(pairs);
    let chosen = |name: Option<&str>| -> Vec<usize> {
        let index = |pair: &Arc<Pair>| choices.pairs.iter().position(|p| Arc::ptr_eq(p, pair));
        choices.candidates(name).map(|pair| index(pair).unwrap()).collect()
    };
    assert_eq!(chosen(None), [0], "no name: the first");
    assert_eq!(chosen(Some("nobody.test")), [0], "an unknown name: the first");
    assert_eq!(chosen(Some("FIRST.test")), [0]);
    assert_eq!(chosen(Some("a.shop.test")), [1], "a wildcard stands for one label");
    assert_eq!(chosen(Some("a.b.shop.test")), [0], "and for one only");
    assert_eq!(chosen(Some("cart.shop.test")), [2], "a name as it is comes before a wildcard");
    assert_eq!(chosen(Some("shop.test.")), [1, 3], "the same name twice: in the order given");
    assert_eq!(chosen(Some("other.test")), [3]);
    assert_eq!(chosen(Some("")), [0]);
}

/// The certificate that a client gets for a name.
fn served(server: &Arc<TlsServer>, name: &str) -> Option<Vec<u8>> {
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, ServerConnection};
    // What is wrong with it does not matter here.
    let mut roots = rustls::RootCertStore::empty();
    let folder = tempfile::tempdir().unwrap();
    let files = write(&folder, "root", params(&["root.test"]));
    roots.add(Pair::load(&files, now()).unwrap().key.cert[0].clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut accepted = ServerConnection::new(Arc::clone(&server.config)).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    accepted.read_tls(&mut hello.as_slice()).unwrap();
    accepted.process_new_packets().ok()?;
    let mut answer = Vec::new();
    accepted.write_tls(&mut answer).unwrap();
    // TLS 1.2 sends it in the clear.
    Some(answer)
}

fn named(host: &str, names: &[&str]) -> (NamedPair, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let cert = params(names).self_signed(&key).unwrap();
    let pair = NamedPair {
        host: host.into(),
        source: "Secret ns/s".into(),
        certificate: cert.pem().into_bytes().into(),
        key: key.serialize_pem().into_bytes().into(),
    };
    (pair, cert.der().to_vec())
}

#[test]
fn pairs_of_single_hosts_go_before_files() {
    let folder = tempfile::tempdir().unwrap();
    let files = write(&folder, "all", params(&["a.test", "*.b.test"]));
    let of_file = Pair::load(&files, now()).unwrap().key.cert[0].to_vec();
    let server = TlsServer::open(vec![files], &["http/1.1"], now()).unwrap();
    let gets = |name: &str, der: &[u8]| {
        served(&server, name).is_some_and(|sent| sent.windows(der.len()).any(|part| part == der))
    };
    let (own, own_der) = named("A.test", &["a.test"]);
    assert!(gets("a.test", &of_file));
    server.set_named(std::slice::from_ref(&own), now());
    assert!(gets("a.test", &own_der) && !gets("a.test", &of_file));
    assert!(gets("x.b.test", &of_file));
    // A new one that is bad leaves the one before; a good one takes its place.
    let broken = NamedPair { key: (*b"no key").into(), ..own };
    server.set_named(&[broken], now());
    assert!(gets("a.test", &own_der));
    assert_eq!(server.reloads(), [1, 0]);
    let (new, new_der) = named("a.test", &["a.test"]);
    server.set_named(&[new], now());
    assert!(gets("a.test", &new_der) && !gets("a.test", &own_der));
    assert_eq!(server.reloads(), [1, 1]);
    server.set_named(&[], now());
    assert!(gets("a.test", &of_file));
}

#[test]
fn without_files_only_hosts_with_a_pair_are_served() {
    let server = TlsServer::open(Vec::new(), &["http/1.1"], now()).unwrap();
    let (own, own_der) = named("a.test", &["a.test"]);
    assert_eq!(served(&server, "a.test"), None);
    server.set_named(&[own], now());
    let sent = served(&server, "a.test").unwrap();
    assert!(sent.windows(own_der.len()).any(|part| part == own_der));
    assert_eq!(served(&server, "b.test"), None);
}

#[test]
fn a_key_is_never_shown() {
    let (pair, _) = named("a.test", &["a.test"]);
    assert_eq!(format!("{pair:?}"), r#"NamedPair { host: "a.test", source: "Secret ns/s" }"#);
}
