//! Requests that are answered with a fault: the call fails and its session continues.

use lockkeeper_actors::{
    Primitive,
    data::{Queue, TaskQueue},
    sync::{
        Barrier, BoundedSemaphore, Condition, Event, KeyedLock, KeyedSemaphore, Latch, Semaphore,
    },
};
use lockkeeper_protocol::{
    CallId, Fault, ObjectName, Operation, Page, Proof, Question, Refusal, Shard, WrongKind,
    WrongSpec,
    codec::{Blob, BlobRef},
    frame::{ANSWER_MARGIN_BYTES, Request, Response},
    operations::{
        Acquire, AcquireMany, Chunk, CountSleepers, Finished, GetKeyStatus, Granted, JobOutcome,
        KeyStatus, LatchSpec, OnDeath, Release, ReleaseBy, SemaphoreSpec, Submit, TaskQueueStatus,
    },
};

use crate::{
    limits::Limits,
    server::session::{
        control::NIL,
        tests::{Client, Heard, House, KIND, SPEC, encoded, number_of, operation, release},
    },
    tests::{protocol::INCARNATION, raw::frame},
};

const SEMAPHORE: &str = Semaphore::KIND;

async fn client() -> (House, Client) {
    let house = House::new(Limits::default());
    let client = house.welcome().await;
    (house, client)
}

fn permits(permits: i128) -> Vec<u8> {
    encoded(&SemaphoreSpec {
        permits,
        release_by: ReleaseBy::Holder,
    })
}

/// A request that opens an object with an empty spec.
fn open<'a>(seq: u64, kind: &'a str, name: Option<&'a str>) -> Request<'a> {
    let spec = Some(BlobRef(NIL));
    Request::Open {
        seq,
        kind,
        name,
        spec,
    }
}

#[actix_rt::test]
async fn an_unknown_object_operation_or_argument_is_a_fault() {
    let (_house, mut client) = client().await;
    let lock = client.open_lock("jobs").await;
    let none: Result<(), Fault> = client.call(lock + 1, 0, None, &[0x90]).await;
    assert_eq!(none, Err(Fault::UnknownObject("number 1".to_owned())));
    let none: Result<(), Fault> = client.call(u32::MAX, 0, None, &[0x90]).await;
    assert!(matches!(none, Err(Fault::UnknownObject(_))));
    for operation in [7, u32::MAX] {
        let none: Result<(), Fault> = client.call(lock, operation, None, &[0x90]).await;
        let name = format!("number {operation}");
        assert_eq!(none, Err(Fault::UnknownOperation(name)));
    }
    let deep = [0x91; 1000];
    let (number, release) = operation(&Release {
        grant: Proof::Signed(client.sign(1)),
    });
    let cut = &release[..release.len() - 1];
    for wrong in [&[][..], &[0x90], &[0xc1], &[0x91, 0xc0], cut, &deep] {
        let none: Result<(), Fault> = client.call(lock, number, None, wrong).await;
        assert!(matches!(none, Err(Fault::BadArguments(_))), "{wrong:?}");
    }
    assert!(client.is_served().await);
}

/// Numbers that no spec and no count allows: negative ones, and those above 32 bits.
const NO_COUNTS: [i128; 6] = [
    -1,
    i64::MIN as i128,
    1 << 63,
    u64::MAX as i128,
    1 << 64,
    i128::MIN,
];

