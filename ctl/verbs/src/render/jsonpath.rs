//! kubectl's JSONPath dialect (client-go `util/jsonpath`): templates such as
//! `{range .items[*]}{.metadata.name}{"\n"}{end}`.
//!
//! Owns: parsing and evaluation. Pure. Invariant: a missing key yields nothing, as kubectl's
//! printers ask for. It is not RFC 9535: braces, `range`, relaxed quoting and the text around the
//! actions are kubectl's own.

use serde_json::Value;

use crate::error::Error;

/// A parsed template.
#[derive(Debug, PartialEq)]
pub(crate) struct Template {
    nodes: Vec<Node>,
}

#[derive(Debug, PartialEq)]
enum Node {
    Text(String),
    Path(Vec<Step>),
    Range(Vec<Step>, Vec<Node>),
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// `$`: start again from the whole input.
    Root,
    Field(String),
    /// `*`, `[*]`
    Wildcard,
    /// `..`
    Recursive,
    /// `[from:to:by]`; a plain index has `to = from + 1`.
    Slice {
        from: Option<i64>,
        to: Option<i64>,
        by: i64,
        index: bool,
    },
    /// `[?(left op right)]`
    Filter {
        left: Operand,
        op: Op,
        right: Operand,
    },
    /// `['a','b']`, `[0,2]`
    Union(Vec<Step>),
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(Vec<Step>),
    Literal(Value),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Op {
    Exists,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Template {
    /// Parses a template with `{…}` actions.
    pub(crate) fn parse(text: &str) -> Result<Template, Error> {
        let mut parser = Parser { chars: text.chars().collect(), at: 0 };
        let (nodes, ended) = parser.template(false).map_err(|e| refuse(text, &e))?;
        if ended {
            return Err(refuse(text, "not in range, nothing to end"));
        }
        Ok(Template { nodes })
    }

    /// Parses one path, with or without braces and leading dot, as `--sort-by` and custom columns
    /// take it.
    pub(crate) fn relaxed(text: &str) -> Result<Template, Error> {
        let inner = text.trim().trim_start_matches('{').trim_end_matches('}');
        let inner = inner.strip_prefix('.').unwrap_or(inner);
        if inner.is_empty() {
            return Err(Error::refused(format!("unexpected path string: {text:?}")));
        }
        let dot = if inner.starts_with('[') { "" } else { "." };
        Template::parse(&format!("{{{dot}{inner}}}"))
    }

    /// The template's text for an object.
    pub(crate) fn render(&self, root: &Value) -> String {
        let mut out = String::new();
        print(&self.nodes, root, root, &mut out);
        out
    }

    /// All values that the template's paths find.
    pub(crate) fn find<'a>(&self, root: &'a Value) -> Vec<&'a Value> {
        let path = |node: &Node| match node {
            Node::Path(steps) => walk(steps, root, root),
            _ => Vec::new(),
        };
        self.nodes.iter().flat_map(path).collect()
    }
}

fn refuse(text: &str, why: &str) -> Error {
    Error::refused(format!("error parsing jsonpath {text}, {why}"))
}

/// A value as kubectl prints it: strings bare, collections as JSON.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        Value::Null => "<nil>".to_owned(),
        other => other.to_string(),
    }
}

fn print(nodes: &[Node], root: &Value, current: &Value, out: &mut String) {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Path(steps) => {
                let found: Vec<String> =
                    walk(steps, root, current).into_iter().map(plain).collect();
                out.push_str(&found.join(" "));
            }
            Node::Range(steps, body) => {
                for item in walk(steps, root, current) {
                    print(body, root, item, out);
                }
            }
        }
    }
}

fn walk<'a>(steps: &[Step], root: &'a Value, current: &'a Value) -> Vec<&'a Value> {
    let mut found = vec![current];
    for step in steps {
        found = found.into_iter().flat_map(|v| advance(step, root, v)).collect();
    }
    found
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    }
}

fn advance<'a>(step: &Step, root: &'a Value, value: &'a Value) -> Vec<&'a Value> {
    match step {
        Step::Root => vec![root],
        Step::Field(name) => value.get(name).into_iter().collect(),
        Step::Wildcard => children(value),
        Step::Recursive => {
            let mut all = vec![value];
            let mut next = 0;
            while let Some(v) = all.get(next).copied() {
                all.extend(children(v));
                next += 1;
            }
            all
        }
        Step::Slice { from, to, by, index } => slice(value, *from, *to, *by, *index),
        Step::Filter { left, op, right } => {
            let Value::Array(items) = value else { return Vec::new() };
            items.iter().filter(|item| holds(left, *op, right, root, item)).collect()
        }
        Step::Union(steps) => steps.iter().flat_map(|s| advance(s, root, value)).collect(),
    }
}

