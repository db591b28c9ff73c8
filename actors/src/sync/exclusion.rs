//! `Exclusion`: the state that all kinds with one holder share: the holder, the line of waiting calls, and
//! the mark that a dead holder leaves.
//!
//! A kind implements [`Exclusive`] and owns an [`Exclusion`], and the operations of holders are implemented
//! once for all such kinds.
//!
//! Invariant: without a holder, the line is empty.

use std::{collections::BTreeSet, fmt, iter};

use lockkeeper_protocol::{
    Abandoned, CallId, Refusal,
    operations::{
        Acquire, Adopt, ForceUnlock, GetLockStatus, Granted, LockStatus, MarkConsistent, Release,
        ReleaseAny, ReleaseBy,
    },
};

use crate::{
    kind::{
        call::{Call, Outbox},
        hang_up::HangUp,
        held_bytes::HeldBytes,
        hold_timer::HoldTimer,
        primitive::{Primitive, Serve},
        survey::{Holding, Part, Survey, Waiting},
    },
    sync::line::{Line, Waiter},
};

/// A kind with one holder at a time.
pub trait Exclusive: Primitive {
    /// The type of a waiting call.
    type Waiter: Waiter;

    /// Returns the holder and the line.
    fn exclusion(&self) -> &Exclusion<Self::Waiter>;

    /// Returns the holder and the line, mutably.
    fn exclusion_mut(&mut self) -> &mut Exclusion<Self::Waiter>;

    /// Handles what a waiter carried, if the waiter leaves or loses its hold before it has used it.
    fn leave_behind(&mut self, carried: <Self::Waiter as Waiter>::Carried);
}

/// One holder, and the line of calls that wait to become the holder.
pub struct Exclusion<E: Waiter> {
    holder: Option<Holder<E::Carried>>,
    line: Line<E>,
    abandoned: Option<Box<Abandoned>>,
    release_by: ReleaseBy,
}

struct Holder<B> {
    /// The call that holds the lock.
    grant: CallId,
    /// The calls by which the same owner acquired again. Most holders have none.
    more: Option<Box<Nested>>,
    owner: Option<u64>,
    timer: HoldTimer,
    carried: B,
}

/// The nested entries of one owner, each of which counts as a hold. Only the first one has a timer.
struct Nested {
    calls: BTreeSet<CallId>,
    bytes: HeldBytes,
}

impl Nested {
    fn new(outbox: &Outbox) -> Box<Self> {
        Box::new(Self {
            calls: BTreeSet::new(),
            bytes: HeldBytes::new(outbox.shared_account()),
        })
    }

    fn insert(&mut self, call: CallId) {
        if self.calls.insert(call) {
            self.bytes.add(call.session());
        }
    }

    fn remove(&mut self, call: CallId) {
        if self.calls.remove(&call) {
            self.bytes.remove(call.session());
        }
    }

    fn pop_first(&mut self) -> Option<CallId> {
        let first = self.calls.pop_first()?;
        self.bytes.remove(first.session());
        Some(first)
    }
}

/// The most entries of one owner at a time.
const MOST_ENTRIES: u64 = 65_536;

impl<B> Holder<B> {
    fn has(&self, grant: CallId) -> bool {
        self.grant == grant || self.nested().any(|nested| nested.contains(&grant))
    }

    fn depth(&self) -> u64 {
        count(self.entered())
    }

    /// The number of entries.
    fn entered(&self) -> usize {
        self.nested().map(BTreeSet::len).sum::<usize>() + 1
    }

    /// The calls of the nested entries, if there are any.
    fn nested(&self) -> impl Iterator<Item = &BTreeSet<CallId>> {
        self.more.iter().map(|more| &more.calls)
    }

    /// The entries: the first holds the lock, the others hold no units.
    fn entries(&self) -> impl Iterator<Item = Holding> {
        let entry = |call, units, mode| Holding {
            call,
            units,
            mode,
            since: self.timer.since(),
            fence: Some(self.timer.fence()),
        };
        let again = self
            .nested()
            .flatten()
            .map(move |call| entry(*call, 0, "again"));
        iter::once(entry(self.grant, 1, "")).chain(again)
    }

    /// Removes a grant. Returns `None` if that was the last one.
    fn without(mut self, grant: CallId) -> Option<Self> {
        if self.grant == grant {
            self.grant = self.more.as_mut()?.pop_first()?;
        } else if let Some(more) = &mut self.more {
            more.remove(grant);
        }
        Some(self)
    }
}

pub(super) fn count(of: usize) -> u64 {
    of.try_into().unwrap_or(u64::MAX)
}

impl<E: Waiter> Exclusion<E> {
    /// Creates a free lock.
    #[must_use]
    pub fn new(release_by: ReleaseBy) -> Self {
        Self {
            holder: None,
            line: Line::default(),
            abandoned: None,
            release_by,
        }
    }

