//! Manifests as students write them, and as they get them wrong.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn values(text: &str) -> Vec<Value> {
    parse("f.yaml", text.as_bytes()).unwrap().into_iter().map(|m| m.value).collect()
}

fn place(text: &str) -> (u64, String) {
    match parse("f.yaml", text.as_bytes()).unwrap_err() {
        Error::Manifest { line, detail, .. } => (line, detail),
        other => panic!("{other}"),
    }
}

#[test]
fn documents_lists_comments_and_empty_documents() {
    let text = "# heading\n---\nkind: A\n---\n---\n# nothing\n---\nkind: List\nitems:\n- kind: B\n- kind: C\n";
    assert_eq!(values(text), [json!({"kind": "A"}), json!({"kind": "B"}), json!({"kind": "C"})]);
}

#[test]
fn scalars_are_yaml_1_1() {
    assert_eq!(
        values("a: yes\nb: 0644\nc: \"80\"\nd: 1e3\ne: ~\nf: 80\n"),
        [json!({"a": true, "b": 420, "c": "80", "d": 1000.0, "e": null, "f": 80})]
    );
}

#[test]
fn json_files_and_json_streams() {
    assert_eq!(values("{\"kind\": \"A\"}\n{\"kind\": \"B\"}").len(), 2);
    assert_eq!(place("{\"kind\": }").0, 1);
}

#[test]
fn a_tab_is_found_in_its_line_of_the_file() {
    let cases = [
        ("kind: A\n---\nkind: B\nspec:\n\tports: 1\n", 5),
        // The parser itself blames the line before these.
        ("apiVersion: v1\n\tkind: Pod\n", 2),
        ("spec:\n  ports:\n  - port: 80\n  \ttargetPort: 80\n", 4),
    ];
    for (text, line) in cases {
        let says = "a tab is used for indentation; YAML allows only spaces".to_owned();
        assert_eq!(place(text), (line, says), "{text:?}");
    }
}

#[test]
fn a_tab_that_is_no_indentation_is_not_blamed() {
    let (line, detail) = place("a: |\n  text\n  \ttext\nb: [\n");
    assert_eq!((line, detail.as_str()), (4, "unclosed bracket '['"));
}

#[test]
fn a_long_separator_is_refused_with_its_line() {
    let (line, detail) = place("kind: A\n--------\nkind: B\n");
    assert_eq!((line, detail.as_str()), (2, "invalid Yaml document separator: -----"));
}

#[test]
fn a_duplicate_key_is_refused() {
    assert_eq!(place("kind: A\nspec: 1\nspec: 2\n").0, 3);
}

#[test]
fn a_heading_above_the_manifest_is_refused() {
    assert!(parse("f.yaml", b"http-go-svc.yaml\napiVersion: v1\nkind: Service\n").is_err());
    assert!(parse("f.yaml", b"just text\n").unwrap_err().report().contains("of type string"));
}

#[test]
fn an_object_without_kind_is_refused_in_kubectl_s_words() {
    let m = Manifest { origin: "f.yaml".into(), value: json!({"apiVersion": "v1"}) };
    assert!(
        require_type(&m).unwrap_err().report().starts_with(
            "error: error validating \"f.yaml\": error validating data: [kind not set];"
        )
    );
}

#[test]
fn a_directory_is_read_in_order_and_only_manifests() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("b.yaml", "kind: B"), ("a.yml", "kind: A"), ("c.txt", "kind: C")] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    std::fs::write(dir.path().join("sub/d.json"), "{\"kind\":\"D\"}").unwrap();
    let names = |recursive| -> Vec<String> {
        let files = expand(dir.path(), recursive).unwrap();
        files.iter().map(|p| p.file_name().unwrap().to_string_lossy().into_owned()).collect()
    };
    assert_eq!(names(false), ["a.yml", "b.yaml"]);
    assert_eq!(names(true), ["a.yml", "b.yaml", "d.json"]);
}

#[test]
fn a_missing_file_is_named() {
    let e = expand(Path::new("/nonexistent/x.yaml"), false).unwrap_err();
    assert_eq!(e.report(), "error: the path \"/nonexistent/x.yaml\" does not exist");
}

proptest! {
    #[test]
    fn no_text_panics(text in "[ \\n\\ta-c:{}\\[\\]\"'|>&*#-]{0,60}") {
        let _ = parse("f.yaml", text.as_bytes());
    }
}
