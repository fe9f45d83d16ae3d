//! Field selectors against upstream's grammar and texts.

use proptest::prelude::*;

use super::Fields;

fn pod(field: &str) -> Option<&'static str> {
    match field {
        "metadata.name" => Some("web"),
        "status.phase" => Some("Running"),
        _ => None,
    }
}

#[test]
fn selectors_and_their_verdicts() {
    for (selector, selected) in [
        ("", true),
        (",", true),
        ("metadata.name=web", true),
        ("metadata.name==web", true),
        ("metadata.name=db", false),
        ("metadata.name!=db", true),
        ("metadata.name!=web", false),
        ("metadata.name=web,status.phase!=Pending", true),
        ("metadata.name=web,status.phase=Pending", false),
        ("spec.nodeName=", true),
        ("spec.nodeName!=", false),
        ("spec.nodeName=node-1", false),
    ] {
        let fields = Fields::parse(selector).expect(selector);
        assert_eq!(fields.matches(pod), selected, "{selector}");
    }
}

#[test]
fn escapes_in_values() {
    let fields = Fields::parse(r"a=x\,y\=z\\").unwrap();
    assert_eq!(fields.exact("a"), Some(r"x,y=z\"));
    assert_eq!(fields.to_string(), r"a=x\,y\=z\\");
}

#[test]
fn refusals_in_upstream_words() {
    for (selector, message) in [
        ("metadata.name", "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
        ("a=b,c", "invalid selector: 'a=b,c'; can't understand 'c'"),
        (r"a=\n", r"invalid field selector: invalid escape sequence: \n"),
        (r"a=\", r"invalid field selector: invalid escape sequence: \"),
        ("a=b=c", "invalid field selector: unescaped character in value: 61"),
    ] {
        assert_eq!(Fields::parse(selector).unwrap_err().to_string(), message, "{selector}");
    }
}

#[test]
fn only_equality_demands_a_value() {
    let fields = Fields::parse("a!=b,c=d").unwrap();
    assert_eq!(fields.exact("a"), None);
    assert_eq!(fields.exact("c"), Some("d"));
    assert!(!fields.is_empty());
    assert_eq!(fields.requirements().len(), 2);
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in ".{0,60}") {
        if let Ok(fields) = Fields::parse(&text) {
            prop_assert_eq!(Fields::parse(&fields.to_string()).unwrap(), fields);
        }
    }

    #[test]
    fn any_value_survives_printing(value in "[ab,=\\\\!]{0,12}") {
        let printed = format!("f={}", super::escape(&value));
        let fields = Fields::parse(&printed).unwrap();
        prop_assert_eq!(fields.exact("f"), Some(value.as_str()));
    }
}
