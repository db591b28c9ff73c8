//! Compares the readers-writer lock with a reference, which has a list of holders and a list of
//! waiters.
//!
//! The model uses only the lock's calls and answers.

use std::time::Duration;

use lockkeeper_actors::{
    Bench, CallId, Fault, Refusal,
    sync::{
        Access, AcquireFor, Downgrade, ForceUnlock, GetRwLockStatus, Granted, MarkConsistent,
        Release, ReleaseBy, RwLock, RwLockStatus, Upgrade,
    },
};
use rand::Rng;

use crate::{
    models::{
        Effects, Reference, agree,
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
            "readers granted together",
            "a reader behind a waiting writer",
            "an upgradable reader beside readers",
            "an upgradable reader behind another",
            "an upgrade at once",
            "an upgrade at once, before others",
            "an upgrade that waited",
            "an upgrade by another session",
            "an upgrade of a reader",
            "an upgrade of a writer",
            "an upgrade of a hold that is being upgraded",
            "an upgrade withdrawn while it waits",
            "a granted upgrade withdrawn",
            "a granted upgrade withdrawn with its hold",
            "a waiting upgrade whose hold is withdrawn",
            "a waiting upgrade whose hold is released",
            "a downgraded writer",
            "a downgraded upgradable reader",
            "a downgraded upgraded writer",
            "a downgrade that grants others",
            "a downgrade to the same or a higher mode",
            "a downgrade of a hold that is being upgraded",
            "a downgrade of an ended hold",
            "a release by another session",
            "a release of a waiter",
            "a release of an ended hold",
            "a writer that died",
            "an upgraded writer that died",
            "readers that died",
            "a marked grant",
            "a mark removed",
            "a lock forced open",
            "a waiting upgrade ended by force",
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
enum RwAnswer {
    Granted(Option<Left>),
    Done,
    /// The hold's mode does not permit the operation.
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
    /// The call and the time of the hold before the upgrade.
    was: Option<(CallId, Duration)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Want {
    Hold(Access),
    UpgradeOf(CallId),
}

/// The first waiter is granted once its mode is compatible with the holders.
#[derive(Default)]
struct RwReference {
    /// The holders in the order of their grants.
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

    fn grant_waiters(&mut self, effects: &mut Effects<'_, RwAnswer>) -> usize {
        let mut entered = Vec::new();
        while !self.line.is_empty() && self.may_enter(self.line[0].1) {
            let (id, want) = self.line.remove(0);
            let (access, was) = match want {
                Want::Hold(access) => (access, None),
                Want::UpgradeOf(grant) => {
                    let was = self.find(grant).expect("the call holds the lock");
                    self.inside.clear();
                    (Access::Write, Some((was.id, was.since)))
                }
            };
            if access == Access::Upgradable && !self.inside.is_empty() {
                effects.tally.note("an upgradable reader beside readers");
            }
            if self.left.is_some() {
                effects.tally.note("a marked grant");
            }
            let since = effects.now;
            self.inside.push(Hold {
                id,
                access,
                since,
                was,
            });
            entered.push(access);
            effects.reply(id, RwAnswer::Granted(self.left));
        }
        if entered.starts_with(&[Access::Read, Access::Read]) {
            effects.tally.note("readers granted together");
        }
        self.note_line(effects);
        entered.len()
    }

    fn note_line(&self, effects: &mut Effects<'_, RwAnswer>) {
        if self.line.len() > 64 {
            effects.tally.note("long line");
        }
        let Some((_, head)) = self.line.first() else {
            return;
        };
        let reads_wait = (self.line.iter()).any(|(_, want)| *want == Want::Hold(Access::Read));
        if *head == Want::Hold(Access::Write) && reads_wait && !self.are_inside(Access::Write) {
            effects.tally.note("a reader behind a waiting writer");
        }
        if *head == Want::Hold(Access::Upgradable) && self.are_inside(Access::Upgradable) {
            effects.tally.note("an upgradable reader behind another");
        }
    }

    fn is_waiting(&self, id: CallId) -> bool {
        self.line.iter().any(|(waiter, _)| *waiter == id)
    }

    fn is_being_upgraded(&self, grant: CallId) -> bool {
        (self.line.iter()).any(|(_, want)| *want == Want::UpgradeOf(grant))
    }

    /// Refuses a waiting upgrade because its hold has ended.
    fn refuse_upgrade_of(&mut self, grant: CallId, effects: &mut Effects<'_, RwAnswer>) -> bool {
        let of = |(_, want): &(CallId, Want)| *want == Want::UpgradeOf(grant);
        let place = self.line.iter().position(of);
        if let Some(place) = place {
            let (upgrade, _) = self.line.remove(place);
            effects.reply(upgrade, RwAnswer::Refused(Refusal::NotHeld));
        }
        place.is_some()
    }

    fn release(&mut self, id: CallId, grant: CallId, effects: &mut Effects<'_, RwAnswer>) {
        let hold = self.find(grant);
        match &hold {
            Some(_) if grant.session() != id.session() => {
                effects.tally.note("a release by another session");
            }
            Some(_) => {}
            None if self.is_waiting(grant) => effects.tally.note("a release of a waiter"),
            None => effects.tally.note("a release of an ended hold"),
        }
        self.inside.retain(|hold| hold.id != grant);
        if let Some(hold) = &hold {
            let former = hold.was.map(|(grant, _)| grant);
            for over in [Some(grant), former].into_iter().flatten() {
                effects.end(id, over);
            }
        }
        effects.reply(id, done(hold.is_some()));
        if hold.is_some() && self.refuse_upgrade_of(grant, effects) {
            (effects.tally).note("a waiting upgrade whose hold is released");
        }
        self.grant_waiters(effects);
    }

    fn upgrade(&mut self, id: CallId, grant: CallId, effects: &mut Effects<'_, RwAnswer>) {
        let Some(hold) = self.find(grant) else {
            return effects.reply(id, done(false));
        };
        if grant.session() != id.session() {
            effects.tally.note("an upgrade by another session");
            return effects.reply(id, done(false));
        }
        let refused = match hold.access {
            Access::Read => Some("an upgrade of a reader"),
            Access::Write => Some("an upgrade of a writer"),
            Access::Upgradable if self.is_being_upgraded(grant) => {
                Some("an upgrade of a hold that is being upgraded")
            }
            Access::Upgradable => None,
        };
        if let Some(refused) = refused {
            effects.tally.note(refused);
            return effects.reply(id, RwAnswer::Invalid);
        }
        let others_wait = !self.line.is_empty();
        self.line.insert(0, (id, Want::UpgradeOf(grant)));
        let waits = !self.may_enter(self.line[0].1);
        effects.tally.note(match (waits, others_wait) {
            (true, _) => "an upgrade that waited",
            (false, true) => "an upgrade at once, before others",
            (false, false) => "an upgrade at once",
        });
        self.grant_waiters(effects);
    }

    fn downgrade(
        &mut self,
        id: CallId,
        grant: CallId,
        to: Access,
        effects: &mut Effects<'_, RwAnswer>,
    ) {
        if grant.session() != id.session() {
            effects.tally.note("a downgrade by another session");
            return effects.reply(id, done(false));
        }
        let is_being_upgraded = self.is_being_upgraded(grant);
        let Some(hold) = self.inside.iter_mut().find(|hold| hold.id == grant) else {
            effects.tally.note("a downgrade of an ended hold");
            return effects.reply(id, done(false));
        };
        let strength = |access| match access {
            Access::Read => 0,
            Access::Upgradable => 1,
            Access::Write => 2,
        };
        if strength(to) >= strength(hold.access) {
            effects
                .tally
                .note("a downgrade to the same or a higher mode");
            return effects.reply(id, RwAnswer::Invalid);
        }
        if is_being_upgraded {
            effects
                .tally
                .note("a downgrade of a hold that is being upgraded");
            return effects.reply(id, RwAnswer::Invalid);
        }
        effects.tally.note(match (hold.access, hold.was) {
            (Access::Write, None) => "a downgraded writer",
            (Access::Write, Some(_)) => "a downgraded upgraded writer",
            (Access::Read | Access::Upgradable, _) => "a downgraded upgradable reader",
        });
        (hold.access, hold.was) = (to, None);
        effects.reply(id, RwAnswer::Done);
        if self.grant_waiters(effects) > 0 {
            effects.tally.note("a downgrade that grants others");
        }
    }

    fn force_open(&mut self, id: CallId, effects: &mut Effects<'_, RwAnswer>) {
        let evicted = std::mem::take(&mut self.inside);
        if !evicted.is_empty() {
            effects.tally.note("a lock forced open");
        }
        effects.reply(id, RwAnswer::WasHeld(!evicted.is_empty()));
        for hold in evicted {
            effects.revoked.push(hold.id);
            effects.revoked.extend(hold.was.map(|(grant, _)| grant));
            if self.refuse_upgrade_of(hold.id, effects) {
                effects.tally.note("a waiting upgrade ended by force");
            }
        }
        self.grant_waiters(effects);
    }

    fn status(&self) -> RwLockStatus {
        let count = |of: usize| u64::try_from(of).expect("short lists");
        let reads = |hold: &&Hold| hold.access == Access::Read;
        let mut status = RwLockStatus::default();
        status.readers = count(self.inside.iter().filter(reads).count());
        status.has_upgradable = self.are_inside(Access::Upgradable);
        status.has_writer = self.are_inside(Access::Write);
        status.waiting = count(self.line.len());
        status
    }
}

fn done(done: bool) -> RwAnswer {
    let refused = RwAnswer::Refused(Refusal::NotHeld);
    if done { RwAnswer::Done } else { refused }
}

fn convert<T>(observed: Result<T, Refusal>, read: impl FnOnce(T) -> RwAnswer) -> RwAnswer {
    match observed {
        Ok(value) => read(value),
        Err(Refusal::Invalid(_)) => RwAnswer::Invalid,
        Err(refusal) => RwAnswer::Refused(refusal),
    }
}

impl Reference for RwReference {
    type Kind = RwLock;
    type Call = RwCall;
    type Answer = RwAnswer;
    type Memory = Grants;

    fn make(schedule: &mut Schedule) -> (Self, Bench<RwLock>) {
        let mut reference = Self::default();
        if schedule.random.random_bool(0.1) {
            reference.crowd = schedule.random.random_range(70..=90);
        }
        (
            reference,
            Bench::new(ReleaseBy::Holder).expect("every spec is valid"),
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
            // The last waiter may be an upgradable reader or a writer.
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
            RwCall::Status => put(bench, session, GetRwLockStatus, timeout),
        }
    }

    fn read(
        bench: &Bench<RwLock>,
        id: CallId,
        call: &RwCall,
        grants: &mut Grants,
    ) -> Result<RwAnswer, Fault> {
        let granted =
            |Granted { fence, abandoned }| RwAnswer::Granted(grants.note(id, fence, abandoned));
        let done = |()| RwAnswer::Done;
        match call {
            RwCall::Acquire(_) => answer::<_, AcquireFor>(bench, id).map(|it| convert(it, granted)),
            RwCall::Upgrade(_) => answer::<_, Upgrade>(bench, id).map(|it| convert(it, granted)),
            RwCall::Release(_) => answer::<_, Release>(bench, id).map(|it| convert(it, done)),
            RwCall::Downgrade(..) => answer::<_, Downgrade>(bench, id).map(|it| convert(it, done)),
            RwCall::MarkConsistent(_) => {
                answer::<_, MarkConsistent>(bench, id).map(|it| convert(it, done))
            }
            RwCall::ForceUnlock => answer::<_, ForceUnlock>(bench, id).map(RwAnswer::WasHeld),
            RwCall::Status => answer::<_, GetRwLockStatus>(bench, id).map(RwAnswer::Status),
        }
    }

    fn serve(&mut self, id: CallId, call: &RwCall, effects: &mut Effects<'_, RwAnswer>) {
        match *call {
            RwCall::Acquire(access) => {
                self.line.push((id, Want::Hold(access)));
                self.grant_waiters(effects);
            }
            RwCall::Release(grant) => self.release(id, grant, effects),
            RwCall::Upgrade(grant) => self.upgrade(id, grant, effects),
            RwCall::Downgrade(grant, to) => self.downgrade(id, grant, to, effects),
            RwCall::MarkConsistent(grant) => {
                let holds = self.holds(grant);
                if holds && self.left.take().is_some() {
                    effects.tally.note("a mark removed");
                }
                effects.reply(id, done(holds));
            }
            RwCall::ForceUnlock => self.force_open(id, effects),
            RwCall::Status => effects.reply(id, RwAnswer::Status(self.status())),
        }
    }

    fn undo(&mut self, id: CallId, fault: Fault, effects: &mut Effects<'_, RwAnswer>) {
        let of = |hold: &Hold| hold.id == id || hold.was.is_some_and(|(grant, _)| grant == id);
        if let Some(place) = self.line.iter().position(|(waiter, _)| *waiter == id) {
            if let (_, Want::UpgradeOf(_)) = self.line.remove(place) {
                effects.tally.note("an upgrade withdrawn while it waits");
            }
            effects.fail(id, fault);
        } else if let Some(place) = self.inside.iter().position(of) {
            let hold = self.inside.remove(place);
            match hold.was {
                Some((grant, since)) if hold.id == id => {
                    effects.tally.note("a granted upgrade withdrawn");
                    self.inside.push(Hold {
                        id: grant,
                        access: Access::Upgradable,
                        since,
                        was: None,
                    });
                }
                Some(_) => effects
                    .tally
                    .note("a granted upgrade withdrawn with its hold"),
                None => {
                    if self.refuse_upgrade_of(id, effects) {
                        (effects.tally).note("a waiting upgrade whose hold is withdrawn");
                    }
                }
            }
        }
        self.grant_waiters(effects);
    }

    fn hang_up(&mut self, session: u64, effects: &mut Effects<'_, RwAnswer>) {
        let is_theirs = |id: CallId| id.session().number() == session;
        self.line.retain(|(waiter, _)| !is_theirs(*waiter));
        let theirs: Vec<Hold> = (self.inside.iter())
            .filter(|hold| is_theirs(hold.id))
            .copied()
            .collect();
        self.inside.retain(|hold| !is_theirs(hold.id));
        if theirs.len() > 1 {
            effects.tally.note("readers that died");
        }
        for hold in theirs.iter().filter(|hold| hold.access == Access::Write) {
            effects.tally.note(match hold.was {
                Some(_) => "an upgraded writer that died",
                None => "a writer that died",
            });
            self.left = Some(Left {
                grant: hold.id,
                held: effects.now - hold.since,
            });
        }
        self.grant_waiters(effects);
    }

    fn waits(&self, id: CallId) -> bool {
        self.is_waiting(id)
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
