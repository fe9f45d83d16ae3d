//! Protobuf bodies: as kubectl sends them, as an encoder of these tests writes them, and broken.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{ProtobufError, decode};

/// A field with a number.
fn number(field: u32, value: u64) -> Vec<u8> {
    [varint(u64::from(field) << 3), varint(value)].concat()
}

/// A field with text, bytes or a message.
fn bytes(field: u32, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    let tag = varint(u64::from(field) << 3 | 2);
    [tag, varint(value.len() as u64), value.to_vec()].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn body(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let type_meta = [bytes(1, api_version), bytes(2, kind)].concat();
    [b"k8s\0".to_vec(), bytes(1, type_meta), bytes(2, message)].concat()
}

fn decoded(api_version: &str, kind: &str, message: &[u8]) -> Result<Value, ProtobufError> {
    let mut value = decode(&body(api_version, kind, message))?;
    let fields = value.as_object_mut().unwrap();
    assert_eq!(fields.remove("apiVersion"), Some(json!(api_version)));
    assert_eq!(fields.remove("kind"), Some(json!(kind)));
    Ok(value)
}

#[test]
fn bodies_of_kubectl_mean_what_kubectl_prints() {
    let recorded: Vec<&str> =
        include_str!("kubectl.txt").lines().filter(|line| !line.starts_with('#')).collect();
    assert!(recorded.len() >= 40);
    for record in recorded.chunks(3) {
        let [command, body, object] = record else { panic!("{record:?}") };
        let body = STANDARD.decode(body).unwrap();
        let object: Value = serde_json::from_str(object).unwrap();
        assert_eq!(decode(&body).unwrap(), object, "{command}");
    }
}

#[test]
fn zeros_that_were_set_stay_and_others_go() {
    let spec = [number(1, 0), number(9, 0), number(5, 0)].concat();
    assert_eq!(
        decoded("apps/v1", "Deployment", &bytes(2, spec)).unwrap(),
        json!({"spec": {"replicas": 0, "progressDeadlineSeconds": 0}})
    );
    let spec = [bytes(10, ""), number(4, 0), number(11, 0), number(30, 0)].concat();
    assert_eq!(
        decoded("v1", "Pod", &bytes(2, spec)).unwrap(),
        json!({"spec": {"terminationGracePeriodSeconds": 0, "enableServiceLinks": false}})
    );
}

#[test]
fn scalars_of_every_kind() {
    let metadata = |message: Vec<u8>| decoded("v1", "ConfigMap", &bytes(1, message)).unwrap();
    let time = [number(1, 1_700_000_000), number(2, 5)].concat();
    assert_eq!(
        metadata(bytes(8, time)),
        json!({"metadata": {"creationTimestamp": "2023-11-14T22:13:20Z"}})
    );
    assert_eq!(metadata(bytes(8, "")), json!({"metadata": {}}));
    assert_eq!(
        metadata(number(7, (-3_i64).cast_unsigned())),
        json!({"metadata": {"generation": -3}})
    );
    assert_eq!(
        metadata([bytes(14, "a"), bytes(14, "b")].concat()),
        json!({"metadata": {"finalizers": ["a", "b"]}})
    );
    let micro = [number(1, 0), number(2, 1_234_000)].concat();
    assert_eq!(
        decoded("coordination.k8s.io/v1", "Lease", &bytes(2, bytes(4, micro))).unwrap(),
        json!({"spec": {"renewTime": "1970-01-01T00:00:00.001234Z"}})
    );
    let data = [bytes(1, "k"), bytes(2, [0_u8, 255])].concat();
    assert_eq!(
        decoded("v1", "Secret", &[bytes(2, data), bytes(2, bytes(1, "empty"))].concat()).unwrap(),
        json!({"data": {"k": "AP8=", "empty": ""}})
    );
    let capacity = [bytes(1, "cpu"), bytes(2, bytes(1, "4"))].concat();
    assert_eq!(
        decoded("v1", "Node", &bytes(3, bytes(1, capacity))).unwrap(),
        json!({"status": {"capacity": {"cpu": "4"}}})
    );
}

#[test]
fn numbers_or_texts() {
    let port = |target: Vec<u8>| {
        let port = [number(3, 80), bytes(4, target)].concat();
        decoded("v1", "Service", &bytes(2, bytes(1, port))).unwrap()["spec"]["ports"][0].clone()
    };
    let text = [number(1, 1), number(2, 0), bytes(3, "http")].concat();
    assert_eq!(port(text), json!({"port": 80, "targetPort": "http"}));
    let number_80 = [number(1, 0), number(2, 8080), bytes(3, "")].concat();
    assert_eq!(port(number_80), json!({"port": 80, "targetPort": 8080}));
    assert_eq!(port(vec![]), json!({"port": 80}));
}

#[test]
fn messages_inside_of_messages_show_in_place() {
    let source = bytes(2, "");
    let volume = [bytes(1, "v"), bytes(2, source)].concat();
    let http = [bytes(1, "/ready"), bytes(2, number(2, 80))].concat();
    let probe = [bytes(1, bytes(2, http)), number(4, 5)].concat();
    let container = [bytes(1, "c"), bytes(10, probe)].concat();
    let spec = [bytes(1, volume), bytes(2, container)].concat();
    assert_eq!(
        decoded("v1", "Pod", &bytes(2, spec)).unwrap(),
        json!({"spec": {
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{"name": "c", "livenessProbe": {
                "httpGet": {"path": "/ready", "port": 80}, "periodSeconds": 5}}],
        }})
    );
}

