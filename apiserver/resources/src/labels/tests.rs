//! Selectors: what they match, how they print, which are malformed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use proptest::prelude::*;

use super::{
    Labels, format_labels, format_selector, is_empty, matches, validate_labels, validate_selector,
};
use crate::field::Path;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn expression(key: &str, operator: &str, values: &[&str]) -> LabelSelectorRequirement {
    LabelSelectorRequirement {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values: (!values.is_empty()).then(|| values.iter().map(|v| (*v).to_owned()).collect()),
    }
}

fn selector(pairs: &[(&str, &str)], expressions: Vec<LabelSelectorRequirement>) -> LabelSelector {
    LabelSelector { match_labels: Some(labels(pairs)), match_expressions: Some(expressions) }
}

#[test]
fn every_condition_must_hold() {
    let web = labels(&[("app", "web"), ("tier", "front")]);
    for (selector, expected) in [
        (selector(&[], vec![]), true),
        (selector(&[("app", "web")], vec![]), true),
        (selector(&[("app", "db")], vec![]), false),
        (selector(&[("app", "web"), ("x", "y")], vec![]), false),
        (selector(&[], vec![expression("tier", "In", &["front", "back"])]), true),
        (selector(&[], vec![expression("tier", "NotIn", &["front"])]), false),
        (selector(&[], vec![expression("none", "NotIn", &["front"])]), true),
        (selector(&[], vec![expression("tier", "Exists", &[])]), true),
        (selector(&[], vec![expression("tier", "DoesNotExist", &[])]), false),
        (selector(&[("app", "web")], vec![expression("none", "Exists", &[])]), false),
        (selector(&[], vec![expression("tier", "Like", &["f"])]), false),
    ] {
        assert_eq!(matches(&selector, &web), expected, "{selector:?}");
    }
}

#[test]
fn columns_show_selectors_as_kubectl_does() {
    let both = selector(
        &[("b", "2"), ("a", "1")],
        vec![
            expression("tier", "In", &["z", "y"]),
            expression("c", "NotIn", &["x"]),
            expression("aa", "Exists", &[]),
            expression("d", "DoesNotExist", &[]),
        ],
    );
    assert_eq!(format_selector(&both), "a=1,aa,b=2,c notin (x),!d,tier in (y,z)");
    assert_eq!(format_selector(&LabelSelector::default()), "<none>");
    assert_eq!(format_labels(Some(&labels(&[("app", "web"), ("b", "")]))), "app=web,b=");
    assert_eq!(format_labels(None), "<none>");
}

#[test]
fn malformed_selectors_are_explained() {
    let bad = selector(
        &[("app", "web server")],
        vec![
            expression("a", "In", &[]),
            expression("b", "Exists", &["x"]),
            expression("c", "Like", &["x"]),
        ],
    );
    let errors = validate_selector(&Path::new("spec").child("selector"), &bad);
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 4, "{texts:#?}");
    assert!(texts[0].starts_with(
        "spec.selector.matchLabels: Invalid value: \"web server\": a valid label must be"
    ));
    assert_eq!(
        texts[1..],
        [
            "spec.selector.matchExpressions[0].values: Required value: must be specified when \
             `operator` is 'In' or 'NotIn'",
            "spec.selector.matchExpressions[1].values: Forbidden: may not be specified when \
             `operator` is 'Exists' or 'DoesNotExist'",
            "spec.selector.matchExpressions[2].operator: Invalid value: \"Like\": not a valid \
             selector operator",
        ]
    );
    assert_eq!(validate_labels(&Path::new("labels"), Some(&labels(&[("a", "b")]))), []);
}

proptest! {
    #[test]
    fn labels_match_a_selector_made_of_them(
        pairs in proptest::collection::btree_map("[a-c]{1,2}", "[a-c]{0,2}", 0..4),
    ) {
        let selector = LabelSelector { match_labels: Some(pairs.clone()), match_expressions: None };
        prop_assert!(matches(&selector, &pairs));
        prop_assert_eq!(is_empty(&selector), pairs.is_empty());
    }
}
