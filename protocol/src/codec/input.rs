//! `Input`: the unread bytes of a message, and the only reader of MessagePack's markers.
//!
//! Invariant: malformed input is an error, and reading allocates nothing.

use crate::codec::{
    error::Failure,
    markers::{
        ARRAY16, ARRAY32, BIN8, BIN16, BIN32, EXT8, EXT16, EXT32, F32, F64, FALSE, FIX_ARRAY,
        FIX_EXT1, FIX_EXT2, FIX_EXT4, FIX_EXT8, FIX_EXT16, FIX_MAP, FIX_STR, I8, I16, I32, I64,
        LEAST_NEGATIVE_FIX, MAP16, MAP32, MOST_FIX, NIL, STR8, STR16, STR32, TRUE, U8, U16, U32,
        U64,
    },
};

/// The unread bytes of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'de>(&'de [u8]);

/// A value without parts, or the header of one with parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Head<'de> {
    Nil,
    Bool(bool),
    Unsigned(u64),
    /// A negative number.
    Negative(i64),
    F32(f32),
    F64(f64),
    Text(&'de str),
    Bytes(&'de [u8]),
    /// An array; this many elements follow.
    Array(u32),
    /// A map; this many entries follow.
    Map(u32),
    /// An extension: its code and its content.
    Extension(u8, &'de [u8]),
}

impl<'de> Input<'de> {
    #[inline]
    pub(crate) const fn new(bytes: &'de [u8]) -> Self {
        Self(bytes)
    }

    /// Returns the unread bytes.
    #[inline]
    pub(crate) const fn rest(&self) -> &'de [u8] {
        self.0
    }

    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of unread bytes.
    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the next byte without reading it.
    #[inline]
    pub(crate) fn first(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// Reads an unsigned number, if one is next.
    #[inline]
    pub(crate) fn number(&mut self) -> Option<u64> {
        let (number, rest) = match *self.0 {
            [small @ ..=MOST_FIX, ref rest @ ..] | [U8, small, ref rest @ ..] => {
                (small.into(), rest)
            }
            [U16, a, b, ref rest @ ..] => (u16::from_be_bytes([a, b]).into(), rest),
            [U32, a, b, c, d, ref rest @ ..] => (u32::from_be_bytes([a, b, c, d]).into(), rest),
            [U64, a, b, c, d, e, f, g, h, ref rest @ ..] => {
                (u64::from_be_bytes([a, b, c, d, e, f, g, h]), rest)
            }
            _ => return None,
        };
        self.0 = rest;
        Some(number)
    }

    /// Reads a negative number, if one is next.
    #[inline]
    pub(crate) fn negative(&mut self) -> Option<i64> {
        let (number, rest): (i64, _) = match *self.0 {
            [small @ LEAST_NEGATIVE_FIX..=u8::MAX, ref rest @ ..] | [I8, small, ref rest @ ..] => {
                (small.cast_signed().into(), rest)
            }
            [I16, a, b, ref rest @ ..] => (i16::from_be_bytes([a, b]).into(), rest),
            [I32, a, b, c, d, ref rest @ ..] => (i32::from_be_bytes([a, b, c, d]).into(), rest),
            [I64, a, b, c, d, e, f, g, h, ref rest @ ..] => {
                (i64::from_be_bytes([a, b, c, d, e, f, g, h]), rest)
            }
            _ => return None,
        };
        if number >= 0 {
            return None;
        }
        self.0 = rest;
        Some(number)
    }

    /// Reads a boolean, if one is next.
    #[inline]
    pub(crate) fn truth(&mut self) -> Option<bool> {
        let (truth, rest) = match *self.0 {
            [FALSE, ref rest @ ..] => (false, rest),
            [TRUE, ref rest @ ..] => (true, rest),
            _ => return None,
        };
        self.0 = rest;
        Some(truth)
    }

    /// Reads a floating-point number, if one of 64 bits is next.
    #[inline]
    pub(crate) fn fraction(&mut self) -> Option<f64> {
        let [F64, a, b, c, d, e, f, g, h, ref rest @ ..] = *self.0 else {
            return None;
        };
        self.0 = rest;
        Some(f64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }

    /// Reads a text if it equals `name`, which has up to 31 bytes. Returns whether it does.
    #[inline]
    pub(crate) fn name(&mut self, name: &str) -> bool {
        let Ok(length @ ..32) = u8::try_from(name.len()) else {
            return false;
        };
        let text = match self.0.split_first() {
            Some((marker, text)) if *marker == FIX_STR | length => text,
            Some(_) | None => return false,
        };
        let rest = text.strip_prefix(name.as_bytes());
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// Reads a text of up to 31 bytes, if one is next.
    #[inline]
    pub(crate) fn short_text(&mut self) -> Option<&'de str> {
        let (marker @ FIX_STR..NIL, rest) = self.0.split_first()? else {
            return None;
        };
        let (text, rest) = rest.split_at_checked((marker & 0x1f).into())?;
        let text = std::str::from_utf8(text).ok()?;
        self.0 = rest;
        Some(text)
    }

    /// Reads a byte string of up to 255 bytes, if one is next.
    #[inline]
    pub(crate) fn short_bytes(&mut self) -> Option<&'de [u8]> {
        let [BIN8, length, rest @ ..] = self.0 else {
            return None;
        };
        let (bytes, rest) = rest.split_at_checked((*length).into())?;
        self.0 = rest;
        Some(bytes)
    }

    /// Reads the header of an array of up to 15 elements, if one is next.
    #[inline]
    pub(crate) fn short_array(&mut self) -> Option<u32> {
        let (marker @ FIX_ARRAY..FIX_STR, rest) = self.0.split_first()? else {
            return None;
        };
        self.0 = rest;
        Some((marker & 0x0f).into())
    }

    /// Reads the header of a map of up to 15 entries, if one is next.
    #[inline]
    pub(crate) fn short_map(&mut self) -> Option<u32> {
        let (marker @ FIX_MAP..FIX_ARRAY, rest) = self.0.split_first()? else {
            return None;
        };
        self.0 = rest;
        Some((marker & 0x0f).into())
    }

    /// Returns whether a map is next.
    #[inline]
    pub(crate) fn begins_map(&self) -> bool {
        matches!(self.first(), Some(FIX_MAP..FIX_ARRAY | MAP16 | MAP32))
    }

    /// Reads the header of a map, and returns whether it has one entry.
    #[inline]
    pub(crate) fn variant(&mut self) -> Result<bool, Failure> {
        if let Some(entries) = self.short_map() {
            return Ok(entries == 1);
        }
        Ok(self.head()? == Head::Map(1))
    }

    /// Returns whether a byte string is next.
    #[inline]
    pub(crate) fn begins_bytes(&self) -> bool {
        matches!(self.first(), Some(BIN8..=BIN32))
    }

    /// Returns whether an extension is next.
    #[inline]
    pub(crate) fn begins_extension(&self) -> bool {
        matches!(
            self.first(),
            Some(EXT8 | EXT16 | EXT32 | FIX_EXT1..=FIX_EXT16)
        )
    }

    /// Reads the next byte.
    #[inline]
    pub(crate) fn byte(&mut self) -> Result<u8, Failure> {
        let (first, rest) = self.0.split_first().ok_or_else(broken_off)?;
        self.0 = rest;
        Ok(*first)
    }

    /// Reads a value without parts, or the header of one with parts.
    pub(crate) fn head(&mut self) -> Result<Head<'de>, Failure> {
        let marker = self.byte()?;
        Ok(match marker {
            ..=MOST_FIX => Head::Unsigned(marker.into()),
            FIX_MAP..FIX_ARRAY => Head::Map((marker & 0x0f).into()),
            FIX_ARRAY..FIX_STR => Head::Array((marker & 0x0f).into()),
            FIX_STR..NIL => self.text((marker & 0x1f).into())?,
            NIL => Head::Nil,
            FALSE => Head::Bool(false),
            TRUE => Head::Bool(true),
            BIN8 | BIN16 | BIN32 => {
                let length = self.length(marker - BIN8)?;
                Head::Bytes(self.take(length)?)
            }
            EXT8 | EXT16 | EXT32 => {
                let length = self.length(marker - EXT8)?;
                self.extension(length)?
            }
            F32 => Head::F32(f32::from_be_bytes(self.array()?)),
            F64 => Head::F64(f64::from_be_bytes(self.array()?)),
            U8 => Head::Unsigned(self.byte()?.into()),
            U16 => Head::Unsigned(u16::from_be_bytes(self.array()?).into()),
            U32 => Head::Unsigned(u32::from_be_bytes(self.array()?).into()),
            U64 => Head::Unsigned(u64::from_be_bytes(self.array()?)),
            I8 => signed(i8::from_be_bytes(self.array()?).into()),
            I16 => signed(i16::from_be_bytes(self.array()?).into()),
            I32 => signed(i32::from_be_bytes(self.array()?).into()),
            I64 => signed(i64::from_be_bytes(self.array()?)),
            FIX_EXT1 => self.extension(1)?,
            FIX_EXT2 => self.extension(2)?,
            FIX_EXT4 => self.extension(4)?,
            FIX_EXT8 => self.extension(8)?,
            FIX_EXT16 => self.extension(16)?,
            STR8 | STR16 | STR32 => {
                let length = self.length(marker - STR8)?;
                self.text(length)?
            }
            ARRAY16 | ARRAY32 => Head::Array(self.length(marker - ARRAY16 + 1)?),
            MAP16 | MAP32 => Head::Map(self.length(marker - MAP16 + 1)?),
            LEAST_NEGATIVE_FIX.. => signed(marker.cast_signed().into()),
            _ => return Err(unknown(marker)),
        })
    }

    /// Skips one value of any depth.
    pub(crate) fn skip(&mut self) -> Result<(), Failure> {
        let mut left = 1_u64;
        while left > 0 {
            left = left - 1
                + match self.head()? {
                    Head::Array(elements) => elements.into(),
                    Head::Map(entries) => 2 * u64::from(entries),
                    Head::Nil
                    | Head::Bool(_)
                    | Head::Unsigned(_)
                    | Head::Negative(_)
                    | Head::F32(_)
                    | Head::F64(_)
                    | Head::Text(_)
                    | Head::Bytes(_)
                    | Head::Extension(..) => 0,
                };
        }
        Ok(())
    }

    /// Reads a length of one, two or four bytes.
    #[inline]
    fn length(&mut self, width: u8) -> Result<u32, Failure> {
        Ok(match width {
            0 => self.byte()?.into(),
            1 => u16::from_be_bytes(self.array()?).into(),
            _ => u32::from_be_bytes(self.array()?),
        })
    }

    #[inline]
    fn text(&mut self, length: u32) -> Result<Head<'de>, Failure> {
        let text = std::str::from_utf8(self.take(length)?);
        text.map(Head::Text).map_err(|_| no_utf8())
    }

    fn extension(&mut self, length: u32) -> Result<Head<'de>, Failure> {
        let code = self.byte()?;
        Ok(Head::Extension(code, self.take(length)?))
    }

    #[inline]
    fn take(&mut self, length: u32) -> Result<&'de [u8], Failure> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(broken_off)?;
        self.0 = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Failure> {
        let (taken, rest) = self.0.split_first_chunk().ok_or_else(broken_off)?;
        self.0 = rest;
        Ok(*taken)
    }
}

/// Makes the head of a number in a signed form, which may be positive.
#[inline]
fn signed<'de>(number: i64) -> Head<'de> {
    u64::try_from(number).map_or(Head::Negative(number), Head::Unsigned)
}

#[cold]
fn broken_off() -> Failure {
    Failure::new(&"the message breaks off")
}

#[cold]
fn no_utf8() -> Failure {
    Failure::new(&"a text is no UTF-8")
}

#[cold]
fn unknown(marker: u8) -> Failure {
    Failure::new(&format_args!("{marker:#04x} begins no MessagePack value"))
}
