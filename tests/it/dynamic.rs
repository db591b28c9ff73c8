//! Untyped calls, by names and by bytes that are written from PROTOCOL.md.

use std::{collections::BTreeMap, time::Duration};

use futures::FutureExt;
use lockkeeper::{
    Address, CallError, Lock, Manager, Owner,
    deadlock::DeadlockPolicy,
    dynamic::{Answer, Hold, Object},
    errors::Fault,
};
use lockkeeper_test_support::{Role, Roles, kill, report, until};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    client::reconnect::{Host, reconnecting},
    manager::process::pid_of,
    run,
    waits::is_disconnected,
};

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("dynamic::adopter", adopt);
}

/// A timeout that always ends before an event.
const SHORT: Duration = Duration::from_millis(5);

/// Empty arguments, and nil.
const NONE: &[u8] = &[0x90];
const NIL: &[u8] = &[0xc0];

/// The grant of a lock: the fence, and the mark of a dead holder.
type Granted = (u64, Option<String>);

fn pack(value: impl Serialize) -> Vec<u8> {
    rmp_serde::to_vec(&value).unwrap()
}

fn bytes(value: &[u8]) -> Vec<u8> {
    [&[0xc4, value.len().try_into().unwrap()], value].concat()
}

/// Makes an array of encoded values.
fn array(values: &[&[u8]]) -> Vec<u8> {
    let length = 0x90 | u8::try_from(values.len()).unwrap();
    [&[length], values.concat().as_slice()].concat()
}

/// Returns the reply of an operation.
async fn ask<T: DeserializeOwned>(object: &Object, operation: &str, arguments: &[u8]) -> T {
    read(&object.call(operation, arguments).await.unwrap())
}

/// Returns the reply of an operation that names a hold.
async fn act<T: DeserializeOwned>(hold: &Hold, operation: &str, others: &[&[u8]]) -> T {
    let proof = hold.proof();
    let arguments = array(&[&[proof.as_slice()], others].concat());
    read(&hold.call(operation, &arguments).await.unwrap())
}

#[track_caller]
fn read<T: DeserializeOwned>(answer: &Answer) -> T {
    rmp_serde::from_slice(answer.reply())
        .unwrap_or_else(|error| panic!("{error}: {:02x?}", answer.reply()))
}

/// Acquires, and checks that the reply is a grant.
async fn acquire(object: &Object, arguments: &[u8]) -> Hold {
    let answer = object.call("acquire", arguments).await.unwrap();
    let (fence, abandoned) = read::<Result<Granted, String>>(&answer).unwrap();
    assert!(fence > 0 && abandoned.is_none());
    answer.into_hold()
}

async fn open(manager: &Manager, kind: &str, spec: &[u8]) -> Object {
    let object = Object::open(manager, kind, Some(kind), spec).await;
    let object = object.unwrap();
    assert_eq!((object.kind(), object.name()), (kind, kind));
    object
}

#[test]
fn locks_are_acquired_and_released() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let holder = pack("Holder");
        for kind in ["lock", "condition"] {
            let lock = open(&manager, kind, &holder).await;
            let hold = acquire(&lock, NONE).await;
            assert_eq!(
                ask::<(bool, u32, u64)>(&lock, "status", NONE).await,
                (true, 1, 0)
            );
            assert_eq!(
                act::<Result<(), String>>(&hold, "release", &[]).await,
                Ok(())
            );
            let late: Result<(), String> = act(&hold, "release", &[]).await;
            assert_eq!(late, Err("NotHeld".to_owned()));
        }
        let lock = open(&manager, "rw_lock", &holder).await;
        let reads = acquire(&lock, &pack(("Read",))).await;
        let upgradable = acquire(&lock, &pack(("Upgradable",))).await;
        let status: (u64, bool, bool, u64) = ask(&lock, "status", NONE).await;
        assert_eq!(status, (1, true, false, 0));
        assert_eq!(
            act::<Result<(), String>>(&reads, "release", &[]).await,
            Ok(())
        );
        let upgrade = array(&[&upgradable.proof()]);
        let writes = upgradable.call("upgrade", &upgrade).await.unwrap();
        assert!(read::<Result<Granted, String>>(&writes).is_ok());
        let writes = writes.into_hold();
        let read_on = pack("Read");
        assert_eq!(
            act::<Result<(), String>>(&writes, "downgrade", &[&read_on]).await,
            Ok(())
        );
        assert_eq!(
            act::<Result<(), String>>(&writes, "release", &[]).await,
            Ok(())
        );

        let keyed = open(&manager, "keyed_lock", &holder).await;
        let hold = acquire(&keyed, &pack(("key",))).await;
        assert_eq!(
            ask::<(u64, u64, u64, u64)>(&keyed, "status", NONE).await,
            (1, 1, 0, 0)
        );
        assert_eq!(
            act::<Result<(), String>>(&hold, "release", &[]).await,
            Ok(())
        );
        let keyed = open(&manager, "keyed_semaphore", &pack((2, "Holder"))).await;
        let hold = acquire(&keyed, &pack(("key", 2))).await;
        assert_eq!(
            act::<Result<(), String>>(&hold, "release", &[]).await,
            Ok(())
        );
        assert_eq!(
            ask::<(u64, u64, u64, u64)>(&keyed, "status", NONE).await,
            (0, 0, 0, 0)
        );
    });
}

