//! Adding quantities (`100m`, `1`, `128Mi`) and writing the sum as Kubernetes writes it.
//!
//! Owns: [`Quantity`], exact to a thousandth, which covers CPU and memory. Pure. Upstream:
//! apimachinery `pkg/api/resource`.

/// How a quantity was written: the sum is written like its first part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notation {
    Decimal,
    Binary,
}

/// A quantity in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quantity {
    milli: i128,
    notation: Notation,
}

impl Default for Quantity {
    fn default() -> Self {
        Quantity { milli: 0, notation: Notation::Decimal }
    }
}

const BINARY: [(&str, i128); 6] = [
    ("Ei", 1 << 60),
    ("Pi", 1 << 50),
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
];
const DECIMAL: [(&str, i128); 6] = [
    ("E", 1_000_000_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("k", 1_000),
];

impl Quantity {
    /// Reads a quantity; anything unreadable counts as zero, for it is only shown.
    pub(super) fn parse(text: &str) -> Quantity {
        let digits = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '-' | '+'));
        let (number, suffix) = text.split_at(digits.unwrap_or(text.len()));
        let table = BINARY.iter().chain(&DECIMAL);
        let scale = table.clone().find(|(s, _)| *s == suffix).map(|(_, scale)| scale * 1000);
        let scale = match suffix {
            "" => 1000,
            "m" => 1,
            _ => scale.unwrap_or(0),
        };
        let notation = if suffix.ends_with('i') { Notation::Binary } else { Notation::Decimal };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let mut milli = whole.parse::<i128>().unwrap_or(0) * scale;
        let mut part = scale;
        for digit in fraction.chars().filter_map(|c| c.to_digit(10)) {
            part /= 10;
            milli += i128::from(digit) * part;
        }
        Quantity { milli, notation }
    }

    /// The sum; a zero takes over the other's notation.
    pub(super) fn add(self, other: Quantity) -> Quantity {
        let notation = if self.milli == 0 { other.notation } else { self.notation };
        Quantity { milli: self.milli + other.milli, notation }
    }

    /// The larger one.
    pub(super) fn max(self, other: Quantity) -> Quantity {
        if other.milli > self.milli { other } else { self }
    }

    /// How many per cent this is of the whole, rounded down; 0 of nothing.
    pub(super) fn percent_of(self, whole: Quantity) -> i128 {
        if whole.milli == 0 { 0 } else { self.milli * 100 / whole.milli }
    }
}

impl std::fmt::Display for Quantity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.milli % 1000 != 0 {
            return write!(f, "{}m", self.milli);
        }
        let value = self.milli / 1000;
        let table = match self.notation {
            Notation::Binary => &BINARY,
            Notation::Decimal => &DECIMAL,
        };
        let suffix = table.iter().find(|(_, scale)| value != 0 && value % scale == 0);
        match suffix {
            Some((suffix, scale)) => write!(f, "{}{suffix}", value / scale),
            None => write!(f, "{value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_added_and_written() {
        let sum = |parts: &[&str]| {
            let zero = Quantity::default();
            parts.iter().fold(zero, |sum, p| sum.add(Quantity::parse(p))).to_string()
        };
        assert_eq!(sum(&[]), "0");
        assert_eq!(sum(&["100m", "150m"]), "250m");
        assert_eq!(sum(&["500m", "1500m"]), "2");
        assert_eq!(sum(&["0.5", "2"]), "2500m");
        assert_eq!(sum(&["128Mi", "896Mi"]), "1Gi");
        assert_eq!(sum(&["70Mi", "1Gi"]), "1094Mi");
        assert_eq!(sum(&["1k", "500"]), "1500");
        assert_eq!(sum(&["nonsense"]), "0");
    }

    #[test]
    fn shares_are_rounded_down() {
        assert_eq!(Quantity::parse("850m").percent_of(Quantity::parse("2")), 42);
        assert_eq!(Quantity::parse("1").percent_of(Quantity::default()), 0);
    }
}
