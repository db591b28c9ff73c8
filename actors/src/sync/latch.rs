//! The latch: a counter that calls count down to zero, and calls that wait until it is zero.
//!
//! Invariant: the counter never rises, and no call waits once it is zero.

use lockkeeper_protocol::{
    CallId, Refusal,
    codec::Form,
    operations::{ArriveAndWait, CountDown, GetLatchStatus, LatchSpec, LatchStatus, WaitOpen},
};

use crate::{
    kind::{
        call::Call,
        hang_up::HangUp,
        primitive::{Operations, Primitive, Serve},
        survey::{Part, Survey, Waiting},
    },
    waiting::wait_queue::WaitQueue,
};

/// A counter that only goes down, and the calls that wait for zero.
#[derive(Debug)]
pub struct Latch {
    count: u32,
    waiters: WaitQueue<Call<Result<(), Refusal>>>,
}

impl Latch {
    /// Counts down, without granting calls yet.
    fn lower(&mut self, by: i128) -> Result<(), Refusal> {
        let count = self.count;
        let lowered = u32::try_from(by).ok().and_then(|by| count.checked_sub(by));
        self.count = lowered.ok_or_else(|| {
            Refusal::Invalid(if count == 0 {
                format!("the latch is open: nothing is left to be counted down, not {by}")
            } else {
                format!("the latch has {count} left: count down by 0 to {count}, not by {by}")
            })
        })?;
        Ok(())
    }

    /// Lets all waiting calls pass once the latch is open. Every path that counts down or adds a waiter ends
    /// here.
    fn let_pass(&mut self) {
        if self.count == 0 {
            for waiter in self.waiters.take_all() {
                waiter.reply(Ok(()));
            }
        }
    }
}

impl Primitive for Latch {
    const KIND: &'static str = "latch";
    const FORM: Form = Form::Compact;
    type Spec = LatchSpec;

    fn create(LatchSpec { count }: LatchSpec) -> Result<Self, Refusal> {
        let count = u32::try_from(count).map_err(|_| {
            Refusal::Invalid(format!(
                "a latch counts down from 0 to {}, not from {count}",
                u32::MAX
            ))
        })?;
        Ok(Self {
            count,
            waiters: WaitQueue::new(),
        })
    }

    fn operations(operations: &mut Operations<Self>) {
        operations
            .on::<CountDown>()
            .on::<WaitOpen>()
            .on::<ArriveAndWait>()
            .on::<GetLatchStatus>();
    }

    fn withdraw(&mut self, id: CallId) {
        drop(self.waiters.remove(id));
    }

    fn hang_up(&mut self, ended: &HangUp) {
        drop(self.waiters.hang_up(ended));
    }

    fn drop_some(&mut self) -> bool {
        self.waiters.drop_some()
    }

    fn survey(&self) -> Survey {
        let waiting = |(call, waiter): (CallId, &Call<_>)| Waiting {
            call,
            units: 0,
            mode: "open",
            since: waiter.arrived(),
        };
        Survey {
            state: match self.count {
                0 => "open".to_owned(),
                count => format!("{count} left"),
            },
            parts: vec![Part::awaited(
                None,
                self.waiters.len(),
                self.waiters.iter().map(waiting),
            )],
        }
    }
}

impl Serve<CountDown> for Latch {
    fn serve(&mut self, CountDown { by }: CountDown, call: Call<Result<u32, Refusal>>) {
        let lowered = self.lower(by);
        call.reply(lowered.map(|()| self.count));
        self.let_pass();
    }
}

impl Serve<WaitOpen> for Latch {
    fn serve(&mut self, _: WaitOpen, call: Call<Result<(), Refusal>>) {
        self.waiters.push(call);
        self.let_pass();
    }
}

impl Serve<ArriveAndWait> for Latch {
    fn serve(&mut self, ArriveAndWait { by }: ArriveAndWait, call: Call<Result<(), Refusal>>) {
        match self.lower(by) {
            Ok(()) => self.waiters.push(call),
            Err(refusal) => call.reply(Err(refusal)),
        }
        self.let_pass();
    }
}

