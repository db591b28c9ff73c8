//! `Output`: appends MessagePack to a buffer, with a limit.
//!
//! Invariant: the serializer checks the limit before each part of a value and each long text. So a value
//! that does not fit exceeds the limit by a few bytes at most, and the last check covers the whole
//! value.

use bytes::Bytes;

use crate::codec::{
    error::Failure,
    lent,
    markers::{
        ARRAY16, ARRAY32, BIN8, BIN16, BIN32, EXT8, EXT16, FIX_ARRAY, FIX_EXT1, FIX_MAP, FIX_STR,
        I8, I16, I32, I64, MAP16, MAP32, MOST_FIX, NIL, SOME, STR8, STR16, STR32, U8, U16, U32,
        U64,
    },
};

/// The end of a buffer, with a limit of bytes.
#[derive(Debug)]
pub(crate) struct Output<'b> {
    buffer: &'b mut Vec<u8>,
    /// The maximum length of the buffer.
    most: usize,
    is_over: bool,
    lent: Lent,
}

/// Whether a long byte string may be left out, or the one that was.
#[derive(Debug)]
enum Lent {
    Never,
    No,
    /// The place in the buffer where the bytes belong.
    At(usize, Bytes),
}

impl<'b> Output<'b> {
    /// Makes an output with a limit of bytes.
    pub(crate) fn new(buffer: &'b mut Vec<u8>, bytes: usize) -> Self {
        let most = buffer.len().saturating_add(bytes);
        Self {
            buffer,
            most,
            is_over: false,
            lent: Lent::Never,
        }
    }

    /// Makes an output with a limit of bytes. The first long byte string that is offered is left out.
    pub(crate) fn within(buffer: &'b mut Vec<u8>, bytes: usize) -> Self {
        Self {
            lent: Lent::No,
            ..Self::new(buffer, bytes)
        }
    }

    /// Returns whether a part did not fit.
    #[inline]
    pub(crate) const fn is_over(&self) -> bool {
        self.is_over || self.buffer.len() > self.most
    }

    /// Checks that a number of further bytes fit.
    #[inline]
    pub(crate) fn check(&mut self, bytes: usize) -> Result<(), Failure> {
        if self.buffer.len().saturating_add(bytes) > self.most {
            return Err(self.no_room());
        }
        Ok(())
    }

    #[cold]
    fn no_room(&mut self) -> Failure {
        self.is_over = true;
        Failure::new(&"there is no room for it")
    }

    /// Returns the byte string that was left out, and the place in the buffer where it belongs.
    pub(crate) fn into_lent(self) -> Option<(usize, Bytes)> {
        match self.lent {
            Lent::Never | Lent::No => None,
            Lent::At(place, bytes) => Some((place, bytes)),
        }
    }

    /// Returns the place of the next byte.
    #[inline]
    pub(crate) fn place(&self) -> usize {
        self.buffer.len()
    }

    /// Returns the byte at a place.
    #[inline]
    pub(crate) fn at(&self, place: usize) -> Option<u8> {
        self.buffer.get(place).copied()
    }

    #[inline]
    pub(crate) fn byte(&mut self, byte: u8) {
        self.buffer.push(byte);
    }

    #[inline]
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    #[inline]
    fn with_u16(&mut self, marker: u8, number: u16) {
        let [a, b] = number.to_be_bytes();
        self.bytes(&[marker, a, b]);
    }

    #[inline]
    pub(crate) fn with_u32(&mut self, marker: u8, number: u32) {
        let [a, b, c, d] = number.to_be_bytes();
        self.bytes(&[marker, a, b, c, d]);
    }

    #[inline]
    pub(crate) fn with_u64(&mut self, marker: u8, number: u64) {
        let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
        self.bytes(&[marker, a, b, c, d, e, f, g, h]);
    }

    /// Writes a number in its shortest form.
    #[inline]
    pub(crate) fn unsigned(&mut self, number: u64) {
        match u8::try_from(number) {
            Ok(small @ ..=MOST_FIX) => return self.byte(small),
            Ok(small) => return self.bytes(&[U8, small]),
            Err(_) => {}
        }
        match (u16::try_from(number), u32::try_from(number)) {
            (Ok(number), _) => self.with_u16(U16, number),
            (Err(_), Ok(number)) => self.with_u32(U32, number),
            (Err(_), Err(_)) => self.with_u64(U64, number),
        }
    }

    /// Writes a number in its shortest form.
    #[inline]
    pub(crate) fn signed(&mut self, number: i64) {
        match u64::try_from(number) {
            Ok(number) => self.unsigned(number),
            Err(_) => self.negative(number),
        }
    }

    fn negative(&mut self, number: i64) {
        match (i8::try_from(number), i16::try_from(number)) {
            (Ok(small), _) if small >= -32 => self.byte(small.cast_unsigned()),
            (Ok(small), _) => self.bytes(&[I8, small.cast_unsigned()]),
            (Err(_), Ok(number)) => self.with_u16(I16, number.cast_unsigned()),
            (Err(_), Err(_)) => match i32::try_from(number) {
                Ok(number) => self.with_u32(I32, number.cast_unsigned()),
                Err(_) => self.with_u64(I64, number.cast_unsigned()),
            },
        }
    }

