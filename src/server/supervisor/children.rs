//! The hosted objects as data, by number and by name.
//!
//! Invariant: the table of names holds exactly the objects that were given a name.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    rc::Rc,
    sync::Arc,
};

use lockkeeper_actors::{Mailbox, StoredBytes, Table};
use lockkeeper_protocol::codec::Payload;

use crate::server::{kinds::Kind, supervisor::pages::Pages};

pub(super) struct Child {
    /// The name that its creator chose, if any.
    pub(super) given: Option<Arc<str>>,
    pub(super) make: Rc<Make>,
    pub(super) mailbox: Mailbox,
}

/// The bytes that an object counts in addition to its task, its name and its spec. They are what its mailbox and its
/// entries in tables take, as `tests/it/manager/room.rs` measures, without those of sessions.
const OBJECT_BYTES: usize = 400;

/// The bytes that a name counts in addition to its text.
const NAME_BYTES: usize = 40;

/// The bytes that the prefix of its maker counts in addition to its text.
const PREFIX_BYTES: usize = 64;

/// The bytes that an object counts in the manager's limit. `prefix` is that of its maker, if it is kept.
pub(super) fn stored_bytes(
    kind: &Kind,
    given: Option<&str>,
    prefix: Option<&str>,
    spec: &[u8],
) -> usize {
    let name = given.map_or(0, |name| NAME_BYTES + name.len());
    let prefix = prefix.map_or(0, |prefix| PREFIX_BYTES + prefix.len());
    // The spec counts twice: besides the spec itself, the object keeps what it was created from, such as the
    // first value of a value.
    kind.task_bytes + OBJECT_BYTES + name + prefix + 2 * spec.len()
}

/// The kind and spec of objects. Most objects share it with others.
pub(super) struct Make {
    pub(super) kind: Arc<Kind>,
    pub(super) spec: Payload,
}

pub(super) struct Children {
    children: Pages<Child>,
    /// The bytes that all objects count together: a [`StoredBytes`] in each would take 16 bytes more.
    stored: Option<StoredBytes>,
    /// The numbers of the objects with a chosen name.
    named: Table<u64>,
    /// The prefixes of the clients that made objects without a name, by their numbers. Few clients have one.
    prefixes: BTreeMap<u64, Arc<str>>,
    /// Seeded at random, so that a client cannot choose names that collide.
    hasher: RandomState,
}

impl Children {
    pub(super) fn new() -> Self {
        Self {
            children: Pages::new(),
            stored: None,
            named: Table::new(),
            prefixes: BTreeMap::new(),
            hasher: RandomState::new(),
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.children.len()
    }

    pub(super) fn get(&self, number: u64) -> Option<&Child> {
        self.children.get(number)
    }

    /// The number of the object with a chosen name.
    pub(super) fn number_of(&self, given: &str) -> Option<u64> {
        let is_it = |number: &u64| given_to(&self.children, *number) == Some(given);
        let hash = self.hasher.hash_one(given);
        self.named.find(hash, is_it).copied()
    }

    /// The name of an object or, if it has none, the prefix of the client that made it.
    pub(super) fn home(&self, number: u64, child: &Child) -> Option<Arc<str>> {
        let given = child.given.as_ref();
        given.or_else(|| self.prefixes.get(&number)).cloned()
    }

    /// Keeps the prefix of the client that made an object without a name.
    pub(super) fn made_with(&mut self, number: u64, prefix: Arc<str>) {
        self.prefixes.insert(number, prefix);
    }

    /// Adds an object under a new number and, if it has one, a free name, with the bytes that it counts.
    pub(super) fn insert(&mut self, number: u64, child: Child, stored: StoredBytes) {
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
        let prefix = self.prefixes.remove(&number);
        if let Some(all) = &mut self.stored {
            let bytes = stored_bytes(
                &child.make.kind,
                child.given.as_deref(),
                prefix.as_deref(),
                &child.make.spec,
            );
            drop(all.split(bytes));
        }
        if let Some(given) = child.given.as_deref() {
            let hash = self.hasher.hash_one(given);
            let rehash = rehash(&self.children, &self.hasher);
            self.named.remove(hash, |other| *other == number, rehash);
        }
        Some(child)
    }

    /// The objects above a number, in the order of their creation.
    pub(super) fn above(&self, number: u64) -> impl Iterator<Item = (u64, &Child)> {
        self.children.above(number)
    }
}

/// The chosen name of the object with a number.
fn given_to(children: &Pages<Child>, number: u64) -> Option<&str> {
    children.get(number)?.given.as_deref()
}

/// How the table reads the hash of an object's name.
fn rehash(children: &Pages<Child>, hasher: &RandomState) -> impl Fn(&u64) -> u64 {
    |number| hasher.hash_one(given_to(children, *number).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use lockkeeper_actors::{Fences, Shell};
    use lockkeeper_protocol::{ObjectName, codec::encode, operations::ReleaseBy};

    use crate::{server::kinds::Kinds, tests::protocol::SECRET};

    use super::*;

    #[actix_rt::test]
    async fn table_of_names_has_those_alone_that_are_there() {
        let (kinds, mut children) = (Kinds::built_in(), Children::new());
        let kind = kinds.get("lock").expect("it is built in");
        let shell = Shell::new(Fences::count_from(1), SECRET);
        let make = Rc::new(Make {
            kind: Arc::clone(kind),
            spec: encode(&ReleaseBy::Holder).expect("a spec").into(),
        });
        let named = |number: u64| number.is_multiple_of(2).then(|| format!("name {number}"));
        for number in 1..=1000 {
            let mailbox = (kind.spawn)(&make.spec, ObjectName::default(), &shell);
            let child = Child {
                given: named(number).map(Arc::from),
                make: Rc::clone(&make),
                mailbox: mailbox.expect("a lock"),
            };
            // Some of the objects without a name were made by clients with a prefix.
            let prefix = (number % 4 == 1).then_some("ci/");
            let bytes = stored_bytes(kind, child.given.as_deref(), prefix, &make.spec);
            let stored = shell.outbox().store(bytes).expect("there is no limit");
            children.insert(number, child, stored);
            if let Some(prefix) = prefix {
                children.made_with(number, prefix.into());
            }
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
        let left = (991..=1000).map(|number| {
            let prefix = (number % 4 == 1).then_some("ci/");
            stored_bytes(kind, named(number).as_deref(), prefix, &make.spec)
        });
        assert_eq!(shell.stored_bytes(), left.sum::<usize>());
        assert_eq!(children.prefixes.len(), 2);
    }
}
