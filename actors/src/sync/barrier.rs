//! The barrier: a fixed number of parties that wait until the last one has arrived.
//!
//! The first `parties` arrivals form the current generation; calls that arrive while its action runs are in a
//! queue of their own, and take the places of arrivals that leave before the release. So the last arrival of a
//! generation is found without a walk over it.
//!
//! Invariants: a broken barrier has no arrivals, while a generation is complete its action runs, and no call
//! is behind a generation that is not complete.

use std::time::Duration;

use lockkeeper_protocol::{
    BreakReason, CallId, Proof, Refusal,
    codec::Form,
    operations::{
        Abort, Arrival, Arrive, BarrierSpec, BarrierStatus, BarrierWaitResult, Fail, Finish,
        GetBarrierStatus, OnDeath, Reset,
    },
};

use crate::{
    kind::{
        call::Call,
        hang_up::HangUp,
        primitive::{Operations, Primitive, Serve},
        survey::{Holding, Part, Survey, Waiting},
    },
    waiting::{call_table::Parked, wait_queue::WaitQueue},
};

/// A barrier for a number of parties, which can be used repeatedly.
#[derive(Debug)]
pub struct Barrier {
    parties: u32,
    on_death: OnDeath,
    generation: u64,
    broken: Option<BreakReason>,
    /// The current generation.
    arrivals: WaitQueue<Party>,
    /// The arrivals behind the current generation. Most barriers never have any.
    behind: Option<Box<WaitQueue<Party>>>,
    action: Action,
}

/// A party that has arrived.
#[derive(Debug)]
enum Party {
    Waits {
        call: Call<Result<Arrival, Refusal>>,
        acts: bool,
    },
    /// It has been running the action since then, and has no call here.
    Acts { turn: CallId, since: Duration },
    /// It has run the action, and waits by another call. The call is boxed, because at most one party has it.
    HasActed {
        turn: CallId,
        finish: Box<Call<Result<BarrierWaitResult, Refusal>>>,
    },
}

impl Parked for Party {
    /// The call by which the party arrived.
    fn id(&self) -> CallId {
        match self {
            Self::Waits { call, .. } => call.id(),
            Self::Acts { turn, .. } | Self::HasActed { turn, .. } => *turn,
        }
    }
}

impl Party {
    fn release(self, passed: BarrierWaitResult) {
        match self {
            Self::Waits { call, .. } => call.reply(Ok(Arrival::Passed(passed))),
            Self::HasActed { finish, .. } => finish.reply(Ok(passed)),
            Self::Acts { .. } => {}
        }
    }

    fn refuse(self, reason: &BreakReason) {
        let refusal = Refusal::Broken(reason.clone());
        match self {
            Self::Waits { call, .. } => call.reply(Err(refusal)),
            Self::HasActed { finish, .. } => finish.reply(Err(refusal)),
            // This party gets its answer when it finishes the action.
            Self::Acts { .. } => {}
        }
    }
}

/// The progress of this generation's action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    NotBegun,
    /// The arrival of this id runs it.
    Runs(CallId),
    /// The arrival `turn` has run it, and waits by its call `finish`.
    Done {
        turn: CallId,
        finish: CallId,
    },
}

impl Barrier {
    /// Lets the parties pass, or makes the last one run the action, once enough have arrived. Every path that
    /// changes the arrivals ends here.
    fn let_pass(&mut self) {
        self.fill_up();
        while self.is_complete()
            && let Some(last) = self.arrivals.back().map(Party::id)
        {
            match self.action {
                Action::Runs(_) => return,
                Action::NotBegun => {
                    if self.begin_action(last) {
                        return;
                    }
                    self.release(last);
                }
                // The party that ran the action may have left.
                Action::Done { turn, .. } => match self.arrivals.get(turn) {
                    Some(_) => self.release(turn),
                    None => self.release(last),
                },
            }
        }
        if self.arrivals.is_empty() {
            // The parties for which the action was run have all left.
            self.action = Action::NotBegun;
        }
    }

    /// Returns whether the current generation has all its parties.
    fn is_complete(&self) -> bool {
        let parties = usize::try_from(self.parties).unwrap_or(usize::MAX);
        self.arrivals.len() >= parties
    }

    /// Adds an arrival behind all others.
    fn arrive(&mut self, party: Party) {
        if self.is_complete() {
            self.behind.get_or_insert_default().push(party);
        } else {
            self.arrivals.push(party);
        }
    }

