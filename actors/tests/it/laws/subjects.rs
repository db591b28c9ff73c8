//! The subjects of the laws for locks, semaphores and the task queue.
//!
//! A subject makes calls, reads the answers to callers and to an observer, and makes a fresh
//! object. It does not predict answers.

use std::{marker::PhantomData, time::Duration};

use lockkeeper_actors::{
    Bench, CallId, Operation, Proof, Serve,
    codec::Blob,
    data::{
        Chunk, CloseTasks, Finished, GetTaskQueueStatus, HandBack, JobOutcome, Next, RetryRule,
        Submit, TaskFault, TaskQueue, TaskQueueStatus, TaskRule,
    },
    sync::{
        Acquire, AcquireAs, AcquireMany, AddPermits, Adopt, AdoptAs, Bound, Close, Counting,
        ForceUnlock, Forget, GetLockStatus, GetSemaphoreStatus, Lock, LockStatus, MarkConsistent,
        ReentrantLock, Release, ReleaseBy, ReleasePermits, SemaphoreSpec, SemaphoreStatus,
    },
};
use rand::Rng;

use super::{OBSERVER, Subject};
use crate::schedule::{Schedule, proof, put};

/// The two sessions of a probe.
pub(crate) const ONE: u64 = OBSERVER + 1;
pub(crate) const OTHER: u64 = OBSERVER + 2;

/// Makes a call that is answered at once, and reads the answer.
pub(crate) fn ask<P: Serve<O>, O: Operation>(
    bench: &mut Bench<P>,
    session: u64,
    operation: O,
) -> O::Reply {
    let id = bench.call(session, operation);
    let observed = bench.reply::<O>(id).expect("the call is answered at once");
    observed.expect("the object exists")
}

pub(crate) fn number(of: usize) -> u64 {
    u64::try_from(of).expect("short lists")
}

pub(crate) struct LockSubject;

impl Subject for LockSubject {
    type Kind = Lock;

    fn make(_: &mut Schedule) -> (Self, Bench<Lock>) {
        (Self, Self.fresh())
    }

    fn fresh(&self) -> Bench<Lock> {
        Bench::new(ReleaseBy::Holder).expect("every spec is valid")
    }

