//! `Table`: a hash table that grows and shrinks in small steps.
//!
//! It consists of many small hash tables, its parts, and the hash of an entry selects its part. When the
//! parts exceed a certain number of entries on average, one of them is split in two, and the parts are split
//! in turn (linear hashing). No insertion moves more than the entries of a part.
//!
//! Invariant: an entry is in the part that [`part_of`] returns for its hash and the number of parts.

use std::fmt;

use hashbrown::HashTable;

/// The average number of entries per part above which a part is split. The part that is split last has twice
/// as many, and some more by chance: they fit into 1,024 slots.
const MEAN: usize = 384;

/// The average number of entries per part below which the last part is merged into the one that it was split
/// from.
const LEAST: usize = MEAN / 4;

/// The bits of a hash that do not select the part: a part takes the slots of its entries from the lower bits,
/// and the tags from the upper ones.
const SHIFT: u32 = 12;

/// Entries that are found by a hash and a comparison.
pub struct Table<T> {
    parts: Vec<HashTable<T>>,
    len: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Table<T> {
    /// Creates an empty table, which allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            parts: Vec::new(),
            len: 0,
        }
    }

    /// Returns the number of entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the table is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the number of entries that fit into the allocated memory.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.parts.iter().map(HashTable::capacity).sum()
    }

    /// Returns the number of parts.
    #[must_use]
    pub const fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Returns the entry with a hash that `is_it` accepts.
    #[must_use]
    #[inline]
    pub fn find(&self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&T> {
        let part = self.parts.get(part_of(hash, self.parts.len()))?;
        part.find(hash, is_it)
    }

    /// Inserts an entry that is not in the table. `hash_of` returns the hashes of other entries, which may be
    /// moved.
    pub fn insert(&mut self, hash: u64, entry: T, hash_of: impl Fn(&T) -> u64) {
        if self.parts.is_empty() {
            self.parts.push(HashTable::new());
        }
        let count = self.parts.len();
        if let Some(part) = self.parts.get_mut(part_of(hash, count)) {
            part.insert_unique(hash, entry, &hash_of);
            self.len += 1;
        }
        if self.len > MEAN * count {
            self.split(hash_of);
        }
    }

    /// Removes the entry with a hash that `is_it` accepts.
    pub fn remove(
        &mut self,
        hash: u64,
        is_it: impl FnMut(&T) -> bool,
        hash_of: impl Fn(&T) -> u64,
    ) -> Option<T> {
        let count = self.parts.len();
        let part = self.parts.get_mut(part_of(hash, count))?;
        let (entry, _) = part.find_entry(hash, is_it).ok()?.remove();
        self.len -= 1;
        if part.len() < part.capacity() / 8 {
            part.shrink_to(2 * part.len(), &hash_of);
        }
        if count > 1 && self.len < LEAST * count {
            self.merge(hash_of);
        }
        Some(entry)
    }

    /// Returns the parts, which free their memory one by one as they are dropped.
    pub fn into_parts(self) -> impl Iterator<Item = impl Sized> {
        self.parts.into_iter()
    }

    /// Adds a part, which takes about half of the entries of another one.
    fn split(&mut self, hash_of: impl Fn(&T) -> u64) {
        let last = self.parts.len();
        let Some(split) = self.parts.get_mut(split_from(last)) else {
            return;
        };
        let entries = std::mem::take(split);
        let mut added = HashTable::with_capacity(entries.len() / 2);
        split.reserve(entries.len() / 2, &hash_of);
        for entry in entries {
            let hash = hash_of(&entry);
            let part = if part_of(hash, last + 1) == last {
                &mut added
            } else {
                &mut *split
            };
            part.insert_unique(hash, entry, &hash_of);
        }
        self.parts.push(added);
    }

    /// Removes the last part. Its entries go to the part that it was split from.
    fn merge(&mut self, hash_of: impl Fn(&T) -> u64) {
        let Some(last) = self.parts.pop() else {
            return;
        };
        let into = split_from(self.parts.len());
        if let Some(part) = self.parts.get_mut(into) {
            part.reserve(last.len(), &hash_of);
            for entry in last {
                part.insert_unique(hash_of(&entry), entry, &hash_of);
            }
        }
        if self.parts.len() < self.parts.capacity() / 4 {
            self.parts.shrink_to(2 * self.parts.len());
        }
    }
}

