//! The bytes that a manager counts for clients outside of the built-in kinds: incoming messages, names and
//! opened objects.

use lockkeeper_actors::{
    Primitive,
    data::{Queue, TaskQueue, Value},
    sync::KeyedLock,
};
use lockkeeper_protocol::{
    Fault, JobId, Operation, Page, Proof, Question, Refusal,
    codec::{self, Blob, BlobRef},
    frame::{self, Request},
    operations::{
        Acquire, AcquireKey, Chunk, ChunkOutcome, Delivery, Done, Finished, Get, Granted, Job,
        JobOutcome, Next, Put, QueueSpec, Read, ReleaseBy, RetryRule, Store, Submit, Swap,
        TaskRule, ValueSpec, Versioned,
    },
};
use serde::de::DeserializeOwned;

use crate::{
    limits::Limits,
    server::session::tests::{
        Client, Heard, House, KIND, SPEC, encoded, number_of, operation as of_lock,
    },
    tests::raw::frame,
};

pub(super) const MOST: usize = 1 << 20;

pub(super) fn house() -> House {
    House::new(Limits {
        stored_bytes: MOST,
        ..Limits::default()
    })
}

pub(super) fn limit() -> Fault {
    Fault::limit("bytes of stored data", MOST)
}

async fn open_value(client: &mut Client) -> u32 {
    let spec = encoded(&ValueSpec {
        value: Blob::default(),
        schema: "bytes".to_owned(),
    });
    let opened = client.open(Value::KIND, Some("value"), Some(&spec));
    opened.await.expect("a value")
}

/// The frame of a call that sets a value of `bytes` bytes.
fn store(client: &mut Client, value: u32, bytes: usize) -> (u64, Vec<u8>) {
    let arguments = encoded(&Store {
        value: Blob::from(vec![7; bytes]),
    });
    let seq = client.seq();
    let call = Request::Call {
        seq,
        object: value,
        operation: number_of::<Value>(Store::NAME),
        micros: None,
        arguments: BlobRef(&arguments),
    };
    (seq, frame(&call))
}

#[actix_rt::test]
async fn large_messages_that_come_in_count_and_those_without_room_are_refused() {
    let house = house();
    let (mut client, mut other) = (house.welcome().await, house.welcome().await);
    let value = open_value(&mut client).await;
    let theirs = open_value(&mut other).await;
    let (first, bytes) = store(&mut client, value, MOST / 10 * 7);
    let (begin, rest) = bytes.split_at(bytes.len() - 1);
    client.raw.write(begin).await.unwrap();
    while house.context.shell.outbox().store(MOST / 2).is_ok() {
        tokio::task::yield_now().await;
    }
    // Each attempt is refused, regardless of what follows.
    for _ in 0..3 {
        let (seq, bytes) = store(&mut other, theirs, MOST / 2);
        other.raw.write(&bytes).await.unwrap();
        assert_eq!(other.hear().await, Heard::Fault(seq, limit()));
        assert!(other.is_served().await);
    }
    client.raw.write(rest).await.unwrap();
    assert!(matches!(client.hear().await, Heard::Reply(seq, _) if seq == first));
    // A value that replaces another needs no room of its own once the message is complete.
    let (seq, bytes) = store(&mut other, theirs, MOST / 10);
    other.raw.write(&bytes).await.unwrap();
    assert!(matches!(other.hear().await, Heard::Reply(answered, _) if answered == seq));
    // The incoming message of a client that has gone no longer counts.
    let (_, bytes) = store(&mut client, value, MOST / 10 * 7);
    client.raw.write(&bytes[..bytes.len() - 1]).await.unwrap();
    client.close().await;
    let (seq, bytes) = store(&mut other, theirs, MOST / 10 * 7);
    other.raw.write(&bytes).await.unwrap();
    assert!(matches!(other.hear().await, Heard::Reply(answered, _) if answered == seq));
}

