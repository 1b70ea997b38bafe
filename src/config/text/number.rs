//! Go's number formats (`strconv`).

use super::quote;

/// Why a number was refused, in `strconv`'s words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberError {
    /// Not a number.
    Syntax,
    /// A number that does not fit.
    Range,
}

impl NumberError {
    /// The whole message of `strconv` for a function and its argument.
    pub fn message(self, function: &str, text: &str) -> String {
        let reason = match self {
            Self::Syntax => "invalid syntax",
            Self::Range => "value out of range",
        };
        format!("strconv.{function}: parsing {}: {reason}", quote(text))
    }
}

/// A decimal integer of so many bits: sign and digits, nothing else. As in Go, digits that do not
/// fit are found before whatever follows them.
pub fn parse_int(text: &str, bits: u32) -> Result<i64, NumberError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() {
        return Err(NumberError::Syntax);
    }
    let bits = bits.clamp(1, 64);
    let mut magnitude: i128 = 0;
    for byte in digits.bytes() {
        if !byte.is_ascii_digit() {
            return Err(NumberError::Syntax);
        }
        magnitude = magnitude * 10 + i128::from(byte - b'0');
        if magnitude >= 1 << bits {
            return Err(NumberError::Range);
        }
    }
    let value = if text.starts_with('-') { -magnitude } else { magnitude };
    let limit = 1_i128 << (bits - 1);
    if !(-limit..limit).contains(&value) {
        return Err(NumberError::Range);
    }
    i64::try_from(value).or(Err(NumberError::Range))
}

/// A boolean.
pub fn parse_bool(text: &str) -> Result<bool, NumberError> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(NumberError::Syntax),
    }
}

/// A floating-point number: decimal or hexadecimal, underscores between digits, `inf`, `nan`.
pub fn parse_float(text: &str) -> Result<f64, NumberError> {
    if let Some(special) = special(text) {
        return Ok(special);
    }
    if !underscores_fit(text) {
        return Err(NumberError::Syntax);
    }
    let plain: String = text.chars().filter(|c| *c != '_').collect();
    let unsigned = plain.strip_prefix(['+', '-']).unwrap_or(&plain);
    let value = match unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X")) {
        Some(hex) => {
            let magnitude = hexadecimal(hex).ok_or(NumberError::Syntax)?;
            if plain.starts_with('-') { -magnitude } else { magnitude }
        }
        None if is_decimal(unsigned) => plain.parse().or(Err(NumberError::Syntax))?,
        None => return Err(NumberError::Syntax),
    };
    if value.is_finite() { Ok(value) } else { Err(NumberError::Range) }
}

