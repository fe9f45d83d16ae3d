//! The formats of names, keys and values in Kubernetes, with upstream's explanations.
//!
//! Upstream: apimachinery `pkg/util/validation/validation.go`, `pkg/api/validate/content`.
//! Each function answers with everything that is wrong with the value: nothing means it is good.
//! Deliberately not here: where the value stands; callers attach the field's path.

/// What is wrong with a value, one sentence each.
pub type Problems = Vec<String>;

const LABEL_REGEX: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_REGEX: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const UNDERSCORE_SUBDOMAIN_REGEX: &str =
    r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*";
const KEY_REGEX: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_TEXT: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric \
     characters or '-', and must start and end with an alphanumeric character";
const SUBDOMAIN_TEXT: &str = "a lowercase RFC 1123 subdomain must consist of lower case \
     alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
const WILDCARD_TEXT: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid \
     DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end \
     with an alphanumeric character";
const UNDERSCORE_SUBDOMAIN_TEXT: &str = "a lowercase RFC 1123 subdomain must consist of lower case \
     alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character";
const KEY_TEXT: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start \
     and end with an alphanumeric character";
const KEY_EXAMPLES: &[&str] = &["MyName", "my.name", "123-abc"];

const LABEL_LENGTH: usize = 63;
const SUBDOMAIN_LENGTH: usize = 253;

/// RFC 1123 label: names of Namespaces, Services, containers, hosts.
#[must_use]
pub fn dns_label(value: &str) -> Problems {
    let mut problems = too_long(value, LABEL_LENGTH);
    if !is_dns_label(value) {
        problems.push(if is_dns_subdomain(value) {
            "must not contain dots".to_owned()
        } else {
            does_not_match(LABEL_TEXT, LABEL_REGEX, &["my-name", "123-abc"])
        });
    }
    problems
}

/// RFC 1123 subdomain: names of most objects.
#[must_use]
pub fn dns_subdomain(value: &str) -> Problems {
    let mut problems = too_long(value, SUBDOMAIN_LENGTH);
    if !is_dns_subdomain(value) {
        problems.push(does_not_match(SUBDOMAIN_TEXT, SUBDOMAIN_REGEX, &["example.com"]));
    }
    problems
}

/// `*.` and an RFC 1123 subdomain: hosts of Ingresses that stand for many.
#[must_use]
pub fn wildcard_subdomain(value: &str) -> Problems {
    let mut problems = too_long(value, SUBDOMAIN_LENGTH);
    if !value.strip_prefix("*.").is_some_and(is_dns_subdomain) {
        let regex = format!(r"\*\.{SUBDOMAIN_REGEX}");
        problems.push(does_not_match(WILDCARD_TEXT, &regex, &["*.example.com"]));
    }
    problems
}

/// The path of a URL, as far as it stands behind a domain in a name such as `acme.io/foo`.
#[must_use]
pub fn http_path(value: &str) -> Problems {
    const REGEX: &str = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";
    let good = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c);
    if !value.is_empty() && value.chars().all(good) {
        return Vec::new();
    }
    vec![format!("Invalid path (regex used for validation is '{REGEX}')")]
}

/// RFC 1123 subdomain whose labels may have underscores: DNS search domains.
#[must_use]
pub fn dns_subdomain_with_underscore(value: &str) -> Problems {
    let mut problems = too_long(value, SUBDOMAIN_LENGTH);
    let label_is_good = |label: &str| {
        let rest = label.strip_prefix('_').unwrap_or(label);
        framed(rest, |c| c.is_ascii_lowercase() || c.is_ascii_digit(), |c| c == '-' || c == '_')
    };
    if !value.split('.').all(label_is_good) {
        problems.push(does_not_match(
            UNDERSCORE_SUBDOMAIN_TEXT,
            UNDERSCORE_SUBDOMAIN_REGEX,
            &["example.com"],
        ));
    }
    problems
}

/// One segment of a URL path.
#[must_use]
pub fn path_segment(value: &str) -> Problems {
    if value == "." || value == ".." {
        return vec![format!("may not be '{value}'")];
    }
    let forbidden = ["/", "%"].into_iter().filter(|part| value.contains(part));
    forbidden.map(|part| format!("may not contain '{part}'")).collect()
}

/// `name` or `prefix/name`: keys of labels and annotations, finalizers, condition types.
#[must_use]
pub fn qualified_name(value: &str) -> Problems {
    let (prefix, name) = match value.split_once('/') {
        Some((_, name)) if name.contains('/') => {
            let text = does_not_match(KEY_TEXT, KEY_REGEX, KEY_EXAMPLES);
            return vec![format!(
                "a valid label key {text} with an optional DNS subdomain prefix and '/' \
                 (e.g. 'example.com/MyName')"
            )];
        }
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, value),
    };
    let mut problems = Vec::new();
    match prefix {
        Some("") => problems.push("prefix part must be non-empty".to_owned()),
        Some(prefix) => {
            problems.extend(dns_subdomain(prefix).into_iter().map(|p| format!("prefix part {p}")));
        }
        None => {}
    }
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_LENGTH {
        problems.push(format!("name part must be no more than {LABEL_LENGTH} bytes"));
    }
    if !is_key(name) {
        problems.push(format!("name part {}", does_not_match(KEY_TEXT, KEY_REGEX, KEY_EXAMPLES)));
    }
    problems
}