#[actix_rt::test]
async fn objects_that_sessions_open_count_until_they_are_removed_or_the_session_ends() {
    let house = house();
    let mut other = house.welcome().await;
    let mut clients = Vec::new();
    let mut made = 0;
    // Each client may open half of what is left.
    for place in 0..16 {
        let mut client = house.welcome_with_key(&place.to_string()).await;
        let refused = loop {
            let name = format!("{made:0>250}");
            match client.open(KIND, Some(&name), Some(SPEC)).await {
                Ok(_) => made += 1,
                Err(refused) => break refused,
            }
        };
        assert_eq!(refused, limit());
        clients.push(client);
    }
    assert!((800..900).contains(&made), "{made}");
    let mut client = clients.remove(0);
    // Without names they take less, and there is room for at most two.
    let mut unnamed = Ok(0);
    for _ in 0..3 {
        unnamed = unnamed.and(other.open(KIND, None, Some(SPEC)).await);
    }
    assert_eq!(unnamed, Err(limit()));
    // Open objects are served, and can be removed.
    assert!(!client.status(0).await.is_held);
    client.remove(&format!("{:0>250}", 1)).await.unwrap();
    assert!(other.open(KIND, None, Some(SPEC)).await.is_ok());
    client.close().await;
    assert!(other.open(KIND, Some("another"), Some(SPEC)).await.is_ok());
    let large = vec![7; MOST];
    let large = other.open(KIND, Some("large"), Some(&large)).await;
    assert_eq!(large, Err(limit()));
}

impl Client {
    async fn do_call<P: Primitive, O: Operation>(
        &mut self,
        object: u32,
        operation: &O,
    ) -> Result<O::Reply, Fault>
    where
        O::Reply: DeserializeOwned,
    {
        let number = number_of::<P>(O::NAME);
        self.call(object, number, None, &encoded(operation)).await
    }

    async fn start<P: Primitive, O: Operation>(&mut self, object: u32, operation: &O) -> u64 {
        let number = number_of::<P>(O::NAME);
        self.send(object, number, None, &encoded(operation)).await
    }

    async fn open_queue(&mut self) -> u32 {
        let spec = encoded(&QueueSpec {
            capacity: None,
            schema: "bytes".to_owned(),
        });
        let opened = self.open(Queue::KIND, Some("queue"), Some(&spec));
        opened.await.expect("a queue")
    }

    pub(super) async fn open_tasks(&mut self) -> u32 {
        let spec = encoded(&());
        let opened = self.open(TaskQueue::KIND, Some("tasks"), Some(&spec));
        opened.await.expect("a task queue")
    }
}

const LARGE: usize = 100_000;

fn large() -> Blob {
    Blob::from(vec![9; LARGE])
}

/// A manager without room for any large answer: each waits until its session ends.
fn house_of_waiting_answers() -> House {
    House::new(Limits {
        stored_bytes: MOST,
        unread_bytes: 0,
        ..Limits::default()
    })
}

impl House {
    pub(super) fn stored(&self) -> usize {
        self.context.shell.stored_bytes()
    }

    /// Ends a session whose large answer waits, and asserts that its bytes are released.
    async fn is_given_back_by(&self, client: Client, before: usize) {
        assert!(self.stored() >= before + LARGE, "{}", self.stored());
        assert_eq!(self.context.unread.used(), 0);
        client.close().await;
        while self.stored() > before + LARGE / 2 {
            tokio::task::yield_now().await;
        }
    }
}

#[actix_rt::test]
async fn value_that_was_replaced_counts_while_an_answer_that_waits_has_it() {
    let house = house_of_waiting_answers();
    let mut other = house.welcome().await;
    let value = open_value(&mut other).await;
    for is_swapped in [false, true] {
        let mut clients = [house.welcome().await, house.welcome().await];
        let before = house.stored();
        let store = Store { value: large() };
        other.do_call::<Value, _>(value, &store).await.unwrap();
        let small = Blob::from(vec![1]);
        for client in &mut clients {
            let value = open_value(client).await;
            client.start::<Value, _>(value, &Read).await;
        }
        assert!(other.is_served().await);
        // Both answers share the value.
        assert!((before + LARGE..before + 2 * LARGE).contains(&house.stored()));
        if is_swapped {
            let mut third = house.welcome().await;
            let value = open_value(&mut third).await;
            third.start::<Value, _>(value, &Swap { value: small }).await;
            assert!(other.is_served().await);
            assert!(house.stored() >= before + LARGE);
            third.close().await;
        } else {
            let store = Store { value: small };
            other.do_call::<Value, _>(value, &store).await.unwrap();
        }
        let [first, second] = clients;
        assert!(house.stored() >= before + LARGE);
        first.close().await;
        house.is_given_back_by(second, before).await;
    }
}

