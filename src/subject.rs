//! `Subject`: the object that an error is about, and what it was asked for.
//!
//! One table has the words for a timeout, by kind and operation.

use std::{borrow::Cow, fmt};

use lockkeeper_protocol::{
    Operation, Printable, Refusal,
    operations::{Key, ReleaseAny},
};
use serde::{Deserialize, Serialize};

/// The object that an error is about, if it is known: its kind and its name, and the key of a keyed kind.
///
/// All subjects are equal, so that the comparison of two errors ignores which objects they are about.
#[derive(Clone, Serialize, Deserialize)]
pub struct Subject(Option<Box<Known>>);

#[derive(Clone, Serialize, Deserialize)]
struct Known {
    kind: Cow<'static, str>,
    /// `None` for an anonymous object that was not created yet.
    name: Option<String>,
    /// The key of a keyed kind that the call was about.
    key: Option<String>,
    asked: Asked,
}

/// What the caller asked of the object.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Asked {
    /// Something that the place of the error does not know.
    Other,
    /// To be opened by its name.
    Open,
    /// To serve this operation, and to wait if need be.
    Call(String),
    /// To serve this operation at once or not at all.
    Try(String),
    /// To stay held while the guard exists.
    Hold,
    /// To be released, by the drop of the guard.
    Release,
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
        let (key, asked) = (None, Asked::Other);
        Self(Some(Box::new(Known {
            kind,
            name,
            key,
            asked,
        })))
    }

    /// Makes the subject for a function of this library that no single object serves, such as `lock_all`.
    pub(crate) fn function(name: &'static str) -> Self {
        Self::of(name, None)
    }

    /// Adds the key that the call was about. A text that is too long for a key is left out.
    pub(crate) fn set_key(&mut self, key: &Key) {
        if let Some(known) = &mut self.0
            && key.check().is_ok()
        {
            known.key = Some(key.as_str().to_owned());
        }
    }

    /// Adds what the object was asked for.
    #[must_use]
    pub(crate) fn asked(mut self, asked: Asked) -> Self {
        if let Some(known) = &mut self.0 {
            known.asked = asked;
        }
        self
    }

    /// Returns the kind of the object, or the function if that has refused the call itself, such as `lock_all`.
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        self.0.as_ref().map(|known| &*known.kind)
    }

    /// Returns the name of the object. That of an anonymous one begins with `#`.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.as_ref()?.name.as_deref()
    }

    /// Returns the key of a keyed lock or semaphore that the call was about.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.0.as_ref()?.key.as_deref()
    }
}

/// The sentences of errors.
impl Subject {
    /// Writes that the time was over.
    pub(crate) fn fmt_timeout(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = self.0.as_deref().map(|known| (&*known.kind, &known.asked));
        let lack = match asked {
            Some((kind, Asked::Call(operation) | Asked::Try(operation))) => {
                Lack::of(kind, operation)
            }
            Some((_, Asked::Other | Asked::Open | Asked::Hold | Asked::Release)) | None => {
                &Lack::OTHER
            }
        };
        let Lack { what, remedy, .. } = lack;
        match asked {
            Some((_, Asked::Try(_))) => write!(
                f,
                "{self} {what}, and the call did not wait: wait, or {remedy}"
            ),
            Some((
                _,
                Asked::Other | Asked::Open | Asked::Call(_) | Asked::Hold | Asked::Release,
            ))
            | None => {
                write!(
                    f,
                    "timed out: {self} {what} in time: wait longer, or {remedy}"
                )
            }
        }
    }

    /// Writes that the object is gone.
    pub(crate) fn fmt_gone(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The whole object is gone, and not a key of it.
        let object = Object(self.0.as_deref());
        match self.0.as_deref() {
            Some(Known {
                name: Some(name),
                asked: Asked::Open,
                ..
            }) => write!(
                f,
                "{object} is gone: its code panicked, and its name stays taken: call remove({name:?}) of a \
                 manager, and open it again"
            ),
            Some(_) | None => write!(
                f,
                "{object} is gone: it was removed, or its code panicked: remove its name if that is still \
                 taken, and open it again"
            ),
        }
    }

