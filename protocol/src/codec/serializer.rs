//! `Serializer`: writes the values of serde's data model as MessagePack.
//!
//! In both forms an optional value is nil or the value. A `Some` whose content is nil or again such a
//! `Some` is an extension around the content. A variant is its name, or a map of the name to its content.
//!
//! Invariant: every encoded value can be decoded. A wrong count, a field that a compact struct skips and
//! a value that nests too deep are errors of encoding.

use serde::{Serialize, ser};

use crate::codec::{
    count::Count,
    error::Failure,
    form::Form,
    levels::Levels,
    markers::{
        ARRAY32, F32, F64, FALSE, FIX_ARRAY, FIX_EXT16, MAP32, NIL, SIGNED_128, TRUE, UNSIGNED_128,
    },
    output::Output,
};

/// Writes one value.
#[derive(Debug)]
pub(crate) struct Serializer<'b> {
    output: Output<'b>,
    form: Form,
    levels: Levels,
}

impl<'b> Serializer<'b> {
    pub(crate) const fn new(form: Form, output: Output<'b>) -> Self {
        Self {
            output,
            form,
            levels: Levels::ALL,
        }
    }

    pub(crate) fn into_output(self) -> Output<'b> {
        self.output
    }

    /// Writes a value one level deeper.
    #[inline]
    fn inside(
        &mut self,
        write: impl FnOnce(&mut Self) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let outside = self.levels;
        self.levels = outside.inside()?;
        write(self)?;
        self.levels = outside;
        Ok(())
    }

    /// Begins the parts of a value whose header is written.
    #[inline]
    fn parts(&mut self, parts: usize) -> Result<Parts<'_, 'b>, Failure> {
        let outside = self.levels;
        self.levels = outside.inside()?;
        Ok(Parts {
            to: self,
            outside,
            count: Count::Left(parts),
        })
    }

    /// Begins a variant whose content has parts. `begin` begins the content one level deeper.
    #[inline]
    fn variant<'a>(
        &'a mut self,
        variant: &'static str,
        begin: impl FnOnce(&'a mut Self) -> Begun<'a, 'b>,
    ) -> Begun<'a, 'b> {
        self.output.variant(variant)?;
        let outside = self.levels;
        self.levels = outside.inside()?;
        begin(self).map(|parts| Parts { outside, ..parts })
    }

    /// Begins a value of unknown length.
    fn unknown(&mut self, marker: u8, per_element: u64) -> Result<Parts<'_, 'b>, Failure> {
        let place = self.output.open(marker);
        let mut parts = self.parts(0)?;
        parts.count = Count::Unknown {
            place,
            per_element,
            written: 0,
        };
        Ok(parts)
    }

    /// Writes an integer of more than 64 bits.
    fn long_integer(&mut self, code: u8, bytes: [u8; 16]) {
        self.output.bytes(&[FIX_EXT16, code]);
        self.output.bytes(&bytes);
    }
}

macro_rules! integers {
    ($($write:ident: $($method:ident($type:ty))*;)*) => {$($(
        #[inline]
        fn $method(self, value: $type) -> Result<(), Failure> {
            self.output.$write(value.into());
            Ok(())
        }
    )*)*};
}

impl<'a, 'b> ser::Serializer for &'a mut Serializer<'b> {
    type Ok = ();
    type Error = Failure;
    type SerializeSeq = Parts<'a, 'b>;
    type SerializeTuple = Parts<'a, 'b>;
    type SerializeTupleStruct = Parts<'a, 'b>;
    type SerializeTupleVariant = Parts<'a, 'b>;
    type SerializeMap = Parts<'a, 'b>;
    type SerializeStruct = Parts<'a, 'b>;
    type SerializeStructVariant = Parts<'a, 'b>;

    // Serde buffers the content of untagged and internally tagged enums and of flattened structs, and these
    // buffers are always human readable. If the format were not, IP addresses in them could not be decoded.
    #[inline]
    fn is_human_readable(&self) -> bool {
        true
    }

    #[inline]
    fn serialize_bool(self, value: bool) -> Result<(), Failure> {
        self.output.byte(if value { TRUE } else { FALSE });
        Ok(())
    }

