//! Kubernetes' quantities: `500m`, `1.5Gi`, `1e3`.

use std::fmt;

/// An amount, exact to a billionth. Larger amounts than 10^28 saturate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity {
    nanos: i128,
    binary: bool,
}

const NANO: i128 = 1_000_000_000;
const BINARY: [(&str, u32); 6] = [("Ki", 1), ("Mi", 2), ("Gi", 3), ("Ti", 4), ("Pi", 5), ("Ei", 6)];
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];

impl Quantity {
    /// An amount from its text, none if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let negative = text.starts_with('-');
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, suffix) = unsigned.split_at(end.unwrap_or(unsigned.len()));
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return None;
        }
        let (magnitude, binary) = if let Some((_, power)) = BINARY.iter().find(|b| b.0 == suffix) {
            (scaled(whole, fraction, 1 << (10 * power), 0), true)
        } else if let Some((_, power)) = DECIMAL.iter().find(|d| d.0 == suffix) {
            (scaled(whole, fraction, 1, *power), false)
        } else {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            let power: i32 = exponent.parse().ok()?;
            (scaled(whole, fraction, 1, power), false)
        };
        Some(Self { nanos: if negative { -magnitude } else { magnitude }, binary })
    }

    /// The amount in whole units, rounded up (bytes of memory, for example).
    pub const fn value(self) -> i128 {
        self.nanos.div_euclid(NANO) + if self.nanos.rem_euclid(NANO) == 0 { 0 } else { 1 }
    }

    /// How often the divisor goes into it, rounded up; none for a divisor of zero.
    pub const fn divided_by(self, divisor: Self) -> Option<i128> {
        if divisor.nanos == 0 {
            return None;
        }
        let rest = self.nanos.rem_euclid(divisor.nanos);
        Some(self.nanos.div_euclid(divisor.nanos) + if rest == 0 { 0 } else { 1 })
    }

    /// Whether it is below zero.
    pub const fn is_negative(self) -> bool {
        self.nanos < 0
    }
}

/// Billionths of `whole.fraction × factor × 10^power`, rounded up, saturating.
fn scaled(whole: &str, fraction: &str, factor: i128, power: i32) -> i128 {
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return 0;
    }
    let fraction_digits = i32::try_from(fraction.len()).unwrap_or(i32::MAX);
    let shift = power.saturating_add(9).saturating_sub(fraction_digits);
    let Ok(mantissa) = digits.parse::<i128>() else { return i128::MAX / 2 };
    let Some(value) = mantissa.checked_mul(factor) else { return i128::MAX / 2 };
    if shift >= 0 {
        10_i128
            .checked_pow(shift.unsigned_abs())
            .and_then(|scale| value.checked_mul(scale))
            .unwrap_or(i128::MAX / 2)
    } else {
        match 10_i128.checked_pow(shift.unsigned_abs()) {
            Some(scale) => value / scale + i128::from(value % scale != 0),
            None => 1,
        }
    }
}

impl fmt::Display for Quantity {
    /// The canonical text: the largest suffix that leaves a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        if self.binary && self.nanos % NANO == 0 {
            let mut value = self.nanos / NANO;
            let mut suffix = "";
            for (name, _) in BINARY {
                if value % 1024 != 0 {
                    break;
                }
                value /= 1024;
                suffix = name;
            }
            return write!(f, "{value}{suffix}");
        }
        let mut value = self.nanos;
        let mut suffix = "n";
        for (name, _) in &DECIMAL[1..] {
            if value % 1000 != 0 {
                break;
            }
            value /= 1000;
            suffix = name;
        }
        write!(f, "{value}{suffix}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        let table = [
            ("0", 0, "0"),
            ("500m", 1, "500m"),
            ("1", 1, "1"),
            ("-1", -1, "-1"),
            ("1.5", 2, "1500m"),
            ("1Ki", 1024, "1Ki"),
            ("-1024Ki", -1_048_576, "-1Mi"),
            ("1.5Gi", 1_610_612_736, "1536Mi"),
            ("1000M", 1_000_000_000, "1G"),
            ("1e3", 1000, "1k"),
            ("12E", 12_000_000_000_000_000_000, "12E"),
            (".5", 1, "500m"),
            ("5.", 5, "5"),
        ];
        for (text, value, canonical) in table {
            let quantity = Quantity::parse(text).expect(text);
            assert_eq!(quantity.value(), value, "{text}");
            assert_eq!(quantity.to_string(), canonical, "{text}");
        }
        for text in ["", "abc", "x", "1x", "Ki", ".", "1.2.3", "1KiB", "--1", "1e", "1 Gi"] {
            assert_eq!(Quantity::parse(text), None, "{text}");
        }
        assert!(Quantity::parse("99999999999999999999999999999999999999999999").is_some());
        assert!(Quantity::parse("1e99999").is_some());
    }
}
