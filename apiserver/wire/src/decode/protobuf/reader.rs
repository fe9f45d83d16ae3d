//! Protobuf's wire format: fields of a message as numbers and raw data.
//!
//! Input: the bytes of one message; output: an iterator of fields. Groups, which Kubernetes never
//! used, are refused. Nothing here knows what a field means.

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The message ends inside a field.
    #[error("unexpected end of message")]
    End,
    /// A number of more than 64 bits.
    #[error("a varint is longer than 10 bytes")]
    Varint,
    /// Field 0, or a number of more than 29 bits.
    #[error("{0} is no field number")]
    FieldNumber(u64),
    /// A wire type that does not exist, or a group.
    #[error("wire type {0} is not supported")]
    WireType(u8),
    /// Data of another wire type than the field's.
    #[error("expected {expected}")]
    Unexpected {
        /// What the field's type needs.
        expected: &'static str,
    },
    /// A text that is not UTF-8.
    #[error("a text is not UTF-8")]
    Utf8,
    /// Free-form JSON that is none.
    #[error("invalid JSON: {0}")]
    Json(String),
    /// A time beyond the years 1 to 9999, in seconds since 1970.
    #[error("{0} s is no time")]
    Time(i64),
}

/// The data of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Data<'a> {
    /// A varint.
    Number(u64),
    /// Eight bytes.
    Fixed64(u64),
    /// Four bytes; no field of Kubernetes has them.
    Fixed32,
    /// Text, bytes or a message.
    Bytes(&'a [u8]),
}

impl<'a> Data<'a> {
    pub(super) fn number(self) -> Result<u64, WireError> {
        match self {
            Self::Number(number) => Ok(number),
            _ => Err(WireError::Unexpected { expected: "a varint" }),
        }
    }

    pub(super) fn fixed64(self) -> Result<u64, WireError> {
        match self {
            Self::Fixed64(bits) => Ok(bits),
            _ => Err(WireError::Unexpected { expected: "eight bytes" }),
        }
    }

    pub(super) fn bytes(self) -> Result<&'a [u8], WireError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(WireError::Unexpected { expected: "a length and bytes" }),
        }
    }

    pub(super) fn text(self) -> Result<&'a str, WireError> {
        str::from_utf8(self.bytes()?).map_err(|_| WireError::Utf8)
    }
}

/// The fields of a message; ends after the first error.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn field(&mut self) -> Result<(u32, Data<'a>), WireError> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3)
            .ok()
            .filter(|&number| number != 0 && number < 1 << 29)
            .ok_or(WireError::FieldNumber(tag >> 3))?;
        let data = match tag & 7 {
            0 => Data::Number(self.varint()?),
            1 => {
                let (bits, rest) = self.rest.split_first_chunk().ok_or(WireError::End)?;
                self.rest = rest;
                Data::Fixed64(u64::from_le_bytes(*bits))
            }
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| WireError::End)?;
                let (bytes, rest) = self.rest.split_at_checked(length).ok_or(WireError::End)?;
                self.rest = rest;
                Data::Bytes(bytes)
            }
            5 => {
                self.rest = self.rest.get(4..).ok_or(WireError::End)?;
                Data::Fixed32
            }
            #[expect(clippy::cast_possible_truncation, reason = "three bits")]
            other => return Err(WireError::WireType(other as u8)),
        };
        Ok((number, data))
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        let mut number = 0;
        for shift in (0..70).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(WireError::End)?;
            self.rest = rest;
            let bits = u64::from(byte & 0x7f);
            number |= bits.checked_shl(shift).unwrap_or(0);
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(WireError::Varint)
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<(u32, Data<'a>), WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// Varints one after the other.
pub(super) fn packed(bytes: &[u8]) -> Result<Vec<u64>, WireError> {
    let mut reader = Reader::new(bytes);
    let mut numbers = Vec::new();
    while !reader.rest.is_empty() {
        numbers.push(reader.varint()?);
    }
    Ok(numbers)
}
