//! Label selectors (upstream: apimachinery `pkg/labels/selector.go`).
//!
//! Input: `a=b,c!=d,x in (a,b),!y,z,n>1`; output: requirements, verdicts, upstream's texts. The
//! order of requirements is by key, as upstream prints them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::quote::quote;

mod lexer;
mod syntax;

use lexer::{Scanned, Token, scan};

/// How a requirement relates its key to its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `key in (…)`
    In,
    /// `key notin (…)`; also holds where the key is missing
    NotIn,
    /// `key=value`
    Equals,
    /// `key==value`
    DoubleEquals,
    /// `key!=value`; also holds where the key is missing
    NotEquals,
    /// `key`
    Exists,
    /// `!key`
    DoesNotExist,
    /// `key>number`
    GreaterThan,
    /// `key<number`
    LessThan,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelRequirement {
    /// The label's key.
    pub key: String,
    /// The relation.
    pub operator: Operator,
    /// Sorted, each once; one for the comparisons, none for (non-)existence.
    pub values: Vec<String>,
}

/// A parsed label selector; all requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Vec<LabelRequirement>);

/// Why a text is not a label selector; `Display` is upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelSelectorError {
    /// The text goes on where a requirement should end.
    #[error("found '{0}', expected: ',' or 'end of string'")]
    ExpectedComma(String),
    /// A comma without a requirement after it.
    #[error("found '{0}', expected: identifier after ','")]
    ExpectedAfterComma(String),
    /// The text does not start like a requirement.
    #[error("found '{0}', expected: !, identifier, or 'end of string'")]
    ExpectedRequirement(String),
    /// A requirement that breaks off or whose key or value is malformed.
    #[error("unable to parse requirement: {0}")]
    Requirement(String),
}

impl Labels {
    /// Reads a selector; the empty text selects everything.
    ///
    /// # Errors
    /// Upstream's texts, see [`LabelSelectorError`].
    pub fn parse(selector: &str) -> Result<Self, LabelSelectorError> {
        let mut requirements = Parser { tokens: scan(selector), position: 0 }.requirements()?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self(requirements))
    }

    /// Whether everything is selected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The requirements, sorted by key.
    #[must_use]
    pub fn requirements(&self) -> &[LabelRequirement] {
        &self.0
    }

    /// Whether an object with these labels is selected.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_with(|key| labels.get(key).map(String::as_str))
    }

    /// Whether an object whose labels `get` looks up is selected.
    pub fn matches_with<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|requirement| requirement.matches(get(&requirement.key)))
    }
}

impl LabelRequirement {
    fn matches(&self, label: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|v| v == value);
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => label.is_some_and(listed),
            Operator::NotIn | Operator::NotEquals => !label.is_some_and(listed),
            Operator::Exists => label.is_some(),
            Operator::DoesNotExist => label.is_none(),
            Operator::GreaterThan => self.compare(label, |label, bound| label > bound),
            Operator::LessThan => self.compare(label, |label, bound| label < bound),
        }
    }

    /// Labels that are no numbers are on neither side of a bound.
    fn compare(&self, label: Option<&str>, holds: fn(i64, i64) -> bool) -> bool {
        let number = |text: &str| text.parse::<i64>().ok();
        match (label.and_then(number), self.values.first().and_then(|v| number(v))) {
            (Some(label), Some(bound)) => holds(label, bound),
            _ => false,
        }
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for LabelRequirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// What upstream lists where an operator is missing.
const BINARY_OPERATORS: &str = "in, notin, =, ==, !=, gt, lt";

struct Parser<'a> {
    tokens: Vec<Scanned<'a>>,
    position: usize,
}

/// Errors inside a requirement are texts; [`LabelSelectorError::Requirement`] wraps them.
type InRequirement<T> = Result<T, String>;

impl<'a> Parser<'a> {
    fn requirements(&mut self) -> Result<Vec<LabelRequirement>, LabelSelectorError> {
        let mut requirements = Vec::new();
        loop {
            let next = self.peek();
            match next.as_value() {
                Token::Identifier | Token::Not => {}
                Token::End => return Ok(requirements),
                _ => return Err(LabelSelectorError::ExpectedRequirement(next.text.into())),
            }
            requirements.push(self.requirement().map_err(LabelSelectorError::Requirement)?);
            let after = self.take();
            match after.token {
                Token::End => return Ok(requirements),
                Token::Comma => {
                    let next = self.peek();
                    if !matches!(next.as_value(), Token::Identifier | Token::Not) {
                        return Err(LabelSelectorError::ExpectedAfterComma(next.text.into()));
                    }
                }
                _ => return Err(LabelSelectorError::ExpectedComma(after.text.into())),
            }
        }
    }

