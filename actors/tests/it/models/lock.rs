//! Compares the lock with a reference, which is an option and a list.
//!
//! The model uses only the lock's calls and answers.

use std::time::Duration;

use lockkeeper_actors::{
    Bench, CallId, Fault, Refusal,
    sync::{Acquire, Adopt, Granted, Lock, ReleaseBy},
};
use rand::Rng;

use crate::{
    models::{
        Effects, Reference, agree,
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
            "release of an ended hold",
            "adoption",
            "adoption of an ended hold",
            "mark removed",
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

type LockAnswer = holder_calls::LockAnswer<Option<Left>>;

/// The first waiter becomes the holder once there is none.
#[derive(Default)]
struct LockReference {
    holder: Option<(CallId, Duration)>,
    line: Vec<CallId>,
    left: Option<Left>,
}

impl LockReference {
    fn free(&mut self, effects: &mut Effects<'_, LockAnswer>) {
        self.holder = None;
        self.grant_waiters(effects);
    }

    fn grant_waiters(&mut self, effects: &mut Effects<'_, LockAnswer>) {
        if self.holder.is_none() && !self.line.is_empty() {
            let next = self.line.remove(0);
            self.hold(next, effects);
        }
    }

    fn hold(&mut self, id: CallId, effects: &mut Effects<'_, LockAnswer>) {
        if self.left.is_some() {
            effects.tally.note("marked grant");
        }
        self.holder = Some((id, effects.now));
        effects.reply(id, LockAnswer::Granted(self.left));
    }

    fn release(&mut self, id: CallId, grant: CallId, effects: &mut Effects<'_, LockAnswer>) {
        if self.holds(grant) {
            effects.tally.note(if grant.session() == id.session() {
                "release"
            } else {
                "release by a session that does not hold"
            });
            effects.end(id, grant);
            effects.reply(id, LockAnswer::Done);
            self.free(effects);
        } else {
            effects.tally.note(if self.waits(grant) {
                "release of a waiter"
            } else {
                "release of an ended hold"
            });
            effects.reply(id, LockAnswer::Refused(Refusal::NotHeld));
        }
    }

    fn adopt(&mut self, id: CallId, grant: CallId, effects: &mut Effects<'_, LockAnswer>) {
        if self.holds(grant) {
            effects.tally.note("adoption");
            effects.revoked.push(grant);
            self.hold(id, effects);
        } else {
            effects.tally.note("adoption of an ended hold");
            effects.reply(id, LockAnswer::Refused(Refusal::NotHeld));
        }
    }
}

impl Reference for LockReference {
    type Kind = Lock;
    type Call = LockCall;
    type Answer = LockAnswer;
    type Memory = Grants;

    fn make(_: &mut Schedule) -> (Self, Bench<Lock>) {
        (
            Self::default(),
            Bench::new(ReleaseBy::Holder).expect("every spec is valid"),
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
    ) -> Result<LockAnswer, Fault> {
        let note = |Granted { fence, abandoned }| grants.note(id, fence, abandoned);
        let granted = |observed| LockAnswer::granted(observed, note);
        match call {
            LockCall::Acquire => answer::<Lock, Acquire>(bench, id).map(granted),
            LockCall::Adopt(_) => answer::<Lock, Adopt>(bench, id).map(granted),
            LockCall::Holder(call) => call.read(bench, id),
        }
    }

    fn serve(&mut self, id: CallId, call: &LockCall, effects: &mut Effects<'_, LockAnswer>) {
        match *call {
            LockCall::Acquire => {
                self.line.push(id);
                if self.line.len() > 64 {
                    effects.tally.note("long line");
                }
                self.grant_waiters(effects);
            }
            LockCall::Adopt(grant) => self.adopt(id, grant, effects),
            LockCall::Holder(HolderCall::Release(grant)) => self.release(id, grant, effects),
            LockCall::Holder(HolderCall::MarkConsistent(grant)) => {
                if self.holds(grant) {
                    if self.left.take().is_some() {
                        effects.tally.note("mark removed");
                    }
                    effects.reply(id, LockAnswer::Done);
                } else {
                    effects.reply(id, LockAnswer::Refused(Refusal::NotHeld));
                }
            }
            LockCall::Holder(HolderCall::ForceUnlock) => {
                effects.reply(id, LockAnswer::WasHeld(self.holder.is_some()));
                match self.holder {
                    Some((grant, _)) => {
                        effects.tally.note("force_unlock");
                        effects.revoked.push(grant);
                    }
                    None => effects.tally.note("force_unlock of a free lock"),
                }
                self.free(effects);
            }
            LockCall::Holder(HolderCall::Status) => {
                let depth = self.holder.is_some().into();
                effects.reply(id, LockAnswer::status(depth, self.line.len()));
            }
        }
    }

    fn undo(&mut self, id: CallId, fault: Fault, effects: &mut Effects<'_, LockAnswer>) {
        if self.waits(id) {
            self.line.retain(|waiter| *waiter != id);
            effects.fail(id, fault);
        } else if self.holds(id) {
            self.free(effects);
        }
    }

    fn hang_up(&mut self, session: u64, effects: &mut Effects<'_, LockAnswer>) {
        self.line
            .retain(|waiter| waiter.session().number() != session);
        if let Some((grant, since)) = self.holder
            && grant.session().number() == session
        {
            effects.tally.note("mark left");
            let held = effects.now - since;
            self.left = Some(Left { grant, held });
            self.free(effects);
        }
    }

    fn waits(&self, id: CallId) -> bool {
        self.line.contains(&id)
    }

    fn holds(&self, id: CallId) -> bool {
        self.holder.is_some_and(|(grant, _)| grant == id)
    }
}
