//! One client holds, waits for and opens as much as it can, and others still can.

use lockkeeper_actors::{
    Primitive,
    sync::{Event, KeyedLock, Semaphore},
};
use lockkeeper_protocol::{
    Operation,
    operations::{
        AcquireKey, AcquireMany, GetEventStatus, GetKeyedStatus, GetSemaphoreStatus, ReleaseBy,
        SemaphoreSpec, WaitSet,
    },
};
use tokio::task;

use crate::{
    server::session::{
        control::NIL,
        tests::{
            Client, Heard, House, KIND, SPEC, encoded, number_of,
            stored::{MOST, house, limit},
        },
    },
    tests::raw::patiently,
};

/// The number of waiting calls and holds for which room is reserved.
const RESERVED: usize = MOST / 8 / 256;

/// An object of which a client takes as much as it can.
struct Target {
    kind: &'static str,
    spec: Vec<u8>,
    /// The number and the arguments of the call that takes something.
    take: fn(usize) -> (u32, Vec<u8>),
    /// The number and the arguments of a call that is answered after it.
    status: (u32, Vec<u8>),
}

fn call<P: Primitive, O: Operation>(operation: &O) -> (u32, Vec<u8>) {
    (number_of::<P>(O::NAME), encoded(operation))
}

fn targets() -> [Target; 3] {
    [
        Target {
            kind: KeyedLock::KIND,
            spec: encoded(&ReleaseBy::Holder),
            take: |count| {
                let key = format!("{count}").as_str().into();
                call::<KeyedLock, _>(&AcquireKey { key })
            },
            status: call::<KeyedLock, _>(&GetKeyedStatus),
        },
        Target {
            kind: Semaphore::KIND,
            spec: encoded(&SemaphoreSpec::from(1_000_000)),
            take: |_| call::<Semaphore, _>(&AcquireMany { permits: 1 }),
            status: call::<Semaphore, _>(&GetSemaphoreStatus),
        },
        Target {
            kind: Event::KIND,
            spec: NIL.to_vec(),
            take: |_| call::<Event, _>(&WaitSet { since: None }),
            status: call::<Event, _>(&GetEventStatus),
        },
    ]
}

