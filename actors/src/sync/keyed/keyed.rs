//! Keyed locks and keyed semaphores: any number of keys in one object, each with permits and a queue of waiting
//! calls.
//!
//! One state machine serves both kinds: a key of a [`KeyedLock`] has one permit, a key of a
//! [`KeyedSemaphore`] as many as the spec says. A key takes memory only while it has a holder or an
//! abandoned mark.
//!
//! Invariant: the first call in the queue of a key wants more permits than are free, so no call waits for a key
//! without a holder.

use std::{fmt, marker::PhantomData, num::NonZeroU32, rc::Rc};

use lockkeeper_protocol::{
    CallId, Fault, Refusal,
    codec::{self, Form},
    operations::{
        AdoptKey, AdoptedKey, ForceUnlockKey, GetKeyStatus, GetKeyedStatus, Granted, Key, ListKeys,
        MarkConsistent, Release, ReleaseAnyKey, ReleaseBy,
    },
};

use crate::{
    kind::{
        budget::{CALL_BYTES, StoredBytes},
        call::{Call, Outbox},
        hang_up::{HangUp, SLICE},
        held_bytes::HeldBytes,
        primitive::{Operations, Primitive, Serve},
        survey::Survey,
    },
    sync::keyed::{
        calls::{Hold, Wait},
        entries::{Entries, Entry, KeyLimits, Left, TooManyKeys},
    },
    tables::slots::NONE,
    waiting::queue_store::QueueStore,
};

/// Any number of keys, each with permits that are granted in the order of arrival.
#[derive(Debug)]
pub struct Keyed<F> {
    /// The permits of a key.
    pub(super) most: u32,
    release_by: ReleaseBy,
    pub(super) entries: Entries,
    /// All holds. The list of a key begins with its oldest hold.
    pub(super) holds: QueueStore<Hold>,
    pub(super) waits: QueueStore<Wait>,
    /// The keys whose queues a hang-up has shortened. They are settled once all waiting calls of the session
    /// are removed.
    unsettled: Vec<u32>,
    /// The outbox that records the ends of holds, once there was a hold. All holds share it, because a
    /// `HoldTimer` for each would store one handle per key.
    outbox: Option<Outbox>,
    /// The bytes of the holds.
    stored: Option<HeldBytes>,
    /// The bytes of the free keys with marks. They are data: they take nothing of what is reserved for holds.
    marked: Option<StoredBytes>,
    face: PhantomData<F>,
}

impl<F> Keyed<F> {
    /// Grants permits of a key to a call, or makes it wait.
    pub(super) fn enter(&mut self, key: Key, permits: i128, call: Call<Result<Granted, Refusal>>) {
        let permits = match key.check().and_then(|()| self.check(permits)) {
            Ok(permits) => permits,
            Err(refusal) => return call.reply(Err(refusal)),
        };
        let place = match self.entries.enter(key) {
            Ok(place) => place,
            Err(TooManyKeys { most }) => return call.fail(Fault::limit("keys at a time", most)),
        };
        let Some(entry) = self.entries.at_mut(place) else {
            return;
        };
        if entry.line.is_empty() && permits.get() <= self.most - entry.taken {
            self.let_in(place, permits, call);
        } else {
            let wait = Wait {
                call,
                entry: place,
                permits,
            };
            if self.waits.push(&mut entry.line, wait).is_some() {
                entry.waiting += 1;
            }
        }
    }

    fn check(&self, permits: i128) -> Result<NonZeroU32, Refusal> {
        let most = self.most;
        if permits > most.into() {
            return Err(Refusal::TooMany {
                asked: permits.try_into().unwrap_or(u64::MAX),
                most: most.into(),
            });
        }
        let permits_of = u32::try_from(permits).ok().and_then(NonZeroU32::new);
        permits_of.ok_or_else(|| {
            Refusal::Invalid(format!(
                "a grant is of 1 to {most} permits of a key, not {permits}"
            ))
        })
    }

