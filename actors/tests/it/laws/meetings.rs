//! The subjects of the laws at which callers wait for each other: the event, the condition and the
//! barrier.
//!
//! A subject does not predict what its kind answers.

use std::time::Duration;

use lockkeeper_actors::{
    Bench, CallId, Proof,
    sync::{
        Abort, Acquire, Arrival, Arrive, Barrier, BarrierSpec, Clear, Condition, CountSleepers,
        Event, EventStatus, Fail, Finish, ForceUnlock, GetBarrierStatus, GetEventStatus,
        GetLockStatus, Notify, OnDeath, Release, ReleaseBy, Reset, Set, Sleep, WaitSet, Wake,
    },
};
use rand::Rng;

use super::{OBSERVER, Subject};
use crate::{
    laws::subjects::{ONE, OTHER, ask, number},
    schedule::{Schedule, proof, put},
};

/// An event, and its flag and count.
#[derive(Default)]
pub(crate) struct EventSubject {
    sets: u64,
    is_set: bool,
    /// The calls that wait for the flag, and not for a count.
    plain: Vec<CallId>,
}

impl Subject for EventSubject {
    type Kind = Event;

    fn make(_: &mut Schedule) -> (Self, Bench<Event>) {
        let subject = Self::default();
        let bench = subject.fresh();
        (subject, bench)
    }

    fn fresh(&self) -> Bench<Event> {
        let mut bench = Bench::new(()).expect("every spec is valid");
        for _ in 0..self.sets {
            ask(&mut bench, ONE, Set);
        }
        if !self.is_set {
            ask(&mut bench, ONE, Clear);
        }
        bench
    }

    fn call(
        &mut self,
        bench: &mut Bench<Event>,
        schedule: &mut Schedule,
        session: u64,
        timeout: Option<Duration>,
    ) -> (CallId, Option<&'static str>) {
        if schedule.asks() {
            let since = match schedule.random.random_range(0..3) {
                0 => Some(schedule.random.random_range(0..=self.sets + 1)),
                1 => Some(self.sets),
                _ => None,
            };
            let id = put(
                bench,
                session,
                WaitSet {
                    since: since.map(i128::from),
                },
                timeout,
            );
            self.plain.extend(since.is_none().then_some(id));
            // A call that was answered at once was in no line.
            let at_once = matches!(bench.reply::<WaitSet>(id), Some(Ok(_)));
            return (id, (!at_once).then_some("wait"));
        }
        self.is_set = schedule.random.random();
        let id = if self.is_set {
            self.sets += 1;
            put(bench, session, Set, timeout)
        } else {
            put(bench, session, Clear, timeout)
        };
        (id, None)
    }

    fn grants(
        &self,
        bench: &Bench<Event>,
        made: CallId,
        line: Option<&'static str>,
    ) -> Vec<CallId> {
        let granted = line.is_some() && matches!(bench.reply::<WaitSet>(made), Some(Ok(Ok(_))));
        Vec::from_iter(granted.then_some(made))
    }