    /// Writes that the object refused.
    pub(crate) fn fmt_refusal(&self, refusal: &Refusal, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = self.0.as_deref().map(|known| &known.asked);
        match asked {
            Some(Asked::Hold) if *refusal == Refusal::NotHeld => write!(
                f,
                "{self}: the hold ended while it was used: it was taken away by force_unlock(), \
                 release_any() or its ticket: acquire it again"
            ),
            Some(Asked::Release) if *refusal == Refusal::NotHeld => write!(
                f,
                "{self}: this process has released the hold: acquire it again"
            ),
            Some(Asked::Call(operation))
                if *refusal == Refusal::NotHeld && operation == ReleaseAny::NAME =>
            {
                write!(
                    f,
                    "{self} refused the call: nothing is held, so nothing was released"
                )
            }
            Some(
                Asked::Other
                | Asked::Open
                | Asked::Call(_)
                | Asked::Try(_)
                | Asked::Hold
                | Asked::Release,
            )
            | None => write!(f, "{self} refused the call: {refusal}"),
        }
    }
}

/// What a kind did not have for a call in its time.
struct Lack {
    kinds: &'static [&'static str],
    operations: &'static [&'static str],
    what: &'static str,
    remedy: &'static str,
}

impl Lack {
    const OTHER: Self = Self {
        kinds: &[],
        operations: &[],
        what: "did not answer",
        remedy: "see by inspect() who holds it and who waits",
    };

    /// What the built-in kinds lack, by the kinds and operations of `lockkeeper_protocol::operations`.
    const TABLE: &[Self] = &[
        Self {
            kinds: &[
                "lock",
                "reentrant_lock",
                "keyed_lock",
                "rw_lock",
                "condition",
            ],
            operations: &["acquire"],
            what: "was not free",
            ..Self::OTHER
        },
        Self {
            kinds: &["rw_lock"],
            operations: &["upgrade"],
            what: "was not free of other readers",
            ..Self::OTHER
        },
        Self {
            kinds: &["semaphore", "bounded_semaphore", "keyed_semaphore"],
            operations: &["acquire"],
            what: "had too few free permits",
            remedy: "see by inspect() who holds them and who waits",
        },
        Self {
            kinds: &["queue"],
            operations: &["get"],
            what: "had no item",
            remedy: "see by inspect() who has taken items and who waits",
        },
        Self {
            kinds: &["queue"],
            operations: &["put"],
            what: "had no room",
            remedy: "make the queue with more room",
        },
        Self {
            kinds: &["queue"],
            operations: &["join"],
            what: "had items that were not done",
            remedy: "see by inspect() who has taken them",
        },
        Self {
            kinds: &["event"],
            operations: &["wait"],
            what: "was not set",
            remedy: "see by inspect() who waits",
        },
        Self {
            kinds: &["latch"],
            operations: &["wait", "arrive_and_wait"],
            what: "did not reach zero",
            remedy: "see by inspect() who waits",
        },
        Self {
            kinds: &["barrier"],
            operations: &["wait", "finish"],
            what: "did not have all its parties",
            remedy: "see by inspect() who waits",
        },
        Self {
            kinds: &["value"],
            operations: &["wait_change"],
            what: "was not changed",
            remedy: "see by inspect() who waits",
        },
        Self {
            kinds: &["value"],
            operations: &["exchange"],
            what: "did not stay unchanged between a read and its update",
            remedy: "hold a lock during each update",
        },
        Self {
            kinds: &["condition"],
            operations: &["wait"],
            what: "was not notified, or was not free afterwards",
            remedy: "see by inspect() who holds it and who waits",
        },
        Self {
            kinds: &["keyed_lock", "keyed_semaphore"],
            operations: &["keys"],
            what: "did not list all its keys",
            remedy: "ask for single keys by key_status()",
        },
    ];

    fn of(kind: &str, operation: &str) -> &'static Self {
        let mut rows = Self::TABLE.iter();
        rows.find(|row| row.operations.contains(&operation) && row.kinds.contains(&kind))
            .unwrap_or(&Self::OTHER)
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
        let known = self.0.as_deref();
        if let Some(key) = known.and_then(|known| known.key.as_ref()) {
            write!(f, "key {key:?} of ")?;
        }
        Object(known).fmt(f)
    }
}

/// The object without the key.
struct Object<'a>(Option<&'a Known>);

impl fmt::Display for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(Known {
                kind,
                name: Some(name),
                ..
            }) => write!(f, "{} {name:?}", Printable(kind)),
            Some(Known {
                kind,
                asked: Asked::Open,
                ..
            }) => write!(f, "a new {}", Printable(kind)),
            Some(Known { kind, .. }) => Printable(kind).fmt(f),
            None => f.write_str("the object"),
        }
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
