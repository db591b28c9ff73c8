//! The line of calls that wait to become the holder, in order of arrival.
//!
//! An owner may have several calls in the line, for example of several tasks. All of them are granted
//! together, because an owner must not wait for itself.

use std::{collections::BTreeSet, time::Duration};

use lockkeeper_protocol::{CallId, Refusal, SessionId, operations::Granted};

use crate::{
    kind::{
        call::{Call, Outbox},
        hang_up::{HangUp, SLICE},
    },
    waiting::{call_table::Parked, wait_queue::WaitQueue},
};

/// A call that waits to become the holder.
pub trait Waiter: Parked {
    /// The state that it carries, which is passed on if it leaves before it has used it.
    type Carried;

    /// Returns its arrival, as the time since the manager's start.
    fn since(&self) -> Duration;

    /// Returns the outbox of its answer.
    fn outbox(&self) -> &Outbox;

    /// Returns its owner within the session, if an owner may acquire again.
    fn owner(&self) -> Option<u64>;

    /// Returns the state that it carries.
    fn carried(&self) -> Self::Carried;

    /// Answers it as the holder.
    fn admit(self, granted: Granted);

    /// Answers it with a refusal.
    fn refuse(self, refusal: Refusal);
}

impl Waiter for Call<Result<Granted, Refusal>> {
    type Carried = ();

    fn since(&self) -> Duration {
        self.arrived()
    }

    fn outbox(&self) -> &Outbox {
        self.outbox()
    }

    fn owner(&self) -> Option<u64> {
        None
    }

    fn carried(&self) {}

    fn admit(self, granted: Granted) {
        self.reply(Ok(granted));
    }

    fn refuse(self, refusal: Refusal) {
        self.reply(Err(refusal));
    }
}

/// Calls in order of arrival, and by their owners. Most locks never have waiters, so an empty line takes one
/// word.
#[derive(Debug)]
pub(super) struct Line<E>(Option<Box<Standing<E>>>);

/// The waiting calls; empty once they have left.
#[derive(Debug)]
struct Standing<E> {
    queue: WaitQueue<E>,
    /// The calls that have an owner.
    owned: BTreeSet<(u64, CallId)>,
}

impl<E> Default for Line<E> {
    fn default() -> Self {
        Self(None)
    }
}

impl<E> Default for Standing<E> {
    fn default() -> Self {
        Self {
            queue: WaitQueue::new(),
            owned: BTreeSet::new(),
        }
    }
}

impl<E> Line<E> {
    /// Drops some of many calls: see [`WaitQueue::drop_some`].
    pub(super) fn drop_some(&mut self) -> bool {
        let Some(standing) = &mut self.0 else {
            return false;
        };
        let owned = &mut standing.owned;
        if owned.len() <= SLICE {
            return standing.queue.drop_some();
        }
        (0..SLICE).for_each(|_| _ = owned.pop_last());
        true
    }
}

impl<E: Waiter> Line<E> {
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |standing| standing.queue.len())
    }

    pub(super) fn get(&self, id: CallId) -> Option<&E> {
        self.0.as_ref()?.queue.get(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (CallId, &E)> {
        let standing = self.0.iter();
        standing.flat_map(|standing| standing.queue.iter())
    }

    pub(super) fn push(&mut self, waiter: E) {
        let id = waiter.id();
        let standing = self.0.get_or_insert_default();
        let owned = waiter.owner().map(|owner| (owner, id));
        standing.owned.extend(owned);
        standing.queue.push(waiter);
    }

    pub(super) fn pop_front(&mut self) -> Option<E> {
        let standing = self.0.as_mut()?;
        let waiter = standing.queue.pop_front()?;
        standing.forget(&waiter);
        Some(waiter)
    }

    /// Takes the first call of an owner.
    pub(super) fn pop_owned(&mut self, owner: u64, session: SessionId) -> Option<E> {
        let (least, greatest) = CallId::span(session);
        let owned = &self.0.as_ref()?.owned;
        let (_, first) = *owned.range((owner, least)..=(owner, greatest)).next()?;
        self.remove(first)
    }

    pub(super) fn remove(&mut self, id: CallId) -> Option<E> {
        let standing = self.0.as_mut()?;
        let waiter = standing.queue.remove(id)?;
        standing.forget(&waiter);
        Some(waiter)
    }

    pub(super) fn hang_up(&mut self, ended: &HangUp) -> Vec<E> {
        let Some(standing) = &mut self.0 else {
            return Vec::new();
        };
        let gone = standing.queue.hang_up(ended);
        for waiter in &gone {
            standing.forget(waiter);
        }
        gone
    }
}

impl<E: Waiter> Standing<E> {
    fn forget(&mut self, waiter: &E) {
        if let Some(owner) = waiter.owner() {
            self.owned.remove(&(owner, waiter.id()));
        }
    }
}
