//! `Watch`: counts and reports the events of one hosted object.
//!
//! This is the only file of the crate that names `tracing`. Each method is named after the fact that it
//! records.
//!
//! Invariant: without a subscriber an event costs one read of a global, and formats nothing.

use std::{borrow::Cow, rc::Rc, time::Duration};

use lockkeeper_protocol::{CallId, Fault, FaultClass, ObjectName, Refusal, SessionId, codec};
use serde::de::IgnoredAny;

use crate::{
    host::{
        client::Client,
        input::RawCall,
        tally::{Tallies, Tally},
    },
    kind::{
        answer::{Answer, Outcome},
        call::Outbox,
        hang_up::HangUp,
    },
};

/// The target of events of objects.
const OBJECT: &str = "lockkeeper::object";

/// The target of events of calls.
const CALL: &str = "lockkeeper::call";

/// The record of one object for subscribers and counters.
#[derive(Debug)]
pub(crate) struct Watch {
    tally: Rc<Tally>,
    name: ObjectName,
}

impl Watch {
    /// Creates the record of a new object of a kind.
    pub(crate) fn begin(
        kind: &'static str,
        operations: impl Iterator<Item = (&'static str, bool)>,
        tallies: &Tallies,
    ) -> Self {
        let tally = tallies.of(kind, operations);
        tally.made.add(1);
        let name = ObjectName::default();
        Self { tally, name }
    }

    /// Records the notes of an outbox about the object's turns.
    pub(crate) fn tell(&self, outbox: &Outbox) {
        let granted = outbox.take_notes(|wait| self.waited(wait));
        self.granted(granted);
    }

    /// Records the name of a new object.
    pub(crate) fn named(&mut self, name: ObjectName) {
        self.name = name;
        tracing::debug!(target: OBJECT, kind = self.tally.kind, name = &*self.name(), "object made");
    }

    /// The manager's number of the object.
    pub(crate) const fn number(&self) -> u64 {
        self.name.number()
    }

    /// The name as a field of an event. It is formatted only if there is a subscriber.
    fn name(&self) -> Cow<'_, str> {
        self.name.text()
    }

    /// A call came and is served now.
    pub(crate) fn called(&self, call: &RawCall, client_of: impl FnOnce(SessionId) -> Client) {
        let tally = &*self.tally;
        let number = usize::try_from(call.operation).unwrap_or(usize::MAX);
        let operation = tally.calls.get(number);
        if let Some((_, count)) = operation {
            count.add(1);
        }
        if !call.id.is_one_way() {
            tally.asked.add(1);
        }
        tracing::trace!(
            target: CALL,
            kind = tally.kind,
            name = &*self.name(),
            session = call.id.session().number(),
            seq = call.id.seq(),
            operation = operation.map_or("unknown", |(name, _)| *name),
            "call came"
        );
        if tally.administrative.contains(&call.operation) {
            self.administered(call, &client_of(call.id.session()));
        }
    }

    /// A client that may administer has made a call that others may not make.
    #[cold]
    fn administered(&self, call: &RawCall, Client { peer, uid, key }: &Client) {
        let session = call.id.session().number();
        if Some(call.operation) == self.tally.force {
            tracing::warn!(
                target: OBJECT,
                kind = self.tally.kind,
                name = &*self.name(),
                session,
                uid,
                key,
                pid = peer.pid,
                host = peer.host,
                program = peer.program,
                label = peer.label,
                "hold taken by force"
            );
            return;
        }
        let number = usize::try_from(call.operation).ok();
        let operation = number.and_then(|number| self.tally.calls.get(number));
        tracing::info!(
            target: OBJECT,
            kind = self.tally.kind,
            name = &*self.name(),
            operation = operation.map_or("unknown", |(name, _)| *name),
            session,
            uid,
            key,
            pid = peer.pid,
            host = peer.host,
            program = peer.program,
            label = peer.label,
            "administrative call"
        );
    }

    /// A call was answered, or its grant is void.
    pub(crate) fn answered(&self, Answer { call, outcome }: &Answer<'_>) {
        let tally = &*self.tally;
        match outcome {
            Outcome::Reply(body) => {
                tally.answered.add(1);
                if codec::is_err(body) {
                    self.refused(*call, body);
                }
            }
            // A refusal is a short reply, so a large reply is none.
            Outcome::Large(_) => tally.answered.add(1),
            Outcome::Fault(fault) => {
                tally.answered.add(1);
                self.faulted(*call, fault);
            }
            Outcome::Revoked => self.revoked(*call),
        }
    }

