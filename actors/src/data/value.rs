//! The value: encoded bytes that any client reads or replaces, and a version that counts the changes.
//!
//! A value has no holder, so the death of a client does not change it.
//!
//! Invariant: a call that waits for a change waits for one after the current version.

use std::rc::{Rc, Weak};

use lockkeeper_protocol::{
    CallId, Fault, Refusal,
    codec::{self, Blob, Form},
    operations::{
        CheckType, Exchange, Exchanged, GetValueStatus, OnlyIf, Read, Store, Swap, ValueSpec,
        ValueStatus, Versioned, WaitChange,
    },
};
use serde::Serialize;

use crate::{
    data::typed::SchemaId,
    kind::{
        budget::StoredBytes,
        call::{Call, Outbox, SMALL_BYTES},
        hang_up::HangUp,
        primitive::{Operations, Primitive, Serve},
        survey::{Part, Survey, Waiting},
    },
    waiting::wait_queue::WaitQueue,
};

/// Bytes, the number of times they were set, and the calls that wait for the next change.
#[derive(Debug)]
pub struct Value {
    now: Versioned<Blob>,
    /// The counted bytes of the value that was set, shared with replies that wait to be encoded.
    stored: Option<Rc<StoredBytes>>,
    /// The counted bytes of the initial value while replies have it. Until the first change they also count
    /// in the object's spec.
    initial: Weak<StoredBytes>,
    schema: SchemaId,
    watchers: WaitQueue<Call<Result<Versioned<Blob>, Refusal>>>,
}

impl Value {
    /// Counts a new value in place of the current one.
    fn make_room(&mut self, value: &Blob, outbox: &Outbox) -> Result<(), Fault> {
        let bytes = value.0.len();
        // Bytes that replies still share stay counted.
        if let Some(stored) = self.stored.as_mut().and_then(Rc::get_mut) {
            return stored.resize(bytes);
        }
        self.stored = Some(Rc::new(outbox.store(bytes)?));
        Ok(())
    }

    /// Returns the counted bytes of the current value, for replies that have it.
    fn counted(&mut self, outbox: &Outbox) -> Option<Rc<StoredBytes>> {
        let bytes = self.now.value.0.len();
        if self.stored.is_some() || bytes <= SMALL_BYTES {
            return self.stored.clone();
        }
        if let Some(initial) = self.initial.upgrade() {
            return Some(initial);
        }
        let mut initial = outbox.store(0).ok()?;
        initial.set(bytes);
        let initial = Rc::new(initial);
        self.initial = Rc::downgrade(&initial);
        Some(initial)
    }

    /// Counts a new value as [`Self::make_room`] does, for a call whose reply has the current value. A long
    /// current value stays counted, because the reply may have to wait, so there has to be room for both.
    /// Returns its counted bytes.
    fn make_room_beside(
        &mut self,
        value: &Blob,
        outbox: &Outbox,
    ) -> Result<Option<Rc<StoredBytes>>, Fault> {
        if self.now.value.0.len() <= SMALL_BYTES {
            return self.make_room(value, outbox).map(|()| None);
        }
        let previous = self.counted(outbox);
        self.stored = Some(Rc::new(outbox.store(value.0.len())?));
        Ok(previous)
    }

    /// Sets the value, for which there is room, and answers all waiting calls. Every path that changes the
    /// value ends here. Returns the previous value.
    fn set(&mut self, value: Blob) -> Versioned<Blob> {
        let version = self.now.version + 1;
        let previous = std::mem::replace(&mut self.now, Versioned { version, value });
        for watcher in self.watchers.take_all() {
            reply(watcher, Ok(self.now.clone()), self.stored.as_ref());
        }
        previous
    }
}

/// Answers a call with a value.
fn reply<R: Serialize + 'static>(call: Call<R>, reply: R, stored: Option<&Rc<StoredBytes>>) {
    match stored {
        Some(stored) => call.reply_sharing(reply, stored),
        None => call.reply(reply),
    }
}

impl Primitive for Value {
    const KIND: &'static str = "value";
    const FORM: Form = Form::Compact;
    type Spec = ValueSpec;

    /// Shows the initial value, which is bytes in the spec.
    fn describe(ValueSpec { value, schema }: &ValueSpec) -> String {
        let value = codec::text_of_bytes(&value.0);
        format!("the first value {value} of the schema id {schema:?}")
    }

    fn create(ValueSpec { value, schema }: ValueSpec) -> Result<Self, Refusal> {
        Ok(Self {
            now: Versioned { version: 0, value },
            stored: None,
            initial: Weak::new(),
            schema: SchemaId::new(schema)?,
            watchers: WaitQueue::new(),
        })
    }

    fn operations(operations: &mut Operations<Self>) {
        operations
            .on::<Read>()
            .on::<Store>()
            .on::<Swap>()
            .on::<Exchange>()
            .on::<WaitChange>()
            .on::<GetValueStatus>()
            .on::<CheckType>();
    }

