//! Valid frames with changed, removed, inserted and duplicated bytes.

use std::{collections::HashSet, time::Duration};

use rand::Rng;

use crate::{
    attacks::valid,
    client::{Attacker, Ended, framed},
};

pub(crate) fn attack(attacker: &mut Attacker) -> Result<(), Ended> {
    while attacker.is_running() {
        match one_session(attacker) {
            // Most of these sessions must end like this.
            Err(Ended::HungUp) => attacker.count("mutated: hung up"),
            outcome => outcome?,
        }
    }
    Ok(())
}

fn one_session(attacker: &mut Attacker) -> Result<(), Ended> {
    let mut client = attacker.client()?;
    let objects = valid::open_some(attacker, &mut client)?;
    let (mut asked, mut grants) = (HashSet::new(), Vec::new());
    for _ in 0..200 {
        let Some(frame) = valid::frame(attacker, &mut client, &objects, &mut asked, &mut grants)
        else {
            continue;
        };
        let mut bytes = framed(&frame.encoded());
        for _ in 0..attacker.random.random_range(0..4) {
            mutate(attacker, &mut bytes);
        }
        if attacker.random.random_ratio(9, 10)
            && let Some((_, message)) = bytes.split_first_chunk::<4>()
        {
            // The length is correct, so the following bytes are still a frame.
            bytes = framed(message);
        }
        client.send_bytes(&bytes)?;
        attacker.count("mutated: frames");
    }
    client.receive_all(Duration::from_millis(5))?;
    Ok(())
}

fn mutate(attacker: &mut Attacker, bytes: &mut Vec<u8>) {
    let random = &mut attacker.random;
    let place = random.random_range(4..bytes.len().max(5));
    let Some(byte) = bytes.get_mut(place) else {
        return;
    };
    match random.random_range(0..7) {
        0 => *byte = random.random(),
        1 => *byte ^= 1 << random.random_range(0..8),
        2 => *byte = [0, 0x7f, 0x80, 0xc0, 0xdd, 0xdf, 0xff][random.random_range(0..7)],
        3 => drop(bytes.remove(place)),
        4 => bytes.insert(place, random.random()),
        5 => bytes.truncate(place),
        _ => {
            let piece = bytes[place..].to_vec();
            bytes.extend(piece);
        }
    }
}