    #[cold]
    fn refused(&self, call: CallId, body: &[u8]) {
        self.tally.refused.add(1);
        tracing::debug!(
            target: CALL,
            kind = self.tally.kind,
            name = &*self.name(),
            session = call.session().number(),
            seq = call.seq(),
            why = match codec::decode::<Result<IgnoredAny, Refusal>>(body) {
                Ok(Err(refusal)) => refusal.to_string(),
                // A registered kind has errors of its own.
                Ok(Ok(_)) | Err(_) => "refused".to_owned(),
            },
            "call refused"
        );
    }

    #[cold]
    fn faulted(&self, call: CallId, fault: &Fault) {
        let kind = self.tally.kind;
        let (session, seq) = (call.session().number(), call.seq());
        match fault.class() {
            FaultClass::TimedOut => {
                self.tally.timed_out.add(1);
                tracing::debug!(target: CALL, kind, name = &*self.name(), session, seq, "call timed out");
            }
            FaultClass::Withdrawn => {
                self.tally.withdrawn.add(1);
                tracing::debug!(target: CALL, kind, name = &*self.name(), session, seq, "call withdrawn");
            }
            FaultClass::Failed => {
                self.tally.faulted.add(1);
                tracing::debug!(
                    target: CALL, kind, name = &*self.name(), session, seq, why = %fault, "call failed"
                );
            }
        }
    }

    #[cold]
    fn revoked(&self, grant: CallId) {
        self.tally.revoked.add(1);
        tracing::info!(
            target: OBJECT,
            kind = self.tally.kind,
            name = &*self.name(),
            session = grant.session().number(),
            seq = grant.seq(),
            "grant revoked"
        );
    }

    /// A call that had waited was replied to.
    pub(crate) fn waited(&self, wait: Duration) {
        self.tally.waits.note(wait);
    }

    /// Something was granted `times` times.
    pub(crate) fn granted(&self, times: u64) {
        self.tally.granted.add(times);
    }

    /// A session ended that may have held something.
    pub(crate) fn hung_up(&self, ended: &HangUp) {
        let left = ended.take_left();
        let kind = self.tally.kind;
        let session = ended.session.number();
        // One session may leave a million keys, so one event reports all, with the longest of these holds.
        let holds = u64::try_from(left.marks.len()).unwrap_or(u64::MAX);
        self.tally.abandoned.add(holds);
        if let Some((held, fence)) = left.marks.iter().max() {
            tracing::warn!(
                target: OBJECT,
                kind,
                name = &*self.name(),
                session,
                pid = ended.peer.pid,
                program = ended.peer.program,
                label = ended.peer.label,
                holds,
                ?held,
                fence = fence.number(),
                "hold abandoned"
            );
        }
        if left.retried > 0 {
            self.tally.retried.add(left.retried);
            tracing::warn!(
                target: OBJECT,
                kind,
                name = &*self.name(),
                session,
                pid = ended.peer.pid,
                jobs = left.retried,
                "job restarted: its worker died"
            );
        }
    }

    /// The object was removed.
    pub(crate) fn removed(&self) {
        self.tally.removed.add(1);
        tracing::debug!(target: OBJECT, kind = self.tally.kind, name = &*self.name(), "object removed");
    }

    /// The object's code panicked.
    #[cold]
    pub(crate) fn failed(&self, why: &str) {
        self.tally.failed.add(1);
        tracing::error!(
            target: OBJECT,
            kind = self.tally.kind,
            name = &*self.name(),
            why,
            "object failed: its code panicked"
        );
    }
}

#[cfg(test)]
mod tests {
    use lockkeeper_protocol::Proof;
    use lockkeeper_protocol::operations::{
        Acquire, AcquireMany, ForceUnlock, GetLockStatus, Release, ReleaseBy, SemaphoreSpec,
    };

    use crate::{
        bench::Bench,
        sync::{lock::Lock, semaphore::Semaphore},
    };

    use super::*;

    fn lock() -> Bench<Lock> {
        Bench::new(ReleaseBy::Holder).unwrap()
    }

    fn waits(tally: &Tally) -> Vec<(Duration, u64)> {
        let mut waits = Vec::new();
        tally.waits.take(|wait, count| waits.push((wait, count)));
        waits
    }

    /// The number of calls of each operation that was called.
    fn calls(tally: &Tally) -> Vec<(&'static str, u64)> {
        let calls = tally.calls.iter().map(|(name, count)| (*name, count.get()));
        calls.filter(|(_, count)| *count > 0).collect()
    }

