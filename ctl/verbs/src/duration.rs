//! Durations as Go writes and reads them, and ages as kubectl shows them.
//!
//! Owns: Go's `time.ParseDuration` for flags and `duration.HumanDuration` for ages (apimachinery
//! `pkg/util/duration`). Pure: `now` is an argument. Deliberately not here: clocks.

use std::time::Duration;

use jiff::Timestamp;

use crate::error::Error;

/// Parses `300ms`, `1.5h`, `2h45m`, `0`; negative values are `None`'s business of the caller.
pub(crate) fn parse(text: &str) -> Option<f64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0.0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number * unit;
        rest = &rest[end..];
    }
    Some(sign * seconds)
}

/// A duration flag; a bare number means seconds, as for `--request-timeout`. Zero is no limit.
pub(crate) fn parse_timeout(text: &str) -> Result<Option<Duration>, Error> {
    let seconds = text.parse::<f64>().ok().or_else(|| parse(text));
    match seconds {
        Some(s) if s > 0.0 && s < 1e10 => Ok(Some(Duration::from_secs_f64(s))),
        Some(s) if s >= 0.0 => Ok(None),
        _ => Err(Error::refused(
            "Invalid timeout value. Timeout must be a single integer in seconds, or an integer \
             followed by a corresponding time unit (e.g. 1s | 2m | 3h)",
        )),
    }
}

/// `5s`, `3m20s`, `4h10m`, `2d3h`, `5y12d`: how old something is.
pub(crate) fn human(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let pair = |big: i64, b: &str, small: i64, s: &str| {
        if small == 0 { format!("{big}{b}") } else { format!("{big}{b}{small}{s}") }
    };
    match seconds {
        // Clocks of client and server differ a little: not an error below two seconds.
        i64::MIN..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => pair(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => pair(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => pair(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => pair(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

/// The age of a moment.
pub(crate) fn age(then: Timestamp, now: Timestamp) -> String {
    human(now.as_second() - then.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_lose_precision_as_upstream_s_do() {
        for (seconds, text) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (200, "3m20s"),
            (599, "9m59s"),
            (600, "10m"),
            (6900, "115m"),
            (10_800, "3h"),
            (10_860, "3h1m"),
            (28_800, "8h"),
            (172_799, "47h"),
            (183_600, "2d3h"),
            (691_200, "8d"),
            (63_072_000, "2y"),
            (63_072_000 + 86_400, "2y1d"),
            (252_288_000, "8y"),
        ] {
            assert_eq!(human(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn go_durations_are_read() {
        assert_eq!(parse("1h30m"), Some(5400.0));
        assert_eq!(parse("1.5s"), Some(1.5));
        assert_eq!(parse("-1s"), Some(-1.0));
        assert_eq!(parse("250ms"), Some(0.25));
        assert_eq!(parse("0"), Some(0.0));
        for bad in ["", "5", "h", "1x", "-"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_timeout_may_be_a_bare_number_of_seconds() {
        assert_eq!(parse_timeout("0").unwrap(), None);
        assert_eq!(parse_timeout("5").unwrap(), Some(Duration::from_secs(5)));
        assert_eq!(parse_timeout("2m").unwrap(), Some(Duration::from_secs(120)));
        assert!(parse_timeout("soon").is_err());
    }
}