    /// Grants the lock to a call if it is free or the call's owner holds it; otherwise the call waits.
    pub fn enter(&mut self, waiter: E) {
        let Some(holder) = &mut self.holder else {
            return self.hold(waiter);
        };
        let is_inside = waiter.owner().is_some()
            && holder.owner == waiter.owner()
            && holder.grant.session() == waiter.id().session();
        if !is_inside {
            self.line.push(waiter);
        } else if holder.depth() < MOST_ENTRIES {
            let more = holder
                .more
                .get_or_insert_with(|| Nested::new(waiter.outbox()));
            more.insert(waiter.id());
            // Nested entries have the fence of the first one, because one holder makes all their writes.
            waiter.admit(Granted {
                fence: holder.timer.fence(),
                abandoned: self.abandoned.as_deref().cloned(),
            });
        } else {
            waiter.refuse(Refusal::TooDeep { most: MOST_ENTRIES });
        }
    }

    /// Returns whether a call holds the lock.
    #[must_use]
    pub fn is_held_by(&self, grant: CallId) -> bool {
        self.holder.as_ref().is_some_and(|holder| holder.has(grant))
    }

    /// Returns a call in the line.
    #[must_use]
    pub fn waiter(&self, id: CallId) -> Option<&E> {
        self.line.get(id)
    }

    /// Removes a call that holds the lock. The next call gets the lock with [`Self::pass_on`].
    ///
    /// # Errors
    ///
    /// Returns [`Refusal::NotHeld`] if the call does not hold the lock.
    pub fn leave(&mut self, grant: CallId) -> Result<(), Refusal> {
        let holder = self.holder.take_if(|holder| holder.has(grant));
        let holder = holder.ok_or(Refusal::NotHeld)?;
        self.holder = holder.without(grant);
        Ok(())
    }

    /// Returns the grant that has been held longest, for a release by any session.
    ///
    /// # Errors
    ///
    /// Returns [`Refusal::NotHeld`] without a holder, and [`Refusal::Invalid`] if only holders may release.
    pub fn oldest(&self) -> Result<CallId, Refusal> {
        self.release_by.check()?;
        let holder = self.holder.as_ref();
        holder.map(|holder| holder.grant).ok_or(Refusal::NotHeld)
    }

    /// Grants the lock to the next call in line if it is free. Every path that frees it ends here.
    pub fn pass_on(&mut self) {
        if self.holder.is_none()
            && let Some(next) = self.line.pop_front()
        {
            self.hold(next);
        }
    }

    /// Undoes a waiting or granted call, and returns what it carried.
    pub fn withdraw(&mut self, id: CallId) -> Option<E::Carried> {
        if let Some(waiter) = self.line.remove(id) {
            return Some(waiter.carried());
        }
        let holder = self.holder.take_if(|holder| holder.has(id))?;
        if holder.depth() > 1 {
            self.holder = holder.without(id);
            return None;
        }
        self.pass_on();
        Some(holder.carried)
    }

    /// Removes the calls of an ended session from the line and then from the holder, and returns what they
    /// carried.
    pub fn hang_up(&mut self, ended: &HangUp) -> Vec<E::Carried> {
        let waited = self.line.hang_up(ended);
        let mut carried: Vec<E::Carried> = waited.iter().map(E::carried).collect();
        drop(waited);
        if ended.goes_on() {
            return carried;
        }
        let is_theirs = |holder: &mut Holder<E::Carried>| holder.grant.session() == ended.session;
        if let Some(holder) = self.holder.take_if(is_theirs) {
            self.abandoned = Some(Box::new(holder.timer.abandon(ended)));
            carried.push(holder.carried);
            self.pass_on();
        }
        carried
    }

    /// Drops some of many waiting calls: see [`Primitive::drop_some`](crate::kind::primitive::Primitive::drop_some).
    pub fn drop_some(&mut self) -> bool {
        self.line.drop_some()
    }

    /// Replaces the grant of the holder by another call. The old grant is void then.
    pub fn hand_over(&mut self, grant: CallId, adopter: E) {
        match self.holder.take_if(|holder| holder.has(grant)) {
            None => adopter.refuse(Refusal::NotHeld),
            Some(holder) if holder.depth() > 1 => {
                adopter.refuse(Refusal::StillInside {
                    entries: holder.depth(),
                });
                self.holder = Some(holder);
            }
            Some(holder) => {
                adopter.outbox().revoke(grant);
                self.hold(adopter);
                if let Some(adopter) = &mut self.holder {
                    adopter.carried = holder.carried;
                }
            }
        }
    }

    /// Removes the holder, whose grants are void then, and returns what it carried.
    pub fn evict(&mut self, outbox: &Outbox) -> Option<E::Carried> {
        let holder = self.holder.take()?;
        outbox.revoke(holder.grant);
        for grant in holder.nested().flatten() {
            outbox.revoke(*grant);
        }
        Some(holder.carried)
    }

    /// Returns the current state.
    #[must_use]
    pub fn status(&self) -> LockStatus {
        let mut status = LockStatus::default();
        status.is_held = self.holder.is_some();
        status.depth = self.holder.as_ref().map_or(0, Holder::depth);
        status.waiting = count(self.line.len());
        status
    }

