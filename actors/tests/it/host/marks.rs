//! What many callers learn of one dead process is stored once.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use lockkeeper_actors::{
    CallId, Input, LargeReply, Operation, Outcome, Peer, Primitive, ReplySink, Serve, SessionId,
    codec::Blob,
    data::{Get, Put, Queue, QueueSpec},
    sync::{
        Access, Acquire, AcquireFor, AcquireMany, Arrive, Barrier, BarrierSpec, Lock, ReleaseBy,
        RwLock, Semaphore, SemaphoreSpec,
    },
};

use crate::host::shard::{Hosted, Shard, id};

/// How many callers are told.
const MANY: u64 = 1_000;

const DIES: u64 = 1;
const OTHER: u64 = 2;

/// Keeps the answers that are not encoded yet, as the session of a slow client does.
#[derive(Default)]
struct Slow(RefCell<Vec<LargeReply>>);

impl ReplySink for Slow {
    fn answer(&self, _: u64, outcome: Outcome<'_>) {
        if let Outcome::Large(reply) = outcome {
            self.0.borrow_mut().push(reply);
        }
    }

    fn gone(&self, _: u32) {}
}

/// A process whose texts are as long as they may be, so that no answer with them is short.
fn dead() -> Arc<Peer> {
    let text = "x".repeat(255);
    Arc::new(Peer::new(4711, &text, &text))
}

async fn calls<P, O>(hosted: &Hosted<P>, session: u64, operation: impl Fn() -> O) -> Vec<CallId>
where
    P: Primitive + Serve<O>,
    O: Operation,
{
    for seq in 1..=MANY {
        hosted.call(session, seq, operation()).await;
    }
    (1..=MANY).map(|seq| id(session, seq)).collect()
}

/// Ends the session of the dead process, and checks that all which are told of it share it.
async fn is_shared<P: Primitive>(hosted: &Hosted<P>, slow: &Slow, told: usize) {
    let peer = dead();
    let hang_up = Input::HangUp(SessionId::new(DIES), Arc::clone(&peer));
    hosted.send([hang_up]).await;
    // The hang-up may take several turns, and no message is handled before its end.
    hosted.send([]).await;
    let sharing = Arc::strong_count(&peer);
    assert!(sharing > told, "{sharing} references for {told} callers");
    assert!(slow.0.borrow().len() <= told);
}

#[actix::test]
async fn dead_process_is_stored_once_however_many_learn_of_it() {
    let shard = Shard::new();
    let slow = Rc::new(Slow::default());
    shard.join_with(OTHER, slow.clone());
    let many = usize::try_from(MANY).expect("a small number");

    let barrier = shard.host::<Barrier>(BarrierSpec::from(u32::MAX));
    calls(&barrier, OTHER, || Arrive { acts: false }).await;
    barrier.call(DIES, 1, Arrive { acts: false }).await;
    is_shared(&barrier, &slow, many).await;
    slow.0.borrow_mut().clear();

    let readers = shard.host::<RwLock>(ReleaseBy::Holder);
    let access = Access::Write;
    readers.call(DIES, 1, AcquireFor { access }).await;
    let access = Access::Read;
    calls(&readers, OTHER, || AcquireFor { access }).await;
    is_shared(&readers, &slow, many).await;
    slow.0.borrow_mut().clear();

    let permits = shard.host::<Semaphore>(SemaphoreSpec {
        permits: MANY.into(),
        release_by: ReleaseBy::Holder,
    });
    let all = AcquireMany {
        permits: MANY.into(),
    };
    permits.call(DIES, 1, all).await;
    calls(&permits, OTHER, || AcquireMany { permits: 1 }).await;
    is_shared(&permits, &slow, many).await;
    slow.0.borrow_mut().clear();

    // The items keep the marks themselves.
    let queue = shard.host::<Queue>(QueueSpec {
        capacity: None,
        schema: "u64".to_owned(),
    });
    let item = || Blob::from(vec![7]);
    calls(&queue, OTHER, || Put { item: item() }).await;
    calls(&queue, DIES, || Get).await;
    is_shared(&queue, &slow, many).await;

    let lock = shard.host::<Lock>(ReleaseBy::Holder);
    lock.call(DIES, 1, Acquire).await;
    is_shared(&lock, &slow, 1).await;
}
