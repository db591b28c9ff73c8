//! `Pages`: an ordered map from increasing numbers to values, with little memory beyond the values.
//!
//! A B-tree that grows only at its end leaves half of its nodes empty. Invariant: a page has a bit set for
//! each of its numbers that has a value, and at least one bit.

use std::collections::BTreeMap;

/// The numbers per page, one for each bit.
const PAGE: u64 = u64::BITS as u64;

/// Values by numbers.
pub(super) struct Pages<T> {
    pages: BTreeMap<u64, Block<T>>,
    len: usize,
}

/// The values of consecutive numbers. Only numbers with a value take room.
struct Block<T> {
    there: u64,
    values: Vec<T>,
}

/// The page of a number, and its bit in that page.
const fn place(number: u64) -> (u64, u64) {
    (number / PAGE, 1 << (number % PAGE))
}

impl<T> Pages<T> {
    pub(super) const fn new() -> Self {
        Self {
            pages: BTreeMap::new(),
            len: 0,
        }
    }

    /// How many values there are.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The value of a number.
    pub(super) fn get(&self, number: u64) -> Option<&T> {
        let (page, bit) = place(number);
        let page = self.pages.get(&page)?;
        page.values.get(page.position(bit)?)
    }

    /// Inserts the value of a number that has none.
    pub(super) fn insert(&mut self, number: u64, value: T) {
        let (page, bit) = place(number);
        let page = self.pages.entry(page).or_insert_with(|| Block {
            there: 0,
            values: Vec::new(),
        });
        debug_assert_eq!(page.there & bit, 0, "{number} has a value");
        page.values.insert(page.below(bit), value);
        page.there |= bit;
        self.len += 1;
    }

    /// Removes the value of a number, and frees its memory.
    pub(super) fn remove(&mut self, number: u64) -> Option<T> {
        let (place, bit) = place(number);
        let page = self.pages.get_mut(&place)?;
        let value = page.values.remove(page.position(bit)?);
        page.there &= !bit;
        self.len -= 1;
        if page.there == 0 {
            self.pages.remove(&place);
        } else if page.values.len() <= page.values.capacity() / 2 {
            page.values.shrink_to_fit();
        }
        Some(value)
    }

    /// The values of the numbers above `number`, in order. It visits no page below.
    pub(super) fn above(&self, number: u64) -> impl Iterator<Item = (u64, &T)> {
        let next = number.checked_add(1);
        let first = next.map(|next| place(next).0);
        let pages = first
            .into_iter()
            .flat_map(|first| self.pages.range(first..));
        let all = pages.flat_map(|(place, page)| page.numbers(*place).zip(&page.values));
        all.skip_while(move |(other, _)| *other <= number)
    }
}

impl<T> Block<T> {
    /// The number of values before that of a bit.
    fn below(&self, bit: u64) -> usize {
        (self.there & (bit - 1)).count_ones() as usize
    }

    /// The index of the value of a bit, if it exists.
    fn position(&self, bit: u64) -> Option<usize> {
        (self.there & bit != 0).then(|| self.below(bit))
    }

    /// The numbers that have values.
    fn numbers(&self, place: u64) -> impl Iterator<Item = u64> {
        let bits = (0..PAGE).filter(|bit| self.there & (1 << bit) != 0);
        bits.map(move |bit| place * PAGE + bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The capacity, in values.
    fn room<T>(pages: &Pages<T>) -> usize {
        let values = pages.pages.values().map(|page| page.values.capacity());
        values.sum()
    }

    fn all(pages: &Pages<u64>, above: u64) -> Vec<u64> {
        let found = pages.above(above);
        found
            .map(|(number, value)| {
                assert_eq!(number * 10, *value);
                number
            })
            .collect()
    }

    #[test]
    fn values_are_found_by_their_numbers_and_in_order_also_between_gaps() {
        for step in [1, 3, 64, 100] {
            let mut pages = Pages::new();
            let numbers: Vec<u64> = (0..1000).map(|count| count * step + step - 1).collect();
            for number in &numbers {
                pages.insert(*number, number * 10);
            }
            assert_eq!(pages.len(), numbers.len());
            for (place, number) in numbers.iter().enumerate() {
                assert_eq!(pages.get(*number), Some(&(number * 10)));
                assert_eq!(pages.get(number + 1).is_some(), step == 1 && place < 999);
                assert_eq!(all(&pages, *number), numbers[place + 1..]);
            }
        }
    }

    #[test]
    fn what_is_removed_takes_no_room_and_the_others_stay_in_order() {
        let mut pages = Pages::new();
        for number in 1..=10_000 {
            pages.insert(number, number * 10);
        }
        assert!(room(&pages) <= 10_000 + 64, "{}", room(&pages));
        for number in (1..=10_000).filter(|number| number % 100 != 0) {
            assert_eq!(pages.remove(number), Some(number * 10));
            assert_eq!(pages.remove(number), None);
            assert_eq!(pages.get(number), None);
        }
        let left: Vec<u64> = (1..=100).map(|count| count * 100).collect();
        assert_eq!(all(&pages, 0), left);
        assert_eq!(all(&pages, 4_200), left[42..]);
        assert_eq!(pages.len(), 100);
        assert!(room(&pages) <= 200, "{} for 100 values", room(&pages));
        for number in left {
            pages.remove(number);
        }
        assert!(pages.pages.is_empty());
    }

    #[test]
    fn nothing_is_above_the_greatest_number() {
        let mut pages = Pages::new();
        pages.insert(u64::MAX, ());
        assert_eq!(pages.above(u64::MAX).count(), 0);
        assert_eq!(pages.above(u64::MAX - 1).count(), 1);
        assert_eq!(pages.remove(u64::MAX), Some(()));
    }
}