fn slice(value: &Value, from: Option<i64>, to: Option<i64>, by: i64, index: bool) -> Vec<&Value> {
    let Value::Array(items) = value else { return Vec::new() };
    let len = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let absolute = |i: i64| if i < 0 { i + len } else { i };
    let start = from.map_or(0, absolute);
    let end = if index { start + 1 } else { to.map_or(len, absolute).min(len) };
    if start < 0 || by <= 0 {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut at = start;
    while at < end {
        found.extend(usize::try_from(at).ok().and_then(|i| items.get(i)));
        at += by;
    }
    found
}

fn holds(left: &Operand, op: Op, right: &Operand, root: &Value, item: &Value) -> bool {
    let value = |operand: &Operand| match operand {
        Operand::Literal(v) => Some(v.clone()),
        Operand::Path(steps) => walk(steps, root, item).first().map(|v| (*v).clone()),
    };
    let Some(left) = value(left) else { return false };
    if op == Op::Exists {
        return true;
    }
    let Some(right) = value(right) else { return false };
    let order = match (left.as_f64(), right.as_f64()) {
        (Some(a), Some(b)) => a.partial_cmp(&b),
        _ => match (&left, &right) {
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            _ => None,
        },
    };
    let Some(order) = order else { return false };
    match op {
        Op::Exists => true,
        Op::Eq => order.is_eq(),
        Op::Ne => order.is_ne(),
        Op::Lt => order.is_lt(),
        Op::Le => order.is_le(),
        Op::Gt => order.is_gt(),
        Op::Ge => order.is_ge(),
    }
}

struct Parser {
    chars: Vec<char>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn eat(&mut self, c: char) -> bool {
        let hit = self.peek() == Some(c);
        self.at += usize::from(hit);
        hit
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let hit = self.chars[self.at..].iter().copied().take(word.len()).eq(word.chars());
        self.at += if hit { word.len() } else { 0 };
        hit
    }

    fn spaces(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    /// Nodes up to the end of the text, or up to `{end}`; says which of the two.
    fn template(&mut self, in_range: bool) -> Result<(Vec<Node>, bool), String> {
        let mut nodes = Vec::new();
        while let Some(c) = self.peek() {
            if c != '{' {
                let start = self.at;
                while self.peek().is_some_and(|c| c != '{') {
                    self.at += 1;
                }
                nodes.push(Node::Text(self.chars[start..self.at].iter().collect()));
                continue;
            }
            self.at += 1;
            loop {
                self.spaces();
                if self.eat('}') {
                    break;
                }
                if self.eat_word("end") {
                    self.spaces();
                    return if self.eat('}') { Ok((nodes, true)) } else { Err(unclosed()) };
                }
                nodes.push(self.action()?);
            }
        }
        if in_range {
            Err("unterminated range, missing {end}".to_owned())
        } else {
            Ok((nodes, false))
        }
    }

    fn action(&mut self) -> Result<Node, String> {
        if self.eat_word("range") {
            self.spaces();
            let steps = self.path()?;
            self.spaces();
            if !self.eat('}') {
                return Err(unclosed());
            }
            let (body, _) = self.template(true)?;
            // `{end}` closed its own brace; give the caller's loop one to close.
            self.at -= 1;
            return Ok(Node::Range(steps, body));
        }
        match self.peek() {
            None => Err(unclosed()),
            Some(quote @ ('"' | '\'')) => Ok(Node::Text(self.quoted(quote)?)),
            Some(_) => {
                let start = self.at;
                let steps = self.path()?;
                if self.at == start {
                    let c = self.peek().map(String::from).unwrap_or_default();
                    return Err(format!("unrecognized character in action: {c:?}"));
                }
                Ok(Node::Path(steps))
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, String> {
        self.at += 1;
        let mut text = String::new();
        while let Some(c) = self.peek() {
            self.at += 1;
            match c {
                c if c == quote => return Ok(text),
                '\\' => {
                    let escaped = self.peek().ok_or_else(unclosed)?;
                    self.at += 1;
                    text.push(match escaped {
                        'n' => '\n',
                        't' => '\t',
                        'r' => '\r',
                        other => other,
                    });
                }
                c => text.push(c),
            }
        }
        Err("unterminated quoted string".to_owned())
    }

    fn path(&mut self) -> Result<Vec<Step>, String> {
        let mut steps = Vec::new();
        let mut first = true;
        loop {
            match self.peek() {
                Some('$') => {
                    self.at += 1;
                    steps.push(Step::Root);
                }
                Some('@') => self.at += 1,
                Some('.') => {
                    self.at += 1;
                    if self.eat('.') {
                        steps.push(Step::Recursive);
                    }
                    if self.eat('*') {
                        steps.push(Step::Wildcard);
                    } else if self.peek().is_some_and(|c| !matches!(c, '[' | '}' | ')' | ' ')) {
                        steps.push(Step::Field(self.name()?));
                    }
                }
                Some('[') => {
                    self.at += 1;
                    steps.push(self.bracket()?);
                }
                Some('*') => {
                    self.at += 1;
                    steps.push(Step::Wildcard);
                }
                Some(c) if first && (c.is_alphanumeric() || c == '_') => {
                    return Err(format!("unrecognized identifier {}", self.name()?));
                }
                _ => return Ok(steps),
            }
            first = false;
        }
    }

    fn name(&mut self) -> Result<String, String> {
        let mut name = String::new();
        while let Some(c) = self.peek() {
            match c {
                '\\' => {
                    self.at += 1;
                    name.push(self.peek().ok_or_else(unclosed)?);
                }
                '.' | '[' | ']' | '}' | '{' | '(' | ')' | ' ' | '\t' | ',' | '=' | '!' | '<'
                | '>' | '@' | '$' | '\n' => break,
                c => name.push(c),
            }
            self.at += 1;
        }
        if name.is_empty() {
            return Err("invalid field name".to_owned());
        }
        Ok(name)
    }

    /// What stands between `[` and `]`.
    fn bracket(&mut self) -> Result<Step, String> {
        self.spaces();
        if self.eat('?') {
            return self.filter();
        }
        let mut steps = Vec::new();
        loop {
            self.spaces();
            steps.push(match self.peek() {
                Some(quote @ ('"' | '\'')) => Step::Field(self.quoted(quote)?),
                Some('*') => {
                    self.at += 1;
                    Step::Wildcard
                }
                _ => self.range_of_indices()?,
            });
            self.spaces();
            if self.eat(']') {
                break;
            }
            if !self.eat(',') {
                return Err("unterminated array".to_owned());
            }
        }
        Ok(if steps.len() == 1 { steps.remove(0) } else { Step::Union(steps) })
    }

    fn range_of_indices(&mut self) -> Result<Step, String> {
        let from = self.integer();
        if !self.eat(':') {
            let from = from.ok_or("invalid array index")?;
            return Ok(Step::Slice { from: Some(from), to: None, by: 1, index: true });
        }
        let to = self.integer();
        let by = if self.eat(':') { self.integer().unwrap_or(1) } else { 1 };
        Ok(Step::Slice { from, to, by, index: false })
    }

    fn integer(&mut self) -> Option<i64> {
        let start = self.at;
        self.eat('-');
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        let text: String = self.chars[start..self.at].iter().collect();
        let number = text.parse().ok();
        if number.is_none() {
            self.at = start;
        }
        number
    }

    fn filter(&mut self) -> Result<Step, String> {
        if !self.eat('(') {
            return Err("unterminated filter".to_owned());
        }
        let left = self.operand()?;
        self.spaces();
        let ops = [
            ("==", Op::Eq),
            ("!=", Op::Ne),
            ("<=", Op::Le),
            (">=", Op::Ge),
            ("<", Op::Lt),
            (">", Op::Gt),
        ];
        let op = ops.into_iter().find(|(text, _)| self.eat_word(text)).map(|(_, op)| op);
        let (op, right) = match op {
            None => (Op::Exists, Operand::Literal(Value::Null)),
            Some(op) => (op, self.operand()?),
        };
        self.spaces();
        if self.eat(')') && self.eat(']') {
            Ok(Step::Filter { left, op, right })
        } else {
            Err("unterminated filter".to_owned())
        }
    }

    fn operand(&mut self) -> Result<Operand, String> {
        self.spaces();
        match self.peek() {
            Some(quote @ ('"' | '\'')) => Ok(Operand::Literal(Value::String(self.quoted(quote)?))),
            Some('@' | '.' | '$') => Ok(Operand::Path(self.path()?)),
            _ => {
                let start = self.at;
                while self.peek().is_some_and(|c| !matches!(c, ')' | ' ' | '=' | '!' | '<' | '>')) {
                    self.at += 1;
                }
                let text: String = self.chars[start..self.at].iter().collect();
                serde_json::from_str(&text)
                    .map(Operand::Literal)
                    .map_err(|_| format!("unrecognized value in filter: {text:?}"))
            }
        }
    }
}

fn unclosed() -> String {
    "unclosed action".to_owned()
}

#[cfg(test)]
#[path = "jsonpath/tests.rs"]
mod tests;
