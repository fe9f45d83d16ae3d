//! Quantities as numbers (upstream: `apimachinery/pkg/api/resource`).
//!
//! Pure. Input: `500m`, `1Gi`, `2e3`. Output: thousandths (CPU) or whole units (memory, counts),
//! rounded up as upstream's `MilliValue` and `Value` do.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// In thousandths, rounded up; 0 for what is not a quantity.
pub(crate) fn milli(quantity: &Quantity) -> i64 {
    scaled(&quantity.0, 1000)
}

/// In whole units, rounded up; 0 for what is not a quantity.
pub(crate) fn value(quantity: &Quantity) -> i64 {
    scaled(&quantity.0, 1)
}

fn scaled(text: &str, scale: i128) -> i64 {
    parse(text, scale).map_or(0, |number| i64::try_from(number).unwrap_or(i64::MAX))
}

/// The number times `scale`, rounded up.
fn parse(text: &str, scale: i128) -> Option<i128> {
    let digits_end = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits_end);
    let (multiplier, divisor) = factor(suffix)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let negative = whole.starts_with('-');
    let digits = format!("{}{fraction}", whole.trim_start_matches(['+', '-']));
    let digits: i128 = digits.parse().ok()?;
    let below = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?.checked_mul(divisor)?;
    let above = digits.checked_mul(multiplier)?.checked_mul(scale)?;
    let magnitude = if negative { above / below } else { above.checked_add(below - 1)? / below };
    Some(if negative { -magnitude } else { magnitude })
}

/// What a suffix multiplies and divides by.
fn factor(suffix: &str) -> Option<(i128, i128)> {
    let binary = |power: u32| Some((1_i128 << (10 * power), 1));
    let decimal = |power: u32| Some((10_i128.pow(power), 1));
    match suffix {
        "" => Some((1, 1)),
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1000)),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => exponent(suffix),
    }
}

fn exponent(suffix: &str) -> Option<(i128, i128)> {
    let power: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let magnitude = 10_i128.checked_pow(power.unsigned_abs())?;
    Some(if power < 0 { (1, magnitude) } else { (magnitude, 1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_upstream_reads_them() {
        let cases = [
            ("100m", 100, 1),
            ("1", 1000, 1),
            ("1.5", 1500, 2),
            ("0.1", 100, 1),
            ("1u", 1, 1),
            ("128Mi", 134_217_728_000, 134_217_728),
            ("1k", 1_000_000, 1000),
            ("2e3", 2_000_000, 2000),
            ("5e-1", 500, 1),
            ("1Ei", i64::MAX, 1_152_921_504_606_846_976),
            ("-1", -1000, -1),
            ("", 0, 0),
            ("1Gx", 0, 0),
            ("m", 0, 0),
        ];
        for (text, in_milli, in_units) in cases {
            let quantity = Quantity(text.to_owned());
            assert_eq!(milli(&quantity), in_milli, "{text:?} in thousandths");
            assert_eq!(value(&quantity), in_units, "{text:?} in units");
        }
    }
}
