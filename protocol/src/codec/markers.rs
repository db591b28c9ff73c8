//! The MessagePack markers (first bytes) of the element types that frames consist of.

/// No value.
pub(crate) const NIL: u8 = 0xc0;

/// A number of eight bits without a sign; up to [`MOST_FIX`] one is its own marker.
pub(crate) const U8: u8 = 0xcc;

/// One of sixteen bits.
pub(crate) const U16: u8 = 0xcd;

/// One of thirty-two bits.
pub(crate) const U32: u8 = 0xce;

/// One of sixty-four bits.
pub(crate) const U64: u8 = 0xcf;

/// The largest number that is its own marker.
pub(crate) const MOST_FIX: u8 = 0x7f;

/// A byte string whose length is one byte.
pub(crate) const BIN8: u8 = 0xc4;

/// A byte string whose length is four bytes.
pub(crate) const BIN32: u8 = 0xc6;

/// An array of up to fifteen elements, whose number stands in the lower half.
pub(crate) const FIX_ARRAY: u8 = 0x90;