impl Serve<GetLatchStatus> for Latch {
    fn serve(&mut self, _: GetLatchStatus, call: Call<LatchStatus>) {
        let mut status = LatchStatus::default();
        status.count = self.count;
        status.waiting = self.waiters.len().try_into().unwrap_or(u64::MAX);
        call.reply(status);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lockkeeper_protocol::Fault;

    use crate::bench::Bench;

    use super::*;

    fn bench(count: i64) -> Bench<Latch> {
        Bench::new(LatchSpec {
            count: count.into(),
        })
        .unwrap()
    }

    fn count_down(bench: &mut Bench<Latch>, by: u32) -> Result<u32, Refusal> {
        let id = bench.call(9, CountDown { by: by.into() });
        bench.reply::<CountDown>(id).unwrap().unwrap()
    }

    fn has_passed(bench: &Bench<Latch>, id: CallId) -> bool {
        bench.reply::<WaitOpen>(id) == Some(Ok(Ok(())))
    }

    /// The count that is left, and the number of waiting calls.
    fn state(bench: &mut Bench<Latch>) -> (u32, u64) {
        let id = bench.call(9, GetLatchStatus);
        let LatchStatus { count, waiting, .. } =
            bench.reply::<GetLatchStatus>(id).unwrap().unwrap();
        (count, waiting)
    }

    #[test]
    fn the_last_count_lets_all_pass_in_order_of_arrival() {
        let mut bench = bench(3);
        let waiting = [3, 1, 2].map(|session| bench.call(session, WaitOpen));
        assert_eq!(count_down(&mut bench, 1), Ok(2));
        assert_eq!(state(&mut bench), (2, 3));
        assert!(waiting.iter().all(|id| !bench.is_answered(*id)));
        assert_eq!(count_down(&mut bench, 2), Ok(0));
        assert!(waiting.iter().all(|id| has_passed(&bench, *id)));
        assert!(bench.order().ends_with(&waiting.map(CallId::seq)));
        assert_eq!(state(&mut bench), (0, 0));
    }

    #[test]
    fn an_open_latch_is_not_waited_at() {
        let mut bench = bench(0);
        let first = bench.call(1, WaitOpen);
        let tried = bench.call_within(1, WaitOpen, Duration::ZERO);
        let arrived = bench.call(1, ArriveAndWait { by: 0 });
        assert!(
            [first, tried, arrived]
                .iter()
                .all(|id| has_passed(&bench, *id))
        );
    }

    #[test]
    fn who_arrives_and_waits_counts_down_in_the_same_turn() {
        let mut bench = bench(3);
        let first = bench.call(1, ArriveAndWait { by: 2 });
        assert_eq!(state(&mut bench), (1, 1));
        let second = bench.call(2, ArriveAndWait { by: 1 });
        assert!(has_passed(&bench, first) && has_passed(&bench, second));
    }

    #[test]
    fn more_than_is_left_is_refused_and_changes_nothing() {
        let mut bench = bench(2);
        let waiting = bench.call(1, WaitOpen);
        let Err(Refusal::Invalid(why)) = count_down(&mut bench, 3) else {
            panic!("it was not refused");
        };
        assert!(why.contains("count down by 0 to 2, not by 3"), "{why}");
        let arrived = bench.call(
            2,
            ArriveAndWait {
                by: u32::MAX.into(),
            },
        );
        let told = bench.reply::<ArriveAndWait>(arrived).unwrap().unwrap();
        assert!(matches!(told, Err(Refusal::Invalid(_))), "{told:?}");
        assert!(!bench.is_answered(waiting));
        assert_eq!(state(&mut bench), (2, 1));
        assert_eq!(count_down(&mut bench, 0), Ok(2));
        assert_eq!(count_down(&mut bench, 2), Ok(0));
        let Err(Refusal::Invalid(why)) = count_down(&mut bench, 1) else {
            panic!("it was not refused");
        };
        assert!(why.contains("is open"), "{why}");
        assert_eq!(count_down(&mut bench, 0), Ok(0));
    }

    #[test]
    fn a_count_out_of_range_is_refused_with_what_is_allowed() {
        for count in [-1, 1 << 32, i64::MIN, i64::MAX] {
            let refusal = Bench::<Latch>::new(LatchSpec {
                count: count.into(),
            })
            .unwrap_err();
            let allowed = format!("from 0 to 4294967295, not from {count}");
            assert!(refusal.to_string().contains(&allowed), "{refusal}");
        }
        assert_eq!(state(&mut bench(u32::MAX.into())), (u32::MAX, 0));
    }

    #[test]
    fn who_is_withdrawn_too_late_or_dead_waits_no_longer_and_its_count_stays() {
        let mut bench = bench(4);
        let withdrawn = bench.call(1, ArriveAndWait { by: 1 });
        let late = bench.call_within(2, ArriveAndWait { by: 1 }, Duration::from_secs(1));
        bench.call(3, ArriveAndWait { by: 1 });
        bench.withdraw(withdrawn);
        bench.advance(Duration::from_secs(2));
        bench.hang_up(3);
        assert_eq!(
            [withdrawn, late].map(|id| bench.reply::<ArriveAndWait>(id)),
            [Some(Err(Fault::Withdrawn)), Some(Err(Fault::TimedOut))]
        );
        assert_eq!(state(&mut bench), (1, 0));
        assert_eq!(count_down(&mut bench, 1), Ok(0));
        assert_eq!([withdrawn, late].map(|id| bench.times_answered(id)), [1, 1]);
    }

    #[test]
    fn a_survey_shows_who_waits_and_that_nobody_holds() {
        let mut bench = bench(2);
        bench.advance(Duration::from_secs(1));
        let waiting = [1, 2].map(|session| bench.call(session, WaitOpen));
        let survey = bench.primitive().unwrap().survey();
        assert_eq!(survey.state, "2 left");
        let [part] = &survey.parts[..] else {
            panic!("one part: {survey:?}");
        };
        assert_eq!((part.units, part.holders.len()), (None, 0));
        let told: Vec<_> = part
            .waiters
            .iter()
            .map(|waiter| (waiter.call, waiter.since.as_secs()))
            .collect();
        assert_eq!(told, waiting.map(|id| (id, 1)));
    }
}
