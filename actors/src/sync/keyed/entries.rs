//! The table of keys in use, found by key or by slot.
//!
//! Invariant: a key has an entry only while it has a holder, or while it keeps the abandoned mark of a
//! dead holder.

use std::{
    hash::{BuildHasher, RandomState},
    rc::Rc,
    time::Duration,
};

use lockkeeper_protocol::{
    Abandoned, Fence,
    operations::{Key, KeyPage},
};

use crate::{
    kind::hang_up::HangUp,
    tables::{
        slots::{NONE, Slots},
        table::Table,
    },
    waiting::queue_store::QueueEnds,
};

/// The state of a key.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    /// Half of the key's hash, so that no key is hashed twice.
    hash: u32,
    /// The number of permits that are held.
    pub(super) taken: u32,
    /// The holds of the permits that are taken.
    pub(super) holders: QueueEnds,
    /// The calls that wait for permits.
    pub(super) line: QueueEnds,
    /// The number of waiting calls.
    pub(super) waiting: u32,
    /// The index of the mark of a dead holder; `NONE` without a mark.
    mark: u32,
}

/// The mark of a dead holder. Marks that one session leaves in a turn share the record of its end.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) ended: Rc<HangUp>,
    /// The start of its hold.
    pub(super) since: Duration,
    pub(super) fence: Fence,
}

/// The mark of a key.
#[derive(Debug)]
struct Mark {
    left: Left,
    /// The index of the key.
    entry: u32,
    /// The neighbours in the list of keys that are kept for their marks, if the key is in that list.
    idle: Option<Neighbours>,
}

/// The previous and the next mark in the list.
#[derive(Clone, Copy, Debug)]
struct Neighbours {
    before: u32,
    behind: u32,
}

impl Entry {
    /// Returns whether a holder has died.
    pub(super) const fn is_marked(&self) -> bool {
        self.mark != NONE
    }
}

#[derive(Debug)]
pub(super) struct Entries {
    entries: Slots<Entry>,
    /// The indices of the entries.
    table: Table<u32>,
    /// Seeded at random, so clients cannot choose keys that collide.
    hasher: RandomState,
    marks: Slots<Mark>,
    /// The marks of the keys without a holder, in the order in which the keys became free.
    idle: Idle,
    limits: KeyLimits,
}

/// A list of marks: its ends and its length.
#[derive(Debug)]
struct Idle {
    first: u32,
    last: u32,
    len: usize,
}

/// The most keys of an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyLimits {
    pub(super) keys: usize,
    /// The most keys without a holder that are kept for their marks.
    pub(super) idle: usize,
}

impl KeyLimits {
    pub(super) const DEFAULT: Self = Self {
        keys: 100_000_000,
        idle: 1 << 20,
    };
}

/// The bytes after which a page of keys ends: half of the smallest limit of a message.
const PAGE_BYTES: usize = 1 << 15;

/// The most indices that one page scans, whether or not their keys are held.
const PAGE_PLACES: u32 = 1 << 13;

impl Entries {
    pub(super) fn new(limits: KeyLimits) -> Self {
        Self {
            entries: Slots::default(),
            table: Table::new(),
            hasher: RandomState::new(),
            marks: Slots::default(),
            idle: Idle {
                first: NONE,
                last: NONE,
                len: 0,
            },
            limits,
        }
    }

    /// Drops about a thousand keys, if there are more. Returns whether there were. No key is found afterwards.
    pub(super) fn drop_some(&mut self) -> bool {
        self.marks.drop_page() || self.entries.drop_page()
    }

    /// The number of keys that are held.
    pub(super) fn used(&self) -> usize {
        self.entries.len() - self.idle.len
    }

    /// The number of keys that are kept only for their marks.
    pub(super) fn idle(&self) -> usize {
        self.idle.len
    }

    pub(super) fn at(&self, place: u32) -> Option<&Entry> {
        self.entries.get(place)
    }

    pub(super) fn at_mut(&mut self, place: u32) -> Option<&mut Entry> {
        self.entries.get_mut(place)
    }

