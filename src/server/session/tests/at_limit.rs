//! Calls of a client that has as many unanswered calls as it may have.

use lockkeeper_actors::{
    Primitive,
    data::TaskQueue,
    sync::{Barrier, Condition, Latch},
};
use lockkeeper_protocol::{
    Fault, Operation, Proof,
    codec::{Blob, BlobRef},
    frame::{self, Request},
    operations::{
        Acquire, Arrival, Arrive, ArriveAndWait, BarrierSpec, Chunk, Finish, Finished,
        GetBarrierStatus, GetLatchStatus, GetLockStatus, GetTaskQueueStatus, Job, JobOutcome,
        LatchSpec, LatchStatus, LockStatus, Next, OnDeath, Sleep, Submit, TaskQueueStatus,
    },
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    limits::Limits,
    server::session::tests::{
        Client, Heard, House, SPEC, encoded, number_of, operation, release,
        unread::{open_named_value, reads},
    },
};

fn refused() -> Fault {
    Fault::limit("calls in flight", 1)
}

/// A manager whose clients may have one unanswered call.
fn house() -> House {
    House::new(Limits {
        calls_in_flight: 1,
        ..Limits::default()
    })
}

impl Client {
    /// Has this client wait for a lock of another one, so that it is at its limit. Returns its number.
    async fn wait_for(&mut self, holder: &mut Self) -> u32 {
        let held = holder.open_lock("held").await;
        holder.try_acquire(held).await.unwrap();
        let held = self.open_lock("held").await;
        let (acquire, arguments) = operation(&Acquire);
        self.send(held, acquire, None, &arguments).await;
        held
    }

    async fn run<P: Primitive, O: Operation + Serialize>(
        &mut self,
        object: u32,
        operation: O,
    ) -> Result<O::Reply, Fault>
    where
        O::Reply: DeserializeOwned,
    {
        let (number, arguments) = (number_of::<P>(O::NAME), encoded(&operation));
        self.call(object, number, None, &arguments).await
    }
}

#[actix_rt::test]
async fn call_by_a_caller_is_served_at_the_limit_unless_it_would_wait() {
    let house = house();
    let (mut holder, mut client) = (house.welcome().await, house.welcome().await);
    let held = client.wait_for(&mut holder).await;
    let free = client.open_lock("free").await;
    let seq = client.send_by(held, 7).await;
    assert_eq!(client.hear().await, Heard::Fault(seq, refused()));
    let seq = client.send_by(free, 7).await;
    assert!(matches!(client.hear().await, Heard::Reply(answered, _) if answered == seq));
    assert_eq!(holder.status(0).await.waiting, 1);
}

#[actix_rt::test]
async fn wait_of_a_condition_at_the_limit_has_released_the_lock() {
    let house = house();
    let (mut holder, mut client) = (house.welcome().await, house.welcome().await);
    let condition = client
        .open(Condition::KIND, Some("ready"), Some(SPEC))
        .await;
    let condition = condition.unwrap();
    let acquired = client.run::<Condition, _>(condition, Acquire).await;
    assert!(matches!(acquired, Ok(Ok(_))));
    let grant = Proof::Own(client.last_seq);
    client.wait_for(&mut holder).await;
    let set = String::new();
    let slept = client.run::<Condition, _>(condition, Sleep { grant, set });
    assert_eq!(slept.await.map(|_| ()), Err(refused()));
    let status = client.run::<Condition, _>(condition, GetLockStatus).await;
    let status: LockStatus = status.unwrap();
    assert!(!status.is_held);
}

#[actix_rt::test]
async fn arrive_and_wait_at_the_limit_has_counted_down() {
    let house = house();
    let (mut holder, mut client) = (house.welcome().await, house.welcome().await);
    let spec = encoded(&LatchSpec { count: 3 });
    let latch = client.open(Latch::KIND, Some("start"), Some(&spec)).await;
    let latch = latch.unwrap();
    client.wait_for(&mut holder).await;
    let arrived = client.run::<Latch, _>(latch, ArriveAndWait { by: 1 });
    assert_eq!(arrived.await.map(|_| ()), Err(refused()));
    let status = client.run::<Latch, _>(latch, GetLatchStatus).await;
    let status: LatchStatus = status.unwrap();
    assert_eq!((status.count, status.waiting), (2, 0));
}

#[actix_rt::test]
async fn finish_of_a_barrier_at_the_limit_has_ended_the_action_and_takes_its_arrival_back() {
    let house = house();
    let (mut holder, mut client) = (house.welcome().await, house.welcome().await);
    let spec = encoded(&BarrierSpec {
        parties: 2,
        on_death: OnDeath::Break,
    });
    let theirs = holder.open(Barrier::KIND, Some("phase"), Some(&spec)).await;
    let theirs = theirs.unwrap();
    let ours = client.open(Barrier::KIND, Some("phase"), None).await;
    let ours = ours.unwrap();
    let (arrive, first) = (number_of::<Barrier>(Arrive::NAME), Arrive { acts: true });
    let seq = holder.send(theirs, arrive, None, &encoded(&first)).await;
    let arrived = client.run::<Barrier, _>(ours, Arrive { acts: true }).await;
    assert!(matches!(arrived, Ok(Ok(Arrival::Act))), "{arrived:?}");
    let turn = Proof::Own(client.last_seq);
    client.wait_for(&mut holder).await;
    // The other party leaves, so the action's party would have to wait for another one.
    let object = theirs;
    holder.raw.send(&Request::Withdraw { object, seq }).await;
    assert_eq!(holder.hear().await, Heard::Fault(seq, Fault::Withdrawn));
    let finished = client.run::<Barrier, _>(ours, Finish { turn }).await;
    assert_eq!(finished.map(|_| ()), Err(refused()));
    let status = client.run::<Barrier, _>(ours, GetBarrierStatus).await;
    assert_eq!(status.unwrap().arrived, 0);
    let finished = client.run::<Barrier, _>(ours, Finish { turn }).await;
    assert!(matches!(finished, Ok(Err(_))), "{finished:?}");
}

