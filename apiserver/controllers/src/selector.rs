//! Label selectors (upstream: `apimachinery/pkg/labels`, `metav1.LabelSelectorAsSelector`).
//!
//! Pure. Input: a selector and labels. Output: whether they match.
//! Deliberately not here: parsing of selector strings (the API server's work).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// Labels as objects carry them.
pub(crate) type Labels = BTreeMap<String, String>;

/// Whether `labels` satisfy `selector`; an empty selector matches everything.
pub(crate) fn matches(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    selector.match_labels.iter().flatten().all(|(key, value)| get(labels, key) == Some(value))
        && selector.match_expressions.iter().flatten().all(|r| requirement(r, labels))
}

/// Whether `labels` contain every pair of `selector` (a Service's selector, a `nodeSelector`).
pub(crate) fn contains(labels: Option<&Labels>, selector: &Labels) -> bool {
    selector.iter().all(|(key, value)| get(labels, key) == Some(value))
}

fn get<'a>(labels: Option<&'a Labels>, key: &str) -> Option<&'a String> {
    labels?.get(key)
}

fn requirement(requirement: &LabelSelectorRequirement, labels: Option<&Labels>) -> bool {
    let value = get(labels, &requirement.key);
    let listed =
        |value: &String| requirement.values.iter().flatten().any(|allowed| allowed == value);
    match requirement.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn expression(key: &str, operator: &str, values: &[&str]) -> LabelSelector {
        LabelSelector {
            match_labels: None,
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: key.to_owned(),
                operator: operator.to_owned(),
                values: Some(values.iter().map(|v| (*v).to_owned()).collect()),
            }]),
        }
    }

    #[test]
    fn expressions_follow_the_four_operators() {
        let web = labels(&[("app", "web")]);
        let cases = [
            (expression("app", "In", &["web", "api"]), true, false),
            (expression("app", "NotIn", &["web"]), false, true),
            (expression("app", "Exists", &[]), true, false),
            (expression("app", "DoesNotExist", &[]), false, true),
            (expression("app", "Bogus", &[]), false, false),
        ];
        for (selector, with, without) in cases {
            assert_eq!(matches(&selector, Some(&web)), with, "{selector:?} on {web:?}");
            assert_eq!(matches(&selector, None), without, "{selector:?} on no labels");
        }
    }

    #[test]
    fn match_labels_and_expressions_must_both_hold() {
        let mut selector = expression("tier", "Exists", &[]);
        selector.match_labels = Some(labels(&[("app", "web")]));
        assert!(matches(&selector, Some(&labels(&[("app", "web"), ("tier", "x")]))));
        assert!(!matches(&selector, Some(&labels(&[("app", "web")]))));
        assert!(!matches(&selector, Some(&labels(&[("tier", "x")]))));
    }
}
