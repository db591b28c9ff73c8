//! Requests with large answers that the client does not read, or reads late.

use std::{thread, time::Duration};

use rand::Rng;

use crate::{
    budget,
    client::{Attacker, Client, Ended, framed},
    pack::Pack,
    protocol,
};

pub(crate) fn attack(attacker: &mut Attacker) -> Result<(), Ended> {
    let mut client = attacker.client()?;
    let request: fn(&mut Client, u64) -> Pack = match attacker.random.random_range(0..4) {
        0 => echo,
        1 => pages,
        _ => reads,
    };
    let large = Pack::Bytes(vec![7; budget::LARGE]);
    let spec = Pack::list([large, Pack::text("bytes")]);
    let Some(value) = client.open("value", Some("hostile large value"), Some(&spec))? else {
        attacker.count("unread: no room for a value");
        return Ok(());
    };
    let mut asked = 0;
    for _ in 0..10 {
        // One write asks for a hundred megabytes.
        let mut batch = Vec::new();
        for _ in 0..120 {
            batch.extend(framed(&request(&mut client, value.number).encoded()));
            asked += 1;
        }
        match client.say_bytes(&batch) {
            Err(Ended::NotRead) => break,
            said => said?,
        }
        if !attacker.goes_on() {
            break;
        }
    }
    attacker.add("unread: large answers", asked);
    thread::sleep(Duration::from_millis(attacker.random.random_range(0..500)));
    if attacker.random.random() {
        // It reads at last: what comes must be frames.
        while attacker.goes_on() && client.hear(Duration::from_millis(50))?.is_some() {
            attacker.count("unread: read late");
        }
    }
    Ok(())
}

/// A read of a large value.
fn reads(client: &mut Client, value: u64) -> Pack {
    protocol::call(client.next(), value, 0, None, &Pack::list([]))
}

/// An open that is refused with the words that it brought.
fn echo(client: &mut Client, _: u64) -> Pack {
    let kind = "k".repeat(60_000);
    protocol::open(client.next(), &kind, None, Some(&Pack::Nil))
}

/// A page of all objects.
fn pages(client: &mut Client, _: u64) -> Pack {
    protocol::inspect(client.next(), protocol::all_above(0))
}
