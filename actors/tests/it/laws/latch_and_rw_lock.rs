//! The subjects of the laws for the latch and the readers-writer lock.
//!
//! A subject does not predict what its kind answers.

use std::time::Duration;

use lockkeeper_actors::{
    Bench, CallId, Proof,
    sync::{
        Access, AcquireFor, ArriveAndWait, CountDown, Downgrade, ForceUnlock, GetLatchStatus,
        GetRwLockStatus, Latch, LatchSpec, LatchStatus, MarkConsistent, Release, ReleaseBy, RwLock,
        RwLockStatus, Upgrade, WaitOpen,
    },
};
use rand::Rng;

use super::{OBSERVER, Subject};
use crate::{
    laws::subjects::{ONE, OTHER, ask, number},
    schedule::{Schedule, proof, put},
};

/// A readers-writer lock, and the mode of each of its calls.
#[derive(Default)]
pub(crate) struct RwSubject {
    wants: Vec<(CallId, Access)>,
}

const ALL: [Access; 3] = [Access::Read, Access::Upgradable, Access::Write];

impl RwSubject {
    /// Returns the last grant of the session, or any call.
    fn grant(&self, bench: &Bench<RwLock>, schedule: &mut Schedule, session: u64) -> CallId {
        let is_granted = |id: &CallId| {
            let observed = bench.reply::<AcquireFor>(*id);
            id.session().number() == session && matches!(observed, Some(Ok(Ok(_))))
        };
        let mut latest = self.wants.iter().rev().map(|(id, _)| *id);
        let last = latest.find(is_granted);
        let last = last.filter(|_| schedule.random.random_bool(0.7));
        last.unwrap_or_else(|| schedule.any_call())
    }
}

impl Subject for RwSubject {
    type Kind = RwLock;

    fn make(_: &mut Schedule) -> (Self, Bench<RwLock>) {
        let subject = Self::default();
        let bench = subject.fresh();
        (subject, bench)
    }

    fn fresh(&self) -> Bench<RwLock> {
        Bench::new(ReleaseBy::Holder).expect("every spec is valid")
    }

    fn call(
        &mut self,
        bench: &mut Bench<RwLock>,
        schedule: &mut Schedule,
        session: u64,
        timeout: Option<Duration>,
    ) -> (CallId, Option<&'static str>) {
        let to = ALL[schedule.random.random_range(0..ALL.len())];
        if schedule.asks() {
            let id = put(bench, session, AcquireFor { access: to }, timeout);
            self.wants.push((id, to));
            return (id, Some("acquire"));
        }
        let grant = self.grant(bench, schedule, session);
        let id = match schedule.random.random_range(0..12) {
            0..=3 => {
                let id = put(
                    bench,
                    session,
                    Upgrade {
                        grant: proof(session, grant),
                    },
                    timeout,
                );
                self.wants.push((id, Access::Write));
                return (id, Some("upgrade"));
            }
            4..=5 => put(
                bench,
                session,
                Downgrade {
                    grant: proof(session, grant),
                    to,
                },
                timeout,
            ),
            6 => put(
                bench,
                session,
                MarkConsistent {
                    grant: proof(session, grant),
                },
                timeout,
            ),
            7 => put(bench, session, ForceUnlock, timeout),
            _ => put(
                bench,
                session,
                Release {
                    grant: proof(session, grant),
                },
                timeout,
            ),
        };
        (id, None)
    }

    fn grants(
        &self,
        bench: &Bench<RwLock>,
        made: CallId,
        line: Option<&'static str>,
    ) -> Vec<CallId> {
        let granted = line.is_some() && matches!(bench.reply::<AcquireFor>(made), Some(Ok(Ok(_))));
        Vec::from_iter(granted.then_some(made))
    }

