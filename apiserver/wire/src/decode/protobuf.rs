//! Kubernetes' protobuf as JSON: what kubectl's generators, kubelet and kube-proxy send.
//!
//! Input: `k8s\0` and a `runtime.Unknown` around a message of a kind; output: the JSON object that
//! upstream would show for it. The field table says what each field number means; unknown fields
//! are skipped, as protobuf wants. Zero values that upstream always writes are left out, unless
//! the table says that zero was set on purpose. Not here: encoding, as JSON answers are enough.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::schema::{self, Kind, Shape, Type};

mod reader;

pub use reader::WireError;
use reader::{Data, Reader};

/// What every body starts with (upstream: `serializer/protobuf/protobuf.go`).
const MAGIC: &[u8] = b"k8s\0";

/// Deeper messages are refused, as the JSON parser does.
const MAX_DEPTH: usize = 128;

/// Why a protobuf body could not be decoded.
#[derive(Debug, thiserror::Error)]
pub enum ProtobufError {
    /// The first four bytes are not `k8s\0`; upstream's text.
    #[error(
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
    )]
    NoMagic,
    /// The envelope is malformed.
    #[error("malformed runtime.Unknown")]
    Envelope(#[source] WireError),
    /// The message is compressed or not protobuf.
    #[error("a message of encoding {encoding:?} and type {content_type:?} cannot be read")]
    Encoding {
        /// `contentEncoding` of the envelope.
        encoding: String,
        /// `contentType` of the envelope.
        content_type: String,
    },
    /// A kind that the field table lacks; upstream's text.
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    UnknownKind {
        /// e.g. `v1`
        api_version: String,
        /// e.g. `Pod`
        kind: String,
    },
    /// A message is malformed.
    #[error("malformed {of}")]
    Message {
        /// The type.
        of: &'static str,
        /// What is wrong.
        #[source]
        error: WireError,
    },
    /// A field is malformed.
    #[error("malformed field {of}.{field}")]
    Field {
        /// The type.
        of: &'static str,
        /// The field's JSON name.
        field: &'static str,
        /// What is wrong.
        #[source]
        error: WireError,
    },
    /// Messages nest too deeply.
    #[error("messages nest deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

type Object = Map<String, Value>;

/// Decodes a whole body.
pub(super) fn decode(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let envelope = bytes.strip_prefix(MAGIC).ok_or(ProtobufError::NoMagic)?;
    let unknown = Unknown::read(envelope).map_err(ProtobufError::Envelope)?;
    let protobuf = ["", "application/vnd.kubernetes.protobuf"].contains(&unknown.content_type);
    if !unknown.encoding.is_empty() || !protobuf {
        return Err(ProtobufError::Encoding {
            encoding: unknown.encoding.to_owned(),
            content_type: unknown.content_type.to_owned(),
        });
    }
    let of = schema::of_kind(unknown.api_version, unknown.kind).ok_or_else(|| {
        ProtobufError::UnknownKind {
            api_version: unknown.api_version.to_owned(),
            kind: unknown.kind.to_owned(),
        }
    })?;
    let mut object = Object::new();
    object.insert("apiVersion".to_owned(), unknown.api_version.into());
    object.insert("kind".to_owned(), unknown.kind.into());
    message(of, unknown.raw, &mut object, 0)?;
    Ok(Value::Object(object))
}

/// `runtime.Unknown`, the envelope of every body.
#[derive(Default)]
struct Unknown<'a> {
    api_version: &'a str,
    kind: &'a str,
    raw: &'a [u8],
    encoding: &'a str,
    content_type: &'a str,
}