    /// All keys that are held, with their indices, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Entry)> {
        self.entries.iter().filter(|(_, entry)| entry.taken > 0)
    }

    /// A page of the held keys from an index on. A key keeps its index while it is held.
    pub(super) fn page(&self, from: u32) -> KeyPage {
        let mut page = KeyPage::default();
        let mut bytes = 0;
        for place in from..self.entries.end() {
            if bytes >= PAGE_BYTES || place - from >= PAGE_PLACES {
                page.next = Some(place);
                break;
            }
            if let Some(entry) = self.at(place).filter(|entry| entry.taken > 0) {
                bytes += entry.key.as_str().len() + 2;
                page.keys.push(entry.key.clone());
            }
        }
        page
    }

    /// The index of a key.
    pub(super) fn find(&self, key: &Key) -> Option<u32> {
        let place = self.find_hashed(half(self.hasher.hash_one(key)), key)?;
        Some(place)
    }

    fn find_hashed(&self, hash: u32, key: &Key) -> Option<u32> {
        let is_it = |place: &u32| {
            let entry = self.at(*place);
            entry.is_some_and(|entry| entry.hash == hash && entry.key == *key)
        };
        self.table.find(whole(hash), is_it).copied()
    }

    /// The index of a key that is about to be held. Adds the key if it is missing and the limit permits.
    pub(super) fn enter(&mut self, key: Key) -> Result<u32, TooManyKeys> {
        let hash = half(self.hasher.hash_one(&key));
        if let Some(place) = self.find_hashed(hash, &key) {
            self.begin(place);
            return Ok(place);
        }
        let most = self.limits.keys.min(NONE as usize);
        if self.entries.len() >= most {
            return Err(TooManyKeys { most });
        }
        let place = self.entries.insert(Entry {
            key,
            hash,
            taken: 0,
            holders: QueueEnds::default(),
            line: QueueEnds::default(),
            waiting: 0,
            mark: NONE,
        });
        let place = place.ok_or(TooManyKeys { most })?;
        self.table
            .insert(whole(hash), place, hash_in(&self.entries));
        Ok(place)
    }

    /// Begins to use a key, which then is no longer in the list of free keys with marks.
    fn begin(&mut self, place: u32) {
        if let Some(mark) = self.at(place).map(|entry| entry.mark) {
            self.unlist(mark);
        }
    }

    /// Ends the use of a key without a holder: removes it, or keeps it for its mark. Beyond the limit,
    /// removes the key that has been free longest.
    pub(super) fn end(&mut self, place: u32) {
        let Some(entry) = self.at(place).filter(|entry| entry.taken == 0) else {
            return;
        };
        if !entry.is_marked() {
            return self.forget(place);
        }
        let mark = entry.mark;
        self.list(mark);
        if self.idle.len > self.limits.idle {
            self.forget_oldest();
        }
    }

    /// Removes the free key with a mark that has been free longest. Returns whether there was one.
    pub(super) fn forget_oldest(&mut self) -> bool {
        let Some(oldest) = self.marks.get(self.idle.first) else {
            return false;
        };
        self.forget(oldest.entry);
        true
    }

    /// Marks a key in use after the death of a holder. Of the marks that one session leaves, the key keeps
    /// the latest.
    pub(super) fn leave(&mut self, place: u32, left: Left) {
        let Some(entry) = self.entries.get_mut(place) else {
            return;
        };
        match self.marks.get_mut(entry.mark) {
            Some(mark) => {
                let is_earlier =
                    mark.left.ended.session == left.ended.session && mark.left.fence > left.fence;
                if !is_earlier {
                    mark.left = left;
                }
            }
            None => {
                let mark = self.marks.insert(Mark {
                    left,
                    entry: place,
                    idle: None,
                });
                entry.mark = mark.unwrap_or(NONE);
            }
        }
    }

    /// The mark of a key, as its next holder receives it.
    pub(super) fn abandoned(&self, place: u32) -> Option<Abandoned> {
        let mark = self.marks.get(self.at(place)?.mark)?;
        let Left {
            ended,
            since,
            fence,
        } = &mark.left;
        Some(ended.mark(*since, *fence))
    }

    /// Removes the mark of a key.
    pub(super) fn clear_mark(&mut self, place: u32) {
        if let Some(entry) = self.entries.get_mut(place) {
            let mark = std::mem::replace(&mut entry.mark, NONE);
            self.unlist(mark);
            self.marks.remove(mark);
        }
    }

    fn forget(&mut self, place: u32) {
        self.clear_mark(place);
        let Some(entry) = self.at(place) else {
            return;
        };
        let is_it = |other: &u32| *other == place;
        self.table
            .remove(whole(entry.hash), is_it, hash_in(&self.entries));
        self.entries.remove(place);
    }

    /// Adds a mark to the list of free keys, unless it is there.
    fn list(&mut self, place: u32) {
        let before = self.idle.last;
        let Some(mark) = self.marks.get_mut(place).filter(|mark| mark.idle.is_none()) else {
            return;
        };
        let behind = NONE;
        mark.idle = Some(Neighbours { before, behind });
        self.link(before, place);
        self.idle.last = place;
        self.idle.len += 1;
    }

    /// Removes a mark from the list, if it is there.
    fn unlist(&mut self, place: u32) {
        let mark = self.marks.get_mut(place);
        let Some(Neighbours { before, behind }) = mark.and_then(|mark| mark.idle.take()) else {
            return;
        };
        self.link(before, behind);
        match self.idle_neighbours(behind) {
            Some(of) => of.before = before,
            None => self.idle.last = before,
        }
        self.idle.len -= 1;
    }

    /// Sets the mark that follows a mark of the list, or the front of the list.
    fn link(&mut self, before: u32, behind: u32) {
        match self.idle_neighbours(before) {
            Some(of) => of.behind = behind,
            None => self.idle.first = behind,
        }
    }

    fn idle_neighbours(&mut self, place: u32) -> Option<&mut Neighbours> {
        self.marks.get_mut(place)?.idle.as_mut()
    }
}

