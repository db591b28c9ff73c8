//! The barrier: a number of parties, who all wait until the last of them has arrived.
//!
//! The first so many in the queue of arrivals are the parties of this generation; who comes while
//! their action runs stands behind them. An arrival counts for as long as it is in the queue: one
//! that leaves before the release is as if it had never come. Invariants: a broken barrier has no
//! arrivals, and a full one is on its way: its action runs.

use serde::{Deserialize, Serialize};

use crate::{
    Breach, Call, CallId, HangUp, Operation, Operations, Primitive, Refusal, Serve, WaitQueue,
};

/// What a barrier is made from: `BarrierSpec::from(3)`, or
/// `BarrierSpec::from(3).on_death(OnDeath::Retract)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BarrierSpec {
    /// How many have to arrive: 1 to 4,294,967,295.
    parties: u32,
    on_death: OnDeath,
}

/// What the death of a process does to the barrier that it waits at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OnDeath {
    /// It breaks the barrier: the others could wait in vain.
    #[default]
    Break,
    /// It takes its arrival back: another process will come in its place.
    Retract,
}

impl BarrierSpec {
    /// Sets what the death of a process that waits does.
    #[must_use]
    pub const fn on_death(mut self, on_death: OnDeath) -> Self {
        self.on_death = on_death;
        self
    }
}

impl From<u32> for BarrierSpec {
    fn from(parties: u32) -> Self {
        Self {
            parties,
            on_death: OnDeath::default(),
        }
    }
}

/// Arrives, and waits for the others.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Arrive {
    /// Whether the caller would run the action, if it is the last.
    pub acts: bool,
}

/// What becomes of an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Arrival {
    /// All have arrived, and are released.
    Passed(Passed),
    /// All have arrived, and wait until the caller has run the action.
    Act,
}

/// One party's passage of a barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Passed {
    /// Its place in the order of arrival, from 0.
    pub index: u32,
    /// Whether it ran the action; without one, whether it was the last. Exactly one party did.
    pub is_leader: bool,
    /// How often the barrier was passed before.
    pub generation: u64,
}

/// Tells that the action was run, and waits for the release.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Finish {
    /// The arrival that was told to run it.
    pub turn: CallId,
}

/// Tells that the action failed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Fail {
    /// The arrival that was told to run it.
    pub turn: CallId,
}

/// Breaks the barrier until it is reset.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Abort;

/// Mends the barrier. Those who wait at it are told that it broke.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Reset;

/// Asks for the state, without waiting.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct CountArrivals;

/// The state of a barrier at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BarrierStatus {
    /// How many have to arrive.
    pub parties: u32,
    /// How many have arrived, with those who are early for the next generation.
    pub arrived: u64,
    /// How often it was passed.
    pub generation: u64,
    /// What broke it, until it is reset.
    pub broken: Option<Breach>,
}

impl Operation for Arrive {
    const NAME: &'static str = "wait";
    type Reply = Result<Arrival, Refusal>;
}

impl Operation for Finish {
    const NAME: &'static str = "finish";
    type Reply = Result<Passed, Refusal>;
}

impl Operation for Fail {
    const NAME: &'static str = "fail";
    type Reply = ();
}

impl Operation for Abort {
    const NAME: &'static str = "abort";
    type Reply = ();
}

impl Operation for Reset {
    const NAME: &'static str = "reset";
    type Reply = ();
}

impl Operation for CountArrivals {
    const NAME: &'static str = "count";
    type Reply = BarrierStatus;
}

/// A number of parties who wait for each other, again and again.
#[derive(Debug)]
pub struct Barrier {
    parties: u32,
    on_death: OnDeath,
    generation: u64,
    broken: Option<Breach>,
    arrivals: WaitQueue<Party>,
    action: Action,
}

/// One who has arrived.
#[derive(Debug)]
enum Party {
    Waits {
        call: Call<Result<Arrival, Refusal>>,
        acts: bool,
    },
    /// It runs the action, and has no call here.
    Acts,
    /// It has run the action.
    HasActed(Call<Result<Passed, Refusal>>),
}

impl Party {
    fn release(self, passed: Passed) {
        match self {
            Self::Waits { call, .. } => call.reply(Ok(Arrival::Passed(passed))),
            Self::HasActed(call) => call.reply(Ok(passed)),
            Self::Acts => {}
        }
    }

    fn refuse(self, breach: &Breach) {
        let refusal = Refusal::Broken(breach.clone());
        match self {
            Self::Waits { call, .. } => call.reply(Err(refusal)),
            Self::HasActed(call) => call.reply(Err(refusal)),
            // It is told when it is done.
            Self::Acts => {}
        }
    }
}

