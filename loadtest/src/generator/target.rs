//! Whom to ask and what for: URL, protocol, request, and how its name becomes an address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};
use http_body_util::Full;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::Error;
use super::anybody;

/// HTTP version on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: by prior knowledge (h2c) for `http`, by ALPN for `https`.
    Http2,
}

/// Whose certificates are believed.
#[derive(Clone, Debug, Default)]
pub enum Trust {
    /// The certificate authorities of this system.
    #[default]
    System,
    /// Those of a PEM file.
    File(PathBuf),
    /// Everybody's: for measurements of one's own servers.
    Anybody,
}

/// Where Linux distributions and macOS keep the certificates they trust.
const SYSTEM_ROOTS: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A request that is sent again and again.
#[derive(Clone, Debug)]
pub struct Ask {
    /// `http://HOST:PORT/PATH` or `https://…`.
    pub url: Uri,
    /// Address to connect to instead of the URL's.
    pub connect_to: Option<SocketAddr>,
    /// HTTP version.
    pub protocol: Protocol,
    /// Whose certificates are believed, for `https`.
    pub trust: Trust,
    /// GET, POST, …
    pub method: Method,
    /// Further headers; `Host` replaces the URL's.
    pub headers: HeaderMap,
    /// Body; empty = none.
    pub body: Bytes,
}

impl Ask {
    /// A plain GET over HTTP/1.1.
    ///
    /// # Errors
    /// When it is no URL with a host.
    pub fn get(url: &str) -> Result<Self, Error> {
        let problem = |why: &str| Error::Url(url.to_owned(), why.to_owned());
        let url: Uri =
            url.parse().map_err(|error: http::uri::InvalidUri| problem(&error.to_string()))?;
        if url.host().is_none() {
            return Err(problem("it has no host; write http://HOST:PORT/PATH"));
        }
        if !matches!(url.scheme_str(), Some("http" | "https")) {
            return Err(problem("write http:// or https:// in front"));
        }
        Ok(Self {
            url,
            connect_to: None,
            protocol: Protocol::Http1,
            trust: Trust::System,
            method: Method::GET,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        })
    }

    /// A GET of a path at an address, with another `Host`: how a service behind a proxy is asked.
    ///
    /// # Errors
    /// When host or path are not valid.
    pub fn service(address: SocketAddr, host: &str, path: &str) -> Result<Self, Error> {
        let mut ask = Self::get(&format!("http://{host}{path}"))?;
        ask.connect_to = Some(address);
        Ok(ask)
    }
}

/// An [`Ask`] made ready: resolved, TLS configured, the request's head built.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    pub(super) protocol: Protocol,
    pub(super) idempotent: bool,
    request: Request<()>,
    body: Bytes,
}

impl Target {
    pub(super) async fn prepare(ask: &Ask) -> Result<Self, Error> {
        let host = ask.url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let secure = ask.url.scheme() == Some(&Scheme::HTTPS);
        let port = ask.url.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let address = match ask.connect_to {
            Some(address) => address,
            None => resolve(&host, port).await?,
        };
        let tls = if secure {
            let name = ServerName::try_from(host.clone())
                .map_err(|error| Error::Url(ask.url.to_string(), error.to_string()))?;
            Some((Arc::new(client_config(&ask.trust, ask.protocol)?), name))
        } else {
            None
        };
        Ok(Self {
            address,
            tls,
            protocol: ask.protocol,
            idempotent: ask.method.is_idempotent(),
            request: head(ask)?,
            body: ask.body.clone(),
        })
    }

    pub(super) fn request(&self) -> Request<Full<Bytes>> {
        self.request.clone().map(|()| Full::new(self.body.clone()))
    }
}

