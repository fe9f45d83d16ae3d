//! The documents against what clients look for in them, and against upstream's own document.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::definitions::Definitions;
use super::{ResourceDoc, v2_json, v2_protobuf, v3_document, v3_index};
use crate::schema::{self, Kind, Shape};

fn served() -> Vec<ResourceDoc> {
    let row =
        |group, version, plural, kind, namespaced, subresources: &[&'static str]| ResourceDoc {
            group,
            version,
            plural,
            kind,
            namespaced,
            subresources: subresources.to_vec(),
        };
    vec![
        row("", "v1", "configmaps", "ConfigMap", true, &[]),
        row("", "v1", "namespaces", "Namespace", false, &["status", "finalize"]),
        row("", "v1", "nodes", "Node", false, &["status"]),
        row("", "v1", "pods", "Pod", true, &["status", "log", "exec", "binding", "eviction"]),
        row("", "v1", "services", "Service", true, &["status"]),
        row("apps", "v1", "deployments", "Deployment", true, &["status", "scale"]),
        row("events.k8s.io", "v1", "events", "Event", true, &[]),
    ]
}

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("a document is JSON")
}

fn v3(group: &str, version: &str) -> Value {
    parsed(&v3_document(&served(), group, version).expect("the version is served").bytes)
}

/// Every `$ref` below a value.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn the_index_names_each_version_by_its_digest() {
    let index = parsed(&v3_index(&served()).bytes);
    let paths = index["paths"].as_object().unwrap();
    assert_eq!(
        paths.keys().collect::<Vec<_>>(),
        ["api/v1", "apis/apps/v1", "apis/events.k8s.io/v1"]
    );
    let document = v3_document(&served(), "apps", "v1").unwrap();
    assert_eq!(
        paths["apis/apps/v1"]["serverRelativeURL"],
        format!("/openapi/v3/apis/apps/v1?hash={}", document.etag)
    );
    assert_eq!(v3_document(&served(), "batch", "v1"), None);
    let fewer = parsed(&v3_index(&served()[5..]).bytes);
    assert_eq!(fewer["paths"].as_object().unwrap().len(), 2, "not the index remembered");
    assert_eq!(parsed(&v3_index(&served()).bytes), index);
}

#[test]
fn documents_are_the_same_each_time_and_change_with_the_resources() {
    let document = |resources: &[ResourceDoc]| v3_document(resources, "", "v1").unwrap();
    assert_eq!(document(&served()), document(&served()));
    assert_ne!(document(&served()).etag, document(&served()[..2]).etag);
    assert_eq!(document(&served()).etag.len(), 64);
}

#[test]
fn every_reference_leads_to_a_definition() {
    for (document, prefix) in [
        (v3("", "v1"), "/components/schemas"),
        (v3("apps", "v1"), "/components/schemas"),
        (parsed(&v2_json(&served()).bytes), "/definitions"),
    ] {
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 50, "{}", found.len());
        let definitions = document.pointer(prefix).unwrap();
        for reference in found {
            let name = reference.strip_prefix(&format!("#{prefix}/")).expect(&reference);
            assert!(definitions.get(name).is_some(), "{reference}");
        }
    }
}

