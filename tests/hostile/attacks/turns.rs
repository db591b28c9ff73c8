//! Short requests that take long to serve. Other clients must not have to wait for them.

use rand::Rng;

use crate::{
    budget,
    client::{Attacker, Client, Ended, Object, decoded, framed},
    kinds,
    pack::Pack,
    protocol,
};

/// The number of holds or keys of a session before the request that affects all of them.
const MANY: u64 = 4_000;

/// The number of calls in one write. Their answers are read before the next write.
const BATCH: u64 = 500;

pub(crate) fn attack(attacker: &mut Attacker) -> Result<(), Ended> {
    let name = format!("hostile turns {}", attacker.random.random::<u32>());
    let outcome = match attacker.random.random_range(0..3) {
        0 => turns_that_are_taken_back(attacker, &name),
        1 => keys_of_one_that_ends(attacker, &name),
        _ => holds_of_one_that_ends(attacker, &name),
    };
    attacker.client_with_retry()?.remove(&name)?;
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
        decoded(client.answer(last)?)?;
    }
    Ok(())
}

/// A session that is the last party of a large barrier arrives and withdraws, again and again.
fn turns_that_are_taken_back(attacker: &mut Attacker, name: &str) -> Result<(), Ended> {
    let arrivals = budget::limits().calls_in_flight as u64 - 100;
    let mut client = attacker.client()?;
    let spec = Pack::list([Pack::Number(arrivals + 1), Pack::text("Break")]);
    let Some(barrier) = client.open("barrier", Some(name), Some(&spec))? else {
        return Ok(());
    };
    let wait = barrier.operation("wait");
    let arrive = |client: &mut Client, acts| {
        let acts = Pack::list([Pack::Truth(acts)]);
        protocol::call(client.next(), barrier.number, wait, None, &acts)
    };
    let mut batch = Vec::new();
    for _ in 0..arrivals {
        batch.extend(framed(&arrive(&mut client, false).encoded()));
    }
    client.send_bytes(&batch)?;
    while attacker.is_running() {
        let mut batch = Vec::new();
        let mut last = 0;
        for _ in 0..BATCH {
            batch.extend(framed(&arrive(&mut client, true).encoded()));
            last = client.last();
            batch.extend(framed(&protocol::withdraw(barrier.number, last).encoded()));
        }
        client.send_bytes(&batch)?;
        decoded(client.answer(last)?)?;
        attacker.count("turns: taken");
    }
    Ok(())
}

/// A session with many held keys ends after another one has inspected them.
fn keys_of_one_that_ends(attacker: &mut Attacker, name: &str) -> Result<(), Ended> {
    let mut client = attacker.client()?;
    let Some(locks) = client.open("keyed_lock", Some(name), Some(&kinds::lock_spec()))? else {
        return Ok(());
    };
    let key = |number| Pack::list([Pack::Text(format!("key {number}"))]);
    calls(&mut client, &locks, "acquire", key)?;
    attacker.count("turns: taken");
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
    calls(&mut client, &semaphore, "acquire", |_| one.clone())?;
    attacker.count("turns: taken");
    Ok(())
}
