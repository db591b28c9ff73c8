//! The first bytes of MessagePack's types, and the codes of the extensions that values use.

/// The largest number that is its own marker.
pub(crate) const MOST_FIX: u8 = 0x7f;

/// A map of up to fifteen entries, with their number in the lower four bits.
pub(crate) const FIX_MAP: u8 = 0x80;

/// An array of up to fifteen elements, with their number in the lower four bits.
pub(crate) const FIX_ARRAY: u8 = 0x90;

/// A text of up to 31 bytes, with its length in the lower five bits.
pub(crate) const FIX_STR: u8 = 0xa0;

/// No value.
pub(crate) const NIL: u8 = 0xc0;

pub(crate) const FALSE: u8 = 0xc2;
pub(crate) const TRUE: u8 = 0xc3;

/// Byte strings whose length is one, two or four bytes.
pub(crate) const BIN8: u8 = 0xc4;
pub(crate) const BIN16: u8 = 0xc5;
pub(crate) const BIN32: u8 = 0xc6;

/// Extensions: a length, a code, and that many bytes.
pub(crate) const EXT8: u8 = 0xc7;
pub(crate) const EXT16: u8 = 0xc8;
pub(crate) const EXT32: u8 = 0xc9;

pub(crate) const F32: u8 = 0xca;
pub(crate) const F64: u8 = 0xcb;

/// Unsigned numbers.
pub(crate) const U8: u8 = 0xcc;
pub(crate) const U16: u8 = 0xcd;
pub(crate) const U32: u8 = 0xce;
pub(crate) const U64: u8 = 0xcf;

/// Signed numbers.
pub(crate) const I8: u8 = 0xd0;
pub(crate) const I16: u8 = 0xd1;
pub(crate) const I32: u8 = 0xd2;
pub(crate) const I64: u8 = 0xd3;

/// Extensions of a fixed length: a code, and the bytes.
pub(crate) const FIX_EXT1: u8 = 0xd4;
pub(crate) const FIX_EXT2: u8 = 0xd5;
pub(crate) const FIX_EXT4: u8 = 0xd6;
pub(crate) const FIX_EXT8: u8 = 0xd7;
pub(crate) const FIX_EXT16: u8 = 0xd8;

pub(crate) const STR8: u8 = 0xd9;
pub(crate) const STR16: u8 = 0xda;
pub(crate) const STR32: u8 = 0xdb;

pub(crate) const ARRAY16: u8 = 0xdc;
pub(crate) const ARRAY32: u8 = 0xdd;

pub(crate) const MAP16: u8 = 0xde;
pub(crate) const MAP32: u8 = 0xdf;

/// The marker of the lowest negative number that is its own marker. 0xff is -1.
pub(crate) const LEAST_NEGATIVE_FIX: u8 = 0xe0;

/// The code of a `Some` whose content is nil or again such a `Some`. The bytes are the content.
pub(crate) const SOME: u8 = 0;

/// The code of an integer of 2^64 or more: 16 bytes, most significant first.
pub(crate) const UNSIGNED_128: u8 = 1;

/// The code of an integer below -2^63: 16 bytes in two's complement, most significant first.
pub(crate) const SIGNED_128: u8 = 2;
