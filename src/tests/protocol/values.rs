//! Compares the values that PROTOCOL.md shows with the code: contents of frames, and faults.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use lockkeeper_protocol::{
    Abandoned, BreakReason, CallInfo, Caller, Claim, Deadlock, Fault, Fence, ObjectInfo, Page,
    PartInfo, Peer, Question, Refusal, Stats, WaitsFor, WrongKind, WrongSpec,
    codec::{self, Blob, Form},
    operations::{
        Access, Acquire, AcquireAs, AcquireFor, AcquireKey, AcquireKeyMany, AcquireMany, AdoptAs,
        AdoptedKey, Arrival, Arrive, ArriveAndWait, BarrierSpec, BarrierStatus, BarrierWaitResult,
        CheckType, Chunk, Collect, CountDown, CountSleepers, Delivery, Done, Downgrade, Due, Ended,
        EventStatus, Exchange, Exchanged, Feed, Finish, Finished, Granted, HandBack, Job,
        JobOutcome, Key, KeyPage, KeyStatus, KeyedStatus, LatchSpec, LatchStatus, LimitSeries,
        ListKeys, LockStatus, Next, Notify, OnlyIf, Put, PutBack, QueueSpec, QueueStatus, Release,
        ReleaseBy, ReleaseOutcomes, ReleasePermits, Row, RwLockStatus, SemaphoreSpec,
        SemaphoreStatus, Sleep, Store, Submit, Swap, TaskFault, Tended, Upgrade, ValueSpec,
        ValueStatus, Versioned, WaitChange, WaitSet, Wake, Woken,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::tests::{
    protocol::{FENCE, Sample, fresh_grant, grant_of, is_next, job_of, samples, ticket_of},
    raw::encoded,
};

/// Compares the values of one section with the code: each is encoded and decoded.
struct Values(std::vec::IntoIter<Sample>);

impl Values {
    fn of(section: &str) -> Self {
        let samples: Vec<Sample> = samples()
            .into_iter()
            .filter(|sample| sample.section == section && sample.mark == '=')
            .collect();
        assert!(!samples.is_empty(), "the document has no {section:?}");
        Self(samples.into_iter())
    }

    fn show<T: Serialize + DeserializeOwned>(&mut self, value: &T) -> &mut Self {
        self.show_in(Form::Compact, value)
    }

    fn show_named<T: Serialize + DeserializeOwned>(&mut self, value: &T) -> &mut Self {
        self.show_in(Form::Named, value)
    }

    fn show_in<T: Serialize + DeserializeOwned>(&mut self, form: Form, value: &T) -> &mut Self {
        let bytes = form.encode(value).expect("it encodes");
        let what = std::any::type_name::<T>();
        is_next(&mut self.0, '=', &bytes, what);
        let read: T = codec::decode(&bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(form.encode(&read).expect("it encodes"), bytes, "{what}");
        self
    }

    fn and_no_more(&self) {
        assert!(self.0.as_slice().is_empty(), "{:?}", self.0.as_slice());
    }
}

fn peer() -> Peer {
    Peer::new(4711, "demo", "")
}

fn abandoned() -> Abandoned {
    Abandoned::new(peer(), Duration::from_millis(1500), FENCE)
}

/// Returns the report of a caller that waits for its own hold.
fn deadlock() -> Deadlock {
    let second = Duration::from_secs(1);
    let claim = || Claim::new("lock".to_owned(), "jobs".to_owned(), 1, second);
    let mut held = claim();
    held.fence = Some(FENCE);
    let wait = WaitsFor::new(claim(), vec![0], None);
    Deadlock::new(vec![Caller::new(peer(), 7, vec![held], vec![wait])], 1)
}

#[test]
fn status_of_objects_is_written_as_the_document_shows() {
    let second = Duration::from_secs(1);
    let call = |caller, fence| {
        let mut call = CallInfo::default();
        (call.process, call.caller, call.units) = (peer(), caller, 1);
        (call.elapsed, call.fence) = (second, fence);
        call
    };
    let mut part = PartInfo::default();
    (part.units, part.held, part.waiting) = (Some(1), 1, 1);
    part.holders = vec![call(None, Some(FENCE))];
    part.waiters = vec![call(Some(7), None)];
    let object = |name: &str, state: &str| {
        let mut object = ObjectInfo::default();
        (object.name, object.state) = (name.to_owned(), state.to_owned());
        object.kind = "lock".to_owned();
        object
    };
    let mut held = object("jobs", "held");
    held.parts = vec![part];
    let mut stats = Stats::default();
    (stats.grants, stats.waits, stats.timeouts) = (1, 2, 3);
    (stats.cancellations, stats.disconnections) = (4, 5);
    (stats.deadlocks, stats.abandonments) = (6, 7);
    (stats.waited.count, stats.waited.max) = (1, second);
    let free = object("stock", "free");
    Values::of("### 7 Inspect")
        .show(&Question::Contended(0))
        .show(&Question::Named("jobs".to_owned()))
        .show(&Question::Deadlocks)
        .show(&Page {
            objects: vec![held],
            next: Some(4),
            numbers: Vec::new(),
        })
        .show(&Page {
            objects: vec![free],
            next: None,
            numbers: vec![4],
        })
        .show(&stats)
        .show(&vec![deadlock()])
        .and_no_more();
}

#[test]
fn values_are_written_as_the_document_shows() {
    Values::of("## How values are written")
        .show(&())
        .show(&Acquire)
        .show(&grant_of(2))
        .show(&ticket_of(2))
        .show(&peer())
        .show(
            &peer()
                .with_unverified_pid()
                .with_unnoticed_death()
                .at_host(Some("192.0.2.7".to_owned())),
        )
        .show(&Duration::from_millis(1500))
        .show(&abandoned())
        .show(&Ok::<(), Refusal>(()))
        .show(&Err::<(), Refusal>(Refusal::NotHeld))
        .and_no_more();
}

#[derive(Serialize, Deserialize)]
struct Item {
    id: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    tags: Vec<String>,
}

#[derive(Serialize, Deserialize)]
enum Shape {
    Move { x: i8, y: i8 },
    Line(u8, u8),
}

#[test]
fn values_of_programs_are_written_as_the_document_shows() {
    let item = Item {
        id: 7,
        note: None,
        tags: vec!["new".to_owned()],
    };
    Values::of("### Values of programs")
        .show_named(&item)
        .show_named(&Shape::Move { x: 1, y: -1 })
        .show_named(&Shape::Line(1, 2))
        .show_named(&Some(5))
        .show_named(&None::<u8>)
        .show_named(&Some(None::<u8>))
        .show_named(&Some(Some(None::<u8>)))
        .show_named(&(u128::from(u64::MAX) + 1))
        .show_named(&(i128::from(i64::MIN) - 1))
        .show_named(&BTreeMap::from([((1, true), 0.5)]))
        .and_no_more();
}

#[derive(Debug, PartialEq, Deserialize)]
struct Unit;

#[derive(Debug, PartialEq, Deserialize)]
struct Empty {}

#[test]
fn readers_accept_the_other_forms_that_the_document_names_and_no_others() {
    let (nil, map) = ([0xc0], [0x80]);
    assert_eq!(codec::decode::<Unit>(&nil), Ok(Unit));
    assert!(codec::decode::<Unit>(&map).is_err());
    assert_eq!(codec::decode::<Empty>(&map), Ok(Empty {}));
    assert!(codec::decode::<Empty>(&nil).is_err());
    for half in [encoded(&0.5_f32), encoded(&0.5_f64)] {
        assert_eq!(codec::decode::<f32>(&half), Ok(0.5));
        assert_eq!(codec::decode::<f64>(&half), Ok(0.5));
    }
    assert_eq!(codec::decode::<f32>(&[3]), Ok(3.0));
    let bytes: Vec<u8> = codec::decode(&[0xc4, 2, 1, 200]).expect("a list");
    assert_eq!(bytes, [1, 200]);
    let as_array: Item = codec::decode(&encoded(&(7, (), ["new"]))).expect("a record");
    assert_eq!((as_array.id, as_array.tags), (7, vec!["new".to_owned()]));
    // {"id": 7, "tags": [], "far": [[[..]]]}
    let mut deep = b"\x83\xa2id\x07\xa4tags\x90\xa3far".to_vec();
    deep.resize(deep.len() + 5000, 0x91);
    deep.push(0x90);
    let ignored: Item = codec::decode(&deep).expect("the type has no such field");
    assert_eq!(ignored.id, 7);
    assert!(codec::decode::<Vec<Nested>>(&deep[14..]).is_err());
}

#[derive(Deserialize)]
struct Nested(#[expect(dead_code, reason = "it is only decoded")] Vec<Self>);

#[test]
fn faults_and_refusals_are_written_as_the_document_shows() {
    let why = || "why".to_owned();
    let jobs = || "jobs".to_owned();
    Values::of("## Faults")
        .show(&Fault::Gone)
        .show(&Fault::TimedOut)
        .show(&Fault::Withdrawn)
        .show(&Fault::UnknownObject(jobs()))
        .show(&Fault::UnknownKind("lokc".to_owned()))
        .show(&Fault::UnknownOperation("number 7".to_owned()))
        .show(&Fault::WrongKind(Box::new(WrongKind {
            name: jobs(),
            is: "lock".to_owned(),
            asked: "semaphore".to_owned(),
        })))
        .show(&Fault::WrongSpec(Box::new(WrongSpec {
            name: jobs(),
            kind: "lock".to_owned(),
            is: "A".to_owned(),
            asked: "B".to_owned(),
        })))
        .show(&Fault::BadName(why()))
        .show(&Fault::WrongShard {
            name: jobs(),
            shard: 1,
        })
        .show(&Fault::BadArguments(why()))
        .show(&Fault::Refused(Refusal::Invalid(why())))
        .show(&Fault::Unencodable(why()))
        .show(&Fault::Unanswered("votes".to_owned()))
        .show(&Fault::limit("calls in flight", 1 << 20))
        .show(&Fault::NotAllowed(why()))
        .show(&Fault::ShuttingDown)
        .show(&Fault::Deadlock(Box::new(deadlock())))
        .and_no_more();
    Values::of("## Refusals")
        .show(&Refusal::NotHeld)
        .show(&Refusal::OverRelease { bound: 2 })
        .show(&Refusal::TooMany { asked: 3, most: 2 })
        .show(&Refusal::Closed)
        .show(&Refusal::Invalid(why()))
        .show(&Refusal::TooDeep { most: 65_536 })
        .show(&Refusal::StillInside { entries: 2 })
        .show(&Refusal::Broken(BreakReason::TimedOut))
        .show(&Refusal::Broken(BreakReason::Died(
            Peer::new(4711, "demo", "").into(),
        )))
        .show(&Refusal::WrongType {
            is: "u64".to_owned(),
            asked: "text".to_owned(),
        })
        .and_no_more();
}

#[test]
fn arguments_and_replies_are_written_as_the_document_shows() {
    let later = Fence::new(FENCE.number() + 1);
    let mut lock_status = LockStatus::default();
    (lock_status.is_held, lock_status.depth, lock_status.waiting) = (true, 1, 2);
    Values::of("### `lock`")
        .show(&Acquire)
        .show(&fresh_grant())
        .show(&Granted {
            fence: later,
            abandoned: Some(abandoned()),
        })
        .show(&ReleaseBy::Anyone)
        .show(&Release { grant: grant_of(2) })
        .show(&Release {
            grant: ticket_of(2),
        })
        .show(&Ok::<_, Refusal>(Granted {
            fence: later,
            abandoned: None,
        }))
        .show(&lock_status)
        .and_no_more();
    let granted = Granted {
        fence: FENCE,
        abandoned: None,
    };
    let too_many = Refusal::TooMany { asked: 3, most: 2 };
    let mut semaphore_status = SemaphoreStatus::default();
    (semaphore_status.held, semaphore_status.waiting) = (2, 1);
    Values::of("### `semaphore`")
        .show(&SemaphoreSpec::from(2))
        .show(&Ok::<_, Refusal>(granted))
        .show(&Err::<Granted, _>(too_many))
        .show(&ReleasePermits {
            grant: grant_of(12),
            permits: 1,
        })
        .show(&semaphore_status)
        .and_no_more();
    assert_eq!(encoded(&AcquireMany { permits: 2 }), [0x91, 2]);
    let finished = Finished {
        job: job_of(20),
        outcome: JobOutcome::Failed(TaskFault::Panicked("boom".to_owned())),
    };
    let chunk = Chunk {
        task: "double".to_owned(),
        arguments: Blob::from(vec![0, 0, 0, 1, 7]),
    };
    let job = Job {
        id: job_of(20),
        task: chunk.task.as_str().into(),
        row: Row::of_one(chunk.arguments.clone()),
        attempt: 1,
    };
    let again = Job {
        id: job_of(20),
        task: Arc::clone(&job.task),
        row: job.row.clone(),
        attempt: 2,
    };
    let two = vec![0, 0, 0, 1, 7, 0, 0, 0, 1, 8];
    let feed = Feed {
        series: 21,
        first: 22,
        task: "double".to_owned(),
        row: Row::new(two.into(), vec![5, 5]),
        rule: None,
    };
    let output = [&[0, 0, 0, 5][..], &encoded(&Ok::<_, TaskFault>(14))].concat();
    let ended = Ended {
        number: 22,
        outcome: Ok(output.into()),
    };
    Values::of("### `task_queue`")
        .show(&Submit {
            chunk,
            rule: None,
            series: None,
        })
        .show(&Next {
            finished: None,
            most: 1,
        })
        .show(&Next {
            finished: Some(finished),
            most: 64,
        })
        .show(&vec![job])
        .show(&vec![again])
        .show(&HandBack {
            jobs: vec![job_of(20)],
        })
        .show(&feed)
        .show(&Collect { series: 21 })
        .show(&vec![ended])
        .show(&LimitSeries {
            series: 21,
            most: 1 << 20,
        })
        .show(&ReleaseOutcomes {
            series: 21,
            bytes: 9,
            count: 1,
        })
        .show(&Tended {
            kill: vec![4712],
            next: Some(Due {
                at: 5000,
                micros: 1000,
            }),
        })
        .and_no_more();
}

#[test]
fn values_of_reentrant_locks_and_events_are_written_as_the_document_shows() {
    let (grant, owner) = (grant_of(2), 7);
    Values::of("### `reentrant_lock`")
        .show(&AcquireAs { owner })
        .show(&AdoptAs { grant, owner })
        .and_no_more();
    let mut status = EventStatus::default();
    (status.is_set, status.generation) = (true, 4);
    Values::of("### `event`")
        .show(&WaitSet { since: None })
        .show(&WaitSet { since: Some(3) })
        .show(&Ok::<u64, Refusal>(4))
        .show(&status)
        .and_no_more();
}

#[test]
fn values_of_conditions_are_written_as_the_document_shows() {
    let (grant, set) = (grant_of(2), || "not full".to_owned());
    let granted = Granted {
        fence: Fence::new(FENCE.number() + 1),
        abandoned: None,
    };
    let wake = Wake::Notified;
    Values::of("### `condition`")
        .show(&Sleep { grant, set: set() })
        .show(&Ok::<_, Refusal>(Woken { granted, wake }))
        .show(&Notify {
            grant,
            set: String::new(),
            most: Some(1),
        })
        .show(&Notify {
            grant,
            set: set(),
            most: None,
        })
        .show(&CountSleepers { set: set() })
        .and_no_more();
}

/// Makes a value by decoding the given one, because its type has no public constructor.
fn read<T: DeserializeOwned>(value: impl Serialize) -> T {
    codec::decode(&encoded(&value)).expect("the value has this type")
}

#[test]
fn values_of_barriers_are_written_as_the_document_shows() {
    let turn = grant_of(2);
    let passed: BarrierWaitResult = read((2, true, 0));
    let status: BarrierStatus = read((3, 1, 7, ()));
    Values::of("### `barrier`")
        .show(&BarrierSpec::from(3))
        .show(&Arrive { acts: true })
        .show(&Ok::<_, Refusal>(Arrival::Act))
        .show(&Ok::<_, Refusal>(Arrival::Passed(passed)))
        .show(&Finish { turn })
        .show(&Ok::<_, Refusal>(passed))
        .show(&status)
        .and_no_more();
}

#[test]
fn values_of_rw_locks_and_latches_are_written_as_the_document_shows() {
    let (grant, to) = (grant_of(2), Access::Read);
    let granted = Granted {
        fence: Fence::new(FENCE.number() + 1),
        abandoned: None,
    };
    let status: RwLockStatus = read((2, true, false, 1));
    Values::of("### `rw_lock`")
        .show(&AcquireFor {
            access: Access::Read,
        })
        .show(&AcquireFor {
            access: Access::Upgradable,
        })
        .show(&Upgrade { grant })
        .show(&Ok::<_, Refusal>(granted))
        .show(&Downgrade { grant, to })
        .show(&status)
        .and_no_more();
    let status: LatchStatus = read((2, 1));
    Values::of("### `latch`")
        .show(&LatchSpec { count: 3 })
        .show(&Ok::<u32, Refusal>(2))
        .show(&Ok::<(), Refusal>(()))
        .show(&status)
        .and_no_more();
    assert_eq!(encoded(&CountDown { by: 3 }), [0x91, 3]);
    assert_eq!(encoded(&ArriveAndWait { by: 3 }), [0x91, 3]);
}

#[test]
fn values_of_queues_are_written_as_the_document_shows() {
    let item = || Blob::from(encoded(&"ab"));
    let schema = || "text".to_owned();
    let delivery = grant_of(2);
    let status: QueueStatus = read((0, 100, 1, 0, 2, 1, false));
    Values::of("### `queue`")
        .show(&QueueSpec {
            capacity: Some(100),
            schema: schema(),
        })
        .show(&Put { item: item() })
        .show(&Ok::<_, Refusal>(Delivery {
            fence: FENCE,
            attempts: 1,
            abandoned: None,
            item: item(),
        }))
        .show(&Done { delivery })
        .show(&status)
        .show(&CheckType { schema: schema() })
        .and_no_more();
    assert_eq!(encoded(&PutBack { delivery }), encoded(&Done { delivery }));
}

#[test]
fn values_of_the_value_kind_are_written_as_the_document_shows() {
    let [seven, eight] = [7_u8, 8].map(|number| Blob::from(encoded(&number)));
    let exchange = |only_if| Exchange {
        only_if,
        value: eight.clone(),
    };
    let versioned = |version, value: &Blob| Versioned {
        version,
        value: value.clone(),
    };
    let store = Store {
        value: eight.clone(),
    };
    let swap = Swap {
        value: eight.clone(),
    };
    let status: ValueStatus = read((4, 1, 0));
    Values::of("### `value`")
        .show(&ValueSpec {
            value: seven.clone(),
            schema: "u8".to_owned(),
        })
        .show(&versioned(3, &seven))
        .show(&store)
        .show(&exchange(OnlyIf::Equal(seven.clone())))
        .show(&exchange(OnlyIf::Version(3)))
        .show(&Exchanged::Done(4))
        .show(&Exchanged::Actual(versioned(3, &seven)))
        .show(&WaitChange { since: 3 })
        .show(&Ok::<_, Refusal>(versioned(4, &eight)))
        .show(&status)
        .and_no_more();
    assert_eq!(encoded(&swap), encoded(&store));
}

#[test]
fn values_of_keyed_kinds_are_written_as_the_document_shows() {
    let key = || Key::from("record 7");
    let adopted = AdoptedKey {
        granted: Granted {
            fence: Fence::new(FENCE.number() + 1),
            abandoned: None,
        },
        key: key(),
        permits: 1,
    };
    let mut status = KeyStatus::default();
    (status.held, status.waiting) = (1, 2);
    let mut count = KeyedStatus::default();
    (count.keys, count.grants, count.waiting) = (1, 1, 2);
    let mut page = KeyPage::default();
    (page.keys, page.next) = (vec![key()], Some(8192));
    Values::of("### `keyed_lock`")
        .show(&AcquireKey { key: key() })
        .show(&Ok::<_, Refusal>(adopted))
        .show(&Ok::<_, Refusal>(status))
        .show(&count)
        .show(&ListKeys { from: 0 })
        .show(&page)
        .and_no_more();
    Values::of("### `keyed_semaphore`")
        .show(&SemaphoreSpec::from(3))
        .show(&AcquireKeyMany {
            key: key(),
            permits: 2,
        })
        .and_no_more();
}
