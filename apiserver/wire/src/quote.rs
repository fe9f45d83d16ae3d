//! Strings as Go's `%q` prints them: upstream's messages quote values and paths this way.
//!
//! Input: any text; output: the quoted text. Not here: unquoting, which nobody needs.

use std::fmt::Write;

/// `text` in double quotes with Go's escapes (upstream: `strconv.Quote`).
#[must_use]
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        push_escaped(&mut out, c);
    }
    out.push('"');
    out
}

fn push_escaped(out: &mut String, c: char) {
    let short = match c {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\u{7}' => "\\a",
        '\u{8}' => "\\b",
        '\u{c}' => "\\f",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        '\u{b}' => "\\v",
        c if !c.is_control() => return out.push(c),
        c => {
            let code = u32::from(c);
            // Go writes ASCII control characters with two digits and all others with four.
            let written = if code < 0x80 {
                write!(out, "\\x{code:02x}")
            } else {
                write!(out, "\\u{code:04x}")
            };
            return written.expect("writing to a String cannot fail");
        }
    };
    out.push_str(short);
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn escapes_are_those_of_go() {
        for (text, quoted) in [
            ("spec.bogus", r#""spec.bogus""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("tab\there\n", r#""tab\there\n""#),
            ("\u{0}\u{1b}", r#""\x00\x1b""#),
            ("\u{85}", r#""\u0085""#),
            ("한글", "\"한글\""),
        ] {
            assert_eq!(quote(text), quoted);
        }
    }
}