#[actix_rt::test]
async fn value_that_was_made_large_counts_once_for_all_answers_that_wait() {
    let house = house_of_waiting_answers();
    let mut other = house.welcome().await;
    let spec = encoded(&ValueSpec {
        value: large(),
        schema: "bytes".to_owned(),
    });
    let spec = Some(&*spec);
    let made = other.open(Value::KIND, Some("large"), spec).await;
    let value = made.expect("a value");
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(house.welcome().await);
    }
    let before = house.stored();
    for client in &mut clients {
        let opened = client.open(Value::KIND, Some("large"), spec).await;
        client
            .start::<Value, _>(opened.expect("it is open"), &Read)
            .await;
    }
    assert!(other.is_served().await);
    assert!((before + LARGE..before + 2 * LARGE).contains(&house.stored()));
    // The replacement counts separately.
    let small = Store {
        value: Blob::from(vec![1]),
    };
    other.do_call::<Value, _>(value, &small).await.unwrap();
    let last = clients.pop().expect("the last");
    for client in clients {
        client.close().await;
    }
    house.is_given_back_by(last, before).await;
}

#[actix_rt::test]
async fn swap_needs_room_for_both_values_as_its_answer_may_wait() {
    let house = house();
    let mut client = house.welcome().await;
    let value = open_value(&mut client).await;
    let bytes = |count: usize| Blob::from(vec![7; count]);
    let store = Store {
        value: bytes(MOST / 2),
    };
    client.do_call::<Value, _>(value, &store).await.unwrap();
    let swap = Swap {
        value: bytes(MOST / 2),
    };
    let refused = client.do_call::<Value, _>(value, &swap).await;
    assert_eq!(refused.map(drop), Err(limit()));
    let swap = Swap {
        value: bytes(MOST / 4),
    };
    let swapped: Versioned<Blob> = client.do_call::<Value, _>(value, &swap).await.unwrap();
    assert_eq!((swapped.version, swapped.value.0.len()), (1, MOST / 2));
    assert!(house.stored() < MOST / 2);
}

#[actix_rt::test]
async fn item_that_is_done_counts_while_its_delivery_waits() {
    let house = house_of_waiting_answers();
    let (mut client, mut other) = (house.welcome().await, house.welcome().await);
    let queue = other.open_queue().await;
    let theirs = client.open_queue().await;
    let before = house.stored();
    let put = Put { item: large() };
    let put = other.do_call::<Queue, _>(queue, &put).await.unwrap();
    assert_eq!(put, Ok(()));
    // Both are in one message, because the session reads nothing more once the answer waits.
    let (seq, mut bytes) = (client.seq(), Vec::new());
    let get = Request::Call {
        seq,
        object: theirs,
        operation: number_of::<Queue>(Get::NAME),
        micros: None,
        arguments: BlobRef(&encoded(&Get)),
    };
    let done = Request::Cast {
        object: theirs,
        operation: number_of::<Queue>(Done::NAME),
        arguments: BlobRef(&encoded(&Done {
            delivery: Proof::Own(seq),
        })),
    };
    for request in [get, done] {
        frame::append(&mut bytes, &request, usize::MAX).unwrap();
    }
    client.raw.write(&bytes).await.unwrap();
    assert!(other.is_served().await);
    let seq = other.start::<Queue, _>(queue, &Get).await;
    assert!(other.is_served_beside(seq).await, "the item is not done");
    house.is_given_back_by(client, before).await;
}

impl Client {
    /// Returns whether the session is served while its call waits.
    async fn is_served_beside(&mut self, _waiting: u64) -> bool {
        self.is_served().await
    }

