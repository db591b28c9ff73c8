//! Fills the stored bytes of the manager: values, items, waiting calls with large arguments, tasks
//! and their names, and keys.

use rand::{Rng, seq::IndexedRandom};

use crate::{
    budget,
    client::{Attacker, Client, Ended, Object},
    kinds,
    pack::Pack,
    protocol::{self, Response},
};

type Store = fn(&mut Attacker, &mut Client, &str) -> Result<(), Ended>;

const STORES: [(&str, Store); 8] = [
    ("values", values),
    ("specs", specs),
    ("items", items),
    ("puts that wait", puts_that_wait),
    ("tasks", tasks),
    ("names of tasks", names_of_tasks),
    ("rows of tasks", rows_of_tasks),
    ("keys", keys),
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

/// Returns whether the manager refused for a limit.
fn is_full(attacker: &mut Attacker, response: &Response) -> bool {
    let Response::Fault { fault, .. } = response else {
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

/// Casts do not count as waiting calls.
fn tasks(attacker: &mut Attacker, client: &mut Client, name: &str) -> Result<(), Ended> {
    let Some(queue) = open(client, "task_queue", name, 0, &kinds::nothing())? else {
        return Ok(());
    };
    for first in 0..120 {
        let row = Pack::list([large(), Pack::list([Pack::Number(budget::LARGE as u64)])]);
        let arguments = kinds::feed(1, first, "task", row);
        let cast = protocol::cast(queue.number, queue.operation("feed"), &arguments);
        client.send(&cast)?;
        if !attacker.is_running() {
            break;
        }
    }
    client.call(&queue, "status", &Pack::list([]))?;
    Ok(())
}

/// One frame has many tasks of one name, and each task that is delivered alone has a copy of the
/// name.
fn names_of_tasks(attacker: &mut Attacker, client: &mut Client, name: &str) -> Result<(), Ended> {
    let Some(queue) = open(client, "task_queue", name, 0, &kinds::nothing())? else {
        return Ok(());
    };
    let row = kinds::row(3_000);
    let arguments = kinds::feed(1, 1, &"t".repeat(budget::LARGE), row);
    client.call(&queue, "feed", &arguments)?;
    let one = Pack::list([Pack::Nil, Pack::Number(1)]);
    for _ in 0..3_000 {
        let response = client.call(&queue, "next", &one)?;
        if is_full(attacker, &response) || !attacker.is_running() {
            break;
        }
    }
    Ok(())
}

/// One frame has thousands of tasks, which are delivered one by one.
fn rows_of_tasks(attacker: &mut Attacker, client: &mut Client, name: &str) -> Result<(), Ended> {
    let Some(queue) = open(client, "task_queue", name, 0, &kinds::nothing())? else {
        return Ok(());
    };
    let arguments = kinds::feed(1, 1, "task", kinds::row(100_000));
    client.call(&queue, "feed", &arguments)?;
    let one = Pack::list([Pack::Nil, Pack::Number(1)]);
    for _ in 0..3_000 {
        let response = client.call(&queue, "next", &one)?;
        if is_full(attacker, &response) || !attacker.is_running() {
            break;
        }
    }
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