    /// Begins a variant with content: a map of one entry, with the name as key.
    #[inline]
    pub(crate) fn variant(&mut self, name: &str) -> Result<(), Failure> {
        match u8::try_from(name.len()) {
            Ok(length @ ..32) => self.bytes(&[FIX_MAP | 1, FIX_STR | length]),
            Ok(_) | Err(_) => {
                self.byte(FIX_MAP | 1);
                return self.text(name);
            }
        }
        self.bytes(name.as_bytes());
        Ok(())
    }

    /// Writes the name of a field or variant, which is short.
    #[inline]
    pub(crate) fn name(&mut self, name: &str) -> Result<(), Failure> {
        match u8::try_from(name.len()) {
            Ok(length @ ..32) => self.byte(FIX_STR | length),
            Ok(_) | Err(_) => return self.text(name),
        }
        self.bytes(name.as_bytes());
        Ok(())
    }

    #[inline]
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Failure> {
        match u8::try_from(text.len()) {
            Ok(length @ ..32) => self.byte(FIX_STR | length),
            Ok(length) => self.bytes(&[STR8, length]),
            Err(_) => {
                self.check(text.len())?;
                self.long(STR16, STR32, text.len())?;
            }
        }
        self.bytes(text.as_bytes());
        Ok(())
    }

    /// Writes a byte string, or leaves it out if it is offered.
    #[inline]
    pub(crate) fn byte_string(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match u8::try_from(bytes.len()) {
            Ok(length) => self.bytes(&[BIN8, length]),
            Err(_) => {
                self.check(bytes.len())?;
                self.long(BIN16, BIN32, bytes.len())?;
                if let Some(lent) = self.borrow(bytes) {
                    self.most -= lent.len();
                    self.lent = Lent::At(self.buffer.len(), lent);
                    return Ok(());
                }
            }
        }
        self.bytes(bytes);
        Ok(())
    }

    fn borrow(&self, bytes: &[u8]) -> Option<Bytes> {
        if bytes.len() < lent::LEAST_BYTES || !matches!(self.lent, Lent::No) {
            return None;
        }
        lent::take(bytes)
    }

    /// Begins an array.
    #[inline]
    pub(crate) fn array(&mut self, length: usize) -> Result<(), Failure> {
        match u8::try_from(length) {
            Ok(length @ ..16) => self.byte(FIX_ARRAY | length),
            Ok(_) | Err(_) => self.long(ARRAY16, ARRAY32, length)?,
        }
        Ok(())
    }

    /// Begins a map.
    #[inline]
    pub(crate) fn map(&mut self, length: usize) -> Result<(), Failure> {
        match u8::try_from(length) {
            Ok(length @ ..16) => self.byte(FIX_MAP | length),
            Ok(_) | Err(_) => self.long(MAP16, MAP32, length)?,
        }
        Ok(())
    }

    /// Begins a value of unknown length, and returns the place of the length.
    pub(crate) fn open(&mut self, marker: u8) -> usize {
        self.with_u32(marker, 0);
        self.buffer.len() - size_of::<u32>()
    }

    /// Writes a length at its place.
    pub(crate) fn close(&mut self, place: usize, length: u64) -> Result<(), Failure> {
        let length = u32::try_from(length).map_err(|_| too_long())?;
        if let Some(at) = self.buffer.get_mut(place..place + size_of::<u32>()) {
            at.copy_from_slice(&length.to_be_bytes());
        }
        Ok(())
    }

    /// Wraps everything that was written since a place in a `Some`.
    #[cold]
    pub(crate) fn wrap(&mut self, place: usize) -> Result<(), Failure> {
        let length = self.buffer.len() - place;
        let (short, long);
        let header: &[u8] = match (u8::try_from(length), u16::try_from(length)) {
            (Ok(1), _) => &[FIX_EXT1, SOME],
            (Ok(length), _) => {
                short = [EXT8, length, SOME];
                &short
            }
            (Err(_), Ok(length)) => {
                let [a, b] = length.to_be_bytes();
                long = [EXT16, a, b, SOME];
                &long
            }
            // The limit of nesting prevents this.
            (Err(_), Err(_)) => return Err(too_long()),
        };
        self.buffer.splice(place..place, header.iter().copied());
        Ok(())
    }

    /// Returns whether a value with this first byte is nil or was made by [`Self::wrap`]. All other
    /// extensions begin with other bytes.
    #[inline]
    pub(crate) const fn is_wrapped(first: u8) -> bool {
        matches!(first, NIL | FIX_EXT1 | EXT8 | EXT16)
    }

    fn long(&mut self, short: u8, long: u8, length: usize) -> Result<(), Failure> {
        match (u16::try_from(length), u32::try_from(length)) {
            (Ok(length), _) => self.with_u16(short, length),
            (Err(_), Ok(length)) => self.with_u32(long, length),
            (Err(_), Err(_)) => return Err(too_long()),
        }
        Ok(())
    }
}

#[cold]
fn too_long() -> Failure {
    Failure::new(&"it has a part that is longer than 4294967295 bytes or elements")
}