/// How far the action of this generation is.
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
    /// Lets the parties pass, or has the last one run the action, once enough have arrived: the
    /// end of every path that changes who has.
    fn let_pass(&mut self) {
        loop {
            let last = usize::try_from(self.parties - 1).unwrap_or(usize::MAX);
            let Some((last, _)) = self.arrivals.iter().nth(last) else {
                break;
            };
            match self.action {
                Action::Runs(_) => return,
                Action::NotBegun => {
                    if self.begin_action(last) {
                        return;
                    }
                    self.release(last);
                }
                // Who ran it may have left.
                Action::Done { turn, .. } => match self.arrivals.get(turn) {
                    Some(_) => self.release(turn),
                    None => self.release(last),
                },
            }
        }
        if self.arrivals.is_empty() {
            // Nobody is left whom it was run for.
            self.action = Action::NotBegun;
        }
    }

    /// Has the last to arrive run the action, if it brought one.
    fn begin_action(&mut self, last: CallId) -> bool {
        let Some(party) = self.arrivals.get_mut(last) else {
            return false;
        };
        if !matches!(party, Party::Waits { acts: true, .. }) {
            return false;
        }
        if let Party::Waits { call, .. } = std::mem::replace(party, Party::Acts) {
            call.reply(Ok(Arrival::Act));
        }
        self.action = Action::Runs(last);
        true
    }

    /// Lets the parties of this generation pass.
    fn release(&mut self, leader: CallId) {
        for index in 0..self.parties {
            let Some(id) = self.arrivals.iter().next().map(|(id, _)| id) else {
                break;
            };
            if let Some(party) = self.arrivals.pop_front() {
                party.release(Passed {
                    index,
                    is_leader: id == leader,
                    generation: self.generation,
                });
            }
        }
        self.generation += 1;
        self.action = Action::NotBegun;
    }

    /// Tells all who wait that the barrier broke.
    fn turn_away(&mut self, breach: &Breach) {
        self.action = Action::NotBegun;
        while let Some(party) = self.arrivals.pop_front() {
            party.refuse(breach);
        }
    }

    /// Breaks the barrier until it is reset.
    fn shatter(&mut self, breach: Breach) {
        self.turn_away(&breach);
        self.broken = Some(breach);
    }

    /// The arrival that waits by a call.
    fn arrival_of(&self, id: CallId) -> CallId {
        match self.action {
            Action::Done { turn, finish } if finish == id => turn,
            Action::Done { .. } | Action::Runs(_) | Action::NotBegun => id,
        }
    }
}

impl Primitive for Barrier {
    const KIND: &'static str = "barrier";
    type Spec = BarrierSpec;

    fn create(BarrierSpec { parties, on_death }: BarrierSpec) -> Result<Self, Refusal> {
        if parties == 0 {
            return Err(Refusal::Invalid(format!(
                "a barrier has 1 to {} parties, not 0",
                u32::MAX
            )));
        }
        Ok(Self {
            parties,
            on_death,
            generation: 0,
            broken: None,
            arrivals: WaitQueue::new(),
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
            .on::<CountArrivals>();
    }

    fn withdraw(&mut self, id: CallId) {
        drop(self.arrivals.remove(self.arrival_of(id)));
        if self.action == Action::Runs(id) {
            // It was never told to, so the action has not begun.
            self.action = Action::NotBegun;
        }
        self.let_pass();
    }

    fn expire(&mut self, id: CallId) {
        if self.arrivals.remove(self.arrival_of(id)).is_some() {
            self.shatter(Breach::TimedOut);
        }
    }

    fn hang_up(&mut self, ended: &HangUp) {
        let has_waited = !self.arrivals.remove_session(ended.session).is_empty();
        let has_acted =
            matches!(self.action, Action::Runs(turn) if turn.session() == ended.session);
        if has_acted || (has_waited && self.on_death == OnDeath::Break) {
            self.shatter(Breach::Died((*ended.peer).clone()));
        } else {
            self.let_pass();
        }
    }
}

impl Serve<Arrive> for Barrier {
    fn serve(&mut self, Arrive { acts }: Arrive, call: Call<Result<Arrival, Refusal>>) {
        if let Some(breach) = &self.broken {
            call.reply(Err(Refusal::Broken(breach.clone())));
        } else {
            self.arrivals.push(call.id(), Party::Waits { call, acts });
            self.let_pass();
        }
    }
}

impl Serve<Finish> for Barrier {
    fn serve(&mut self, Finish { turn }: Finish, call: Call<Result<Passed, Refusal>>) {
        let is_its_turn =
            self.action == Action::Runs(turn) && turn.session() == call.id().session();
        match self.arrivals.get_mut(turn) {
            Some(party) if is_its_turn => {
                let finish = call.id();
                self.action = Action::Done { turn, finish };
                *party = Party::HasActed(call);
                self.let_pass();
            }
            // It broke while the action ran, and may have been reset since.
            Some(_) | None => {
                let breach = self.broken.clone().unwrap_or(Breach::Reset);
                call.reply(Err(Refusal::Broken(breach)));
            }
        }
    }
}

impl Serve<Fail> for Barrier {
    fn serve(&mut self, Fail { turn }: Fail, call: Call<()>) {
        if self.action == Action::Runs(turn) {
            self.shatter(Breach::ActionFailed);
        }
        call.reply(());
    }
}

impl Serve<Abort> for Barrier {
    fn serve(&mut self, _: Abort, call: Call<()>) {
        self.shatter(Breach::Aborted);
        call.reply(());
    }
}

impl Serve<Reset> for Barrier {
    fn serve(&mut self, _: Reset, call: Call<()>) {
        self.turn_away(&Breach::Reset);
        self.broken = None;
        call.reply(());
    }
}

impl Serve<CountArrivals> for Barrier {
    fn serve(&mut self, _: CountArrivals, call: Call<BarrierStatus>) {
        call.reply(BarrierStatus {
            parties: self.parties,
            arrived: self.arrivals.len().try_into().unwrap_or(u64::MAX),
            generation: self.generation,
            broken: self.broken.clone(),
        });
    }
}