#[test]
fn semaphores_are_acquired_and_released() {
    run(async {
        let manager = Manager::start().await.unwrap();
        for (kind, added) in [
            ("semaphore", Ok(())),
            (
                "bounded_semaphore",
                Err(BTreeMap::from([("OverRelease".to_owned(), (2,))])),
            ),
        ] {
            let permits = open(&manager, kind, &pack((2, "Holder"))).await;
            let hold = acquire(&permits, &pack((2,))).await;
            let count: (u64, u64, u64, bool) = ask(&permits, "status", NONE).await;
            assert_eq!(count, (0, 2, 0, false));
            let one = pack(1);
            for _ in 0..2 {
                assert_eq!(
                    act::<Result<(), String>>(&hold, "release", &[&one]).await,
                    Ok(())
                );
            }
            let add: Result<(), BTreeMap<String, (u32,)>> =
                ask(&permits, "add_permits", &pack((1,))).await;
            assert_eq!(add, added);
        }
    });
}

#[derive(Debug, PartialEq, Deserialize)]
enum Arrival {
    Act,
    Passed((u64, bool, u64)),
}

#[test]
fn events_conditions_barriers_and_latches_wake() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let event = open(&manager, "event", NIL).await;
        let waiting = tokio::spawn(event.call("wait", &array(&[NIL])));
        until("the call waits", || async {
            ask::<(bool, u64, u64)>(&event, "status", NONE).await == (false, 0, 1)
        })
        .await;
        assert_eq!(ask::<u64>(&event, "set", NONE).await, 1);
        assert_eq!(
            read::<Result<u64, String>>(&waiting.await.unwrap().unwrap()),
            Ok(1)
        );

        let condition = open(&manager, "condition", &pack("Holder")).await;
        let hold = acquire(&condition, NONE).await;
        let set = pack("");
        let sleep = array(&[&hold.proof(), &set]);
        let asleep = tokio::spawn(hold.wait("wait", &sleep));
        until("the call sleeps", || async {
            let sleepers: Result<u64, String> = ask(&condition, "sleepers", &array(&[&set])).await;
            sleepers == Ok(1)
        })
        .await;
        let other = acquire(&condition, NONE).await;
        let woken: Result<u64, String> = act(&other, "notify", &[&set, NIL]).await;
        assert_eq!(woken, Ok(1));
        assert_eq!(
            act::<Result<(), String>>(&other, "release", &[]).await,
            Ok(())
        );
        let awake = asleep.await.unwrap().unwrap();
        let (_, wake) = read::<Result<(Granted, String), String>>(&awake).unwrap();
        assert_eq!(wake, "Notified");
        let hold = awake.into_hold();
        let sleep = array(&[&hold.proof(), &set]);
        let awake = hold.wait("wait", &sleep).timeout(SHORT).await.unwrap();
        let (_, wake) = read::<Result<(Granted, String), String>>(&awake).unwrap();
        assert_eq!(wake, "TimedOut");
        assert_eq!(
            act::<Result<(), String>>(&awake.into_hold(), "release", &[]).await,
            Ok(())
        );

        let barrier = open(&manager, "barrier", &pack((1, "Break"))).await;
        let passed: Result<Arrival, String> = ask(&barrier, "wait", &pack((false,))).await;
        assert_eq!(passed, Ok(Arrival::Passed((0, true, 0))));
        let turn = barrier.call("wait", &pack((true,))).await.unwrap();
        assert_eq!(read::<Result<Arrival, String>>(&turn), Ok(Arrival::Act));
        let finished: Result<(u64, bool, u64), String> =
            act(&turn.into_hold(), "finish", &[]).await;
        assert_eq!(finished, Ok((0, true, 1)));

        let latch = open(&manager, "latch", &pack((1,))).await;
        let left: Result<u64, String> = ask(&latch, "count_down", &pack((1,))).await;
        assert_eq!(left, Ok(0));
        assert_eq!(
            ask::<Result<(), String>>(&latch, "wait", NONE).await,
            Ok(())
        );
    });
}

