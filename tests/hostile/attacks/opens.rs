//! Objects up to the limit, with the longest names and without names.

use std::time::Duration;

use rand::Rng;

use crate::{
    client::{Attacker, Client, Ended, framed},
    kinds::{self, KINDS},
    pack::Pack,
    protocol,
};

/// The number of opens in one write.
const BATCH: usize = 250;

/// The number of objects of one attack. Several concurrent attacks reach the limit.
const MOST: usize = 4_000;

pub(crate) fn attack(attacker: &mut Attacker) -> Result<(), Ended> {
    let mut client = attacker.client()?;
    let mut made = Vec::new();
    let outcome = open_many(attacker, &mut client, &mut made);
    if outcome.is_err() || attacker.random.random() {
        // The session ends with thousands of open objects, and another one removes them.
        drop(client);
        client = attacker.client_with_retry()?;
    }
    remove(&mut client, &made)?;
    outcome
}

fn open_many(
    attacker: &mut Attacker,
    client: &mut Client,
    made: &mut Vec<String>,
) -> Result<(), Ended> {
    while attacker.is_running() && made.len() < MOST {
        let mut batch = Vec::new();
        for _ in 0..BATCH {
            let random = &mut attacker.random;
            let (kind, spec, _) = KINDS[random.random_range(0..KINDS.len())];
            let spec = kinds::random_spec(random, spec);
            // Anonymous objects cannot be removed, so they would fill the manager permanently.
            let name = format!("hostile {:0>240}", random.random::<u32>());
            let open = protocol::open(client.next(), kind, Some(&name), Some(&spec));
            batch.extend(framed(&open.encoded()));
            made.push(name);
        }
        client.send_bytes(&batch)?;
        attacker.add("opens: objects", BATCH as u64);
        client.receive_all(Duration::from_millis(1))?;
    }
    Ok(())
}

/// Removes objects, with many requests in one write.
fn remove(client: &mut Client, names: &[String]) -> Result<(), Ended> {
    for names in names.chunks(BATCH) {
        let mut batch = Vec::new();
        for name in names {
            batch.extend(framed(&protocol::remove(client.next(), name).encoded()));
        }
        let last = client.next();
        let last_of_all = protocol::inspect(last, Pack::text("Deadlocks"));
        batch.extend(framed(&last_of_all.encoded()));
        client.send_bytes(&batch)?;
        client.answer(last)?;
    }
    Ok(())
}
