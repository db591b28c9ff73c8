//! Builds the graph of holders and waiters from surveys, and turns its deadlocks into reports.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use lockkeeper_actors::{Holding, Mailbox, ObjectReport, Part, Waiting};
use lockkeeper_protocol::{
    CallId, Caller, Claim, Deadlock, Fault, ObjectName, SessionId, WaitsFor,
};
use tokio::task;

use crate::server::{
    deadlock::graph::{self, Cycle, WaitIndex},
    inspection::{Inspector, MOST_OBJECTS, ask},
    supervisor::supervisor::Find,
};

/// A task or thread of a session.
type CallerKey = (SessionId, u64);

/// The identity of a deadlock across searches: the calls that wait and hold.
pub(super) type Key = BTreeSet<CallId>;

/// A deadlock, and the call that the manager fails if the policy says so.
pub(crate) struct Found {
    pub(crate) deadlock: Deadlock,
    pub(super) key: Key,
    pub(super) victim: (Mailbox, CallId),
}

/// A part of an object, as the object reported it.
struct View<'a> {
    object: u64,
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

    fn waiter(&self, position: usize) -> Option<&Waiting> {
        self.part.waiters.get(position)
    }

    /// The holds of a caller.
    fn holds_of(&self, caller: CallerKey) -> impl Iterator<Item = &Holding> {
        let holders = self.part.holders.iter();
        holders.filter(move |holder| holder.units > 0 && self.caller(holder.call) == Some(caller))
    }
}

/// The most holds and waits that are searched on the shard's own thread, because the search takes less than a
/// turn.
const MOST_CALLS: usize = 5_000;

/// Surveys all contended objects, and finds the deadlocks.
///
/// Up to [`MOST_OBJECTS`] objects are surveyed at one moment. A survey of more takes several turns, so a
/// deadlock that it finds may never have existed. A deadlock that two surveys find did exist between them: a
/// call that waits, or holds, in both has done so in between.
pub(crate) async fn find(inspector: &Inspector<'_>) -> Result<Vec<Found>, Fault> {
    let mut reports = Vec::new();
    let mut mailboxes: BTreeMap<u64, Mailbox> = BTreeMap::new();
    let mut above = Some(0);
    while let Some(number) = above {
        let contended = inspector.shell.contended().above(number, MOST_OBJECTS);
        let is_full = contended.len() >= MOST_OBJECTS;
        above = contended.last().map(|(object, _)| *object);
        above = above.filter(|_| is_full);
        mailboxes.extend(contended.iter().cloned());
        reports.extend(ask(contended, inspector.shell.now()).await);
    }
    let parts = views(&reports).into_iter().map(|view| view.part);
    let calls = parts.map(|part| 1 + part.holders.len() + part.waiters.len());
    let (reports, cycles) = if calls.sum::<usize>() < MOST_CALLS {
        cycles(reports)
    } else {
        let found = task::spawn_blocking(|| cycles(reports)).await;
        found.map_err(|_| Fault::ShuttingDown)?
    };
    if cycles.is_empty() {
        return Ok(Vec::new());
    }
    let views = views(&reports);
    let places = cycles
        .iter()
        .flat_map(|cycle| cycle.callers.values().flatten());
    let objects = places.filter_map(|place| Some(views.get(place.resource)?.object));
    let named = inspector.find(Find::Numbered(objects.collect())).await?;
    let names: Names = named
        .into_iter()
        .map(|found| (found.name.number(), (found.kind, found.name)))
        .collect();
    let told = cycles.iter().filter_map(|cycle| {
        let words = Words::new(cycle, &views, &names);
        words.tell(inspector, &mailboxes)
    });
    Ok(told.collect())
}

/// Finds the deadlocks in the reports of objects.
fn cycles(reports: Vec<(u64, ObjectReport)>) -> (Vec<(u64, ObjectReport)>, Vec<Cycle<CallerKey>>) {
    let views = views(&reports);
    let drawn: Vec<_> = views.iter().map(View::drawn).collect();
    let cycles = graph::cycles(&drawn);
    (reports, cycles)
}

fn views(reports: &[(u64, ObjectReport)]) -> Vec<View<'_>> {
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

/// The kinds and the names of objects, by their numbers.
type Names = HashMap<u64, (&'static str, ObjectName)>;

/// The data that turns a deadlock into a report.
struct Words<'a> {
    cycle: &'a Cycle<CallerKey>,
    views: &'a [View<'a>],
    names: &'a Names,
    /// The parts that callers wait for.
    parts: BTreeSet<usize>,
}