#[test]
fn patches_offer_what_kubectl_looks_for() {
    let path = "/apis/apps/v1/namespaces/{namespace}/deployments/{name}";
    let gvk = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
    for document in [v3("apps", "v1"), parsed(&v2_json(&served()).bytes)] {
        let patch = &document["paths"][path]["patch"];
        assert_eq!(patch["x-kubernetes-group-version-kind"], gvk);
        let parameters: Vec<&str> = patch["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|p| p["name"].as_str())
            .collect();
        for name in ["dryRun", "fieldManager", "fieldValidation"] {
            assert!(parameters.contains(&name), "{parameters:?}");
        }
    }
}

#[test]
fn kinds_lists_and_numbers_or_texts_are_marked() {
    let document = v3("apps", "v1");
    let schemas = &document["components"]["schemas"];
    assert_eq!(
        schemas["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"],
        json!([{"group": "apps", "version": "v1", "kind": "Deployment"}])
    );
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(
        schemas["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["oneOf"],
        json!([{"type": "integer"}, {"type": "string"}])
    );
    assert!(schemas.get("io.k8s.api.core.v1.Node").is_none(), "only what is reachable");
}

#[test]
fn subresources_have_their_own_kinds() {
    let apps = v3("apps", "v1");
    let scale = &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"];
    assert_eq!(
        scale["get"]["x-kubernetes-group-version-kind"],
        json!({"group": "autoscaling", "version": "v1", "kind": "Scale"})
    );
    let core = v3("", "v1");
    let paths = &core["paths"];
    assert_eq!(
        paths["/api/v1/namespaces/{namespace}/pods/{name}/exec"]["get"]["x-kubernetes-action"],
        "connect"
    );
    assert_eq!(paths["/api/v1/pods"]["get"]["x-kubernetes-action"], "list");
    assert!(paths["/api/v1/nodes/{name}"]["parameters"].as_array().is_some_and(|p| p.len() == 1));
    assert!(paths.get("/api/v1/namespaces/{namespace}/nodes").is_none());
}

#[test]
fn operations_have_unique_names() {
    let document = parsed(&v2_json(&served()).bytes);
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in
            item.as_object().unwrap().iter().filter(|(m, _)| *m != "parameters")
        {
            let name = operation["operationId"].as_str().unwrap().to_owned();
            assert!(names.insert(name.clone()), "{method} {path}: {name}");
        }
    }
    assert!(names.contains("listCoreV1NamespacedPod"));
    assert!(names.contains("listCoreV1PodForAllNamespaces"));
    assert!(names.contains("patchAppsV1NamespacedDeploymentScale"));
}

#[test]
fn v2_has_plain_references_and_no_alternatives() {
    let text = String::from_utf8(v2_json(&served()).bytes).unwrap();
    assert!(
        !["\"allOf\":", "\"oneOf\":", "components/schemas"].iter().any(|word| text.contains(word))
    );
    let document = parsed(text.as_bytes());
    let definitions = &document["definitions"];
    assert_eq!(
        definitions["io.k8s.api.core.v1.Pod"]["properties"]["spec"]["$ref"],
        "#/definitions/io.k8s.api.core.v1.PodSpec"
    );
    let port = &definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"];
    assert_eq!((&port["type"], &port["format"]), (&json!("string"), &json!("int-or-string")));
}

/// A protobuf field: its number and, of bytes, the bytes.
fn fields(mut message: &[u8]) -> Vec<(u64, &[u8])> {
    fn varint(message: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = message[0];
            *message = &message[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message);
        let data = match tag & 7 {
            0 => {
                varint(&mut message);
                &[][..]
            }
            2 => {
                let length = usize::try_from(varint(&mut message)).unwrap();
                let (data, rest) = message.split_at(length);
                message = rest;
                data
            }
            other => panic!("wire type {other}"),
        };
        found.push((tag >> 3, data));
    }
    found
}

fn field(message: &[u8], number: u64) -> &[u8] {
    fields(message).into_iter().find(|(n, _)| *n == number).map_or(&[], |(_, data)| data)
}

/// The value of a `NamedX` among a message's entries.
fn named<'m>(message: &'m [u8], number: u64, name: &str) -> &'m [u8] {
    let entries = fields(message).into_iter().filter(|(n, _)| *n == number);
    entries
        .map(|(_, entry)| entry)
        .find(|entry| field(entry, 1) == name.as_bytes())
        .map_or(&[], |entry| field(entry, 2))
}

#[test]
fn the_protobuf_form_says_the_same_as_json() {
    let message = v2_protobuf(&served());
    let document = parsed(&v2_json(&served()).bytes);
    assert_eq!(field(&message.bytes, 1), b"2.0");
    let definitions = field(&message.bytes, 9);
    let expected = document["definitions"].as_object().unwrap();
    assert_eq!(fields(definitions).len(), expected.len());
    assert_eq!(
        fields(field(&message.bytes, 8)).len(),
        document["paths"].as_object().unwrap().len()
    );
    let pod_spec = named(definitions, 1, "io.k8s.api.core.v1.PodSpec");
    let containers = named(field(pod_spec, 25), 1, "containers");
    assert_eq!(field(field(containers, 22), 1), b"array");
    let items = field(field(containers, 23), 1);
    assert_eq!(field(items, 1), b"#/definitions/io.k8s.api.core.v1.Container");
    let merge_key = named(containers, 31, "x-kubernetes-patch-merge-key");
    assert_eq!(field(merge_key, 2), b"\"name\"");
    let path = "/api/v1/namespaces/{namespace}/pods/{name}";
    let patch = field(named(field(&message.bytes, 8), 2, path), 8);
    let gvk = field(named(patch, 13, "x-kubernetes-group-version-kind"), 2);
    assert_eq!(parsed(gvk), json!({"group": "", "version": "v1", "kind": "Pod"}));
    // ParametersItem.parameter.non_body_parameter.query_parameter_sub_schema.name
    let names: Vec<&[u8]> = fields(patch)
        .into_iter()
        .filter(|(number, _)| *number == 8)
        .map(|(_, item)| field(field(field(field(item, 1), 2), 3), 4))
        .collect();
    assert!(names.contains(&b"dryRun".as_slice()));
}