#[actix_rt::test]
async fn number_out_of_range_in_a_spec_is_refused_with_what_is_allowed_by_every_kind() {
    let (_house, mut client) = client().await;
    let kinds = [
        (SEMAPHORE, "0 to 4294967295"),
        (BoundedSemaphore::KIND, "0 to 4294967295"),
        (KeyedSemaphore::KIND, "1 to 4294967295"),
        (Barrier::KIND, "1 to 4294967295"),
        (Latch::KIND, "0 to 4294967295"),
        (Queue::KIND, "1 to 1000000000"),
    ];
    for number in NO_COUNTS.into_iter().chain([1 << 32]) {
        for (kind, allowed) in kinds {
            let spec = match kind {
                Barrier::KIND => encoded(&(number, OnDeath::Break)),
                Latch::KIND => encoded(&LatchSpec { count: number }),
                Queue::KIND => encoded(&(number, "text")),
                _ => permits(number),
            };
            let opened = client.open(kind, None, Some(&spec)).await;
            let Err(Fault::Refused(Refusal::Invalid(why))) = opened else {
                panic!("{kind} of {number}: {opened:?}");
            };
            assert!(
                why.contains(allowed) && why.contains(&number.to_string()),
                "{why}"
            );
        }
    }
    // A number of more than 127 bits is refused by the range of the kind, too.
    for (kind, spec) in [
        (SEMAPHORE, encoded(&(u128::MAX, ReleaseBy::Holder))),
        (Barrier::KIND, encoded(&(u128::MAX, OnDeath::Break))),
        (Latch::KIND, encoded(&(u128::MAX,))),
    ] {
        let opened = client.open(kind, None, Some(&spec)).await;
        let Err(Fault::Refused(Refusal::Invalid(why))) = opened else {
            panic!("{kind}: {opened:?}");
        };
        assert!(why.contains("to 4294967295"), "{why}");
    }
    for wrong in [&b"\x92\xa1x\xa6Holder"[..], b"\x92\xc0\xa6Holder"] {
        let opened = client.open(SEMAPHORE, None, Some(wrong)).await;
        assert!(matches!(opened, Err(Fault::BadArguments(_))), "{opened:?}");
    }
}

#[actix_rt::test]
async fn number_out_of_range_in_a_count_is_a_refusal_of_every_kind() {
    let (_house, mut client) = client().await;
    let semaphore = client
        .open(SEMAPHORE, None, Some(&permits(2)))
        .await
        .unwrap();
    let keyed = client
        .open(KeyedSemaphore::KIND, None, Some(&permits(2)))
        .await
        .unwrap();
    let latch = client
        .open(Latch::KIND, None, Some(&encoded(&LatchSpec { count: 2 })))
        .await;
    let event = client.open(Event::KIND, None, Some(NIL)).await.unwrap();
    let acquired: Result<Result<Granted, Refusal>, Fault> =
        client.call(semaphore, 0, None, &encoded(&(2,))).await;
    acquired.unwrap().unwrap();
    let grant = Proof::Own(client.last_seq);
    let latch = latch.unwrap();
    for number in NO_COUNTS {
        let too_many = |most| match u64::try_from(number) {
            Ok(asked) => Refusal::TooMany { asked, most },
            Err(_) if number > 0 => Refusal::TooMany {
                asked: u64::MAX,
                most,
            },
            Err(_) => Refusal::Invalid(String::new()),
        };
        let or_invalid = |refusal| {
            if number < 0 {
                Refusal::Invalid(String::new())
            } else {
                refusal
            }
        };
        let most = u32::MAX.into();
        for (object, operation, arguments, refusal) in [
            (semaphore, 0, encoded(&(number,)), too_many(most)),
            (
                semaphore,
                1,
                encoded(&(grant, number)),
                or_invalid(Refusal::NotHeld),
            ),
            (
                semaphore,
                2,
                encoded(&(grant, number)),
                or_invalid(Refusal::NotHeld),
            ),
            (
                semaphore,
                3,
                encoded(&(number,)),
                or_invalid(Refusal::OverRelease { bound: most }),
            ),
            (keyed, 0, encoded(&("key", number)), too_many(2)),
            (
                latch,
                0,
                encoded(&(number,)),
                Refusal::Invalid(String::new()),
            ),
            (
                latch,
                2,
                encoded(&(number,)),
                Refusal::Invalid(String::new()),
            ),
            (
                event,
                2,
                encoded(&(number,)),
                Refusal::Invalid(String::new()),
            ),
        ] {
            let reply: Result<Result<(), Refusal>, Fault> =
                client.call(object, operation, Some(0), &arguments).await;
            match (reply, refusal) {
                (Ok(Err(Refusal::Invalid(why))), Refusal::Invalid(_)) => {
                    assert!(why.contains(&number.to_string()), "{why}");
                }
                (reply, refusal) => assert_eq!(reply, Ok(Err(refusal)), "{operation} of {number}"),
            }
        }
    }
}