impl<'a> Words<'a> {
    fn new(cycle: &'a Cycle<CallerKey>, views: &'a [View<'a>], names: &'a Names) -> Self {
        let places = cycle.callers.values().flatten();
        Self {
            cycle,
            views,
            names,
            parts: places.map(|place| place.resource).collect(),
        }
    }

    fn tell(&self, inspector: &Inspector<'_>, mailboxes: &BTreeMap<u64, Mailbox>) -> Option<Found> {
        let (first, victim, object) = self.victim()?;
        let order = self.order(first);
        let places: BTreeMap<CallerKey, u64> = order.iter().copied().zip(0..).collect();
        let listed = order.iter().take(Deadlock::MOST_MEMBERS);
        let members = listed.filter_map(|caller| {
            let waits = self.cycle.callers.get(caller)?;
            let call = self.call_of(*waits.first()?)?;
            Some(Caller::new(
                inspector.peer(call),
                caller.1,
                self.holds(*caller),
                waits
                    .iter()
                    .filter_map(|place| self.wait(*place, &places))
                    .collect(),
            ))
        });
        let size = order.len().try_into().unwrap_or(u64::MAX);
        Some(Found {
            deadlock: Deadlock::new(members.collect(), size),
            key: self.key(),
            victim: (mailboxes.get(&object)?.clone(), victim),
        })
    }

    /// The victim: among the callers that hold something that other callers wait for, the one that began to
    /// wait last. Returned with its call and the object that it waits for.
    fn victim(&self) -> Option<(CallerKey, CallId, u64)> {
        let holders = self.cycle.callers.iter();
        let holders = holders.filter(|(caller, _)| self.holdings(**caller).next().is_some());
        let waits =
            holders.flat_map(|(caller, waits)| waits.iter().map(move |wait| (*caller, *wait)));
        let waits = waits.filter_map(|(caller, place)| {
            let view = self.views.get(place.resource)?;
            let waiting = view.waiter(place.position)?;
            Some((waiting.since, waiting.call, caller, view.object))
        });
        let (_, call, caller, object) = waits.max()?;
        Some((caller, call, object))
    }

    /// The callers, each before the caller that it waits for where that is possible.
    fn order(&self, first: CallerKey) -> Vec<CallerKey> {
        let mut left: BTreeSet<CallerKey> = self.cycle.callers.keys().copied().collect();
        let mut order = Vec::new();
        let mut next = Some(first);
        while let Some(caller) = next.or_else(|| left.first().copied()) {
            left.remove(&caller);
            order.push(caller);
            let waits = self.cycle.callers.get(&caller).into_iter().flatten();
            next = waits
                .flat_map(|place| self.holders(*place).chain(self.before(*place)))
                .find(|other| left.contains(other));
        }
        order
    }

    fn call_of(&self, place: WaitIndex) -> Option<CallId> {
        let waiter = self.views.get(place.resource)?.waiter(place.position)?;
        Some(waiter.call)
    }

    /// The callers that hold units of the part at `place`.
    fn holders(&self, place: WaitIndex) -> impl Iterator<Item = CallerKey> {
        let view = self.views.get(place.resource).into_iter();
        let holders = view.flat_map(|view| {
            let held = view.part.holders.iter().filter(|holder| holder.units > 0);
            held.filter_map(|holder| view.caller(holder.call))
        });
        holders.filter(|caller| self.cycle.callers.contains_key(caller))
    }

    /// The caller directly before a place in the queue of waiters.
    fn before(&self, WaitIndex { resource, position }: WaitIndex) -> Option<CallerKey> {
        let view = self.views.get(resource)?;
        let before = view.part.waiters.get(..position)?.iter().rev();
        let mut callers = before.filter_map(|waiter| view.caller(waiter.call));
        callers.find(|caller| self.cycle.callers.contains_key(caller))
    }

    /// The units that a caller holds and other callers wait for.
    fn holdings(&self, caller: CallerKey) -> impl Iterator<Item = (&View<'a>, &Holding)> {
        let views = self.parts.iter().filter_map(|part| self.views.get(*part));
        views.flat_map(move |view| view.holds_of(caller).map(move |held| (view, held)))
    }

    fn holds(&self, caller: CallerKey) -> Vec<Claim> {
        let holds = self.holdings(caller).map(|(view, held)| {
            let mut claim = self.claim(view, held.units, held.mode, held.since);
            claim.fence = held.fence;
            claim
        });
        holds.collect()
    }

    fn wait(&self, place: WaitIndex, places: &BTreeMap<CallerKey, u64>) -> Option<WaitsFor> {
        let view = self.views.get(place.resource)?;
        let wanted = view.waiter(place.position)?;
        let listed = |caller: &CallerKey| {
            let place = places.get(caller).copied();
            place.filter(|place| *place < Deadlock::MOST_MEMBERS as u64)
        };
        let held_by: BTreeSet<u64> = self
            .holders(place)
            .filter_map(|caller| listed(&caller))
            .collect();
        Some(WaitsFor::new(
            self.claim(view, wanted.units, wanted.mode, wanted.since),
            held_by.into_iter().collect(),
            self.before(place).and_then(|caller| listed(&caller)),
        ))
    }

    fn claim(&self, view: &View<'_>, units: u64, mode: &str, since: Duration) -> Claim {
        // An object that was removed since the survey has no name any more.
        let named = self.names.get(&view.object);
        let named = named.map(|(kind, name)| ((*kind).to_owned(), name.text().into_owned()));
        let (kind, name) = named.unwrap_or_default();
        let lasted = view.at.saturating_sub(since);
        let mut claim = Claim::new(kind, name, units, lasted);
        claim.key.clone_from(&view.part.key);
        mode.clone_into(&mut claim.mode);
        claim
    }

    fn key(&self) -> Key {
        let callers = self.cycle.callers.iter();
        callers
            .flat_map(|(caller, waits)| {
                let held = self.holdings(*caller).map(|(_, held)| held.call);
                let waiting = waits.iter().filter_map(|place| self.call_of(*place));
                held.chain(waiting)
            })
            .collect()
    }
}
