//! A condition on the bench, and a record of the state of each call and each notification.
//!
//! The record does not predict grants: it records them, and checks that the rules allow them.
//! Invariant: after each step every counted notification is carried by one call, was used, or was
//! dropped when its set had no sleeper.

use crate::schedule::proof;
use std::{thread, time::Duration};

use lockkeeper_actors::{
    Bench, CallId, Fault, Fence, Operation, Proof, Refusal, Serve, SessionId,
    sync::{
        Acquire, Adopt, Condition, CountSleepers, ForceUnlock, GetLockStatus, Granted, LockStatus,
        MarkConsistent, Notify, Release, ReleaseBy, Sleep, Wake, Woken,
    },
};

use crate::condition::steps::{AsksFor, Entry, Patience, Place, Set, Step};

/// The time between two ticks.
const TICK: Duration = Duration::from_secs(1);

/// The session that asks for the state and forces the lock open.
const OBSERVER: u64 = 1 << 32;

/// The counts of counted notifications.
#[derive(Clone, Copy, Debug, Default)]
struct Notifications {
    given: u64,
    used: u64,
    /// Notifications that were dropped when their set had no sleeper.
    left: u64,
}

pub(crate) struct Record {
    steps: Vec<Step>,
    bench: Bench<Condition>,
    entries: Vec<Entry>,
    /// The sleeping calls, in order.
    asleep: Vec<usize>,
    line: Vec<usize>,
    inside: Option<usize>,
    notifications: Notifications,
    last_fence: Fence,
}

impl Record {
    pub(crate) fn new() -> Self {
        Self {
            steps: Vec::new(),
            bench: Bench::new(ReleaseBy::Holder).expect("every spec is valid"),
            entries: Vec::new(),
            asleep: Vec::new(),
            line: Vec::new(),
            inside: None,
            notifications: Notifications::default(),
            last_fence: Fence::new(0),
        }
    }

