//! What kubectl prints for its own templates.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn pods() -> Value {
    json!({"kind": "List", "items": [
        {"metadata": {"name": "a", "labels": {"app.io/x": "1"}},
         "status": {"conditions": [{"type": "Ready", "status": "True"}]}, "n": 1},
        {"metadata": {"name": "b"},
         "status": {"conditions": [{"type": "Ready", "status": "False"}]}, "n": 2}]})
}

#[test]
fn kubectl_s_templates_print_what_kubectl_prints() {
    for (template, text) in [
        ("{.items[*].metadata.name}", "a b"),
        ("{.items[0].metadata.name}", "a"),
        ("{.items[-1].metadata.name}", "b"),
        ("{.items[0:1].n}", "1"),
        ("{range .items[*]}{.metadata.name}{\"\\t\"}{.n}{\"\\n\"}{end}", "a\t1\nb\t2\n"),
        ("{range .items[*]}[{.n}]{end}!", "[1][2]!"),
        ("{.items[?(@.n==2)].metadata.name}", "b"),
        ("{.items[?(@.n > 1)].metadata.name}", "b"),
        (r#"{.items[*].status.conditions[?(@.type=="Ready")].status}"#, "True False"),
        ("{.items[0].metadata.labels}", r#"{"app.io/x":"1"}"#),
        (r"{.items[0].metadata.labels.app\.io/x}", "1"),
        ("{.items[0].metadata.labels['app.io/x']}", "1"),
        ("{.items[*]['n', 'nothing']}", "1 2"),
        ("{..name}", "a b"),
        ("{.nothing.at.all}", ""),
        ("{.items[?(@.metadata.labels)].n}", "1"),
        ("name: {.kind}", "name: List"),
        ("{.kind}{'x'}", "Listx"),
        ("{$.kind}", "List"),
    ] {
        assert_eq!(Template::parse(template).unwrap().render(&pods()), text, "{template}");
    }
}

#[test]
fn nested_ranges_end_where_they_should() {
    let template = "{range .items[*]}{range .status.conditions[*]}{.type}={.status};{end}|{end}.";
    let text = Template::parse(template).unwrap().render(&pods());
    assert_eq!(text, "Ready=True;|Ready=False;|.");
}

#[test]
fn broken_templates_are_refused() {
    for bad in ["{.a", "{range .a}", "{end}", "{.a[}", "{.a[?(@.b=]}", "{name}", "{\"a}", "{)}"] {
        assert!(Template::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn custom_columns_may_leave_out_braces_and_dot() {
    for text in ["metadata.name", ".metadata.name", "{.metadata.name}", "{metadata.name}"] {
        let value = json!({"metadata": {"name": "a"}});
        assert_eq!(Template::relaxed(text).unwrap().render(&value), "a", "{text}");
    }
}

proptest! {
    #[test]
    fn no_template_panics(text in "[{}.\\[\\]?@()*:=\"'a-c0-9, $-]{0,30}") {
        if let Ok(template) = Template::parse(&text) {
            template.render(&pods());
        }
    }
}
