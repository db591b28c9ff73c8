//! Requests with large answers, which the client does not read or reads late.

use std::{thread, time::Duration};

use rand::Rng;

use crate::{
    budget,
    client::{Attacker, Client, Ended, Object, framed},
    kinds,
    pack::Pack,
    protocol,
};

pub(crate) fn attack(attacker: &mut Attacker) -> Result<(), Ended> {
    let name = format!("hostile large value {}", attacker.random.random::<u32>());
    let outcome = ask_without_reading(attacker, &name);
    attacker.client_with_retry()?.remove(&name)?;
    outcome
}

fn ask_without_reading(attacker: &mut Attacker, name: &str) -> Result<(), Ended> {
    let mut client = attacker.client()?;
    let request: fn(&mut Client, &Object) -> Pack = match attacker.random.random_range(0..5) {
        0 => echo,
        1 => pages,
        2 => changes,
        _ => reads,
    };
    let spec = kinds::value_spec(vec![7; budget::LARGE]);
    let Some(value) = client.open("value", Some(name), Some(&spec))? else {
        attacker.count("unread: no room for a value");
        return Ok(());
    };
    let mut asked = 0;
    for _ in 0..10 {
        // One write requests a hundred megabytes.
        let mut batch = Vec::new();
        for _ in 0..120 {
            batch.extend(framed(&request(&mut client, &value).encoded()));
            asked += 1;
        }
        match client.send_bytes(&batch) {
            Err(Ended::NotRead) => break,
            said => said?,
        }
        if !attacker.is_running() {
            break;
        }
    }
    attacker.add("unread: large answers", asked);
    if attacker.random.random() {
        // One turn answers all calls that wait for a change.
        let mut other = attacker.client()?;
        let opened = other.open("value", Some(name), None)?;
        if let Some(value) = opened {
            let large = Pack::list([Pack::Bytes(vec![8; budget::LARGE])]);
            other.call(&value, "store", &large)?;
        }
    }
    // Only the time is random.
    thread::sleep(Duration::from_millis(attacker.random.random_range(0..500)));
    if attacker.random.random() {
        // The client reads now, and must receive valid frames.
        while attacker.is_running() && client.receive(Duration::from_millis(50))?.is_some() {
            attacker.count("unread: read late");
        }
    }
    Ok(())
}

/// Reads a large value.
fn reads(client: &mut Client, value: &Object) -> Pack {
    let read = value.operation("read");
    protocol::call(client.next(), value.number, read, None, &Pack::list([]))
}

/// Waits for another value than the first.
fn changes(client: &mut Client, value: &Object) -> Pack {
    let wait = value.operation("wait_change");
    let first = Pack::list([Pack::Number(0)]);
    protocol::call(client.next(), value.number, wait, None, &first)
}

/// Opens an object with a spec that the refusal quotes.
fn echo(client: &mut Client, _: &Object) -> Pack {
    let kind = "k".repeat(60_000);
    protocol::open(client.next(), &kind, None, Some(&kinds::nothing()))
}

/// Requests a page of all objects.
fn pages(client: &mut Client, _: &Object) -> Pack {
    protocol::inspect(client.next(), protocol::all_above(0))
}
