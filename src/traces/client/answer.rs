//! What a collector's answer means: which statuses are to be tried again, and when (OTLP
//! specification, "Failures").

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Buf as _;
use http::StatusCode;
use http::header::RETRY_AFTER;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;

use super::{Answered, PREFIX_BYTES};
use crate::traces::endpoint::Protocol;
use crate::traces::exporter::Outcome;

/// Base64 with or without padding, as gRPC's binary headers are.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// gRPC statuses that are to be tried again: CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE,
/// UNAVAILABLE, DATA_LOSS.
const GRPC_AGAIN: [u32; 6] = [1, 4, 10, 11, 14, 15];
/// To be tried again if the collector says when.
const GRPC_RESOURCE_EXHAUSTED: u32 = 8;
/// HTTP statuses that are to be tried again.
const HTTP_AGAIN: [u16; 4] = [429, 502, 503, 504];
/// What is shown of a collector's own words.
const WORDS_BYTES: usize = 200;

pub(super) fn outcome(protocol: Protocol, answered: &Answered) -> Outcome {
    if answered.status != StatusCode::OK {
        return refused(answered);
    }
    match protocol {
        Protocol::Http => taken(&answered.body),
        Protocol::Grpc => {
            match header(answered, "grpc-status").and_then(|text| text.parse().ok()) {
                Some(0) => taken(answered.body.get(PREFIX_BYTES..).unwrap_or_default()),
                Some(code) => grpc_refused(code, answered),
                None => Outcome::Again(None, "it answers without a gRPC status".to_owned()),
            }
        }
    }
}

fn header<'a>(answered: &'a Answered, name: &str) -> Option<&'a str> {
    answered.headers.get(name)?.to_str().ok()
}

/// The collector has the batch, or the part that it likes.
fn taken(body: &[u8]) -> Outcome {
    let response = ExportTraceServiceResponse::decode(body).unwrap_or_default();
    let partly = response.partial_success.filter(|partly| partly.rejected_spans > 0);
    Outcome::Taken(partly.map(|partly| {
        let rejected = usize::try_from(partly.rejected_spans).unwrap_or(usize::MAX);
        (rejected, format!("it rejects {rejected} spans: {}", partly.error_message))
    }))
}

fn refused(answered: &Answered) -> Outcome {
    let why = format!("it answers {}: {}", answered.status, words(answered));
    if !HTTP_AGAIN.contains(&answered.status.as_u16()) {
        return Outcome::Refused(why);
    }
    let after = answered.headers.get(RETRY_AFTER).and_then(|after| after.to_str().ok());
    Outcome::Again(after.and_then(retry_after), why)
}

/// Seconds, or a date (RFC 9110 §10.2.3).
fn retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

fn grpc_refused(code: u32, answered: &Answered) -> Outcome {
    let message = header(answered, "grpc-message").unwrap_or_default();
    let message = percent_encoding::percent_decode_str(message).decode_utf8_lossy();
    let why = format!("it answers with gRPC status {code}: {message}");
    // When to come back is told in `google.rpc.RetryInfo`, among the details.
    let after = header(answered, "grpc-status-details-bin").and_then(retry_delay);
    if GRPC_AGAIN.contains(&code) || code == GRPC_RESOURCE_EXHAUSTED && after.is_some() {
        Outcome::Again(after, why)
    } else {
        Outcome::Refused(why)
    }
}

/// The beginning of the answer's body, if it is a text.
fn words(answered: &Answered) -> String {
    let body = answered.body.chunk();
    let text = String::from_utf8_lossy(&body[..body.len().min(WORDS_BYTES)]);
    if text.chars().any(|c| c.is_control() && c != '\n') {
        String::new()
    } else {
        text.into_owned()
    }
}

/// `google.rpc.Status`, as far as it matters here.
#[derive(prost::Message)]
struct GrpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Detail>,
}