    fn let_in(&mut self, place: u32, permits: NonZeroU32, call: Call<Result<Granted, Refusal>>) {
        if let Some(granted) = self.hold(place, permits, call.id(), call.outbox()) {
            call.reply(Ok(granted));
        }
    }

    /// Makes a call a holder of free permits. Returns `None` if there is no room for it.
    fn hold(
        &mut self,
        place: u32,
        permits: NonZeroU32,
        id: CallId,
        outbox: &Outbox,
    ) -> Option<Granted> {
        let entry = self.entries.at_mut(place)?;
        let fence = outbox.next_fence();
        let hold = Hold {
            id,
            fence,
            since: outbox.nanos(),
            entry: place,
            permits,
        };
        self.holds.push(&mut entry.holders, hold)?;
        entry.taken += permits.get();
        let abandoned = self.entries.abandoned(place);
        self.outbox.get_or_insert_with(|| outbox.clone());
        let stored = self
            .stored
            .get_or_insert_with(|| HeldBytes::new(outbox.shared_account()));
        stored.add(id.session());
        self.recount_marks();
        Some(Granted { fence, abandoned })
    }

    /// Takes back the permits of a grant, without granting them to other calls yet.
    fn take_back(&mut self, grant: CallId) -> Option<Hold> {
        let place = self.holds.strike(grant)?;
        let entry = self.entries.at_mut(self.holds.at(place)?.entry)?;
        let hold = self.holds.unlink(&mut entry.holders, place)?;
        entry.taken -= hold.permits.get();
        self.note_end(&hold);
        Some(hold)
    }

    /// Counts the free keys with marks. If the limit has no room for all, the keys that have been free longest
    /// are forgotten.
    fn recount_marks(&mut self) {
        loop {
            let bytes = self.entries.idle() * CALL_BYTES;
            let counted = match (&mut self.marked, &self.outbox) {
                (Some(marked), _) => marked.resize(bytes),
                (None, Some(outbox)) if bytes > 0 => {
                    outbox.store(bytes).map(|marked| self.marked = Some(marked))
                }
                (None, Some(_) | None) => Ok(()),
            };
            if counted.is_ok() || !self.entries.forget_oldest() {
                return;
            }
        }
    }

    fn note_end(&mut self, hold: &Hold) {
        if let Some(stored) = &mut self.stored {
            stored.remove(hold.id.session());
        }
        if let Some(outbox) = &self.outbox {
            outbox.note_end_of_hold(hold.since);
        }
    }

    /// Grants a key's permits from the head of its queue while they suffice, and removes the key once it has no
    /// holder. Every path that frees permits or shortens the queue ends here.
    fn settle(&mut self, place: u32) {
        while let Some(Entry {
            taken,
            line,
            waiting,
            ..
        }) = self.entries.at_mut(place)
        {
            let free = self.most - *taken;
            let head = self.waits.front(line);
            if head.is_none_or(|head| head.permits.get() > free) {
                break;
            }
            let Some(Wait { call, permits, .. }) = self.waits.pop_front(line) else {
                break;
            };
            *waiting -= 1;
            self.let_in(place, permits, call);
        }
        self.entries.end(place);
        self.recount_marks();
    }
}

impl<F: KeyedVariant> Primitive for Keyed<F> {
    const KIND: &'static str = F::KIND;
    const FORM: Form = Form::Compact;
    type Spec = F::Spec;

    fn describe(spec: &F::Spec) -> String {
        F::describe(spec)
    }

    fn create(spec: F::Spec) -> Result<Self, Refusal> {
        let (permits, release_by) = F::read(spec)?;
        Ok(Self {
            most: permits.get(),
            release_by,
            entries: Entries::new(KeyLimits::DEFAULT),
            holds: QueueStore::default(),
            waits: QueueStore::default(),
            unsettled: Vec::new(),
            outbox: None,
            stored: None,
            marked: None,
            face: PhantomData,
        })
    }

