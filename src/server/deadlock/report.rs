//! The deadlocks in surveys of objects, as reports without names. It is pure, and runs on another thread if there are
//! many calls.
//!
//! Invariant: each step visits a hold or a wait a fixed number of times, because thousands of callers may hold and
//! wait for the permits of one semaphore.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use lockkeeper_actors::{Holding, ObjectReport, Part, Waiting};
use lockkeeper_protocol::{CallId, Claim, Deadlock, SessionId, WaitsFor};

use crate::server::deadlock::graph::{self, Cycle, WaitIndex};

/// A task or thread of a session.
type CallerKey = (SessionId, u64);

/// The identity of a deadlock across searches: the calls that wait and hold, in order.
pub(super) type Key = Box<[CallId]>;

/// The number of an object.
type Object = u64;

/// A deadlock in the reports of objects.
pub(super) struct Draft {
    /// The callers that are listed.
    pub(super) members: Vec<Member>,
    /// The number of all callers.
    pub(super) size: u64,
    pub(super) key: Key,
    /// The call to fail if the policy says so, and the object for which it waits.
    pub(super) victim: (Object, CallId),
}

/// A caller in a deadlock. Its claims have no names yet.
pub(super) struct Member {
    /// A call of it.
    pub(super) call: CallId,
    pub(super) caller: u64,
    pub(super) holds: Vec<(Object, Claim)>,
    pub(super) waits: Vec<(Object, WaitsFor)>,
}

/// The most holds, and the most waits, of a caller that a report lists.
const MOST_CLAIMS: usize = Deadlock::MOST_MEMBERS;

/// Finds the deadlocks in the reports of objects.
pub(super) fn deadlocks(reports: &[(Object, ObjectReport)]) -> Vec<Draft> {
    let views = views(reports);
    let drawn: Vec<_> = views.iter().map(View::drawn).collect();
    let cycles = graph::cycles(&drawn);
    let drafts = cycles.iter().map(|cycle| Words::new(cycle, &views).tell());
    drafts.flatten().collect()
}

/// A part of an object, as the object reported it.
struct View<'a> {
    object: Object,
    at: Duration,
    part: &'a Part,
    callers: &'a HashMap<CallId, u64>,
}

impl View<'_> {
    fn caller(&self, call: CallId) -> Option<CallerKey> {
        let caller = self.callers.get(&call)?;
        Some((call.session(), *caller))
    }

    fn drawn(&self) -> graph::Resource<CallerKey> {
        let holders = self.part.holders.iter();
        let waiters = self.part.waiters.iter();
        graph::Resource {
            units: self.part.units,
            holders: holders
                .map(|holder| (self.caller(holder.call), holder.units))
                .collect(),
            waiters: waiters
                .map(|waiter| (self.caller(waiter.call), waiter.units))
                .collect(),
        }
    }

    fn claim(&self, units: u64, mode: &str, since: Duration) -> Claim {
        let elapsed = self.at.saturating_sub(since);
        let mut claim = Claim::new(String::new(), String::new(), units, elapsed);
        claim.key.clone_from(&self.part.key);
        mode.clone_into(&mut claim.mode);
        claim
    }
}

fn views(reports: &[(Object, ObjectReport)]) -> Vec<View<'_>> {
    let surveys = reports.iter().filter_map(|(object, report)| {
        let survey = report.survey.as_ref()?;
        Some((*object, report, survey))
    });
    surveys
        .flat_map(|(object, report, survey)| {
            survey.parts.iter().map(move |part| View {
                object,
                at: report.at,
                part,
                callers: &report.callers,
            })
        })
        .collect()
}

/// The index of a part among all views.
type Place = usize;

/// The data that turns a deadlock into a report.
struct Words<'a> {
    cycle: &'a Cycle<CallerKey>,
    views: &'a [View<'a>],
    /// The callers of the deadlock that hold units of each part that they wait for.
    holders: BTreeMap<Place, Vec<CallerKey>>,
    /// The holds of each caller of the deadlock, of these parts.
    holds: BTreeMap<CallerKey, Vec<(Place, &'a Holding)>>,
    /// The caller of the deadlock that waits directly before each wait.
    before: BTreeMap<WaitIndex, CallerKey>,
}