#[test]
fn queues_and_values_keep_bytes() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let spec = array(&[&pack(9), &pack("text")]);
        let queue = open(&manager, "queue", &spec).await;
        let typed = manager.named("queue").schema("text").queue::<String>(9);
        let typed = typed.await.unwrap();
        let item = bytes(&pack("ab"));
        let put: Result<(), String> = ask(&queue, "put", &array(&[&item])).await;
        assert_eq!(put, Ok(()));
        let taken = queue.call("get", NONE).await.unwrap();
        assert!(taken.reply().ends_with(&item), "{taken:?}");
        let taken = taken.into_hold();
        assert_eq!(
            act::<Result<(), String>>(&taken, "put_back", &[]).await,
            Ok(())
        );
        assert_eq!(*typed.get().await.unwrap(), "ab", "a typed proxy reads it");
        let taken = queue.call("get", NONE).await.unwrap().into_hold();
        assert_eq!(act::<Result<(), String>>(&taken, "done", &[]).await, Ok(()));
        ask::<()>(&queue, "join", NONE).await;

        let spec = array(&[&bytes(&[7]), &pack("u8")]);
        let value = open(&manager, "value", &spec).await;
        let stored = ask::<u64>(&value, "store", &array(&[&bytes(&[8])])).await;
        assert_eq!(stored, 1);
        let present = value.call("read", NONE).await.unwrap();
        assert_eq!(present.reply(), array(&[&pack(1), &bytes(&[8])]));
    });
}

#[test]
fn owners_acquire_a_reentrant_lock_independently() {
    run(async {
        let builder = Manager::builder().deadlocks(DeadlockPolicy::new());
        let manager = builder.start().await.unwrap();
        let lock = open(&manager, "reentrant_lock", &pack("Holder")).await;
        let [one, other] = [(); 2].map(|()| Owner::new());
        let number = |owner: &Owner| pack((owner.number(),));
        let mine = lock.owned_by(one.clone());
        let outer = acquire(&mine, &number(&one)).await;
        let inner = acquire(&mine, &number(&one)).await;
        let info = &manager.inspect().await.unwrap().objects[0].parts[0];
        assert_eq!(info.holders[0].caller, Some(one.number()));
        let theirs = lock.owned_by(other.clone());
        let late = theirs.call("acquire", &number(&other)).timeout(SHORT).await;
        assert!(late.unwrap_err().is_timeout());
        for hold in [inner, outer] {
            let entered = theirs.call("acquire", &number(&other)).timeout(SHORT).await;
            assert!(entered.unwrap_err().is_timeout());
            assert_eq!(
                act::<Result<(), String>>(&hold, "release", &[]).await,
                Ok(())
            );
        }
        let hold = acquire(&theirs, &number(&other)).await;
        assert_eq!(
            ask::<(bool, u32, u64)>(&lock, "status", NONE).await,
            (true, 1, 0)
        );
        hold.cast("release", &array(&[&hold.proof()])).unwrap();
        assert_eq!(
            ask::<(bool, u32, u64)>(&lock, "status", NONE).await,
            (false, 0, 0)
        );
    });
}

#[test]
fn dropped_call_is_withdrawn_and_the_manager_enforces_timeouts() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = open(&manager, "lock", &pack("Holder")).await;
        let hold = acquire(&lock, NONE).await;
        let late = lock.call("acquire", NONE).timeout(SHORT).await;
        assert!(late.unwrap_err().is_timeout());
        assert!(lock.call("acquire", NONE).now_or_never().is_none());
        assert_eq!(
            ask::<(bool, u32, u64)>(&lock, "status", NONE).await,
            (true, 1, 0)
        );
        let waiting = tokio::spawn(lock.call("acquire", NONE));
        until("the call waits", || async {
            ask::<(bool, u32, u64)>(&lock, "status", NONE).await.2 == 1
        })
        .await;
        waiting.abort();
        until("the call no longer waits", || async {
            ask::<(bool, u32, u64)>(&lock, "status", NONE).await.2 == 0
        })
        .await;
        lock.cast("force_unlock", NONE).await.unwrap();
        hold.lost().await;
        assert!(!hold.is_valid());
        let blocking = lock.clone();
        let thread = std::thread::spawn(move || blocking.call("acquire", NONE).blocking());
        assert!(thread.join().unwrap().unwrap().id() != hold.id());
    });
}

