//! JSON values as the YAML that kubectl prints.
//!
//! Owns: an emitter for the subset of YAML that sigs.k8s.io/yaml (go-yaml v2) writes: block style,
//! keys sorted, sequences not indented below their key, long plain and quoted scalars folded at
//! column 80. Pure. Invariant: the text reads back as the same value. Deliberately not here:
//! reading YAML.

use serde_json::Value;

/// The column after which go-yaml breaks a line at the next space.
const BEST_WIDTH: usize = 80;

/// The value's YAML, ending with a line break.
pub(crate) fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => mapping(&mut out, value, 0, false),
        Value::Array(items) if !items.is_empty() => sequence(&mut out, items, 0, false),
        other => {
            scalar(&mut out, other, 0);
            out.push('\n');
        }
    }
    out
}

fn indent(out: &mut String, by: usize) {
    out.extend(std::iter::repeat_n(' ', by));
}

/// Writes a mapping's lines; the first one is already indented if it follows `- `.
fn mapping(out: &mut String, value: &Value, level: usize, inline_first: bool) {
    let mut entries: Vec<(&String, &Value)> = value.as_object().into_iter().flatten().collect();
    entries.sort_by(|a, b| natural_order(a.0, b.0));
    for (i, (key, value)) in entries.into_iter().enumerate() {
        if i > 0 || !inline_first {
            indent(out, level);
        }
        out.push_str(&key_text(key));
        out.push(':');
        match value {
            Value::Object(map) if !map.is_empty() => {
                out.push('\n');
                mapping(out, value, level + 2, false);
            }
            // go-yaml does not indent a sequence below its key.
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                sequence(out, items, level, false);
            }
            other => {
                out.push(' ');
                scalar(out, other, level + 2);
                out.push('\n');
            }
        }
    }
}

fn sequence(out: &mut String, items: &[Value], level: usize, inline_first: bool) {
    for (i, item) in items.iter().enumerate() {
        if i > 0 || !inline_first {
            indent(out, level);
        }
        out.push_str("- ");
        match item {
            Value::Object(map) if !map.is_empty() => mapping(out, item, level + 2, true),
            Value::Array(inner) if !inner.is_empty() => sequence(out, inner, level + 2, true),
            other => {
                scalar(out, other, level + 2);
                out.push('\n');
            }
        }
    }
}

/// go-yaml sorts keys with digits by their number and letters before other characters
/// (`sorter.go`, `keyList.Less`).
fn natural_order(a: &str, b: &str) -> std::cmp::Ordering {
    let (ca, cb): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut digits = false;
    for i in 0..ca.len().min(cb.len()) {
        if ca[i] == cb[i] {
            digits = ca[i].is_ascii_digit();
            continue;
        }
        let (al, bl) = (ca[i].is_alphabetic(), cb[i].is_alphabetic());
        if al && bl {
            return ca[i].cmp(&cb[i]);
        }
        if al || bl {
            // A letter sorts after other characters, except inside a number.
            return match (digits, al) {
                (true, al) => {
                    if al {
                        std::cmp::Ordering::Less
                    } else {
                        std::cmp::Ordering::Greater
                    }
                }
                (false, al) => {
                    if al {
                        std::cmp::Ordering::Greater
                    } else {
                        std::cmp::Ordering::Less
                    }
                }
            };
        }
        let number = |c: &[char]| -> (usize, u64) {
            let digits: String = c[i..].iter().take_while(|c| c.is_ascii_digit()).collect();
            (digits.len(), digits.parse().unwrap_or(0))
        };
        let ((la, na), (lb, nb)) = (number(&ca), number(&cb));
        if la > 0 && lb > 0 && na != nb {
            return na.cmp(&nb);
        }
        if la > 0 && lb > 0 && la != lb {
            return la.cmp(&lb);
        }
        return ca[i].cmp(&cb[i]);
    }
    ca.len().cmp(&cb.len())
}

fn key_text(key: &str) -> String {
    let mut out = String::new();
    if needs_double(key) || key.contains('\n') {
        double_quoted(&mut out, key, usize::MAX, 0);
    } else if is_plain(key) {
        if resolves(key) { double_quoted(&mut out, key, usize::MAX, 0) } else { out.push_str(key) }
    } else {
        single_quoted(&mut out, key, 0, usize::MAX);
    }
    out
}

