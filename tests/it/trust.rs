//! Other processes cannot affect a hold by guessing, but only with a ticket or under
//! `ReleaseBy::Anyone`. The attackers write their own frames.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
};

use lockkeeper::{
    CallError, Condition, Event, KeyedLock, KeyedSemaphore, Lock, Manager, Queue, ReentrantLock,
    ReleaseBy, RwLock, Semaphore, Ticket,
    errors::Refusal,
    kind::{Proof, SessionId},
};
use lockkeeper_protocol::{
    CallId, Operation, SessionSecret,
    codec::{self, BlobRef},
    frame::{self, Capabilities, Inbox, Request, Response},
    operations::{
        Access, Acquire, Adopt, AdoptAs, AdoptKey, Done, Downgrade, Forget, MarkConsistent, Notify,
        PutBack, Release, ReleaseAny, ReleaseAnyKey, ReleasePermits, Sleep, Upgrade,
    },
};
use lockkeeper_test_support::{Role, Roles, report, until};
use serde::{Deserialize, Serialize};

use crate::run;

const NOT_HELD: CallError = CallError::refused(Refusal::NotHeld);

/// A process id without a process.
const FORGED: u32 = 3_999_999;

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("trust::victim", hold_all);
    roles.add(
        "trust::stranger",
        |(path, names): (PathBuf, Vec<_>)| async move {
            attack(&path, &names);
            report("tried");
        },
    );
    roles.add("trust::liar", |path: PathBuf| async move {
        let mut liar = Raw::connect(&path);
        let lock = liar.open("lock", "jobs");
        let seq = liar.call(lock, Acquire::NAME, &codec::encode(&Acquire).unwrap());
        liar.receive_until(seq);
        report("holds");
        std::future::pending::<()>().await;
    });
    roles.add("trust::holder", hold_what_anyone_releases);
}

/// An object of each kind that can be held.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Objects {
    lock: Lock,
    reentrant: ReentrantLock,
    condition: Condition,
    readers_writer: RwLock,
    upgradable: RwLock,
    semaphore: Semaphore,
    keyed: KeyedLock,
    keyed_semaphore: KeyedSemaphore,
    queue: Queue<u8>,
    over: Event,
}

/// Holds all objects until the event is set, and then checks that it still holds them.
async fn hold_all(objects: Objects) {
    let lock = objects.lock.acquire().await.unwrap();
    let reentrant = objects.reentrant.acquire().await.unwrap();
    let condition = objects.condition.acquire().await.unwrap();
    let writer = objects.readers_writer.write().await.unwrap();
    let upgradable = objects.upgradable.upgradable_read().await.unwrap();
    let permit = objects.semaphore.acquire().await.unwrap();
    let key = objects.keyed.acquire("a").await.unwrap();
    let permits = objects.keyed_semaphore.acquire("a").await.unwrap();
    let item = objects.queue.get().await.unwrap();
    report("holds");
    objects.over.wait().await.unwrap();
    assert!(lock.is_valid() && reentrant.is_valid() && condition.is_valid());
    assert!(writer.is_valid() && upgradable.is_valid() && permit.is_valid());
    assert!(key.is_valid() && permits.is_valid() && item.is_valid());
    // The manager accepts each release.
    lock.release().await.unwrap();
    reentrant.release().await.unwrap();
    condition.release().await.unwrap();
    writer.release().await.unwrap();
    upgradable.release().await.unwrap();
    permit.release().await.unwrap();
    key.release().await.unwrap();
    permits.release().await.unwrap();
    item.done().await.unwrap();
    report("released all");
}

/// A client that writes its own frames.
struct Raw {
    stream: UnixStream,
    inbox: Inbox,
    session: SessionId,
    secret: SessionSecret,
    seq: u64,
    /// The names of each object's operations.
    objects: Vec<Vec<String>>,
}

impl Raw {
    /// Connects with the process id of another process.
    fn connect(path: &PathBuf) -> Self {
        let mut stream = UnixStream::connect(path).unwrap();
        let mut inbox = Inbox::new(1 << 20);
        let hello = Request::Hello {
            version: frame::VERSION,
            pid: FORGED,
            program: "innocent",
            label: "",
            capabilities: Capabilities::NONE,
            former: None,
        };
        let mut bytes = Vec::new();
        frame::append(&mut bytes, &hello, usize::MAX).unwrap();
        stream.write_all(&bytes).unwrap();
        let welcome = receive(&mut stream, &mut inbox);
        let Ok(Response::Welcome {
            session, secret, ..
        }) = Response::decode(&welcome)
        else {
            panic!("no welcome");
        };
        Self {
            stream,
            inbox,
            session: SessionId::new(session),
            secret,
            seq: 0,
            objects: Vec::new(),
        }
    }

