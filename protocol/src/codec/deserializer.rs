//! `Deserializer`: reads the values of serde's data model from MessagePack, in either form.
//!
//! Invariant: decoding is bounded. Nesting beyond `MAX_DEPTH` is an error, a length in the input allocates
//! nothing by itself, and unwanted values are skipped without recursion.

use std::mem;

use serde::{
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor, value::SeqDeserializer},
    forward_to_deserialize_any,
};

use crate::codec::{
    error::Failure,
    input::{Head, Input},
    levels::Levels,
    markers::{FIX_ARRAY, NIL, SIGNED_128, SOME, UNSIGNED_128},
    variant::Variant,
};

/// Reads one value after the other.
#[derive(Debug)]
pub(crate) struct Deserializer<'de> {
    input: Input<'de>,
    levels: Levels,
    /// While a name is read: the names of the fields that are likely next, in order. They only save time and do
    /// not change the result.
    names: &'static [&'static str],
}

/// The number of these names that are compared. More than one, because fields may be missing.
const MOST_COMPARED: usize = 3;

impl<'de> Deserializer<'de> {
    #[inline]
    pub(crate) const fn new(bytes: &'de [u8]) -> Self {
        Self {
            input: Input::new(bytes),
            levels: Levels::ALL,
            names: &[],
        }
    }

    /// Checks that no bytes are left.
    #[inline]
    pub(crate) fn end(&self) -> Result<(), Failure> {
        if self.input.is_empty() {
            return Ok(());
        }
        Err(goes_on())
    }

    /// Reads a value one level deeper.
    #[inline]
    fn inside<R>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        let outside = self.levels;
        self.levels = outside.inside()?;
        let value = read(self)?;
        self.levels = outside;
        Ok(value)
    }

    #[inline]
    fn number<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Failure> {
        match self.input.number() {
            Some(number) => visitor.visit_u64(number),
            None => de::Deserializer::deserialize_any(self, visitor),
        }
    }

    #[inline]
    fn integer<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Failure> {
        match self.input.negative() {
            Some(number) => visitor.visit_i64(number),
            None => self.number(visitor),
        }
    }

    /// Reads a name. If it is one of `names`, the check for UTF-8 is saved.
    #[inline]
    fn name<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Failure> {
        for (place, name) in self.names.iter().take(MOST_COMPARED).enumerate() {
            if self.input.name(name) {
                self.names = self.names.get(place + 1..).unwrap_or_default();
                return visitor.visit_borrowed_str(name);
            }
        }
        self.text(visitor)
    }

    #[inline]
    fn text<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Failure> {
        match self.input.short_text() {
            Some(text) => visitor.visit_borrowed_str(text),
            None => de::Deserializer::deserialize_any(self, visitor),
        }
    }

    #[inline]
    fn elements<V: Visitor<'de>>(&mut self, left: u32, visitor: V) -> Result<V::Value, Failure> {
        self.inside(|from| {
            let names = &[];
            let mut parts = Parts { from, left, names };
            let value = visitor.visit_seq(&mut parts)?;
            parts.end()?;
            Ok(value)
        })
    }

    #[inline]
    fn entries<V: Visitor<'de>>(
        &mut self,
        left: u32,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.inside(|from| {
            let mut parts = Parts { from, left, names };
            let value = visitor.visit_map(&mut parts)?;
            parts.end()?;
            Ok(value)
        })
    }

    /// Reads the content of a `Some` that is an extension.
    #[cold]
    fn wrapped<V: Visitor<'de>>(
        &mut self,
        content: &'de [u8],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.inside(|from| {
            let behind = mem::replace(&mut from.input, Input::new(content));
            let value = visitor.visit_some(&mut *from)?;
            from.end()?;
            from.input = behind;
            Ok(value)
        })
    }

    #[cold]
    fn extension<V: Visitor<'de>>(
        &mut self,
        code: u8,
        content: &'de [u8],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        match (code, <[u8; 16]>::try_from(content)) {
            (SOME, _) => self.wrapped(content, visitor),
            (UNSIGNED_128, Ok(bytes)) => visitor.visit_u128(u128::from_be_bytes(bytes)),
            (SIGNED_128, Ok(bytes)) => visitor.visit_i128(i128::from_be_bytes(bytes)),
            (_, _) => Err(Failure::new(&format_args!(
                "an extension of type {} and {} bytes is no value of lockkeeper",
                code.cast_signed(),
                content.len()
            ))),
        }
    }

    /// Reads a byte string as a sequence of numbers: other languages do not distinguish the two.
    #[cold]
    fn numbers<V: Visitor<'de>>(bytes: &[u8], visitor: V) -> Result<V::Value, Failure> {
        let mut numbers = SeqDeserializer::new(bytes.iter().copied());
        let value = visitor.visit_seq(&mut numbers)?;
        numbers.end()?;
        Ok(value)
    }
}

/// Defines methods that call one of the private methods above.
macro_rules! by_usual_encoding {
    ($($read:ident: $($method:ident)*;)*) => {$($(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
            self.$read(visitor)
        }
    )*)*};
}

