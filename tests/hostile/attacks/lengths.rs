//! Truncated frames, wrong lengths, and endless nesting.

use std::{io::Write, thread, time::Duration};

use rand::Rng;

use crate::{
    budget,
    client::{Attacker, Ended, framed},
    kinds,
    pack::Pack,
    protocol,
};

pub(crate) fn attack(attacker: &mut Attacker) -> Result<(), Ended> {
    while attacker.is_running() {
        match attacker.random.random_range(0..4) {
            0 => absurd_headers(attacker)?,
            1 => large_frames_that_break_off(attacker)?,
            2 => absurd_lengths_inside(attacker)?,
            _ => cut_hellos(attacker)?,
        }
        attacker.count("lengths: sessions");
    }
    Ok(())
}

/// Sends frames whose length is above the limit, or zero.
fn absurd_headers(attacker: &mut Attacker) -> Result<(), Ended> {
    let most = u32::try_from(budget::limits().frame_bytes).expect("it fits");
    for length in [0, most + 1, u32::MAX, 1 << 31] {
        let mut client = attacker.client()?;
        client.send_bytes(&length.to_be_bytes())?;
        // The manager must send a Bye, and close the connection.
        match client.receive_all(Duration::from_secs(10)) {
            Err(Ended::HungUp) => attacker.count("lengths: hung up"),
            Ok(_) => attacker.fault(format!("a frame of {length} bytes was accepted")),
            Err(ended) => return Err(ended),
        }
    }
    Ok(())
}

/// Many sessions send a large frame without its last byte.
fn large_frames_that_break_off(attacker: &mut Attacker) -> Result<(), Ended> {
    let most = budget::limits().frame_bytes;
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = attacker.client()?;
        let length = u32::try_from(most).expect("it fits");
        client.send_bytes(&length.to_be_bytes())?;
        client.send_bytes(&vec![0x93; most - 1])?;
        clients.push(client);
    }
    // Meanwhile the manager has all of these frames unfinished.
    thread::sleep(Duration::from_millis(50));
    Ok(())
}

/// Arrays, maps and texts whose headers state billions of elements, and nested arrays.
fn absurd_lengths_inside(attacker: &mut Attacker) -> Result<(), Ended> {
    let mut client = attacker.client()?;
    let spec = kinds::value_spec(vec![1]);
    let Some(value) = client.open("value", Some("hostile lies"), Some(&spec))? else {
        return Ok(());
    };
    let lies: [&[u8]; 6] = [
        &[0xdd, 0xff, 0xff, 0xff, 0xff],
        &[0x91, 0xdd, 0x7f, 0xff, 0xff, 0xff, 0x92, 1, 1],
        &[0xdf, 0xff, 0xff, 0xff, 0xff],
        &[0x91, 0xc6, 0xff, 0xff, 0xff, 0xff, 1],
        &[0x91, 0xdb, 0xff, 0xff, 0xff, 0xff, 0x61],
        &[0x91; 100_000],
    ];
    for lie in lies {
        for (_, _, operations) in kinds::KINDS {
            let most = operations.len() as u64;
            let operation = attacker.random.random_range(0..most);
            let seq = client.next();
            let arguments = Pack::Raw(lie.to_vec());
            let call = protocol::call(seq, value.number, operation, Some(0), &arguments);
            client.ask(seq, &call)?;
            attacker.count("lengths: lies");
        }
    }
    Ok(())
}

/// Sends hellos that are cut at each place.
fn cut_hellos(attacker: &mut Attacker) -> Result<(), Ended> {
    let hello = framed(&protocol::hello(1, "hostile", "").encoded());
    for _ in 0..20 {
        let cut = attacker.random.random_range(0..hello.len());
        let mut stream = attacker.connect()?;
        // An error means that the manager has already refused the connection.
        let _ = stream.write_all(&hello[..cut]);
    }
    Ok(())
}