impl<'a> Words<'a> {
    fn new(cycle: &'a Cycle<CallerKey>, views: &'a [View<'a>]) -> Self {
        let waits = cycle.callers.values().flatten();
        let parts: BTreeSet<Place> = waits.map(|wait| wait.resource).collect();
        let mut words = Self {
            cycle,
            views,
            holders: BTreeMap::new(),
            holds: BTreeMap::new(),
            before: BTreeMap::new(),
        };
        for place in parts {
            words.enter(place);
        }
        words
    }

    /// Records who holds a part, and who waits for it.
    fn enter(&mut self, place: Place) {
        let Some(view) = self.views.get(place) else {
            return;
        };
        let callers = &self.cycle.callers;
        let member = |call| view.caller(call).filter(|it| callers.contains_key(it));
        let mut holders = Vec::new();
        for held in view.part.holders.iter().filter(|held| held.units > 0) {
            if let Some(holder) = member(held.call) {
                holders.push(holder);
                self.holds.entry(holder).or_default().push((place, held));
            }
        }
        self.holders.insert(place, holders);
        let mut last = None;
        for (position, waiter) in view.part.waiters.iter().enumerate() {
            if let Some(waiter) = member(waiter.call) {
                let wait = WaitIndex {
                    resource: place,
                    position,
                };
                if let Some(before) = last.replace(waiter) {
                    self.before.insert(wait, before);
                }
            }
        }
    }

    fn tell(&self) -> Option<Draft> {
        let (first, victim, object) = self.victim()?;
        let order = self.order(first);
        let listed = order.get(..Deadlock::MOST_MEMBERS.min(order.len()));
        let listed = listed.unwrap_or_default();
        let places: BTreeMap<CallerKey, u64> = listed.iter().copied().zip(0..).collect();
        // The listed callers that hold each part.
        let mut held_by: BTreeMap<Place, BTreeSet<u64>> = BTreeMap::new();
        for (caller, number) in &places {
            for (place, _) in self.holds.get(caller).into_iter().flatten() {
                held_by.entry(*place).or_default().insert(*number);
            }
        }
        let members = listed.iter().filter_map(|caller| {
            let waits = self.cycle.callers.get(caller)?;
            let claims = waits.iter().take(MOST_CLAIMS);
            Some(Member {
                call: self.waiting(*waits.first()?)?.call,
                caller: caller.1,
                holds: self.held(*caller),
                waits: claims
                    .filter_map(|wait| self.wait(*wait, &places, &held_by))
                    .collect(),
            })
        });
        Some(Draft {
            members: members.collect(),
            size: order.len().try_into().unwrap_or(u64::MAX),
            key: self.key(),
            victim: (object, victim),
        })
    }

    /// The victim: among the callers that hold something that other callers wait for, the one that began to
    /// wait last. Returned with its call and the object that it waits for.
    fn victim(&self) -> Option<(CallerKey, CallId, Object)> {
        let holders = self.holds.keys();
        let waits = holders.flat_map(|caller| {
            let waits = self.cycle.callers.get(caller).into_iter().flatten();
            waits.map(move |wait| (*caller, *wait))
        });
        let waits = waits.filter_map(|(caller, wait)| {
            let waiting = self.waiting(wait)?;
            let object = self.views.get(wait.resource)?.object;
            Some((waiting.since, waiting.call, caller, object))
        });
        let (_, call, caller, object) = waits.max()?;
        Some((caller, call, object))
    }

    /// The callers, each before the caller that it waits for where that is possible.
    fn order(&self, first: CallerKey) -> Vec<CallerKey> {
        let mut left: BTreeSet<CallerKey> = self.cycle.callers.keys().copied().collect();
        // The holders of each part that may be left. One that is not never is again.
        let mut holders: BTreeMap<Place, &[CallerKey]> = BTreeMap::new();
        for (place, all) in &self.holders {
            holders.insert(*place, all);
        }
        let mut order = Vec::new();
        let mut next = Some(first);
        while let Some(caller) = next.or_else(|| left.first().copied()) {
            left.remove(&caller);
            order.push(caller);
            let waits = self.cycle.callers.get(&caller).into_iter().flatten();
            next = waits
                .flat_map(|wait| {
                    let holder = holders.get_mut(&wait.resource);
                    let holder = holder.and_then(|holders| first_of(holders, &left));
                    holder.or_else(|| self.before.get(wait).copied())
                })
                .find(|other| left.contains(other));
        }
        order
    }

    fn waiting(&self, wait: WaitIndex) -> Option<&Waiting> {
        self.views
            .get(wait.resource)?
            .part
            .waiters
            .get(wait.position)
    }

    /// The units that a caller holds and other callers wait for.
    fn held(&self, caller: CallerKey) -> Vec<(Object, Claim)> {
        let holds = self.holds.get(&caller).into_iter().flatten();
        let holds = holds.take(MOST_CLAIMS).filter_map(|(place, held)| {
            let view = self.views.get(*place)?;
            let mut claim = view.claim(held.units, held.mode, held.since);
            claim.fence = held.fence;
            Some((view.object, claim))
        });
        holds.collect()
    }

    fn wait(
        &self,
        wait: WaitIndex,
        places: &BTreeMap<CallerKey, u64>,
        held_by: &BTreeMap<Place, BTreeSet<u64>>,
    ) -> Option<(Object, WaitsFor)> {
        let view = self.views.get(wait.resource)?;
        let wanted = self.waiting(wait)?;
        let holders = held_by.get(&wait.resource).into_iter().flatten();
        let before = self.before.get(&wait);
        let wants = WaitsFor::new(
            view.claim(wanted.units, wanted.mode, wanted.since),
            holders.copied().collect(),
            before.and_then(|caller| places.get(caller).copied()),
        );
        Some((view.object, wants))
    }

    fn key(&self) -> Key {
        let holds = self.holds.values().flatten().map(|(_, held)| held.call);
        let waits = self.cycle.callers.values().flatten();
        let waits = waits.filter_map(|wait| Some(self.waiting(*wait)?.call));
        let mut calls: Vec<CallId> = holds.chain(waits).collect();
        calls.sort_unstable();
        calls.dedup();
        calls.into()
    }
}

/// The first of the callers that is left. Those before it are cut off.
fn first_of(callers: &mut &[CallerKey], left: &BTreeSet<CallerKey>) -> Option<CallerKey> {
    while let Some((first, rest)) = callers.split_first() {
        if left.contains(first) {
            return Some(*first);
        }
        *callers = rest;
    }
    None
}

#[cfg(test)]
mod tests {
    use rustix::time::{ClockId, clock_gettime};

