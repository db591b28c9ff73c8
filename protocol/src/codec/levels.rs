//! `Levels`: how deep a value may still nest. Encoding and decoding have the same limit, so every
//! encoded value can be decoded.
//!
//! Options and newtype structs count too: they take no bytes, but each takes a stack frame.

use crate::codec::error::Failure;

/// The maximum depth of a value. The levels are sequences, maps, structs, variants with content, newtype
/// structs, and options that are `Some`.
pub const MAX_DEPTH: u32 = 128;

/// The remaining levels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Levels(u32);

impl Levels {
    pub(crate) const ALL: Self = Self(MAX_DEPTH);

    /// Returns the remaining levels inside the next one.
    #[inline]
    pub(crate) fn inside(self) -> Result<Self, Failure> {
        self.0.checked_sub(1).map(Self).ok_or_else(too_deep)
    }
}

#[cold]
fn too_deep() -> Failure {
    Failure::new(&format_args!(
        "it nests deeper than {MAX_DEPTH} levels: flatten it, or encode a part of it as a byte string"
    ))
}
