//! The reentrant lock: one holder, who may enter again for as long as it is inside.
//!
//! Whether two calls are of one owner is said by their sessions and by a number that the client
//! gives each owner; so no owner is ever taken for one of another process.

use serde::{Deserialize, Serialize};

use super::{Entrant, Exclusion, Exclusive, ForceUnlock, Granted, MarkConsistent, Release, Status};
use crate::{Call, CallId, HangUp, Operation, Operations, Outbox, Primitive, Refusal, Serve};

/// Waits to be the holder, or enters again.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct AcquireAs {
    /// Who enters: a number that the session gives no other owner, ever.
    pub owner: u64,
}

/// Moves the hold of an owner that is inside once to an owner of the calling session; from then on
/// the call is the grant.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct AdoptAs {
    /// The call that was granted.
    pub grant: CallId,
    /// Who holds it then.
    pub owner: u64,
}

impl Operation for AcquireAs {
    const NAME: &'static str = "acquire";
    type Reply = Result<Granted, Refusal>;
}

impl Operation for AdoptAs {
    const NAME: &'static str = "adopt";
    type Reply = Result<Granted, Refusal>;
}

/// A lock that its owner may enter again. Each entry is released on its own; the last one frees it.
#[derive(Debug, Default)]
pub struct ReentrantLock(Exclusion<Entry>);

/// A call of an owner.
#[derive(Debug)]
pub struct Entry {
    owner: u64,
    call: Call<Result<Granted, Refusal>>,
}

impl Entrant for Entry {
    type Brought = ();

    fn id(&self) -> CallId {
        self.call.id()
    }

    fn outbox(&self) -> &Outbox {
        self.call.outbox()
    }

    fn owner(&self) -> Option<u64> {
        Some(self.owner)
    }

    fn brought(&self) {}

    fn admit(self, granted: Granted) {
        self.call.reply(Ok(granted));
    }

    fn refuse(self, refusal: Refusal) {
        self.call.reply(Err(refusal));
    }
}

impl Exclusive for ReentrantLock {
    type Entrant = Entry;

    fn exclusion(&self) -> &Exclusion<Entry> {
        &self.0
    }

    fn exclusion_mut(&mut self) -> &mut Exclusion<Entry> {
        &mut self.0
    }

    fn leave_behind(&mut self, (): ()) {}
}

impl Primitive for ReentrantLock {
    const KIND: &'static str = "reentrant_lock";
    type Spec = ();

    fn create((): ()) -> Result<Self, Refusal> {
        Ok(Self::default())
    }

    fn operations(operations: &mut Operations<Self>) {
        operations
            .on::<AcquireAs>()
            .on::<Release>()
            .on::<AdoptAs>()
            .on::<MarkConsistent>()
            .on::<ForceUnlock>()
            .on::<Status>();
    }

    fn withdraw(&mut self, id: CallId) {
        self.0.withdraw(id);
    }

    fn hang_up(&mut self, ended: &HangUp) {
        self.0.hang_up(ended);
    }
}

impl Serve<AcquireAs> for ReentrantLock {
    fn serve(&mut self, AcquireAs { owner }: AcquireAs, call: Call<Result<Granted, Refusal>>) {
        self.0.enter(Entry { owner, call });
    }
}

impl Serve<AdoptAs> for ReentrantLock {
    fn serve(&mut self, AdoptAs { grant, owner }: AdoptAs, call: Call<Result<Granted, Refusal>>) {
        self.0.hand_over(grant, Entry { owner, call });
    }
}