#[actix_rt::test]
async fn next_at_the_limit_has_reported_what_was_finished() {
    let house = house();
    let (mut holder, mut worker) = (house.welcome().await, house.welcome().await);
    let mut submitter = house.welcome().await;
    let queue = submitter.open_tasks().await;
    let chunk = Chunk {
        task: "double".to_owned(),
        arguments: Blob::from(vec![7]),
    };
    let submit = Submit {
        chunk,
        rule: None,
        series: None,
    };
    let submitted = number_of::<TaskQueue>(Submit::NAME);
    let task = submitter
        .send(queue, submitted, None, &encoded(&submit))
        .await;
    let theirs = worker.open_tasks().await;
    let most = 1;
    let next = Next {
        finished: None,
        most,
    };
    let given: Option<Vec<Job>> = worker.run::<TaskQueue, _>(theirs, next).await.unwrap();
    let job = given.unwrap()[0].id;
    worker.wait_for(&mut holder).await;
    let outcome = JobOutcome::Done(Blob::from(vec![14]));
    let finished = Some(Finished { job, outcome });
    let next = worker.run::<TaskQueue, _>(theirs, Next { finished, most });
    assert_eq!(next.await.map(|_| ()), Err(refused()));
    assert!(matches!(submitter.hear().await, Heard::Reply(seq, _) if seq == task));
    let status = worker.run::<TaskQueue, _>(theirs, GetTaskQueueStatus).await;
    let status: TaskQueueStatus = status.unwrap();
    assert_eq!(status.running, 0);
}

#[actix_rt::test]
async fn calls_beyond_the_second_limit_are_refused_although_they_would_be_answered_at_once() {
    let house = house().with_calls_at_limit(2);
    let (mut holder, mut client) = (house.welcome().await, house.welcome().await);
    let held = client.wait_for(&mut holder).await;
    let (status, arguments) = operation(&GetLockStatus);
    let mut bytes = Vec::new();
    // The session passes the calls of one read on before it gets an answer.
    for _ in 0..5 {
        let call = Request::Call {
            seq: client.seq(),
            object: held,
            operation: status,
            micros: None,
            arguments: BlobRef(&arguments),
        };
        frame::append(&mut bytes, &call, usize::MAX).unwrap();
    }
    client.raw.write(&bytes).await.unwrap();
    let (mut served, mut faults) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        match client.hear().await {
            Heard::Reply(seq, _) => served.push(seq),
            Heard::Fault(seq, fault) => {
                assert_eq!(fault, refused());
                faults.push(seq);
            }
            other => panic!("{other:?}"),
        }
    }
    let first = client.last_seq - 4;
    assert_eq!(served, [first, first + 1]);
    assert_eq!(faults, [first + 2, first + 3, first + 4]);
    assert!(client.status(held).await.is_held);
}

#[actix_rt::test]
async fn calls_at_the_limit_that_a_full_session_holds_back_are_served_in_order_later() {
    let house = house();
    let (mut holder, mut client) = (house.welcome().await, house.welcome().await);
    let value = open_named_value(&mut client, "value", 2 << 20).await;
    let own = client.open_lock("own").await;
    client.try_acquire(own).await.unwrap();
    let grant = client.last_seq;
    let held = client.wait_for(&mut holder).await;
    let mut bytes = reads(&mut client, value, 3);
    let first = client.last_seq - 2;
    let (acquire, arguments) = operation(&Acquire);
    let mut call = |bytes: &mut Vec<u8>, object| {
        let seq = client.seq();
        let call = Request::Call {
            seq,
            object,
            operation: acquire,
            micros: None,
            arguments: BlobRef(&arguments),
        };
        frame::append(bytes, &call, usize::MAX).unwrap();
        seq
    };
    let waits = call(&mut bytes, held);
    let still_held = call(&mut bytes, own);
    bytes.extend(release(own, grant));
    let free = call(&mut bytes, own);
    client.raw.write(&bytes).await.unwrap();
    let mut answers = Vec::new();
    for _ in 0..6 {
        answers.push(match client.hear().await {
            Heard::Reply(seq, _) => (seq, None),
            Heard::Fault(seq, fault) => (seq, Some(fault)),
            other => panic!("{other:?}"),
        });
    }
    // Each object answers in order.
    let of_own = |(seq, _): &&(u64, Option<Fault>)| *seq >= still_held;
    let of_own: Vec<_> = answers.iter().filter(of_own).cloned().collect();
    assert_eq!(of_own, [(still_held, Some(refused())), (free, None)]);
    answers.sort_by_key(|(seq, _)| *seq);
    let of_others: Vec<_> = answers.drain(..4).collect();
    let replies = (first..first + 3).map(|seq| (seq, None));
    let expected: Vec<_> = replies.chain([(waits, Some(refused()))]).collect();
    assert_eq!(of_others, expected);
    assert_eq!(holder.status(0).await.waiting, 1);
}