    /// Returns the holder and the line.
    #[must_use]
    pub fn survey(&self) -> Survey {
        let mark = self.abandoned.as_ref().map_or("", |_| ", abandoned");
        let state = match &self.holder {
            None => format!("free{mark}"),
            Some(holder) if holder.entered() == 1 => format!("held{mark}"),
            Some(holder) => format!("held, entered {} times{mark}", holder.depth()),
        };
        let entries = self.holder.iter().flat_map(Holder::entries);
        let depth = self.holder.as_ref().map_or(0, Holder::entered);
        let waiters = self.line.iter().map(|(call, waiter)| Waiting {
            call,
            units: 1,
            mode: "",
            since: waiter.since(),
        });
        let part = Part {
            key: None,
            units: Some(1),
            holders: entries.take(Survey::MOST).collect(),
            waiters: waiters.take(Survey::MOST).collect(),
            more_holders: Survey::beyond(depth),
            more_waiters: Survey::beyond(self.line.len()),
        };
        Survey {
            state,
            parts: vec![part],
        }
    }

    /// Makes a call the holder, and grants the owner's other waiting calls.
    fn hold(&mut self, waiter: E) {
        let timer = HoldTimer::begin(waiter.outbox(), waiter.id());
        let fence = timer.fence();
        let (id, owner) = (waiter.id(), waiter.owner());
        self.holder = Some(Holder {
            grant: id,
            more: None,
            owner,
            timer,
            carried: waiter.carried(),
        });
        waiter.admit(Granted {
            fence,
            abandoned: self.abandoned.as_deref().cloned(),
        });
        while let Some(owner) = owner
            && let Some(companion) = self.line.pop_owned(owner, id.session())
        {
            self.enter(companion);
        }
    }
}

impl<E: Waiter> fmt::Debug for Exclusion<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exclusion")
            .field("holder", &self.holder.as_ref().map(|holder| holder.grant))
            .field("waiting", &self.line.len())
            .field("abandoned", &self.abandoned)
            .finish()
    }
}

impl<P> Serve<Acquire> for P
where
    P: Exclusive<Waiter: From<Call<Result<Granted, Refusal>>>>,
{
    fn serve(&mut self, _: Acquire, call: Call<Result<Granted, Refusal>>) {
        self.exclusion_mut().enter(call.into());
    }
}

impl<P: Exclusive> Serve<Release> for P {
    fn serve(&mut self, Release { grant }: Release, call: Call<Result<(), Refusal>>) {
        let released = call.verify(grant).and_then(|grant| {
            self.exclusion_mut().leave(grant)?;
            call.record_end(grant);
            Ok(())
        });
        call.reply(released);
        self.exclusion_mut().pass_on();
    }
}

impl<P: Exclusive> Serve<ReleaseAny> for P {
    fn serve(&mut self, _: ReleaseAny, call: Call<Result<(), Refusal>>) {
        let grant = match self.exclusion().oldest() {
            Ok(grant) => grant,
            Err(refusal) => return call.reply(Err(refusal)),
        };
        // The grant is revoked even within the same session, because another of its tasks may have the guard.
        call.outbox().revoke(grant);
        call.reply(Ok(()));
        if let Some(carried) = self.exclusion_mut().withdraw(grant) {
            self.leave_behind(carried);
        }
    }
}

impl<P> Serve<Adopt> for P
where
    P: Exclusive<Waiter: From<Call<Result<Granted, Refusal>>>>,
{
    fn serve(&mut self, Adopt { grant }: Adopt, call: Call<Result<Granted, Refusal>>) {
        match call.verify(grant) {
            Ok(grant) => self.exclusion_mut().hand_over(grant, call.into()),
            Err(refusal) => call.reply(Err(refusal)),
        }
    }
}

impl<P: Exclusive> Serve<MarkConsistent> for P {
    fn serve(&mut self, MarkConsistent { grant }: MarkConsistent, call: Call<Result<(), Refusal>>) {
        let exclusion = self.exclusion_mut();
        let is_held = |grant| exclusion.is_held_by(grant).then_some(());
        let held = call
            .verify(grant)
            .and_then(|grant| is_held(grant).ok_or(Refusal::NotHeld));
        if held.is_ok() {
            exclusion.abandoned = None;
        }
        call.reply(held);
    }
}

impl<P: Exclusive> Serve<ForceUnlock> for P {
    fn serve(&mut self, _: ForceUnlock, call: Call<bool>) {
        let carried = self.exclusion_mut().evict(call.outbox());
        call.reply(carried.is_some());
        self.exclusion_mut().pass_on();
        if let Some(carried) = carried {
            self.leave_behind(carried);
        }
    }
}

impl<P: Exclusive> Serve<GetLockStatus> for P {
    fn serve(&mut self, _: GetLockStatus, call: Call<LockStatus>) {
        call.reply(self.exclusion().status());
    }
}
