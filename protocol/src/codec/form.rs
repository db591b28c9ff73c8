//! `Form`: the two encodings of a struct. One decoder reads both.

/// The encoding of structs and of variants with named fields. All other types have one encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An array of the fields in order, which is short: for the operations of the built-in kinds.
    /// Only the last fields may be skipped. A unit struct is an empty array.
    Compact,
    /// A map from the names of the fields: for users' values, since any field may be skipped and other
    /// languages find fields by name. A unit struct is nil.
    Named,
}