/// All our definitions, in v2's words, by name.
fn all_definitions() -> Map<String, Value> {
    let definitions = Definitions::unpack();
    let names: Vec<&str> = schema::all().iter().map(|of| of.name).collect();
    let reachable = definitions.reachable(names);
    reachable.into_iter().map(|(n, s)| (n.to_owned(), super::v2::definition(s))).collect()
}

#[test]
fn the_field_table_and_the_definitions_agree() {
    let definitions = all_definitions();
    let kinds = schema::all().iter().filter(|of| definitions.contains_key(of.name));
    let mut compared = 0;
    for of in kinds {
        let Some(properties) = definitions[of.name]["properties"].as_object() else {
            assert!(of.fields().is_empty(), "{}", of.name);
            continue;
        };
        let names: Vec<&str> = of.fields().iter().map(|field| field.name).collect();
        assert_eq!(names, properties.keys().collect::<Vec<_>>(), "{}", of.name);
        for field in of.fields() {
            let property = &properties[field.name];
            let list = matches!(field.shape, Shape::List(_));
            assert_eq!(property["type"] == "array", list, "{}.{}", of.name, field.name);
            assert_eq!(property["x-kubernetes-patch-merge-key"].as_str(), field.merge.key);
            if let Shape::One(Kind::Object(id)) = field.shape {
                let target = format!("#/definitions/{}", schema::get(id).name);
                assert_eq!(property["$ref"], target, "{}.{}", of.name, field.name);
            }
            compared += 1;
        }
    }
    assert!(compared > 1500, "{compared}");
}

/// Upstream's own document, if it lies beside the project: an oracle, never an input.
fn oracle() -> Option<Value> {
    let file = "../../../shared/oracle/openapi-v2-kubernetes-1.36.3.json.gz";
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file);
    let Ok(packed) = std::fs::File::open(&path) else {
        #[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
        {
            eprintln!("SKIPPED 1 test: {} is not there", path.display());
        }
        return None;
    };
    let text = std::io::read_to_string(flate2::read::GzDecoder::new(packed)).unwrap();
    Some(parsed(text.as_bytes()))
}

/// What must be equal of a field: type, reference, extensions; not the description.
fn essence(property: &Value) -> Value {
    match property {
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| !["description", "default"].contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), essence(value)))
            .collect(),
        other => other.clone(),
    }
}

#[test]
fn definitions_are_those_of_upstream() {
    let Some(oracle) = oracle() else { return };
    let upstream = oracle["definitions"].as_object().unwrap();
    let mut compared = 0;
    let of_upstream = |name: &String| !name.starts_with("io.minictl.");
    for (name, ours) in all_definitions().into_iter().filter(|(name, _)| of_upstream(name)) {
        let theirs = &upstream[&name];
        let required = |of: &Value| {
            let names = of["required"].as_array().into_iter().flatten();
            names.map(Value::to_string).collect::<BTreeSet<_>>()
        };
        assert_eq!(required(&ours), required(theirs), "{name}");
        assert_eq!(ours["x-kubernetes-map-type"], theirs["x-kubernetes-map-type"], "{name}");
        if !name.ends_with(".DeleteOptions") {
            let extension = "x-kubernetes-group-version-kind";
            assert_eq!(ours[extension], theirs[extension], "{name}");
        }
        let (ours, theirs) = (ours["properties"].as_object(), theirs["properties"].as_object());
        let empty = Map::new();
        let (ours, theirs) = (ours.unwrap_or(&empty), theirs.unwrap_or(&empty));
        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{name}");
        for (field, property) in ours {
            assert_eq!(essence(property), essence(&theirs[field]), "{name}.{field}");
            compared += 1;
        }
    }
    assert!(compared > 1500, "{compared}");
}

#[test]
fn paths_are_those_of_upstream() {
    let Some(oracle) = oracle() else { return };
    let document = parsed(&v2_json(&served()).bytes);
    for (path, item) in document["paths"].as_object().unwrap() {
        let theirs = &oracle["paths"][path];
        for (method, operation) in
            item.as_object().unwrap().iter().filter(|(m, _)| *m != "parameters")
        {
            let upstream = &theirs[method];
            assert!(upstream.is_object(), "{method} {path} is not upstream's");
            assert_eq!(operation["x-kubernetes-action"], upstream["x-kubernetes-action"], "{path}");
            let extension = "x-kubernetes-group-version-kind";
            assert_eq!(operation[extension], upstream[extension], "{method} {path}");
        }
    }
}
