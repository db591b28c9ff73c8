//! `Form`: the two ways to write a struct. Both are read by one decoder.

/// How structs, and variants with named fields, are written. All else is written alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As arrays of their fields in order: short, for the operations of the built-in kinds. Only
    /// the last fields may be skipped. A unit struct is an empty array.
    Compact,
    /// As maps from the names of their fields: for what users encode, since fields may be skipped and other
    /// languages find them by name. A unit struct is nil.
    Named,
}
