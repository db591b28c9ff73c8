//! The table of keys in use, found by key or by slot.
//!
//! Invariant: a key has an entry only while it has a holder, or while it keeps the abandoned mark of a
//! dead holder.

use std::{
    collections::BTreeMap,
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
    waiting::lines::Line,
};

/// What is kept of a key.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    /// Half of the key's hash, so that no key is hashed twice.
    hash: u32,
    /// How many permits are held.
    pub(super) taken: u32,
    /// The holds of the permits that are taken.
    pub(super) holders: Line,
    /// The calls that wait for permits.
    pub(super) line: Line,
    /// What a holder has left that died.
    pub(super) mark: Option<Box<Mark>>,
}

/// What a dead holder has left. All that one session leaves share the account of its end.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) ended: Rc<HangUp>,
    /// Since when it had held.
    pub(super) since: Duration,
    pub(super) fence: Fence,
}

impl Mark {
    fn abandoned(&self) -> Abandoned {
        self.ended.mark(self.since, self.fence)
    }
}

impl Entry {
    /// Marks the key with what a holder has left. Of all that one session has left it is the latest.
    pub(super) fn leave(&mut self, mark: Mark) {
        let is_earlier = self.mark.as_deref().is_some_and(|last| {
            last.ended.session == mark.ended.session && last.fence > mark.fence
        });
        if !is_earlier {
            self.mark = Some(Box::new(mark));
        }
    }

    /// Who has left what there is, as a holder is told it.
    pub(super) fn abandoned(&self) -> Option<Abandoned> {
        self.mark.as_deref().map(Mark::abandoned)
    }
}

/// All entries.
#[derive(Debug)]
pub(super) struct Entries {
    entries: Slots<Entry>,
    /// The places of the entries.
    table: Table<u32>,
    /// Seeded at random, so clients cannot choose keys that collide.
    hasher: RandomState,
    /// The marked keys without a holder, by the fences of their marks: the oldest is first.
    idle: BTreeMap<Fence, u32>,
    limits: KeyLimits,
}

/// How many keys there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyLimits {
    pub(super) keys: usize,
    /// Those of them without a holder, which are kept for their marks.
    pub(super) idle: usize,
}

impl KeyLimits {
    pub(super) const DEFAULT: Self = Self {
        keys: 100_000_000,
        idle: 1 << 20,
    };
}

/// A page of keys has a little more than so many bytes at the most: half of the smallest limit of a message.
const PAGE_BYTES: usize = 1 << 15;

/// So many places are looked at for a page, whether their keys are held or not.
const PAGE_PLACES: u32 = 1 << 13;

impl Entries {
    pub(super) fn new(limits: KeyLimits) -> Self {
        Self {
            entries: Slots::default(),
            table: Table::new(),
            hasher: RandomState::new(),
            idle: BTreeMap::new(),
            limits,
        }
    }

    /// How many keys are held.
    pub(super) fn used(&self) -> usize {
        self.entries.len() - self.idle.len()
    }

    /// How many keys are kept for their marks alone.
    pub(super) fn idle(&self) -> usize {
        self.idle.len()
    }

    pub(super) fn at(&self, place: u32) -> Option<&Entry> {
        self.entries.get(place)
    }

    pub(super) fn at_mut(&mut self, place: u32) -> Option<&mut Entry> {
        self.entries.get_mut(place)
    }

    /// All keys that are held, with their places, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Entry)> {
        self.entries.iter().filter(|(_, entry)| entry.taken > 0)
    }

    /// The keys that are held from a place on, up to a page full. A key stays at its place for as long as it
    /// is held.
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

    /// Where a key is.
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

    /// Where a key is that is about to be held: one that is not there is entered, unless there are
    /// too many.
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
            holders: Line::default(),
            line: Line::default(),
            mark: None,
        });
        let place = place.ok_or(TooManyKeys { most })?;
        self.table
            .insert(whole(hash), place, hash_in(&self.entries));
        Ok(place)
    }

    /// Begins to use a key: one that was kept for its mark is so no longer.
    fn begin(&mut self, place: u32) {
        let entry = self.entries.get(place);
        if let Some(entry) = entry.filter(|entry| entry.taken == 0)
            && let Some(mark) = &entry.mark
        {
            self.idle.remove(&mark.fence);
        }
    }

    /// Ends the use of a key without a holder: it is forgotten, or kept for its mark. Beyond so many the
    /// one whose mark is oldest is forgotten.
    pub(super) fn end(&mut self, place: u32) {
        let Some(entry) = self.at(place).filter(|entry| entry.taken == 0) else {
            return;
        };
        let Some(mark) = &entry.mark else {
            return self.forget(place);
        };
        self.idle.insert(mark.fence, place);
        if self.idle.len() > self.limits.idle
            && let Some((_, oldest)) = self.idle.pop_first()
        {
            self.forget(oldest);
        }
    }

    fn forget(&mut self, place: u32) {
        let Some(entry) = self.at(place) else {
            return;
        };
        let is_it = |other: &u32| *other == place;
        self.table
            .remove(whole(entry.hash), is_it, hash_in(&self.entries));
        self.entries.remove(place);
    }
}

/// There are as many keys as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooManyKeys {
    pub(super) most: usize,
}

/// How the table reads the hash of what is at a place.
fn hash_in(entries: &Slots<Entry>) -> impl Fn(&u32) -> u64 {
    |place| entries.get(*place).map_or(0, |entry| whole(entry.hash))
}

/// Half of a hash: two keys of a million have the same, and are told apart by their texts.
fn half(hash: u64) -> u32 {
    u32::try_from(hash >> u32::BITS).unwrap_or_default()
}

/// A hash as wide as the table wants it, which looks at both ends.
fn whole(half: u32) -> u64 {
    let half = u64::from(half);
    half << u32::BITS | half
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lockkeeper_protocol::{Peer, SessionId};

    use super::*;

    fn entries(keys: usize, idle: usize) -> Entries {
        Entries::new(KeyLimits { keys, idle })
    }

    fn mark(fence: u64) -> Box<Mark> {
        let ended = HangUp::new(SessionId::new(1), Arc::new(Peer::default()), Duration::ZERO);
        Box::new(Mark {
            ended: Rc::new(ended),
            since: Duration::ZERO,
            fence: Fence::new(fence),
        })
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
    fn marks_of_idle_keys_are_kept_up_to_a_number_and_the_oldest_goes_first() {
        let mut entries = entries(usize::MAX, 2);
        for (fence, key) in [(3, "c"), (1, "a"), (2, "b")] {
            let place = entries.enter(key.into()).unwrap();
            entries.at_mut(place).unwrap().mark = Some(mark(fence));
            entries.end(place);
            // To end it twice changes nothing.
            entries.end(place);
        }
        let kept = ["a", "b", "c"].map(|key| entries.find(&key.into()).is_some());
        assert_eq!((kept, entries.idle()), ([false, true, true], 2));
        // One that is held again is not among them.
        let held = entries.enter("b".into()).unwrap();
        entries.at_mut(held).unwrap().taken = 1;
        for (fence, key) in [(4, "d"), (5, "e")] {
            let place = entries.enter(key.into()).unwrap();
            entries.at_mut(place).unwrap().mark = Some(mark(fence));
            entries.end(place);
        }
        let kept = ["b", "c", "d", "e"].map(|key| entries.find(&key.into()).is_some());
        assert_eq!(kept, [true, false, true, true]);
        assert_eq!((entries.used(), entries.idle()), (1, 2));
    }
}