    /// The end token stays where it is, so looking beyond it is safe.
    fn peek(&self) -> Scanned<'a> {
        self.tokens[self.position.min(self.tokens.len() - 1)]
    }

    fn take(&mut self) -> Scanned<'a> {
        let token = self.peek();
        self.position += 1;
        token
    }

    fn requirement(&mut self) -> InRequirement<LabelRequirement> {
        let negated = self.peek().token == Token::Not;
        if negated {
            self.take();
        }
        let key = self.take();
        if key.as_value() != Token::Identifier {
            return Err(format!("found '{}', expected: identifier", key.text));
        }
        syntax::key(key.text)
            .map_err(|detail| format!("<nil>: Invalid value: {}: {detail}", quote(key.text)))?;
        let key = key.text.to_owned();
        if negated {
            return Ok(LabelRequirement { key, operator: Operator::DoesNotExist, values: vec![] });
        }
        if matches!(self.peek().token, Token::End | Token::Comma) {
            return Ok(LabelRequirement { key, operator: Operator::Exists, values: vec![] });
        }
        let operator = self.operator()?;
        let values: Vec<String> = match operator {
            Operator::In | Operator::NotIn => self.value_set()?.into_iter().collect(),
            _ => vec![self.exact_value()?],
        };
        check_values(&key, operator, &values)?;
        Ok(LabelRequirement { key, operator, values })
    }

    fn operator(&mut self) -> InRequirement<Operator> {
        let token = self.take();
        Ok(match token.token {
            Token::In => Operator::In,
            Token::NotIn => Operator::NotIn,
            Token::Equals => Operator::Equals,
            Token::DoubleEquals => Operator::DoubleEquals,
            Token::NotEquals => Operator::NotEquals,
            Token::GreaterThan => Operator::GreaterThan,
            Token::LessThan => Operator::LessThan,
            _ => return Err(format!("found '{}', expected: {BINARY_OPERATORS}", token.text)),
        })
    }

    /// `(a,b)`; an absent value between commas or brackets is the empty text.
    fn value_set(&mut self) -> InRequirement<BTreeSet<String>> {
        let open = self.take();
        if open.token != Token::Open {
            return Err(format!("found '{}' expected: '('", open.text));
        }
        let first = self.peek();
        match first.as_value() {
            Token::Identifier | Token::Comma => {
                let values = self.listed_values()?;
                if self.take().token != Token::Close {
                    return Err(format!("found '{}', expected: ')'", first.text));
                }
                Ok(values)
            }
            Token::Close => {
                self.take();
                Ok(BTreeSet::from([String::new()]))
            }
            _ => Err(format!("found '{}', expected: ',', ')' or identifier", first.text)),
        }
    }

    fn listed_values(&mut self) -> InRequirement<BTreeSet<String>> {
        let mut values = BTreeSet::new();
        loop {
            let token = self.take();
            match token.as_value() {
                Token::Identifier => {
                    values.insert(token.text.to_owned());
                    let next = self.peek();
                    match next.token {
                        Token::Comma => {}
                        Token::Close => return Ok(values),
                        _ => return Err(format!("found '{}', expected: ',' or ')'", next.text)),
                    }
                }
                Token::Comma => {
                    let next = self.peek().token;
                    if values.is_empty() || matches!(next, Token::Close | Token::Comma) {
                        values.insert(String::new());
                    }
                    if next == Token::Close {
                        return Ok(values);
                    }
                }
                _ => return Err(format!("found '{}', expected: ',', or identifier", token.text)),
            }
        }
    }

    fn exact_value(&mut self) -> InRequirement<String> {
        if matches!(self.peek().token, Token::End | Token::Comma) {
            return Ok(String::new());
        }
        let token = self.take();
        if token.as_value() == Token::Identifier {
            return Ok(token.text.to_owned());
        }
        Err(format!("found '{}', expected: identifier", token.text))
    }
}

fn check_values(key: &str, operator: Operator, values: &[String]) -> InRequirement<()> {
    let mut problems = Vec::new();
    if matches!(operator, Operator::GreaterThan | Operator::LessThan) {
        for (i, value) in values.iter().enumerate().filter(|(_, v)| v.parse::<i64>().is_err()) {
            problems.push(format!(
                "values[{i}]: Invalid value: {}: for 'Gt', 'Lt' operators, the value must be an integer",
                quote(value)
            ));
        }
    }
    for (i, value) in values.iter().enumerate() {
        if let Err(detail) = syntax::value(value) {
            problems.push(format!("values[{i}][{key}]: Invalid value: {}: {detail}", quote(value)));
        }
    }
    match problems.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        several => Err(format!("[{}]", several.join(", "))),
    }
}

#[cfg(test)]
mod tests;
