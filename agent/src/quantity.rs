//! Kubernetes quantities (`500m`, `64Mi`, `1e3`) as exact numbers. Upstream:
//! `apimachinery/pkg/api/resource/quantity.go`.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Thousandths of the unit, rounded up; `None` for what is no quantity.
pub(crate) fn milli(quantity: &Quantity) -> Option<i128> {
    let text = quantity.0.trim();
    let split = text
        .find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '+' | '-'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let (numerator, denominator) = scale(suffix)?;
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let fraction = &fraction[..fraction.len().min(18)];
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let below = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)? * denominator;
    let above = digits.checked_mul(1000)?.checked_mul(numerator)?;
    let rounded = above / below + i128::from(above % below != 0);
    Some(if negative { -rounded } else { rounded })
}

/// Whole units, rounded up.
pub(crate) fn units(quantity: &Quantity) -> Option<i64> {
    let milli = milli(quantity)?;
    i64::try_from(milli.div_euclid(1000) + i128::from(milli.rem_euclid(1000) != 0)).ok()
}

fn scale(suffix: &str) -> Option<(i128, i128)> {
    let power = |base: i128, exponent: u32| base.checked_pow(exponent);
    Some(match suffix {
        "n" => (1, power(1000, 3)?),
        "u" => (1, power(1000, 2)?),
        "m" => (1, 1000),
        "" => (1, 1),
        "k" => (1000, 1),
        "M" => (power(1000, 2)?, 1),
        "G" => (power(1000, 3)?, 1),
        "T" => (power(1000, 4)?, 1),
        "P" => (power(1000, 5)?, 1),
        "E" => (power(1000, 6)?, 1),
        "Ki" => (1024, 1),
        "Mi" => (power(1024, 2)?, 1),
        "Gi" => (power(1024, 3)?, 1),
        "Ti" => (power(1024, 4)?, 1),
        "Pi" => (power(1024, 5)?, 1),
        "Ei" => (power(1024, 6)?, 1),
        exponent => {
            let exponent: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let scale = power(10, exponent.unsigned_abs().min(18))?;
            if exponent < 0 { (1, scale) } else { (scale, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_exactly() {
        for (text, expected) in [
            ("500m", 500),
            ("1", 1000),
            ("0.1", 100),
            (".5", 500),
            ("64Mi", 64 * 1024 * 1024 * 1000),
            ("1e3", 1_000_000),
            ("2k", 2_000_000),
            ("1n", 1),
            ("-1", -1000),
        ] {
            assert_eq!(milli(&Quantity(text.to_owned())), Some(expected), "{text}");
        }
        for text in ["", "x", "1x", "."] {
            assert_eq!(milli(&Quantity(text.to_owned())), None, "{text}");
        }
    }

    #[test]
    fn parts_of_a_unit_round_up() {
        assert_eq!(units(&Quantity("1500m".to_owned())), Some(2));
        assert_eq!(units(&Quantity("2".to_owned())), Some(2));
    }
}