/// The head as it goes to the wire: origin form and `Host` in HTTP/1.1, the whole URL in HTTP/2.
fn head(ask: &Ask) -> Result<Request<()>, Error> {
    let problem =
        |error: &dyn std::fmt::Display| Error::Url(ask.url.to_string(), error.to_string());
    let mut headers = ask.headers.clone();
    let given = headers.remove(header::HOST);
    let authority = match &given {
        Some(host) => host.to_str().map_err(|error| problem(&error))?.to_owned(),
        None => ask.url.authority().map(ToString::to_string).unwrap_or_default(),
    };
    let path = ask.url.path_and_query().map_or("/", |path| path.as_str());
    let agent = HeaderValue::from_static("tidegate-loadtest");
    headers.entry(header::USER_AGENT).or_insert(agent);
    let mut request = match ask.protocol {
        Protocol::Http1 => {
            let host = HeaderValue::try_from(authority).map_err(|error| problem(&error))?;
            headers.insert(header::HOST, host);
            Request::builder().uri(path).version(Version::HTTP_11)
        }
        Protocol::Http2 => {
            let scheme = ask.url.scheme().cloned().unwrap_or(Scheme::HTTP);
            let url = Uri::builder().scheme(scheme).authority(authority).path_and_query(path);
            let url = url.build().map_err(|error| problem(&error))?;
            Request::builder().uri(url).version(Version::HTTP_2)
        }
    }
    .method(ask.method.clone())
    .body(())
    .map_err(|error| problem(&error))?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// `localhost` and names below it are loopback (RFC 6761 section 6.3), whatever the resolver says.
async fn resolve(host: &str, port: u16) -> Result<SocketAddr, Error> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    if host == "localhost" || host.ends_with(".localhost") {
        return Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
    }
    let unknown = |error: String| Error::Resolve(host.to_owned(), error);
    let mut found =
        tokio::net::lookup_host((host, port)).await.map_err(|error| unknown(error.to_string()))?;
    found.next().ok_or_else(|| unknown("the name has no address".into()))
}

fn client_config(trust: &Trust, protocol: Protocol) -> Result<ClientConfig, Error> {
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let tls = |error: tokio_rustls::rustls::Error| Error::Tls(error.to_string());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(tls)?;
    let mut config = match trust {
        Trust::System => builder.with_root_certificates(system_roots()?).with_no_client_auth(),
        Trust::File(path) => builder.with_root_certificates(roots(path)?).with_no_client_auth(),
        Trust::Anybody => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(anybody::Anybody::new(provider)))
            .with_no_client_auth(),
    };
    config.alpn_protocols = match protocol {
        Protocol::Http1 => vec![b"http/1.1".to_vec()],
        Protocol::Http2 => vec![b"h2".to_vec()],
    };
    Ok(config)
}

fn system_roots() -> Result<RootCertStore, Error> {
    let found = SYSTEM_ROOTS.iter().map(Path::new).find(|path| path.exists());
    roots(found.ok_or_else(|| {
        Error::Tls(
            "this system keeps no certificates where they are known to be; name a file with \
             --cacert, or --insecure"
                .into(),
        )
    })?)
}

fn roots(path: &Path) -> Result<RootCertStore, Error> {
    let problem =
        |error: &dyn std::fmt::Display| Error::Tls(format!("{}: {error}", path.display()));
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| problem(&error))?;
    for certificate in certificates {
        // A root that cannot be used is no reason to refuse the others.
        let _ = roots.add(certificate.map_err(|error| problem(&error))?);
    }
    if roots.is_empty() {
        return Err(problem(&"no certificate in it"));
    }
    Ok(roots)
}

/// `NAME: VALUE`.
///
/// # Errors
/// A text that says what to write.
pub fn header_line(line: &str) -> Result<(HeaderName, HeaderValue), String> {
    let bad = || format!("{line:?} is not a header: write NAME: VALUE");
    let (name, value) = line.split_once(':').ok_or_else(bad)?;
    let name = HeaderName::try_from(name.trim()).map_err(|_error| bad())?;
    let value = HeaderValue::try_from(value.trim()).map_err(|_error| bad())?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_differ_by_protocol() {
        let mut ask = Ask::get("http://a.default.localhost:8080/x?y=1").unwrap();
        let one = head(&ask).unwrap();
        assert_eq!(one.uri(), "/x?y=1");
        assert_eq!(one.headers()[header::HOST], "a.default.localhost:8080");
        ask.protocol = Protocol::Http2;
        ask.headers.insert(header::HOST, HeaderValue::from_static("b.example"));
        let two = head(&ask).unwrap();
        assert_eq!(two.uri(), "http://b.example/x?y=1");
        assert!(!two.headers().contains_key(header::HOST));
    }

    #[test]
    fn bad_urls_are_told() {
        for url in ["localhost:8080", "/path", "ftp://x/", "http:///x"] {
            assert!(Ask::get(url).is_err(), "{url}");
        }
    }

    #[tokio::test]
    async fn localhost_needs_no_resolver() {
        let expected = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 80);
        assert_eq!(resolve("a.b.localhost", 80).await.unwrap(), expected);
        assert_eq!(resolve("::1", 80).await.unwrap().to_string(), "[::1]:80");
    }

    #[test]
    fn headers_are_read() {
        assert_eq!(header_line("X-A: b: c").unwrap().1, "b: c");
        assert!(header_line("no").is_err());
        assert!(header_line("a b: c").is_err());
    }
}