    integers! {
        signed: serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64);
        unsigned: serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64);
    }

    fn serialize_i128(self, value: i128) -> Result<(), Failure> {
        match (i64::try_from(value), u128::try_from(value)) {
            (_, Ok(value)) => self.serialize_u128(value),
            (Ok(value), Err(_)) => {
                self.output.signed(value);
                Ok(())
            }
            (Err(_), Err(_)) => {
                self.long_integer(SIGNED_128, value.to_be_bytes());
                Ok(())
            }
        }
    }

    fn serialize_u128(self, value: u128) -> Result<(), Failure> {
        match u64::try_from(value) {
            Ok(value) => self.output.unsigned(value),
            Err(_) => self.long_integer(UNSIGNED_128, value.to_be_bytes()),
        }
        Ok(())
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<(), Failure> {
        self.output.with_u32(F32, value.to_bits());
        Ok(())
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<(), Failure> {
        self.output.with_u64(F64, value.to_bits());
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), Failure> {
        self.output.text(value.encode_utf8(&mut [0; 4]))
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<(), Failure> {
        self.output.text(value)
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<(), Failure> {
        self.output.byte_string(value)
    }

    #[inline]
    fn serialize_none(self) -> Result<(), Failure> {
        self.output.byte(NIL);
        Ok(())
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Failure> {
        let place = self.output.place();
        self.inside(|to| value.serialize(to))?;
        if self.output.at(place).is_some_and(Output::is_wrapped) {
            return self.output.wrap(place);
        }
        Ok(())
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), Failure> {
        self.output.byte(NIL);
        Ok(())
    }

    #[inline]
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Failure> {
        match self.form {
            Form::Compact => self.output.byte(FIX_ARRAY),
            Form::Named => self.output.byte(NIL),
        }
        Ok(())
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Failure> {
        self.output.name(variant)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Failure> {
        self.inside(|to| value.serialize(to))
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Failure> {
        self.output.variant(variant)?;
        self.inside(|to| value.serialize(to))
    }

    #[inline]
    fn serialize_seq(self, length: Option<usize>) -> Begun<'a, 'b> {
        match length {
            Some(length) => self.serialize_tuple(length),
            None => self.unknown(ARRAY32, 1),
        }
    }

    #[inline]
    fn serialize_tuple(self, length: usize) -> Begun<'a, 'b> {
        self.output.array(length)?;
        self.parts(length)
    }

    #[inline]
    fn serialize_tuple_struct(self, _: &'static str, length: usize) -> Begun<'a, 'b> {
        self.serialize_tuple(length)
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Begun<'a, 'b> {
        self.variant(variant, |this| this.serialize_tuple(length))
    }

    #[inline]
    fn serialize_map(self, length: Option<usize>) -> Begun<'a, 'b> {
        let Some(length) = length else {
            return self.unknown(MAP32, 2);
        };
        self.output.map(length)?;
        // The multiplication does not saturate for any map that fits into memory.
        self.parts(length.saturating_mul(2))
    }

    #[inline]
    fn serialize_struct(self, _: &'static str, length: usize) -> Begun<'a, 'b> {
        match self.form {
            Form::Compact => self.output.array(length)?,
            Form::Named => self.output.map(length)?,
        }
        self.parts(length)
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Begun<'a, 'b> {
        self.variant(variant, |this| this.serialize_struct(name, length))
    }
}

/// The result of beginning a value with parts.
type Begun<'a, 'b> = Result<Parts<'a, 'b>, Failure>;

/// Writes the parts of a value.
#[derive(Debug)]
pub(crate) struct Parts<'a, 'b> {
    to: &'a mut Serializer<'b>,
    outside: Levels,
    count: Count,
}

impl Parts<'_, '_> {
    #[inline]
    fn step(&mut self) -> Result<(), Failure> {
        self.to.output.check(0)?;
        self.count.step()
    }

    #[inline]
    fn part<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
        self.step()?;
        value.serialize(&mut *self.to)
    }

    #[inline]
    fn field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Failure> {
        self.step()?;
        match self.to.form {
            Form::Compact => {}
            Form::Named => self.to.output.name(name)?,
        }
        value.serialize(&mut *self.to)
    }

    fn skip(&self, name: &'static str) -> Result<(), Failure> {
        match (self.to.form, &self.count) {
            // A compact struct may leave out its last fields.
            (Form::Named, _) | (Form::Compact, Count::Left(0)) => Ok(()),
            (Form::Compact, Count::Left(_) | Count::Unknown { .. }) => {
                Err(Failure::new(&format_args!(
                    "the field {name:?} is skipped, but its place decides which one it is"
                )))
            }
        }
    }

    #[inline]
    fn finish(self) -> Result<(), Failure> {
        self.count.finish(&mut self.to.output)?;
        self.to.levels = self.outside;
        Ok(())
    }
}

/// Implements the traits whose parts are elements.
macro_rules! elements {
    ($($trait:ident: $method:ident)*) => {$(
        impl ser::$trait for Parts<'_, '_> {
            type Ok = ();
            type Error = Failure;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
                self.part(value)
            }

            #[inline]
            fn end(self) -> Result<(), Failure> {
                self.finish()
            }
        }
    )*};
}

elements! {
    SerializeSeq: serialize_element
    SerializeTuple: serialize_element
    SerializeTupleStruct: serialize_field
    SerializeTupleVariant: serialize_field
}

/// Implements the traits whose parts are fields.
macro_rules! fields {
    ($($trait:ident)*) => {$(
        impl ser::$trait for Parts<'_, '_> {
            type Ok = ();
            type Error = Failure;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Failure> {
                self.field(name, value)
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), Failure> {
                self.skip(name)
            }

            #[inline]
            fn end(self) -> Result<(), Failure> {
                self.finish()
            }
        }
    )*};
}

fields!(SerializeStruct SerializeStructVariant);

impl ser::SerializeMap for Parts<'_, '_> {
    type Ok = ();
    type Error = Failure;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Failure> {
        self.part(key)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
        self.part(value)
    }

    #[inline]
    fn end(self) -> Result<(), Failure> {
        self.finish()
    }
}