impl<'a> Unknown<'a> {
    fn read(envelope: &'a [u8]) -> Result<Self, WireError> {
        let mut unknown = Self::default();
        for field in Reader::new(envelope) {
            let (number, data) = field?;
            match number {
                1 => {
                    for field in Reader::new(data.bytes()?) {
                        match field? {
                            (1, data) => unknown.api_version = data.text()?,
                            (2, data) => unknown.kind = data.text()?,
                            _ => {}
                        }
                    }
                }
                2 => unknown.raw = data.bytes()?,
                3 => unknown.encoding = data.text()?,
                4 => unknown.content_type = data.text()?,
                _ => {}
            }
        }
        Ok(unknown)
    }
}

/// Reads a message into `object`; fields that are there already are merged with, as protobuf
/// wants it of messages that stand twice.
fn message(
    of: &'static Type,
    bytes: &[u8],
    object: &mut Object,
    depth: usize,
) -> Result<(), ProtobufError> {
    if depth > MAX_DEPTH {
        return Err(ProtobufError::TooDeep);
    }
    let malformed = |error| ProtobufError::Message { of: of.short_name(), error };
    for field in Reader::new(bytes) {
        let (number, data) = field.map_err(malformed)?;
        if let Some(part) = of.inlined(number) {
            message(schema::get(part), data.bytes().map_err(malformed)?, object, depth + 1)?;
            continue;
        }
        let Some(field) = of.numbered(number) else { continue };
        let place = Place { of, field: field.name, depth };
        match field.shape {
            Shape::One(Kind::Object(id)) => {
                let slot = object.entry(field.name).or_insert_with(|| json!({}));
                let Value::Object(inner) = slot else { continue };
                message(schema::get(id), place.bytes(data)?, inner, depth + 1)?;
            }
            Shape::One(kind) => match place.value(kind, data)? {
                Some(value) if field.keeps_zero || !is_zero(&value) => {
                    object.insert(field.name.to_owned(), value);
                }
                _ => {}
            },
            Shape::List(kind) => {
                let items = place.items(kind, data)?;
                if let Value::Array(list) = object.entry(field.name).or_insert_with(|| json!([])) {
                    list.extend(items);
                }
            }
            Shape::Map(kind) => {
                let (key, value) = place.entry(kind, data)?;
                if let Value::Object(map) = object.entry(field.name).or_insert_with(|| json!({})) {
                    map.insert(key, value);
                }
            }
        }
    }
    Ok(())
}

/// What upstream's JSON leaves out when a field was never set.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Bool(truth) => !truth,
        Value::Number(number) => number.as_f64() == Some(0.0),
        _ => false,
    }
}

/// The field that is being read, for errors and for the depth.
#[derive(Clone, Copy)]
struct Place {
    of: &'static Type,
    field: &'static str,
    depth: usize,
}

impl Place {
    fn error(self, error: WireError) -> ProtobufError {
        ProtobufError::Field { of: self.of.short_name(), field: self.field, error }
    }

    fn bytes<'a>(self, data: Data<'a>) -> Result<&'a [u8], ProtobufError> {
        data.bytes().map_err(|e| self.error(e))
    }

    /// One value; `None` for a time that is not set and for empty free-form JSON.
    fn value(self, kind: Kind, data: Data) -> Result<Option<Value>, ProtobufError> {
        if let Kind::Object(id) = kind {
            let mut inner = Object::new();
            message(schema::get(id), self.bytes(data)?, &mut inner, self.depth + 1)?;
            return Ok(Some(Value::Object(inner)));
        }
        scalar(kind, data).map_err(|e| self.error(e))
    }

    /// One item, or several packed numbers.
    fn items(self, kind: Kind, data: Data) -> Result<Vec<Value>, ProtobufError> {
        if let (Kind::Int32 | Kind::Int64 | Kind::Bool, Data::Bytes(packed)) = (kind, data) {
            let numbers = reader::packed(packed).map_err(|e| self.error(e))?;
            let values = numbers.into_iter().map(|number| scalar(kind, Data::Number(number)));
            return values
                .filter_map(Result::transpose)
                .collect::<Result<_, _>>()
                .map_err(|e| self.error(e));
        }
        // A list's item keeps its place even where nothing was set.
        Ok(vec![self.value(kind, data)?.unwrap_or_default()])
    }

    /// An entry of a map: a message with the key as field 1 and the value as field 2.
    fn entry(self, kind: Kind, data: Data) -> Result<(String, Value), ProtobufError> {
        let (mut key, mut value) = (String::new(), None);
        for field in Reader::new(self.bytes(data)?) {
            match field.map_err(|e| self.error(e))? {
                (1, data) => key = data.text().map_err(|e| self.error(e))?.to_owned(),
                (2, data) => value = self.value(kind, data)?,
                _ => {}
            }
        }
        Ok((key, value.unwrap_or_else(|| kind.zero())))
    }
}