    fn send(&mut self, request: &Request<'_>) {
        let mut bytes = Vec::new();
        frame::append(&mut bytes, request, usize::MAX).unwrap();
        self.stream.write_all(&bytes).unwrap();
    }

    fn open(&mut self, kind: &str, name: &str) -> u32 {
        self.seq += 1;
        self.send(&Request::Open {
            seq: self.seq,
            kind,
            name: Some(name),
            spec: None,
        });
        let opened = receive(&mut self.stream, &mut self.inbox);
        let Ok(Response::Opened {
            object, operations, ..
        }) = Response::decode(&opened)
        else {
            panic!("{kind} {name} is not opened");
        };
        self.objects.push(operations);
        object
    }

    fn operation(&self, object: u32, name: &str) -> u32 {
        let operations = &self.objects[usize::try_from(object).unwrap()];
        let place = operations.iter().position(|operation| operation == name);
        u32::try_from(place.expect("the kind has the operation")).unwrap()
    }

    fn call(&mut self, object: u32, name: &str, arguments: &[u8]) -> u64 {
        self.seq += 1;
        let operation = self.operation(object, name);
        self.send(&Request::Call {
            seq: self.seq,
            object,
            operation,
            micros: Some(0),
            arguments: BlobRef(arguments),
        });
        self.seq
    }

    fn receive_until(&mut self, last: u64) {
        loop {
            let message = receive(&mut self.stream, &mut self.inbox);
            match Response::decode(&message).unwrap() {
                Response::Reply { seq, .. } | Response::Fault { seq, .. } if seq == last => return,
                Response::Reply { .. } | Response::Fault { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn receive(stream: &mut UnixStream, inbox: &mut Inbox) -> Vec<u8> {
    let mut chunk = [0; 4096];
    loop {
        if let Some(message) = inbox.next_message().unwrap() {
            return message.to_vec();
        }
        let length = stream.read(&mut chunk).unwrap();
        assert!(length > 0, "the manager has hung up");
        inbox.feed(&chunk[..length]);
    }
}

/// Returns the operations of a kind that name a grant, with the given one.
fn acts(kind: &str, grant: Proof) -> Vec<(&'static str, Vec<u8>)> {
    fn act<O: Operation>(operation: &O) -> (&'static str, Vec<u8>) {
        (O::NAME, codec::encode(operation).unwrap())
    }
    let mut acts = vec![act(&MarkConsistent { grant })];
    match kind {
        "lock" => acts.extend([act(&Release { grant }), act(&Adopt { grant })]),
        "reentrant_lock" => {
            let owners = (0..4).map(|owner| act(&AdoptAs { grant, owner }));
            acts.extend([act(&Release { grant })].into_iter().chain(owners));
        }
        "condition" => {
            let set = String::new;
            let most = Some(1);
            acts.extend([
                act(&Release { grant }),
                act(&Adopt { grant }),
                act(&Sleep { grant, set: set() }),
                act(&Notify {
                    grant,
                    set: set(),
                    most,
                }),
            ]);
        }
        "rw_lock" => {
            let to = Access::Read;
            acts.extend([
                act(&Release { grant }),
                act(&Upgrade { grant }),
                act(&Downgrade { grant, to }),
            ]);
        }
        "semaphore" => {
            let permits = 1;
            acts.extend([
                act(&ReleasePermits { grant, permits }),
                act(&Forget { grant, permits }),
            ]);
        }
        "keyed_lock" | "keyed_semaphore" => {
            acts.extend([act(&Release { grant }), act(&AdoptKey { grant })]);
        }
        "queue" => {
            let delivery = grant;
            acts = vec![act(&Done { delivery }), act(&PutBack { delivery })];
        }
        other => panic!("no kind {other}"),
    }
    acts
}

/// Tries each grant that a session may have, by its number and with a forged MAC.
fn attack(path: &PathBuf, objects: &[(String, String)]) {
    let mut attacker = Raw::connect(path);
    let sessions = attacker.session.number().saturating_sub(8)..attacker.session.number();
    let signed = sessions
        .flat_map(|session| (0..24).map(move |seq| CallId::new(SessionId::new(session), seq)));
    let signed = signed.map(|call| Proof::Signed(attacker.secret.sign(call)));
    let guesses: Vec<Proof> = (0..64).map(Proof::Own).chain(signed).collect();
    for (kind, name) in objects {
        let object = attacker.open(kind, name);
        for grant in &guesses {
            let mut last = 0;
            for (operation, arguments) in acts(kind, *grant) {
                last = attacker.call(object, operation, &arguments);
            }
            attacker.receive_until(last);
        }
        let (any, arguments) = match kind.as_str() {
            "queue" => continue,
            "keyed_lock" | "keyed_semaphore" => {
                let key = "a".into();
                (ReleaseAnyKey::NAME, codec::encode(&ReleaseAnyKey { key }))
            }
            _ => (ReleaseAny::NAME, codec::encode(&ReleaseAny)),
        };
        let last = attacker.call(object, any, &arguments.unwrap());
        attacker.receive_until(last);
    }
}

#[test]
fn guessed_proofs_end_no_hold_of_any_kind() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let named = |name| manager.named(name);
        let objects = Objects {
            lock: named("1").lock().await.unwrap(),
            reentrant: named("2").reentrant_lock().await.unwrap(),
            condition: named("3").condition().await.unwrap(),
            readers_writer: named("4").rw_lock().await.unwrap(),
            upgradable: named("5").rw_lock().await.unwrap(),
            semaphore: named("6").semaphore(1).await.unwrap(),
            keyed: named("7").keyed_lock().await.unwrap(),
            keyed_semaphore: named("8").keyed_semaphore(1).await.unwrap(),
            queue: named("9").queue(1).await.unwrap(),
            over: manager.event().await.unwrap(),
        };
        objects.queue.put(1).await.unwrap();
        let mut victim = Role::start("trust::victim", &objects);
        assert_eq!(victim.next_report(), "holds");
        let kinds = [
            "lock",
            "reentrant_lock",
            "condition",
            "rw_lock",
            "rw_lock",
            "semaphore",
            "keyed_lock",
            "keyed_semaphore",
            "queue",
        ];
        let names: Vec<(&str, String)> = (1..)
            .zip(kinds)
            .map(|(number, kind)| (kind, format!("{number}")))
            .collect();
        let path = manager.address().path().unwrap();
        let mut attacker = Role::start("trust::stranger", &(path, names));
        assert_eq!(attacker.next_report(), "tried");
        objects.over.set().await.unwrap();
        assert_eq!(victim.next_report(), "released all");
    });
}

#[test]
fn process_with_a_forged_id_is_reported_with_its_real_id() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.named("jobs").lock().await.unwrap();
        let path = manager.address().path().unwrap();
        let mut liar = Role::start("trust::liar", &path);
        assert_eq!(liar.next_report(), "holds");
        let info = lock.info().await.unwrap();
        assert_eq!(info.parts[0].holders[0].process.pid, liar.pid());
        liar.kill();
        let guard = lock.acquire().await.unwrap();
        let holder = &guard.abandoned().unwrap().holder;
        assert_eq!(
            (holder.pid, holder.program.as_str()),
            (liar.pid(), "innocent")
        );
    });
}