    /// Takes steps, and checks the state only after the last one: each earlier step is the last one
    /// of another schedule.
    pub(crate) fn replay(steps: &[Step]) -> Self {
        let mut record = Self::new();
        for step in steps {
            record.take(*step);
        }
        record.check();
        record
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn asleep(&self) -> &[usize] {
        &self.asleep
    }

    pub(crate) fn line(&self) -> &[usize] {
        &self.line
    }

    pub(crate) const fn inside(&self) -> Option<usize> {
        self.inside
    }

    /// Returns whether a step is possible.
    pub(crate) fn allows(&self, step: Step) -> bool {
        let is_live = |session: u64| {
            let mut live = self
                .entries
                .iter()
                .filter(|entry| entry.place != Place::Over);
            live.any(|entry| entry.id.session().number() == session)
        };
        match step {
            Step::Acquire(..) | Step::Tick | Step::Misuse => true,
            Step::ForceUnlock => self.inside.is_some(),
            Step::HangUp(session) => is_live(session),
            Step::Withdraw(call) => self.entries[call].place != Place::Over,
            Step::Sleep(call, ..)
            | Step::NotifyOne(call, _)
            | Step::NotifyAll(call, _)
            | Step::Release(call)
            | Step::Adopt(_, call) => self.inside == Some(call),
        }
    }

    pub(crate) fn take(&mut self, step: Step) {
        self.steps.push(step);
        match step {
            Step::Acquire(session, patience) => {
                let id = self.put(session, Acquire, patience);
                self.enter(id, AsksFor::Lock, Place::InLine(None), patience);
            }
            Step::Sleep(call, set, patience) => {
                let (grant, name) = (self.entries[call].id, set.name());
                let sleep = Sleep {
                    grant: Proof::own(grant),
                    set: name,
                };
                let id = self.put(grant.session().number(), sleep, patience);
                self.leave(call);
                self.enter(id, AsksFor::Sleep, Place::Asleep(set), patience);
            }
            Step::NotifyOne(call, set) => self.notify(call, set, Some(1)),
            Step::NotifyAll(call, set) => self.notify(call, set, None),
            Step::Release(call) => {
                let grant = self.entries[call].id;
                let session = grant.session().number();
                assert_eq!(
                    self.ask(
                        session,
                        Release {
                            grant: proof(session, grant)
                        }
                    ),
                    Ok(())
                );
                self.leave(call);
            }
            Step::Adopt(session, call) => self.adopt(session, call),
            Step::Withdraw(call) => {
                self.bench.withdraw(self.entries[call].id);
                if self.entries[call].place != Place::Inside {
                    self.entries[call].answers = 1;
                    assert_eq!(self.fault(call), Some(Fault::Withdrawn));
                }
                self.vanish(&[call]);
            }
            Step::HangUp(session) => {
                self.bench.hang_up(session);
                let calls = 0..self.entries.len();
                let theirs = |call: &usize| self.entries[*call].id.session().number() == session;
                let mut calls: Vec<usize> = calls.filter(theirs).collect();
                // The order in which notifications are passed on is not promised. The condition
                // passes on the holder's last.
                calls.sort_by_key(|call| self.inside == Some(*call));
                self.vanish(&calls);
            }
            Step::Tick => self.tick(),
            Step::ForceUnlock => {
                assert!(self.ask(OBSERVER, ForceUnlock));
                let call = self.inside.expect("a call holds the lock");
                assert!(self.bench.is_revoked(self.entries[call].id));
                self.vanish(&[call]);
            }
            Step::Misuse => self.misuse(),
        }
        self.note_grant();
    }

    fn put<O: Operation>(&mut self, session: u64, operation: O, patience: Patience) -> CallId
    where
        Condition: Serve<O>,
    {
        match patience {
            Patience::Endless => self.bench.call(session, operation),
            Patience::UntilTick => self.bench.call_within(session, operation, TICK),
        }
    }

    /// Makes a call that is answered at once.
    fn ask<O: Operation>(&mut self, session: u64, operation: O) -> O::Reply
    where
        Condition: Serve<O>,
    {
        let id = self.bench.call(session, operation);
        assert_eq!(self.bench.times_answered(id), 1);
        let observed = self
            .bench
            .reply::<O>(id)
            .expect("the call is answered at once");
        observed.expect("no fault")
    }

    fn enter(&mut self, id: CallId, asks_for: AsksFor, place: Place, patience: Patience) {
        let call = self.entries.len();
        self.entries.push(Entry {
            id,
            place,
            carries: None,
            patience,
            asks_for,
            answers: 0,
        });
        match place {
            Place::Asleep(_) => self.asleep.push(call),
            Place::InLine(_) => self.line.push(call),
            Place::Inside | Place::Over => {}
        }
    }

    /// A call that releases the lock, or sleeps, has used its notification.
    fn leave(&mut self, call: usize) {
        let entry = &mut self.entries[call];
        entry.place = Place::Over;
        self.notifications.used += u64::from(entry.carries.take().is_some());
        self.inside = None;
    }

    /// Ends calls that have not used their notifications: the remaining sleepers must get them.
    fn vanish(&mut self, calls: &[usize]) {
        let is_there = |call: &usize| !calls.contains(call);
        self.asleep.retain(is_there);
        self.line.retain(is_there);
        self.inside = self.inside.filter(is_there);
        for call in calls {
            self.entries[*call].place = Place::Over;
            if let Some(set) = self.entries[*call].carries.take()
                && self.wake(set, Some(1)) == 0
            {
                self.notifications.left += 1;
            }
        }
    }

    fn wake(&mut self, set: Set, most: Option<u64>) -> u64 {
        let of_set = |call: &&usize| self.entries[**call].place == Place::Asleep(set);
        let of_set = self.asleep.iter().filter(of_set).copied();
        let most = most.map_or(usize::MAX, |most| usize::try_from(most).expect("a few"));
        let woken: Vec<usize> = of_set.take(most).collect();
        self.asleep.retain(|call| !woken.contains(call));
        for call in &woken {
            self.entries[*call].place = Place::InLine(Some(Wake::Notified));
            self.entries[*call].carries = (most < usize::MAX).then_some(set);
            self.line.push(*call);
        }
        u64::try_from(woken.len()).expect("few calls")
    }

    fn notify(&mut self, call: usize, set: Set, most: Option<u64>) {
        let (grant, name) = (self.entries[call].id, set.name());
        let session = grant.session().number();
        let notify = Notify {
            grant: proof(session, grant),
            set: name,
            most: most.map(i128::from),
        };
        let woken = self.ask(session, notify);
        assert_eq!(woken, Ok(self.wake(set, most)));
        self.notifications.given += woken.ok().filter(|_| most.is_some()).unwrap_or(0);
    }

    fn adopt(&mut self, session: u64, call: usize) {
        let grant = self.entries[call].id;
        let id = self.bench.call(
            session,
            Adopt {
                grant: proof(session, grant),
            },
        );
        assert!(self.bench.is_revoked(grant));
        // The adopter gets the notification that the previous holder carries.
        let carries = self.entries[call].carries.take();
        self.entries[call].place = Place::Over;
        let successor = self.entries.len();
        self.enter(id, AsksFor::Hold, Place::Inside, Patience::Endless);
        self.entries[successor].carries = carries;
        self.entries[successor].answers = 1;
        self.inside = Some(successor);
        self.note_fence(successor);
    }

    fn tick(&mut self) {
        self.bench.advance(TICK);
        let mut late: Vec<usize> = (0..self.entries.len()).collect();
        late.retain(|call| self.entries[*call].patience == Patience::UntilTick);
        // The order of equal deadlines is not promised. The bench orders them by id.
        late.sort_by_key(|call| self.entries[*call].id);
        for call in late {
            self.entries[call].patience = Patience::Endless;
            match self.entries[call].place {
                Place::Asleep(_) => {
                    self.asleep.retain(|sleeper| *sleeper != call);
                    self.entries[call].place = Place::InLine(Some(Wake::TimedOut));
                    self.line.push(call);
                }
                Place::InLine(None) => {
                    self.line.retain(|waiter| *waiter != call);
                    self.entries[call].place = Place::Over;
                    self.entries[call].answers = 1;
                    assert_eq!(self.fault(call), Some(Fault::TimedOut));
                }
                Place::InLine(Some(_)) | Place::Inside | Place::Over => {}
            }
        }
    }

    fn misuse(&mut self) {
        let stranger = CallId::new(SessionId::new(OBSERVER), 1 << 40);
        let outside = self
            .entries
            .iter()
            .filter(|entry| entry.place != Place::Inside);
        let mut grants: Vec<CallId> = outside.map(|entry| entry.id).collect();
        grants.push(stranger);
        for grant in grants {
            let not_held = Some(Refusal::NotHeld);
            assert_eq!(
                self.ask(
                    OBSERVER,
                    Release {
                        grant: Proof::own(grant)
                    }
                )
                .err(),
                not_held
            );
            assert_eq!(
                self.ask(
                    OBSERVER,
                    Adopt {
                        grant: Proof::own(grant)
                    }
                )
                .err(),
                not_held
            );
            for set in Set::ALL.map(Set::name) {
                let sleep = Sleep {
                    grant: Proof::own(grant),
                    set: set.clone(),
                };
                assert_eq!(self.ask(OBSERVER, sleep).err(), not_held);
                let most = Some(1);
                let notify = Notify {
                    grant: Proof::own(grant),
                    set,
                    most,
                };
                assert_eq!(self.ask(OBSERVER, notify).err(), not_held);
            }
        }
        if self.inside.is_none() {
            assert!(!self.ask(OBSERVER, ForceUnlock));
        }
        self.bench.withdraw(stranger);
        for entry in &self.entries {
            if entry.place == Place::Over {
                self.bench.withdraw(entry.id);
            }
        }
    }

    fn fault(&self, call: usize) -> Option<Fault> {
        let id = self.entries[call].id;
        match self.entries[call].asks_for {
            AsksFor::Lock => self.bench.reply::<Acquire>(id)?.err(),
            AsksFor::Sleep => self.bench.reply::<Sleep>(id)?.err(),
            AsksFor::Hold => self.bench.reply::<Adopt>(id)?.err(),
        }
    }

    /// Finds the granted call. It must be the first in line, and no call may hold the lock.
    fn note_grant(&mut self) {
        let waits = |call: &usize| match self.entries[*call].place {
            Place::Asleep(_) | Place::InLine(_) => true,
            Place::Inside | Place::Over => false,
        };
        let is_answered = |call: &usize| self.bench.is_answered(self.entries[*call].id);
        let calls = 0..self.entries.len();
        let granted: Vec<usize> = calls.filter(waits).filter(is_answered).collect();
        for call in granted {
            assert_eq!(
                self.inside, None,
                "{call} was granted while another call holds the lock"
            );
            assert_eq!(
                self.line.first(),
                Some(&call),
                "the granted call was not the first in line"
            );
            self.line.remove(0);
            self.inside = Some(call);
            self.note_fence(call);
            self.entries[call].place = Place::Inside;
            self.entries[call].answers = 1;
        }
    }

    fn note_fence(&mut self, call: usize) {
        let Entry {
            id,
            asks_for,
            place,
            ..
        } = self.entries[call];
        let granted: Granted = match asks_for {
            AsksFor::Lock => self.bench.reply::<Acquire>(id).unwrap().unwrap().unwrap(),
            AsksFor::Hold => self.bench.reply::<Adopt>(id).unwrap().unwrap().unwrap(),
            AsksFor::Sleep => {
                let woken = self.bench.reply::<Sleep>(id).unwrap().unwrap().unwrap();
                let Woken { granted, wake } = woken;
                assert_eq!(
                    place,
                    Place::InLine(Some(wake)),
                    "{call} was woken by the wrong cause"
                );
                granted
            }
        };
        assert!(granted.fence > self.last_fence);
        self.last_fence = granted.fence;
    }

    /// Checks the invariants after a step.
    pub(crate) fn check(&mut self) {
        for Entry { id, answers, .. } in &self.entries {
            assert_eq!(self.bench.times_answered(*id), *answers, "{id:?}");
        }
        assert!(self.inside.is_some() || self.line.is_empty(), "stranded");
        let LockStatus {
            is_held, waiting, ..
        } = self.ask(OBSERVER, GetLockStatus);
        assert_eq!(is_held, self.inside.is_some());
        assert_eq!(waiting, number(self.line.len()));
        for set in Set::ALL {
            let asleep = self
                .ask(OBSERVER, CountSleepers { set: set.name() })
                .expect("the name is short");
            let of_set = |call: &&usize| self.entries[**call].place == Place::Asleep(set);
            assert_eq!(asleep, number(self.asleep.iter().filter(of_set).count()));
        }
        let carry = self.entries.iter().filter(|entry| entry.carries.is_some());
        let carried = number(carry.count());
        let Notifications { given, used, left } = self.notifications;
        assert_eq!(given, used + left + carried);
    }

    /// Grants the lock to all waiters, one after the other, without further notifications.
    pub(crate) fn settle(&mut self) {
        while let Some(call) = self.inside {
            self.take(Step::Release(call));
            self.check();
        }
    }

    /// Returns what woke a sleeper that has acquired the lock again.
    pub(crate) fn wake_of(&self, call: usize) -> Option<Wake> {
        let observed = self.bench.reply::<Sleep>(self.entries[call].id)?;
        Some(observed.ok()?.ok()?.wake)
    }

    /// Ends all calls, and checks that no state is left.
    pub(crate) fn end(mut self) {
        let mut rounds = 0..100;
        loop {
            rounds.next().expect("all calls end");
            let sleeper = self.asleep.first().map(|call| self.entries[*call].place);
            match (self.inside, sleeper) {
                (Some(call), Some(Place::Asleep(set))) => self.take(Step::NotifyAll(call, set)),
                (Some(call), _) => self.take(Step::Release(call)),
                (None, Some(_)) => self.take(Step::Acquire(OBSERVER, Patience::Endless)),
                (None, None) => break,
            }
            self.check();
        }
        assert!(self.entries.iter().all(|entry| entry.place == Place::Over));
        let used = probe(&mut self.bench);
        assert_eq!(
            used,
            probe(&mut Self::new().bench),
            "the condition differs from a fresh one"
        );
    }
}

/// Prints the steps when a check fails.
impl Drop for Record {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("after {:?}", self.steps);
        }
    }
}

