//! The subjects of the laws for keyed locks and keyed semaphores: each key is a line.
//!
//! A subject does not predict what its kind answers.

use std::{marker::PhantomData, time::Duration};

use lockkeeper_actors::{
    Bench, CallId, Proof,
    sync::{AcquireKey, GetKeyStatus, GetKeyedStatus, Keyed, ListKeys, Release},
};
use rand::Rng;

use super::{OBSERVER, Subject};
use crate::{
    keyed_calls::{KEYS, KeyedCall, KeyedCalls},
    laws::subjects::{ONE, OTHER, ask, number},
    schedule::Schedule,
};

/// A keyed object, and the acquires of its keys.
pub(crate) struct KeyedSubject<F> {
    permits: u32,
    wants: Vec<(CallId, u32)>,
    face: PhantomData<F>,
}

impl<F: KeyedCalls> Subject for KeyedSubject<F> {
    type Kind = Keyed<F>;

    fn make(schedule: &mut Schedule) -> (Self, Bench<Keyed<F>>) {
        let subject = Self {
            permits: F::draw(schedule),
            wants: Vec::new(),
            face: PhantomData,
        };
        let bench = subject.fresh();
        (subject, bench)
    }

    fn fresh(&self) -> Bench<Keyed<F>> {
        F::fresh(self.permits)
    }

    fn call(
        &mut self,
        bench: &mut Bench<Keyed<F>>,
        schedule: &mut Schedule,
        session: u64,
        timeout: Option<Duration>,
    ) -> (CallId, Option<&'static str>) {
        if schedule.asks() {
            let key = KEYS[schedule.random.random_range(0..KEYS.len())];
            let permits = F::want(schedule);
            let id = F::put(bench, session, key, permits, timeout);
            self.wants.push((id, permits));
            return (id, Some(key));
        }
        let call = KeyedCall::draw(schedule.any_call(), schedule);
        (call.send(bench, session, timeout), None)
    }

    fn grants(
        &self,
        bench: &Bench<Keyed<F>>,
        made: CallId,
        line: Option<&'static str>,
    ) -> Vec<CallId> {
        let granted = line.is_some() && matches!(bench.reply::<AcquireKey>(made), Some(Ok(Ok(_))));
        Vec::from_iter(granted.then_some(made))
    }

    fn assert_nothing_fits(&self, bench: &mut Bench<Keyed<F>>, waiting: &[(CallId, &'static str)]) {
        for key in KEYS {
            let status = ask(bench, OBSERVER, GetKeyStatus { key: key.into() });
            let status = status.expect("the key is valid");
            let there_are = u64::from(self.permits);
            assert_eq!(status.available + status.held, there_are, "{status:?}");
            let line: Vec<_> = waiting.iter().filter(|(_, line)| *line == key).collect();
            assert_eq!(status.waiting, number(line.len()), "{line:?}");
            let Some((head, _)) = line.first() else {
                continue;
            };
            let wants = self.wants.iter().find(|(id, _)| id == head);
            let fits = wants.is_none_or(|(_, permits)| u64::from(*permits) <= status.available);
            assert!(!fits, "{status:?}, but {wants:?} waits");
        }
        let all = ask(bench, OBSERVER, GetKeyedStatus);
        assert_eq!(all.waiting, number(waiting.len()), "{waiting:?}");
        assert_eq!(
            all.keys,
            number(ask(bench, OBSERVER, ListKeys { from: 0 }).keys.len())
        );
    }

    fn probe(bench: &mut Bench<Keyed<F>>) -> Vec<String> {
        let mut observed = vec![format!(
            "{:?}",
            ask(bench, OTHER, ListKeys { from: 0 }).keys
        )];
        for key in KEYS {
            let first = F::put(bench, ONE, key, 1, None);
            let rest = F::put(bench, OTHER, key, 4, Some(Duration::ZERO));
            let has_rest = matches!(bench.reply::<AcquireKey>(rest), Some(Ok(Ok(_))));
            let waits = F::put(bench, OTHER, key, 1, None);
            let released = [first, first].map(|grant| {
                ask(
                    bench,
                    ONE,
                    Release {
                        grant: Proof::own(grant),
                    },
                )
            });
            let answered = bench.is_answered(waits);
            observed.push(format!("{has_rest} {released:?} {answered}"));
        }
        let all = ask(bench, OTHER, GetKeyedStatus);
        observed.push(format!("{} {} {}", all.keys, all.grants, all.waiting));
        observed
    }
}