    fn withdraw(&mut self, id: CallId) {
        drop(self.watchers.remove(id));
    }

    fn hang_up(&mut self, ended: &HangUp) {
        drop(self.watchers.hang_up(ended));
    }

    fn drop_some(&mut self) -> bool {
        self.watchers.drop_some()
    }

    fn survey(&self) -> Survey {
        let Versioned { version, value } = &self.now;
        let waiters = self.watchers.iter().map(|(_, call)| Waiting {
            call: call.id(),
            units: 1,
            mode: "change",
            since: call.arrived(),
        });
        Survey {
            state: format!("version {version}, {} bytes", value.0.len()),
            parts: vec![Part::awaited(None, self.watchers.len(), waiters)],
        }
    }
}

impl Serve<Read> for Value {
    fn serve(&mut self, _: Read, call: Call<Versioned<Blob>>) {
        let stored = self.counted(call.outbox());
        reply(call, self.now.clone(), stored.as_ref());
    }
}

impl Serve<Store> for Value {
    fn serve(&mut self, Store { value }: Store, call: Call<u64>) {
        if let Err(fault) = self.make_room(&value, call.outbox()) {
            return call.fail(fault);
        }
        self.set(value);
        call.reply(self.now.version);
    }
}

impl Serve<Swap> for Value {
    fn serve(&mut self, Swap { value }: Swap, call: Call<Versioned<Blob>>) {
        match self.make_room_beside(&value, call.outbox()) {
            Ok(stored) => {
                let previous = self.set(value);
                reply(call, previous, stored.as_ref());
            }
            Err(fault) => call.fail(fault),
        }
    }
}

impl Serve<Exchange> for Value {
    fn serve(&mut self, Exchange { only_if, value }: Exchange, call: Call<Exchanged>) {
        let is_so = match only_if {
            OnlyIf::Equal(expected) => expected == self.now.value,
            OnlyIf::Version(version) => version == self.now.version,
        };
        if is_so {
            if let Err(fault) = self.make_room(&value, call.outbox()) {
                return call.fail(fault);
            }
            self.set(value);
            call.reply(Exchanged::Done(self.now.version));
        } else {
            let actual = Exchanged::Actual(self.now.clone());
            let stored = self.counted(call.outbox());
            reply(call, actual, stored.as_ref());
        }
    }
}

impl Serve<WaitChange> for Value {
    fn serve(
        &mut self,
        WaitChange { since }: WaitChange,
        call: Call<Result<Versioned<Blob>, Refusal>>,
    ) {
        let version = self.now.version;
        if !(0..=i128::from(version)).contains(&since) {
            call.reply(Err(Refusal::Invalid(format!(
                "the value was set {version} times so far: \
                 wait since a version from 0 to {version}, not {since}"
            ))));
        } else if since < version.into() {
            reply(call, Ok(self.now.clone()), self.stored.as_ref());
        } else {
            self.watchers.push(call);
        }
    }
}

impl Serve<GetValueStatus> for Value {
    fn serve(&mut self, _: GetValueStatus, call: Call<ValueStatus>) {
        let count = |number: usize| number.try_into().unwrap_or(u64::MAX);
        let mut status = ValueStatus::default();
        status.version = self.now.version;
        status.bytes = count(self.now.value.0.len());
        status.waiting = count(self.watchers.len());
        call.reply(status);
    }
}

