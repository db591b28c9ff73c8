//! Fills the stored bytes of the manager: values, items, waiting calls with large arguments, keys, names of
//! wait sets, and nested entries.

use rand::{Rng, seq::IndexedRandom};

use crate::{
    budget,
    client::{Attacker, Client, Ended, Object, framed},
    kinds,
    pack::Pack,
    protocol::{self, Response},
};

type Store = fn(&mut Attacker, &mut Client, &str) -> Result<(), Ended>;

const STORES: [(&str, Store); 7] = [
    ("values", values),
    ("specs", specs),
    ("items", items),
    ("puts that wait", puts_that_wait),
    ("keys", keys),
    ("names of sets", names_of_sets),
    ("entries", entries),
];

pub(crate) fn attack(attacker: &mut Attacker) -> Result<(), Ended> {
    let (what, store) = *STORES.choose(&mut attacker.random).expect("some");
    let name = format!(
        "hostile store of {what} {}",
        attacker.random.random::<u32>()
    );
    let mut client = attacker.client()?;
    let outcome = store(attacker, &mut client, &name);
    // In a new session, because the other one may have been closed. Removing the objects frees
    // their bytes.
    let mut client = attacker.client_with_retry()?;
    for place in 0..PLACES {
        client.remove(&format!("{name} {place}"))?;
    }
    attacker.count(&format!("stores: {what}"));
    outcome
}

/// The number of objects that an attack fills.
const PLACES: usize = 40;

fn large() -> Pack {
    Pack::Bytes(vec![9; budget::LARGE])
}

/// Returns whether the manager refused for a limit, and counts what it stored.
fn is_full(attacker: &mut Attacker, response: &Response) -> bool {
    let Response::Fault { fault, .. } = response else {
        attacker.count("stores: stored");
        return false;
    };
    let is_limit = fault.of_variant("Limit").is_some();
    if is_limit {
        attacker.count("stores: refused");
    }
    is_limit
}

fn open(
    client: &mut Client,
    kind: &str,
    name: &str,
    place: usize,
    spec: &Pack,
) -> Result<Option<Object>, Ended> {
    client.open(kind, Some(&format!("{name} {place}")), Some(spec))
}

fn values(attacker: &mut Attacker, client: &mut Client, name: &str) -> Result<(), Ended> {
    let small = kinds::value_spec(vec![1]);
    for place in 0..PLACES {
        let Some(value) = open(client, "value", name, place, &small)? else {
            continue;
        };
        let response = client.call(&value, "store", &Pack::list([large()]))?;
        if is_full(attacker, &response) || !attacker.is_running() {
            break;
        }
    }
    Ok(())
}

/// Makes values from large specs.
fn specs(attacker: &mut Attacker, client: &mut Client, name: &str) -> Result<(), Ended> {
    let spec = kinds::value_spec(vec![9; budget::LARGE]);
    for place in 0..PLACES {
        let opened = open(client, "value", name, place, &spec)?;
        if opened.is_none() || !attacker.is_running() {
            break;
        }
    }
    Ok(())
}

fn items(attacker: &mut Attacker, client: &mut Client, name: &str) -> Result<(), Ended> {
    let spec = kinds::queue_spec(None);
    let Some(queue) = open(client, "queue", name, 0, &spec)? else {
        return Ok(());
    };
    for _ in 0..120 {
        let response = client.call(&queue, "put", &Pack::list([large()]))?;
        if is_full(attacker, &response) || !attacker.is_running() {
            break;
        }
    }
    Ok(())
}

/// Makes calls with large arguments that wait for room.
fn puts_that_wait(attacker: &mut Attacker, client: &mut Client, name: &str) -> Result<(), Ended> {
    let spec = kinds::queue_spec(Some(1));
    let Some(queue) = open(client, "queue", name, 0, &spec)? else {
        return Ok(());
    };
    for _ in 0..120 {
        let put = queue.operation("put");
        let arguments = Pack::list([large()]);
        let call = protocol::call(client.next(), queue.number, put, None, &arguments);
        client.send(&call)?;
        if !attacker.is_running() {
            break;
        }
    }
    // This call is served after all calls before it.
    client.call(&queue, "status", &Pack::list([]))?;
    Ok(())
}

/// Acquires keys of the maximum length by casts.
fn keys(attacker: &mut Attacker, client: &mut Client, name: &str) -> Result<(), Ended> {
    let Some(locks) = open(client, "keyed_lock", name, 0, &kinds::lock_spec())? else {
        return Ok(());
    };
    let mut key: u64 = 0;
    while attacker.is_running() {
        for _ in 0..500 {
            key += 1;
            let arguments = Pack::list([Pack::Text(format!("{key:0>255}"))]);
            let acquire = locks.operation("acquire");
            let cast = protocol::cast(locks.number, acquire, &arguments);
            client.send(&cast)?;
        }
        client.call(&locks, "status", &Pack::list([]))?;
    }
    attacker.add("stores: keys held", key);
    Ok(())
}

/// Sleeps in wait sets of a condition whose names have the maximum length.
fn names_of_sets(attacker: &mut Attacker, client: &mut Client, name: &str) -> Result<(), Ended> {
    let Some(condition) = open(client, "condition", name, 0, &kinds::lock_spec())? else {
        return Ok(());
    };
    for set in 0..1_000 {
        let acquired = client.call(&condition, "acquire", &Pack::list([]))?;
        let Response::Reply { seq, .. } = acquired else {
            break;
        };
        let set = Pack::Text(format!("{set:0>255}"));
        let arguments = Pack::list([protocol::proof(client.own(seq)), set]);
        let wait = condition.operation("wait");
        let call = protocol::call(client.next(), condition.number, wait, None, &arguments);
        client.send(&call)?;
        if !attacker.is_running() {
            break;
        }
    }
    let response = client.call(&condition, "status", &Pack::list([]))?;
    is_full(attacker, &response);
    Ok(())
}

/// Enters reentrant locks again and again by casts.
fn entries(attacker: &mut Attacker, client: &mut Client, name: &str) -> Result<(), Ended> {
    let me = Pack::list([Pack::Number(1)]);
    for place in 0..PLACES {
        let Some(lock) = open(client, "reentrant_lock", name, place, &kinds::lock_spec())? else {
            break;
        };
        let acquire = lock.operation("acquire");
        let cast = framed(&protocol::cast(lock.number, acquire, &me).encoded());
        for _ in 0..12 {
            client.send_bytes(&cast.repeat(5_000))?;
            let response = client.call(&lock, "acquire", &me)?;
            if is_full(attacker, &response) || !attacker.is_running() {
                return Ok(());
            }
        }
    }
    Ok(())
}
