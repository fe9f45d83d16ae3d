//! Bodies in JSON and YAML, well and badly formed.

use proptest::prelude::*;
use serde_json::json;

use super::{DecodeError, Format, body, yaml_documents};

#[test]
fn content_types_name_formats() {
    for (content_type, format) in [
        ("", Some(Format::Json)),
        ("application/json", Some(Format::Json)),
        ("Application/JSON; charset=utf-8", Some(Format::Json)),
        ("application/merge-patch+json", Some(Format::Json)),
        ("application/apply-patch+yaml", Some(Format::Yaml)),
        ("application/yaml", Some(Format::Yaml)),
        ("application/vnd.kubernetes.protobuf", Some(Format::Protobuf)),
        ("text/plain", None),
        ("application/cbor", None),
    ] {
        assert_eq!(Format::of(content_type), format, "{content_type}");
    }
}

#[test]
fn duplicate_fields_of_json_are_listed_with_paths() {
    let text = br#"{"spec":{"a":1,"a":2,"list":[{"x":1},{"x":1,"x":{"y":1}}]},"spec":{"a":3}}"#;
    let decoded = body("application/json", text).unwrap();
    assert_eq!(decoded.value, json!({"spec": {"a": 3}}));
    assert_eq!(decoded.duplicates, ["spec.a", "spec.list[1].x", "spec"]);
}

#[test]
fn duplicate_fields_of_yaml_are_listed_with_paths() {
    let text = b"metadata:\n  name: a\n  labels: {x: y, x: z}\n  name: b\n";
    let decoded = body("application/yaml", text).unwrap();
    assert_eq!(decoded.value, json!({"metadata": {"name": "b", "labels": {"x": "z"}}}));
    assert_eq!(decoded.duplicates, ["metadata.labels.x", "metadata.name"]);
}

#[test]
fn yaml_scalars_are_read_as_kubectl_reads_them() {
    let text = b"a: yes\nb: 0644\nc: 1e3\nd: ~\ne: off\nf: '1'\ng: 2001-01-01\nh: 0.5\ni: 0x10\nj: 1.2.3.4\nk: \"no\"\nl: 100m\nm: y\nn: 12:30:45\no: 1_000\np: 0b101\nq: !!str 5\nr: 123456789.0\n8080: port\n";
    let decoded = body("application/yaml", text).unwrap();
    assert_eq!(
        decoded.value,
        json!({"a": true, "b": 420, "c": 1000, "d": null, "e": false, "f": "1",
               "g": "2001-01-01", "h": 0.5, "i": 16, "j": "1.2.3.4", "k": "no", "l": "100m", "m": true, "n": "12:30:45", "o": 1000, "p": 5, "q": "5", "r": 123_456_789,
               "8080": "port"})
    );
}

#[test]
fn yaml_files_may_hold_several_documents() {
    let documents =
        yaml_documents(b"# only a comment\n---\na: 1\n---\n---\nb: 1e2\n---\n").unwrap();
    let values: Vec<_> = documents.into_iter().map(|d| d.value).collect();
    assert_eq!(values, [json!({"a": 1}), json!({"b": 100})]);
}

#[test]
fn malformed_bodies_say_where() {
    let json = body("", b"{\"a\": }").unwrap_err().to_string();
    assert!(json.starts_with("couldn't get version/kind; json parse error: "), "{json}");
    assert!(json.contains("line 1 column 7"), "{json}");
    let trailing = body("", b"{} {}").unwrap_err().to_string();
    assert!(trailing.contains("trailing characters"), "{trailing}");
    let yaml = body("application/yaml", b"a: 1\n b: 2\n").unwrap_err().to_string();
    assert!(yaml.starts_with("error converting YAML to JSON: "), "{yaml}");
    assert!(yaml.contains("line 2"), "{yaml}");
    assert!(matches!(body("application/yaml", b"\xff"), Err(DecodeError::Yaml(_))));
    assert!(matches!(body("text/html", b""), Err(DecodeError::UnknownMediaType)));
}

#[test]
fn bottomless_bodies_are_refused() {
    for levels in [200, 100_000] {
        let deep = "[".repeat(levels) + &"]".repeat(levels);
        assert!(matches!(body("", deep.as_bytes()), Err(DecodeError::Json(_))));
        assert!(matches!(body("application/yaml", deep.as_bytes()), Err(DecodeError::Yaml(_))));
    }
    let bomb = "a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f]\n";
    assert!(matches!(body("application/yaml", bomb.as_bytes()), Err(DecodeError::Yaml(_))));
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        content_type in "application/(json|yaml|vnd.kubernetes.protobuf)",
    ) {
        let _ = body(&content_type, &bytes);
    }

    #[test]
    fn any_text_is_decoded_or_refused(
        text in "[\\[\\]{}:,\"'&*!|>a1\\- \n#~.]{0,80}",
        content_type in "application/(json|yaml)",
    ) {
        let _ = body(&content_type, text.as_bytes());
    }
}
