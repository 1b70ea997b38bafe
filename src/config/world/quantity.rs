//! Kubernetes' quantities: `512Mi`, `1.5G`, `500m`, `1e9`.

/// A quantity in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quantity(u128);

impl Quantity {
    /// Reads a quantity that is not negative; none for anything else, or beyond 10^27.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('+').unwrap_or(text);
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || digits.contains('.') || digits.len() > 24 {
            return None;
        }
        let digits: u128 = digits.parse().ok()?;
        let (factor, exponent) = factor(suffix)?;
        let exponent = exponent + 3 - i32::try_from(fraction.len()).ok()?;
        let scaled = digits.checked_mul(factor)?;
        if exponent >= 0 {
            let power = 10_u128.checked_pow(exponent.unsigned_abs())?;
            return scaled.checked_mul(power).map(Self);
        }
        // Kubernetes rounds up what is finer than it can keep.
        let power = 10_u128.checked_pow(exponent.unsigned_abs())?;
        Some(Self(scaled.div_ceil(power)))
    }

    /// How many whole units, rounded up.
    pub(super) fn units(self) -> Option<u64> {
        u64::try_from(self.0.div_ceil(1000)).ok()
    }

    /// How many `divisor` it takes, rounded up; none for a divisor of 0.
    pub(super) fn divided_by(self, divisor: Self) -> Option<u128> {
        (divisor.0 > 0).then(|| self.0.div_ceil(divisor.0))
    }
}

/// Factor and power of ten of a suffix.
fn factor(suffix: &str) -> Option<(u128, i32)> {
    Some(match suffix {
        "" => (1, 0),
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        other => {
            let exponent = other.strip_prefix(['e', 'E'])?;
            (1, exponent.parse().ok().filter(|power: &i32| power.abs() <= 24)?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_kubernetes_reads() {
        let table = [
            ("128974848", Some(128_974_848)),
            ("129e6", Some(129_000_000)),
            ("129M", Some(129_000_000)),
            ("123Mi", Some(128_974_848)),
            ("0.5Gi", Some(536_870_912)),
            ("1.5k", Some(1500)),
            ("500m", Some(1)),
            ("1u", Some(1)),
            ("0", Some(0)),
            (".5", Some(1)),
            ("+1E3", Some(1000)),
            ("1e3", Some(1000)),
            ("16Ei", None),
            ("1MB", None),
            ("-1", None),
            ("", None),
            ("Mi", None),
            ("1.2.3", None),
        ];
        for (text, units) in table {
            assert_eq!(Quantity::parse(text).and_then(Quantity::units), units, "{text}");
        }
    }
}