#[test]
fn errors_name_the_wrong_kind_operation_or_argument() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let fault = |outcome: Result<(), CallError>| match outcome {
            Err(CallError::Fault(fault)) => fault,
            other => panic!("no fault: {other:?}"),
        };
        // The kind of pools is none of a manager that programs connect to.
        for kind in ["nonesuch", "task_queue"] {
            let opened = Object::open(&manager, kind, None, NIL).await.map(drop);
            assert_eq!(fault(opened), Fault::UnknownKind(kind.to_owned()));
        }
        let opened = Object::open(&manager, "lock", None, &pack("Nobody")).await;
        assert!(matches!(fault(opened.map(drop)), Fault::BadArguments(_)));
        let lock = open(&manager, "lock", &pack("Holder")).await;
        let unknown = Fault::UnknownOperation("nonesuch".to_owned());
        assert_eq!(fault(lock.call("nonesuch", NONE).await.map(drop)), unknown);
        assert_eq!(fault(lock.cast("nonesuch", NONE).await), unknown);
        for wrong in [&[0xc1][..], &[], &[0x91], &[0x90, 0x90], &pack("x")] {
            let called = lock.call("release", wrong).await.map(drop);
            assert!(
                matches!(fault(called), Fault::BadArguments(_)),
                "{wrong:02x?}"
            );
        }
        let find = async |kind, name| Object::find(&manager, kind, name).await.unwrap();
        let found = find("lock", "none")
            .await
            .call("status", NONE)
            .await
            .map(drop);
        assert!(
            matches!(found, Err(CallError::NoObject { .. })),
            "{found:?}"
        );
        let found = find("event", "lock")
            .await
            .call("status", NONE)
            .await
            .map(drop);
        assert!(matches!(fault(found), Fault::WrongKind { .. }));
        assert_eq!(
            ask::<(bool, u32, u64)>(&find("lock", "lock").await, "status", NONE)
                .await
                .2,
            0
        );
        manager.remove("lock").await.unwrap();
        let gone = lock.call("status", NONE).await;
        assert!(matches!(gone, Err(CallError::Gone(_))));
    });
}

/// The configuration of a process that adopts a hold of a lock.
#[derive(Serialize, Deserialize)]
struct Adopt {
    address: Address,
    name: String,
    ticket: Vec<u8>,
}

async fn adopt(config: Adopt) {
    let manager = Manager::connect(config.address).await.unwrap();
    let lock = Object::find(&manager, "lock", &config.name).await.unwrap();
    let adopted = lock.call("adopt", &array(&[&config.ticket])).await.unwrap();
    let granted: Result<Granted, String> = read(&adopted);
    report(&granted.is_ok().to_string());
    std::future::pending::<()>().await;
}

#[test]
fn ticket_moves_a_hold_to_another_process() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = open(&manager, "lock", &pack("Holder")).await;
        let hold = acquire(&lock, NONE).await;
        let config = Adopt {
            address: lock.address().clone(),
            name: lock.name().to_owned(),
            ticket: hold.signed_proof(),
        };
        let mut adopter = Role::start("dynamic::adopter", &config);
        assert_eq!(adopter.next_report(), "true");
        hold.lost().await;
        adopter.kill();
        let typed: Lock = manager.named("lock").lock().await.unwrap();
        let marked = typed.acquire().await.unwrap();
        assert_eq!(
            marked.abandoned().map(|mark| mark.holder.pid),
            Some(adopter.pid())
        );
    });
}

#[test]
fn killed_manager_ends_calls_and_holds() {
    run(async {
        let manager = Manager::spawn().await.unwrap();
        let lock = open(&manager, "lock", &pack("Holder")).await;
        let hold = acquire(&lock, NONE).await;
        let waiting = tokio::spawn(lock.call("acquire", NONE));
        until("the call waits", || async {
            ask::<(bool, u32, u64)>(&lock, "status", NONE).await.2 == 1
        })
        .await;
        kill(pid_of(&manager).await);
        hold.lost().await;
        assert!(is_disconnected(&waiting.await.unwrap()));
        assert!(is_disconnected(&lock.call("status", NONE).await));
        assert!(is_disconnected(&hold.call("status", NONE).await));
        hold.cast("release", &array(&[&hold.proof()])).unwrap();
    });
}

#[test]
fn object_reconnects_and_its_hold_does_not() {
    run(async {
        let mut host = Host::start(1);
        let manager = reconnecting(&host.path()).await;
        let lock = open(&manager, "lock", &pack("Holder")).await;
        let old = acquire(&lock, NONE).await;
        host.restart();
        let new = acquire(&lock, NONE).await;
        assert!(is_disconnected(&old.call("status", NONE).await));
        // A call number of the old session may equal that of the new hold, but has no effect.
        old.cast("release", &array(&[&new.proof()])).unwrap();
        assert_eq!(
            ask::<(bool, u32, u64)>(&lock, "status", NONE).await,
            (true, 1, 0)
        );
        assert!(new.is_valid());
    });
}
