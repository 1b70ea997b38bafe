//! Recorded requests as OTLP's messages.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource as ResourceMessage;
use opentelemetry_proto::tonic::trace::v1::span::{Event as EventMessage, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{
    ResourceSpans, ScopeSpans, Span as SpanMessage, SpanFlags, Status,
};

use super::resource::Resource;
use super::span::{Kind, Recorded, Span, Value};

/// What the spans are said to be made by.
pub(super) const SCOPE: &str = "tidegate";

/// One request for a collector.
pub(super) fn request(resource: &Resource, batch: &[Recorded]) -> ExportTraceServiceRequest {
    let attributes = resource.iter().map(|(key, value)| text(key, value.clone())).collect();
    let spans = batch
        .iter()
        .flat_map(|recorded| recorded.spans.iter().map(|span| message(recorded, span)))
        .collect();
    let scope = InstrumentationScope {
        name: SCOPE.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
    let resource = ResourceMessage { attributes, ..ResourceMessage::default() };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans,
            ..ResourceSpans::default()
        }],
    }
}

fn message(recorded: &Recorded, span: &Span) -> SpanMessage {
    let remote = if span.is_parent_remote { SpanFlags::ContextIsRemoteMask as u32 } else { 0 };
    let kind = match span.kind {
        Kind::Server => SpanKind::Server,
        Kind::Client => SpanKind::Client,
        Kind::Internal => SpanKind::Internal,
    };
    let error =
        |message: &String| Status { message: message.clone(), code: StatusCode::Error as i32 };
    SpanMessage {
        trace_id: recorded.trace.to_bytes().to_vec(),
        span_id: span.id.to_bytes().to_vec(),
        trace_state: recorded.state.clone(),
        parent_span_id: span.parent.map(|id| id.to_bytes().to_vec()).unwrap_or_default(),
        flags: u32::from(recorded.flags) | SpanFlags::ContextHasIsRemoteMask as u32 | remote,
        name: span.name.to_string(),
        kind: kind as i32,
        start_time_unix_nano: span.start,
        end_time_unix_nano: span.end,
        attributes: span.attributes.iter().map(|(key, value)| attribute(key, value)).collect(),
        events: span
            .events
            .iter()
            .map(|event| EventMessage {
                time_unix_nano: event.at,
                name: event.name.to_owned(),
                ..EventMessage::default()
            })
            .collect(),
        status: span.error.as_ref().map(error),
        ..SpanMessage::default()
    }
}

fn attribute(key: &str, value: &Value) -> KeyValue {
    match value {
        Value::Text(value) => text(key, value.clone().into_owned()),
        Value::Number(value) => key_value(key, Any::IntValue(*value)),
    }
}

fn text(key: &str, value: String) -> KeyValue {
    key_value(key, Any::StringValue(value))
}

fn key_value(key: &str, value: Any) -> KeyValue {
    let value = Some(AnyValue { value: Some(value) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}