/// Makes calls at an object until one is refused for the limit, and returns how many were not.
async fn take_all(client: &mut Client, target: &Target, name: Option<&str>) -> usize {
    let object = client.open(target.kind, name, Some(&target.spec)).await;
    let object = object.expect("an object");
    for made in 0..10 * RESERVED {
        let (operation, arguments) = (target.take)(made);
        let taken = client.send(object, operation, None, &arguments).await;
        let (operation, arguments) = &target.status;
        let asked = client.send(object, *operation, None, arguments).await;
        loop {
            match client.hear().await {
                Heard::Reply(seq, _) if seq == asked => break,
                Heard::Reply(seq, _) if seq == taken => {}
                Heard::Fault(seq, fault) if seq == taken => {
                    assert_eq!(fault, limit());
                    assert!(matches!(client.hear().await, Heard::Reply(seq, _) if seq == asked));
                    return made;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    panic!("no call is refused");
}

#[actix_rt::test]
async fn client_that_holds_or_waits_for_all_it_can_leaves_as_much_for_others() {
    for target in targets() {
        let house = house();
        let most = MOST / 8 * 7 - 4096;
        let stored = house.context.shell.outbox().store(most);
        let before = house.stored();
        let mut clients = Vec::new();
        // Each takes half of what is left, so there is always something left for the next.
        for place in 1..=4 {
            let mut client = house.welcome_with_key(&place.to_string()).await;
            let taken = take_all(&mut client, &target, None).await;
            let share = RESERVED >> place;
            let about = share * 7 / 8..share * 5 / 4 + 4;
            assert!(
                about.contains(&taken),
                "{}: {taken} of {RESERVED}",
                target.kind
            );
            clients.push(client);
        }
        // What an ended session had is there again.
        for client in clients {
            client.close().await;
        }
        // The objects stay.
        let given_back = async {
            while house.stored() > before + 8192 {
                task::yield_now().await;
            }
        };
        patiently(given_back).await;
        let mut client = house.welcome().await;
        assert!(take_all(&mut client, &target, None).await > RESERVED / 3);
        drop(stored);
    }
}

/// Adds sessions of one client, each of which takes all it can, and returns how much they have together.
async fn take_by_sessions(
    house: &House,
    key: Option<&str>,
    target: &Target,
) -> (usize, Vec<Client>) {
    let (mut taken, mut clients) = (0, Vec::new());
    for _ in 0..SESSIONS {
        let mut client = house.welcome_as_one_of(key).await;
        taken += take_all(&mut client, target, Some("shared")).await;
        clients.push(client);
    }
    (taken, clients)
}

/// More sessions than those whose sum is made anew for each call.
const SESSIONS: usize = 40;

#[actix_rt::test]
async fn sessions_of_one_client_share_one_part_however_many_they_are() {
    for target in targets() {
        let house = house();
        let most = MOST / 8 * 7 - 4096;
        let stored = house.context.shell.outbox().store(most);
        // All sessions of this process, and then those of a key.
        let mut kept = Vec::new();
        for (key, share) in [(None, RESERVED / 2), (Some("key"), RESERVED / 4)] {
            let (taken, clients) = take_by_sessions(&house, key, &target).await;
            let about = share * 3 / 4..share * 5 / 4 + 4;
            assert!(
                about.contains(&taken),
                "{}: {taken} of {RESERVED} for {key:?}",
                target.kind
            );
            kept.extend(clients);
        }
        drop(stored);
    }
}

#[actix_rt::test]
async fn sessions_of_one_client_share_one_part_of_the_objects() {
    let house = house();
    let mut most = MOST / 16 * 15 / BYTES;
    let mut kept = Vec::new();
    for key in [None, Some("first"), Some("second")] {
        let (mut made, mut clients) = (0, Vec::new());
        for session in 0..SESSIONS {
            let mut client = house.welcome_as_one_of(key).await;
            let mut refused = Ok(0);
            while refused.is_ok() {
                let name = format!("{key:?} {session} {made:0>200}");
                refused = client.open(KIND, Some(&name), Some(SPEC)).await;
                made += usize::from(refused.is_ok());
            }
            assert_eq!(refused, Err(limit()));
            clients.push(client);
        }
        most /= 2;
        let about = most * 3 / 4..most * 5 / 4 + 4;
        assert!(about.contains(&made), "{key:?}: {made}, not {most}");
        kept.push((key, clients));
    }
    // What a client had open no longer counts for it, also where the objects stay.
    for (key, clients) in kept {
        for client in clients {
            client.close().await;
        }
        let mut client = house.welcome_as_one_of(key).await;
        let name = format!("{key:?} again {:0>200}", 0);
        let opened = client.open(KIND, Some(&name), Some(SPEC)).await;
        opened.expect("there is room");
    }
}

/// The bytes that an object with a name of some 200 bytes counts, with the session that has it open.
const BYTES: usize = 1_108;

#[actix_rt::test]
async fn client_that_opens_all_it_can_leaves_as_much_for_others() {
    let open_all = async |client: &mut Client, name: usize| {
        let mut made = 0;
        loop {
            let name = format!("{name} {made:0>200}");
            match client.open(KIND, Some(&name), Some(SPEC)).await {
                Ok(_) => made += 1,
                Err(fault) => {
                    assert_eq!(fault, limit());
                    // Existing objects can be opened.
                    let name = name.replace(&format!("{made:0>200}"), &format!("{:0>200}", 0));
                    client
                        .open(KIND, Some(&name), Some(SPEC))
                        .await
                        .expect("it exists");
                    return made;
                }
            }
        }
    };
    let house = house();
    let mut most = MOST / 16 * 15 / BYTES;
    let mut clients = Vec::new();
    for place in 0..4 {
        let mut client = house.welcome_with_key(&place.to_string()).await;
        let made = open_all(&mut client, place).await;
        most /= 2;
        assert!(
            (most * 7 / 8..most * 5 / 4 + 4).contains(&made),
            "{place}: {made}, not {most}"
        );
        clients.push(client);
    }
    // A client that removes objects can make others.
    let mut client = clients.pop().expect("the last one");
    for made in 0..20 {
        let removed = client.remove(&format!("3 {made:0>200}")).await;
        removed.expect("it is there");
    }
    assert!(open_all(&mut client, 9).await >= 10);
}
