//! Reads typed values out of a ConfigMap's data.

use std::time::Duration;

use super::Data;
use crate::config::problem::ConfigProblem;
use crate::config::text::{parse_bool, parse_duration, parse_float, parse_int, quote};

/// Collects values and problems.
pub(super) struct Reader<'a> {
    data: &'a Data,
    prefix: &'static str,
    problems: Vec<ConfigProblem>,
}

impl<'a> Reader<'a> {
    /// A reader; messages about values that cannot be read begin with `prefix`.
    pub(super) const fn new(data: &'a Data, prefix: &'static str) -> Self {
        Self { data, prefix, problems: Vec::new() }
    }

    /// A key's text.
    pub(super) fn raw(&self, key: &str) -> Option<&'a str> {
        self.data.get(key).map(String::as_str)
    }

    fn unreadable(&mut self, key: &str, reason: &str, fix: &str) {
        let message = format!("{}failed to parse {}: {reason}", self.prefix, quote(key));
        self.problems.push(ConfigProblem::error(path(key), message).fix(fix));
    }

    /// Text without surrounding space.
    pub(super) fn text(&self, key: &str, value: &mut String) {
        if let Some(raw) = self.raw(key) {
            raw.trim().clone_into(value);
        }
    }

    /// A boolean.
    pub(super) fn bool(&mut self, key: &str, value: &mut bool) {
        let Some(raw) = self.raw(key) else { return };
        match parse_bool(raw) {
            Ok(read) => *value = read,
            Err(e) => {
                let reason = e.message("ParseBool", raw);
                self.unreadable(key, &reason, "write \"true\" or \"false\"");
            }
        }
    }

    /// A floating-point number.
    pub(super) fn float(&mut self, key: &str, value: &mut f64) {
        let Some(raw) = self.raw(key) else { return };
        match parse_float(raw) {
            Ok(read) => *value = read,
            Err(e) => {
                self.unreadable(key, &e.message("ParseFloat", raw), "write a number in quotes");
            }
        }
    }

    /// A whole number of so many bits.
    pub(super) fn int(&mut self, key: &str, bits: u32, value: &mut i64) {
        let Some(raw) = self.raw(key) else { return };
        match parse_int(raw, bits) {
            Ok(read) => *value = read,
            Err(e) => {
                let reason = e.message("ParseInt", raw);
                self.unreadable(key, &reason, "write a whole number in quotes");
            }
        }
    }

    /// A whole number of 32 bits.
    pub(super) fn int32(&mut self, key: &str, value: &mut i32) {
        let mut wide = i64::from(*value);
        self.int(key, 32, &mut wide);
        *value = i32::try_from(wide).unwrap_or(*value);
    }

    /// A duration in nanoseconds.
    pub(super) fn duration(&mut self, key: &str, value: &mut i64) {
        let Some(raw) = self.raw(key) else { return };
        match parse_duration(raw) {
            Ok(read) => *value = read,
            Err(reason) => {
                let bare = !raw.is_empty() && raw.bytes().all(|b| b.is_ascii_digit());
                let fix = if bare {
                    format!("write {raw}s")
                } else {
                    "write a duration such as 60s or 1m30s".to_owned()
                };
                self.unreadable(key, &reason, &fix);
            }
        }
    }

    /// Whether everything so far could be read.
    pub(super) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// A value that breaks a rule.
    pub(super) fn refuse(&mut self, key: &str, message: String, fix: impl Into<String>) {
        self.problems.push(ConfigProblem::error(path(key), message).fix(fix));
    }

    /// The value, if nothing was wrong.
    pub(super) fn finish<T>(self, value: T) -> Result<T, Vec<ConfigProblem>> {
        if self.problems.is_empty() { Ok(value) } else { Err(self.problems) }
    }
}

/// Path of a key within its ConfigMap.
pub(super) fn path(key: &str) -> String {
    format!("data.{key}")
}

/// Nanoseconds as a duration; the caller has refused negative ones.
pub(super) fn positive(nanos: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}
