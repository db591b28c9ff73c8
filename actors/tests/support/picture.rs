//! A condition as a picture: who holds the lock, who stands in its line, who sleeps.
//!
//! A [`Trial`] takes the same steps with the picture and with a condition on the bench, and compares
//! them. A session has one call at a time, so it stands for its call.

use std::{collections::BTreeMap, time::Duration};

use lockkeeper_actors::{
    Bench, CallId, Fault,
    sync::{
        Acquire, Condition, CountSleepers, ForceUnlock, LockStatus, Notify, Release, Sleep, Status,
        Wake,
    },
};

/// What may happen next. The number is that of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Acquire(u64),
    /// In which set, and whether with a deadline.
    Sleep(u64, &'static str, bool),
    NotifyOne(u64, &'static str),
    NotifyAll(u64, &'static str),
    Release(u64),
    /// Its caller drops the call, which may have been answered without being seen.
    Drop(u64),
    Kill(u64),
    /// The time of all who sleep with a deadline is over.
    Tick,
    ForceUnlock,
}

const SETS: [&str; 2] = ["", "b"];
const SECOND: Duration = Duration::from_secs(1);

/// The session that asks for the state.
const OBSERVER: u64 = 99;

/// How a session came into the line of the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comer {
    Fresh,
    /// A notification, and the set that it is handed on to.
    Notified(Option<&'static str>),
    TimedOut,
}

#[derive(Clone, Copy, Debug)]
struct Holder {
    session: u64,
    came: Comer,
    /// Whether it has done nothing yet, so that its grant may not have been seen.
    is_new: bool,
}

#[derive(Clone, Copy, Debug)]
struct Sleeper {
    session: u64,
    set: &'static str,
    has_deadline: bool,
}

/// Who is where.
#[derive(Clone, Debug, Default)]
pub(crate) struct Picture {
    sessions: u64,
    asleep: Vec<Sleeper>,
    line: Vec<(u64, Comer)>,
    holder: Option<Holder>,
    dead: Vec<u64>,
    /// The sessions that have called, in order: others come one after the other.
    known: u64,
    occurred: Vec<&'static str>,
}

impl Picture {
    /// All that may happen next. Sessions come in the order of their numbers, since they are alike.
    pub(crate) fn possible(&self) -> Vec<Step> {
        let mut steps = vec![Step::Tick];
        for session in (1..=self.sessions.min(self.known + 1)).filter(|s| !self.dead.contains(s)) {
            let holds = self.holder.filter(|holder| holder.session == session);
            let waits = self.waits(session);
            if holds.is_none() && !waits {
                steps.push(Step::Acquire(session));
            }
            if waits || holds.is_some_and(|holder| holder.is_new) {
                steps.push(Step::Drop(session));
            }
            if holds.is_some() {
                steps.push(Step::Release(session));
                for set in SETS {
                    steps.push(Step::NotifyOne(session, set));
                    steps.push(Step::NotifyAll(session, set));
                    steps.push(Step::Sleep(session, set, false));
                }
                steps.push(Step::Sleep(session, "", true));
            }
            if session <= self.known {
                steps.push(Step::Kill(session));
            }
        }
        if self.holder.is_some() {
            steps.push(Step::ForceUnlock);
        }
        steps
    }

    pub(crate) fn occurred(&self) -> Vec<&'static str> {
        self.occurred.clone()
    }

    fn waits(&self, session: u64) -> bool {
        self.asleep.iter().any(|sleeper| sleeper.session == session)
            || self.line.iter().any(|(comer, _)| *comer == session)
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Acquire(session) => {
                self.note("acquire");
                self.known = self.known.max(session);
                self.line.push((session, Comer::Fresh));
            }
            Step::Sleep(session, set, has_deadline) => {
                self.note("sleep");
                self.holder = None;
                self.asleep.push(Sleeper {
                    session,
                    set,
                    has_deadline,
                });
            }
            Step::NotifyOne(_, set) => {
                self.note("notify one");
                self.touch();
                self.wake_one(set);
            }
            Step::NotifyAll(_, set) => {
                self.note("notify all");
                self.touch();
                let (woken, asleep) = self.asleep.iter().partition(|sleeper| sleeper.set == set);
                self.asleep = asleep;
                let woken: Vec<Sleeper> = woken;
                let woken = woken
                    .iter()
                    .map(|woken| (woken.session, Comer::Notified(None)));
                self.line.extend(woken);
            }
            Step::Release(_) => {
                self.note("release");
                self.holder = None;
            }
            Step::Drop(session) => {
                self.leave(
                    session,
                    ["drop of a sleeper", "drop in the line", "drop of a grant"],
                );
            }
            Step::Kill(session) => {
                self.dead.push(session);
                self.leave(
                    session,
                    ["death asleep", "death in the line", "death of the holder"],
                );
            }
            Step::Tick => self.tick(),
            Step::ForceUnlock => {
                self.note("force_unlock");
                if let Some(holder) = self.holder.take() {
                    self.let_in();
                    self.hand_on(holder.came);
                }
            }
        }
        self.let_in();
    }

    /// One that does something has seen its grant.
    fn touch(&mut self) {
        if let Some(holder) = &mut self.holder {
            holder.is_new = false;
        }
    }

    fn tick(&mut self) {
        self.note("time passes");
        let mut late: Vec<u64> = Vec::new();
        self.asleep.retain(|sleeper| {
            late.extend(sleeper.has_deadline.then_some(sleeper.session));
            !sleeper.has_deadline
        });
        // Those whose time ends together are woken in the order of their calls' ids.
        late.sort_unstable();
        if !late.is_empty() {
            self.note("woken by the end of its time");
        }
        for session in late {
            self.line.push((session, Comer::TimedOut));
            self.let_in();
        }
    }

    /// A session leaves, wherever it is: asleep, in the line, or inside.
    fn leave(&mut self, session: u64, [asleep, in_line, inside]: [&'static str; 3]) {
        let before = self.asleep.len();
        self.asleep.retain(|sleeper| sleeper.session != session);
        if self.asleep.len() < before {
            self.note(asleep);
        }
        if let Some(place) = self.line.iter().position(|(comer, _)| *comer == session) {
            self.note(in_line);
            let (_, came) = self.line.remove(place);
            self.hand_on(came);
        }
        if let Some(holder) = self.holder.filter(|holder| holder.session == session) {
            self.note(inside);
            self.holder = None;
            self.let_in();
            self.hand_on(holder.came);
        }
    }

    /// A notification that was not used goes to the next sleeper of its set.
    fn hand_on(&mut self, came: Comer) {
        if let Comer::Notified(Some(set)) = came {
            let handed_on = self.wake_one(set);
            self.note(if handed_on {
                "notification handed on"
            } else {
                "notification that nobody is left for"
            });
        }
    }

    fn wake_one(&mut self, set: &'static str) -> bool {
        let place = self.asleep.iter().position(|sleeper| sleeper.set == set);
        if let Some(place) = place {
            let woken = self.asleep.remove(place);
            self.line.push((woken.session, Comer::Notified(Some(set))));
            self.let_in();
        }
        place.is_some()
    }

    fn let_in(&mut self) {
        if self.holder.is_none() && !self.line.is_empty() {
            let (session, came) = self.line.remove(0);
            self.holder = Some(Holder {
                session,
                came,
                is_new: true,
            });
        }
    }

    fn note(&mut self, what: &'static str) {
        self.occurred.push(what);
    }
}

/// A picture and a condition that take the same steps.
pub(crate) struct Trial {
    picture: Picture,
    bench: Bench<Condition>,
    /// The last call of each session that waits, or that was granted and holds.
    calls: BTreeMap<u64, (CallId, Kind)>,
    /// All calls that could wait, of sessions that live.
    made: Vec<CallId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Acquire,
    Sleep,
}

impl Trial {
    /// Takes steps among so many sessions, and compares after the last of them.
    pub(crate) fn replay(path: &[Step], sessions: u64) -> Self {
        let mut trial = Self {
            picture: Picture {
                sessions,
                ..Picture::default()
            },
            bench: Bench::new(()).expect("a condition needs nothing"),
            calls: BTreeMap::new(),
            made: Vec::new(),
        };
        for step in path {
            trial.step(*step);
        }
        trial.compare(path);
        trial
    }

    pub(crate) const fn picture(&self) -> &Picture {
        &self.picture
    }

    pub(crate) fn take(&mut self, step: Step) {
        self.step(step);
        self.compare(&[step]);
    }

    fn grant(&self, session: u64) -> CallId {
        self.calls[&session].0
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Acquire(session) => {
                let id = self.bench.call(session, Acquire);
                self.enter(session, id, Kind::Acquire);
            }
            Step::Sleep(session, set, has_deadline) => {
                let (grant, set) = (self.grant(session), set.to_owned());
                let sleep = Sleep { grant, set };
                let id = if has_deadline {
                    self.bench.call_timeout(session, sleep, SECOND)
                } else {
                    self.bench.call(session, sleep)
                };
                self.enter(session, id, Kind::Sleep);
            }
            Step::NotifyOne(session, set) => self.notify(session, set, Some(1)),
            Step::NotifyAll(session, set) => self.notify(session, set, None),
            Step::Release(session) => {
                let grant = self.grant(session);
                let id = self.bench.call(session, Release { grant });
                assert_eq!(self.bench.reply::<Release>(id), Some(Ok(Ok(()))));
                self.calls.remove(&session);
            }
            Step::Drop(session) => {
                let (id, _) = self.calls.remove(&session).expect("it has a call");
                let was_answered = self.bench.is_answered(id);
                self.bench.withdraw(id);
                if !was_answered {
                    let told = self.bench.reply::<Release>(id);
                    assert_eq!(told, Some(Err(Fault::Withdrawn)));
                }
            }
            Step::Kill(session) => {
                self.calls.remove(&session);
                self.made.retain(|id| id.session().number() != session);
                self.bench.hang_up(session);
            }
            Step::Tick => self.bench.advance(SECOND),
            Step::ForceUnlock => {
                let holder = self.picture.holder.expect("somebody holds it").session;
                let grant = self.grant(holder);
                self.bench.call(OBSERVER, ForceUnlock);
                assert!(self.bench.is_revoked(grant));
                self.calls.remove(&holder);
            }
        }
        self.picture.take(step);
    }

    fn enter(&mut self, session: u64, id: CallId, kind: Kind) {
        self.calls.insert(session, (id, kind));
        self.made.push(id);
    }

    fn notify(&mut self, session: u64, set: &'static str, most: Option<u64>) {
        let of_set = |sleeper: &&Sleeper| sleeper.set == set;
        let asleep = self.picture.asleep.iter().filter(of_set).count();
        let asleep = u64::try_from(asleep).expect("few sleep");
        let (grant, set) = (self.grant(session), set.to_owned());
        let id = self.bench.call(session, Notify { grant, set, most });
        let woken = self.bench.reply::<Notify>(id).unwrap().unwrap();
        assert_eq!(woken, Ok(most.map_or(asleep, |most| most.min(asleep))));
    }

    /// Holds the picture against what everybody was told.
    fn compare(&mut self, steps: &[Step]) {
        let status = self.bench.call(OBSERVER, Status);
        let LockStatus { held, waiting, .. } = self.bench.reply::<Status>(status).unwrap().unwrap();
        assert_eq!(held, self.picture.holder.is_some(), "held, after {steps:?}");
        let line = u64::try_from(self.picture.line.len()).expect("a short line");
        assert_eq!(waiting, line, "in the line, after {steps:?}");
        for set in SETS {
            let count = self.bench.call(
                OBSERVER,
                CountSleepers {
                    set: set.to_owned(),
                },
            );
            let asleep = self.bench.reply::<CountSleepers>(count).unwrap().unwrap();
            let of_set = |sleeper: &&Sleeper| sleeper.set == set;
            let drawn = self.picture.asleep.iter().filter(of_set).count();
            assert_eq!(
                asleep,
                u64::try_from(drawn).unwrap(),
                "asleep in {set:?}, after {steps:?}"
            );
        }
        for (session, (id, kind)) in &self.calls {
            let holder = self
                .picture
                .holder
                .filter(|holder| holder.session == *session);
            let granted = holder.map(|holder| holder.came);
            assert_eq!(
                self.told(*id, *kind),
                granted.map(told_to),
                "{session}, after {steps:?}"
            );
        }
        for id in &self.made {
            assert!(
                self.bench.times_answered(*id) <= 1,
                "{id:?}, after {steps:?}"
            );
        }
    }

    /// What a caller was told: nothing yet, a grant, or what woke it.
    fn told(&self, id: CallId, kind: Kind) -> Option<Option<Wake>> {
        match kind {
            Kind::Acquire => {
                let granted = self.bench.reply::<Acquire>(id)?;
                granted.expect("no fault").expect("no refusal");
                Some(None)
            }
            Kind::Sleep => {
                let woken = self.bench.reply::<Sleep>(id)?;
                Some(Some(woken.expect("no fault").expect("no refusal").wake))
            }
        }
    }

    /// Lets everybody come to an end: nobody is stranded, and nothing is left.
    pub(crate) fn end(mut self) {
        let mut rounds = 0..100;
        while let Some(step) = self.picture.way_out() {
            rounds.next().expect("everybody comes to an end");
            self.take(step);
        }
        for id in &self.made {
            assert_eq!(
                self.bench.times_answered(*id),
                1,
                "{id:?} was never answered"
            );
        }
        let status = self.bench.call(OBSERVER, Status);
        let status = self.bench.reply::<Status>(status).unwrap().unwrap();
        assert_eq!(status, LockStatus::default());
    }
}

impl Picture {
    /// What brings those who wait nearer to their end, if anybody does.
    fn way_out(&self) -> Option<Step> {
        let next = self.asleep.first().map(|sleeper| sleeper.set);
        match (self.holder, next) {
            (Some(holder), Some(set)) => Some(Step::NotifyAll(holder.session, set)),
            (Some(holder), None) => Some(Step::Release(holder.session)),
            // A session that nobody has killed takes the lock to wake the others.
            (None, Some(_)) => Some(Step::Acquire(OBSERVER - 1)),
            (None, None) => None,
        }
    }
}

const fn told_to(came: Comer) -> Option<Wake> {
    match came {
        Comer::Fresh => None,
        Comer::Notified(_) => Some(Wake::Notified),
        Comer::TimedOut => Some(Wake::TimedOut),
    }
}
