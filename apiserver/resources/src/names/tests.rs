//! Formats of names: what passes, and upstream's sentence for what does not.

use proptest::prelude::*;

use super::{
    Problems, config_key, dns_label, dns_subdomain, dns_subdomain_with_underscore, env_name,
    label_value, mask_trailing_dash, path_segment, percent, port_name, port_number, qualified_name,
};

type Check = fn(&str) -> Problems;

#[test]
fn good_values_pass() {
    let cases: &[(&str, Check, &[&str])] = &[
        ("dns_label", dns_label, &["a", "0", "my-svc", "1a", "a--b"]),
        ("dns_subdomain", dns_subdomain, &["a", "a.b", "node-1.example.com"]),
        ("underscore", dns_subdomain_with_underscore, &["_tcp.example.com", "a_b.c"]),
        ("qualified_name", qualified_name, &["app", "App_1.x", "app.kubernetes.io/name"]),
        ("label_value", label_value, &["", "a", "A.b_c-1"]),
        ("port_name", port_name, &["http", "h2-x", "1a"]),
        ("config_key", config_key, &["a", "A_b.c-d", ".hidden"]),
        ("env_name", env_name, &["A", "a b", "my.env-name", "1st"]),
        ("percent", percent, &["0%", "25%", "100%"]),
        ("path_segment", path_segment, &["a", "a:b", "..."]),
    ];
    for (name, check, values) in cases {
        for value in *values {
            assert_eq!(check(value), Problems::new(), "{name} of {value:?}");
        }
    }
}

#[test]
fn bad_values_are_explained_in_upstreams_words() {
    let label = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or \
                 '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or \
                 '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
    assert_eq!(dns_label("hogehogeService"), [label]);
    assert_eq!(dns_label("a.b"), ["must not contain dots"]);
    assert_eq!(dns_label(&"a".repeat(64)), ["must be no more than 63 characters"]);
    assert_eq!(
        dns_subdomain("LB"),
        ["a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' \
          or '.', and must start and end with an alphanumeric character (e.g. 'example.com', \
          regex used for validation is \
          '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"]
    );
    assert_eq!(qualified_name("/x"), ["prefix part must be non-empty"], "the name part is good");
    assert!(qualified_name("a/b/c")[0].starts_with("a valid label key must consist of"));
    assert_eq!(
        qualified_name(""),
        [
            "name part must be non-empty",
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start \
             and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', \
             regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
        ]
    );
    assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
    assert_eq!(port_number(65_536), ["must be between 1 and 65535, inclusive"]);
    assert_eq!(
        port_name("-8080-"),
        ["must contain at least one letter (a-z)", "must not begin or end with a hyphen"]
    );
    assert_eq!(config_key(".."), ["must not be '..'"]);
    assert_eq!(env_name("a=b").len(), 1);
    assert_eq!(path_segment("a/b%"), ["may not contain '/'", "may not contain '%'"]);
}

#[test]
fn a_generated_name_may_end_with_a_dash_before_its_suffix() {
    assert_eq!(dns_label(&mask_trailing_dash("web-")), Problems::new());
    assert_eq!(dns_label(&mask_trailing_dash("web")), Problems::new());
    assert_ne!(dns_label(&mask_trailing_dash("-")), Problems::new());
}

proptest! {
    #[test]
    fn every_label_is_a_subdomain_and_a_label_value(label in "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?") {
        prop_assert_eq!(dns_label(&label), Problems::new());
        prop_assert_eq!(dns_subdomain(&label), Problems::new());
        prop_assert_eq!(label_value(&label), Problems::new());
        prop_assert_eq!(qualified_name(&label), Problems::new());
    }
}
