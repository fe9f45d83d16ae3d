//! Cuts a label selector into tokens, as upstream's lexer does.
//!
//! Input: the selector; output: tokens with their texts, the last one being the end. A run of
//! special characters yields the longest known operator; what follows starts a new token.

/// Kinds of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    End,
    Open,
    Close,
    Comma,
    Not,
    Equals,
    DoubleEquals,
    NotEquals,
    GreaterThan,
    LessThan,
    In,
    NotIn,
    Identifier,
}

/// A token with its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scanned<'a> {
    pub(super) token: Token,
    pub(super) text: &'a str,
}

impl Scanned<'_> {
    /// `in` and `notin` are operators only where an operator is due; elsewhere they are names.
    pub(super) fn as_value(&self) -> Token {
        match self.token {
            Token::In | Token::NotIn => Token::Identifier,
            other => other,
        }
    }
}

/// All tokens of `selector`; the last is [`Token::End`].
pub(super) fn scan(selector: &str) -> Vec<Scanned<'_>> {
    let mut tokens = Vec::new();
    let mut rest = selector;
    loop {
        // A zero byte ends the text, as upstream's reader cannot tell it from the end.
        rest = rest.trim_start_matches(is_space);
        if rest.is_empty() || rest.starts_with('\0') {
            tokens.push(Scanned { token: Token::End, text: "" });
            return tokens;
        }
        let scanned = if rest.starts_with(is_special) { special(rest) } else { identifier(rest) };
        rest = &rest[scanned.text.len()..];
        tokens.push(scanned);
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_special(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

fn identifier(rest: &str) -> Scanned<'_> {
    let end = rest.find(|c| is_special(c) || is_space(c) || c == '\0').unwrap_or(rest.len());
    let text = &rest[..end];
    let token = match text {
        "in" => Token::In,
        "notin" => Token::NotIn,
        _ => Token::Identifier,
    };
    Scanned { token, text }
}

fn special(rest: &str) -> Scanned<'_> {
    let bytes = rest.as_bytes();
    let (token, length) = match (bytes[0], bytes.get(1)) {
        (b'(', _) => (Token::Open, 1),
        (b')', _) => (Token::Close, 1),
        (b',', _) => (Token::Comma, 1),
        (b'>', _) => (Token::GreaterThan, 1),
        (b'<', _) => (Token::LessThan, 1),
        (b'!', Some(b'=')) => (Token::NotEquals, 2),
        (b'!', _) => (Token::Not, 1),
        (_, Some(b'=')) => (Token::DoubleEquals, 2),
        (_, _) => (Token::Equals, 1),
    };
    Scanned { token, text: &rest[..length] }
}