#[actix_rt::test]
async fn release_of_no_permits_is_invalid() {
    let (_house, mut client) = client().await;
    let semaphore = client
        .open(SEMAPHORE, None, Some(&permits(2)))
        .await
        .unwrap();
    let acquired: Result<Result<Granted, Refusal>, Fault> =
        client.call(semaphore, 0, None, &encoded(&(2,))).await;
    acquired.unwrap().unwrap();
    let grant = Proof::Own(client.last_seq);
    for operation in [1, 2] {
        let none: Result<Result<(), Refusal>, Fault> = client
            .call(semaphore, operation, None, &encoded(&(grant, 0)))
            .await;
        assert!(matches!(none, Ok(Err(Refusal::Invalid(_)))), "{none:?}");
        let one: Result<Result<(), Refusal>, Fault> = client
            .call(semaphore, operation, None, &encoded(&(grant, 1)))
            .await;
        assert_eq!(one, Ok(Ok(())));
    }
}

#[actix_rt::test]
async fn long_names_are_not_repeated_in_answers() {
    let (_house, mut client) = client().await;
    let long = "n".repeat(1 << 20);
    let question = Question::Named(long.clone());
    for request in [
        open(client.seq(), &long, Some("jobs")),
        open(client.seq(), &long, None),
        open(client.seq(), KIND, Some(&long)),
        Request::Remove {
            seq: client.seq(),
            name: &long,
        },
        Request::Inspect {
            seq: client.seq(),
            question,
        },
    ] {
        client.raw.send(&request).await;
        let answer = client.raw.hear().await.expect("an answer");
        assert!(
            matches!(Response::decode(&answer), Ok(Response::Fault { .. })),
            "{answer:?}"
        );
        assert!(answer.len() < 1000, "{} bytes", answer.len());
    }
    assert!(client.is_served().await);
}

#[actix_rt::test]
async fn texts_that_are_much_too_long_are_refused_for_their_length_before_they_are_read() {
    let (_house, mut client) = client().await;
    let long = "n".repeat((1 << 16) + 1);
    let question = Question::Named("n".repeat((1 << 16) + 100));
    let mut faults = Vec::new();
    for request in [
        open(client.seq(), &long, None),
        open(client.seq(), KIND, Some(&long)),
        Request::Remove {
            seq: client.seq(),
            name: &long,
        },
        Request::Inspect {
            seq: client.seq(),
            question,
        },
    ] {
        client.raw.send(&request).await;
        let answer = client.raw.hear().await.expect("an answer");
        match Response::decode(&answer) {
            Ok(Response::Fault { fault, .. }) => faults.push(fault),
            other => panic!("no fault: {other:?}"),
        }
    }
    let rule = encoded(&ReleaseBy::Holder);
    let keys = client.open(KeyedLock::KIND, None, Some(&rule)).await;
    let key = long.as_str().into();
    let status = encoded(&GetKeyStatus { key });
    let number = number_of::<KeyedLock>(GetKeyStatus::NAME);
    let refused = client.call::<KeyStatus>(keys.unwrap(), number, None, &status);
    faults.extend(refused.await.err());
    let condition = client.open(Condition::KIND, None, Some(&rule)).await;
    let sleepers = encoded(&CountSleepers { set: long });
    let number = number_of::<Condition>(CountSleepers::NAME);
    let refused = client.call::<Result<u64, Refusal>>(condition.unwrap(), number, None, &sleepers);
    faults.extend(refused.await.err());
    assert_eq!(faults.len(), 6);
    for fault in faults {
        let is_length =
            matches!(&fault, Fault::BadArguments(why) if why.contains("at most 65536 bytes"));
        assert!(is_length, "{fault:?}");
    }
    assert!(client.is_served().await);
}