/// Objects that any process may release.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Open {
    lock: Lock,
    readers_writer: RwLock,
    semaphore: Semaphore,
    keyed: KeyedLock,
}

/// Holds all objects until the holds are lost.
async fn hold_what_anyone_releases(objects: Open) {
    let lock = objects.lock.acquire().await.unwrap();
    let writer = objects.readers_writer.write().await.unwrap();
    let mut permit = objects.semaphore.acquire().await.unwrap();
    let later = objects.semaphore.acquire().await.unwrap();
    permit.merge(later).unwrap();
    let mut part = permit.split(1).unwrap();
    part.mark_consistent();
    let key = objects.keyed.acquire("a").await.unwrap();
    report("holds");
    lock.lost().await;
    writer.lost().await;
    tokio::join!(permit.lost(), part.lost());
    assert!(!permit.is_valid() && !part.is_valid());
    key.lost().await;
    assert_eq!(lock.release().await, Err(NOT_HELD));
    assert_eq!(writer.release().await, Err(NOT_HELD));
    assert_eq!(key.release().await, Err(NOT_HELD));
    report("lost all");
    std::future::pending::<()>().await;
}

#[test]
fn any_process_may_release_objects_with_that_rule_and_the_guards_are_lost() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let anyone = manager.release_by(ReleaseBy::Anyone);
        let objects = Open {
            lock: anyone.lock().await.unwrap(),
            readers_writer: anyone.rw_lock().await.unwrap(),
            semaphore: anyone.semaphore(2).await.unwrap(),
            keyed: anyone.keyed_lock().await.unwrap(),
        };
        let mut holder = Role::start("trust::holder", &objects);
        assert_eq!(holder.next_report(), "holds");
        let next = tokio::spawn(objects.lock.clone().acquire());
        objects.lock.release_any().await.unwrap();
        objects.readers_writer.release_any().await.unwrap();
        for _ in 0..2 {
            objects.semaphore.release_any().await.unwrap();
        }
        objects.keyed.release_any("a").await.unwrap();
        assert_eq!(holder.next_report(), "lost all");
        let guard = next.await.unwrap().unwrap();
        assert!(guard.abandoned().is_none() && guard.is_valid());
        assert_eq!(objects.semaphore.status().await.unwrap().available, 2);
        assert_eq!(objects.readers_writer.release_any().await, Err(NOT_HELD));
        assert_eq!(objects.semaphore.release_any().await, Err(NOT_HELD));
        assert_eq!(objects.keyed.release_any("a").await, Err(NOT_HELD));
        // Late releases by the holder's guards do not affect the next holder.
        holder.kill();
        until("the holder's session has ended", || async {
            let info = objects.lock.info().await.unwrap();
            info.parts[0].holders.len() == 1
        })
        .await;
        assert!(guard.is_valid());
        guard.release().await.unwrap();
    });
}