    fn assert_nothing_fits(&self, bench: &mut Bench<Event>, waiting: &[(CallId, &'static str)]) {
        let status: EventStatus = ask(bench, OBSERVER, GetEventStatus);
        assert_eq!(status.waiting, number(waiting.len()), "{waiting:?}");
        assert_eq!((status.is_set, status.generation), (self.is_set, self.sets));
        let plain = waiting.iter().find(|(id, _)| self.plain.contains(id));
        assert!(
            !status.is_set || plain.is_none(),
            "the event is set, but {plain:?} wait"
        );
    }

    fn probe(bench: &mut Bench<Event>) -> Vec<String> {
        let mut observed = vec![format!("{:?}", ask(bench, OTHER, GetEventStatus))];
        ask(bench, ONE, Clear);
        let waiting = bench.call(OTHER, WaitSet { since: None });
        observed.push(format!("{}", bench.is_answered(waiting)));
        observed.push(format!("{:?}", ask(bench, ONE, Set)));
        observed.push(format!("{:?}", bench.reply::<WaitSet>(waiting)));
        observed
    }
}

/// A condition with two wait sets, and all calls for its lock.
#[derive(Default)]
pub(crate) struct ConditionSubject {
    acquires: Vec<CallId>,
    sleeps: Vec<CallId>,
}

const SETS: [&str; 2] = ["sleep", "sleep elsewhere"];

impl ConditionSubject {
    /// Returns the last grant, which may be the holder's, or any other call.
    fn grant(&self, bench: &Bench<Condition>, schedule: &mut Schedule) -> CallId {
        let acquired = |id: &&CallId| matches!(bench.reply::<Acquire>(**id), Some(Ok(Ok(_))));
        let woken = |id: &&CallId| matches!(bench.reply::<Sleep>(**id), Some(Ok(Ok(_))));
        let last = if schedule.random.random() {
            self.acquires.iter().rev().find(acquired)
        } else {
            self.sleeps.iter().rev().find(woken)
        };
        last.copied().unwrap_or_else(|| schedule.any_call())
    }
}

impl Subject for ConditionSubject {
    type Kind = Condition;

    fn make(_: &mut Schedule) -> (Self, Bench<Condition>) {
        let subject = Self::default();
        let bench = subject.fresh();
        (subject, bench)
    }

    fn fresh(&self) -> Bench<Condition> {
        Bench::new(ReleaseBy::Holder).expect("every spec is valid")
    }

    fn call(
        &mut self,
        bench: &mut Bench<Condition>,
        schedule: &mut Schedule,
        session: u64,
        timeout: Option<Duration>,
    ) -> (CallId, Option<&'static str>) {
        if schedule.asks() {
            let id = put(bench, session, Acquire, timeout);
            self.acquires.push(id);
            return (id, Some("acquire"));
        }
        let grant = self.grant(bench, schedule);
        let set = SETS[schedule.random.random_range(0..SETS.len())];
        let name = set.to_owned();
        match schedule.random.random_range(0..10) {
            0..=3 => {
                // A sleeper with a timeout of zero is at once in the lock's line, where it must
                // wait.
                let timeout = timeout.filter(|timeout| !timeout.is_zero());
                let id = put(
                    bench,
                    session,
                    Sleep {
                        grant: proof(session, grant),
                        set: name,
                    },
                    timeout,
                );
                self.sleeps.push(id);
                let is_refused = matches!(bench.reply::<Sleep>(id), Some(Ok(Err(_))));
                (id, (!is_refused).then_some(set))
            }
            4..=6 => {
                let most = schedule.random.random_bool(0.7).then_some(1);
                (
                    put(
                        bench,
                        session,
                        Notify {
                            grant: proof(session, grant),
                            set: name,
                            most,
                        },
                        timeout,
                    ),
                    None,
                )
            }
            7 => (put(bench, session, ForceUnlock, timeout), None),
            _ => (
                put(
                    bench,
                    session,
                    Release {
                        grant: proof(session, grant),
                    },
                    timeout,
                ),
                None,
            ),
        }
    }

    fn waits_on(line: &str) -> bool {
        SETS.contains(&line)
    }

    fn grants(
        &self,
        bench: &Bench<Condition>,
        made: CallId,
        line: Option<&'static str>,
    ) -> Vec<CallId> {
        let granted = match line {
            Some("acquire") => matches!(bench.reply::<Acquire>(made), Some(Ok(Ok(_)))),
            // A call that timed out is granted out of order.
            Some(_) => matches!(
                bench.reply::<Sleep>(made),
                Some(Ok(Ok(woken))) if woken.wake == Wake::Notified
            ),
            None => false,
        };
        Vec::from_iter(granted.then_some(made))
    }

    fn assert_nothing_fits(
        &self,
        bench: &mut Bench<Condition>,
        waiting: &[(CallId, &'static str)],
    ) {
        let status = ask(bench, OBSERVER, GetLockStatus);
        let asleep = SETS.map(|set| {
            let set = set.to_owned();
            ask(bench, OBSERVER, CountSleepers { set }).expect("the name is valid")
        });
        let all = status.waiting + asleep.iter().sum::<u64>();
        assert_eq!(
            all,
            number(waiting.len()),
            "{status:?} {asleep:?} {waiting:?}"
        );
        assert!(
            status.is_held || status.waiting == 0,
            "free, but {status:?}"
        );
    }

    fn probe(bench: &mut Bench<Condition>) -> Vec<String> {
        let mut observed = vec![format!("{:?}", ask(bench, OTHER, GetLockStatus))];
        let grant = bench.call(ONE, Acquire);
        let set = SETS[0].to_owned();
        let sleeper = bench.call(
            ONE,
            Sleep {
                grant: Proof::own(grant),
                set: set.clone(),
            },
        );
        let grant = bench.call(OTHER, Acquire);
        let most = Some(9);
        observed.push(format!(
            "{:?}",
            ask(
                bench,
                OTHER,
                Notify {
                    grant: Proof::own(grant),
                    set,
                    most
                }
            )
        ));
        observed.push(format!(
            "{:?}",
            ask(
                bench,
                OTHER,
                Release {
                    grant: Proof::own(grant)
                }
            )
        ));
        observed.push(format!("{}", bench.is_answered(sleeper)));
        observed.push(format!(
            "{:?}",
            ask(
                bench,
                ONE,
                Release {
                    grant: Proof::own(sleeper)
                }
            )
        ));
        observed
    }
}

/// A barrier. Its broken state and its count of passages outlive its parties.
pub(crate) struct BarrierSubject {
    spec: BarrierSpec,
    arrivals: Vec<CallId>,
}

impl BarrierSubject {
    /// Returns the last arrival that had to run the action, or any other call.
    fn turn(&self, bench: &Bench<Barrier>, schedule: &mut Schedule) -> CallId {
        let acts = |id: &&CallId| bench.reply::<Arrive>(**id) == Some(Ok(Ok(Arrival::Act)));
        let last = self.arrivals.iter().rev().find(acts).copied();
        last.unwrap_or_else(|| schedule.any_call())
    }
}

impl Subject for BarrierSubject {
    type Kind = Barrier;

    fn make(schedule: &mut Schedule) -> (Self, Bench<Barrier>) {
        let parties: u32 = schedule.random.random_range(1..=4);
        let on_death = if schedule.random.random() {
            OnDeath::Break
        } else {
            OnDeath::Retract
        };
        let spec = BarrierSpec::from(parties).on_death(on_death);
        let arrivals = Vec::new();
        let subject = Self { spec, arrivals };
        let bench = subject.fresh();
        (subject, bench)
    }

    fn fresh(&self) -> Bench<Barrier> {
        Bench::new(self.spec).expect("the spec is valid")
    }

    fn call(
        &mut self,
        bench: &mut Bench<Barrier>,
        schedule: &mut Schedule,
        session: u64,
        timeout: Option<Duration>,
    ) -> (CallId, Option<&'static str>) {
        let turn = self.turn(bench, schedule);
        let acting = turn.session().number();
        let is_live = schedule.is_live(turn.session());
        match schedule.random.random_range(0..20) {
            0 => (put(bench, session, Abort, timeout), None),
            1..=3 => (put(bench, session, Reset, timeout), None),
            4 => (
                put(
                    bench,
                    session,
                    Fail {
                        turn: proof(session, turn),
                    },
                    timeout,
                ),
                None,
            ),
            5..=9 if is_live => (
                put(
                    bench,
                    acting,
                    Finish {
                        turn: proof(session, turn),
                    },
                    timeout,
                ),
                Some("finish"),
            ),
            _ => {
                let acts = schedule.random.random();
                let id = put(bench, session, Arrive { acts }, timeout);
                self.arrivals.push(id);
                // The party that runs the action is not in the line.
                let acts = bench.reply::<Arrive>(id) == Some(Ok(Ok(Arrival::Act)));
                (id, (!acts).then_some("arrive"))
            }
        }
    }

    fn grants(
        &self,
        bench: &Bench<Barrier>,
        made: CallId,
        line: Option<&'static str>,
    ) -> Vec<CallId> {
        let passed = match line {
            Some("arrive") => {
                matches!(
                    bench.reply::<Arrive>(made),
                    Some(Ok(Ok(Arrival::Passed(_))))
                )
            }
            Some(_) => matches!(bench.reply::<Finish>(made), Some(Ok(Ok(_)))),
            None => false,
        };
        Vec::from_iter(passed.then_some(made))
    }

    fn assert_nothing_fits(&self, bench: &mut Bench<Barrier>, waiting: &[(CallId, &'static str)]) {
        let status = ask(bench, OBSERVER, GetBarrierStatus);
        // One party may be running the action, and does not wait.
        let acting = status.arrived.checked_sub(number(waiting.len()));
        assert!(matches!(acting, Some(0 | 1)), "{status:?} {waiting:?}");
        let is_full = status.arrived >= u64::from(status.parties);
        assert!(!is_full || acting == Some(1), "{status:?} {waiting:?}");
        let is_broken = status.broken.is_some();
        assert!(!is_broken || status.arrived == 0, "{status:?} {waiting:?}");
    }

    fn probe(bench: &mut Bench<Barrier>) -> Vec<String> {
        ask(bench, OTHER, Reset);
        let mut status = ask(bench, OTHER, GetBarrierStatus);
        let before = status.generation;
        status.generation = 0;
        let mut observed = vec![format!("{status:?}")];
        let arrivals: Vec<CallId> = (0..status.parties)
            .map(|_| bench.call(ONE, Arrive { acts: true }))
            .collect();
        if let Some(turn) = arrivals.last().copied() {
            observed.push(format!("{:?}", bench.reply::<Arrive>(turn)));
            let passed = ask(
                bench,
                ONE,
                Finish {
                    turn: Proof::own(turn),
                },
            )
            .expect("the barrier is not broken");
            let generation = passed.generation() - before;
            observed.push(format!(
                "{} {} {generation}",
                passed.index(),
                passed.is_leader()
            ));
        }
        observed.push(format!(
            "{}",
            arrivals.iter().all(|id| bench.is_answered(*id))
        ));
        observed
    }
}
