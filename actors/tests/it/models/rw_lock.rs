//! The readers-writer lock against a reference: holders and waiters, in two lists.
//!
//! The model knows the lock only through its calls and their answers.

use std::time::Duration;

use lockkeeper_actors::{
    Bench, CallId, Fault, Refusal,
    sync::{
        Access, AcquireFor, CountHolders, Downgrade, ForceUnlock, Granted, MarkConsistent, Release,
        ReleaseBy, RwLock, RwLockStatus, Upgrade,
    },
};
use rand::Rng;

use crate::{
    models::{
        Reference, Said, agree,
        answers::answer,
        grants::{Grants, Left},
    },
    schedule::{Schedule, proof, put},
};

#[test]
fn rw_lock_agrees_with_its_reference() {
    agree::<RwReference>(
        "rw_lock_agrees_with_its_reference",
        900,
        &[
            "readers that enter together",
            "a reader behind a writer that waits",
            "an upgradable one beside readers",
            "an upgradable one behind another",
            "an upgrade at once",
            "an upgrade at once, before others",
            "an upgrade that waited",
            "an upgrade by another session",
            "an upgrade of a reader",
            "an upgrade of a writer",
            "an upgrade of what is being upgraded",
            "an upgrade that is given up",
            "an upgrade that is undone",
            "an upgrade that is undone with its hold",
            "an upgrade whose hold is undone while it waits",
            "an upgrade whose hold is released while it waits",
            "a downgraded writer",
            "a downgraded upgradable one",
            "a downgraded upgrade",
            "a downgrade that lets others in",
            "a downgrade to as much or more",
            "a downgrade of what is being upgraded",
            "a downgrade of what is not held",
            "a release by another session",
            "a release of a waiter",
            "a release of what is over",
            "a writer that died",
            "an upgraded writer that died",
            "readers that died",
            "a marked grant",
            "a mark taken off",
            "a lock forced open",
            "an upgrade forced out",
            "long line",
        ],
    );
}

#[derive(Clone, Copy, Debug)]
enum RwCall {
    Acquire(Access),
    Release(CallId),
    Upgrade(CallId),
    Downgrade(CallId, Access),
    MarkConsistent(CallId),
    ForceUnlock,
    Status,
}