#[actix_rt::test]
async fn a_cast_that_makes_no_sense_is_unheard() {
    let (_house, mut client) = client().await;
    let lock = client.open_lock("jobs").await;
    for (object, operation, arguments) in [
        (lock + 1, 0, &[0x90][..]),
        (lock, 99, &[0x90]),
        (lock, 1, &[0xc1]),
        (lock, 1, &[0x91, 0x92, 0, 0]),
    ] {
        let arguments = BlobRef(arguments);
        let cast = Request::Cast {
            object,
            operation,
            arguments,
        };
        client.raw.send(&cast).await;
    }
    for bad in [
        encoded(&(4, client.seq(), lock, 1)),
        encoded(&(4, client.seq(), lock, -1, BlobRef(&[0x90]))),
        encoded(&(4, client.seq(), 1_u64 << 40, 1, BlobRef(&[0x90]))),
    ] {
        let length = u32::try_from(bad.len()).expect("a short frame");
        let bytes = [&length.to_be_bytes(), &bad[..]].concat();
        client.raw.write(&bytes).await.unwrap();
    }
    // The next answer is that of the next call.
    assert!(client.is_served().await);
}

#[actix_rt::test]
async fn withdrawing_what_is_unknown_changes_nothing() {
    let (house, mut client) = client().await;
    let lock = client.open_lock("jobs").await;
    client.try_acquire(lock).await.unwrap();
    for (object, seq) in [
        (lock + 1, 2),
        (u32::MAX, 2),
        (lock, 0),
        (lock, 1),
        (lock, 3),
    ] {
        client.raw.send(&Request::Withdraw { object, seq }).await;
    }
    for too_large in [(5, 1_u64 << 32, 2), (5, 0, u64::MAX)] {
        client.raw.send(&too_large).await;
    }
    assert!(client.status(lock).await.is_held);
    // Nor does a proof that is valid in another session.
    let mut other = house.welcome().await;
    let theirs = other.open_lock("jobs").await;
    let foreign = Request::Withdraw {
        object: theirs,
        seq: 2,
    };
    other.raw.send(&foreign).await;
    assert!(other.status(theirs).await.is_held);
}

#[actix_rt::test]
async fn a_call_is_answered_once_whether_it_is_withdrawn_before_or_after() {
    let (_house, mut client) = client().await;
    let lock = client.open_lock("jobs").await;
    client.try_acquire(lock).await.unwrap();
    let (number, arguments) = operation(&Acquire);
    let waiting = client.send(lock, number, None, &arguments).await;
    let withdraw = |seq| Request::Withdraw { object: lock, seq };
    client.raw.send(&withdraw(waiting)).await;
    client.raw.send(&withdraw(waiting)).await;
    assert_eq!(client.hear().await, Heard::Fault(waiting, Fault::Withdrawn));
    // The grant is given back without a second answer.
    client.raw.send(&withdraw(2)).await;
    assert!(!client.status(lock).await.is_held);
    assert_eq!(client.try_acquire(lock).await.unwrap().abandoned, None);
}

#[actix_rt::test]
async fn the_longest_deadline_waits_like_none() {
    let (_house, mut client) = client().await;
    let lock = client.open_lock("jobs").await;
    client.try_acquire(lock).await.unwrap();
    let (number, arguments) = operation(&Acquire);
    let waiting = client.send(lock, number, Some(u64::MAX), &arguments).await;
    let soon = client.send(lock, number, Some(1), &arguments).await;
    assert_eq!(client.hear().await, Heard::Fault(soon, Fault::TimedOut));
    assert_eq!(client.status(lock).await.waiting, 1);
    let cast = release(lock, 2);
    client.raw.write(&cast).await.unwrap();
    assert!(matches!(client.hear().await, Heard::Reply(seq, _) if seq == waiting));
}