#[test]
fn all_parts_of_a_released_grant_are_lost() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let anyone = manager.release_by(ReleaseBy::Anyone);
        let semaphore = anyone.bounded_semaphore(4).await.unwrap();
        let mut permit = semaphore.acquire_many(2).await.unwrap();
        let part = permit.split(1).unwrap();
        let mut merged = semaphore.acquire().await.unwrap();
        let second = semaphore.acquire().await.unwrap();
        assert!(permit.is_valid() && part.is_valid() && merged.is_valid());
        semaphore.release_any().await.unwrap();
        tokio::join!(permit.lost(), part.lost());
        drop(part);
        assert!(!permit.is_valid(), "another part of the grant was released");
        // A permit of several grants is lost with the first lost grant.
        merged.merge(second).unwrap();
        semaphore.release_any().await.unwrap();
        merged.lost().await;
        assert!(!merged.is_valid());
        // Dropping them releases the remaining permits, and none of another holder.
        drop((permit, merged));
        until("all permits are free", || async {
            semaphore.status().await.unwrap().available == 4
        })
        .await;
    });
}

#[test]
fn refused_release_names_the_release_rule() {
    run(async {
        let manager = Manager::start().await.unwrap();
        let lock = manager.named("jobs").lock().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        let refused = lock.release_any().await.unwrap_err().to_string();
        assert!(refused.contains("guard's ticket"), "{refused}");
        assert!(refused.contains("ReleaseBy::Anyone"), "{refused}");
        assert!(guard.is_valid());
        let named = manager.named("jobs");
        let wrong = named.release_by(ReleaseBy::Anyone).lock().await;
        let wrong = wrong.unwrap_err().to_string();
        assert!(wrong.contains("{release_by: Holder}"), "{wrong}");
        assert!(wrong.contains("{release_by: Anyone}"), "{wrong}");
    });
}

#[test]
fn ticket_is_valid_for_one_hold_of_one_manager() {
    run(async {
        let [one, other] = [
            Manager::start().await.unwrap(),
            Manager::start().await.unwrap(),
        ];
        let ours = one.named("jobs").lock().await.unwrap();
        let theirs = other.named("jobs").lock().await.unwrap();
        let ticket = ours.acquire().await.unwrap().into_ticket();
        let guard = theirs.acquire().await.unwrap();
        assert_eq!(theirs.release_ticket(ticket.clone()).await, Err(NOT_HELD));
        assert!(guard.is_valid());
        ours.release_ticket(ticket.clone()).await.unwrap();
        let again = ours.acquire().await.unwrap();
        assert_eq!(ours.release_ticket(ticket.clone()).await, Err(NOT_HELD));
        assert!(again.is_valid());
        // A ticket in another text form is accepted, and a changed ticket is refused.
        let ticket = again.into_ticket();
        let text = serde_json::to_string(&ticket).unwrap();
        let read: Ticket = serde_json::from_str(&text).unwrap();
        assert_eq!(read, ticket);
        let mut forged: serde_json::Value = serde_json::from_str(&text).unwrap();
        let bytes = forged["grant"]["mac"].as_array_mut().expect("a list");
        let first = bytes[0].as_u64().unwrap();
        bytes[0] = (first ^ 1).into();
        let forged: Ticket = serde_json::from_value(forged).unwrap();
        assert_eq!(ours.release_ticket(forged).await, Err(NOT_HELD));
        ours.release_ticket(read).await.unwrap();
        // `Debug` does not print the MAC.
        assert!(!format!("{ticket:?}").contains("mac"), "{ticket:?}");
    });
}