/// The object has its most keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooManyKeys {
    pub(super) most: usize,
}

/// Returns the function by which the table reads the hash of an index.
fn hash_in(entries: &Slots<Entry>) -> impl Fn(&u32) -> u64 {
    |place| entries.get(*place).map_or(0, |entry| whole(entry.hash))
}

/// Half of a hash: two of a million keys may share it, and their texts tell them apart.
fn half(hash: u64) -> u32 {
    u32::try_from(hash >> u32::BITS).unwrap_or_default()
}

/// A hash of full width from a half, because the table reads bits at both ends.
fn whole(half: u32) -> u64 {
    let half = u64::from(half);
    half << u32::BITS | half
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use lockkeeper_protocol::{Peer, SessionId};

    use super::*;

    fn entries(keys: usize, idle: usize) -> Entries {
        Entries::new(KeyLimits { keys, idle })
    }

    fn left(fence: u64) -> Left {
        let ended = HangUp::new(SessionId::new(1), Arc::new(Peer::default()), Duration::ZERO);
        Left {
            ended: Rc::new(ended),
            since: Duration::ZERO,
            fence: Fence::new(fence),
        }
    }

    #[test]
    fn thousands_of_keys_are_found_in_any_order_of_coming_and_going() {
        const KEYS: u32 = 10_007;
        let mut entries = entries(usize::MAX, 0);
        let key = |n: u32| Key::from(format!("key {n}").as_str());
        let mut places = BTreeMap::new();
        for n in 0..KEYS {
            let place = entries.enter(key(n)).unwrap();
            entries.at_mut(place).unwrap().taken = 1;
            assert_eq!(entries.enter(key(n)), Ok(place));
            places.insert(n, place);
        }
        for n in (0..KEYS).map(|n| n * 7 % KEYS) {
            assert_eq!(entries.find(&key(n)), Some(places[&n]));
            entries.at_mut(places[&n]).unwrap().taken = 0;
            entries.end(places[&n]);
            assert_eq!(entries.find(&key(n)), None);
        }
        assert_eq!((entries.used(), entries.idle()), (0, 0));
        assert!(entries.entries.capacity() < 100 && entries.table.capacity() < 100);
    }

    #[test]
    fn more_keys_than_there_may_be_are_refused() {
        let mut entries = entries(2, 0);
        for key in ["a", "b"] {
            entries.enter(key.into()).unwrap();
        }
        assert_eq!(entries.enter("c".into()), Err(TooManyKeys { most: 2 }));
        assert!(entries.enter("b".into()).is_ok());
    }

    #[test]
    fn marks_of_idle_keys_are_kept_up_to_a_number_and_the_one_free_longest_goes_first() {
        let mut entries = entries(usize::MAX, 2);
        for (fence, key) in [(1, "a"), (3, "b"), (2, "c")] {
            let place = entries.enter(key.into()).unwrap();
            entries.leave(place, left(fence));
            entries.end(place);
            // A second end changes nothing.
            entries.end(place);
        }
        let kept = ["a", "b", "c"].map(|key| entries.find(&key.into()).is_some());
        assert_eq!((kept, entries.idle()), ([false, true, true], 2));
        // A key that is held again is not in the list.
        let held = entries.enter("b".into()).unwrap();
        entries.at_mut(held).unwrap().taken = 1;
        for (fence, key) in [(4, "d"), (5, "e")] {
            let place = entries.enter(key.into()).unwrap();
            entries.leave(place, left(fence));
            entries.end(place);
        }
        let kept = ["b", "c", "d", "e"].map(|key| entries.find(&key.into()).is_some());
        assert_eq!(kept, [true, false, true, true]);
        assert_eq!((entries.used(), entries.idle()), (1, 2));
        // A key that is free again is last in the list, with its earlier mark.
        assert_eq!(entries.abandoned(held).unwrap().fence, Fence::new(3));
        entries.at_mut(held).unwrap().taken = 0;
        entries.end(held);
        let kept = ["b", "d", "e"].map(|key| entries.find(&key.into()).is_some());
        assert_eq!(kept, [true, false, true]);
        // Without its mark the key is removed, and the list stays intact.
        for key in ["b", "e"] {
            let place = entries.enter(key.into()).unwrap();
            entries.clear_mark(place);
            entries.end(place);
        }
        assert_eq!((entries.used(), entries.idle()), (0, 0));
        assert_eq!((entries.idle.first, entries.idle.last), (NONE, NONE));
        assert!(entries.marks.is_empty());
    }
}
