//! The event: a flag that calls wait for, and a count of how often it was set.
//!
//! Invariant: no call waits for a generation that has already been set.

use lockkeeper_protocol::{
    CallId, Refusal,
    codec::Form,
    operations::{Clear, EventStatus, GetEventStatus, Set, WaitSet},
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

/// A flag, and the calls that wait for it.
#[derive(Debug, Default)]
pub struct Event {
    is_set: bool,
    generation: u64,
    waiters: WaitQueue<Call<Result<u64, Refusal>>>,
}

impl Primitive for Event {
    const KIND: &'static str = "event";
    const FORM: Form = Form::Compact;
    type Spec = ();

    fn create((): ()) -> Result<Self, Refusal> {
        Ok(Self::default())
    }

    fn operations(operations: &mut Operations<Self>) {
        operations
            .on::<Set>()
            .on::<Clear>()
            .on::<WaitSet>()
            .on::<GetEventStatus>();
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
        let flag = if self.is_set { "set" } else { "not set" };
        let waiters = self.waiters.iter();
        let waiters = waiters.map(|(_, call)| Waiting::new(call, 1, "set"));
        Survey {
            state: format!("{flag}, generation {}", self.generation),
            parts: vec![Part::awaited(None, self.waiters.len(), waiters)],
        }
    }
}

impl Serve<Set> for Event {
    fn serve(&mut self, _: Set, call: Call<u64>) {
        self.is_set = true;
        self.generation += 1;
        call.reply(self.generation);
        for waiter in self.waiters.take_all() {
            waiter.reply(Ok(self.generation));
        }
    }
}

impl Serve<Clear> for Event {
    fn serve(&mut self, _: Clear, call: Call<()>) {
        self.is_set = false;
        call.reply(());
    }
}

impl Serve<WaitSet> for Event {
    fn serve(&mut self, WaitSet { since }: WaitSet, call: Call<Result<u64, Refusal>>) {
        let generation = self.generation;
        match since {
            Some(since) if !(0..=i128::from(generation)).contains(&since) => {
                call.reply(Err(Refusal::Invalid(format!(
                    "the event was set {generation} times so far: \
                     wait since a generation from 0 to {generation}, not {since}"
                ))));
            }
            Some(since) if since < generation.into() => call.reply(Ok(generation)),
            None if self.is_set => call.reply(Ok(generation)),
            Some(_) | None => self.waiters.push(call),
        }
    }
}

impl Serve<GetEventStatus> for Event {
    fn serve(&mut self, _: GetEventStatus, call: Call<EventStatus>) {
        let mut status = EventStatus::default();
        status.is_set = self.is_set;
        status.generation = self.generation;
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

    fn bench() -> Bench<Event> {
        Bench::new(()).unwrap()
    }

    fn waited(bench: &Bench<Event>, id: CallId) -> Option<Result<u64, Refusal>> {
        bench
            .reply::<WaitSet>(id)
            .map(|waited| waited.expect("no fault"))
    }

    #[test]
    fn set_completes_all_who_wait_even_if_clear_follows_at_once() {
        let mut bench = bench();
        let waiting: Vec<CallId> = (1..=8)
            .map(|session| bench.call(session, WaitSet { since: None }))
            .collect();
        assert!(waiting.iter().all(|id| !bench.is_answered(*id)));
        bench.call(9, Set);
        bench.call(9, Clear);
        assert!(waiting.iter().all(|id| waited(&bench, *id) == Some(Ok(1))));
        let late = bench.call(1, WaitSet { since: None });
        assert!(!bench.is_answered(late));
    }

    #[test]
    fn who_waits_is_completed_in_the_order_of_arrival() {
        let mut bench = bench();
        let waiting: Vec<u64> = [3, 1, 2]
            .map(|session| bench.call(session, WaitSet { since: None }).seq())
            .into();
        let set = bench.call(4, Set).seq();
        assert_eq!(bench.order()[1..], waiting);
        assert_eq!(bench.order()[0], set);
    }

    #[test]
    fn an_event_that_is_set_is_not_waited_for() {
        let mut bench = bench();
        bench.call(1, Set);
        let at_once = bench.call(2, WaitSet { since: None });
        assert_eq!(waited(&bench, at_once), Some(Ok(1)));
    }

    #[test]
    fn pulse_between_two_calls_is_not_missed() {
        let mut bench = bench();
        bench.call(1, Set);
        bench.call(1, Clear);
        let since_before = bench.call(2, WaitSet { since: Some(0) });
        assert_eq!(waited(&bench, since_before), Some(Ok(1)));
        let since_then = bench.call(2, WaitSet { since: Some(1) });
        assert_eq!(waited(&bench, since_then), None);
        bench.call(1, Set);
        assert_eq!(waited(&bench, since_then), Some(Ok(2)));
    }

    #[test]
    fn waiting_since_a_generation_waits_for_the_next_set_while_the_flag_is_up() {
        let mut bench = bench();
        bench.call(1, Set);
        let next = bench.call(2, WaitSet { since: Some(1) });
        assert!(!bench.is_answered(next));
        bench.call(1, Set);
        assert_eq!(waited(&bench, next), Some(Ok(2)));
    }

    #[test]
    fn a_generation_that_has_not_been_is_refused_with_what_is_allowed() {
        let mut bench = bench();
        bench.call(1, Set);
        let future = bench.call(2, WaitSet { since: Some(2) });
        let Some(Err(Refusal::Invalid(why))) = waited(&bench, future) else {
            panic!("it was not refused");
        };
        assert!(why.contains("from 0 to 1, not 2"), "{why}");
    }

    #[test]
    fn who_is_withdrawn_too_late_or_dead_waits_no_longer() {
        let mut bench = bench();
        let withdrawn = bench.call(1, WaitSet { since: None });
        let late = bench.call_within(2, WaitSet { since: None }, Duration::from_secs(1));
        bench.call(3, WaitSet { since: None });
        bench.withdraw(withdrawn);
        bench.advance(Duration::from_secs(2));
        bench.hang_up(3);
        assert_eq!(
            [withdrawn, late].map(|id| bench.reply::<WaitSet>(id)),
            [Some(Err(Fault::Withdrawn)), Some(Err(Fault::TimedOut))]
        );
        let look = bench.call(4, GetEventStatus);
        let status = bench.reply::<GetEventStatus>(look).unwrap().unwrap();
        assert_eq!(status, EventStatus::default());
        bench.call(4, Set);
        assert_eq!([withdrawn, late].map(|id| bench.times_answered(id)), [1, 1]);
    }
}
