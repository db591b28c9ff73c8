//! Decodes lists in arguments with a maximum number of entries. A call with a longer list fails, so that
//! no call makes its turn long.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};

/// Decodes a list of at most `MOST` entries.
///
/// # Errors
///
/// Returns an error when there are more entries, or when an entry does not decode.
pub(crate) fn short_list<'de, const MOST: usize, L, T, D>(deserializer: D) -> Result<L, D::Error>
where
    L: Default + Extend<T>,
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_seq(ShortList::<MOST, L, T>(PhantomData))
}

struct ShortList<const MOST: usize, L, T>(PhantomData<(L, T)>);

impl<'de, const MOST: usize, L, T> Visitor<'de> for ShortList<MOST, L, T>
where
    L: Default + Extend<T>,
    T: Deserialize<'de>,
{
    type Value = L;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MOST} entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<L, A::Error> {
        let mut list = L::default();
        let mut left = MOST;
        while let Some(entry) = seq.next_element()? {
            left = left.checked_sub(1).ok_or_else(|| {
                A::Error::custom(format_args!(
                    "a list has at most {MOST} entries: send the others in another call"
                ))
            })?;
            list.extend([entry]);
        }
        Ok(list)
    }
}
