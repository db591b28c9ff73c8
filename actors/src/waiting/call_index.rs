//! `CallIndex`: maps calls to slots in about five bytes a call; a map of all ids would take about 40.
//!
//! The owner of the index decides what a slot is, and tells the index which call is in a slot. Slots are
//! sorted by call id, in runs of calls of one session.
//!
//! Invariant: a run is not empty, its key is not above any of its calls, and it ends before the next run
//! begins.

use std::{cmp::Ordering, collections::BTreeMap};

use lockkeeper_protocol::{CallId, SessionId};

use crate::kind::hang_up::drop_some_of;

/// The slots of the calls, in runs.
#[derive(Debug, Default)]
pub(crate) struct CallIndex(BTreeMap<CallId, Vec<u32>>);

/// The most calls in a run.
const RUN: usize = 64;

impl CallIndex {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Drops some runs, if there are many. Returns whether there were.
    pub(crate) fn drop_some(&mut self) -> bool {
        drop_some_of(&mut self.0)
    }

    /// The slot of a call.
    pub(crate) fn find(&self, id: CallId, id_at: impl Fn(u32) -> Option<CallId>) -> Option<u32> {
        let (_, run) = self.0.range(..=id).next_back()?;
        let at = position(run, id, id_at).ok()?;
        run.get(at).copied()
    }

    /// Inserts a call that is not in the index.
    pub(crate) fn insert(&mut self, id: CallId, place: u32, id_at: impl Fn(u32) -> Option<CallId>) {
        let run = self.0.range_mut(..=id).next_back();
        let Some((_, run)) = run.filter(|(first, _)| first.session() == id.session()) else {
            self.0.insert(id, vec![place]);
            return;
        };
        let (Ok(at) | Err(at)) = position(run, id, &id_at);
        if run.len() < RUN {
            run.insert(at, place);
            return;
        }
        if at == run.len() {
            // Sessions count up, so most calls are the last of their session, and full runs stay full.
            self.0.insert(id, vec![place]);
            return;
        }
        let mut rest = run.split_off(RUN / 2);
        let first = rest.first().and_then(|place| id_at(*place)).unwrap_or(id);
        match at.checked_sub(run.len()) {
            Some(at) if at > 0 => rest.insert(at, place),
            Some(_) | None => run.insert(at, place),
        }
        self.0.insert(first, rest);
    }

    /// Removes a call, and returns its slot.
    pub(crate) fn remove(
        &mut self,
        id: CallId,
        id_at: impl Fn(u32) -> Option<CallId>,
    ) -> Option<u32> {
        let (first, run) = self.0.range_mut(..=id).next_back()?;
        let at = position(run, id, id_at).ok()?;
        let (first, place) = (*first, run.remove(at));
        if run.is_empty() {
            self.0.remove(&first);
        }
        Some(place)
    }

    /// Removes about `most` calls of a session, or all if there are fewer, and returns their slots in the
    /// order of their ids.
    pub(crate) fn remove_session(&mut self, session: SessionId, most: usize) -> Vec<u32> {
        let mut places = Vec::new();
        while places.len() < most
            && let Some(first) = self.first_of(session)
        {
            places.extend(self.0.remove(&first).unwrap_or_default());
        }
        places
    }

    /// Returns whether the index contains a call of a session.
    pub(crate) fn has_session(&self, session: SessionId) -> bool {
        self.first_of(session).is_some()
    }

    /// The key of the first run of a session.
    fn first_of(&self, session: SessionId) -> Option<CallId> {
        let (least, greatest) = CallId::span(session);
        let (first, _) = self.0.range(least..=greatest).next()?;
        Some(*first)
    }
}

/// The index of a call in a run, or the index at which to insert it.
fn position(
    run: &[u32],
    id: CallId,
    id_at: impl Fn(u32) -> Option<CallId>,
) -> Result<usize, usize> {
    // If calls are removed in order, each is the first.
    if run.first().is_some_and(|place| id_at(*place) == Some(id)) {
        return Ok(0);
    }
    run.binary_search_by(|place| id_at(*place).map_or(Ordering::Greater, |other| other.cmp(&id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The call of a slot, which belongs to one of two sessions.
    fn id(number: u32) -> CallId {
        CallId::new(SessionId::new(u64::from(number / 1000)), number.into())
    }

    fn id_at(place: u32) -> Option<CallId> {
        Some(id(place))
    }

    #[test]
    fn a_run_is_never_long_nor_empty() {
        let mut index = CallIndex::default();
        // The second half is inserted between the first.
        let all = || (0..2000).step_by(2).chain((1..2000).step_by(2));
        for number in all() {
            index.insert(id(number), number, id_at);
        }
        for number in all().filter(|number| number % 3 == 1) {
            assert_eq!(index.remove(id(number), id_at), Some(number));
            assert_eq!(index.remove(id(number), id_at), None);
            assert_eq!(index.find(id(number), id_at), None);
        }
        let runs = || index.0.values();
        assert!(runs().all(|run| (1..=RUN).contains(&run.len())));
        assert!(runs().count() < 2000 / RUN * 3, "most of them are long");
        let left: Vec<u32> = (0..2000).filter(|number| number % 3 != 1).collect();
        assert!(
            left.iter()
                .all(|number| index.find(id(*number), id_at) == Some(*number))
        );
        let some = index.remove_session(SessionId::new(0), 100);
        assert!((100..100 + RUN).contains(&some.len()) && index.has_session(SessionId::new(0)));
        let mut gone = some;
        gone.extend(index.remove_session(SessionId::new(0), usize::MAX));
        assert!(!index.has_session(SessionId::new(0)));
        gone.extend(index.remove_session(SessionId::new(1), usize::MAX));
        assert_eq!(gone, left);
        assert!(index.0.is_empty());
    }
}