#[derive(Debug, PartialEq)]
enum RwTold {
    Granted(Option<Left>),
    Done,
    /// It is held, and not in a way that allows it.
    Invalid,
    Refused(Refusal),
    WasHeld(bool),
    Status(RwLockStatus),
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Hold {
    id: CallId,
    access: Access,
    since: Duration,
    /// The call and the time of the hold that this one was upgraded from.
    was: Option<(CallId, Duration)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Want {
    Hold(Access),
    UpgradeOf(CallId),
}

/// The first in the line enters once its mode fits beside those inside.
#[derive(Default)]
struct RwReference {
    /// In the order of their grants.
    inside: Vec<Hold>,
    line: Vec<(CallId, Want)>,
    left: Option<Left>,
    crowd: usize,
}

impl RwReference {
    fn are_inside(&self, access: Access) -> bool {
        self.inside.iter().any(|hold| hold.access == access)
    }

    fn find(&self, id: CallId) -> Option<Hold> {
        self.inside.iter().find(|hold| hold.id == id).copied()
    }

    fn may_enter(&self, want: Want) -> bool {
        match want {
            Want::Hold(Access::Read) => !self.are_inside(Access::Write),
            Want::Hold(Access::Upgradable) => {
                !self.are_inside(Access::Write) && !self.are_inside(Access::Upgradable)
            }
            Want::Hold(Access::Write) => self.inside.is_empty(),
            Want::UpgradeOf(grant) => self.inside.iter().all(|hold| hold.id == grant),
        }
    }

    fn let_in(&mut self, said: &mut Said<'_, RwTold>) -> usize {
        let mut entered = Vec::new();
        while !self.line.is_empty() && self.may_enter(self.line[0].1) {
            let (id, want) = self.line.remove(0);
            let (access, was) = match want {
                Want::Hold(access) => (access, None),
                Want::UpgradeOf(grant) => {
                    let was = self.find(grant).expect("it is inside");
                    self.inside.clear();
                    (Access::Write, Some((was.id, was.since)))
                }
            };
            if access == Access::Upgradable && !self.inside.is_empty() {
                said.tally.note("an upgradable one beside readers");
            }
            if self.left.is_some() {
                said.tally.note("a marked grant");
            }
            let since = said.now;
            self.inside.push(Hold {
                id,
                access,
                since,
                was,
            });
            entered.push(access);
            said.reply(id, RwTold::Granted(self.left));
        }
        if entered.starts_with(&[Access::Read, Access::Read]) {
            said.tally.note("readers that enter together");
        }
        self.note_line(said);
        entered.len()
    }

    fn note_line(&self, said: &mut Said<'_, RwTold>) {
        if self.line.len() > 64 {
            said.tally.note("long line");
        }
        let Some((_, head)) = self.line.first() else {
            return;
        };
        let reads_wait = (self.line.iter()).any(|(_, want)| *want == Want::Hold(Access::Read));
        if *head == Want::Hold(Access::Write) && reads_wait && !self.are_inside(Access::Write) {
            said.tally.note("a reader behind a writer that waits");
        }
        if *head == Want::Hold(Access::Upgradable) && self.are_inside(Access::Upgradable) {
            said.tally.note("an upgradable one behind another");
        }
    }

    fn stands_in_line(&self, id: CallId) -> bool {
        self.line.iter().any(|(waiter, _)| *waiter == id)
    }

    fn is_being_upgraded(&self, grant: CallId) -> bool {
        (self.line.iter()).any(|(_, want)| *want == Want::UpgradeOf(grant))
    }

    /// Tells an upgrading call that its hold is over.
    fn refuse_upgrade_of(&mut self, grant: CallId, said: &mut Said<'_, RwTold>) -> bool {
        let of = |(_, want): &(CallId, Want)| *want == Want::UpgradeOf(grant);
        let place = self.line.iter().position(of);
        if let Some(place) = place {
            let (upgrade, _) = self.line.remove(place);
            said.reply(upgrade, RwTold::Refused(Refusal::NotHeld));
        }
        place.is_some()
    }

    fn release(&mut self, id: CallId, grant: CallId, said: &mut Said<'_, RwTold>) {
        let hold = self.find(grant);
        match &hold {
            Some(_) if grant.session() != id.session() => {
                said.tally.note("a release by another session");
            }
            Some(_) => {}
            None if self.stands_in_line(grant) => said.tally.note("a release of a waiter"),
            None => said.tally.note("a release of what is over"),
        }
        self.inside.retain(|hold| hold.id != grant);
        if let Some(hold) = &hold {
            let former = hold.was.map(|(grant, _)| grant);
            for over in [Some(grant), former].into_iter().flatten() {
                said.end(id, over);
            }
        }
        said.reply(id, done(hold.is_some()));
        if hold.is_some() && self.refuse_upgrade_of(grant, said) {
            (said.tally).note("an upgrade whose hold is released while it waits");
        }
        self.let_in(said);
    }

    fn upgrade(&mut self, id: CallId, grant: CallId, said: &mut Said<'_, RwTold>) {
        let Some(hold) = self.find(grant) else {
            return said.reply(id, done(false));
        };
        if grant.session() != id.session() {
            said.tally.note("an upgrade by another session");
            return said.reply(id, done(false));
        }
        let refused = match hold.access {
            Access::Read => Some("an upgrade of a reader"),
            Access::Write => Some("an upgrade of a writer"),
            Access::Upgradable if self.is_being_upgraded(grant) => {
                Some("an upgrade of what is being upgraded")
            }
            Access::Upgradable => None,
        };
        if let Some(refused) = refused {
            said.tally.note(refused);
            return said.reply(id, RwTold::Invalid);
        }
        let others_wait = !self.line.is_empty();
        self.line.insert(0, (id, Want::UpgradeOf(grant)));
        let waits = !self.may_enter(self.line[0].1);
        said.tally.note(match (waits, others_wait) {
            (true, _) => "an upgrade that waited",
            (false, true) => "an upgrade at once, before others",
            (false, false) => "an upgrade at once",
        });
        self.let_in(said);
    }

    fn downgrade(&mut self, id: CallId, grant: CallId, to: Access, said: &mut Said<'_, RwTold>) {
        if grant.session() != id.session() {
            said.tally.note("a downgrade by another session");
            return said.reply(id, done(false));
        }
        let is_being_upgraded = self.is_being_upgraded(grant);
        let Some(hold) = self.inside.iter_mut().find(|hold| hold.id == grant) else {
            said.tally.note("a downgrade of what is not held");
            return said.reply(id, done(false));
        };
        let strength = |access| match access {
            Access::Read => 0,
            Access::Upgradable => 1,
            Access::Write => 2,
        };
        if strength(to) >= strength(hold.access) {
            said.tally.note("a downgrade to as much or more");
            return said.reply(id, RwTold::Invalid);
        }
        if is_being_upgraded {
            said.tally.note("a downgrade of what is being upgraded");
            return said.reply(id, RwTold::Invalid);
        }
        said.tally.note(match (hold.access, hold.was) {
            (Access::Write, None) => "a downgraded writer",
            (Access::Write, Some(_)) => "a downgraded upgrade",
            (Access::Read | Access::Upgradable, _) => "a downgraded upgradable one",
        });
        (hold.access, hold.was) = (to, None);
        said.reply(id, RwTold::Done);
        if self.let_in(said) > 0 {
            said.tally.note("a downgrade that lets others in");
        }
    }

    fn force_open(&mut self, id: CallId, said: &mut Said<'_, RwTold>) {
        let evicted = std::mem::take(&mut self.inside);
        if !evicted.is_empty() {
            said.tally.note("a lock forced open");
        }
        said.reply(id, RwTold::WasHeld(!evicted.is_empty()));
        for hold in evicted {
            said.revoked.push(hold.id);
            said.revoked.extend(hold.was.map(|(grant, _)| grant));
            if self.refuse_upgrade_of(hold.id, said) {
                said.tally.note("an upgrade forced out");
            }
        }
        self.let_in(said);
    }

    fn status(&self) -> RwLockStatus {
        let count = |of: usize| u64::try_from(of).expect("short lists");
        let reads = |hold: &&Hold| hold.access == Access::Read;
        let mut status = RwLockStatus::default();
        status.readers = count(self.inside.iter().filter(reads).count());
        status.upgradable = self.are_inside(Access::Upgradable);
        status.writer = self.are_inside(Access::Write);
        status.waiting = count(self.line.len());
        status
    }
}

fn done(done: bool) -> RwTold {
    let refused = RwTold::Refused(Refusal::NotHeld);
    if done { RwTold::Done } else { refused }
}

fn told<T>(told: Result<T, Refusal>, read: impl FnOnce(T) -> RwTold) -> RwTold {
    match told {
        Ok(value) => read(value),
        Err(Refusal::Invalid(_)) => RwTold::Invalid,
        Err(refusal) => RwTold::Refused(refusal),
    }
}

impl Reference for RwReference {
    type Kind = RwLock;
    type Call = RwCall;
    type Told = RwTold;
    type Memory = Grants;

    fn make(schedule: &mut Schedule) -> (Self, Bench<RwLock>) {
        let mut reference = Self::default();
        if schedule.random.random_bool(0.1) {
            reference.crowd = schedule.random.random_range(70..=90);
        }
        (
            reference,
            Bench::new(ReleaseBy::Holder).expect("a lock needs nothing"),
        )
    }

    fn prelude(&self, schedule: &mut Schedule) -> Vec<(u64, RwCall)> {
        let sessions = [(); 3].map(|()| schedule.join());
        let sessions = sessions.into_iter().cycle().take(self.crowd);
        sessions
            .map(|session| (session, RwCall::Acquire(draw_access(schedule))))
            .collect()
    }

    fn draw(&self, schedule: &mut Schedule) -> RwCall {
        if schedule.asks() && schedule.random.random_bool(0.6) {
            return RwCall::Acquire(draw_access(schedule));
        }
        let inside = self.inside.len();
        let grant = if inside > 0 && schedule.random.random_bool(0.8) {
            // The last one may be the upgradable one, or the writer.
            let last = schedule.random.random_bool(0.3);
            let place = schedule.random.random_range(0..inside);
            self.inside[if last { inside - 1 } else { place }].id
        } else {
            schedule.any_call()
        };
        match schedule.random.random_range(0..40) {
            0..=14 => RwCall::Release(grant),
            15..=25 => {
                let seniors = self.inside.iter().find(|hold| hold.access != Access::Read);
                let senior = seniors.filter(|_| schedule.random.random_bool(0.7));
                RwCall::Upgrade(senior.map_or(grant, |hold| hold.id))
            }
            26..=32 => RwCall::Downgrade(grant, draw_access(schedule)),
            33..=35 => RwCall::MarkConsistent(grant),
            36 => RwCall::ForceUnlock,
            _ => RwCall::Status,
        }
    }

    fn send(
        bench: &mut Bench<RwLock>,
        session: u64,
        call: &RwCall,
        timeout: Option<Duration>,
    ) -> CallId {
        match *call {
            RwCall::Acquire(access) => put(bench, session, AcquireFor { access }, timeout),
            RwCall::Release(grant) => put(
                bench,
                session,
                Release {
                    grant: proof(session, grant),
                },
                timeout,
            ),
            RwCall::Upgrade(grant) => put(
                bench,
                session,
                Upgrade {
                    grant: proof(session, grant),
                },
                timeout,
            ),
            RwCall::Downgrade(grant, to) => put(
                bench,
                session,
                Downgrade {
                    grant: proof(session, grant),
                    to,
                },
                timeout,
            ),
            RwCall::MarkConsistent(grant) => put(
                bench,
                session,
                MarkConsistent {
                    grant: proof(session, grant),
                },
                timeout,
            ),
            RwCall::ForceUnlock => put(bench, session, ForceUnlock, timeout),
            RwCall::Status => put(bench, session, CountHolders, timeout),
        }
    }

    fn read(
        bench: &Bench<RwLock>,
        id: CallId,
        call: &RwCall,
        grants: &mut Grants,
    ) -> Result<RwTold, Fault> {
        let granted =
            |Granted { fence, abandoned }| RwTold::Granted(grants.note(id, fence, abandoned));
        let done = |()| RwTold::Done;
        match call {
            RwCall::Acquire(_) => answer::<_, AcquireFor>(bench, id).map(|it| told(it, granted)),
            RwCall::Upgrade(_) => answer::<_, Upgrade>(bench, id).map(|it| told(it, granted)),
            RwCall::Release(_) => answer::<_, Release>(bench, id).map(|it| told(it, done)),
            RwCall::Downgrade(..) => answer::<_, Downgrade>(bench, id).map(|it| told(it, done)),
            RwCall::MarkConsistent(_) => {
                answer::<_, MarkConsistent>(bench, id).map(|it| told(it, done))
            }
            RwCall::ForceUnlock => answer::<_, ForceUnlock>(bench, id).map(RwTold::WasHeld),
            RwCall::Status => answer::<_, CountHolders>(bench, id).map(RwTold::Status),
        }
    }

    fn serve(&mut self, id: CallId, call: &RwCall, said: &mut Said<'_, RwTold>) {
        match *call {
            RwCall::Acquire(access) => {
                self.line.push((id, Want::Hold(access)));
                self.let_in(said);
            }
            RwCall::Release(grant) => self.release(id, grant, said),
            RwCall::Upgrade(grant) => self.upgrade(id, grant, said),
            RwCall::Downgrade(grant, to) => self.downgrade(id, grant, to, said),
            RwCall::MarkConsistent(grant) => {
                let holds = self.holds(grant);
                if holds && self.left.take().is_some() {
                    said.tally.note("a mark taken off");
                }
                said.reply(id, done(holds));
            }
            RwCall::ForceUnlock => self.force_open(id, said),
            RwCall::Status => said.reply(id, RwTold::Status(self.status())),
        }
    }

    fn undo(&mut self, id: CallId, fault: Fault, said: &mut Said<'_, RwTold>) {
        let of = |hold: &Hold| hold.id == id || hold.was.is_some_and(|(grant, _)| grant == id);
        if let Some(place) = self.line.iter().position(|(waiter, _)| *waiter == id) {
            if let (_, Want::UpgradeOf(_)) = self.line.remove(place) {
                said.tally.note("an upgrade that is given up");
            }
            said.fail(id, fault);
        } else if let Some(place) = self.inside.iter().position(of) {
            let hold = self.inside.remove(place);
            match hold.was {
                Some((grant, since)) if hold.id == id => {
                    said.tally.note("an upgrade that is undone");
                    self.inside.push(Hold {
                        id: grant,
                        access: Access::Upgradable,
                        since,
                        was: None,
                    });
                }
                Some(_) => said.tally.note("an upgrade that is undone with its hold"),
                None => {
                    if self.refuse_upgrade_of(id, said) {
                        (said.tally).note("an upgrade whose hold is undone while it waits");
                    }
                }
            }
        }
        self.let_in(said);
    }

    fn hang_up(&mut self, session: u64, said: &mut Said<'_, RwTold>) {
        let is_theirs = |id: CallId| id.session().number() == session;
        self.line.retain(|(waiter, _)| !is_theirs(*waiter));
        let theirs: Vec<Hold> = (self.inside.iter())
            .filter(|hold| is_theirs(hold.id))
            .copied()
            .collect();
        self.inside.retain(|hold| !is_theirs(hold.id));
        if theirs.len() > 1 {
            said.tally.note("readers that died");
        }
        for hold in theirs.iter().filter(|hold| hold.access == Access::Write) {
            said.tally.note(match hold.was {
                Some(_) => "an upgraded writer that died",
                None => "a writer that died",
            });
            self.left = Some(Left {
                grant: hold.id,
                held: said.now - hold.since,
            });
        }
        self.let_in(said);
    }

    fn waits(&self, id: CallId) -> bool {
        self.stands_in_line(id)
    }

    fn holds(&self, id: CallId) -> bool {
        self.find(id).is_some()
    }
}

fn draw_access(schedule: &mut Schedule) -> Access {
    match schedule.random.random_range(0..8) {
        0..=3 => Access::Read,
        4..=5 => Access::Upgradable,
        _ => Access::Write,
    }
}