fn scalar(kind: Kind, data: Data) -> Result<Option<Value>, WireError> {
    Ok(Some(match kind {
        Kind::Text => data.text()?.into(),
        // Negative numbers are sign-extended to 64 bits on the wire; both casts take bits as they are.
        #[expect(clippy::cast_possible_truncation, reason = "int32 is the low half of the varint")]
        Kind::Int32 => (data.number()? as i32).into(),
        Kind::Int64 => data.number()?.cast_signed().into(),
        Kind::Bool => (data.number()? != 0).into(),
        Kind::Double => json!(f64::from_bits(data.fixed64()?)),
        Kind::Bytes => STANDARD.encode(data.bytes()?).into(),
        Kind::Time => return time(data.bytes()?, |time| time.strftime("%FT%TZ").to_string()),
        Kind::MicroTime => {
            return time(data.bytes()?, |time| time.strftime("%FT%T%.6fZ").to_string());
        }
        Kind::Quantity => {
            let text = single_text(data.bytes()?)?;
            if text.is_empty() { "0".into() } else { text.into() }
        }
        Kind::IntOrString => int_or_string(data.bytes()?)?,
        Kind::Raw => return free_form(data.bytes()?),
        Kind::Texts => {
            let mut texts = Vec::new();
            for field in Reader::new(data.bytes()?) {
                if let (1, data) = field? {
                    texts.push(Value::from(data.text()?));
                }
            }
            Value::Array(texts)
        }
        Kind::Object(_) => return Ok(None),
    }))
}

/// Seconds and nanoseconds; no bytes at all mean that the time is not set.
fn time(bytes: &[u8], print: fn(Timestamp) -> String) -> Result<Option<Value>, WireError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (mut seconds, mut nanoseconds) = (0, 0);
    for field in Reader::new(bytes) {
        match field? {
            (1, data) => seconds = data.number()?.cast_signed(),
            (2, data) => nanoseconds = i32::try_from(data.number()?.cast_signed()).unwrap_or(0),
            _ => {}
        }
    }
    let time = Timestamp::new(seconds, nanoseconds).map_err(|_| WireError::Time(seconds))?;
    Ok(Some(print(time).into()))
}

/// The text in field 1.
fn single_text(bytes: &[u8]) -> Result<&str, WireError> {
    let mut text = "";
    for field in Reader::new(bytes) {
        if let (1, data) = field? {
            text = data.text()?;
        }
    }
    Ok(text)
}

fn int_or_string(bytes: &[u8]) -> Result<Value, WireError> {
    let (mut is_text, mut number, mut text) = (false, json!(0), "");
    for field in Reader::new(bytes) {
        match field? {
            (1, data) => is_text = data.number()? == 1,
            (2, data) => number = scalar(Kind::Int32, data)?.unwrap_or_default(),
            (3, data) => text = data.text()?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number })
}

/// JSON inside of protobuf.
fn free_form(bytes: &[u8]) -> Result<Option<Value>, WireError> {
    let mut raw = [].as_slice();
    for field in Reader::new(bytes) {
        if let (1, data) = field? {
            raw = data.bytes()?;
        }
    }
    if raw.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(raw).map(Some).map_err(|e| WireError::Json(e.to_string()))
}

#[cfg(test)]
mod tests;
