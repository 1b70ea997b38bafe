//! Where a collector is reached, as `tracing-endpoint` says it.

use http::Uri;

/// The path of an HTTP endpoint that names none (OTLP specification, "OTLP/HTTP Request").
const HTTP_PATH: &str = "/v1/traces";
/// The method of the collector's service.
const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// How spans are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC.
    Grpc,
    /// Protobuf in HTTP/1.1 requests.
    Http,
}

/// A collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Whether by TLS.
    pub secure: bool,
    /// Its name or address; one of IPv6 without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Where on it spans are taken.
    pub path: String,
}

/// An endpoint cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the endpoint is not a URL such as http://collector:4317")]
pub struct Malformed;

impl Endpoint {
    /// Reads an endpoint: a URL. Without a scheme it is taken for https, as Knative does.
    ///
    /// # Errors
    ///
    /// What is no URL, or one of another scheme.
    pub fn parse(text: &str, protocol: Protocol) -> Result<Self, Malformed> {
        let text = text.trim();
        let url = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let uri: Uri = url.parse().map_err(|_invalid| Malformed)?;
        let (secure, usual_port) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => return Err(Malformed),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(Malformed)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let given = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = match protocol {
            Protocol::Grpc => GRPC_PATH,
            Protocol::Http if given == "/" => HTTP_PATH,
            Protocol::Http => given,
        };
        Ok(Self {
            protocol,
            secure,
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(usual_port),
            path: path.to_owned(),
        })
    }

    /// Host and port, as a URL has them.
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (text, expected) in [
            ("http://collector:4318", "http collector:4318 /v1/traces"),
            ("http://collector:4318/", "http collector:4318 /v1/traces"),
            ("http://collector:4318/api/otlp?x=1", "http collector:4318 /api/otlp?x=1"),
            ("https://collector.example/v1/traces", "https collector.example:443 /v1/traces"),
            (" http://[::1]:4318 ", "http [::1]:4318 /v1/traces"),
            ("http://10.0.0.1", "http 10.0.0.1:80 /v1/traces"),
            ("collector.observability:4318", "https collector.observability:4318 /v1/traces"),
            ("ftp://collector", "malformed"),
            ("http://", "malformed"),
            ("http://a b", "malformed"),
            ("", "malformed"),
        ] {
            let shown = match Endpoint::parse(text, Protocol::Http) {
                Ok(endpoint) => {
                    let scheme = if endpoint.secure { "https" } else { "http" };
                    format!("{scheme} {} {}", endpoint.authority(), endpoint.path)
                }
                Err(Malformed) => "malformed".to_owned(),
            };
            assert_eq!(shown, expected, "{text:?}");
        }
        let grpc = Endpoint::parse("http://collector:4317/ignored", Protocol::Grpc).unwrap();
        assert_eq!(grpc.path, GRPC_PATH);
    }
}
