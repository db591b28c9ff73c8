//! `Variant`: reads a variant of an enum, which is only its name, or a map of its name to its content.
//!
//! Invariant: a variant has content in the input if and only if it has content in the type.

use serde::de::{Deserialize, DeserializeSeed, Deserializer, EnumAccess, VariantAccess, Visitor};

use crate::codec::error::Failure;

/// The variant that is read next. Whether it has content is a const parameter, which saves a tenth of the time to
/// decode a short reply.
pub(crate) struct Variant<'a, D, const HAS_CONTENT: bool>(pub(crate) &'a mut D);

impl<'a, D, const HAS_CONTENT: bool> Variant<'a, D, HAS_CONTENT> {
    #[inline]
    fn content(self) -> Result<&'a mut D, Failure> {
        if HAS_CONTENT {
            return Ok(self.0);
        }
        Err(no_content())
    }
}

impl<'de, D, const HAS_CONTENT: bool> EnumAccess<'de> for Variant<'_, D, HAS_CONTENT>
where
    for<'a> &'a mut D: Deserializer<'de, Error = Failure>,
{
    type Error = Failure;
    type Variant = Self;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Failure> {
        let variant = seed.deserialize(&mut *self.0)?;
        Ok((variant, self))
    }
}

impl<'de, D, const HAS_CONTENT: bool> VariantAccess<'de> for Variant<'_, D, HAS_CONTENT>
where
    for<'a> &'a mut D: Deserializer<'de, Error = Failure>,
{
    type Error = Failure;

    #[inline]
    fn unit_variant(self) -> Result<(), Failure> {
        if HAS_CONTENT {
            return Deserialize::deserialize(self.0);
        }
        Ok(())
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Failure> {
        seed.deserialize(self.content()?)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Failure> {
        self.content()?.deserialize_tuple(len, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.content()?.deserialize_struct("", fields, visitor)
    }
}

#[cold]
fn no_content() -> Failure {
    Failure::new(&"expected a variant with its content, not a name alone")
}