impl<'de> de::Deserializer<'de> for &mut Deserializer<'de> {
    type Error = Failure;

    /// See `Serializer::is_human_readable` for the reason.
    #[inline]
    fn is_human_readable(&self) -> bool {
        true
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.input.head()? {
            Head::Nil => visitor.visit_unit(),
            Head::Bool(value) => visitor.visit_bool(value),
            Head::Unsigned(value) => visitor.visit_u64(value),
            Head::Negative(value) => visitor.visit_i64(value),
            Head::F32(value) => visitor.visit_f32(value),
            Head::F64(value) => visitor.visit_f64(value),
            Head::Text(value) => visitor.visit_borrowed_str(value),
            Head::Bytes(value) => visitor.visit_borrowed_bytes(value),
            Head::Array(elements) => self.elements(elements, visitor),
            Head::Map(entries) => self.entries(entries, &[], visitor),
            Head::Extension(code, content) => self.extension(code, content, visitor),
        }
    }

    // The methods below read the usual encoding of the requested type, and pass other encodings to
    // `deserialize_any`.

    by_usual_encoding! {
        number: deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64;
        integer: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64;
        text: deserialize_str deserialize_string;
        name: deserialize_identifier;
    }

    #[inline]
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.input.truth() {
            Some(truth) => visitor.visit_bool(truth),
            None => self.deserialize_any(visitor),
        }
    }

    #[inline]
    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.input.fraction() {
            Some(fraction) => visitor.visit_f64(fraction),
            None => self.deserialize_any(visitor),
        }
    }

    #[inline]
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.input.short_bytes() {
            Some(bytes) => visitor.visit_borrowed_bytes(bytes),
            None => self.deserialize_any(visitor),
        }
    }

    #[inline]
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_bytes(visitor)
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.input.short_map() {
            Some(entries) => self.entries(entries, &[], visitor),
            None => self.deserialize_any(visitor),
        }
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        if let Some(elements) = self.input.short_array() {
            return self.elements(elements, visitor);
        }
        match self.input.short_map() {
            Some(entries) => self.entries(entries, fields, visitor),
            None => self.deserialize_any(visitor),
        }
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        if self.input.first() == Some(NIL) {
            self.input.byte()?;
            return visitor.visit_none();
        }
        let mut input = self.input;
        if self.input.begins_extension()
            && let Head::Extension(SOME, content) = input.head()?
        {
            self.input = input;
            return self.wrapped(content, visitor);
        }
        self.inside(|from| visitor.visit_some(from))
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        // In the compact form it is an empty array.
        if self.input.first() == Some(FIX_ARRAY) {
            self.input.byte()?;
            return visitor.visit_unit();
        }
        self.deserialize_any(visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.inside(|from| visitor.visit_newtype_struct(from))
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        if let Some(elements) = self.input.short_array() {
            return self.elements(elements, visitor);
        }
        if self.input.begins_bytes()
            && let Head::Bytes(bytes) = self.input.head()?
        {
            return Deserializer::numbers(bytes, visitor);
        }
        self.deserialize_any(visitor)
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_seq(visitor)
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        if self.input.begins_map() {
            if !self.input.variant()? {
                return Err(no_variant());
            }
            return self.inside(|from| visitor.visit_enum(Variant::<_, true>(from)));
        }
        visitor.visit_enum(Variant::<_, false>(self))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.input.skip()?;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i128 u128 f32 char unit
    }
}

/// The largest size hint.
const MOST_HINTED: usize = 4096;

/// Reads the elements of an array, or the entries of a map.
#[derive(Debug)]
struct Parts<'a, 'de> {
    from: &'a mut Deserializer<'de>,
    left: u32,
    /// The names of the fields that are likely next.
    names: &'static [&'static str],
}

impl<'de> Parts<'_, 'de> {
    #[inline]
    fn step(&mut self) -> bool {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    #[inline]
    fn end(&self) -> Result<(), Failure> {
        if self.left > 0 {
            return Err(unread(self.left));
        }
        Ok(())
    }

    /// Returns the size hint. Each part takes at least one byte of input, but may take more memory, which the type
    /// reserves for as many parts as the hint.
    fn hint(&self) -> usize {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        left.min(self.from.input.len()).min(MOST_HINTED)
    }
}

impl<'de> SeqAccess<'de> for &mut Parts<'_, 'de> {
    type Error = Failure;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Failure> {
        if !self.step() {
            return Ok(None);
        }
        seed.deserialize(&mut *self.from).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.hint())
    }
}

impl<'de> MapAccess<'de> for &mut Parts<'_, 'de> {
    type Error = Failure;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Failure> {
        if !self.step() {
            return Ok(None);
        }
        self.from.names = self.names;
        let key = seed.deserialize(&mut *self.from)?;
        self.names = mem::take(&mut self.from.names);
        Ok(Some(key))
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Failure> {
        seed.deserialize(&mut *self.from)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.hint())
    }
}

#[cold]
fn goes_on() -> Failure {
    Failure::new(&"bytes after the end of the message")
}

#[cold]
fn unread(left: u32) -> Failure {
    Failure::new(&format_args!(
        "{left} elements or entries more than the type reads"
    ))
}

#[cold]
fn no_variant() -> Failure {
    Failure::new(&"expected a variant: its name, or a map of one entry")
}