#[test]
fn a_message_that_stands_twice_is_merged_and_unknown_fields_are_skipped() {
    let twice = [
        bytes(1, bytes(1, "name")),
        bytes(1, bytes(3, "space")),
        bytes(1000, "unknown"),
        vec![0xfd, 0x3e, 1, 2, 3, 4],
    ];
    assert_eq!(
        decoded("v1", "ConfigMap", &twice.concat()).unwrap(),
        json!({"metadata": {"name": "name", "namespace": "space"}})
    );
}

#[test]
fn free_form_json_and_lists_in_maps() {
    let fields = bytes(1, br#"{"f:spec":{}}"#);
    let managed = bytes(1, bytes(17, bytes(7, fields)));
    assert_eq!(
        decoded("v1", "ConfigMap", &managed).unwrap(),
        json!({"metadata": {"managedFields": [{"fieldsV1": {"f:spec": {}}}]}})
    );
    let extra = [bytes(1, "scopes"), bytes(2, [bytes(1, "a"), bytes(1, "b")].concat())].concat();
    assert_eq!(
        decoded("authorization.k8s.io/v1", "SubjectAccessReview", &bytes(2, bytes(5, extra)))
            .unwrap(),
        json!({"spec": {"extra": {"scopes": ["a", "b"]}}})
    );
}

#[test]
fn packed_numbers_are_taken_apart() {
    let context = bytes(4, [varint(1000), varint(2000)].concat());
    assert_eq!(
        decoded("v1", "Pod", &bytes(2, bytes(14, context))).unwrap(),
        json!({"spec": {"securityContext": {"supplementalGroups": [1000, 2000]}}})
    );
}

#[test]
fn options_are_known_in_every_group() {
    assert_eq!(
        decoded("apps/v1", "DeleteOptions", &number(1, 0)).unwrap(),
        json!({"gracePeriodSeconds": 0})
    );
}

#[test]
fn broken_bodies_say_what_is_broken() {
    let chain = |body: &[u8]| {
        let error = decode(body).unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string);
        (error.to_string(), source)
    };
    let text = |what: &str| Some(what.to_owned());
    assert_eq!(
        chain(b"{}"),
        ("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]".into(), None)
    );
    assert_eq!(
        chain(&body("example.com/v1", "Foo", b"")),
        ("no kind \"Foo\" is registered for version \"example.com/v1\"".into(), None)
    );
    assert_eq!(
        chain(b"k8s\0\x0a\x05ab"),
        ("malformed runtime.Unknown".into(), text("unexpected end of message"))
    );
    assert_eq!(
        chain(&body("v1", "Pod", &bytes(2, number(10, 1)))),
        ("malformed field PodSpec.nodeName".into(), text("expected a length and bytes"))
    );
    assert_eq!(
        chain(&body("v1", "Pod", &bytes(2, bytes(10, [0xff])))),
        ("malformed field PodSpec.nodeName".into(), text("a text is not UTF-8"))
    );
    assert_eq!(
        chain(&body("v1", "Pod", &[0x0b])),
        ("malformed Pod".into(), text("wire type 3 is not supported"))
    );
    assert_eq!(
        chain(&body("v1", "Pod", &[0x80; 11])),
        ("malformed Pod".into(), text("a varint is longer than 10 bytes"))
    );
    assert_eq!(
        chain(&body("v1", "Pod", &[0])),
        ("malformed Pod".into(), text("0 is no field number"))
    );
    let compressed = [b"k8s\0".to_vec(), bytes(3, "gzip")].concat();
    assert_eq!(
        chain(&compressed),
        ("a message of encoding \"gzip\" and type \"\" cannot be read".into(), None)
    );
}

#[test]
fn bottomless_messages_are_refused() {
    // A managed field's JSON, and affinity terms cannot nest; only the parser's own limit shows.
    let deep = "[".repeat(100_000);
    let managed = bytes(1, bytes(17, bytes(7, bytes(1, deep))));
    assert!(decoded("v1", "ConfigMap", &managed).is_err());
}

proptest! {
    #[test]
    fn any_message_is_decoded_or_refused(
        message in proptest::collection::vec(any::<u8>(), 0..300),
        kind in "Pod|Service|Secret|Event|Endpoints|Node",
    ) {
        let _ = decoded("v1", &kind, &message);
    }

    /// Messages that are nearly right get further than noise.
    #[test]
    fn any_change_of_a_right_body_is_decoded_or_refused(
        record in 0..14_usize,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let line = include_str!("kubectl.txt").lines().nth(2 + record * 3).unwrap();
        let mut body = STANDARD.decode(line).unwrap();
        for (place, byte) in changes {
            let place = place.index(body.len() - 4) + 4;
            body[place] = byte;
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len()));
        }
        let _ = decode(&body);
    }
}