/// Returns the hash of a number from a counter, for a [`Table`].
///
/// A hash that multiplies once spreads such numbers so evenly that all parts grow at the same time: 512
/// insertions moved 69,000 entries. This hash, the finalizer of MurmurHash3, spreads them as random numbers
/// would.
#[must_use]
#[inline]
pub const fn hash_number(number: u64) -> u64 {
    let hash = (number ^ number >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

/// The part of an entry with a hash.
#[inline]
fn part_of(hash: u64, parts: usize) -> usize {
    let mask = parts.next_power_of_two() - 1;
    // The lower bits select the part, because the upper ones may be cut off.
    let part = (hash >> SHIFT) as usize & mask;
    if part < parts { part } else { part & mask >> 1 }
}

/// The part from which a new last part takes its entries.
const fn split_from(last: usize) -> usize {
    match last.checked_ilog2() {
        Some(bit) => last ^ (1 << bit),
        None => 0,
    }
}

impl<T> fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("len", &self.len)
            .field("parts", &self.parts.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        hash::{BuildHasher, RandomState},
    };

    use rustc_hash::FxBuildHasher;

    use super::*;

    /// The most entries that one call may move: twice those of the largest part.
    const MOST_MOVED: usize = 2048;

    /// A table of numbers that counts the hashes taken in a call.
    struct Counted<H> {
        table: Table<u32>,
        hash: H,
        most: usize,
    }

    impl<H: Fn(u32) -> u64> Counted<H> {
        fn new(hash: H) -> Self {
            let table = Table::new();
            Self {
                table,
                hash,
                most: 0,
            }
        }

        fn insert(&mut self, number: u32) {
            let moved = Cell::new(0);
            let hash_of = |other: &u32| {
                moved.set(moved.get() + 1);
                (self.hash)(*other)
            };
            self.table.insert((self.hash)(number), number, hash_of);
            self.most = self.most.max(moved.get());
        }

        fn remove(&mut self, number: u32) -> Option<u32> {
            let moved = Cell::new(0);
            let hash_of = |other: &u32| {
                moved.set(moved.get() + 1);
                (self.hash)(*other)
            };
            let is_it = |other: &u32| *other == number;
            let removed = self.table.remove((self.hash)(number), is_it, hash_of);
            self.most = self.most.max(moved.get());
            removed
        }

        fn has(&self, number: u32) -> bool {
            let found = self
                .table
                .find((self.hash)(number), |other| *other == number);
            found.is_some()
        }
    }

    /// Fills and empties a table, and returns the most entries that one call moved.
    fn most_moved(entries: u32, hash: impl Fn(u32) -> u64) -> usize {
        let mut counted = Counted::new(hash);
        for number in 0..entries {
            counted.insert(number);
        }
        assert_eq!(counted.table.len(), entries as usize);
        assert!((0..entries).all(|number| counted.has(number)));
        assert!(!counted.has(entries));
        let capacity = counted.table.capacity();
        assert!(
            capacity < 3 * entries as usize,
            "room for {capacity} instead of {entries}"
        );
        // All but a few are removed, in a scattered order.
        for number in (0..entries).map(|n| u32::try_from(u64::from(n) * 7919 % u64::from(entries)))
        {
            let number = number.expect("below the number of entries");
            if number >= 100 {
                assert_eq!(counted.remove(number), Some(number));
            }
        }
        assert!((0..100).all(|number| counted.has(number)));
        assert!(!counted.has(100) && counted.remove(100).is_none());
        let capacity = counted.table.capacity();
        assert!(capacity < 2000, "room for {capacity} instead of 100");
        counted.most
    }

    #[test]
    fn no_call_moves_more_than_the_entries_of_a_part() {
        let random = RandomState::new();
        let most = most_moved(200_003, |number| random.hash_one(number));
        assert!(most < MOST_MOVED, "{most} entries were moved in one call");
        // Numbers from a counter, like those of objects.
        let most = most_moved(200_003, |number| FxBuildHasher.hash_one(u64::from(number)));
        assert!(most < MOST_MOVED, "{most} entries were moved in one call");
    }

    #[test]
    fn parts_do_not_all_grow_at_the_same_time_as_numbers_count_up() {
        const INSERTIONS: u32 = 512;
        let mut table = Table::new();
        let (moved, mut most) = (Cell::new(0), 0);
        let hash_of = |number: &u32| {
            moved.set(moved.get() + 1);
            hash_number(u64::from(*number))
        };
        for number in 0..1_000_000 {
            table.insert(hash_number(number.into()), number, hash_of);
            if number % INSERTIONS == 0 {
                most = most.max(moved.replace(0));
            }
        }
        assert!(
            most < 20_000,
            "{most} entries moved in {INSERTIONS} insertions"
        );
    }

    #[test]
    fn a_hash_of_32_bits_that_is_written_twice_spreads_as_well() {
        let random = RandomState::new();
        let most = most_moved(100_003, |number| {
            let half = random.hash_one(number) >> 32;
            half << 32 | half
        });
        assert!(most < MOST_MOVED, "{most} entries were moved in one call");
    }

    #[test]
    fn entries_stay_in_the_part_or_move_to_the_new_one_as_parts_are_added() {
        let random = RandomState::new();
        for hash in (0..1000).map(|number: u32| random.hash_one(number)) {
            for parts in 1..300 {
                let (before, after) = (part_of(hash, parts), part_of(hash, parts + 1));
                let moved = before == split_from(parts) && after == parts;
                assert!(before < parts && (before == after || moved));
            }
        }
    }

    #[test]
    fn an_empty_table_finds_nothing_and_few_entries_take_one_part() {
        let mut counted = Counted::new(u64::from);
        assert!(!counted.has(1) && counted.remove(1).is_none());
        assert_eq!((counted.table.parts(), counted.table.capacity()), (0, 0));
        for number in 0..100 {
            counted.insert(number);
        }
        assert_eq!(counted.table.parts(), 1);
    }
}
