//! The rows themselves: names are unique and every strategy reads its own kind.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{all, by_kind, by_path, kind_hint};

#[test]
fn every_row_can_be_found_by_path_and_by_kind() {
    for row in all() {
        let by_path = by_path(row.group, row.version, row.plural).expect("a row by its path");
        let by_kind = by_kind(&row.api_version(), row.kind).expect("a row by its kind");
        assert!(std::ptr::eq(by_path, row), "{} by path", row.qualified());
        assert!(std::ptr::eq(by_kind, row), "{} by kind", row.qualified());
    }
    let qualified: BTreeSet<String> = all().iter().map(super::Resource::qualified).collect();
    assert_eq!(qualified.len(), all().len(), "no two rows with one name");
}

#[test]
fn every_strategy_reads_its_kind_and_fills_every_column() {
    for row in all() {
        let json = format!(
            r#"{{"apiVersion":"{}","kind":"{}","metadata":{{"name":"x"}}}}"#,
            row.api_version(),
            row.kind
        );
        let mut object = row.strategy.decode(json.as_bytes()).expect(row.kind);
        row.strategy.default(object.as_mut());
        row.strategy.prepare_create(object.as_mut());
        let cells = row.strategy.cells(object.as_ref(), Timestamp::UNIX_EPOCH);
        assert_eq!(cells.len(), row.strategy.columns().len(), "{}", row.kind);
        let written: serde_json::Value =
            serde_json::from_slice(&object.to_json()).expect("what it wrote");
        assert_eq!(written["kind"], row.kind);
        assert_eq!(written["apiVersion"], row.api_version());
    }
}

#[test]
fn shared_storage_names_another_row() {
    for row in all() {
        if let Some(shared) = row.shared {
            assert!(by_path(shared.group, "v1", shared.plural).is_some(), "{}", row.qualified());
        }
    }
}

#[test]
fn a_wrong_case_is_recognised() {
    assert_eq!(kind_hint("service"), Some("Service"));
    assert_eq!(kind_hint("PODS"), Some("Pod"));
    assert_eq!(kind_hint("replicaset"), Some("ReplicaSet"));
    assert_eq!(kind_hint("deploy"), Some("Deployment"));
    assert_eq!(kind_hint("Service"), None, "it is right already");
    assert_eq!(kind_hint("Widget"), None);
}

#[test]
fn only_endpoints_are_deprecated() {
    let deprecated: Vec<&str> =
        all().iter().filter(|r| r.deprecation.is_some()).map(|r| r.plural).collect();
    assert_eq!(deprecated, ["endpoints"]);
}
