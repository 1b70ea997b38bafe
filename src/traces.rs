//! Traces of requests, for collectors that speak OTLP (OpenTelemetry's protocol).
//!
//! ```text
//! worker: Tracer ─▶ spans of one request ─▶ Queue (bounded) ─▶ Exporter (own thread) ─▶ collector
//! ```
//!
//! Off, which it is unless the configuration says otherwise, a request costs a look at a flag. On,
//! every request has a trace's identity and only sampled ones are recorded. What is recorded is
//! handed over when the request has ended; where the collector is away or slow it is dropped and
//! counted, and no request waits for it.

mod client;
mod context;
mod endpoint;
mod exporter;
mod lines;
mod otlp;
mod queue;
mod resource;
mod span;
mod tracer;

pub use context::{HEADER_BYTES, SPAN_AT, SpanContext, SpanId, TraceId};
pub use endpoint::{Endpoint, Malformed, Protocol};
pub use span::{Attribute, Event, Kind, Recorded, Span, Value};
pub use tracer::{Counts, Settings, Target, Tracer};