    /// Moves arrivals behind the current generation to its free places. Each move follows the end of an arrival.
    fn fill_up(&mut self) {
        while !self.is_complete()
            && let Some(behind) = &mut self.behind
        {
            match behind.pop_front() {
                Some(party) => self.arrivals.push(party),
                None => self.behind = None,
            }
        }
    }

    /// Removes an arrival.
    fn remove(&mut self, id: CallId) -> Option<Party> {
        let party = self.arrivals.remove(id);
        party.or_else(|| self.behind.as_mut()?.remove(id))
    }

    /// All arrivals, in order.
    fn all(&self) -> impl Iterator<Item = (CallId, &Party)> {
        let behind = self.behind.iter().flat_map(|behind| behind.iter());
        self.arrivals.iter().chain(behind)
    }

    /// The number of all arrivals.
    fn arrived(&self) -> usize {
        let behind = self.behind.as_ref().map_or(0, |behind| behind.len());
        self.arrivals.len() + behind
    }

    /// Makes the last arrival run the action, if it offered to. Returns whether it did.
    fn begin_action(&mut self, last: CallId) -> bool {
        let Some(party) = self.arrivals.get_mut(last) else {
            return false;
        };
        let Party::Waits { call, acts: true } = &*party else {
            return false;
        };
        let acts = Party::Acts {
            turn: last,
            since: call.outbox().now(),
        };
        if let Party::Waits { call, .. } = std::mem::replace(party, acts) {
            call.reply(Ok(Arrival::Act));
        }
        self.action = Action::Runs(last);
        true
    }

    /// Lets the parties of this generation pass. The arrivals behind them are the next generation.
    fn release(&mut self, leader: CallId) {
        for (index, party) in (0..self.parties).zip(self.arrivals.take_all()) {
            let passed = BarrierWaitResult::new(index, self.generation);
            let leads = party.id() == leader;
            party.release(passed.leading(leads));
        }
        self.generation += 1;
        self.action = Action::NotBegun;
        self.fill_up();
    }

    /// Refuses all waiting parties because the barrier broke.
    fn turn_away(&mut self, reason: &BreakReason) {
        self.action = Action::NotBegun;
        let behind = self.behind.take();
        let behind = behind.into_iter().flat_map(|mut behind| behind.take_all());
        for party in self.arrivals.take_all().chain(behind) {
            party.refuse(reason);
        }
    }

    /// Breaks the barrier until it is reset.
    fn break_all(&mut self, reason: BreakReason) {
        self.turn_away(&reason);
        self.broken = Some(reason);
    }

    /// The arrival of the party that waits by a call.
    fn arrival_of(&self, id: CallId) -> CallId {
        match self.action {
            Action::Done { turn, finish } if finish == id => turn,
            Action::Done { .. } | Action::Runs(_) | Action::NotBegun => id,
        }
    }
}

impl Primitive for Barrier {
    const KIND: &'static str = "barrier";
    const FORM: Form = Form::Compact;
    type Spec = BarrierSpec;

    fn create(BarrierSpec { parties, on_death }: BarrierSpec) -> Result<Self, Refusal> {
        let allowed = u32::try_from(parties).ok().filter(|parties| *parties > 0);
        let parties = allowed.ok_or_else(|| {
            Refusal::Invalid(format!(
                "a barrier has 1 to {} parties, not {parties}",
                u32::MAX
            ))
        })?;
        Ok(Self {
            parties,
            on_death,
            generation: 0,
            broken: None,
            arrivals: WaitQueue::new(),
            behind: None,
            action: Action::NotBegun,
        })
    }

    fn operations(operations: &mut Operations<Self>) {
        operations
            .on::<Arrive>()
            .on::<Finish>()
            .on::<Fail>()
            .on::<Abort>()
            .on::<Reset>()
            .on::<GetBarrierStatus>();
    }

    fn withdraw(&mut self, id: CallId) {
        let gone = self.remove(self.arrival_of(id));
        if let Some(Party::HasActed { finish, .. }) = gone
            && finish.id() != id
        {
            // The caller withdrew its turn after it had finished it.
            finish.reply(Err(Refusal::NotHeld));
        }
        if self.action == Action::Runs(id) {
            // The party was never told to act, so the action has not begun.
            self.action = Action::NotBegun;
        }
        self.let_pass();
    }

    fn expire(&mut self, id: CallId) {
        if self.remove(self.arrival_of(id)).is_some() {
            self.break_all(BreakReason::TimedOut);
        }
    }