fn number(of: usize) -> u64 {
    u64::try_from(of).expect("few calls")
}

/// Returns the answers of the condition to two new callers.
fn probe(bench: &mut Bench<Condition>) -> String {
    let [one, other] = [OBSERVER + 1, OBSERVER + 2];
    let set = String::new;
    let first = bench.call(one, Acquire);
    bench.call(
        one,
        MarkConsistent {
            grant: Proof::own(first),
        },
    );
    let sleep = Sleep {
        grant: Proof::own(first),
        set: set(),
    };
    let sleeper = bench.call(one, sleep);
    let second = bench.call(other, Acquire);
    let asleep = bench.call(other, CountSleepers { set: set() });
    let notify = Notify {
        grant: Proof::own(second),
        set: set(),
        most: Some(9),
    };
    let notified = bench.call(other, notify);
    bench.call(
        other,
        Release {
            grant: Proof::own(second),
        },
    );
    let woken = bench.reply::<Sleep>(sleeper).map(|woken| {
        let Woken { granted, wake } = woken.unwrap().unwrap();
        (wake, granted.abandoned)
    });
    bench.call(
        one,
        Release {
            grant: Proof::own(sleeper),
        },
    );
    let status = bench.call(other, GetLockStatus);
    format!(
        "{:?} {:?} {woken:?} {:?}",
        bench.reply::<CountSleepers>(asleep),
        bench.reply::<Notify>(notified),
        bench.reply::<GetLockStatus>(status)
    )
}