#[actix_rt::test]
async fn an_unknown_kind_is_a_fault() {
    let (_house, mut client) = client().await;
    for kind in ["", "lokc", "Lock"] {
        let none = client.open(kind, Some("jobs"), Some(SPEC)).await;
        assert_eq!(none, Err(Fault::UnknownKind(kind.to_owned())));
    }
    assert!(client.is_served().await);
}

#[actix_rt::test]
async fn a_spec_that_does_not_fit_is_a_fault_and_makes_nothing() {
    let (_house, mut client) = client().await;
    for out_of_range in [-1, i64::MIN, 1 << 32, i64::MAX] {
        let spec = permits(out_of_range.into());
        let none = client.open(SEMAPHORE, Some("seats"), Some(&spec)).await;
        let why = format!("a semaphore has 0 to 4294967295 permits, not {out_of_range}");
        assert_eq!(none, Err(Fault::Refused(Refusal::Invalid(why))));
    }
    let deep = [0x91; 1000];
    for wrong in [
        &[][..],
        &[0xc0],
        &[0x90],
        &[0x92, 1, 2],
        &[0x91, 0xa0],
        &deep,
    ] {
        let none = client.open(SEMAPHORE, Some("seats"), Some(wrong)).await;
        assert!(matches!(none, Err(Fault::BadArguments(_))), "{wrong:?}");
    }
    for in_range in [0, u32::MAX.into()] {
        let spec = permits(in_range);
        client.open(SEMAPHORE, None, Some(&spec)).await.unwrap();
    }
    // The name is still free.
    client.open_lock("seats").await;
}

#[actix_rt::test]
async fn names_have_rules() {
    let (_house, mut client) = client().await;
    for name in ["", &"x".repeat(256), &"x".repeat(1 << 16), "#mine"] {
        let none = client.open(KIND, Some(name), Some(SPEC)).await;
        assert!(matches!(none, Err(Fault::BadName(_))), "{none:?}");
    }
    for name in ["", &"x".repeat(256)] {
        let none = client.remove(name).await;
        assert!(matches!(none, Err(Fault::BadName(_))), "{none:?}");
        let (seq, question) = (client.seq(), Question::Named(name.to_owned()));
        client.raw.send(&Request::Inspect { seq, question }).await;
        let none = client.hear().await;
        assert!(
            matches!(none, Heard::Fault(_, Fault::BadName(_))),
            "{none:?}"
        );
    }
    let mut numbers = Vec::new();
    for name in ["x", &"x".repeat(255), "\0", "ä # ü", "../x"] {
        numbers.push(client.open_lock(name).await);
    }
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
    assert_eq!(client.open_lock("x").await, 0);
}

#[actix_rt::test]
async fn a_taken_name_is_opened_as_what_it_is_or_not_at_all() {
    let (_house, mut client) = client().await;
    let (two, three) = (permits(2), permits(3));
    let seats = client.open(SEMAPHORE, Some("seats"), Some(&two)).await;
    assert_eq!(
        client.open(SEMAPHORE, Some("seats"), Some(&two)).await,
        seats
    );
    assert_eq!(client.open(SEMAPHORE, Some("seats"), None).await, seats);
    let other = client.open(SEMAPHORE, Some("seats"), Some(&three)).await;
    assert_eq!(
        other,
        Err(Fault::WrongSpec(Box::new(WrongSpec {
            name: "seats".to_owned(),
            kind: SEMAPHORE.to_owned(),
            is: r#"{permits: 2, release_by: "Holder"}"#.to_owned(),
            asked: r#"{permits: 3, release_by: "Holder"}"#.to_owned(),
        })))
    );
    let other = client.open(KIND, Some("seats"), Some(SPEC)).await;
    let wrong = Fault::WrongKind(Box::new(WrongKind {
        name: "seats".to_owned(),
        is: SEMAPHORE.to_owned(),
        asked: KIND.to_owned(),
    }));
    assert_eq!(other, Err(wrong));
    let none = client.open(KIND, Some("none"), None).await;
    assert_eq!(none, Err(Fault::UnknownObject("none".to_owned())));
    let none = client.open(KIND, None, None).await;
    assert!(matches!(none, Err(Fault::BadArguments(_))));
}