fn scalar(out: &mut String, value: &Value, level: usize) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Number(n) => out.push_str(&n.to_string()),
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
        Value::String(s) => string(out, s, level),
    }
}

/// Chooses the style as go-yaml's `stringv` and `yaml_emitter_select_scalar_style` do.
fn string(out: &mut String, s: &str, level: usize) {
    let column = out.len() - out.rfind('\n').map_or(0, |i| i + 1);
    if needs_double(s) {
        double_quoted(out, s, column, level);
    } else if s.contains('\n') {
        // A literal block cannot hold leading spaces or a line that ends in a space.
        if s.starts_with([' ', '\n']) || s.contains(" \n") || s.ends_with(' ') {
            double_quoted(out, s, column, level);
        } else {
            literal(out, s, level);
        }
    } else if resolves(s) {
        double_quoted(out, s, column, level);
    } else if is_plain(s) {
        folded(out, s, column, level);
    } else {
        single_quoted(out, s, level, column);
    }
}

/// Characters that only double quotes can carry.
fn needs_double(s: &str) -> bool {
    s.chars().any(|c| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}')
    })
}

/// Whether the plain text would be read as something other than a string (YAML 1.1).
fn resolves(s: &str) -> bool {
    const WORDS: [&str; 28] = [
        "", "~", "null", "Null", "NULL", "true", "True", "TRUE", "false", "False", "FALSE", "y",
        "Y", "yes", "Yes", "YES", "n", "N", "no", "No", "NO", "on", "On", "ON", "off", "Off",
        "OFF", "<<",
    ];
    if WORDS.contains(&s) {
        return true;
    }
    let Some(first) = s.chars().next() else { return true };
    if !(first.is_ascii_digit() || matches!(first, '+' | '-' | '.')) {
        return false;
    }
    is_number(s) || is_timestamp(s) || is_base60(s)
}