    fn call(
        &mut self,
        bench: &mut Bench<Lock>,
        schedule: &mut Schedule,
        session: u64,
        timeout: Option<Duration>,
    ) -> (CallId, Option<&'static str>) {
        if schedule.asks() {
            return (put(bench, session, Acquire, timeout), Some("acquire"));
        }
        let grant = schedule.any_call();
        let id = match schedule.random.random_range(0..12) {
            0 => put(
                bench,
                session,
                Adopt {
                    grant: proof(session, grant),
                },
                timeout,
            ),
            1 => put(
                bench,
                session,
                MarkConsistent {
                    grant: proof(session, grant),
                },
                timeout,
            ),
            2 => put(bench, session, ForceUnlock, timeout),
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

    fn grants(&self, bench: &Bench<Lock>, made: CallId, line: Option<&'static str>) -> Vec<CallId> {
        let granted = line.is_some() && matches!(bench.reply::<Acquire>(made), Some(Ok(Ok(_))));
        Vec::from_iter(granted.then_some(made))
    }

    fn assert_nothing_fits(&self, bench: &mut Bench<Lock>, waiting: &[(CallId, &'static str)]) {
        let status = ask(bench, OBSERVER, GetLockStatus);
        assert_eq!(status.waiting, number(waiting.len()), "{waiting:?}");
        assert!(
            status.is_held || waiting.is_empty(),
            "free, but {waiting:?}"
        );
    }

    fn probe(bench: &mut Bench<Lock>) -> Vec<String> {
        let [first, second] = [ONE, OTHER].map(|session| bench.call(session, Acquire));
        let status = ask(bench, OTHER, GetLockStatus);
        let released = ask(
            bench,
            ONE,
            Release {
                grant: Proof::own(first),
            },
        );
        let again = ask(
            bench,
            ONE,
            Release {
                grant: Proof::own(first),
            },
        );
        let LockStatus {
            is_held, waiting, ..
        } = ask(bench, OTHER, GetLockStatus);
        let has_second = bench.is_answered(second);
        vec![
            format!("{status:?} {released:?} {again:?}"),
            format!("{is_held} {waiting} {has_second}"),
        ]
    }
}

/// A reentrant lock, with two owners in each session.
#[derive(Default)]
pub(crate) struct ReentrantSubject {
    /// All acquire calls.
    entries: Vec<CallId>,
}

impl ReentrantSubject {
    /// Returns whether a call was granted together with another call of its owner: out of order,
    /// and with the same fence.
    fn is_companion(&self, bench: &Bench<ReentrantLock>, made: CallId) -> bool {
        let fence = |id| match bench.reply::<AcquireAs>(id) {
            Some(Ok(Ok(granted))) => Some(granted.fence),
            _ => None,
        };
        let order = bench.order();
        let place = |id: CallId| order.iter().position(|seq| *seq == id.seq());
        let others = self.entries.iter().filter(|other| **other != made);
        let mut before = others.filter(|other| place(**other) < place(made));
        before.any(|other| fence(*other).is_some() && fence(*other) == fence(made))
    }
}

impl Subject for ReentrantSubject {
    type Kind = ReentrantLock;

    fn make(_: &mut Schedule) -> (Self, Bench<ReentrantLock>) {
        let subject = Self::default();
        let bench = subject.fresh();
        (subject, bench)
    }

    fn fresh(&self) -> Bench<ReentrantLock> {
        Bench::new(ReleaseBy::Holder).expect("every spec is valid")
    }

    fn call(
        &mut self,
        bench: &mut Bench<ReentrantLock>,
        schedule: &mut Schedule,
        session: u64,
        timeout: Option<Duration>,
    ) -> (CallId, Option<&'static str>) {
        let owner = schedule.random.random_range(1..=2);
        if schedule.asks() {
            let held = ask(bench, OBSERVER, GetLockStatus).is_held;
            let id = put(bench, session, AcquireAs { owner }, timeout);
            self.entries.push(id);
            // An owner that holds the lock enters at once, and is in no line.
            let enters_again = held && matches!(bench.reply::<AcquireAs>(id), Some(Ok(Ok(_))));
            return (id, (!enters_again).then_some("acquire"));
        }
        let grant = schedule.any_call();
        let id = match schedule.random.random_range(0..12) {
            0 => {
                let id = put(
                    bench,
                    session,
                    AdoptAs {
                        grant: proof(session, grant),
                        owner,
                    },
                    timeout,
                );
                self.entries.push(id);
                id
            }
            1 => put(
                bench,
                session,
                MarkConsistent {
                    grant: proof(session, grant),
                },
                timeout,
            ),
            2 => put(bench, session, ForceUnlock, timeout),
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
        bench: &Bench<ReentrantLock>,
        made: CallId,
        line: Option<&'static str>,
    ) -> Vec<CallId> {
        let granted = line.is_some()
            && matches!(bench.reply::<AcquireAs>(made), Some(Ok(Ok(_))))
            && !self.is_companion(bench, made);
        Vec::from_iter(granted.then_some(made))
    }

    fn assert_nothing_fits(
        &self,
        bench: &mut Bench<ReentrantLock>,
        waiting: &[(CallId, &'static str)],
    ) {
        let status = ask(bench, OBSERVER, GetLockStatus);
        assert_eq!(status.waiting, number(waiting.len()), "{waiting:?}");
        assert_eq!(status.is_held, status.depth > 0);
        assert!(
            status.is_held || waiting.is_empty(),
            "free, but {waiting:?}"
        );
    }

    fn probe(bench: &mut Bench<ReentrantLock>) -> Vec<String> {
        let [first, again] = [1, 1].map(|owner| bench.call(ONE, AcquireAs { owner }));
        let other = bench.call(OTHER, AcquireAs { owner: 1 });
        let status = ask(bench, OTHER, GetLockStatus);
        let released = [first, first, again].map(|grant| {
            ask(
                bench,
                ONE,
                Release {
                    grant: Proof::own(grant),
                },
            )
        });
        let last = ask(bench, OTHER, GetLockStatus);
        let entered = [again, other].map(|id| bench.is_answered(id));
        vec![format!("{status:?} {released:?} {last:?} {entered:?}")]
    }
}

/// A semaphore, and its lasting changes.
pub(crate) struct PermitSubject<B> {
    permits: u32,
    forgotten: u32,
    added: u32,
    closed: bool,
    wants: Vec<(CallId, u32)>,
    bound: PhantomData<B>,
}

impl<B: Bound> PermitSubject<B> {
    fn disturb(
        &mut self,
        bench: &mut Bench<Counting<B>>,
        schedule: &mut Schedule,
        session: u64,
        timeout: Option<Duration>,
    ) -> CallId {
        let (grant, permits) = (schedule.any_call(), schedule.random.random_range(0_u32..=3));
        match schedule.random.random_range(0..40) {
            0..=3 => {
                let id = put(
                    bench,
                    session,
                    Forget {
                        grant: proof(session, grant),
                        permits: permits.into(),
                    },
                    timeout,
                );
                if bench.reply::<Forget>(id) == Some(Ok(Ok(()))) {
                    self.forgotten += permits;
                }
                id
            }
            4..=7 => {
                let id = put(
                    bench,
                    session,
                    AddPermits {
                        permits: permits.into(),
                    },
                    timeout,
                );
                if bench.reply::<AddPermits>(id) == Some(Ok(Ok(()))) {
                    self.added += permits;
                }
                id
            }
            8 => {
                self.closed = true;
                put(bench, session, Close, timeout)
            }
            _ => put(
                bench,
                session,
                ReleasePermits {
                    grant: proof(session, grant),
                    permits: permits.into(),
                },
                timeout,
            ),
        }
    }
}

impl<B: Bound> Subject for PermitSubject<B> {
    type Kind = Counting<B>;

    fn make(schedule: &mut Schedule) -> (Self, Bench<Counting<B>>) {
        let subject = Self {
            permits: schedule.random.random_range(0..=5),
            forgotten: 0,
            added: 0,
            closed: false,
            wants: Vec::new(),
            bound: PhantomData,
        };
        let bench = subject.fresh();
        (subject, bench)
    }

    fn fresh(&self) -> Bench<Counting<B>> {
        let permits = self.permits.into();
        let mut bench = Bench::new(SemaphoreSpec {
            permits,
            release_by: ReleaseBy::Holder,
        })
        .expect("the spec is valid");
        if let Some(permits) = self.added.checked_sub(self.forgotten) {
            ask(
                &mut bench,
                ONE,
                AddPermits {
                    permits: permits.into(),
                },
            )
            .expect("the sum is valid");
        } else {
            let permits = self.forgotten - self.added;
            let grant = bench.call(
                ONE,
                AcquireMany {
                    permits: permits.into(),
                },
            );
            ask(
                &mut bench,
                ONE,
                Forget {
                    grant: Proof::own(grant),
                    permits: permits.into(),
                },
            )
            .expect("the permits exist");
        }
        if self.closed {
            ask(&mut bench, ONE, Close);
        }
        bench
    }

    fn call(
        &mut self,
        bench: &mut Bench<Counting<B>>,
        schedule: &mut Schedule,
        session: u64,
        timeout: Option<Duration>,
    ) -> (CallId, Option<&'static str>) {
        if schedule.asks() {
            let permits = schedule.random.random_range(0_u32..=6);
            let id = put(
                bench,
                session,
                AcquireMany {
                    permits: permits.into(),
                },
                timeout,
            );
            self.wants.push((id, permits));
            return (id, Some("acquire"));
        }
        (self.disturb(bench, schedule, session, timeout), None)
    }

    fn grants(
        &self,
        bench: &Bench<Counting<B>>,
        made: CallId,
        line: Option<&'static str>,
    ) -> Vec<CallId> {
        let granted = line.is_some() && matches!(bench.reply::<AcquireMany>(made), Some(Ok(Ok(_))));
        Vec::from_iter(granted.then_some(made))
    }

    fn assert_nothing_fits(
        &self,
        bench: &mut Bench<Counting<B>>,
        waiting: &[(CallId, &'static str)],
    ) {
        let status: SemaphoreStatus = ask(bench, OBSERVER, GetSemaphoreStatus);
        let there_are = u64::from(self.permits + self.added - self.forgotten);
        assert_eq!(status.available + status.held, there_are, "{status:?}");
        assert_eq!(status.waiting, number(waiting.len()), "{waiting:?}");
        let Some((head, _)) = waiting.first() else {
            return;
        };
        let wants = self.wants.iter().find(|(id, _)| id == head);
        let fits = wants.is_none_or(|(_, permits)| u64::from(*permits) <= status.available);
        assert!(
            !fits && !status.is_closed,
            "{status:?}, but {wants:?} waits"
        );
    }

    fn probe(bench: &mut Bench<Counting<B>>) -> Vec<String> {
        let mut observed = vec![format!("{:?}", ask(bench, OTHER, GetSemaphoreStatus))];
        for permits in 0..=40 {
            let grant = bench.call_within(ONE, AcquireMany { permits }, Duration::ZERO);
            let granted = bench
                .reply::<AcquireMany>(grant)
                .expect("the call does not wait");
            observed.push(format!("{:?}", granted.map(|granted| granted.map(drop))));
            observed.push(format!(
                "{:?}",
                ask(
                    bench,
                    OTHER,
                    ReleasePermits {
                        grant: Proof::own(grant),
                        permits
                    }
                )
            ));
        }
        observed.push(format!(
            "{:?}",
            ask(bench, OTHER, AddPermits { permits: 1 })
        ));
        observed.push(format!("{:?}", ask(bench, OTHER, GetSemaphoreStatus)));
        observed
    }
}

/// A task queue, and whether it was closed.
#[derive(Default)]
pub(crate) struct QueueSubject {
    closed: Option<Option<TaskFault>>,
    /// All calls for jobs.
    workers: Vec<CallId>,
}

impl QueueSubject {
    fn job(bench: &Bench<TaskQueue>, worker: CallId) -> Option<CallId> {
        Self::jobs(bench, worker).last().copied()
    }

    /// Returns the jobs in the answer to a call.
    fn jobs(bench: &Bench<TaskQueue>, worker: CallId) -> Vec<CallId> {
        let jobs = bench.reply::<Next>(worker).and_then(Result::ok).flatten();
        let jobs = jobs.unwrap_or_default().into_iter();
        jobs.map(|job| job.id.into()).collect()
    }

    /// Returns the last job of the session, or any other call.
    fn finished(
        &self,
        bench: &Bench<TaskQueue>,
        schedule: &mut Schedule,
        session: u64,
    ) -> Finished {
        let mut own = self.workers.iter().rev().copied();
        let own = own.find(|worker| worker.session().number() == session);
        let job = own.and_then(|worker| Self::job(bench, worker));
        Finished {
            job: job.unwrap_or_else(|| schedule.any_call()).into(),
            outcome: JobOutcome::Done(Blob::default()),
        }
    }
}

impl Subject for QueueSubject {
    type Kind = TaskQueue;

    fn make(_: &mut Schedule) -> (Self, Bench<TaskQueue>) {
        let subject = Self::default();
        let bench = subject.fresh();
        (subject, bench)
    }

    fn fresh(&self) -> Bench<TaskQueue> {
        let mut bench = Bench::new(()).expect("every spec is valid");
        if let Some(reason) = self.closed.clone() {
            ask(&mut bench, ONE, CloseTasks { reason });
        }
        bench
    }

    fn call(
        &mut self,
        bench: &mut Bench<TaskQueue>,
        schedule: &mut Schedule,
        session: u64,
        timeout: Option<Duration>,
    ) -> (CallId, Option<&'static str>) {
        if schedule.asks() {
            let id = put(
                bench,
                session,
                task(schedule.random.random_range(0..=2)),
                timeout,
            );
            return (id, Some("submit"));
        }
        let finished = self.finished(bench, schedule, session);
        match schedule.random.random_range(0..50) {
            0 => {
                let reason = schedule.random.random_bool(0.5);
                let reason = reason.then_some(TaskFault::Terminated);
                self.closed = Some(reason.clone());
                (put(bench, session, CloseTasks { reason }, timeout), None)
            }
            1..=9 => (put(bench, session, finished, timeout), None),
            10..=12 => {
                let jobs = vec![schedule.any_call().into(), finished.job];
                (put(bench, session, HandBack { jobs }, timeout), None)
            }
            lot => {
                let finished = (lot < 30).then_some(finished);
                let most = schedule.random.random_range(0..=4);
                let id = put(bench, session, Next { finished, most }, timeout);
                self.workers.push(id);
                (id, Some("next"))
            }
        }
    }

    fn grants(
        &self,
        bench: &Bench<TaskQueue>,
        made: CallId,
        line: Option<&'static str>,
    ) -> Vec<CallId> {
        if line != Some("next") || !matches!(bench.reply::<Next>(made), Some(Ok(_))) {
            return Vec::new();
        }
        let jobs = Self::jobs(bench, made);
        // A call without a job was not granted.
        let worker = jobs.first().map(|_| made);
        worker.into_iter().chain(jobs).collect()
    }

    fn assert_nothing_fits(
        &self,
        bench: &mut Bench<TaskQueue>,
        waiting: &[(CallId, &'static str)],
    ) {
        let status: TaskQueueStatus = ask(bench, OBSERVER, GetTaskQueueStatus);
        let idle = waiting.iter().filter(|(_, line)| *line == "next").count();
        let jobs = waiting.len() - idle;
        assert_eq!(status.idle, number(idle), "{waiting:?}");
        // A running job may have been withdrawn by its submitter.
        let jobs = number(jobs);
        let is_right = (status.waiting..=status.waiting + status.running).contains(&jobs);
        assert!(is_right, "{status:?}, {waiting:?}");
        assert!(status.idle == 0 || status.waiting == 0, "{status:?}");
        let is_over = self.closed.is_some() && status.waiting == jobs;
        assert!(status.idle == 0 || !is_over, "{status:?}");
    }

    fn probe(bench: &mut Bench<TaskQueue>) -> Vec<String> {
        let mut observed = vec![format!("{:?}", ask(bench, OTHER, GetTaskQueueStatus))];
        let early = bench.call(ONE, next());
        let [first, second] = [0, 1].map(|retries| bench.call(OTHER, task(retries)));
        let late = bench.call(ONE, next());
        for worker in [early, late] {
            let job = Self::job(bench, worker);
            let which = job.map(|job| [first, second].iter().position(|task| *task == job));
            observed.push(format!("{} {which:?}", bench.is_answered(worker)));
        }
        bench.hang_up(ONE);
        for submitted in [first, second] {
            observed.push(format!("{:?}", bench.reply::<Submit>(submitted)));
        }
        observed.push(format!("{:?}", ask(bench, OTHER, GetTaskQueueStatus)));
        observed
    }
}

fn task(retries: u32) -> Submit {
    Submit {
        chunk: Chunk {
            task: "task".to_owned(),
            arguments: Blob::from(vec![7]),
        },
        rule: (retries > 0).then_some(TaskRule {
            limit: None,
            retry: Some(RetryRule {
                attempts: retries + 1,
                deaths: true,
                panics: false,
                transient: false,
                first_pause: 0,
                longest_pause: 0,
            }),
        }),
        series: None,
    }
}

fn next() -> Next {
    Next {
        finished: None,
        most: 1,
    }
}
