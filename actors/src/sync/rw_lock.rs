//! The readers-writer lock: many readers or one writer; one of the readers may be upgradable.
//!
//! All calls wait in one line, and its first call blocks the calls behind it: adjacent readers are granted
//! together, and no call overtakes a writer.
//!
//! Invariants: the first call in the line conflicts with a current hold; a writer is alone; an upgrade
//! belongs to the upgradable hold, and waits before all other calls.

mod inside;

use lockkeeper_protocol::{
    Abandoned, CallId, Proof, Refusal,
    codec::Form,
    operations::{
        Access, AcquireFor, Downgrade, ForceUnlock, GetRwLockStatus, Granted, MarkConsistent,
        Release, ReleaseAny, ReleaseBy, RwLockStatus, Upgrade,
    },
};

use crate::{
    kind::{
        call::Call,
        hang_up::HangUp,
        hold_timer::HoldTimer,
        primitive::{Operations, Primitive, Serve},
        survey::{Part, Survey, Waiting},
    },
    sync::rw_lock::inside::{Inside, UNITS, Want, name, units},
    waiting::{call_table::Parked, wait_queue::WaitQueue},
};

/// A lock with many readers or one writer.
#[derive(Debug)]
pub struct RwLock {
    inside: Inside,
    line: WaitQueue<Waiter>,
    abandoned: Option<Box<Abandoned>>,
}

#[derive(Debug)]
struct Waiter {
    want: Want,
    call: Call<Result<Granted, Refusal>>,
}

impl Parked for Waiter {
    fn id(&self) -> CallId {
        self.call.id()
    }
}

impl RwLock {
    /// Grants calls from the head of the line that are compatible with the holds. Every path that ends or
    /// downgrades a hold, or shortens the line, ends here.
    fn grant_all_that_fit(&mut self) {
        while let Some(head) = self.line.front()
            && self.inside.fits(head.want)
        {
            let Some(Waiter { want, call }) = self.line.pop_front() else {
                return;
            };
            let timer = HoldTimer::begin(call.outbox(), call.id());
            let fence = timer.fence();
            self.inside.enter(call.id(), timer, want);
            let abandoned = self.abandoned.as_deref().cloned();
            call.reply(Ok(Granted { fence, abandoned }));
        }
    }

    fn is_being_upgraded(&self) -> bool {
        let head = self.line.front();
        head.is_some_and(|head| head.want == Want::Upgrade)
    }

    /// Refuses an upgrade whose hold is gone.
    fn refuse_lost_upgrade(&mut self) {
        if self.is_being_upgraded()
            && self.inside.senior().is_none()
            && let Some(Waiter { call, .. }) = self.line.pop_front()
        {
            call.reply(Err(Refusal::NotHeld));
        }
    }

    /// The access of a grant of the calling session. Only the holder knows what it does with the lock, so a
    /// ticket does not permit a change of access.
    fn own_access<R>(&self, grant: Proof, call: &Call<R>) -> Result<(CallId, Access), Refusal> {
        let grant = call.verify(grant)?;
        let is_own = grant.session() == call.id().session();
        let access = self.inside.access(grant).filter(|_| is_own);
        Ok((grant, access.ok_or(Refusal::NotHeld)?))
    }

    /// Returns the reason if a hold with that access may not be upgraded.
    fn check_upgrade(&self, access: Access) -> Result<(), Refusal> {
        let why = match access {
            Access::Upgradable if self.is_being_upgraded() => {
                "the hold is being upgraded already: one upgrade of it at a time"
            }
            Access::Upgradable => return Ok(()),
            Access::Read => {
                "the hold is for reading: only one that was acquired as upgradable is upgraded"
            }
            Access::Write => "the hold is for writing already: only an upgradable one is upgraded",
        };
        Err(Refusal::Invalid(why.to_owned()))
    }

    /// Returns the reason if a hold with that access may not be downgraded now.
    fn check_downgrade(&self, access: Access) -> Result<(), Refusal> {
        if access == Access::Upgradable && self.is_being_upgraded() {
            let why = "the hold is being upgraded: release it, or downgrade it afterwards";
            return Err(Refusal::Invalid(why.to_owned()));
        }
        Ok(())
    }

    fn status(&self) -> RwLockStatus {
        let senior = self.inside.senior();
        let mut status = RwLockStatus::default();
        status.readers = self.inside.readers();
        status.has_upgradable = senior == Some(Access::Upgradable);
        status.has_writer = senior == Some(Access::Write);
        status.waiting = self.line.len().try_into().unwrap_or(u64::MAX);
        status
    }
}

impl Primitive for RwLock {
    const KIND: &'static str = "rw_lock";
    const FORM: Form = Form::Compact;
    type Spec = ReleaseBy;

    fn describe(release_by: &ReleaseBy) -> String {
        release_by.describe()
    }

    fn create(release_by: ReleaseBy) -> Result<Self, Refusal> {
        Ok(Self {
            inside: Inside::new(release_by),
            line: WaitQueue::new(),
            abandoned: None,
        })
    }

    fn operations(operations: &mut Operations<Self>) {
        operations
            .on::<AcquireFor>()
            .on::<Release>()
            .on::<Upgrade>()
            .on::<Downgrade>()
            .on::<MarkConsistent>()
            .on::<ForceUnlock>()
            .on::<GetRwLockStatus>()
            .on::<ReleaseAny>();
    }

