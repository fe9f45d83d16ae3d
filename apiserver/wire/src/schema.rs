//! The field table: every type of the API with its fields, their types, protobuf numbers and
//! merge strategies.
//!
//! Input: `data/schema.txt`, written by the program in `generate/`, and `data/own.txt`, written by
//! hand for the kinds of our own; both are compiled in and read once, at first use (200 KB in memory). Strict checks, protobuf and strategic merge patches all
//! walk this one table. Not here: descriptions and OpenAPI documents.
//!
//! The format: a line `NAME [APIVERSION KIND]` starts a type; below it stand its fields, indented
//! by one tab: `JSONNAME NUMBER TYPE [zero] [strategy=S] [key=K]`. A field indented by two tabs,
//! `NUMBER TYPE`, is a message whose fields JSON shows in place. TYPE is a scalar, a type's name,
//! or one of them behind `[]` (list) or `{}` (map from text). Number 0: JSON only.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Value, json};

/// Index of a type in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TypeId(u32);

/// What a single value of a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// A 32-bit integer.
    Int32,
    /// A 64-bit integer.
    Int64,
    /// A truth value.
    Bool,
    /// A floating-point number.
    Double,
    /// Bytes, base64 in JSON.
    Bytes,
    /// RFC 3339 with seconds.
    Time,
    /// RFC 3339 with microseconds.
    MicroTime,
    /// A number with a unit, such as `500m`; text in JSON.
    Quantity,
    /// A number or a text.
    IntOrString,
    /// Any JSON.
    Raw,
    /// A list of texts inside a map (upstream: `ExtraValue`).
    Texts,
    /// An object with fields of its own.
    Object(TypeId),
}

impl Kind {
    /// The value that was never set, as Go's types have it and JSON shows it.
    #[must_use]
    pub fn zero(self) -> Value {
        match self {
            Self::Text | Self::Bytes => json!(""),
            Self::Int32 | Self::Int64 | Self::IntOrString => json!(0),
            Self::Double => json!(0.0),
            Self::Bool => json!(false),
            Self::Quantity => json!("0"),
            Self::Texts => json!([]),
            Self::Object(_) => json!({}),
            Self::Time | Self::MicroTime | Self::Raw => Value::Null,
        }
    }
}

/// Whether a field holds one value or many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One value.
    One(Kind),
    /// A list.
    List(Kind),
    /// A map from text.
    Map(Kind),
}

/// How a strategic merge patch treats a field (upstream: the `patchStrategy` struct tag).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merge {
    /// `merge`: items are merged, not replaced.
    pub merge: bool,
    /// `replace`: an object is replaced as a whole.
    pub replace: bool,
    /// `retainKeys`: fields that the patch does not name are dropped.
    pub retain_keys: bool,
    /// The field that tells the items of a list apart.
    pub key: Option<&'static str>,
}

/// A field of a type.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Name in JSON.
    pub name: &'static str,
    /// Number in protobuf; 0 if protobuf has no such field.
    pub number: u32,
    /// Its type.
    pub shape: Shape,
    /// Whether a zero that stands on the wire was set, and not left out.
    pub keeps_zero: bool,
    /// How patches treat it.
    pub merge: Merge,
}

/// A message whose fields JSON shows among those of the message around it.
#[derive(Clone, Copy, Debug)]
pub struct Inlined {
    /// Number in protobuf.
    pub number: u32,
    /// Its type.
    pub part: TypeId,
}

/// A type of the API.
#[derive(Debug)]
pub struct Type {
    /// Name of its OpenAPI definition, such as `io.k8s.api.core.v1.PodSpec`.
    pub name: &'static str,
    /// `apiVersion` and `kind`, if it is a kind.
    pub kind: Option<(&'static str, &'static str)>,
    /// Sorted by name.
    fields: Vec<Field>,
    inlined: Vec<Inlined>,
}

impl Type {
    /// The name as Go's type, such as `PodSpec`.
    #[must_use]
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    /// All fields, sorted by JSON name.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The field of this JSON name; case matters.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        let found = self.fields.binary_search_by(|field| field.name.cmp(name)).ok()?;
        Some(&self.fields[found])
    }

    /// The field of this protobuf number.
    #[must_use]
    pub fn numbered(&self, number: u32) -> Option<&Field> {
        self.fields.iter().find(|field| field.number == number)
    }

    /// The inlined message of this protobuf number.
    #[must_use]
    pub fn inlined(&self, number: u32) -> Option<TypeId> {
        self.inlined.iter().find(|inlined| inlined.number == number).map(|inlined| inlined.part)
    }
}

/// All types, readable by name of kind and by index.
pub(crate) struct Table {
    types: Vec<Type>,
    kinds: HashMap<(&'static str, &'static str), TypeId>,
}

impl Table {
    /// The type of a kind.
    pub(crate) fn of_kind(&self, api_version: &str, kind: &str) -> Option<&Type> {
        // Upstream registers the options of requests in every group.
        let api_version = if kind == "DeleteOptions" { "v1" } else { api_version };
        self.kinds.get(&(api_version, kind)).map(|&id| self.get(id))
    }

    /// Reads the text format that this module describes.
    pub(crate) fn read(text: &'static str) -> Self {
        let lines = || text.lines().filter(|line| !line.starts_with('#'));
        let ids: HashMap<&str, TypeId> = lines()
            .filter(|line| !line.starts_with('\t'))
            .filter_map(|line| line.split(' ').next())
            .zip((0..).map(TypeId))
            .collect();
        let mut types: Vec<Type> = Vec::with_capacity(ids.len());
        for line in lines() {
            if let Some(field) = line.strip_prefix('\t') {
                let owner = types.last_mut().expect("the table starts with a type");
                read_field(field, &ids, owner);
            } else {
                types.push(read_type(line));
            }
        }
        for of in &mut types {
            of.fields.sort_unstable_by_key(|field| field.name);
        }
        let kinds = types.iter().filter_map(|t| Some((t.kind?, ids[t.name]))).collect();
        Self { types, kinds }
    }