    use super::*;

    /// How many callers hold and wait.
    const MANY: u64 = 20_000;

    /// The most processor time of a search. One that compares all callers with all holders takes minutes.
    const MOST: Duration = Duration::from_secs(8);

    fn call(session: u64, seq: u64) -> CallId {
        CallId::new(SessionId::new(session), seq)
    }

    /// The call by which a caller holds, and the one by which it waits.
    fn calls(caller: u64) -> [CallId; 2] {
        [call(caller, 1), call(caller, 2)]
    }

    fn part(units: u64, holders: impl Iterator<Item = u64>, waiters: &[u64]) -> Part {
        let holders = holders.map(|caller| Holding {
            call: calls(caller)[0],
            units: 1,
            mode: "",
            since: Duration::ZERO,
            fence: None,
        });
        let waiters = waiters.iter().map(|caller| Waiting {
            call: calls(*caller)[1],
            units: 1,
            mode: "",
            since: Duration::from_nanos(*caller),
        });
        Part {
            units: Some(units),
            holders: holders.collect(),
            waiters: waiters.collect(),
            ..Part::default()
        }
    }

    fn report(object: Object, parts: Vec<Part>) -> (Object, ObjectReport) {
        let all = parts.iter().flat_map(|part| {
            let holders = part.holders.iter().map(|held| held.call);
            holders.chain(part.waiters.iter().map(|waiting| waiting.call))
        });
        // Each session has one caller.
        let callers = all.map(|call| (call, 0)).collect();
        let survey = lockkeeper_actors::Survey {
            state: String::new(),
            parts,
        };
        let report = ObjectReport {
            at: Duration::from_secs(1),
            survey: Some(survey),
            callers,
            stats: None,
        };
        (object, report)
    }

    /// Finds the only deadlock, and checks its size and the processor time of the search.
    fn found(what: &str, reports: &[(Object, ObjectReport)], size: u64) -> Draft {
        let time = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("a time");
        let begun = time();
        let mut found = deadlocks(reports);
        let took = time() - begun;
        assert!(took < MOST, "{what}: {took:?}");
        assert_eq!(found.len(), 1, "{what}");
        let draft = found.remove(0);
        assert_eq!((draft.size, draft.members.len()), (size, 64), "{what}");
        draft
    }

    #[test]
    fn search_takes_no_longer_for_each_caller_if_they_are_many() {
        let all = || 1..=MANY;
        let waiters: Vec<u64> = all().collect();
        // All hold a permit, and want another one.
        let permits = [report(1, vec![part(MANY, all(), &waiters)])];
        let draft = found("permits", &permits, MANY);
        assert_eq!(draft.victim, (1, calls(MANY)[1]));
        assert_eq!(draft.key.len(), 2 * waiters.len());
        assert_eq!(draft.members[0].waits[0].1.held_by.len(), 64);

        // Each holds a lock, and wants that of the next one.
        let next = |caller: u64| caller % MANY + 1;
        let locks: Vec<_> = all()
            .map(|caller| report(caller, vec![part(1, [next(caller)].into_iter(), &[caller])]))
            .collect();
        let draft = found("locks", &locks, MANY);
        let order: Vec<u64> = draft
            .members
            .iter()
            .map(|it| it.call.session().number())
            .collect();
        let expected: Vec<u64> = [MANY].into_iter().chain(1..64).collect();
        assert_eq!(order, expected);

        // The same with the keys of one object.
        let keys = all().map(|caller| part(1, [next(caller)].into_iter(), &[caller]));
        found("keys", &[report(1, keys.collect())], MANY);

        // All wait in line for one lock, and its holder waits for all of their permits.
        let line = report(1, vec![part(1, [MANY + 1].into_iter(), &waiters)]);
        let permits = report(2, vec![part(MANY, all(), &[MANY + 1])]);
        let draft = found("a line", &[line, permits], MANY + 1);
        assert_eq!(draft.members[0].call, calls(MANY + 1)[1]);
    }
}
