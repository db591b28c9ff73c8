//! What a hosted object is known by: its number, and its name.
//!
//! Invariant: a name that nobody gave takes no memory. It is made of the number when it is asked for.

use std::{borrow::Cow, fmt, sync::Arc};

/// The number and the name of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    number: u64,
    origin: Origin,
}

/// What the name is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    /// It was given.
    Given(Arc<str>),
    /// None was given: of the number that only this start of the manager has, and of the object's.
    Incarnation(u64),
}

impl Name {
    /// What the names of objects begin with that were given none, and no others.
    pub const ANONYMOUS: char = '#';

    /// The name that an object was given.
    #[must_use]
    pub const fn given(name: Arc<str>, number: u64) -> Self {
        Self {
            number,
            origin: Origin::Given(name),
        }
    }

    /// The name of an object that was given none.
    #[must_use]
    pub const fn anonymous(incarnation: u64, number: u64) -> Self {
        Self {
            number,
            origin: Origin::Incarnation(incarnation),
        }
    }

    /// Reads the name of an object that was given none.
    #[must_use]
    pub fn read_anonymous(text: &str) -> Option<Self> {
        let (incarnation, number) = text.strip_prefix(Self::ANONYMOUS)?.split_once('.')?;
        let incarnation = u64::from_str_radix(incarnation, 16).ok()?;
        let name = Self::anonymous(incarnation, number.parse().ok()?);
        // Numbers are read that are not written so, as with zeros before them.
        (name.text() == text).then_some(name)
    }

    /// The number, which no other object of the manager has or will have.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The name as it is told.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        match &self.origin {
            Origin::Given(name) => Cow::Borrowed(name),
            Origin::Incarnation(incarnation) => {
                let (mark, number) = (Self::ANONYMOUS, self.number);
                Cow::Owned(format!("{mark}{incarnation:x}.{number}"))
            }
        }
    }
}

impl Default for Name {
    /// The name of an object that no manager hosts, as in tests.
    fn default() -> Self {
        Self::anonymous(0, 0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_that_nobody_gave_is_read_as_it_is_written_and_in_no_other_way() {
        let name = Name::anonymous(0x186c_c6ac, 7);
        assert_eq!(name.to_string(), "#186cc6ac.7");
        assert_eq!(Name::read_anonymous("#186cc6ac.7"), Some(name));
        for other in [
            "186cc6ac.7",
            "#186CC6AC.7",
            "#186cc6ac.07",
            "#186cc6ac.+7",
            "#0186cc6ac.7",
            "#186cc6ac.",
            "#.7",
            "#186cc6ac",
            "#186cc6ac.7.7",
            "#186cc6ac.18446744073709551616",
            "#",
            "",
        ] {
            assert_eq!(Name::read_anonymous(other), None, "{other:?}");
        }
    }

    #[test]
    fn name_takes_three_words_in_each_object() {
        assert_eq!(size_of::<Name>(), 24);
    }

    #[test]
    fn given_name_is_told_as_it_is() {
        let name = Name::given("jobs".into(), 7);
        assert_eq!((name.text().as_ref(), name.number()), ("jobs", 7));
    }
}
