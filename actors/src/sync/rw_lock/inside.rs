//! The current holds of a readers-writer lock, and which modes are compatible.
//!
//! Invariant: a writer is alone, and at most one hold is upgradable.

use std::{collections::BTreeMap, mem};

use lockkeeper_protocol::{
    CallId, Refusal,
    operations::{Access, ReleaseBy},
};

use crate::{
    kind::{
        hang_up::{HangUp, drop_some_of},
        hold_timer::HoldTimer,
        survey::Holding,
    },
    sync::by_age::ByAge,
};

/// The number of units in a survey.
pub(super) const UNITS: u64 = u64::MAX;

pub(super) const fn name(access: Access) -> &'static str {
    match access {
        Access::Read => "read",
        Access::Upgradable => "upgradable",
        Access::Write => "write",
    }
}

/// The units of an access. Readers cost one unit and writers all of them, so compatibility is a capacity
/// check.
pub(super) const fn units(access: Access) -> u64 {
    match access {
        Access::Read => 1,
        Access::Upgradable => UNITS / 2 + 1,
        Access::Write => UNITS,
    }
}

/// The holders of the lock.
#[derive(Debug)]
pub(super) struct Inside {
    /// The holds that only read.
    readers: BTreeMap<CallId, HoldTimer>,
    senior: Option<Senior>,
    by_age: ByAge,
}

/// The hold that excludes other upgradable readers and writers.
#[derive(Debug)]
struct Senior {
    grant: CallId,
    timer: HoldTimer,
    rank: Rank,
}

#[derive(Debug)]
enum Rank {
    Upgradable,
    /// An upgraded writer has the earlier upgradable hold, which is restored if the upgrade is undone.
    Writer {
        was: Option<(CallId, HoldTimer)>,
    },
}

/// The access that a call waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    Enter(Access),
    /// The upgrade of the upgradable hold to the writer's.
    Upgrade,
}

impl Senior {
    const fn access(&self) -> Access {
        match self.rank {
            Rank::Upgradable => Access::Upgradable,
            Rank::Writer { .. } => Access::Write,
        }
    }

    /// The grant that an upgrade has replaced.
    fn former(&self) -> Option<CallId> {
        match &self.rank {
            Rank::Upgradable => None,
            Rank::Writer { was } => was.as_ref().map(|(grant, _)| *grant),
        }
    }
}

impl Inside {
    pub(super) fn new(release_by: ReleaseBy) -> Self {
        Self {
            readers: BTreeMap::new(),
            senior: None,
            by_age: ByAge::new(release_by),
        }
    }

    /// The grant that has been held longest, for a release by any session.
    pub(super) fn oldest(&self) -> Result<CallId, Refusal> {
        self.by_age.oldest()
    }

    /// Returns whether another hold is compatible with the current ones.
    pub(super) fn fits(&self, want: Want) -> bool {
        match want {
            Want::Enter(Access::Read) => self.senior() != Some(Access::Write),
            Want::Enter(Access::Upgradable) => self.senior.is_none(),
            Want::Enter(Access::Write) => self.senior.is_none() && self.readers.is_empty(),
            Want::Upgrade => self.readers.is_empty(),
        }
    }

    /// Adds a compatible hold.
    pub(super) fn enter(&mut self, grant: CallId, timer: HoldTimer, want: Want) {
        self.by_age.enter(timer.fence(), grant);
        let rank = match want {
            Want::Enter(Access::Read) => {
                self.readers.insert(grant, timer);
                return;
            }
            Want::Enter(Access::Upgradable) => Rank::Upgradable,
            Want::Enter(Access::Write) => Rank::Writer { was: None },
            Want::Upgrade => {
                let senior = self.senior.take();
                let was = senior.map(|senior| (senior.grant, senior.timer));
                if let Some((_, timer)) = &was {
                    self.by_age.leave(timer.fence());
                }
                Rank::Writer { was }
            }
        };
        self.senior = Some(Senior { grant, timer, rank });
    }

    /// The access of a grant, if it is held.
    pub(super) fn access(&self, grant: CallId) -> Option<Access> {
        if self.readers.contains_key(&grant) {
            return Some(Access::Read);
        }
        let senior = self.senior.as_ref();
        senior
            .filter(|senior| senior.grant == grant)
            .map(Senior::access)
    }

    /// The access of the upgradable reader or the writer.
    pub(super) fn senior(&self) -> Option<Access> {
        self.senior.as_ref().map(Senior::access)
    }