    fn operations(operations: &mut Operations<Self>) {
        F::acquire(operations);
        operations
            .on::<Release>()
            .on::<AdoptKey>()
            .on::<MarkConsistent>()
            .on::<ForceUnlockKey>()
            .on::<GetKeyStatus>()
            .on::<GetKeyedStatus>()
            .on::<ListKeys>()
            .on::<ReleaseAnyKey>();
    }

    fn withdraw(&mut self, id: CallId) {
        let place = if let Some(Wait { entry: place, .. }) = self.waits.get(id) {
            let place = *place;
            if let Some(entry) = self.entries.at_mut(place)
                && self.waits.remove(&mut entry.line, id).is_some()
            {
                entry.waiting -= 1;
            }
            place
        } else if let Some(hold) = self.take_back(id) {
            hold.entry
        } else {
            return;
        };
        self.settle(place);
    }

    fn hang_up(&mut self, ended: &HangUp) {
        for place in self.waits.strike_session(ended.session, SLICE) {
            let key = self.waits.at(place).map_or(NONE, |wait| wait.entry);
            if let Some(entry) = self.entries.at_mut(key)
                && self.waits.unlink(&mut entry.line, place).is_some()
            {
                entry.waiting -= 1;
            }
            self.unsettled.push(key);
        }
        if self.waits.has_session(ended.session) {
            return ended.continue_next_turn();
        }
        let mut touched = self.give_back(ended);
        let rest = self.unsettled.len().saturating_sub(SLICE);
        touched.extend(self.unsettled.drain(rest..));
        if self.unsettled.is_empty() {
            self.unsettled = Vec::new();
        }
        for place in touched {
            self.settle(place);
        }
        if rest > 0 || self.holds.has_session(ended.session) {
            ended.continue_next_turn();
        }
    }

    fn drop_some(&mut self) -> bool {
        self.waits.drop_some() || self.holds.drop_some() || self.entries.drop_some()
    }

    fn survey(&self) -> Survey {
        self.tell()
    }
}

impl<F> Keyed<F> {
    /// Releases some holds of an ended session, and returns their keys.
    fn give_back(&mut self, ended: &HangUp) -> Vec<u32> {
        let mut touched = Vec::new();
        let account = Rc::new(ended.clone());
        for place in self.holds.strike_session(ended.session, SLICE) {
            let key = self.holds.at(place).map_or(NONE, |hold| hold.entry);
            let Some(entry) = self.entries.at_mut(key) else {
                continue;
            };
            let Some(hold) = self.holds.unlink(&mut entry.holders, place) else {
                continue;
            };
            entry.taken -= hold.permits.get();
            let (since, fence) = (hold.since(), hold.fence);
            ended.note_abandoned(since, fence);
            let ended = Rc::clone(&account);
            self.entries.leave(
                key,
                Left {
                    ended,
                    since,
                    fence,
                },
            );
            self.note_end(&hold);
            if let Some(outbox) = &self.outbox {
                outbox.note_abandonment();
            }
            touched.push(key);
        }
        touched
    }
}

impl<F: KeyedVariant> Serve<Release> for Keyed<F> {
    fn serve(&mut self, Release { grant }: Release, call: Call<Result<(), Refusal>>) {
        let taken = call.verify(grant).and_then(|grant| {
            let hold = self.take_back(grant).ok_or(Refusal::NotHeld)?;
            call.record_end(grant);
            Ok(hold)
        });
        match taken {
            Ok(hold) => {
                call.reply(Ok(()));
                self.settle(hold.entry);
            }
            Err(refusal) => call.reply(Err(refusal)),
        }
    }
}