#[actix_rt::test]
async fn an_object_without_a_name_is_found_by_the_one_it_got_whatever_the_limit_of_names() {
    let house = House::new(Limits {
        name_bytes: 4,
        ..Limits::default()
    });
    let (mut client, mut other) = (house.welcome().await, house.welcome().await);
    let seq = client.seq();
    let open = Request::Open {
        seq,
        kind: KIND,
        name: None,
        spec: Some(BlobRef(SPEC)),
    };
    client.raw.send(&open).await;
    let frame = client.raw.hear().await.unwrap();
    let Ok(Response::Opened { name, .. }) = Response::decode(&frame) else {
        panic!("not opened");
    };
    assert!(name.starts_with('#'));
    assert_eq!(other.open(KIND, Some(&name), None).await, Ok(0));
}

#[actix_rt::test]
async fn a_removed_object_is_gone_for_all_and_its_name_is_free() {
    let (house, mut client) = client().await;
    let lock = client.open_lock("jobs").await;
    client.try_acquire(lock).await.unwrap();
    let mut other = house.welcome().await;
    let theirs = other.open_lock("jobs").await;
    let (number, arguments) = operation(&Acquire);
    let waiting = other.send(theirs, number, None, &arguments).await;
    // The answer shows that the earlier call has arrived.
    other.status(theirs).await;
    let seq = client.seq();
    let remove = frame(&Request::Remove { seq, name: "jobs" });
    client.raw.write(&remove).await.unwrap();
    let heard = [client.hear().await, client.hear().await];
    assert!(heard.contains(&Heard::Reply(seq, NIL.to_vec())));
    assert!(heard.contains(&Heard::Other("Gone { object: 0 }".to_owned())));
    let heard = [other.hear().await, other.hear().await];
    assert!(heard.contains(&Heard::Fault(waiting, Fault::Gone)));
    assert!(heard.contains(&Heard::Other("Gone { object: 0 }".to_owned())));
    assert_eq!(other.try_acquire(theirs).await, Err(Fault::Gone));
    let anew = other.open_lock("jobs").await;
    assert_eq!(anew, 1);
    other.try_acquire(anew).await.unwrap();
    assert_eq!(client.try_acquire(lock).await, Err(Fault::Gone));
    let seq = client.seq();
    client
        .raw
        .send(&Request::Remove { seq, name: "none" })
        .await;
    let unknown = Fault::UnknownObject("none".to_owned());
    assert_eq!(client.hear().await, Heard::Fault(seq, unknown));
}

#[actix_rt::test]
async fn calls_that_would_wait_above_the_limit_in_flight_are_refused_and_others_are_served() {
    let house = House::new(Limits {
        calls_in_flight: 2,
        ..Limits::default()
    });
    let (mut holder, mut client) = (house.welcome().await, house.welcome().await);
    let lock = holder.open_lock("jobs").await;
    holder.try_acquire(lock).await.unwrap();
    let lock = client.open_lock("jobs").await;
    let (number, arguments) = operation(&Acquire);
    let first = client.send(lock, number, None, &arguments).await;
    let own = client.open_lock("own").await;
    client.try_acquire(own).await.unwrap();
    let held = Proof::Own(client.last_seq);
    client.send(lock, number, None, &arguments).await;
    let refused = Fault::limit("calls in flight", 2);
    for micros in [None, Some(1_000_000)] {
        let waits: Result<(), Fault> = client.call(lock, number, micros, &arguments).await;
        assert_eq!(waits, Err(refused.clone()));
    }
    assert_eq!(client.try_acquire(lock).await, Err(Fault::TimedOut));
    assert_eq!(client.status(lock).await.waiting, 2);
    let (release, grant) = operation(&Release { grant: held });
    let released: Result<Result<(), Refusal>, Fault> =
        client.call(own, release, None, &grant).await;
    assert_eq!(released, Ok(Ok(())));
    assert!(client.try_acquire(own).await.is_ok());
    // Other clients have limits of their own.
    assert!(holder.status(0).await.is_held);
    let withdraw = Request::Withdraw {
        object: lock,
        seq: first,
    };
    client.raw.send(&withdraw).await;
    assert_eq!(client.hear().await, Heard::Fault(first, Fault::Withdrawn));
    assert_eq!(client.status(lock).await.waiting, 1);
    assert_eq!(client.try_acquire(lock).await, Err(Fault::TimedOut));
    assert_eq!(client.try_acquire(lock).await, Err(Fault::TimedOut));
}

