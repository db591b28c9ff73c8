//! Surveys the contended objects, and reports the deadlocks among their callers.

use std::collections::{BTreeSet, HashMap};

use lockkeeper_actors::{Mailbox, ObjectReport};
use lockkeeper_protocol::{CallId, Caller, Claim, Deadlock, Fault};
use tokio::task;

use crate::server::{
    deadlock::report::{Draft, Key, Member, deadlocks},
    inspection::{Inspector, MOST_OBJECTS, ask},
    supervisor::supervisor::{Find, Found as FoundObject},
};

/// A deadlock, and the call that the manager fails if the policy says so.
pub(crate) struct Found {
    pub(crate) deadlock: Deadlock,
    pub(super) key: Key,
    pub(super) victim: (Mailbox, CallId),
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
    let mut above = Some(0);
    while let Some(number) = above {
        let contended = inspector.shell.contended().above(number, MOST_OBJECTS);
        let is_full = contended.len() >= MOST_OBJECTS;
        above = contended.last().map(|(object, _)| *object);
        above = above.filter(|_| is_full);
        reports.extend(ask(contended, inspector.shell.now()).await);
    }
    let drafts = if are_few(&reports) {
        deadlocks(&reports)
    } else {
        // The thread also frees the reports.
        let found = task::spawn_blocking(move || deadlocks(&reports)).await;
        found.map_err(|_| Fault::ShuttingDown)?
    };
    if drafts.is_empty() {
        return Ok(Vec::new());
    }
    let objects = drafts.iter().flat_map(objects_of).collect();
    let named = inspector.find(Find::Numbered(objects)).await?;
    let objects: Objects = named
        .into_iter()
        .map(|found| (found.name.number(), found))
        .collect();
    let told = drafts.into_iter().filter_map(|draft| {
        let (object, call) = draft.victim;
        // An object that was removed since the survey has failed its callers.
        let mailbox = objects.get(&object)?.mailbox.clone();
        let members = draft.members.into_iter();
        let members = members.map(|member| named_by(&objects, inspector, member));
        Some(Found {
            deadlock: Deadlock::new(members.collect(), draft.size),
            key: draft.key,
            victim: (mailbox, call),
        })
    });
    Ok(told.collect())
}

/// Returns whether the reports list at most [`MOST_CALLS`] calls.
fn are_few(reports: &[(u64, ObjectReport)]) -> bool {
    let mut left = MOST_CALLS;
    let surveys = reports
        .iter()
        .filter_map(|(_, report)| report.survey.as_ref());
    for part in surveys.flat_map(|survey| &survey.parts) {
        let calls = 1 + part.holders.len() + part.waiters.len();
        match left.checked_sub(calls) {
            Some(less) => left = less,
            None => return false,
        }
    }
    true
}

/// The objects that a report names.
fn objects_of(draft: &Draft) -> BTreeSet<u64> {
    let claims = draft.members.iter().flat_map(|member| {
        let held = member.holds.iter().map(|(object, _)| *object);
        held.chain(member.waits.iter().map(|(object, _)| *object))
    });
    claims.chain([draft.victim.0]).collect()
}

/// Objects, by their numbers.
type Objects = HashMap<u64, FoundObject>;

/// A caller with its process and the names of its objects.
fn named_by(objects: &Objects, inspector: &Inspector<'_>, member: Member) -> Caller {
    let name = |object: u64, claim: &mut Claim| {
        // An object that was removed since the survey has no name any more.
        if let Some(found) = objects.get(&object) {
            found.kind.clone_into(&mut claim.kind);
            claim.name = found.name.text().into_owned();
        }
    };
    let holds = member.holds.into_iter().map(|(object, mut claim)| {
        name(object, &mut claim);
        claim
    });
    let waits = member.waits.into_iter().map(|(object, mut wait)| {
        name(object, &mut wait.wants);
        wait
    });
    Caller::new(
        inspector.peer(member.call),
        member.caller,
        holds.collect(),
        waits.collect(),
    )
}
