//! The lock against a reference: an option and a list.
//!
//! The model knows the lock only through its calls and their answers.

use std::time::Duration;

use lockkeeper_actors::{
    Bench, CallId, Fault, Refusal,
    sync::{Acquire, Adopt, Granted, Lock, ReleaseBy},
};
use rand::Rng;

use crate::{
    models::{
        Reference, Said, agree,
        answers::answer,
        grants::{Grants, Left},
        holder_calls::{self, HolderCall},
    },
    schedule::{Schedule, proof, put},
};

#[test]
fn lock_agrees_with_its_reference() {
    agree::<LockReference>(
        "lock_agrees_with_its_reference",
        600,
        &[
            "release",
            "release by a session that does not hold",
            "release of a waiter",
            "release of what is over",
            "adoption",
            "adoption of what is not held",
            "mark taken away",
            "mark left",
            "marked grant",
            "force_unlock",
            "force_unlock of a free lock",
            "long line",
        ],
    );
}

#[derive(Clone, Copy, Debug)]
enum LockCall {
    Acquire,
    Adopt(CallId),
    Holder(HolderCall),
}

type LockTold = holder_calls::LockTold<Option<Left>>;

/// The first in the line becomes the holder once there is none.
#[derive(Default)]
struct LockReference {
    holder: Option<(CallId, Duration)>,
    line: Vec<CallId>,
    left: Option<Left>,
}

impl LockReference {
    fn free(&mut self, said: &mut Said<'_, LockTold>) {
        self.holder = None;
        self.let_in(said);
    }

    fn let_in(&mut self, said: &mut Said<'_, LockTold>) {
        if self.holder.is_none() && !self.line.is_empty() {
            let next = self.line.remove(0);
            self.hold(next, said);
        }
    }

    fn hold(&mut self, id: CallId, said: &mut Said<'_, LockTold>) {
        if self.left.is_some() {
            said.tally.note("marked grant");
        }
        self.holder = Some((id, said.now));
        said.reply(id, LockTold::Granted(self.left));
    }

    fn release(&mut self, id: CallId, grant: CallId, said: &mut Said<'_, LockTold>) {
        if self.holds(grant) {
            said.tally.note(if grant.session() == id.session() {
                "release"
            } else {
                "release by a session that does not hold"
            });
            said.end(id, grant);
            said.reply(id, LockTold::Done);
            self.free(said);
        } else {
            said.tally.note(if self.waits(grant) {
                "release of a waiter"
            } else {
                "release of what is over"
            });
            said.reply(id, LockTold::Refused(Refusal::NotHeld));
        }
    }

    fn adopt(&mut self, id: CallId, grant: CallId, said: &mut Said<'_, LockTold>) {
        if self.holds(grant) {
            said.tally.note("adoption");
            said.revoked.push(grant);
            self.hold(id, said);
        } else {
            said.tally.note("adoption of what is not held");
            said.reply(id, LockTold::Refused(Refusal::NotHeld));
        }
    }
}

impl Reference for LockReference {
    type Kind = Lock;
    type Call = LockCall;
    type Told = LockTold;
    type Memory = Grants;

    fn make(_: &mut Schedule) -> (Self, Bench<Lock>) {
        (
            Self::default(),
            Bench::new(ReleaseBy::Holder).expect("a lock needs nothing"),
        )
    }

    fn draw(&self, schedule: &mut Schedule) -> LockCall {
        let grant = match self.holder {
            Some((grant, _)) if schedule.random.random_bool(0.6) => grant,
            Some(_) | None => schedule.any_call(),
        };
        if schedule.asks() {
            return LockCall::Acquire;
        }
        if schedule.random.random_bool(0.2) {
            return LockCall::Adopt(grant);
        }
        LockCall::Holder(HolderCall::draw(grant, schedule))
    }

    fn send(
        bench: &mut Bench<Lock>,
        session: u64,
        call: &LockCall,
        timeout: Option<Duration>,
    ) -> CallId {
        match *call {
            LockCall::Acquire => put(bench, session, Acquire, timeout),
            LockCall::Adopt(grant) => put(
                bench,
                session,
                Adopt {
                    grant: proof(session, grant),
                },
                timeout,
            ),
            LockCall::Holder(call) => call.send(bench, session, timeout),
        }
    }

    fn read(
        bench: &Bench<Lock>,
        id: CallId,
        call: &LockCall,
        grants: &mut Grants,
    ) -> Result<LockTold, Fault> {
        let note = |Granted { fence, abandoned }| grants.note(id, fence, abandoned);
        let granted = |told| LockTold::granted(told, note);
        match call {
            LockCall::Acquire => answer::<Lock, Acquire>(bench, id).map(granted),
            LockCall::Adopt(_) => answer::<Lock, Adopt>(bench, id).map(granted),
            LockCall::Holder(call) => call.read(bench, id),
        }
    }

    fn serve(&mut self, id: CallId, call: &LockCall, said: &mut Said<'_, LockTold>) {
        match *call {
            LockCall::Acquire => {
                self.line.push(id);
                if self.line.len() > 64 {
                    said.tally.note("long line");
                }
                self.let_in(said);
            }
            LockCall::Adopt(grant) => self.adopt(id, grant, said),
            LockCall::Holder(HolderCall::Release(grant)) => self.release(id, grant, said),
            LockCall::Holder(HolderCall::MarkConsistent(grant)) => {
                if self.holds(grant) {
                    if self.left.take().is_some() {
                        said.tally.note("mark taken away");
                    }
                    said.reply(id, LockTold::Done);
                } else {
                    said.reply(id, LockTold::Refused(Refusal::NotHeld));
                }
            }
            LockCall::Holder(HolderCall::ForceUnlock) => {
                said.reply(id, LockTold::WasHeld(self.holder.is_some()));
                match self.holder {
                    Some((grant, _)) => {
                        said.tally.note("force_unlock");
                        said.revoked.push(grant);
                    }
                    None => said.tally.note("force_unlock of a free lock"),
                }
                self.free(said);
            }
            LockCall::Holder(HolderCall::Status) => {
                let depth = self.holder.is_some().into();
                said.reply(id, LockTold::status(depth, self.line.len()));
            }
        }
    }

    fn undo(&mut self, id: CallId, fault: Fault, said: &mut Said<'_, LockTold>) {
        if self.waits(id) {
            self.line.retain(|waiter| *waiter != id);
            said.fail(id, fault);
        } else if self.holds(id) {
            self.free(said);
        }
    }

    fn hang_up(&mut self, session: u64, said: &mut Said<'_, LockTold>) {
        self.line
            .retain(|waiter| waiter.session().number() != session);
        if let Some((grant, since)) = self.holder
            && grant.session().number() == session
        {
            said.tally.note("mark left");
            let held = said.now - since;
            self.left = Some(Left { grant, held });
            self.free(said);
        }
    }

    fn waits(&self, id: CallId) -> bool {
        self.line.contains(&id)
    }

    fn holds(&self, id: CallId) -> bool {
        self.holder.is_some_and(|(grant, _)| grant == id)
    }
}