#[actix_rt::test]
async fn objects_above_the_limit_are_refused_until_others_are_removed() {
    let house = House::new(Limits {
        objects: 1,
        ..Limits::default()
    });
    let mut client = house.welcome().await;
    client.open_lock("one").await;
    let refused = client.open(KIND, Some("two"), Some(SPEC)).await;
    assert_eq!(refused, Err(Fault::limit("hosted objects", 1)));
    assert_eq!(client.open_lock("one").await, 0);
    let seq = client.seq();
    client.raw.send(&Request::Remove { seq, name: "one" }).await;
    let heard = [client.hear().await, client.hear().await];
    assert!(heard.contains(&Heard::Reply(seq, NIL.to_vec())));
    client.open_lock("two").await;
}

#[actix_rt::test]
async fn task_of_the_exact_limit_reaches_its_worker_and_a_larger_one_is_refused() {
    let limits = Limits {
        frame_bytes: 1 << 16,
        ..Limits::default()
    };
    let most = limits.frame_bytes - ANSWER_MARGIN_BYTES;
    let house = House::new(limits);
    let mut client = house.welcome().await;
    let queue = client.open(TaskQueue::KIND, None, Some(NIL)).await.unwrap();
    let submit = |bytes| {
        encoded(&Submit {
            chunk: Chunk {
                task: String::new(),
                arguments: Blob::from(vec![7; bytes]),
            },
            rule: None,
            series: None,
        })
    };
    let around = submit(most - 100).len() - (most - 100);
    let number = number_of::<TaskQueue>("submit");
    let larger = submit(most - around + 1);
    let refused: Result<(), Fault> = client.call(queue, number, None, &larger).await;
    assert_eq!(refused, Err(Fault::limit("bytes of arguments", most)));
    // A job is longer than its submission.
    let fits = submit(most - around);
    assert_eq!(fits.len(), most);
    client.send(queue, number, None, &fits).await;
    let number = number_of::<TaskQueue>("next");
    let next = client.send(queue, number, None, &[0x92, 0xc0, 1]).await;
    let Heard::Reply(answered, body) = client.hear().await else {
        panic!("no job");
    };
    assert!(
        answered == next && body.len() > most,
        "{} bytes",
        body.len()
    );
    assert!(client.is_served().await);
}

#[actix_rt::test]
async fn a_worker_cannot_finish_what_it_was_not_given() {
    let (house, mut client) = client().await;
    let spec = Some(NIL);
    let queue = client.open(TaskQueue::KIND, Some("q"), spec).await.unwrap();
    let submit = encoded(&Submit {
        chunk: Chunk {
            task: "double".to_owned(),
            arguments: Blob::default(),
        },
        rule: None,
        series: None,
    });
    let number = number_of::<TaskQueue>("submit");
    let job = client.send(queue, number, None, &submit).await;
    let mut stranger = house.welcome().await;
    let theirs = stranger.open(TaskQueue::KIND, Some("q"), None).await;
    let finished = encoded(&Finished {
        job: CallId::new(client.id, job).into(),
        outcome: JobOutcome::Done(Blob::default()),
    });
    let number = number_of::<TaskQueue>("finished");
    let done = stranger
        .call(theirs.unwrap(), number, None, &finished)
        .await;
    assert_eq!(done, Ok(()));
    let number = number_of::<TaskQueue>("status");
    let count: TaskQueueStatus = client.call(queue, number, None, &[0x90]).await.unwrap();
    assert_eq!(count.waiting, 1);
}

