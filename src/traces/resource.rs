//! Who sends the spans: OpenTelemetry's resource, and the headers that a collector asks for.

use percent_encoding::percent_decode_str;

/// The name of the service that spans are of, unless the environment says another.
const SERVICE_NAME: &str = "tidegate";

/// The attributes of the resource, in the order in which they were said.
pub(super) type Resource = Vec<(String, String)>;

/// What the environment says: `OTEL_RESOURCE_ATTRIBUTES`, and `OTEL_SERVICE_NAME`, which wins
/// (OpenTelemetry's resource SDK).
pub(super) fn resource(instance: &str, env: impl Fn(&str) -> Option<String>) -> Resource {
    let mut resource: Resource = vec![
        ("service.name".to_owned(), SERVICE_NAME.to_owned()),
        ("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("service.instance.id".to_owned(), instance.to_owned()),
    ];
    let given = env("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let name = env("OTEL_SERVICE_NAME").filter(|name| !name.is_empty());
    let name = name.map(|name| ("service.name".to_owned(), name));
    for (key, value) in pairs(&given).into_iter().chain(name) {
        match resource.iter_mut().find(|(known, _)| *known == key) {
            Some(known) => known.1 = value,
            None => resource.push((key, value)),
        }
    }
    resource
}

/// Headers of every request to the collector: `OTEL_EXPORTER_OTLP_HEADERS`, or those for traces
/// alone (OpenTelemetry's OTLP exporter).
pub(super) fn headers(env: impl Fn(&str) -> Option<String>) -> Vec<(String, String)> {
    let of_traces = env("OTEL_EXPORTER_OTLP_TRACES_HEADERS");
    pairs(&of_traces.or_else(|| env("OTEL_EXPORTER_OTLP_HEADERS")).unwrap_or_default())
}

/// `key=value,…` with values percent-encoded (W3C Baggage). What is no pair is left out.
fn pairs(text: &str) -> Vec<(String, String)> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        let (key, value) = (key.trim(), percent_decode_str(value.trim()).decode_utf8_lossy());
        (!key.is_empty()).then(|| (key.to_owned(), value.into_owned()))
    };
    text.split(',').filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(vars: &[(&str, &str)]) -> String {
        let env = |name: &str| {
            let found = vars.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let resource =
            resource("host", env).into_iter().filter(|(key, _)| key != "service.version");
        resource.map(|(key, value)| format!("{key}={value} ")).collect()
    }

    #[test]
    fn the_environment_names_the_resource() {
        assert_eq!(shown(&[]), "service.name=tidegate service.instance.id=host ");
        assert_eq!(
            shown(&[("OTEL_RESOURCE_ATTRIBUTES", "service.name=a, k8s.pod.name = x%2Cy ,bad,=b")]),
            "service.name=a service.instance.id=host k8s.pod.name=x,y "
        );
        assert_eq!(
            shown(
                &[("OTEL_SERVICE_NAME", "edge"), ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a"),]
            ),
            "service.name=edge service.instance.id=host "
        );
    }

    #[test]
    fn headers_for_traces_win() {
        let all = |name: &str| (name == "OTEL_EXPORTER_OTLP_HEADERS").then(|| "a=1,b=2".to_owned());
        assert_eq!(headers(all).len(), 2);
        let traces = |name: &str| {
            Some(
                if name.contains("TRACES") { "authorization=Bearer%20x" } else { "a=1" }.to_owned(),
            )
        };
        assert_eq!(headers(traces), [("authorization".to_owned(), "Bearer x".to_owned())]);
    }
}