impl Serve<CheckType> for Value {
    fn serve(&mut self, check: CheckType, call: Call<Result<(), Refusal>>) {
        call.reply(self.schema.check(check));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lockkeeper_protocol::{Fault, Operation};

    use crate::bench::Bench;

    use super::*;

    fn bytes(byte: u8) -> Blob {
        Blob::from(vec![byte])
    }

    /// A value of one byte.
    fn bench(byte: u8) -> Bench<Value> {
        Bench::new(ValueSpec {
            value: bytes(byte),
            schema: "u8".to_owned(),
        })
        .unwrap()
    }

    fn ask<O: Operation>(bench: &mut Bench<Value>, operation: O) -> O::Reply
    where
        Value: Serve<O>,
    {
        let id = bench.call(9, operation);
        bench.reply::<O>(id).expect("answered").expect("no fault")
    }

    fn versioned(version: u64, byte: u8) -> Versioned<Blob> {
        let value = bytes(byte);
        Versioned { version, value }
    }

    fn changed(bench: &Bench<Value>, id: CallId) -> Option<Versioned<Blob>> {
        let told = bench.reply::<WaitChange>(id)?;
        Some(told.expect("no fault").expect("no refusal"))
    }

    #[test]
    fn what_is_set_is_read_and_counted() {
        let mut bench = bench(7);
        assert_eq!(ask(&mut bench, Read), versioned(0, 7));
        assert_eq!(ask(&mut bench, Store { value: bytes(8) }), 1);
        assert_eq!(ask(&mut bench, Store { value: bytes(8) }), 2);
        assert_eq!(ask(&mut bench, Swap { value: bytes(9) }), versioned(2, 8));
        assert_eq!(ask(&mut bench, Read), versioned(3, 9));
    }

    #[test]
    fn exchange_is_done_only_with_what_was_expected() {
        let mut bench = bench(7);
        let exchange = |only_if, byte| Exchange {
            only_if,
            value: bytes(byte),
        };
        let equal = |byte| OnlyIf::Equal(bytes(byte));
        let actual = |version, byte| Exchanged::Actual(versioned(version, byte));
        assert_eq!(ask(&mut bench, exchange(equal(6), 1)), actual(0, 7));
        assert_eq!(ask(&mut bench, exchange(equal(7), 8)), Exchanged::Done(1));
        let version = OnlyIf::Version;
        assert_eq!(ask(&mut bench, exchange(version(0), 1)), actual(1, 8));
        assert_eq!(ask(&mut bench, exchange(version(2), 1)), actual(1, 8));
        assert_eq!(ask(&mut bench, exchange(version(1), 9)), Exchanged::Done(2));
        assert_eq!(ask(&mut bench, Read), versioned(2, 9));
    }

    #[test]
    fn every_watcher_hears_of_a_change_in_the_order_of_arrival() {
        let mut bench = bench(7);
        let waiting: Vec<CallId> = [3, 1, 2]
            .map(|session| bench.call(session, WaitChange { since: 0 }))
            .into();
        let exchange = Exchange {
            only_if: OnlyIf::Version(5),
            value: bytes(1),
        };
        ask(&mut bench, exchange);
        assert!(waiting.iter().all(|id| !bench.is_answered(*id)));
        let swap = bench.call(4, Swap { value: bytes(8) });
        for id in &waiting {
            assert_eq!(changed(&bench, *id), Some(versioned(1, 8)));
        }
        let told: Vec<u64> = waiting.iter().chain([&swap]).map(|id| id.seq()).collect();
        assert_eq!(bench.order()[1..], told);
    }

    #[test]
    fn no_change_between_two_calls_is_missed_and_who_lags_sees_the_last() {
        let mut bench = bench(7);
        for byte in 1..=5 {
            ask(&mut bench, Store { value: bytes(byte) });
        }
        let late = bench.call(1, WaitChange { since: 2 });
        assert_eq!(changed(&bench, late), Some(versioned(5, 5)));
        let next = bench.call(1, WaitChange { since: 5 });
        assert_eq!(changed(&bench, next), None);
        // A store counts as a change even if the value stays the same.
        ask(&mut bench, Store { value: bytes(5) });
        assert_eq!(changed(&bench, next), Some(versioned(6, 5)));
    }

    #[test]
    fn version_that_has_not_been_is_refused_with_what_is_allowed() {
        let mut bench = bench(7);
        ask(&mut bench, Store { value: bytes(8) });
        let Err(Refusal::Invalid(why)) = ask(&mut bench, WaitChange { since: 2 }) else {
            panic!("it was not refused");
        };
        assert!(why.contains("from 0 to 1, not 2"), "{why}");
    }

    #[test]
    fn description_without_end_is_refused() {
        let made = Bench::<Value>::new(ValueSpec {
            value: bytes(0),
            schema: "u8".repeat(2049),
        });
        let Err(Refusal::Invalid(why)) = made.map(drop) else {
            panic!("it was not refused");
        };
        assert!(why.contains("1 to 4096 bytes, not 4098"), "{why}");
    }

    #[test]
    fn who_is_withdrawn_too_late_or_dead_watches_no_longer() {
        let mut bench = bench(7);
        let watch = WaitChange { since: 0 };
        let withdrawn = bench.call(1, watch);
        let late = bench.call_within(2, watch, Duration::from_secs(1));
        bench.call(3, watch);
        let stays = bench.call(4, watch);
        let survey = bench.primitive().unwrap().survey();
        assert_eq!(survey.parts[0].waiters.len(), 4);
        assert_eq!(survey.state, "version 0, 1 bytes");
        bench.withdraw(withdrawn);
        bench.advance(Duration::from_secs(2));
        bench.hang_up(3);
        assert_eq!(
            [withdrawn, late].map(|id| bench.reply::<WaitChange>(id)),
            [Some(Err(Fault::Withdrawn)), Some(Err(Fault::TimedOut))]
        );
        assert_eq!(ask(&mut bench, GetValueStatus).waiting, 1);
        // The client that has set the value dies, and the value stays.
        let set = bench.call(5, Store { value: bytes(8) });
        bench.hang_up(5);
        assert_eq!(bench.times_answered(set), 1);
        assert_eq!(changed(&bench, stays), Some(versioned(1, 8)));
        assert_eq!([withdrawn, late].map(|id| bench.times_answered(id)), [1, 1]);
    }
}
