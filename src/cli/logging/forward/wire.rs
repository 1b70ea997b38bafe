//! Messages of the forward protocol, in MessagePack.
//!
//! A batch goes in "Forward Mode": `[tag, [[time, record], …], option]`. Times are the protocol's
//! `EventTime`: extension type 0, seconds and nanoseconds since 1970, 32 bits each.

use std::io::{self, ErrorKind};
use std::time::{SystemTime, UNIX_EPOCH};

use rmp::{decode, encode};
use serde_json::{Map, Number, Value};

use super::Record;

/// Extension type of `EventTime`.
const EVENT_TIME: i8 = 0;
/// The largest answer that a collector may give; a confirmation is about 40 bytes.
const ANSWER_MAX: usize = 1024;

/// The message with these records. With a `chunk` the collector is to confirm it.
///
/// # Errors
/// More than fits into MessagePack's 32-bit lengths, which bounds elsewhere rule out.
pub(super) fn message(tag: &str, records: &[Record], chunk: Option<&str>) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(records.iter().map(|record| record.cost()).sum());
    encode::write_array_len(&mut out, 3)?;
    encode::write_str(&mut out, tag)?;
    encode::write_array_len(&mut out, length(records.len())?)?;
    for record in records {
        encode::write_array_len(&mut out, 2)?;
        write_time(&mut out, record.at)?;
        write_record(&mut out, &record.json)?;
    }
    encode::write_map_len(&mut out, if chunk.is_some() { 2 } else { 1 })?;
    encode::write_str(&mut out, "size")?;
    encode::write_uint(&mut out, records.len() as u64)?;
    if let Some(chunk) = chunk {
        encode::write_str(&mut out, "chunk")?;
        encode::write_str(&mut out, chunk)?;
    }
    Ok(out)
}

fn length(length: usize) -> io::Result<u32> {
    u32::try_from(length).map_err(io::Error::other)
}

fn write_time(out: &mut Vec<u8>, at: SystemTime) -> io::Result<()> {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    // Wraps in 2106, as the protocol does.
    let seconds = since.as_secs() as u32;
    encode::write_ext_meta(out, 8, EVENT_TIME)?;
    out.extend(seconds.to_be_bytes());
    out.extend(since.subsec_nanos().to_be_bytes());
    Ok(())
}

fn write_record(out: &mut Vec<u8>, json: &[u8]) -> io::Result<()> {
    let record = match serde_json::from_slice(json) {
        Ok(record @ Value::Object(_)) => record,
        _ => {
            let text = String::from_utf8_lossy(json).into_owned();
            Value::Object(Map::from_iter([("message".to_owned(), Value::String(text))]))
        }
    };
    write_value(out, &record)
}

fn write_value(out: &mut Vec<u8>, value: &Value) -> io::Result<()> {
    match value {
        Value::Null => encode::write_nil(out)?,
        Value::Bool(value) => encode::write_bool(out, *value)?,
        Value::Number(number) => write_number(out, number)?,
        Value::String(text) => encode::write_str(out, text)?,
        Value::Array(items) => {
            encode::write_array_len(out, length(items.len())?)?;
            for item in items {
                write_value(out, item)?;
            }
        }
        Value::Object(map) => {
            encode::write_map_len(out, length(map.len())?)?;
            for (key, value) in map {
                encode::write_str(out, key)?;
                write_value(out, value)?;
            }
        }
    }
    Ok(())
}

fn write_number(out: &mut Vec<u8>, number: &Number) -> io::Result<()> {
    if let Some(number) = number.as_u64() {
        encode::write_uint(out, number)?;
    } else if let Some(number) = number.as_i64() {
        encode::write_sint(out, number)?;
    } else {
        encode::write_f64(out, number.as_f64().unwrap_or(f64::NAN))?;
    }
    Ok(())
}

/// The chunk that a collector's answer `{"ack": chunk}` confirms; none while the answer is not
/// whole.
///
/// # Errors
/// Bytes that are no such answer.
pub(super) fn confirmed(answer: &[u8]) -> io::Result<Option<String>> {
    let wrong = || io::Error::new(ErrorKind::InvalidData, "its answer is no confirmation");
    let mut rest = answer;
    let found = (|| {
        let is_map = decode::read_map_len(&mut rest).ok()? == 1;
        let (key, after) = decode::read_str_from_slice(rest).ok()?;
        let is_ack = is_map && key == "ack";
        let (chunk, _) = decode::read_str_from_slice(after).ok()?;
        Some(is_ack.then(|| chunk.to_owned()))
    })();
    match found {
        Some(Some(chunk)) => Ok(Some(chunk)),
        None if answer.len() < ANSWER_MAX => Ok(None),
        Some(None) | None => Err(wrong()),
    }
}