    fn withdraw(&mut self, id: CallId) {
        if self.line.remove(id).is_none() {
            self.inside.undo(id);
            self.refuse_lost_upgrade();
        }
        self.grant_all_that_fit();
    }

    fn hang_up(&mut self, ended: &HangUp) {
        drop(self.line.hang_up(ended));
        if ended.goes_on() {
            return;
        }
        if let Some(timer) = self.inside.hang_up(ended) {
            self.abandoned = Some(Box::new(timer.abandon(ended)));
        }
        if !ended.goes_on() {
            self.grant_all_that_fit();
        }
    }

    fn drop_some(&mut self) -> bool {
        self.line.drop_some() || self.inside.drop_some()
    }

    fn survey(&self) -> Survey {
        let waiting = |(call, waiter): (CallId, &Waiter)| {
            let (mode, units) = match waiter.want {
                Want::Enter(access) => (access, units(access)),
                // An upgrade already has the units of its hold, and waits for the rest.
                Want::Upgrade => (Access::Write, UNITS - units(Access::Upgradable)),
            };
            Waiting {
                call,
                units,
                mode: name(mode),
                since: waiter.call.arrived(),
            }
        };
        let mark = self.abandoned.as_ref().map_or("", |_| ", abandoned");
        let inside = match (self.inside.readers(), self.inside.senior()) {
            (0, None) => "free".to_owned(),
            (readers, None | Some(Access::Read)) => format!("{readers} read"),
            (readers, Some(Access::Upgradable)) => {
                format!("{readers} read, and one that may upgrade")
            }
            (_, Some(Access::Write)) => "written".to_owned(),
        };
        Survey {
            state: format!("{inside}{mark}"),
            parts: vec![Part {
                key: None,
                units: Some(UNITS),
                holders: self.inside.holdings().take(Survey::MOST).collect(),
                waiters: self.line.iter().map(waiting).take(Survey::MOST).collect(),
                more_holders: Survey::beyond(self.inside.len()),
                more_waiters: Survey::beyond(self.line.len()),
            }],
        }
    }
}

impl Serve<AcquireFor> for RwLock {
    fn serve(&mut self, AcquireFor { access }: AcquireFor, call: Call<Result<Granted, Refusal>>) {
        let want = Want::Enter(access);
        self.line.push(Waiter { want, call });
        self.grant_all_that_fit();
    }
}

impl Serve<Release> for RwLock {
    fn serve(&mut self, Release { grant }: Release, call: Call<Result<(), Refusal>>) {
        let released = call.verify(grant).and_then(|grant| {
            let former = self.inside.leave(grant)?;
            for ended in [Some(grant), former].into_iter().flatten() {
                call.record_end(ended);
            }
            Ok(())
        });
        call.reply(released);
        self.refuse_lost_upgrade();
        self.grant_all_that_fit();
    }
}

impl Serve<ReleaseAny> for RwLock {
    fn serve(&mut self, _: ReleaseAny, call: Call<Result<(), Refusal>>) {
        let released = self.inside.oldest().and_then(|grant| {
            let former = self.inside.leave(grant)?;
            // The grant is revoked even within the same session, because another of its tasks may have the
            // guard.
            for void in [Some(grant), former].into_iter().flatten() {
                call.outbox().revoke(void);
            }
            Ok(())
        });
        call.reply(released);
        self.refuse_lost_upgrade();
        self.grant_all_that_fit();
    }
}

impl Serve<Upgrade> for RwLock {
    fn serve(&mut self, Upgrade { grant }: Upgrade, call: Call<Result<Granted, Refusal>>) {
        let held = self.own_access(grant, &call);
        if let Err(refusal) = held.and_then(|(_, access)| self.check_upgrade(access)) {
            call.reply(Err(refusal));
            return;
        }
        let want = Want::Upgrade;
        self.line.push_front(Waiter { want, call });
        self.grant_all_that_fit();
    }
}

impl Serve<Downgrade> for RwLock {
    fn serve(&mut self, Downgrade { grant, to }: Downgrade, call: Call<Result<(), Refusal>>) {
        let downgraded = self.own_access(grant, &call).and_then(|(grant, access)| {
            self.check_downgrade(access)?;
            self.inside.downgrade(grant, to)
        });
        call.reply(downgraded);
        self.grant_all_that_fit();
    }
}

impl Serve<MarkConsistent> for RwLock {
    fn serve(&mut self, MarkConsistent { grant }: MarkConsistent, call: Call<Result<(), Refusal>>) {
        let held = call.verify(grant).and_then(|grant| {
            let access = self.inside.access(grant);
            access.map(|_| ()).ok_or(Refusal::NotHeld)
        });
        call.reply(held.map(|()| self.abandoned = None));
    }
}

impl Serve<ForceUnlock> for RwLock {
    fn serve(&mut self, _: ForceUnlock, call: Call<bool>) {
        let void = self.inside.evict();
        for grant in &void {
            call.outbox().revoke(*grant);
        }
        call.reply(!void.is_empty());
        self.refuse_lost_upgrade();
        self.grant_all_that_fit();
    }
}

impl Serve<GetRwLockStatus> for RwLock {
    fn serve(&mut self, _: GetRwLockStatus, call: Call<RwLockStatus>) {
        call.reply(self.status());
    }
}

#[cfg(test)]
mod tests;