    fn assert_nothing_fits(&self, bench: &mut Bench<RwLock>, waiting: &[(CallId, &'static str)]) {
        let status: RwLockStatus = ask(bench, OBSERVER, GetRwLockStatus);
        assert_eq!(status.waiting, number(waiting.len()), "{waiting:?}");
        let is_alone = status.readers == 0 && !status.has_upgradable;
        assert!(
            is_alone || !status.has_writer,
            "a writer beside others: {status:?}"
        );
        assert!(!(status.has_upgradable && status.has_writer), "{status:?}");
        if let Some((upgrade, _)) = waiting.iter().find(|(_, line)| *line == "upgrade") {
            let waits_rightly = status.has_upgradable && status.readers > 0;
            assert!(waits_rightly, "{status:?}, but {upgrade:?} waits");
            return;
        }
        let Some((head, _)) = waiting.first() else {
            return;
        };
        let wants = self.wants.iter().find(|(id, _)| id == head);
        let fits = wants.is_none_or(|(_, access)| match access {
            Access::Read => !status.has_writer,
            Access::Upgradable => !status.has_writer && !status.has_upgradable,
            Access::Write => !status.has_writer && is_alone,
        });
        assert!(!fits, "{status:?}, but {wants:?} waits");
    }

    fn probe(bench: &mut Bench<RwLock>) -> Vec<String> {
        let reads = bench.call(ONE, AcquireFor { access: ALL[0] });
        let grant = bench.call(ONE, AcquireFor { access: ALL[1] });
        let writes = bench.call(OTHER, AcquireFor { access: ALL[2] });
        let upgrade = bench.call(
            ONE,
            Upgrade {
                grant: Proof::own(grant),
            },
        );
        let mut observed = vec![format!("{:?}", ask(bench, OTHER, GetRwLockStatus))];
        for grant in [reads, reads, grant, upgrade] {
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
            observed.push(format!("{:?}", ask(bench, OTHER, GetRwLockStatus)));
        }
        let answered = [reads, grant, writes, upgrade].map(|id| bench.is_answered(id));
        observed.push(format!("{answered:?}"));
        observed
    }
}

/// A latch, and how far it was counted down.
pub(crate) struct LatchSubject {
    count: u32,
    counted: u32,
}

impl Subject for LatchSubject {
    type Kind = Latch;

    fn make(schedule: &mut Schedule) -> (Self, Bench<Latch>) {
        let count = schedule.random.random_range(0..=15);
        let subject = Self { count, counted: 0 };
        let bench = subject.fresh();
        (subject, bench)
    }

    fn fresh(&self) -> Bench<Latch> {
        let count = (self.count - self.counted).into();
        Bench::new(LatchSpec { count }).expect("the count is valid")
    }

    fn call(
        &mut self,
        bench: &mut Bench<Latch>,
        schedule: &mut Schedule,
        session: u64,
        timeout: Option<Duration>,
    ) -> (CallId, Option<&'static str>) {
        let by = schedule.random.random_range(0..=2);
        let left = self.count - self.counted;
        let counts = if by > left { 0 } else { by };
        if schedule.asks() {
            if schedule.random.random_bool(0.9) {
                return (put(bench, session, WaitOpen, timeout), Some("wait"));
            }
            self.counted += counts;
            let id = put(bench, session, ArriveAndWait { by: by.into() }, timeout);
            return (id, Some("wait"));
        }
        self.counted += counts;
        (
            put(bench, session, CountDown { by: by.into() }, timeout),
            None,
        )
    }

    fn grants(
        &self,
        bench: &Bench<Latch>,
        made: CallId,
        line: Option<&'static str>,
    ) -> Vec<CallId> {
        let granted = line.is_some() && matches!(bench.reply::<WaitOpen>(made), Some(Ok(Ok(()))));
        Vec::from_iter(granted.then_some(made))
    }

    fn assert_nothing_fits(&self, bench: &mut Bench<Latch>, waiting: &[(CallId, &'static str)]) {
        let LatchStatus {
            count, waiting: n, ..
        } = ask(bench, OBSERVER, GetLatchStatus);
        assert_eq!(n, number(waiting.len()), "{waiting:?}");
        assert_eq!(count, self.count - self.counted);
        assert!(count > 0 || waiting.is_empty(), "open, but {waiting:?}");
    }

    fn probe(bench: &mut Bench<Latch>) -> Vec<String> {
        let waiting = bench.call(OTHER, WaitOpen);
        let mut observed = vec![format!("{}", bench.is_answered(waiting))];
        for _ in 0..17 {
            observed.push(format!("{:?}", ask(bench, ONE, GetLatchStatus)));
            observed.push(format!("{:?}", ask(bench, ONE, CountDown { by: 1 })));
        }
        observed.push(format!("{:?}", bench.reply::<WaitOpen>(waiting)));
        observed
    }
}
