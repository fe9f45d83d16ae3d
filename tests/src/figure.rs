//! Measured figures as a table in Markdown, each beside its limit.

use std::fmt::Write as _;

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The figure, with its unit.
    pub measured: String,
    /// What the project allows itself; empty for information.
    pub limit: String,
    /// The spread, or what it is compared with.
    pub note: String,
}

impl Figure {
    /// A figure that has to stay at or below (`Bound::Most`) or above (`Bound::Least`) a limit.
    #[must_use]
    pub fn bounded(name: &str, measured: f64, unit: &str, bound: Bound, note: String) -> Self {
        let (held, limit) = match bound {
            Bound::Most(limit) => (measured <= limit, format!("≤ {limit}{unit}")),
            Bound::Least(limit) => (measured >= limit, format!("≥ {limit}{unit}")),
            Bound::None => (true, String::new()),
        };
        let note = if held { note } else { format!("**missed**; {note}") };
        Self {
            name: name.to_owned(),
            measured: format!("{}{unit}", rounded(measured)),
            limit,
            note,
        }
    }
}

/// What a figure is held to.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// It must not be more.
    Most(f64),
    /// It must not be less.
    Least(f64),
    /// It is for information.
    None,
}

/// Three digits that matter, and no zeros for show.
fn rounded(number: f64) -> String {
    match number.abs() {
        n if n >= 100.0 => format!("{number:.0}"),
        n if n >= 10.0 => format!("{number:.1}"),
        n if n >= 1.0 => format!("{number:.2}"),
        0.0 => "0".to_owned(),
        _ => format!("{number:.3}"),
    }
}

/// The value that half of all are below.
///
/// # Panics
/// When there are none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 1, 2)
}

/// The value that `part / of` of all are below.
///
/// # Panics
/// When there are none.
#[must_use]
pub fn quantile(values: &[f64], part: usize, of: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() * part / of).min(sorted.len() - 1)]
}

/// The middle half of all values, as a note: `0.96 to 1.01`.
///
/// # Panics
/// When there are none.
#[must_use]
pub fn spread(values: &[f64]) -> String {
    format!("{} to {}", rounded(quantile(values, 1, 4)), rounded(quantile(values, 3, 4)))
}

/// Between which values the median of all that could have been measured lies, 19 times of 20.
///
/// By ranks (the sign test), whatever the values' distribution: `median 0.986 to 0.991`.
///
/// # Panics
/// When there are none.
#[must_use]
pub fn certainty(values: &[f64]) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    // Half of all, less or more 1.96 standard deviations of a fair coin thrown as often.
    let reach = (sorted.len() * 96).isqrt() / 10;
    let low = (sorted.len() / 2).saturating_sub(reach);
    let high = (sorted.len() / 2 + reach).min(sorted.len() - 1);
    format!("median {} to {}", rounded(sorted[low]), rounded(sorted[high]))
}

/// The table.
///
/// # Panics
/// Never: text grows.
#[must_use]
pub fn table(figures: &[Figure]) -> String {
    let mut text = String::from("| figure | median | limit | |\n|---|---|---|---|\n");
    for figure in figures {
        let line = [&*figure.name, &figure.measured, &figure.limit, &figure.note].join(" | ");
        writeln!(text, "| {line} |").expect("text grows");
    }
    text
}
