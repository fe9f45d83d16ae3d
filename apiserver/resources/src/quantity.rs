//! Amounts of resources: `100m`, `1.5Gi`, `2e3` (apimachinery `pkg/api/resource/quantity.go`).
//!
//! Owns: reading, comparing and the canonical text of quantities.
//! Invariant: amounts are exact down to a billionth; what is finer is rounded up.
//! Deliberately not here: which amounts a field allows.

use std::cmp::Ordering;

/// The text is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "quantities must match the regular expression \
     '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)]
pub struct QuantityError;

/// The family of suffixes an amount was written with; its canonical text keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suffixes {
    /// `m`, `k`, `M`: powers of 1000.
    Decimal,
    /// `Ki`, `Mi`: powers of 1024.
    Binary,
    /// `e3`: powers of ten.
    Exponent,
}

/// An amount.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    suffixes: Suffixes,
}

const NANOS: i128 = 1_000_000_000;
const NANOS_PER_MILLI: i128 = 1_000_000;
/// Suffixes of powers of 1000 from 10⁻⁹ on.
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
/// Suffixes of powers of 1024 from 1024⁰ on.
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

impl Quantity {
    /// Reads a quantity.
    ///
    /// # Errors
    /// The text is malformed or too large to count.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let sign = if text.starts_with('-') { -1 } else { 1 };
        let split =
            unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(split);
        let (multiplier, divisor, suffixes) = scale(suffix).ok_or(QuantityError)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(QuantityError);
        }
        let digits = format!("{whole}{fraction}");
        let digits: i128 = digits.parse().map_err(|_| QuantityError)?;
        let places = u32::try_from(fraction.len()).map_err(|_| QuantityError)?;
        let divisor = 10_i128
            .checked_pow(places)
            .and_then(|p| p.checked_mul(divisor))
            .ok_or(QuantityError)?;
        let scaled = digits
            .checked_mul(multiplier)
            .and_then(|n| n.checked_mul(NANOS))
            .ok_or(QuantityError)?;
        Ok(Self { nanos: sign * ceil_div(scaled, divisor), suffixes })
    }

    /// The amount in whole units, rounded up.
    #[must_use]
    pub fn value(&self) -> i64 {
        saturate(ceil_div(self.nanos, NANOS))
    }

    /// The amount in thousandths, rounded up: millicores of CPU.
    #[must_use]
    pub fn milli_value(&self) -> i64 {
        saturate(ceil_div(self.nanos, NANOS_PER_MILLI))
    }

    /// Whether the amount is less than nothing.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// Whether the amount is a whole number of units.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.nanos % NANOS == 0
    }

    /// The canonical text, rounded up to thousandths: the largest suffix that needs no fraction
    /// (`0.5` is `500m`, `1024Mi` is `1Gi`).
    #[must_use]
    pub fn canonical(&self) -> String {
        let nanos = ceil_div(self.nanos, NANOS_PER_MILLI) * NANOS_PER_MILLI;
        let whole = nanos / NANOS;
        let binary = self.suffixes == Suffixes::Binary && nanos % NANOS == 0 && whole.abs() >= 1024;
        if binary {
            let (amount, power) = take_powers(whole, 1024, BINARY.len() - 1);
            return format!("{amount}{}", BINARY[power]);
        }
        if nanos == 0 {
            return "0".to_owned();
        }
        let (amount, power) = take_powers(nanos, 1000, DECIMAL.len() - 1);
        match (self.suffixes, power) {
            (Suffixes::Exponent, 3) => amount.to_string(),
            (Suffixes::Exponent, 0..3) => format!("{amount}e-{}", (3 - power) * 3),
            (Suffixes::Exponent, _) => format!("{amount}e{}", (power - 3) * 3),
            _ => format!("{amount}{}", DECIMAL[power]),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

/// What a suffix multiplies by and divides by.
fn scale(suffix: &str) -> Option<(i128, i128, Suffixes)> {
    if let Some(power) = BINARY.iter().position(|s| *s == suffix).filter(|p| *p > 0) {
        return Some((1024_i128.pow(u32::try_from(power).ok()?), 1, Suffixes::Binary));
    }
    if let Some(power) = DECIMAL.iter().position(|s| *s == suffix) {
        let power = u32::try_from(power).ok()?;
        return Some(match power {
            0..3 => (1, 1000_i128.pow(3 - power), Suffixes::Decimal),
            _ => (1000_i128.pow(power - 3), 1, Suffixes::Decimal),
        });
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
    Some(if exponent < 0 { (1, power, Suffixes::Exponent) } else { (power, 1, Suffixes::Exponent) })
}

/// Divides by `base` as often as it goes without a rest, at most `most` times.
fn take_powers(mut amount: i128, base: i128, most: usize) -> (i128, usize) {
    let mut power = 0;
    while power < most && amount % base == 0 && amount != 0 {
        amount /= base;
        power += 1;
    }
    (amount, power)
}

fn ceil_div(amount: i128, divisor: i128) -> i128 {
    let rest = i128::from(amount.rem_euclid(divisor) != 0);
    amount.div_euclid(divisor) + rest
}

fn saturate(amount: i128) -> i64 {
    i64::try_from(amount).unwrap_or(if amount < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Quantity;

    #[test]
    fn canonical_texts_are_upstreams() {
        for (text, expected) in [
            ("0", "0"),
            ("0m", "0"),
            ("1", "1"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("100m", "100m"),
            ("0.0001", "1m"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("512", "512"),
            ("1000Ki", "1000Ki"),
            ("1Ki", "1Ki"),
            ("0.5Ki", "512"),
            ("64Mi", "64Mi"),
            ("1000000", "1M"),
            ("128974848", "128974848"),
            ("129e6", "129e6"),
            ("1e3", "1e3"),
            ("2e-3", "2e-3"),
            ("-1", "-1"),
            ("+2k", "2k"),
        ] {
            let quantity = Quantity::parse(text).expect(text);
            assert_eq!(quantity.canonical(), expected, "{text}");
        }
    }

    #[test]
    fn amounts_are_rounded_up() {
        let half = Quantity::parse("500m").expect("half");
        assert_eq!((half.value(), half.milli_value()), (1, 500));
        let memory = Quantity::parse("1Gi").expect("memory");
        assert_eq!(memory.value(), 1 << 30);
    }

    #[test]
    fn malformed_texts_are_refused() {
        for text in ["", "abc", "1x", "1.2.3", "-", "m", "1 Gi", "1ki", "1KI", "1e", "--1"] {
            assert!(Quantity::parse(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn canonical_text_means_the_same(milli in -1_000_000_000_i64..1_000_000_000_i64) {
            let quantity = Quantity::parse(&format!("{milli}m")).expect("a number of thousandths");
            let again = Quantity::parse(&quantity.canonical()).expect("its own text");
            prop_assert_eq!(quantity, again);
            prop_assert_eq!(again.canonical(), quantity.canonical());
        }
    }
}