    #[test]
    fn call_that_is_answered_at_once_has_not_waited() {
        let mut bench = lock();
        let tally = bench.tally();
        bench.advance(Duration::from_secs(3));
        bench.call(1, Acquire);
        bench.call(1, GetLockStatus);
        assert_eq!(calls(&tally), [("acquire", 1), ("status", 1)]);
        assert_eq!((tally.asked.get(), tally.answered.get()), (2, 2));
        assert_eq!((tally.granted.get(), tally.waiting()), (1, 0));
        assert_eq!(waits(&tally), []);
    }

    #[test]
    fn wait_is_as_long_as_from_the_call_to_its_reply() {
        let mut bench = lock();
        let tally = bench.tally();
        let first = bench.call(1, Acquire);
        let waiting = bench.call(2, Acquire);
        assert_eq!(tally.waiting(), 1);
        bench.advance(Duration::from_micros(1 << 20));
        bench.call(
            1,
            Release {
                grant: Proof::own(first),
            },
        );
        assert!(bench.is_answered(waiting));
        assert_eq!(tally.waiting(), 0);
        let [(wait, 1)] = waits(&tally)[..] else {
            panic!("one has waited")
        };
        let error = wait.as_micros().abs_diff(1 << 20);
        assert!(error <= (1 << 20) / 16, "{wait:?}");
    }

    #[test]
    fn timeouts_withdrawals_refusals_and_faults_are_told_apart_and_are_no_waits() {
        let mut bench = lock();
        let tally = bench.tally();
        let held = bench.call(1, Acquire);
        bench.call_within(2, Acquire, Duration::from_secs(1));
        bench.advance(Duration::from_secs(2));
        assert_eq!(tally.timed_out.get(), 1);
        let waiting = bench.call(2, Acquire);
        bench.withdraw(waiting);
        assert_eq!(tally.withdrawn.get(), 1);
        bench.call(
            2,
            Release {
                grant: Proof::own(waiting),
            },
        );
        assert_eq!(tally.refused.get(), 1);
        bench.call(2, Acquire);
        bench.remove();
        assert_eq!(tally.faulted.get(), 1, "who waits is told that it is gone");
        bench.call(
            1,
            Release {
                grant: Proof::own(held),
            },
        );
        assert_eq!(tally.faulted.get(), 2);
        assert_eq!(tally.waiting(), 0);
        assert_eq!(tally.asked.get(), tally.answered.get());
        assert_eq!(waits(&tally), []);
    }

    #[test]
    fn grant_that_is_undone_unseen_is_no_second_answer() {
        let mut bench = lock();
        let tally = bench.tally();
        let granted = bench.call(1, Acquire);
        bench.withdraw(granted);
        assert_eq!((tally.answered.get(), tally.withdrawn.get()), (1, 0));
    }

    #[test]
    fn each_hold_that_a_session_leaves_is_counted_and_none_that_it_gave_back() {
        let mut bench = Bench::<Semaphore>::new(SemaphoreSpec {
            permits: 3,
            release_by: ReleaseBy::Holder,
        })
        .unwrap();
        let tally = bench.tally();
        let acquire = |bench: &mut Bench<Semaphore>, session: u64| -> CallId {
            bench.call(session, AcquireMany { permits: 1 })
        };
        acquire(&mut bench, 1);
        acquire(&mut bench, 1);
        acquire(&mut bench, 2);
        acquire(&mut bench, 3);
        bench.hang_up(1);
        assert_eq!(tally.abandoned.get(), 2);
        // A session that only waits, or has not opened the object, leaves nothing.
        bench.hang_up(4);
        assert_eq!(tally.abandoned.get(), 2);
    }

    #[test]
    fn hold_taken_by_force_is_revoked_and_not_abandoned() {
        let mut bench = lock();
        let tally = bench.tally();
        bench.call(1, Acquire);
        bench.call(2, ForceUnlock);
        bench.hang_up(1);
        assert_eq!((tally.revoked.get(), tally.abandoned.get()), (1, 0));
    }

    #[test]
    fn object_is_removed_once() {
        let mut bench = lock();
        let tally = bench.tally();
        assert_eq!(tally.objects(), 1);
        bench.remove();
        bench.remove();
        assert_eq!((tally.objects(), tally.removed.get()), (0, 1));
        assert_eq!(tally.made.get(), 1);
    }
}
