//! The barrier: a fixed number of parties, all of which wait until the last one has arrived.
//!
//! The first `parties` arrivals in the queue form the current generation; calls that arrive while its
//! action runs stand behind them. An arrival that leaves the queue before the release does not count.
//!
//! Invariants: a broken barrier has no arrivals, and while a generation is complete its action runs.

use std::time::Duration;

use lockkeeper_protocol::{
    Breach, CallId, Proof, Refusal,
    codec::Form,
    operations::{
        Abort, Arrival, Arrive, BarrierSpec, BarrierStatus, CountArrivals, Fail, Finish, OnDeath,
        Passed, Reset,
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
    /// It runs the action since then, and has no call here.
    Acts { turn: CallId, since: Duration },
    /// It has run the action, and waits by another call. In a box: there is one at the most.
    HasActed {
        turn: CallId,
        finish: Box<Call<Result<Passed, Refusal>>>,
    },
}

impl Parked for Party {
    /// The call by which it arrived.
    fn id(&self) -> CallId {
        match self {
            Self::Waits { call, .. } => call.id(),
            Self::Acts { turn, .. } | Self::HasActed { turn, .. } => *turn,
        }
    }
}

impl Party {
    fn release(self, passed: Passed) {
        match self {
            Self::Waits { call, .. } => call.reply(Ok(Arrival::Passed(passed))),
            Self::HasActed { finish, .. } => finish.reply(Ok(passed)),
            Self::Acts { .. } => {}
        }
    }

    fn refuse(self, breach: &Breach) {
        let refusal = Refusal::Broken(breach.clone());
        match self {
            Self::Waits { call, .. } => call.reply(Err(refusal)),
            Self::HasActed { finish, .. } => finish.reply(Err(refusal)),
            // It is told when it is done.
            Self::Acts { .. } => {}
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
        let parties = usize::try_from(self.parties).unwrap_or(usize::MAX);
        // Whoever arrives early is not counted anew: the walk to the last one is one out of here.
        while self.arrivals.len() >= parties && !matches!(self.action, Action::Runs(_)) {
            let Some((last, _)) = self.arrivals.iter().nth(parties - 1) else {
                return;
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

    /// Has the last to arrive run the action, if it carried one.
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

    /// Lets the parties of this generation pass.
    fn release(&mut self, leader: CallId) {
        let parties = usize::try_from(self.parties).unwrap_or(usize::MAX);
        let has_others = self.arrivals.len() > parties;
        let mut all = (!has_others).then(|| self.arrivals.take_all());
        for index in 0..self.parties {
            let party = match &mut all {
                Some(all) => all.next(),
                // Those behind them are of the next generation.
                None => self.arrivals.pop_front(),
            };
            let Some(party) = party else {
                break;
            };
            let mut passed = Passed::default();
            passed.index = index;
            passed.is_leader = party.id() == leader;
            passed.generation = self.generation;
            party.release(passed);
        }
        self.generation += 1;
        self.action = Action::NotBegun;
    }

    /// Tells all who wait that the barrier broke.
    fn turn_away(&mut self, breach: &Breach) {
        self.action = Action::NotBegun;
        for party in self.arrivals.take_all() {
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
    const FORM: Form = Form::Compact;
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
        let gone = self.arrivals.remove(self.arrival_of(id));
        if let Some(Party::HasActed { finish, .. }) = gone
            && finish.id() != id
        {
            // It took its turn back after it had finished it.
            finish.reply(Err(Refusal::NotHeld));
        }
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
        let has_waited = !self.arrivals.hang_up(ended).is_empty();
        if ended.goes_on() {
            return;
        }
        let has_acted =
            matches!(self.action, Action::Runs(turn) if turn.session() == ended.session);
        if has_acted || (has_waited && self.on_death == OnDeath::Break) {
            self.shatter(Breach::Died((*ended.peer).clone()));
        } else {
            self.let_pass();
        }
    }

    /// Who has arrived. The one that runs the action holds the others up.
    fn survey(&self) -> Survey {
        let (arrived, parties) = (self.arrivals.len(), self.parties);
        let broken = self.broken.as_ref().map_or("", |_| ", broken");
        let generation = self.generation;
        let mut part = Part {
            more_waiters: Survey::beyond(arrived),
            ..Part::default()
        };
        for (turn, party) in self.arrivals.iter().take(Survey::MOST) {
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
        if let Some(breach) = &self.broken {
            call.reply(Err(Refusal::Broken(breach.clone())));
        } else {
            self.arrivals.push(Party::Waits { call, acts });
            self.let_pass();
        }
    }
}

/// The arrival that was told to act: only its own session says what became of the action, since only that
/// session can have run it.
fn own_turn<R>(call: &Call<R>, turn: Proof) -> Result<CallId, Refusal> {
    let turn = call.grant(turn)?;
    let is_own = turn.session() == call.id().session();
    is_own.then_some(turn).ok_or(Refusal::NotHeld)
}

impl Serve<Finish> for Barrier {
    fn serve(&mut self, Finish { turn }: Finish, call: Call<Result<Passed, Refusal>>) {
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
        if own_turn(&call, turn).is_ok_and(|turn| self.action == Action::Runs(turn)) {
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
        let mut status = BarrierStatus::default();
        status.parties = self.parties;
        status.arrived = self.arrivals.len().try_into().unwrap_or(u64::MAX);
        status.generation = self.generation;
        status.broken = self.broken.clone();
        call.reply(status);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use lockkeeper_protocol::{Fault, Peer};

    use crate::bench::Bench;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn bench(parties: u32) -> Bench<Barrier> {
        Bench::new(parties.into()).unwrap()
    }

    fn retracting(parties: u32) -> Bench<Barrier> {
        Bench::new(BarrierSpec::from(parties).on_death(OnDeath::Retract)).unwrap()
    }

    fn arrive(bench: &mut Bench<Barrier>, session: u64) -> CallId {
        bench.call(session, Arrive { acts: false })
    }

    fn arrive_with_action(bench: &mut Bench<Barrier>, session: u64) -> CallId {
        bench.call(session, Arrive { acts: true })
    }

    /// The place, whether it is the leader, and the generation.
    type Told = Result<(u32, bool, u64), Breach>;

    fn told(passed: Result<Passed, Refusal>) -> Told {
        match passed {
            Ok(Passed {
                index,
                is_leader,
                generation,
                ..
            }) => Ok((index, is_leader, generation)),
            Err(Refusal::Broken(breach)) => Err(breach),
            Err(other) => panic!("no refusal of a barrier: {other:?}"),
        }
    }

    /// What an arrival was told that is not to act.
    fn passed(bench: &Bench<Barrier>, id: CallId) -> Option<Told> {
        let arrival = bench.reply::<Arrive>(id)?.expect("no fault");
        Some(told(arrival.map(|arrival| match arrival {
            Arrival::Passed(passed) => passed,
            Arrival::Act => panic!("{id:?} was told to act"),
        })))
    }

    fn acts(bench: &Bench<Barrier>, id: CallId) -> bool {
        bench.reply::<Arrive>(id) == Some(Ok(Ok(Arrival::Act)))
    }

    fn finish(bench: &mut Bench<Barrier>, turn: CallId) -> CallId {
        bench.call(
            turn.session().number(),
            Finish {
                turn: Proof::own(turn),
            },
        )
    }

    fn finished(bench: &Bench<Barrier>, id: CallId) -> Option<Told> {
        Some(told(bench.reply::<Finish>(id)?.expect("no fault")))
    }

    fn status(bench: &mut Bench<Barrier>) -> BarrierStatus {
        let id = bench.call(99, CountArrivals);
        bench.reply::<CountArrivals>(id).unwrap().unwrap()
    }

    fn died() -> Breach {
        Breach::Died(Peer::default())
    }

    #[test]
    fn all_pass_in_the_order_of_arrival_and_one_of_them_leads() {
        let mut bench = bench(3);
        for generation in 0..3 {
            let arrivals = [2, 1, 3].map(|session| {
                let id = arrive(&mut bench, session);
                assert_eq!(bench.is_answered(id), session == 3);
                id
            });
            assert_eq!(
                arrivals.map(|id| passed(&bench, id)),
                [(0, false), (1, false), (2, true)]
                    .map(|(index, leads)| Some(Ok((index, leads, generation))))
            );
        }
    }

    #[test]
    fn no_parties_are_refused_with_what_is_allowed() {
        let Err(Refusal::Invalid(why)) = Bench::<Barrier>::new(0.into()) else {
            panic!("it was made");
        };
        assert_eq!(why, "a barrier has 1 to 4294967295 parties, not 0");
    }

    #[test]
    fn ten_thousand_generations_in_a_row() {
        let mut bench = bench(2);
        for generation in 0..10_000 {
            arrive(&mut bench, 1);
            let last = arrive(&mut bench, 2);
            assert_eq!(passed(&bench, last), Some(Ok((1, true, generation))));
        }
    }

    #[test]
    fn the_last_to_arrive_runs_its_action_before_anyone_is_released() {
        let mut bench = bench(2);
        let first = arrive_with_action(&mut bench, 1);
        let last = arrive_with_action(&mut bench, 2);
        assert!(acts(&bench, last) && !bench.is_answered(first));
        let done = finish(&mut bench, last);
        assert_eq!(passed(&bench, first), Some(Ok((0, false, 0))));
        assert_eq!(finished(&bench, done), Some(Ok((1, true, 0))));
    }

    #[test]
    fn action_that_fails_breaks_the_barrier() {
        let mut bench = bench(2);
        let first = arrive_with_action(&mut bench, 1);
        let last = arrive_with_action(&mut bench, 2);
        bench.call(
            2,
            Fail {
                turn: Proof::own(last),
            },
        );
        assert_eq!(passed(&bench, first), Some(Err(Breach::ActionFailed)));
        let late = arrive(&mut bench, 3);
        assert_eq!(passed(&bench, late), Some(Err(Breach::ActionFailed)));
    }

    #[test]
    fn action_that_dies_breaks_the_barrier_whatever_a_death_does_elsewhere() {
        for mut bench in [bench(2), retracting(2)] {
            let first = arrive_with_action(&mut bench, 1);
            assert!(!bench.is_answered(first));
            arrive_with_action(&mut bench, 2);
            bench.hang_up(2);
            assert_eq!(passed(&bench, first), Some(Err(died())));
            assert_eq!(status(&mut bench).broken, Some(died()));
        }
    }

    #[test]
    fn action_that_never_returns_keeps_nobody_beyond_their_time() {
        let mut bench = bench(2);
        let impatient = bench.call_timeout(1, Arrive { acts: true }, SECOND);
        let last = arrive_with_action(&mut bench, 2);
        bench.advance(SECOND);
        assert_eq!(bench.reply::<Arrive>(impatient), Some(Err(Fault::TimedOut)));
        let done = finish(&mut bench, last);
        assert_eq!(finished(&bench, done), Some(Err(Breach::TimedOut)));
    }

    #[test]
    fn early_arrivals_form_the_next_generation() {
        let mut bench = bench(2);
        let first = arrive(&mut bench, 1);
        let leader = arrive_with_action(&mut bench, 2);
        let early = [3, 4, 5].map(|session| arrive(&mut bench, session));
        assert!(!early.iter().any(|id| bench.is_answered(*id)));
        let done = finish(&mut bench, leader);
        assert_eq!(finished(&bench, done), Some(Ok((1, true, 0))));
        assert_eq!(passed(&bench, first), Some(Ok((0, false, 0))));
        assert_eq!(passed(&bench, early[1]), Some(Ok((1, true, 1))));
        assert_eq!(passed(&bench, early[2]), None);
    }

    #[test]
    fn timeout_breaks_the_barrier_for_all_itself_included() {
        let mut bench = bench(3);
        let other = arrive(&mut bench, 1);
        let late = bench.call_timeout(2, Arrive { acts: false }, SECOND);
        bench.advance(SECOND);
        assert_eq!(bench.reply::<Arrive>(late), Some(Err(Fault::TimedOut)));
        assert_eq!(passed(&bench, other), Some(Err(Breach::TimedOut)));
        let again = arrive(&mut bench, 2);
        assert_eq!(passed(&bench, again), Some(Err(Breach::TimedOut)));
    }

    #[test]
    fn reset_mends_it_and_turns_those_away_who_wait() {
        let mut bench = bench(2);
        let waiting = arrive(&mut bench, 1);
        bench.call(3, Reset);
        assert_eq!(passed(&bench, waiting), Some(Err(Breach::Reset)));
        bench.call(3, Abort);
        bench.call(3, Reset);
        let [_, last] = [1, 2].map(|session| arrive(&mut bench, session));
        assert_eq!(passed(&bench, last), Some(Ok((1, true, 0))));
    }

    #[test]
    fn abort_breaks_it_until_it_is_reset() {
        let mut bench = bench(2);
        let waiting = arrive(&mut bench, 1);
        bench.call(3, Abort);
        let late = arrive(&mut bench, 2);
        for id in [waiting, late] {
            assert_eq!(passed(&bench, id), Some(Err(Breach::Aborted)));
        }
        bench.call(3, Reset);
        let pair = [1, 2].map(|session| arrive(&mut bench, session));
        assert_eq!(passed(&bench, pair[1]), Some(Ok((1, true, 0))));
    }

    #[test]
    fn abort_of_a_broken_barrier_is_what_broke_it_then() {
        let mut bench = bench(2);
        bench.call_timeout(1, Arrive { acts: false }, Duration::ZERO);
        assert_eq!(status(&mut bench).broken, Some(Breach::TimedOut));
        bench.call(3, Abort);
        assert_eq!(status(&mut bench).broken, Some(Breach::Aborted));
    }

    #[test]
    fn action_of_a_barrier_that_broke_or_was_reset_lets_nobody_pass() {
        let mut bench = bench(1);
        let turn = arrive_with_action(&mut bench, 1);
        bench.call(2, Abort);
        let done = finish(&mut bench, turn);
        assert_eq!(finished(&bench, done), Some(Err(Breach::Aborted)));
        bench.call(2, Reset);
        let done = finish(&mut bench, turn);
        assert_eq!(finished(&bench, done), Some(Err(Breach::Reset)));
        bench.call(
            1,
            Fail {
                turn: Proof::own(turn),
            },
        );
        assert_eq!(status(&mut bench).broken, None);
    }

    #[test]
    fn dropped_wait_takes_its_arrival_back() {
        let mut bench = bench(2);
        let dropped = arrive(&mut bench, 1);
        bench.withdraw(dropped);
        let first = arrive(&mut bench, 2);
        assert!(!bench.is_answered(first));
        arrive(&mut bench, 3);
        assert_eq!(passed(&bench, first), Some(Ok((0, false, 0))));
    }

    #[test]
    fn arrival_taken_back_during_the_action_is_made_good_by_another_party() {
        let mut bench = bench(2);
        let dropped = arrive(&mut bench, 1);
        let leader = arrive_with_action(&mut bench, 2);
        bench.withdraw(dropped);
        let done = finish(&mut bench, leader);
        assert!(!bench.is_answered(done), "one party is missing");
        let other = arrive_with_action(&mut bench, 3);
        assert_eq!(
            passed(&bench, other),
            Some(Ok((1, false, 0))),
            "it has been run"
        );
        assert_eq!(finished(&bench, done), Some(Ok((0, true, 0))));
    }

    #[test]
    fn early_arrival_makes_one_good_that_is_taken_back_during_the_action() {
        let mut bench = bench(2);
        let dropped = arrive(&mut bench, 1);
        let leader = arrive_with_action(&mut bench, 2);
        let early = arrive_with_action(&mut bench, 3);
        bench.withdraw(dropped);
        let done = finish(&mut bench, leader);
        assert_eq!(finished(&bench, done), Some(Ok((0, true, 0))));
        assert_eq!(passed(&bench, early), Some(Ok((1, false, 0))));
    }

    #[test]
    fn leader_that_leaves_after_its_action_leaves_the_lead_to_the_last() {
        let mut bench = bench(3);
        let dropped = arrive(&mut bench, 1);
        let waiting = arrive(&mut bench, 2);
        let leader = arrive_with_action(&mut bench, 3);
        bench.withdraw(dropped);
        let done = finish(&mut bench, leader);
        bench.withdraw(done);
        assert_eq!(bench.reply::<Finish>(done), Some(Err(Fault::Withdrawn)));
        arrive_with_action(&mut bench, 4);
        let last = arrive_with_action(&mut bench, 5);
        assert_eq!(passed(&bench, waiting), Some(Ok((0, false, 0))));
        assert_eq!(
            passed(&bench, last),
            Some(Ok((2, true, 0))),
            "not run again"
        );
    }

    #[test]
    fn action_is_run_anew_once_all_have_left_whom_it_was_run_for() {
        let mut bench = bench(2);
        let dropped = arrive(&mut bench, 1);
        let leader = arrive_with_action(&mut bench, 2);
        bench.withdraw(dropped);
        let done = finish(&mut bench, leader);
        bench.withdraw(done);
        arrive_with_action(&mut bench, 3);
        let last = arrive_with_action(&mut bench, 4);
        assert!(acts(&bench, last));
    }

    #[test]
    fn turn_that_was_never_seen_is_taken_back_and_the_action_has_not_begun() {
        let mut bench = bench(2);
        arrive_with_action(&mut bench, 1);
        let unseen = arrive_with_action(&mut bench, 2);
        bench.withdraw(unseen);
        assert_eq!(status(&mut bench).arrived, 1);
        let last = arrive_with_action(&mut bench, 3);
        assert!(acts(&bench, last));
        let stale = finish(&mut bench, unseen);
        assert_eq!(finished(&bench, stale), Some(Err(Breach::Reset)));
    }

    #[test]
    fn arrival_does_not_cost_more_the_more_have_arrived() {
        let mut bench = bench(u32::MAX);
        let begun = Instant::now();
        for _ in 0..60_000 {
            arrive(&mut bench, 1);
        }
        // Where each one walks past all others it takes a quarter of a minute.
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn turn_is_finished_and_failed_by_its_own_session_alone() {
        let mut bench = bench(1);
        let turn = arrive_with_action(&mut bench, 1);
        let stranger = bench.call(
            2,
            Finish {
                turn: Proof::own(turn),
            },
        );
        assert_eq!(finished(&bench, stranger), Some(Err(Breach::Reset)));
        let ticket = bench.signed(turn);
        let stranger = bench.call(2, Finish { turn: ticket });
        let told = bench.reply::<Finish>(stranger).unwrap();
        assert_eq!(told, Ok(Err(Refusal::NotHeld)));
        for turn in [Proof::own(turn), ticket] {
            bench.call(2, Fail { turn });
        }
        assert_eq!(status(&mut bench).broken, None);
        let done = finish(&mut bench, turn);
        assert_eq!(finished(&bench, done), Some(Ok((0, true, 0))));
    }

    #[test]
    fn finish_that_waits_too_long_for_another_party_breaks_the_barrier() {
        let mut bench = bench(2);
        let dropped = arrive(&mut bench, 1);
        let turn = arrive_with_action(&mut bench, 2);
        bench.withdraw(dropped);
        let done = bench.call_timeout(
            2,
            Finish {
                turn: Proof::own(turn),
            },
            SECOND,
        );
        bench.advance(SECOND);
        assert_eq!(bench.reply::<Finish>(done), Some(Err(Fault::TimedOut)));
        assert_eq!(status(&mut bench).broken, Some(Breach::TimedOut));
    }

    #[test]
    fn dead_party_breaks_the_barrier_for_those_who_wait() {
        let mut bench = bench(3);
        let waiting = arrive(&mut bench, 1);
        arrive(&mut bench, 2);
        bench.hang_up(2);
        assert_eq!(passed(&bench, waiting), Some(Err(died())));
        bench.hang_up(3);
        bench.call(1, Reset);
        bench.hang_up(4);
        assert_eq!(status(&mut bench).broken, None, "they were no parties");
    }

    #[test]
    fn dead_party_is_never_counted_as_arrived() {
        let mut bench = retracting(2);
        arrive(&mut bench, 1);
        bench.hang_up(1);
        let waiting = arrive(&mut bench, 2);
        assert!(!bench.is_answered(waiting));
        arrive(&mut bench, 3);
        assert_eq!(passed(&bench, waiting), Some(Ok((0, false, 0))));
        // Nor if it dies while the action runs.
        arrive(&mut bench, 4);
        let turn = arrive_with_action(&mut bench, 5);
        bench.hang_up(4);
        let done = finish(&mut bench, turn);
        assert!(!bench.is_answered(done));
    }
}