    fn hang_up(&mut self, ended: &HangUp) {
        let behind = self.behind.as_mut();
        let behind = behind.map(|behind| behind.hang_up(ended));
        let gone = self.arrivals.hang_up(ended);
        let has_waited = !gone.is_empty() || behind.is_some_and(|gone| !gone.is_empty());
        if ended.goes_on() {
            self.fill_up();
            return;
        }
        let has_acted =
            matches!(self.action, Action::Runs(turn) if turn.session() == ended.session);
        if has_acted || (has_waited && self.on_death == OnDeath::Break) {
            self.break_all(ended.reason());
        } else {
            self.let_pass();
        }
    }

    fn drop_some(&mut self) -> bool {
        let behind = self.behind.as_mut();
        self.arrivals.drop_some() || behind.is_some_and(|behind| behind.drop_some())
    }

    /// The arrivals. The party that runs the action blocks the others.
    fn survey(&self) -> Survey {
        let (arrived, parties) = (self.arrived(), self.parties);
        let broken = self.broken.as_ref().map_or("", |_| ", broken");
        let generation = self.generation;
        let mut part = Part {
            more_waiters: Survey::beyond(arrived),
            ..Part::default()
        };
        for (turn, party) in self.all().take(Survey::MOST) {
            match party {
                Party::Waits { call, .. } => part.waiters.push(Waiting::new(call, 1, "others")),
                Party::HasActed { finish, .. } => {
                    part.waiters.push(Waiting::new(finish, 1, "others"));
                }
                Party::Acts { since, .. } => part.holders.push(Holding {
                    call: turn,
                    units: 1,
                    mode: "action",
                    since: *since,
                    fence: None,
                }),
            }
        }
        Survey {
            state: format!("{arrived} of {parties} arrived, generation {generation}{broken}"),
            parts: vec![part],
        }
    }
}

impl Serve<Arrive> for Barrier {
    fn serve(&mut self, Arrive { acts }: Arrive, call: Call<Result<Arrival, Refusal>>) {
        if let Some(reason) = &self.broken {
            call.reply(Err(Refusal::Broken(reason.clone())));
        } else {
            self.arrive(Party::Waits { call, acts });
            self.let_pass();
        }
    }
}

/// The arrival that was told to act. Only its own session can have run the action, so only that session may
/// report the result.
fn own_turn<R>(call: &Call<R>, turn: Proof) -> Result<CallId, Refusal> {
    let turn = call.verify(turn)?;
    let is_own = turn.session() == call.id().session();
    is_own.then_some(turn).ok_or(Refusal::NotHeld)
}

impl Serve<Finish> for Barrier {
    fn serve(&mut self, Finish { turn }: Finish, call: Call<Result<BarrierWaitResult, Refusal>>) {
        let turn = match own_turn(&call, turn) {
            Ok(turn) => turn,
            Err(refusal) => return call.reply(Err(refusal)),
        };
        let is_its_turn = self.action == Action::Runs(turn);
        match self.arrivals.get_mut(turn) {
            Some(party) if is_its_turn => {
                let finish = call.id();
                self.action = Action::Done { turn, finish };
                *party = Party::HasActed {
                    turn,
                    finish: Box::new(call),
                };
                self.let_pass();
            }
            // The barrier broke while the action ran, and may have been reset since.
            Some(_) | None => {
                let reason = self.broken.clone().unwrap_or(BreakReason::Reset);
                call.reply(Err(Refusal::Broken(reason)));
            }
        }
    }
}

impl Serve<Fail> for Barrier {
    fn serve(&mut self, Fail { turn }: Fail, call: Call<()>) {
        if own_turn(&call, turn).is_ok_and(|turn| self.action == Action::Runs(turn)) {
            self.break_all(BreakReason::ActionFailed);
        }
        call.reply(());
    }
}

impl Serve<Abort> for Barrier {
    fn serve(&mut self, _: Abort, call: Call<()>) {
        self.break_all(BreakReason::Aborted);
        call.reply(());
    }
}

impl Serve<Reset> for Barrier {
    fn serve(&mut self, _: Reset, call: Call<()>) {
        self.turn_away(&BreakReason::Reset);
        self.broken = None;
        call.reply(());
    }
}

impl Serve<GetBarrierStatus> for Barrier {
    fn serve(&mut self, _: GetBarrierStatus, call: Call<BarrierStatus>) {
        let mut status = BarrierStatus::default();
        status.parties = self.parties;
        status.arrived = self.arrived().try_into().unwrap_or(u64::MAX);
        status.generation = self.generation;
        status.broken = self.broken.clone();
        call.reply(status);
    }
}

#[cfg(test)]
mod tests;
