//! Go's durations: `1h30m`, `1.5s`, `500ms`, in signed 64-bit nanoseconds.

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Nanoseconds of a duration's text; `Err` is Go's message.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", quote(text));
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let whole_end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (whole, after) = rest.split_at(whole_end);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => {
                let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
                after.split_at(end)
            }
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let unit_end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", quote(text)));
        }
        let Some((_, nanos)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            let (unit, text) = (quote(unit), quote(text));
            return Err(format!("time: unknown unit {unit} in duration {text}"));
        };
        let part = part(whole, fraction, *nanos).ok_or_else(invalid)?;
        total = total.checked_add(part).filter(|sum| *sum <= 1 << 63).ok_or_else(invalid)?;
        rest = after;
    }
    if negative {
        return Ok(0_i64.wrapping_sub_unsigned(total));
    }
    i64::try_from(total).ok().ok_or_else(invalid)
}

/// Text in double quotes as Go's time package has it: bytes outside of ASCII are escaped.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            0x20..0x80 => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push('"');
    out
}

/// Whole and fractional units in nanoseconds, none if more than 2^63.
fn part(whole: &str, fraction: &str, nanos: u64) -> Option<u64> {
    let units: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut value = units.checked_mul(nanos).filter(|v| *v <= 1 << 63)?;
    if !fraction.is_empty() {
        // 18 digits keep the sum below 2^63; what follows is below a nanosecond.
        let digits = &fraction[..fraction.len().min(18)];
        let numerator: u64 = digits.parse().ok()?;
        let scale = 10_f64.powi(i32::try_from(digits.len()).unwrap_or(18));
        value = value.checked_add((numerator as f64 * (nanos as f64 / scale)) as u64)?;
    }
    (value <= 1 << 63).then_some(value)
}

/// Whether it is in whole seconds, as Go's rounding has it: the two ends of the range count.
pub const fn is_whole_seconds(nanos: i64) -> bool {
    nanos % 1_000_000_000 == 0 || nanos == i64::MAX || nanos == i64::MIN
}

/// A duration as Go prints it: `1h0m1s`, `10.5s`, `1ms`, `0s`.
pub fn format_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let magnitude = nanos.unsigned_abs();
    if magnitude == 0 {
        return "0s".to_owned();
    }
    if magnitude < 1_000_000_000 {
        let (unit, size) = match magnitude {
            0..1_000 => ("ns", 1),
            1_000..1_000_000 => ("µs", 1_000),
            _ => ("ms", 1_000_000),
        };
        return format!("{sign}{}{unit}", decimal(magnitude, size));
    }
    let minutes = magnitude / 60_000_000_000;
    let seconds = decimal(magnitude % 60_000_000_000, 1_000_000_000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// `value / size` in decimal without trailing zeros; `size` is a power of ten.
fn decimal(value: u64, size: u64) -> String {
    let fraction = value % size;
    if fraction == 0 {
        return (value / size).to_string();
    }
    let digits = size.ilog10() as usize;
    let fraction = format!("{fraction:0digits$}");
    format!("{}.{}", value / size, fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let good = [
            ("0", 0),
            ("1.5m", 90_000_000_000),
            ("0.1h", 360_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("+60s", 60_000_000_000),
            ("-1s", -1_000_000_000),
            ("1µs", 1_000),
            (".5s", 500_000_000),
            ("1h1ms", 3_600_001_000_000),
            ("-9223372036854775808ns", i64::MIN),
        ];
        for (text, nanos) in good {
            assert_eq!(parse_duration(text), Ok(nanos), "{text}");
        }
        let bad = [
            ("", "time: invalid duration \"\""),
            ("60", "time: missing unit in duration \"60\""),
            ("1d", "time: unknown unit \"d\" in duration \"1d\""),
            ("60S", "time: unknown unit \"S\" in duration \"60S\""),
            (" 60s", "time: invalid duration \" 60s\""),
            ("1e1s", "time: unknown unit \"e\" in duration \"1e1s\""),
            ("9223372036854775808ns", "time: invalid duration \"9223372036854775808ns\""),
            ("99999999999999999999s", "time: invalid duration \"99999999999999999999s\""),
            ("-", "time: invalid duration \"-\""),
            (".s", "time: invalid duration \".s\""),
        ];
        for (text, message) in bad {
            assert_eq!(parse_duration(text), Err(message.to_owned()), "{text}");
        }
    }

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        let table = [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (1_000_000, "1ms"),
            (-1_000_000_000, "-1s"),
            (10_500_000_000, "10.5s"),
            (3_600_000_000_000, "1h0m0s"),
            (3_601_000_000_000, "1h0m1s"),
            (61_000_000_000, "1m1s"),
        ];
        for (nanos, text) in table {
            assert_eq!(format_duration(nanos), text);
            assert_eq!(parse_duration(text), Ok(nanos));
        }
    }
}
