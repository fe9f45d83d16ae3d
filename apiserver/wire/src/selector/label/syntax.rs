//! What a label's key and value may look like (upstream: apimachinery
//! `pkg/api/validate/content/kube.go` and `dns.go`); refusals carry upstream's texts.

const NAME_FORMAT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const NAME_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const SUBDOMAIN_FORMAT: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
const NAME_LIMIT: usize = 63;
const SUBDOMAIN_LIMIT: usize = 253;

/// Checks `[subdomain/]name`.
pub(super) fn key(key: &str) -> Result<(), String> {
    let name_rule = format!(
        "{NAME_RULE} (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{NAME_FORMAT}')"
    );
    let parts: Vec<&str> = key.split('/').collect();
    let (prefix, name) = match parts[..] {
        [name] => (None, name),
        [prefix, name] => (Some(prefix), name),
        _ => {
            return Err(format!(
                "a valid label key {name_rule} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ));
        }
    };
    let mut problems = prefix.map(prefix_problems).unwrap_or_default();
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > NAME_LIMIT {
        problems.push(format!("name part must be no more than {NAME_LIMIT} bytes"));
    }
    if !is_name(name) {
        problems.push(format!("name part {name_rule}"));
    }
    joined(&problems)
}

/// Checks a value: empty, or like a name.
pub(super) fn value(value: &str) -> Result<(), String> {
    let mut problems = Vec::new();
    if value.len() > NAME_LIMIT {
        problems.push(format!("must be no more than {NAME_LIMIT} bytes"));
    }
    if !value.is_empty() && !is_name(value) {
        problems.push(format!(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '({NAME_FORMAT})?')"
        ));
    }
    joined(&problems)
}

fn joined(problems: &[String]) -> Result<(), String> {
    if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
}

fn prefix_problems(prefix: &str) -> Vec<String> {
    if prefix.is_empty() {
        return vec!["prefix part must be non-empty".to_owned()];
    }
    let mut problems = Vec::new();
    if prefix.len() > SUBDOMAIN_LIMIT {
        problems.push(format!("prefix part must be no more than {SUBDOMAIN_LIMIT} bytes"));
    }
    if !prefix.split('.').all(is_dns_label) {
        problems.push(format!(
            "prefix part {SUBDOMAIN_RULE} (e.g. 'example.com', regex used for validation is '{SUBDOMAIN_FORMAT}')"
        ));
    }
    problems
}

fn is_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    framed_by(name, |b| b.is_ascii_alphanumeric(), inner)
}

fn is_dns_label(label: &str) -> bool {
    let outer = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    framed_by(label, outer, |b| outer(b) || b == b'-')
}

/// Whether `text` is non-empty, starts and ends with `outer` and has only `inner` between.
fn framed_by(text: &str, outer: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(&first), Some(&last)) if outer(first) && outer(last))
        && bytes.iter().all(|&b| inner(b))
}
