//! `Date`, for responses that come without one (RFC 9110 §6.6.1).

use std::cell::{Cell, RefCell};
use std::time::SystemTime;

use crate::stats::Nanos;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The header's line of this second.
#[derive(Debug)]
pub(in crate::proxy) struct DateLine {
    second: Cell<u64>,
    line: RefCell<Vec<u8>>,
}

impl Default for DateLine {
    fn default() -> Self {
        Self { second: Cell::new(u64::MAX), line: RefCell::default() }
    }
}

impl DateLine {
    /// Writes the line; looks at the calendar when `now` is in another second than last time.
    pub(super) fn write(&self, now: Nanos, out: &mut Vec<u8>) {
        let second = now.0 / NANOS_PER_SECOND;
        if self.second.replace(second) != second {
            let date = httpdate::fmt_http_date(SystemTime::now());
            *self.line.borrow_mut() = format!("date: {date}\r\n").into_bytes();
        }
        out.extend_from_slice(&self.line.borrow());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second() {
        let date = DateLine::default();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        date.write(Nanos(1), &mut first);
        date.write(Nanos(NANOS_PER_SECOND - 1), &mut second);
        assert_eq!(first, second);
        let text = String::from_utf8(first).unwrap();
        let value = text.strip_prefix("date: ").unwrap().strip_suffix("\r\n").unwrap();
        assert!(httpdate::parse_http_date(value).is_ok(), "{value}");
    }
}
