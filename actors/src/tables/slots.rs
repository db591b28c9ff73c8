//! `Slots`: values at numbered places, as a slab, in pages that are allocated and freed one by one.
//!
//! A slab that has had millions of values visits all of its places when it is dropped, and keeps its memory
//! until then. Here a page is freed with its last value. The first page is part of the struct, because most
//! tables have no other.
//!
//! Invariant: a page except the first has at least one value, unless later pages have some.

use std::collections::BTreeSet;

use slab::Slab;

/// The number that is no place.
pub(crate) const NONE: u32 = u32::MAX;

/// The most values of one page.
const PAGE: usize = 1024;

/// The most values in all.
const CAPACITY: usize = NONE as usize;

/// The most values for which an empty page keeps its memory.
const KEPT: usize = 64;

/// Values, each of which keeps its place until it is removed.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    first: Slab<T>,
    rest: Option<Box<Rest<T>>>,
}

/// The pages behind the first.
#[derive(Debug)]
struct Rest<T> {
    pages: Vec<Slab<T>>,
    /// The pages that are not full.
    roomy: BTreeSet<usize>,
    len: usize,
}

impl<T> Default for Rest<T> {
    fn default() -> Self {
        Self {
            pages: Vec::new(),
            roomy: BTreeSet::new(),
            len: 0,
        }
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            first: Slab::new(),
            rest: None,
        }
    }
}

/// The page of a place, or `None` for the first page, and the index in the page.
#[inline]
const fn place_of(place: u32) -> (Option<usize>, usize) {
    let place = place as usize;
    ((place / PAGE).checked_sub(1), place % PAGE)
}

impl<T> Slots<T> {
    pub(crate) fn len(&self) -> usize {
        self.first.len() + self.rest.as_ref().map_or(0, |rest| rest.len)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub(crate) fn get(&self, place: u32) -> Option<&T> {
        match place_of(place) {
            (None, place) => self.first.get(place),
            (Some(page), place) => self.rest.as_ref()?.pages.get(page)?.get(place),
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        match place_of(place) {
            (None, place) => self.first.get_mut(place),
            (Some(page), place) => self.rest.as_mut()?.pages.get_mut(page)?.get_mut(place),
        }
    }

    /// Inserts a value, and returns its place. A value beyond four billion is dropped.
    pub(crate) fn insert(&mut self, value: T) -> Option<u32> {
        if self.first.len() < PAGE {
            return u32::try_from(self.first.insert(value)).ok();
        }
        if self.len() >= CAPACITY {
            return None;
        }
        let rest = self.rest.get_or_insert_default();
        let page = rest.roomy.first().copied().unwrap_or_else(|| {
            let page = rest.pages.len();
            rest.pages.push(Slab::new());
            rest.roomy.insert(page);
            page
        });
        let values = rest.pages.get_mut(page)?;
        let place = values.insert(value);
        rest.len += 1;
        if values.len() == PAGE {
            rest.roomy.remove(&page);
        }
        u32::try_from((page + 1) * PAGE + place).ok()
    }

    /// Removes a value.
    pub(crate) fn remove(&mut self, place: u32) -> Option<T> {
        let (page, place) = place_of(place);
        let Some(page) = page else {
            let value = self.first.try_remove(place);
            free_if_empty(&mut self.first);
            return value;
        };
        let rest = self.rest.as_mut()?;
        let values = rest.pages.get_mut(page)?;
        let value = values.try_remove(place)?;
        rest.len -= 1;
        if values.len() + 1 == PAGE {
            rest.roomy.insert(page);
        }
        free_if_empty(values);
        while rest.pages.pop_if(|last| last.is_empty()).is_some() {
            rest.roomy.remove(&rest.pages.len());
        }
        if rest.pages.is_empty() {
            self.rest = None;
        }
        Some(value)
    }

    /// Drops the values of the last page, if there are several pages. Returns whether there were.
    pub(crate) fn drop_page(&mut self) -> bool {
        let Some(rest) = &mut self.rest else {
            return false;
        };
        let Some(page) = rest.pages.pop() else {
            self.rest = None;
            return false;
        };
        rest.len -= page.len();
        rest.roomy.remove(&rest.pages.len());
        if rest.pages.is_empty() {
            self.rest = None;
        }
        true
    }

    /// An upper bound on the places of all values.
    pub(crate) fn end(&self) -> u32 {
        let pages = 1 + self.rest.as_ref().map_or(0, |rest| rest.pages.len());
        u32::try_from(pages * PAGE).unwrap_or(NONE)
    }

    /// All values with their places, in the order of the places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let rest = self.rest.iter().flat_map(|rest| &rest.pages);
        let pages = std::iter::once(&self.first).chain(rest);
        pages.zip((0..).step_by(PAGE)).flat_map(|(page, before)| {
            let values = page.iter();
            values.filter_map(move |(place, value)| {
                Some((before + u32::try_from(place).ok()?, value))
            })
        })
    }

    /// The number of values that fit into the allocated memory.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        let rest = self.rest.iter().flat_map(|rest| &rest.pages);
        self.first.capacity() + rest.map(Slab::capacity).sum::<usize>()
    }
}

fn free_if_empty<T>(page: &mut Slab<T>) {
    if page.is_empty() && page.capacity() > KEPT {
        *page = Slab::new();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn values_stay_at_their_places_in_any_order_of_coming_and_going() {
        let mut slots = Slots::default();
        let mut there = BTreeMap::new();
        for round in 0..3_u32 {
            for number in 0..3_007 {
                let value = (round, number);
                let place = slots.insert(value).expect("a place");
                assert_eq!(there.insert(place, value), None, "the place was taken");
            }
            assert!(
                slots
                    .iter()
                    .eq(there.iter().map(|(place, value)| (*place, value)))
            );
            for number in 0..2_500 {
                let place = there.keys().nth(number * 31 % there.len()).copied();
                let place = place.expect("a value");
                assert_eq!(slots.get(place), there.get(&place));
                assert_eq!(slots.get_mut(place).copied(), there.get(&place).copied());
                assert_eq!(slots.remove(place), there.remove(&place));
                assert_eq!(slots.remove(place), None);
                assert_eq!(slots.get(place), None);
            }
            assert_eq!(slots.len(), there.len());
        }
        assert_eq!(slots.get(NONE), None);
        assert_eq!(slots.remove(NONE), None);
    }

    #[test]
    fn a_page_is_freed_with_its_last_value_and_filled_from_the_front() {
        let mut slots = Slots::default();
        let places: Vec<u32> = (0..100_000).filter_map(|n| slots.insert(n)).collect();
        assert!(slots.capacity() < 100_000 + PAGE);
        // A value in the last page keeps no other page allocated.
        for place in &places[..99_999] {
            slots.remove(*place);
        }
        assert!(slots.capacity() <= PAGE, "{}", slots.capacity());
        assert_eq!(slots.insert(7), Some(0));
        slots.remove(99_999);
        assert!(slots.rest.is_none());
        slots.remove(0);
        assert!(slots.is_empty() && slots.capacity() <= KEPT);
    }
}
