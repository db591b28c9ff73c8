//! `Subject`: the object that an error is about.

use std::{borrow::Cow, fmt};

use lockkeeper_protocol::Printable;
use serde::{Deserialize, Serialize};

/// The object that an error is about, if it is known: its kind and its name.
///
/// All subjects are equal, so that the comparison of two errors ignores which objects they are about.
#[derive(Clone, Serialize, Deserialize)]
pub struct Subject(Option<Box<Known>>);

#[derive(Clone, Serialize, Deserialize)]
struct Known {
    kind: Cow<'static, str>,
    /// `None` for an anonymous object that was not created yet.
    name: Option<String>,
}

impl Subject {
    /// An unknown object.
    pub(crate) const UNKNOWN: Self = Self(None);

    pub(crate) fn new(kind: impl Into<Cow<'static, str>>, name: &str) -> Self {
        Self::of(kind, Some(name))
    }

    /// Makes the subject for an object that may have no name yet.
    pub(crate) fn of(kind: impl Into<Cow<'static, str>>, name: Option<&str>) -> Self {
        let (kind, name) = (kind.into(), name.map(str::to_owned));
        Self(Some(Box::new(Known { kind, name })))
    }

    /// Returns the kind of the object.
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        self.0.as_ref().map(|known| &*known.kind)
    }

    /// Returns the name of the object. That of an anonymous one begins with `#`.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.as_ref()?.name.as_deref()
    }
}

impl PartialEq for Subject {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Subject {}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_deref() {
            Some(Known {
                kind,
                name: Some(name),
            }) => write!(f, "{} {name:?}", Printable(kind)),
            Some(Known { kind, name: None }) => write!(f, "a new {}", Printable(kind)),
            None => f.write_str("the object"),
        }
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