#[actix_rt::test]
async fn a_grant_that_was_cast_is_held_until_its_session_ends() {
    let (house, mut client) = client().await;
    let spec = permits(1);
    let seats = client.open(SEMAPHORE, Some("seats"), Some(&spec)).await;
    let acquire = encoded(&AcquireMany { permits: 1 });
    let cast = Request::Cast {
        object: seats.unwrap(),
        operation: 0,
        arguments: BlobRef(&acquire),
    };
    client.raw.send(&cast).await;
    let refused: Result<(), Fault> = client.call(0, 0, Some(0), &acquire).await;
    assert_eq!(refused, Err(Fault::TimedOut));
    client.close().await;
    let mut other = house.welcome().await;
    let seats = other.open(SEMAPHORE, Some("seats"), None).await.unwrap();
    let granted: Result<Result<Granted, Refusal>, Fault> =
        other.call(seats, 0, Some(0), &acquire).await;
    assert!(granted.unwrap().is_ok());
}

#[actix_rt::test]
async fn a_cast_that_would_have_to_wait_is_not_kept_waiting() {
    let (house, mut client) = client().await;
    let lock = client.open_lock("jobs").await;
    client.try_acquire(lock).await.unwrap();
    let held = Proof::Own(client.last_seq);
    let mut other = house.welcome().await;
    let theirs = other.open_lock("jobs").await;
    let (number, arguments) = operation(&Acquire);
    let cast = Request::Cast {
        object: theirs,
        operation: number,
        arguments: BlobRef(&arguments),
    };
    other.raw.send(&cast).await;
    assert!(other.is_served().await);
    let (number, arguments) = operation(&Release { grant: held });
    let released: Result<Result<(), Refusal>, Fault> =
        client.call(lock, number, None, &arguments).await;
    assert_eq!(released, Ok(Ok(())));
    assert!(client.try_acquire(lock).await.is_ok(), "no call waited");
}

#[actix_rt::test]
async fn a_shard_has_its_own_names_alone() {
    let [zero, one] = [0, 1].map(|index| Shard::new(index, 2).expect("there are two"));
    for (shard, own, other) in [(zero, "stock", "jobs"), (one, "jobs", "stock")] {
        let house = House::of(shard, Limits::default());
        let mut client = house.welcome().await;
        let wrong = Fault::WrongShard {
            name: other.to_owned(),
            shard: 1 - shard.index(),
        };
        for spec in [Some(SPEC), None] {
            let refused = client.open(KIND, Some(other), spec).await;
            assert_eq!(refused, Err(wrong.clone()));
        }
        assert_eq!(client.remove(other).await, Err(wrong.clone()));
        let inspected: Result<Page, Fault> = client.ask(Question::Named(other.to_owned())).await;
        assert_eq!(inspected, Err(wrong));
        client
            .open(KIND, Some(own), Some(SPEC))
            .await
            .expect("its own");
        assert_eq!(client.remove(own).await, Ok(()));
        // The number of an object without a name contains its shard.
        let foreign = ObjectName::anonymous(INCARNATION, 6 + u64::from(1 - shard.index()))
            .text()
            .into_owned();
        let refused = client.open(KIND, Some(&foreign), None).await;
        assert!(matches!(refused, Err(Fault::WrongShard { .. })));
        let absent = ObjectName::anonymous(INCARNATION, 6 + u64::from(shard.index()))
            .text()
            .into_owned();
        assert_eq!(
            client.remove(&absent).await,
            Err(Fault::UnknownObject(absent.clone()))
        );
    }
}
