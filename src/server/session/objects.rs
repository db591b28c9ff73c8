//! The objects that a client has opened, by the numbers that this client uses.
//!
//! Numbers increase and are never reused, because frames with an old number may still arrive. The table
//! is paged and drops empty pages, so a session that opens and removes objects for years stays small.

use std::{num::NonZero, sync::Arc};

use lockkeeper_actors::{Mailbox, StoredBytes, Table, hash_number};
use lockkeeper_protocol::{Fault, ObjectName};

/// How many objects are in a page.
const PAGE: usize = 64;

pub(super) struct Object {
    /// The supervisor's number of the object.
    pub(super) id: u64,
    pub(super) mailbox: Mailbox,
    /// The number of its inputs among those of the current chunk, counted from 1, which saves 8 bytes.
    pub(super) touched: Option<NonZero<u32>>,
    /// The bytes that the object itself counts, if this session has made it.
    pub(super) made: u32,
}

/// The bytes that a session counts for each object that it has opened.
pub(super) const OPEN_BYTES: usize = 64;

/// The objects of a session.
#[derive(Default)]
pub(super) struct Objects {
    pages: Vec<ObjectPage>,
    /// The number of the next object that is opened.
    next: u32,
    /// The numbers of all open objects, found by the supervisor's number.
    numbers: Table<u32>,
    /// The bytes that all objects count together: a [`StoredBytes`] in each would take 16 bytes more.
    stored: Option<StoredBytes>,
    /// The bytes of all open objects that the session has made.
    made: usize,
}

/// Objects of consecutive numbers. A slot is empty if its object was removed, and the page is empty if all
/// were.
#[derive(Default)]
struct ObjectPage {
    slots: Vec<Option<Object>>,
    live: usize,
    /// For each object, the operations that the client may not call. Empty for a client that may call all.
    guarded: Vec<Option<Guarded>>,
}

/// The administrative operations of an object, for a client that may not call them.
pub(super) struct Guarded {
    pub(super) name: ObjectName,
    /// The numbers of those operations.
    pub(super) administrative: Arc<[u32]>,
    /// The names of all operations.
    pub(super) operations: Arc<[&'static str]>,
}

impl Object {
    /// The bytes that the session counts for the object.
    pub(super) fn bytes(&self) -> usize {
        OPEN_BYTES.saturating_add(bytes_of(self))
    }
}

fn bytes_of(object: &Object) -> usize {
    usize::try_from(object.made).unwrap_or(usize::MAX)
}

/// The page of a number, and the index in the page.
fn place(number: u32) -> (usize, usize) {
    let number = usize::try_from(number).unwrap_or(usize::MAX);
    (number / PAGE, number % PAGE)
}

fn object(pages: &[ObjectPage], number: u32) -> Option<&Object> {
    let (page, slot) = place(number);
    pages.get(page)?.slots.get(slot)?.as_ref()
}

/// How the table of numbers reads the hash of an object.
fn hash_in(pages: &[ObjectPage]) -> impl Fn(&u32) -> u64 {
    |number| object(pages, *number).map_or(0, |other| hash_number(other.id))
}

impl Objects {
    /// Refuses an object if no number is left, because no number is used twice.
    pub(super) fn check_room(&self) -> Result<(), Fault> {
        if self.next == u32::MAX {
            let most = usize::try_from(u32::MAX).unwrap_or(usize::MAX);
            return Err(Fault::limit(
                "objects that one session has ever opened",
                most,
            ));
        }
        Ok(())
    }

    /// The bytes that the objects of the session count.
    pub(super) fn bytes(&self) -> usize {
        let open = self.stored.as_ref().map_or(0, StoredBytes::bytes);
        open.saturating_add(self.made)
    }

    /// Assigns a number to an object, and keeps the [`OPEN_BYTES`] that were counted for it. The caller has
    /// checked that a number is left.
    pub(super) fn push(&mut self, opened: Object, stored: StoredBytes) -> u32 {
        match &mut self.stored {
            Some(all) => all.merge(stored),
            none => *none = Some(stored),
        }
        let number = self.next;
        self.next = number.saturating_add(1);
        let (page, _) = place(number);
        let hashed = hash_number(opened.id);
        self.made += bytes_of(&opened);
        if page >= self.pages.len() {
            self.pages.push(ObjectPage::default());
        }
        if let Some(page) = self.pages.get_mut(page) {
            page.slots.push(Some(opened));
            page.live += 1;
        }
        self.numbers.insert(hashed, number, hash_in(&self.pages));
        number
    }

    /// The number of an object that the client has already opened.
    pub(super) fn number_of(&self, id: u64) -> Option<u32> {
        let is_it = |number: &u32| object(&self.pages, *number).is_some_and(|other| other.id == id);
        self.numbers.find(hash_number(id), is_it).copied()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, number: u32) -> Result<&mut Object, Fault> {
        if number >= self.next {
            return Err(Fault::UnknownObject(format!("number {number}")));
        }
        let (page, slot) = place(number);
        let page = self.pages.get_mut(page);
        match page.and_then(|page| page.slots.get_mut(slot)?.as_mut()) {
            Some(object) => Ok(object),
            None => Err(Fault::Gone),
        }
    }

