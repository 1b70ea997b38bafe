//! Spans as lines of JSON on standard output (`tracing-protocol: stdout`), for those who look
//! without a collector. Names are those of OTLP's JSON.

use std::io::Write as _;

use serde_json::{Map, Value as Json, json};

use super::exporter::Outcome;
use super::resource::Resource;
use super::span::{Kind, Recorded, Span, Value};

/// Writes lines.
pub(super) struct Lines {
    resource: Map<String, Json>,
}

impl Lines {
    pub(super) fn new(resource: Resource) -> Self {
        Self { resource: resource.into_iter().map(|(key, value)| (key, value.into())).collect() }
    }

    pub(super) fn write(&mut self, batch: &[Recorded]) -> Outcome {
        let mut lines = Vec::new();
        for recorded in batch {
            for span in &recorded.spans {
                lines
                    .extend_from_slice(line(&self.resource, recorded, span).to_string().as_bytes());
                lines.push(b'\n');
            }
        }
        let mut out = std::io::stdout().lock();
        match out.write_all(&lines).and_then(|()| out.flush()) {
            Ok(()) => Outcome::Taken(None),
            Err(error) => Outcome::Refused(format!("standard output: {error}")),
        }
    }
}

fn line(resource: &Map<String, Json>, recorded: &Recorded, span: &Span) -> Json {
    let kind = match span.kind {
        Kind::Server => "SERVER",
        Kind::Client => "CLIENT",
        Kind::Internal => "INTERNAL",
    };
    let attributes: Map<String, Json> = span
        .attributes
        .iter()
        .map(|(key, value)| {
            let value = match value {
                Value::Text(text) => Json::from(&**text),
                Value::Number(number) => Json::from(*number),
            };
            ((*key).to_owned(), value)
        })
        .collect();
    let events: Vec<Json> = span
        .events
        .iter()
        .map(|event| json!({ "timeUnixNano": event.at, "name": event.name }))
        .collect();
    json!({
        "traceId": recorded.trace.to_string(),
        "spanId": span.id.to_string(),
        "parentSpanId": span.parent.map(|parent| parent.to_string()),
        "name": span.name,
        "kind": kind,
        "startTimeUnixNano": span.start,
        "endTimeUnixNano": span.end,
        "attributes": attributes,
        "events": events,
        "error": span.error,
        "resource": resource,
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::context::{SpanContext, SpanId};
    use super::super::span::Event;
    use super::*;

    #[test]
    fn a_line() {
        let context = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = SpanContext::parse(context).unwrap();
        let span = Span {
            id: SpanId::draw(&mut fastrand::Rng::with_seed(3)),
            parent: Some(context.span),
            is_parent_remote: true,
            name: "GET".into(),
            kind: Kind::Server,
            start: 1,
            end: 2,
            attributes: vec![
                ("url.path", "/a".into()),
                ("http.response.status_code", 503_u16.into()),
            ],
            events: vec![Event { at: 2, name: "response.head" }],
            error: Some("503".to_owned()),
        };
        let recorded =
            Recorded { trace: context.trace, flags: 1, state: String::new(), spans: vec![] };
        let resource = Map::from_iter([("service.name".to_owned(), "tidegate".into())]);
        let line = line(&resource, &recorded, &span).to_string();
        expect![[r#"{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"94e1893eef38aee2","parentSpanId":"b7ad6b7169203331","name":"GET","kind":"SERVER","startTimeUnixNano":1,"endTimeUnixNano":2,"attributes":{"url.path":"/a","http.response.status_code":503},"events":[{"timeUnixNano":2,"name":"response.head"}],"error":"503","resource":{"service.name":"tidegate"}}"#]].assert_eq(&line);
    }
}