    async fn next_job(&mut self, tasks: u32) -> JobId {
        let next = Next {
            finished: None,
            most: 1,
        };
        let jobs = self.do_call::<TaskQueue, _>(tasks, &next).await.unwrap();
        let jobs: Vec<Job> = jobs.expect("it is not closed");
        jobs.first().expect("a job").id
    }

    async fn submit(&mut self, tasks: u32) -> u64 {
        let chunk = Chunk {
            task: "double".to_owned(),
            arguments: Blob::from(vec![7]),
        };
        let submit = Submit {
            chunk,
            rule: Some(TaskRule {
                limit: None,
                retry: Some(RetryRule {
                    attempts: 4,
                    deaths: true,
                    panics: false,
                    transient: false,
                    first_pause: 0,
                    longest_pause: 0,
                }),
            }),
            series: None,
        };
        self.start::<TaskQueue, _>(tasks, &submit).await
    }
}

#[actix_rt::test]
async fn outcome_of_a_task_counts_while_its_submitter_does_not_read() {
    let house = house_of_waiting_answers();
    let (mut client, mut worker) = (house.welcome().await, house.welcome().await);
    let tasks = worker.open_tasks().await;
    let theirs = client.open_tasks().await;
    let before = house.stored();
    client.submit(theirs).await;
    let job = worker.next_job(tasks).await;
    let outcome = JobOutcome::Done(large());
    let finished = Finished { job, outcome };
    worker
        .do_call::<TaskQueue, _>(tasks, &finished)
        .await
        .unwrap();
    house.is_given_back_by(client, before).await;
}

#[actix_rt::test]
async fn answers_to_questions_wait_for_room_and_count_as_others_do() {
    let house = house_of_waiting_answers();
    let (mut client, mut other) = (house.welcome().await, house.welcome().await);
    for number in 0..200 {
        client.open_lock(&format!("{number:0>200}")).await;
    }
    let before = house.stored();
    let seq = client.seq();
    let question = Question::All(0);
    client.raw.send(&Request::Inspect { seq, question }).await;
    while house.stored() < before + 40_000 {
        assert!(other.is_served().await);
    }
    assert_eq!(house.context.unread.used(), 0);
    client.close().await;
    while house.stored() > before {
        assert!(other.is_served().await);
    }
}

#[actix_rt::test]
async fn answer_to_a_question_ends_where_objects_have_told_much_and_none_is_left_out() {
    let house = House::new(Limits::default());
    let mut client = house.welcome().await;
    let (operation, arguments) = of_lock(&Acquire);
    for number in 0..4 {
        let lock = client.open_lock(&format!("lock {number}")).await;
        let mut bytes = Vec::new();
        let seqs: Vec<u64> = (0..10_001).map(|_| client.seq()).collect();
        for seq in seqs {
            let call = Request::Call {
                seq,
                object: lock,
                operation,
                micros: None,
                arguments: BlobRef(&arguments),
            };
            frame::append(&mut bytes, &call, usize::MAX).unwrap();
        }
        client.raw.write(&bytes).await.unwrap();
        assert!(matches!(client.hear().await, Heard::Reply(..)));
    }
    let mut other = house.welcome().await;
    for ask in [Question::All, Question::Contended] {
        let (mut names, mut pages, mut above) = (Vec::new(), 0, Some(0));
        while let Some(number) = above {
            let seq = other.seq();
            let question = ask(number);
            other.raw.send(&Request::Inspect { seq, question }).await;
            let Heard::Reply(_, body) = other.hear().await else {
                panic!("the question was not answered");
            };
            let page: Page = codec::decode(&body).expect("a page");
            assert!(body.len() < 2 << 20, "{}", body.len());
            assert!(page.objects.iter().all(|it| it.parts[0].waiting == 10_000));
            names.extend(page.objects.into_iter().map(|it| it.name));
            (pages, above) = (pages + 1, page.next);
        }
        let all = [0, 1, 2, 3].map(|number| format!("lock {number}"));
        assert_eq!(names, all);
        assert!(pages >= 3, "{pages}");
    }
}