    /// A type by its index.
    pub(crate) fn get(&self, id: TypeId) -> &Type {
        &self.types[id.0 as usize]
    }
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    Table::read(concat!(include_str!("../data/schema.txt"), include_str!("../data/own.txt")))
});

/// The table of the API.
pub(crate) fn table() -> &'static Table {
    &TABLE
}

/// The type of a kind, e.g. of `apps/v1` and `Deployment`.
#[must_use]
pub fn of_kind(api_version: &str, kind: &str) -> Option<&'static Type> {
    TABLE.of_kind(api_version, kind)
}

/// A type by its index.
#[must_use]
pub fn get(id: TypeId) -> &'static Type {
    TABLE.get(id)
}

/// All types.
#[must_use]
pub fn all() -> &'static [Type] {
    &TABLE.types
}

fn read_type(line: &'static str) -> Type {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    let kind = words.next().zip(words.next());
    Type { name, kind, fields: Vec::new(), inlined: Vec::new() }
}

fn read_field(line: &'static str, ids: &HashMap<&str, TypeId>, owner: &mut Type) {
    let mut words = line.split(' ');
    let first = words.next().unwrap_or_default();
    if let Some(number) = first.strip_prefix('\t') {
        let part = ids[words.next().unwrap_or_default()];
        owner.inlined.push(Inlined { number: number_of(number), part });
        return;
    }
    let number = number_of(words.next().unwrap_or_default());
    let shape = shape_of(words.next().unwrap_or_default(), ids);
    let mut field =
        Field { name: first, number, shape, keeps_zero: false, merge: Merge::default() };
    for word in words {
        match word.split_once('=') {
            Some(("key", key)) => field.merge.key = Some(key),
            Some((_, strategies)) => {
                for strategy in strategies.split(',') {
                    match strategy {
                        "merge" => field.merge.merge = true,
                        "replace" => field.merge.replace = true,
                        _ => field.merge.retain_keys = true,
                    }
                }
            }
            None => field.keeps_zero = true,
        }
    }
    owner.fields.push(field);
}

fn number_of(word: &str) -> u32 {
    word.parse().expect("the table's numbers are numbers: a test reads all of it")
}

fn shape_of(word: &str, ids: &HashMap<&str, TypeId>) -> Shape {
    if let Some(item) = word.strip_prefix("[]") {
        return Shape::List(kind_of(item, ids));
    }
    if let Some(value) = word.strip_prefix("{}") {
        return Shape::Map(kind_of(value, ids));
    }
    Shape::One(kind_of(word, ids))
}

fn kind_of(word: &str, ids: &HashMap<&str, TypeId>) -> Kind {
    match word {
        "string" => Kind::Text,
        "int32" => Kind::Int32,
        "int64" => Kind::Int64,
        "bool" => Kind::Bool,
        "double" => Kind::Double,
        "bytes" => Kind::Bytes,
        "time" => Kind::Time,
        "microtime" => Kind::MicroTime,
        "quantity" => Kind::Quantity,
        "intorstring" => Kind::IntOrString,
        "raw" => Kind::Raw,
        "[]string" => Kind::Texts,
        name => Kind::Object(ids[name]),
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Shape, all, get, of_kind};

    #[test]
    fn the_whole_table_reads_and_has_the_served_kinds() {
        for (api_version, kind) in [
            ("v1", "Namespace"),
            ("v1", "Pod"),
            ("v1", "Endpoints"),
            ("v1", "DeleteOptions"),
            ("v1", "Status"),
            ("v1", "Binding"),
            ("events.k8s.io/v1", "Event"),
            ("apps/v1", "Deployment"),
            ("apps/v1", "ReplicaSet"),
            ("discovery.k8s.io/v1", "EndpointSlice"),
            ("coordination.k8s.io/v1", "Lease"),
            ("autoscaling/v1", "Scale"),
            ("authorization.k8s.io/v1", "SelfSubjectAccessReview"),
            ("authentication.k8s.io/v1", "TokenRequest"),
            ("batch/v1", "Job"),
            ("networking.k8s.io/v1", "Ingress"),
            ("minictl.io/v1", "AddressPool"),
        ] {
            assert!(of_kind(api_version, kind).is_some(), "{api_version} {kind}");
        }
        assert!(of_kind("v1", "pod").is_none());
        assert!(all().len() > 350);
    }

    #[test]
    fn fields_tell_type_number_and_strategy() {
        let pod = of_kind("v1", "Pod").unwrap();
        let Shape::One(Kind::Object(spec)) = pod.field("spec").unwrap().shape else { panic!() };
        let spec = get(spec);
        assert_eq!((spec.name, spec.short_name()), ("io.k8s.api.core.v1.PodSpec", "PodSpec"));
        let volumes = spec.field("volumes").unwrap();
        assert_eq!((volumes.number, volumes.merge.key), (1, Some("name")));
        assert!(volumes.merge.merge && volumes.merge.retain_keys);
        assert!(spec.field("terminationGracePeriodSeconds").unwrap().keeps_zero);
        assert!(!spec.field("nodeName").unwrap().keeps_zero);
        assert!(spec.field("Volumes").is_none());
    }

    #[test]
    fn numbers_are_unique_within_a_type() {
        for of in all() {
            let mut numbers: Vec<u32> =
                of.fields.iter().map(|f| f.number).filter(|&n| n != 0).collect();
            numbers.extend(of.inlined.iter().map(|i| i.number));
            let count = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), count, "{}", of.name);
        }
    }
}
