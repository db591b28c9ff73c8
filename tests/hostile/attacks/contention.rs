//! A client stores as much as it can, while another client needs a lock.

use rand::Rng;

use crate::{
    budget,
    client::{Attacker, Client, Ended},
    kinds,
    pack::Pack,
    protocol::Response,
};

pub(crate) fn attack(attacker: &mut Attacker) -> Result<(), Ended> {
    let name = format!("hostile contention {}", attacker.random.random::<u32>());
    let mut client = attacker.client()?;
    let outcome = contention(attacker, &mut client, &name);
    let mut client = attacker.client_with_retry()?;
    for what in ["items", "lock"] {
        client.remove(&format!("{name} {what}"))?;
    }
    outcome
}

fn contention(attacker: &mut Attacker, client: &mut Client, name: &str) -> Result<(), Ended> {
    let spec = kinds::queue_spec(None);
    let items = client.open("queue", Some(&format!("{name} items")), Some(&spec))?;
    let Some(items) = items else {
        return Ok(());
    };
    let mut bytes = budget::LARGE;
    while bytes > 0 && attacker.is_running() {
        let item = Pack::list([Pack::Bytes(vec![9; bytes])]);
        match client.call(&items, "put", &item)? {
            Response::Reply { .. } => attacker.count("crowds: items"),
            _ => bytes /= 2,
        }
    }
    // Other attackers may have so many holds that the limit refuses another one.
    let mut other = attacker.client()?;
    let lock = other.open(
        "lock",
        Some(&format!("{name} lock")),
        Some(&kinds::lock_spec()),
    )?;
    let Some(lock) = lock else {
        attacker.count("crowds: not opened");
        return Ok(());
    };
    for _ in 0..10 {
        match other.call(&lock, "acquire", &Pack::list([]))? {
            Response::Reply { .. } => {
                attacker.count("crowds: locked");
                break;
            }
            _ => attacker.count("crowds: not locked"),
        }
    }
    Ok(())
}
