//! Short requests that take long to serve. Other clients must not have to wait for them.

use rand::Rng;

use crate::{
    client::{Attacker, Client, Ended, Object, framed},
    kinds,
    pack::Pack,
    protocol,
};

/// The number of holds, keys or jobs of a session before the request that affects all of them.
const MANY: u64 = 4_000;

/// The number of calls in one write. Their answers are read before the next write.
const BATCH: u64 = 500;

pub(crate) fn attack(attacker: &mut Attacker) -> Result<(), Ended> {
    let name = format!("hostile turns {}", attacker.random.random::<u32>());
    let outcome = match attacker.random.random_range(0..4) {
        0 => jobs_that_no_worker_has(attacker, &name),
        1 => chunks_of_one_that_ends(attacker, &name),
        2 => keys_of_one_that_ends(attacker, &name),
        _ => holds_of_one_that_ends(attacker, &name),
    };
    attacker.client_with_retry()?.remove(&name)?;
    attacker.count("turns: taken");
    outcome
}

/// Calls an operation many times, in large writes.
fn calls(
    client: &mut Client,
    object: &Object,
    operation: &str,
    arguments: impl Fn(u64) -> Pack,
) -> Result<(), Ended> {
    let operation = object.operation(operation);
    for first in (0..MANY).step_by(BATCH as usize) {
        let (mut batch, mut last) = (Vec::new(), 0);
        for place in first..first + BATCH {
            last = client.next();
            let arguments = arguments(place);
            let call = protocol::call(last, object.number, operation, Some(0), &arguments);
            batch.extend(framed(&call.encoded()));
        }
        client.send_bytes(&batch)?;
        client.answer(last)?;
    }
    Ok(())
}

/// A worker with thousands of jobs returns thousands of other jobs.
fn jobs_that_no_worker_has(attacker: &mut Attacker, name: &str) -> Result<(), Ended> {
    let mut client = attacker.client()?;
    let Some(queue) = client.open("task_queue", Some(name), Some(&kinds::nothing()))? else {
        return Ok(());
    };
    let row = kinds::row(MANY);
    client.call(&queue, "feed", &kinds::feed(1, 1, "task", row))?;
    let one = Pack::list([Pack::Nil, Pack::Number(1)]);
    calls(&mut client, &queue, "next", |_| one.clone())?;
    let jobs = (0..15 * MANY).map(|number| {
        let job = [client.session, 1_000_000_000 + number];
        Pack::list(job.map(Pack::Number))
    });
    let jobs = Pack::List(jobs.collect());
    client.call(&queue, "hand_back", &Pack::list([jobs]))?;
    Ok(())
}

/// A session ends while a worker has the chunks that it submitted.
fn chunks_of_one_that_ends(attacker: &mut Attacker, name: &str) -> Result<(), Ended> {
    let mut client = attacker.client()?;
    let Some(queue) = client.open("task_queue", Some(name), Some(&kinds::nothing()))? else {
        return Ok(());
    };
    let chunk = Pack::list([Pack::text("task"), Pack::Bytes(Vec::new())]);
    let submit = Pack::list([chunk, Pack::Number(0)]);
    let operation = queue.operation("submit");
    let mut batch = Vec::new();
    for _ in 0..MANY / 4 {
        let call = protocol::call(client.next(), queue.number, operation, None, &submit);
        batch.extend(framed(&call.encoded()));
    }
    client.send_bytes(&batch)?;
    let mut worker = attacker.client()?;
    let Some(queue) = worker.open("task_queue", Some(name), None)? else {
        return Ok(());
    };
    let one = Pack::list([Pack::Nil, Pack::Number(1)]);
    calls(&mut worker, &queue, "next", |_| one.clone())
}

/// A session with many held keys ends after another one has inspected them.
fn keys_of_one_that_ends(attacker: &mut Attacker, name: &str) -> Result<(), Ended> {
    let mut client = attacker.client()?;
    let Some(locks) = client.open("keyed_lock", Some(name), Some(&kinds::lock_spec()))? else {
        return Ok(());
    };
    let key = |number| Pack::list([Pack::Text(format!("key {number}"))]);
    calls(&mut client, &locks, "acquire", key)?;
    let mut other = attacker.client()?;
    for _ in 0..10 {
        let seq = other.next();
        other.ask(seq, &protocol::inspect(seq, protocol::named(name)))?;
    }
    Ok(())
}

/// A session with many permits of one semaphore ends.
fn holds_of_one_that_ends(attacker: &mut Attacker, name: &str) -> Result<(), Ended> {
    let mut client = attacker.client()?;
    let spec = kinds::semaphore_spec(MANY);
    let Some(semaphore) = client.open("semaphore", Some(name), Some(&spec))? else {
        return Ok(());
    };
    let one = Pack::list([Pack::Number(1)]);
    calls(&mut client, &semaphore, "acquire", |_| one.clone())
}
