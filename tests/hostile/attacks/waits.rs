//! More waiting calls than the limit of a session, which all end in one turn.

use std::time::Duration;

use rand::{Rng, seq::IndexedRandom};

use crate::{
    budget,
    client::{Attacker, Ended, framed},
    kinds,
    pack::Pack,
    protocol::{self, Response},
};

/// A kind, its spec, a call that waits, and the operation that ends all waits. Without an
/// operation, removing the object ends them.
type Wait = (
    &'static str,
    fn() -> Pack,
    &'static str,
    fn() -> Pack,
    Option<&'static str>,
);

const WAITS: [Wait; 5] = [
    (
        "event",
        kinds::nothing,
        "wait",
        || Pack::list([Pack::Nil]),
        Some("set"),
    ),
    ("lock", kinds::lock_spec, "acquire", none, None),
    (
        "semaphore",
        || kinds::semaphore_spec(1),
        "acquire",
        one,
        Some("close"),
    ),
    (
        "rw_lock",
        kinds::lock_spec,
        "acquire",
        || Pack::list([Pack::text("Write")]),
        Some("force_unlock"),
    ),
    (
        "keyed_lock",
        kinds::lock_spec,
        "acquire",
        || Pack::list([Pack::text("key")]),
        None,
    ),
];

fn none() -> Pack {
    Pack::list([])
}

fn one() -> Pack {
    Pack::list([Pack::Number(1)])
}

pub(crate) fn attack(attacker: &mut Attacker) -> Result<(), Ended> {
    while attacker.is_running() {
        let (kind, spec, operation, arguments, end) =
            *WAITS.choose(&mut attacker.random).expect("some");
        let name = format!("hostile crowd {}", attacker.random.random::<u32>());
        let mut client = attacker.client()?;
        let Some(object) = client.open(kind, Some(&name), Some(&spec()))? else {
            return Ok(());
        };
        let many = budget::limits().calls_in_flight + 100;
        let (operation, arguments) = (object.operation(operation), arguments());
        let mut batch = Vec::new();
        for _ in 0..many {
            let seq = client.next();
            let call = protocol::call(seq, object.number, operation, None, &arguments);
            batch.extend(framed(&call.encoded()));
        }
        client.send_bytes(&batch)?;
        while let Some(response) = client.receive(Duration::from_millis(20))? {
            if let Response::Fault { .. } = response {
                attacker.count("waits: refused");
            }
        }
        attacker.add("waits: calls", many as u64);
        match (attacker.random.random_range(0..3), end) {
            (0, Some(end)) => {
                let mut other = attacker.client()?;
                if let Some(object) = other.open(kind, Some(&name), None)? {
                    other.call(&object, end, &none())?;
                }
            }
            // The session ends with all waiting calls.
            (1, _) => drop(client),
            _ => {}
        }
        attacker.client_with_retry()?.remove(&name)?;
    }
    Ok(())
}
