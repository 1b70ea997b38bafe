//! What people write and read: durations, counts, numbers with their unit.

use std::time::Duration;

/// Understands `300ms`, `10s`, `2m`, `1h`, `1m30s`.
///
/// # Errors
/// A text that says what to write.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad =
        || format!("{text:?} is not a duration: write a number and a unit, as in 300ms, 30s, 2m");
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let number: f64 = rest[..digits].parse().map_err(|_error| bad())?;
        let unit_end =
            rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let seconds = match &rest[digits..unit_end] {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(bad()),
        };
        total += Duration::try_from_secs_f64(number * seconds).map_err(|_error| bad())?;
        rest = &rest[unit_end..];
    }
    Ok(total)
}

/// As [`duration`], and more than nothing.
///
/// # Errors
/// A text that says what to write.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|found| {
        if found.is_zero() { Err("write more than 0, as in 10s".into()) } else { Ok(found) }
    })
}

/// Milliseconds, with as many digits as are worth reading.
pub fn millis(seconds: f64) -> String {
    let millis = seconds * 1e3;
    match millis {
        m if m < 10.0 => format!("{m:.2}"),
        m if m < 100.0 => format!("{m:.1}"),
        m => grouped(m.round()),
    }
}

/// A whole number with its thousands apart: `1,234,567`.
pub fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < -0.5 { format!("-{text}") } else { text }
}

/// A count with its thousands apart.
pub fn count(number: u64) -> String {
    grouped(number as f64)
}

/// A part of a whole, as a percentage; `–` of nothing.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "–".into();
    }
    let percent = part as f64 * 100.0 / whole as f64;
    // Never "100" while something is missing.
    if part < whole && percent > 99.9 {
        format!("{:.3} %", percent.min(99.999))
    } else {
        format!("{percent:.1} %")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("300ms"), Ok(Duration::from_millis(300)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        for text in ["", "10", "s", "5x", "1s2", "-1s", "1..2s"] {
            assert!(duration(text).unwrap_err().contains("30s"), "{text}");
        }
        assert!(positive_duration("0s").is_err());
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(grouped(1_234_567.2), "1,234,567");
        assert_eq!(grouped(-1000.0), "-1,000");
        assert_eq!(grouped(999.0), "999");
        assert_eq!(millis(0.001_234), "1.23");
        assert_eq!(millis(0.0512), "51.2");
        assert_eq!(millis(1.25), "1,250");
        assert_eq!(percent(1, 3), "33.3 %");
        assert_eq!(percent(99_999, 100_000), "99.999 %");
        assert_eq!(percent(5, 5), "100.0 %");
        assert_eq!(percent(0, 0), "–");
    }
}