    /// Forbids the client the administrative operations of an object.
    pub(super) fn guard(&mut self, number: u32, guarded: Guarded) {
        let (page, slot) = place(number);
        let page = self.pages.get_mut(page);
        let Some(page) = page.filter(|_| !guarded.administrative.is_empty()) else {
            return;
        };
        if page.guarded.len() <= slot {
            page.guarded.resize_with(slot + 1, || None);
        }
        if let Some(place) = page.guarded.get_mut(slot) {
            *place = Some(guarded);
        }
    }

    /// Returns what a call would do that is forbidden to the client.
    pub(super) fn forbidden(&self, number: u32, operation: u32) -> Option<String> {
        let (page, slot) = place(number);
        let guarded = self.pages.get(page)?.guarded.get(slot)?.as_ref()?;
        if !guarded.administrative.contains(&operation) {
            return None;
        }
        let at = usize::try_from(operation).ok();
        let operation = at.and_then(|at| guarded.operations.get(at)).copied();
        let (operation, name) = (operation.unwrap_or_default(), guarded.name.text());
        Some(format!("to call {operation} of {name:?}"))
    }

    /// Removes an object that has ended.
    pub(super) fn remove(&mut self, number: u32) -> Option<Object> {
        let (page, slot) = place(number);
        let page = self.pages.get_mut(page)?;
        let object = page.slots.get_mut(slot)?.take()?;
        if let Some(guarded) = page.guarded.get_mut(slot) {
            *guarded = None;
        }
        page.live -= 1;
        self.made -= bytes_of(&object);
        give_back(&mut self.stored);
        if page.live == 0 && page.slots.len() == PAGE {
            page.slots = Vec::new();
            page.guarded = Vec::new();
        }
        let is_it = |other: &u32| *other == number;
        self.numbers
            .remove(hash_number(object.id), is_it, hash_in(&self.pages));
        Some(object)
    }

    /// The mailboxes of all open objects, in the order in which they were opened. The iterator frees the
    /// table's memory as it proceeds.
    pub(super) fn into_mailboxes(self) -> impl Iterator<Item = Mailbox> {
        // One part spans the numbers of several pages, so freeing them is spread over the iteration.
        let mut parts = self.numbers.into_parts();
        let pages = self.pages.into_iter();
        let objects = pages.flat_map(move |page| {
            drop(parts.next());
            page.slots.into_iter().flatten()
        });
        let mut stored = self.stored;
        objects.map(move |object| {
            give_back(&mut stored);
            object.mailbox
        })
    }
}

/// Reduces the count by one object.
fn give_back(stored: &mut Option<StoredBytes>) {
    if let Some(all) = stored {
        drop(all.split(OPEN_BYTES));
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use lockkeeper_actors::{
        Fences, Host, Operations, Primitive, Shell,
        sync::{Lock, ReleaseBy},
    };

    use crate::tests::protocol::SECRET;

    use super::*;

    fn object(id: u64, shell: &Rc<Shell>) -> Object {
        let lock = Lock::create(ReleaseBy::Holder).expect("a lock needs nothing");
        Object {
            id,
            mailbox: Host::new(lock, Operations::default().into(), Rc::clone(shell)).launch(),
            touched: None,
            made: 100,
        }
    }

    #[test]
    fn object_takes_three_words() {
        assert_eq!(size_of::<Option<Object>>(), 24);
    }

    #[actix_rt::test]
    async fn no_number_is_given_twice_however_many_were_given() {
        let mut objects = Objects {
            next: u32::MAX - 1,
            ..Objects::default()
        };
        assert_eq!(objects.check_room(), Ok(()));
        objects.next += 1;
        let refused = objects.check_room().expect_err("there is no number left");
        assert!(refused.to_string().contains("4294967295"), "{refused}");
    }

    #[actix_rt::test]
    async fn numbers_are_never_used_again_and_what_is_gone_takes_no_room() {
        let mut objects = Objects::default();
        let shell = Shell::new(Fences::count_from(1), SECRET);
        for id in 0..1000 {
            let stored = shell.outbox().store(OPEN_BYTES);
            let stored = stored.expect("there is no limit");
            let number = objects.push(object(id, &shell), stored);
            assert_eq!(u64::from(number), id);
            // A few objects stay.
            if id % 300 != 0 {
                assert_eq!(objects.remove(number).map(|object| object.id), Some(id));
                assert!(objects.remove(number).is_none());
                assert!(matches!(objects.get_mut(number), Err(Fault::Gone)));
                assert_eq!(objects.number_of(id), None);
            }
        }
        let ids =
            (0..1000).filter_map(|number| objects.get_mut(number).ok().map(|object| object.id));
        assert_eq!(ids.collect::<Vec<u64>>(), [0, 300, 600, 900]);
        assert_eq!(objects.number_of(600), Some(600));
        assert_eq!(objects.get_mut(600).map(|object| object.id), Ok(600));
        let unknown = objects.get_mut(1000).err();
        assert_eq!(
            unknown,
            Some(Fault::UnknownObject("number 1000".to_owned()))
        );
        let slots: usize = objects.pages.iter().map(|page| page.slots.capacity()).sum();
        assert!(slots <= 5 * PAGE, "{slots} slots for 4 objects");
        assert_eq!(shell.stored_bytes(), 4 * OPEN_BYTES);
        assert_eq!(objects.bytes(), 4 * (OPEN_BYTES + 100));
        let mut left = objects.into_mailboxes();
        for taken in 1..=4 {
            assert!(left.next().is_some());
            assert_eq!(shell.stored_bytes(), (4 - taken) * OPEN_BYTES);
        }
        assert!(left.next().is_none());
    }
}