#[actix_rt::test]
async fn client_that_stores_values_keeps_no_other_from_its_locks() {
    let house = house();
    let (mut client, mut other) = (house.welcome().await, house.welcome().await);
    let value = open_value(&mut client).await;
    let queue = client.open_queue().await;
    let mut left = MOST;
    while left > 0 {
        let put = Put {
            item: Blob::from(vec![7; left]),
        };
        // The first message takes as much as it can, and the next ones the rest.
        match client.do_call::<Queue, _>(queue, &put).await {
            Ok(put) => assert_eq!(put, Ok(())),
            Err(fault) => {
                assert_eq!(fault, limit());
                left /= 2;
            }
        }
    }
    let store = Store {
        value: Blob::from(vec![7; 1000]),
    };
    assert_eq!(
        client.do_call::<Value, _>(value, &store).await,
        Err(limit())
    );
    // The client locks, waits, takes an item, and sends a long message.
    let lock = other.open_lock("new").await;
    other.try_acquire(lock).await.unwrap();
    let spec = encoded(&ReleaseBy::Holder);
    let keys = other.open(KeyedLock::KIND, Some("keys"), Some(&spec));
    let keys = keys.await.unwrap();
    for key in 0..50 {
        let key = format!("key {key}").as_str().into();
        let acquire = AcquireKey { key };
        let held: Result<Result<Granted, Refusal>, Fault> =
            other.do_call::<KeyedLock, _>(keys, &acquire).await;
        assert!(matches!(held, Ok(Ok(_))), "{held:?}");
    }
    let (number, arguments) = of_lock(&Acquire);
    let waits = other.send(lock, number, None, &arguments).await;
    assert!(other.is_served_beside(waits).await);
    let theirs = other.open_queue().await;
    let delivery: Result<Delivery, Refusal> =
        other.do_call::<Queue, _>(theirs, &Get).await.unwrap();
    assert!(delivery.is_ok());
    let long = Put {
        item: Blob::from(vec![7; 40_000]),
    };
    let long = other.do_call::<Queue, _>(theirs, &long).await;
    assert!(long.is_err() || long == Ok(Ok(())));
    assert!(other.is_served().await);
}

#[actix_rt::test]
async fn outcome_for_which_there_is_no_room_is_reported_again_and_its_task_not_run_again() {
    let house = house();
    let (mut client, mut worker) = (house.welcome().await, house.welcome().await);
    let mut filler = house.welcome().await;
    let value = open_value(&mut filler).await;
    let tasks = worker.open_tasks().await;
    let theirs = client.open_tasks().await;
    for is_next in [false, true] {
        let submitted = client.submit(theirs).await;
        let job = worker.next_job(tasks).await;
        let store = Store {
            value: Blob::from(vec![7; MOST / 100 * 86]),
        };
        filler.do_call::<Value, _>(value, &store).await.unwrap();
        let outcome = JobOutcome::Done(large());
        let finished = || Finished {
            job,
            outcome: outcome.clone(),
        };
        for has_room in [false, true] {
            if has_room {
                let store = Store {
                    value: Blob::default(),
                };
                filler.do_call::<Value, _>(value, &store).await.unwrap();
            }
            let told = if is_next {
                let next = Next {
                    finished: Some(finished()),
                    most: 1,
                };
                let seq = worker.start::<TaskQueue, _>(tasks, &next).await;
                if has_room {
                    // The worker waits for a task.
                    Ok(())
                } else {
                    assert_eq!(worker.hear().await, Heard::Fault(seq, limit()));
                    Err(limit())
                }
            } else {
                worker.do_call::<TaskQueue, _>(tasks, &finished()).await
            };
            assert_eq!(told.is_ok(), has_room, "{told:?}");
        }
        let Heard::Reply(answered, body) = client.hear().await else {
            panic!("the task has no outcome");
        };
        assert_eq!(answered, submitted);
        assert_eq!(codec::decode::<ChunkOutcome>(&body).unwrap(), Ok(large()));
    }
    // No task has returned to the queue for another worker.
    worker.close().await;
    let mut next = house.welcome().await;
    let tasks = next.open_tasks().await;
    let ask = Next {
        finished: None,
        most: 1,
    };
    let waits = next.start::<TaskQueue, _>(tasks, &ask).await;
    assert!(next.is_served_beside(waits).await);
}
