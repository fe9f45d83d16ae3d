//! Label selectors against upstream's grammar, semantics and texts.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Labels, Operator};

fn labels() -> BTreeMap<String, String> {
    [("app", "web"), ("tier", "front"), ("size", "10"), ("empty", "")]
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

#[test]
fn selectors_and_their_verdicts() {
    for (selector, selected) in [
        ("", true),
        ("  ", true),
        ("app=web", true),
        ("app == web", true),
        ("app=db", false),
        ("app!=db", true),
        ("app!=web", false),
        ("missing!=x", true),
        ("missing=x", false),
        ("app in (web,db)", true),
        ("app in (db)", false),
        ("app notin (db)", true),
        ("app notin (web)", false),
        ("missing notin (x)", true),
        ("missing in (x)", false),
        ("app", true),
        ("!app", false),
        ("missing", false),
        ("!missing", true),
        ("! missing", true),
        ("size>9", true),
        ("size>10", false),
        ("size<11", true),
        ("app>1", false),
        ("missing<5", false),
        ("empty=", true),
        ("empty in ()", true),
        ("empty in (,x)", true),
        ("app=web,tier=front,!gone", true),
        ("app=web,tier=back", false),
        ("in=notin", false),
        ("app in (in,notin,web)", true),
        ("example.com/app!=x", true),
    ] {
        let parsed = Labels::parse(selector).unwrap_or_else(|e| panic!("{selector}: {e}"));
        assert_eq!(parsed.matches(&labels()), selected, "{selector}");
    }
}

#[test]
fn printed_sorted_by_key_and_value() {
    for (selector, printed) in [
        ("x in (foo,,baz),y,z notin ()", "x in (,baz,foo),y,z notin ()"),
        ("b=1,a==2", "a==2,b=1"),
        ("!a,  b != c", "!a,b!=c"),
        ("n>1,m<2", "m<2,n>1"),
        ("a in (x,x)", "a in (x)"),
        ("a,", ""),
    ] {
        let result = Labels::parse(selector).map(|l| l.to_string()).unwrap_or_default();
        assert_eq!(result, printed, "{selector}");
    }
}

#[test]
fn refusals_in_upstream_words() {
    let name = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    let value = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
    for (selector, message) in [
        ("a,", "found '', expected: identifier after ','".to_owned()),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt".into()),
        (",a", "found ',', expected: !, identifier, or 'end of string'".into()),
        ("=a", "found '=', expected: !, identifier, or 'end of string'".into()),
        ("a=b c", "found 'c', expected: ',' or 'end of string'".into()),
        ("!a=b", "found '=', expected: ',' or 'end of string'".into()),
        ("a=,b=)", "unable to parse requirement: found ')', expected: identifier".into()),
        ("a in b", "unable to parse requirement: found 'b' expected: '('".into()),
        ("a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'".into()),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'".into()),
        ("a in (=)", "unable to parse requirement: found '=', expected: ',', ')' or identifier".into()),
        ("!=a", "found '!=', expected: !, identifier, or 'end of string'".into()),
        ("-a=b", format!("unable to parse requirement: <nil>: Invalid value: \"-a\": {name}")),
        ("a=-b", format!("unable to parse requirement: values[0][a]: Invalid value: \"-b\": {value}")),
        ("a>b", "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be an integer".into()),
        ("/a", "unable to parse requirement: <nil>: Invalid value: \"/a\": prefix part must be non-empty".into()),
        ("a/", format!("unable to parse requirement: <nil>: Invalid value: \"a/\": name part must be non-empty; {name}")),
    ] {
        assert_eq!(Labels::parse(selector).unwrap_err().to_string(), message, "{selector}");
    }
}

#[test]
fn too_long_names_and_values() {
    let long = "a".repeat(64);
    let key = Labels::parse(&long).unwrap_err().to_string();
    assert!(key.ends_with("name part must be no more than 63 bytes"), "{key}");
    let value = Labels::parse(&format!("a={long}")).unwrap_err().to_string();
    assert!(value.ends_with("must be no more than 63 bytes"), "{value}");
    let prefix = Labels::parse(&format!("{}/x", "a.".repeat(127))).unwrap_err().to_string();
    assert!(prefix.contains("prefix part must be no more than 253 bytes"), "{prefix}");
}

#[test]
fn requirements_tell_their_parts() {
    let parsed = Labels::parse("b notin (y,x),a").unwrap();
    let [a, b] = parsed.requirements() else { panic!("{parsed:?}") };
    assert_eq!((a.key.as_str(), a.operator, a.values.len()), ("a", Operator::Exists, 0));
    assert_eq!(
        (b.operator, b.values.as_slice()),
        (Operator::NotIn, ["x".to_owned(), "y".into()].as_slice())
    );
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in "\\PC{0,60}|[ab !=(),<>\t]{0,40}|(in|notin|a|,|\\(|\\)| )*") {
        if let Ok(parsed) = Labels::parse(&text) {
            prop_assert_eq!(Labels::parse(&parsed.to_string()).unwrap(), parsed);
        }
    }

    #[test]
    fn a_requirement_and_its_opposite_never_agree(
        key in "[ab]", value in "[xy]", label in proptest::option::of("[xy]")
    ) {
        let labels: BTreeMap<_, _> = label.into_iter().map(|v| ("a".to_owned(), v)).collect();
        for (yes, no) in [
            (format!("{key}={value}"), format!("{key}!={value}")),
            (format!("{key} in ({value})"), format!("{key} notin ({value})")),
            (key.clone(), format!("!{key}")),
        ] {
            let verdict = |s: &str| Labels::parse(s).unwrap().matches(&labels);
            prop_assert_ne!(verdict(&yes), verdict(&no));
        }
    }
}
