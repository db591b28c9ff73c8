//! The hosted objects as data: by number, and by name.
//!
//! Invariant: the table of names holds exactly the objects that were given a name.

use std::{
    hash::{BuildHasher, RandomState},
    rc::Rc,
    sync::Arc,
};

use lockkeeper_actors::{Mailbox, Stored, Table};

use crate::server::{kinds::Kind, supervisor::pages::Pages};

/// A hosted object.
pub(super) struct Child {
    /// The name that it was given, if it was given one.
    pub(super) given: Option<Arc<str>>,
    pub(super) make: Rc<Make>,
    pub(super) mailbox: Mailbox,
}

/// What an object counts beside its name and its spec.
const OBJECT_BYTES: usize = 128;

/// What an object counts of the bytes that the manager keeps.
pub(super) fn stored_bytes(given: Option<&str>, spec: &[u8]) -> usize {
    // The spec counts twice: it is kept beside what is made from it, as the first value of a value.
    OBJECT_BYTES + given.map_or(0, str::len) + 2 * spec.len()
}

/// What objects were made from. Most have it in common with others.
pub(super) struct Make {
    pub(super) kind: Arc<Kind>,
    pub(super) spec: Vec<u8>,
}

/// All hosted objects.
pub(super) struct Children {
    children: Pages<Child>,
    /// What they count together: a [`Stored`] in each would take 16 bytes more.
    stored: Option<Stored>,
    /// The numbers of those that were given a name.
    named: Table<u64>,
    /// Seeded at random: no client can choose names that meet.
    hasher: RandomState,
}

impl Children {
    pub(super) fn new() -> Self {
        Self {
            children: Pages::new(),
            stored: None,
            named: Table::new(),
            hasher: RandomState::new(),
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.children.len()
    }

    pub(super) fn get(&self, number: u64) -> Option<&Child> {
        self.children.get(number)
    }

    /// The number of the object that was given that name.
    pub(super) fn number_of(&self, given: &str) -> Option<u64> {
        let is_it = |number: &u64| given_to(&self.children, *number) == Some(given);
        let hash = self.hasher.hash_one(given);
        self.named.find(hash, is_it).copied()
    }

    /// Enters an object under a number that no other has had, and under its name, which is free, with what it
    /// counts.
    pub(super) fn insert(&mut self, number: u64, child: Child, stored: Stored) {
        match &mut self.stored {
            Some(all) => all.merge(stored),
            none => *none = Some(stored),
        }
        let hash = child
            .given
            .as_deref()
            .map(|given| self.hasher.hash_one(given));
        self.children.insert(number, child);
        if let Some(hash) = hash {
            let rehash = rehash(&self.children, &self.hasher);
            self.named.insert(hash, number, rehash);
        }
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Child> {
        let child = self.children.remove(number)?;
        if let Some(all) = &mut self.stored {
            let bytes = stored_bytes(child.given.as_deref(), &child.make.spec);
            drop(all.split(bytes));
        }
        if let Some(given) = child.given.as_deref() {
            let hash = self.hasher.hash_one(given);
            let rehash = rehash(&self.children, &self.hasher);
            self.named.remove(hash, |other| *other == number, rehash);
        }
        Some(child)
    }

    /// Those above a number, in the order in which they were made.
    pub(super) fn above(&self, number: u64) -> impl Iterator<Item = (u64, &Child)> {
        self.children.above(number)
    }
}

/// The name that the object of that number was given.
fn given_to(children: &Pages<Child>, number: u64) -> Option<&str> {
    children.get(number)?.given.as_deref()
}

/// How the table reads the hash of an object's name.
fn rehash(children: &Pages<Child>, hasher: &RandomState) -> impl Fn(&u64) -> u64 {
    |number| hasher.hash_one(given_to(children, *number).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use lockkeeper_actors::Shell;
    use lockkeeper_protocol::{ObjectName, codec::encode, operations::ReleaseBy};

    use crate::{server::kinds::Kinds, tests::protocol::SECRET};

    use super::*;

    #[actix_rt::test]
    async fn table_of_names_has_those_alone_that_are_there() {
        let (kinds, mut children) = (Kinds::built_in(), Children::new());
        let kind = kinds.get("lock").expect("it is built in");
        let shell = Shell::new(Arc::new(AtomicU64::new(1)), SECRET);
        let make = Rc::new(Make {
            kind: Arc::clone(kind),
            spec: encode(&ReleaseBy::Holder).expect("a spec"),
        });
        let named = |number: u64| number.is_multiple_of(2).then(|| format!("name {number}"));
        for number in 1..=1000 {
            let mailbox = (kind.spawn)(&make.spec, ObjectName::default(), &shell);
            let child = Child {
                given: named(number).map(Arc::from),
                make: Rc::clone(&make),
                mailbox: mailbox.expect("a lock"),
            };
            let bytes = stored_bytes(child.given.as_deref(), &make.spec);
            let stored = shell.outbox().store(bytes).expect("there is no limit");
            children.insert(number, child, stored);
        }
        for number in 1..=990 {
            assert!(children.remove(number).is_some());
            assert!(children.remove(number).is_none());
        }
        for number in (1..=500).map(|count| count * 2) {
            let name = named(number).expect("an even number");
            let there = (number > 990).then_some(number);
            assert_eq!(children.number_of(&name), there, "{name}");
        }
        assert_eq!((children.len(), children.named.len()), (10, 5));
        let room = children.named.capacity();
        assert!(room < 100, "{room} slots for 5 names");
        let left = (991..=1000).map(|number| stored_bytes(named(number).as_deref(), &make.spec));
        assert_eq!(shell.stored_bytes(), left.sum::<usize>());
    }
}