    /// The number of holds that only read.
    pub(super) fn readers(&self) -> u64 {
        self.readers.len().try_into().unwrap_or(u64::MAX)
    }

    /// Removes a hold. Returns the grant that an upgrade had replaced, which ends with it.
    pub(super) fn leave(&mut self, grant: CallId) -> Result<Option<CallId>, Refusal> {
        if let Some(timer) = self.readers.remove(&grant) {
            self.by_age.leave(timer.fence());
            return Ok(None);
        }
        let senior = self.senior.take_if(|senior| senior.grant == grant);
        let senior = senior.ok_or(Refusal::NotHeld)?;
        self.by_age.leave(senior.timer.fence());
        Ok(senior.former())
    }

    /// Undoes a granted call. If it is an upgrade, the upgradable hold remains. If it is the call of that
    /// hold, the upgrade is undone too.
    pub(super) fn undo(&mut self, id: CallId) {
        let is_of = |senior: &mut Senior| senior.grant == id || senior.former() == Some(id);
        let Some(senior) = self.senior.take_if(is_of) else {
            // A call without a hold changes nothing.
            let _ = self.leave(id);
            return;
        };
        self.by_age.leave(senior.timer.fence());
        if let Rank::Writer { was: Some(was) } = senior.rank
            && senior.grant == id
        {
            let (grant, timer) = was;
            self.by_age.enter(timer.fence(), grant);
            let rank = Rank::Upgradable;
            self.senior = Some(Senior { grant, timer, rank });
        }
    }

    /// Changes a hold so that others are compatible with it.
    pub(super) fn downgrade(&mut self, grant: CallId, to: Access) -> Result<(), Refusal> {
        let from = self.access(grant).ok_or(Refusal::NotHeld)?;
        match (from, to) {
            (Access::Write, Access::Upgradable) => {
                if let Some(senior) = &mut self.senior {
                    senior.rank = Rank::Upgradable;
                }
            }
            (Access::Write | Access::Upgradable, Access::Read) => {
                if let Some(Senior { grant, timer, .. }) = self.senior.take() {
                    self.readers.insert(grant, timer);
                }
            }
            (Access::Read, Access::Read | Access::Upgradable | Access::Write)
            | (Access::Upgradable, Access::Upgradable | Access::Write)
            | (Access::Write, Access::Write) => {
                return Err(Refusal::Invalid(format!(
                    "a hold is downgraded from write to upgradable or read, \
                     or from upgradable to read, not from {} to {}",
                    name(from),
                    name(to)
                )));
            }
        }
        Ok(())
    }

    /// Removes the holds of an ended session, and returns the one that was writing.
    pub(super) fn hang_up(&mut self, ended: &HangUp) -> Option<HoldTimer> {
        for grant in ended.some_of(&self.readers) {
            let _ = self.leave(grant);
        }
        let is_theirs = |senior: &mut Senior| senior.grant.session() == ended.session;
        let senior = self.senior.take_if(is_theirs)?;
        self.by_age.leave(senior.timer.fence());
        (senior.access() == Access::Write).then_some(senior.timer)
    }

    /// Drops some of many holds: see [`Primitive::drop_some`](crate::kind::primitive::Primitive::drop_some).
    pub(super) fn drop_some(&mut self) -> bool {
        drop_some_of(&mut self.readers) || self.by_age.drop_some()
    }

    /// Removes all holds, and returns their grants, which are void then.
    pub(super) fn evict(&mut self) -> Vec<CallId> {
        self.by_age.clear();
        let senior = self.senior.take();
        let former = senior.as_ref().and_then(Senior::former);
        let senior = senior.map(|senior| senior.grant);
        let readers = mem::take(&mut self.readers).into_keys();
        readers.chain(senior).chain(former).collect()
    }

    /// The number of holders.
    pub(super) fn len(&self) -> usize {
        self.readers.len() + usize::from(self.senior.is_some())
    }

    /// The holders, as in a survey.
    pub(super) fn holdings(&self) -> impl Iterator<Item = Holding> {
        let holding = |call, access: Access, timer: &HoldTimer| Holding {
            call,
            units: units(access),
            mode: name(access),
            since: timer.since(),
            fence: Some(timer.fence()),
        };
        let senior = self.senior.iter();
        let senior =
            senior.map(move |senior| holding(senior.grant, senior.access(), &senior.timer));
        let readers = self.readers.iter();
        let readers = readers.map(move |(grant, timer)| holding(*grant, Access::Read, timer));
        senior.chain(readers)
    }
}