fn is_number(s: &str) -> bool {
    let body = s.strip_prefix(['+', '-']).unwrap_or(s);
    if matches!(body, ".inf" | ".Inf" | ".INF") || matches!(s, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let plain = body.replace('_', "");
    let radix = |prefix: &str, ok: fn(char) -> bool| {
        plain.strip_prefix(prefix).is_some_and(|d| !d.is_empty() && d.chars().all(ok))
    };
    if radix("0x", |c| c.is_ascii_hexdigit())
        || radix("0b", |c| matches!(c, '0' | '1'))
        || radix("0o", |c| ('0'..='7').contains(&c))
    {
        return true;
    }
    let mut digits = 0;
    let mut chars = plain.chars().peekable();
    while chars.next_if(char::is_ascii_digit).is_some() {
        digits += 1;
    }
    if chars.next_if_eq(&'.').is_some() {
        while chars.next_if(char::is_ascii_digit).is_some() {
            digits += 1;
        }
    }
    if digits == 0 {
        return false;
    }
    if chars.next_if(|c| matches!(c, 'e' | 'E')).is_some() {
        let _ = chars.next_if(|c| matches!(c, '+' | '-'));
        let mut exponent = 0;
        while chars.next_if(char::is_ascii_digit).is_some() {
            exponent += 1;
        }
        return exponent > 0 && chars.next().is_none();
    }
    chars.next().is_none()
}

/// `2024-01-31` or `2024-01-31T…`, which go-yaml quotes.
fn is_timestamp(s: &str) -> bool {
    let b = s.as_bytes();
    if b.len() < 8 || !b[..4].iter().all(u8::is_ascii_digit) || b[4] != b'-' {
        return false;
    }
    if s.parse::<jiff::Timestamp>().is_ok() {
        return true;
    }
    s.len() <= 10 && s.parse::<jiff::civil::Date>().is_ok()
}

/// `12:30:45`: a number in base 60 to YAML 1.1 readers, so go-yaml quotes it.
fn is_base60(s: &str) -> bool {
    let body = s.strip_prefix(['+', '-']).unwrap_or(s);
    let mut parts = body.split(':');
    let head = parts.next().unwrap_or("");
    let digits = |p: &str| !p.is_empty() && p.chars().all(|c| c.is_ascii_digit() || c == '_');
    let mut count = 0;
    let all = parts.all(|p| {
        count += 1;
        let p = p.split_once('.').map_or(p, |(whole, _)| whole);
        (1..=2).contains(&p.len()) && p.parse::<u8>().is_ok_and(|n| n < 60)
    });
    digits(head) && head.starts_with(|c: char| c.is_ascii_digit()) && all && count > 0
}

/// Whether the text may stand without quotes in block context (`yaml_emitter_analyze_scalar`).
fn is_plain(s: &str) -> bool {
    if s.is_empty() || s.starts_with(' ') || s.ends_with(' ') || s.contains('\n') {
        return false;
    }
    if s.starts_with("---") || s.starts_with("...") {
        return false;
    }
    let chars: Vec<char> = s.chars().collect();
    let space_after = |i: usize| chars.get(i + 1).is_none_or(|c| matches!(c, ' ' | '\t'));
    for (i, c) in chars.iter().enumerate() {
        let bad = if i == 0 {
            match c {
                '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"'
                | '%' | '@' | '`' => true,
                '?' | ':' | '-' => space_after(i),
                _ => false,
            }
        } else {
            match c {
                ':' => space_after(i),
                '#' => chars[i - 1] == ' ',
                _ => false,
            }
        };
        if bad {
            return false;
        }
    }
    true
}

/// Writes words, breaking the line at a lone space once it is longer than the best width.
fn folded(out: &mut String, s: &str, start: usize, level: usize) {
    write_folding(out, s, start, level, |out, c| out.push(c));
}

fn single_quoted(out: &mut String, s: &str, level: usize, column: usize) {
    out.push('\'');
    let write = |out: &mut String, c: char| match c {
        '\'' => out.push_str("''"),
        c => out.push(c),
    };
    if column == usize::MAX {
        s.chars().for_each(|c| write(out, c));
    } else {
        write_folding(out, s, column + 1, level, write);
    }
    out.push('\'');
}

fn write_folding(
    out: &mut String,
    s: &str,
    start: usize,
    level: usize,
    write: impl Fn(&mut String, char),
) {
    let mut column = start;
    let chars: Vec<char> = s.chars().collect();
    for (i, &c) in chars.iter().enumerate() {
        let lone_space =
            c == ' ' && i > 0 && i + 1 < chars.len() && chars[i - 1] != ' ' && chars[i + 1] != ' ';
        if lone_space && column > BEST_WIDTH {
            out.push('\n');
            indent(out, level);
            column = level;
        } else {
            let before = out.len();
            write(out, c);
            column += out[before..].chars().count();
        }
    }
}

fn double_quoted(out: &mut String, s: &str, column: usize, level: usize) {
    out.push('"');
    let mut column = column.saturating_add(1);
    let chars: Vec<char> = s.chars().collect();
    let mut spaced = false;
    for (i, &c) in chars.iter().enumerate() {
        let before = out.len();
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0' => out.push_str("\\0"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            '\u{1b}' => out.push_str("\\e"),
            '\u{85}' => out.push_str("\\N"),
            '\u{2028}' => out.push_str("\\L"),
            '\u{2029}' => out.push_str("\\P"),
            c if c.is_control() && u32::from(c) <= 0xff => {
                out.push_str(&format!("\\x{:02X}", u32::from(c)));
            }
            '\u{feff}' => out.push_str("\\uFEFF"),
            ' ' if !spaced
                && column != usize::MAX
                && column > BEST_WIDTH
                && i > 0
                && i + 1 < chars.len() =>
            {
                out.push('\n');
                indent(out, level);
                column = level;
                if chars[i + 1] == ' ' {
                    out.push('\\');
                    column += 1;
                }
                spaced = true;
                continue;
            }
            c => out.push(c),
        }
        spaced = c == ' ';
        column = column.saturating_add(out[before..].chars().count());
    }
    out.push('"');
}

/// A literal block: `|` keeps the final line break, `|-` says there is none.
fn literal(out: &mut String, s: &str, level: usize) {
    out.push('|');
    let body = match s.strip_suffix('\n') {
        None => {
            out.push('-');
            s
        }
        Some(body) if body.ends_with('\n') || body.is_empty() => {
            out.push('+');
            body
        }
        Some(body) => body,
    };
    for line in body.split('\n') {
        out.push('\n');
        if !line.is_empty() {
            indent(out, level);
            out.push_str(line);
        }
    }
}

#[cfg(test)]
#[path = "yaml/tests.rs"]
mod tests;