fn special(text: &str) -> Option<f64> {
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "nan" => Some(f64::NAN),
        "inf" | "+inf" | "infinity" | "+infinity" => Some(f64::INFINITY),
        "-inf" | "-infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// Underscores stand between digits only (or after a base prefix).
fn underscores_fit(text: &str) -> bool {
    if !text.contains('_') {
        return true;
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let prefixed = unsigned
        .get(..2)
        .is_some_and(|p| matches!(p.to_ascii_lowercase().as_str(), "0x" | "0o" | "0b"));
    let hex = unsigned.get(..2).is_some_and(|p| p.eq_ignore_ascii_case("0x"));
    let mut last = if prefixed { '0' } else { '^' };
    for c in unsigned.chars().skip(if prefixed { 2 } else { 0 }) {
        if c.is_ascii_digit() || (hex && c.is_ascii_hexdigit()) {
            last = '0';
        } else if c == '_' {
            if last != '0' {
                return false;
            }
            last = '_';
        } else {
            if last == '_' {
                return false;
            }
            last = '!';
        }
    }
    last != '_'
}

fn is_decimal(unsigned: &str) -> bool {
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).count();
    let points = mantissa.bytes().filter(|b| *b == b'.').count();
    let exponent_fits = exponent.is_none_or(|e| {
        let digits = e.strip_prefix(['+', '-']).unwrap_or(e);
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
    });
    digits > 0 && points <= 1 && digits + points == mantissa.len() && exponent_fits
}

/// `hex digits [. hex digits] p exponent`, the exponent being required.
fn hexadecimal(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = |part: &str| part.bytes().all(|b| b.is_ascii_hexdigit());
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let exponent_fits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !all(whole) || !all(fraction) || !exponent_fits
    {
        return None;
    }
    let digit = |c: char| f64::from(c.to_digit(16).unwrap_or(0));
    let mut value = whole.chars().fold(0.0_f64, |sum, c| sum.mul_add(16.0, digit(c)));
    let mut scale = 1.0 / 16.0;
    for c in fraction.chars() {
        value += digit(c) * scale;
        scale /= 16.0;
    }
    // A huge exponent saturates; the caller refuses infinity.
    let power: i32 =
        exponent.parse().unwrap_or(if exponent.starts_with('-') { -9999 } else { 9999 });
    Some(if value == 0.0 { 0.0 } else { value * 2.0_f64.powi(power) })
}

/// A number as Go prints it with `%v`: the shortest text, with an exponent from 1e+06 on.
pub fn format_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value == 0.0 {
        return if value.is_sign_negative() { "-0" } else { "0" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&power) {
        format!("{value}")
    } else {
        let sign = if power < 0 { '-' } else { '+' };
        format!("{mantissa}e{sign}{:02}", power.abs())
    }
}

/// A number as Go prints it with `%f`: six digits after the point.
pub fn format_fixed(value: f64) -> String {
    if value.is_finite() { format!("{value:.6}") } else { format_float(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_sign_and_digits() {
        for (text, value) in [("5", 5), ("+5", 5), ("-0", 0), ("05", 5), ("2147483647", i32::MAX)] {
            assert_eq!(parse_int(text, 32), Ok(i64::from(value)), "{text}");
        }
        for text in ["", " 1", "1_0", "0x5", "5.0", "1e2", "--1", "+", "a"] {
            assert_eq!(parse_int(text, 32), Err(NumberError::Syntax), "{text}");
        }
        for text in ["2147483648", "-2147483649", "99999999999999999999", "9999999999s"] {
            assert_eq!(parse_int(text, 32), Err(NumberError::Range), "{text}");
        }
        assert_eq!(parse_int("-9223372036854775808", 64), Ok(i64::MIN));
    }

    #[test]
    fn floats_take_what_go_takes() {
        let good = [
            ("1e3", 1000.0),
            ("+3.5", 3.5),
            ("0x1p-2", 0.25),
            ("0x1.8p1", 3.0),
            ("1_0", 10.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("infinity", f64::INFINITY),
            ("-Inf", f64::NEG_INFINITY),
            ("1e-999", 0.0),
        ];
        for (text, value) in good {
            assert_eq!(parse_float(text), Ok(value), "{text}");
        }
        assert!(parse_float("NaN").is_ok_and(f64::is_nan));
        for text in ["", "0x10", "1,5", "5 ", "70%", "1__0", "_1", "1_", "1_.5", "+nan", ".", "e5"]
        {
            assert_eq!(parse_float(text), Err(NumberError::Syntax), "{text}");
        }
        assert_eq!(parse_float("1e400"), Err(NumberError::Range));
        assert_eq!(parse_float("0x1p99999999999"), Err(NumberError::Range));
    }

    #[test]
    fn floats_are_printed_as_go_prints_them() {
        let table = [
            (1.0, "1"),
            (0.007 - 1e-18, "0.006999999999999999"),
            (1.01, "1.01"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (123_456.0, "123456"),
            (1e6, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (-0.5, "-0.5"),
            (f64::INFINITY, "+Inf"),
        ];
        for (value, text) in table {
            assert_eq!(format_float(value), text);
        }
        assert_eq!(
            NumberError::Syntax.message("ParseBool", "no"),
            "strconv.ParseBool: parsing \"no\": invalid syntax"
        );
    }
}