/// The value of a label.
#[must_use]
pub fn label_value(value: &str) -> Problems {
    let mut problems = Vec::new();
    if value.len() > LABEL_LENGTH {
        problems.push(format!("must be no more than {LABEL_LENGTH} bytes"));
    }
    if !value.is_empty() && !is_key(value) {
        problems.push(does_not_match(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', \
             '_' or '.', and must start and end with an alphanumeric character",
            &format!("({KEY_REGEX})?"),
            &["MyValue", "my_value", "12345"],
        ));
    }
    problems
}

/// A TCP, UDP or SCTP port.
#[must_use]
pub fn port_number(value: i32) -> Problems {
    in_range(value.into(), 1, 65_535)
}

/// The name of a port of a container (RFC 6335).
#[must_use]
pub fn port_name(value: &str) -> Problems {
    let mut problems = too_long(value, 15);
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if value.is_empty() || !value.chars().all(good) {
        problems.push(
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned(),
        );
    }
    if !value.contains(|c: char| c.is_ascii_lowercase()) {
        problems.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        problems.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        problems.push("must not begin or end with a hyphen".to_owned());
    }
    problems
}

/// A key of a ConfigMap or a Secret.
#[must_use]
pub fn config_key(value: &str) -> Problems {
    let mut problems = too_long(value, SUBDOMAIN_LENGTH);
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if value.is_empty() || !value.chars().all(good) {
        problems.push(does_not_match(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match value {
        "." => problems.push("must not be '.'".to_owned()),
        ".." => problems.push("must not be '..'".to_owned()),
        _ if value.starts_with("..") => problems.push("must not start with '..'".to_owned()),
        _ => {}
    }
    problems
}

/// The name of an environment variable (relaxed rule, the default since 1.32).
#[must_use]
pub fn env_name(value: &str) -> Problems {
    if value.is_empty() {
        return vec!["environment variable name must be non-empty".to_owned()];
    }
    if value.chars().all(|c| (' '..='~').contains(&c) && c != '=') {
        return Vec::new();
    }
    vec![
        "a valid environment variable name must consist only of printable ASCII characters \
         other than '='"
            .to_owned(),
    ]
}

/// The name of an HTTP header.
#[must_use]
pub fn http_header_name(value: &str) -> Problems {
    if !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        return Vec::new();
    }
    vec![does_not_match(
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        "[-A-Za-z0-9]+",
        &["X-Header-Name"],
    )]
}

/// A whole percentage such as `25%`.
#[must_use]
pub fn percent(value: &str) -> Problems {
    let digits = value.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Vec::new();
    }
    vec![does_not_match(
        "a valid percent string must be a numeric string followed by an ending '%'",
        "[0-9]+%",
        &["1%", "93%"],
    )]
}

/// A Unix user or group ID.
#[must_use]
pub fn unix_id(value: i64) -> Problems {
    in_range(value, 0, i32::MAX.into())
}

/// A number between two bounds, both of them allowed.
#[must_use]
pub fn in_range(value: i64, lowest: i64, highest: i64) -> Problems {
    if (lowest..=highest).contains(&value) {
        return Vec::new();
    }
    vec![format!("must be between {lowest} and {highest}, inclusive")]
}

/// Lets a `generateName` pass that ends with the dash before the generated part.
#[must_use]
pub(crate) fn mask_trailing_dash(prefix: &str) -> String {
    match prefix.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => {
            let mut masked = rest.to_owned();
            masked.pop();
            masked.push('a');
            masked
        }
        _ => prefix.to_owned(),
    }
}

fn is_dns_label(value: &str) -> bool {
    framed(value, |c| c.is_ascii_lowercase() || c.is_ascii_digit(), |c| c == '-')
}

fn is_dns_subdomain(value: &str) -> bool {
    value.split('.').all(is_dns_label)
}

fn is_key(value: &str) -> bool {
    framed(value, |c| c.is_ascii_alphanumeric(), |c| matches!(c, '-' | '_' | '.'))
}

/// Whether a word starts and ends with a character of one class, with both classes in between.
fn framed(word: &str, edge: impl Fn(char) -> bool, inner: impl Fn(char) -> bool) -> bool {
    word.starts_with(&edge) && word.ends_with(&edge) && word.chars().all(|c| edge(c) || inner(c))
}

fn too_long(value: &str, max: usize) -> Problems {
    let problem = || format!("must be no more than {max} characters");
    (value.len() > max).then(problem).into_iter().collect()
}

fn does_not_match(text: &str, regex: &str, examples: &[&str]) -> String {
    // The odd comma after the last example is upstream's.
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!("{text} (e.g. {}regex used for validation is '{regex}')", examples.join(" or "))
}

#[cfg(test)]
mod tests;