/// `google.protobuf.Any`.
#[derive(prost::Message)]
struct Detail {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(prost::Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// How long to wait, from the details of a gRPC status in base64.
fn retry_delay(details: &str) -> Option<Duration> {
    let status = GrpcStatus::decode(BASE64.decode(details).ok()?.as_slice()).ok()?;
    let info = |detail: &Detail| detail.type_url.ends_with("google.rpc.RetryInfo");
    let info = RetryInfo::decode(status.details.iter().find(|d| info(d))?.value.as_slice()).ok()?;
    let Delay { seconds, nanos } = info.delay.unwrap_or_default();
    Some(Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanos).ok()?))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;

    use super::*;

    fn shown(
        protocol: Protocol,
        status: u16,
        headers: &[(&'static str, &str)],
        body: &[u8],
    ) -> String {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap()))
            .collect::<Vec<(http::HeaderName, http::HeaderValue)>>()
            .into_iter()
            .collect();
        let status = StatusCode::from_u16(status).unwrap();
        let answered = Answered { status, headers, body: Bytes::copy_from_slice(body) };
        match outcome(protocol, &answered) {
            Outcome::Taken(None) => "taken".to_owned(),
            Outcome::Taken(Some((spans, why))) => format!("taken but {spans}, {why}"),
            Outcome::Again(after, why) => format!("again {after:?}, {why}"),
            Outcome::Refused(why) => format!("refused, {why}"),
        }
    }

    #[test]
    fn answers_over_http() {
        let http =
            |status, headers: &[_], body: &[u8]| shown(Protocol::Http, status, headers, body);
        let partly = ExportTraceServiceResponse {
            partial_success: Some(ExportTracePartialSuccess {
                rejected_spans: 2,
                error_message: "too old".to_owned(),
            }),
        };
        for (seen, expected) in [
            (http(200, &[], b""), "taken"),
            (http(200, &[], &partly.encode_to_vec()), "taken but 2, it rejects 2 spans: too old"),
            (http(400, &[], b"bad"), "refused, it answers 400 Bad Request: bad"),
            (http(404, &[], b"\x01\x02"), "refused, it answers 404 Not Found: "),
            (
                http(429, &[("retry-after", "7")], b""),
                "again Some(7s), it answers 429 Too Many Requests: ",
            ),
            (http(503, &[], b""), "again None, it answers 503 Service Unavailable: "),
            (
                http(503, &[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], b""),
                "again Some(0ns), it answers 503 Service Unavailable: ",
            ),
            (
                http(502, &[("retry-after", "soon")], b""),
                "again None, it answers 502 Bad Gateway: ",
            ),
            (http(500, &[], b""), "refused, it answers 500 Internal Server Error: "),
        ] {
            assert_eq!(seen, expected);
        }
    }

    #[test]
    fn answers_over_grpc() {
        let grpc =
            |headers: &[(&'static str, &str)]| shown(Protocol::Grpc, 200, headers, b"\0\0\0\0\0");
        // Status { code: 8, details: [Any { RetryInfo { 3.5 s } }] }
        let details =
            "CAgaNgoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIKCggIAxCAyrXuAQ";
        for (seen, expected) in [
            (grpc(&[("grpc-status", "0")]), "taken"),
            (grpc(&[]), "again None, it answers without a gRPC status"),
            (
                grpc(&[("grpc-status", "14"), ("grpc-message", "not%20now")]),
                "again None, it answers with gRPC status 14: not now",
            ),
            (grpc(&[("grpc-status", "16")]), "refused, it answers with gRPC status 16: "),
            (grpc(&[("grpc-status", "8")]), "refused, it answers with gRPC status 8: "),
            (
                grpc(&[("grpc-status", "8"), ("grpc-status-details-bin", details)]),
                "again Some(3.5s), it answers with gRPC status 8: ",
            ),
        ] {
            assert_eq!(seen, expected);
        }
        assert_eq!(
            shown(Protocol::Grpc, 503, &[], b""),
            "again None, it answers 503 Service Unavailable: "
        );
    }
}
