//! Fields that Kubernetes leaves out when they hold nothing (`omitempty` of values that are no
//! pointers): `""`, `0`, `false` and `[]` are the same as not set.
//!
//! Typed clients and protobuf bodies write such values out; without this they would be stored, and
//! `nodeName: ""` would look like a node.

/// An empty text is none.
pub(crate) fn empty_texts<const N: usize>(fields: [&mut Option<String>; N]) {
    for field in fields {
        *field = field.take().filter(|text| !text.is_empty());
    }
}

/// A list without items is none.
pub(crate) fn empty_lists<T, const N: usize>(fields: [&mut Option<Vec<T>>; N]) {
    for field in fields {
        *field = field.take().filter(|list| !list.is_empty());
    }
}

/// Zero is none.
pub(crate) fn zeros<const N: usize>(fields: [&mut Option<i32>; N]) {
    for field in fields {
        *field = field.filter(|&number| number != 0);
    }
}

/// No is none.
pub(crate) fn noes<const N: usize>(fields: [&mut Option<bool>; N]) {
    for field in fields {
        *field = field.filter(|&set| set);
    }
}
