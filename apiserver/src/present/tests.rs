//! Bodies for one small ConfigMap in each representation.

use super::*;
use resources::table;
use serde_json::{Value, json};

fn maps() -> &'static Resource {
    table::by_path("", "v1", "configmaps").unwrap()
}

fn map(name: &str) -> Bytes {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": name, "resourceVersion": "5" }, "data": { "k": "v" },
    })
    .to_string()
    .into()
}

fn view(representation: Representation, include: Include) -> View {
    View { representation, include }
}

fn value(bytes: Result<Bytes, ApiError>) -> Value {
    serde_json::from_slice(&bytes.unwrap()).unwrap()
}

#[test]
fn a_plain_list_holds_the_items_as_they_are() {
    let metadata = ListMeta { resource_version: Some("9".into()), ..ListMeta::default() };
    let plain = view(Representation::Object, Include::Metadata);
    let items = [map("a"), map("b")];
    let bytes = list(maps(), &items, &metadata, plain, Timestamp::UNIX_EPOCH).unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    assert!(text.contains(std::str::from_utf8(&items[1]).unwrap()), "{text}");
    let list: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("ConfigMapList"), &json!("v1")));
    assert_eq!(list["metadata"]["resourceVersion"], "9");
}

#[test]
fn an_empty_list_has_items() {
    let plain = view(Representation::Object, Include::Metadata);
    let empty = list(maps(), &[], &ListMeta::default(), plain, Timestamp::UNIX_EPOCH);
    assert_eq!(value(empty)["items"], json!([]));
}

#[test]
fn rows_carry_what_is_asked_for() {
    let row = |include| {
        let table = view(Representation::Table("v1"), include);
        value(object(maps(), &map("a"), table, Timestamp::UNIX_EPOCH))["rows"][0].clone()
    };
    assert!(row(Include::Nothing).get("object").is_none());
    assert_eq!(row(Include::Metadata)["object"]["kind"], "PartialObjectMetadata");
    assert!(row(Include::Metadata)["object"].get("data").is_none());
    assert_eq!(row(Include::Object)["object"]["data"]["k"], "v");
    assert_eq!(row(Include::Object)["cells"][0], "a");
}

#[test]
fn metadata_alone_is_a_kind_of_its_own() {
    let partial = view(Representation::Metadata("v1"), Include::Metadata);
    let one = value(object(maps(), &map("a"), partial, Timestamp::UNIX_EPOCH));
    assert_eq!(
        one,
        json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
            "metadata": { "name": "a", "resourceVersion": "5" },
        })
    );
}

#[test]
fn a_bookmark_is_an_object_of_the_watched_kind() {
    let plain = view(Representation::Object, Include::Metadata);
    let mark = value(bookmark(maps(), 7, true, plain));
    assert_eq!(
        (&mark["kind"], &mark["metadata"]["resourceVersion"]),
        (&json!("ConfigMap"), &json!("7"))
    );
    assert_eq!(mark["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let table = view(Representation::Table("v1"), Include::Metadata);
    assert_eq!(value(bookmark(maps(), 7, false, table))["kind"], "Table");
}