impl<F: KeyedVariant> Serve<ReleaseAnyKey> for Keyed<F> {
    fn serve(&mut self, ReleaseAnyKey { key }: ReleaseAnyKey, call: Call<Result<(), Refusal>>) {
        if let Err(refusal) = key.check().and_then(|()| self.release_by.check()) {
            return call.reply(Err(refusal));
        }
        let place = self.entries.find(&key);
        let entry = place.and_then(|place| self.entries.at(place));
        let oldest = entry.and_then(|entry| self.holds.front(&entry.holders));
        let Some(Hold {
            id: grant,
            entry: place,
            ..
        }) = oldest
        else {
            return call.reply(Err(Refusal::NotHeld));
        };
        let (grant, place) = (*grant, *place);
        self.take_back(grant);
        // The grant is revoked even within the same session, because another of its tasks may have the guard.
        call.outbox().revoke(grant);
        call.reply(Ok(()));
        self.settle(place);
    }
}

impl<F: KeyedVariant> Serve<AdoptKey> for Keyed<F> {
    fn serve(&mut self, AdoptKey { grant }: AdoptKey, call: Call<Result<AdoptedKey, Refusal>>) {
        let taken = call.verify(grant).and_then(|grant| {
            let hold = self.take_back(grant).ok_or(Refusal::NotHeld)?;
            call.outbox().revoke(grant);
            Ok(hold)
        });
        let Hold { entry, permits, .. } = match taken {
            Ok(hold) => hold,
            Err(refusal) => return call.reply(Err(refusal)),
        };
        let granted = self.hold(entry, permits, call.id(), call.outbox());
        if let (Some(granted), Some(entry)) = (granted, self.entries.at(entry)) {
            call.reply(Ok(AdoptedKey {
                granted,
                key: entry.key.clone(),
                permits: permits.get(),
            }));
        }
    }
}

impl<F: KeyedVariant> Serve<MarkConsistent> for Keyed<F> {
    fn serve(&mut self, MarkConsistent { grant }: MarkConsistent, call: Call<Result<(), Refusal>>) {
        let held = call.verify(grant).and_then(|grant| {
            let hold = self.holds.get(grant);
            hold.map(|hold| hold.entry).ok_or(Refusal::NotHeld)
        });
        call.reply(held.map(|place| {
            self.entries.clear_mark(place);
        }));
    }
}

impl<F: KeyedVariant> Serve<ForceUnlockKey> for Keyed<F> {
    fn serve(&mut self, ForceUnlockKey { key }: ForceUnlockKey, call: Call<Result<bool, Refusal>>) {
        if let Err(refusal) = key.check() {
            return call.reply(Err(refusal));
        }
        let place = self.entries.find(&key);
        let entry = place.and_then(|place| self.entries.at(place));
        let theirs = entry.map(|entry| self.holds.iter(&entry.holders));
        let grants: Vec<CallId> = theirs.into_iter().flatten().map(|(id, _)| id).collect();
        for grant in &grants {
            self.take_back(*grant);
            call.outbox().revoke(*grant);
        }
        call.reply(Ok(!grants.is_empty()));
        if let Some(place) = place {
            self.settle(place);
        }
    }
}

/// The differences between the two kinds.
pub trait KeyedVariant: fmt::Debug + Send + Sync + Unpin + Sized + 'static {
    /// The name of the kind.
    const KIND: &'static str;
    /// The spec of an object.
    type Spec: serde::Serialize + serde::de::DeserializeOwned + Send + 'static;

    /// Returns the permits of a key, and who may release them.
    ///
    /// # Errors
    ///
    /// Returns [`Refusal::Invalid`] with the valid range.
    fn read(spec: Self::Spec) -> Result<(NonZeroU32, ReleaseBy), Refusal>;

    /// Returns the text of a spec, for errors.
    #[must_use]
    fn describe(spec: &Self::Spec) -> String {
        codec::text_of(spec)
    }

    /// Adds the operations that acquire a key.
    fn acquire(operations: &mut Operations<Keyed<Self>>);
}
