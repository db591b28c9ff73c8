//! Values that are replaced while unread answers still share their bytes.

use rand::Rng;

use crate::{
    budget,
    client::{Attacker, Client, Ended, Object},
    kinds,
    pack::Pack,
    protocol::{self, Response},
};

/// The number of values. Together they use most of the stored bytes.
const VALUES: usize = 50;

/// The number of sessions that wait for changes and do not read the answers.
const SESSIONS: usize = 12;

pub(crate) fn attack(attacker: &mut Attacker) -> Result<(), Ended> {
    let name = format!("hostile changes {}", attacker.random.random::<u32>());
    let outcome = replace(attacker, &name);
    let mut client = attacker.client_with_retry()?;
    for place in 0..VALUES {
        client.remove(&format!("{name} {place}"))?;
    }
    outcome
}

fn replace(attacker: &mut Attacker, name: &str) -> Result<(), Ended> {
    let mut client = attacker.client()?;
    let values = open(&mut client, name)?;
    let mut versions = vec![0; values.len()];
    let mut silent = Vec::new();
    for _ in 0..SESSIONS {
        let mut waiter = attacker.client()?;
        let theirs = open(&mut waiter, name)?;
        for (value, version) in theirs.iter().zip(&versions) {
            let wait = value.operation("wait_change");
            let since = Pack::list([Pack::Number(*version)]);
            let call = protocol::call(waiter.next(), value.number, wait, None, &since);
            waiter.send(&call)?;
        }
        silent.push(waiter);
        for (value, version) in values.iter().zip(&mut versions) {
            let large = Pack::list([Pack::Bytes(vec![9; budget::LARGE])]);
            match client.call(value, "store", &large)? {
                Response::Reply { .. } => *version += 1,
                _ => attacker.count("replaced: refused"),
            }
            attacker.count("replaced: values");
            if !attacker.is_running() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn open(client: &mut Client, name: &str) -> Result<Vec<Object>, Ended> {
    let spec = kinds::value_spec(vec![1]);
    let mut values = Vec::new();
    for place in 0..VALUES {
        values.extend(client.open("value", Some(&format!("{name} {place}")), Some(&spec))?);
    }
    Ok(values)
}
