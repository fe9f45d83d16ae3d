//! What the field table says at one place of a document.
//!
//! Input: a table and a type; output: the merge strategy of a field and the view of what is below
//! it. Below maps and free-form JSON there are no types, and everything merges plainly.

use crate::schema::{Kind, Merge, Shape, Table, Type};

use super::StrategicError;

/// A type, or `None` where the document is free of types.
#[derive(Clone, Copy)]
pub(crate) struct View<'t> {
    table: &'t Table,
    of: Option<&'t Type>,
}

impl<'t> View<'t> {
    /// The view of a kind.
    pub(crate) fn of_kind(
        table: &'t Table,
        api_version: &str,
        kind: &str,
    ) -> Result<Self, StrategicError> {
        match table.of_kind(api_version, kind) {
            Some(of) => Ok(Self { table, of: Some(of) }),
            None => Err(StrategicError::UnknownKind {
                api_version: api_version.to_owned(),
                kind: kind.to_owned(),
            }),
        }
    }

    /// How the field merges, and the view of its value or of its items.
    pub(super) fn field(self, name: &str) -> Result<(Self, Merge), StrategicError> {
        let free = Self { table: self.table, of: None };
        let Some(of) = self.of else { return Ok((free, Merge::default())) };
        let field = of.field(name).ok_or_else(|| StrategicError::UnknownField {
            of: of.short_name(),
            field: name.to_owned(),
        })?;
        let below = match field.shape {
            Shape::One(Kind::Object(id)) | Shape::List(Kind::Object(id)) => {
                Some(self.table.get(id))
            }
            _ => None,
        };
        Ok((Self { table: self.table, of: below }, field.merge))
    }

    /// The type's name as Go's, for messages.
    pub(super) fn name(self) -> &'static str {
        self.of.map_or("interface {}", Type::short_name)
    }
}
