//! Random valid frames of all kinds and operations, with arguments of the right shape. Each request
//! must be answered at most once.

use std::{collections::HashSet, time::Duration};

use rand::{Rng, seq::IndexedRandom};

use crate::{
    client::{Attacker, Client, Ended, Object, framed},
    kinds::{self, KINDS, Kind},
    pack::Pack,
    protocol::{self, Grant, Response},
};

/// The number of frames in one write.
const BATCH: usize = 40;

pub(crate) fn attack(attacker: &mut Attacker) -> Result<(), Ended> {
    let mut client = attacker.client()?;
    let objects = open_some(attacker, &mut client)?;
    let (mut asked, mut grants) = (HashSet::new(), Vec::new());
    while attacker.is_running() {
        let mut batch = Vec::new();
        for _ in 0..BATCH {
            let Some(frame) = frame(attacker, &mut client, &objects, &mut asked, &mut grants)
            else {
                continue;
            };
            batch.extend(framed(&frame.encoded()));
        }
        client.send_bytes(&batch)?;
        attacker.add("valid: frames", BATCH as u64);
        while let Some(response) = client.receive(Duration::from_millis(1))? {
            match response {
                Response::Bye(reason) => {
                    attacker.fault(format!("valid frames had a bye: {reason}"))
                }
                response => {
                    if let Some(seq) = response.answers() {
                        attacker.count("valid: answers");
                        if !asked.remove(&seq) {
                            attacker.fault(format!("an answer to {seq}, which is not waiting"));
                        }
                    }
                }
            }
        }
    }
    client.send(&protocol::goodbye())?;
    match client.receive_all(Duration::from_secs(10)) {
        Err(Ended::HungUp) => attacker.count("valid: goodbyes"),
        Ok(_) => attacker.fault("a session goes on after its goodbye".to_owned()),
        Err(ended) => return Err(ended),
    }
    Ok(())
}

/// Opens objects of some kinds. Other sessions open the same objects.
pub(crate) fn open_some(
    attacker: &mut Attacker,
    client: &mut Client,
) -> Result<Vec<(Kind, Object)>, Ended> {
    let mut objects = Vec::new();
    for _ in 0..6 {
        let kind = *KINDS
            .choose(&mut attacker.random)
            .expect("the list is not empty");
        let (name, spec, _) = kind;
        let spec = kinds::random_spec(&mut attacker.random, spec);
        let name_of_it = format!("hostile {name} {}", attacker.random.random_range(0..3));
        let opened = match client.open(name, Some(&name_of_it), Some(&spec))? {
            // Another session may have created it with another spec.
            None => client.open(name, Some(&name_of_it), None)?,
            opened => opened,
        };
        objects.extend(opened.map(|object| (kind, object)));
    }
    Ok(objects)
}

/// Makes a random frame to one of the objects.
pub(crate) fn frame(
    attacker: &mut Attacker,
    client: &mut Client,
    objects: &[(Kind, Object)],
    asked: &mut HashSet<u64>,
    grants: &mut Vec<Grant>,
) -> Option<Pack> {
    let random = &mut attacker.random;
    let ((_, _, operations), object) = objects.choose(random)?;
    let (operation, shapes) = operations.choose(random)?;
    let operation = object.operation(operation);
    let arguments = kinds::record(random, shapes, grants);
    let micros = match random.random_range(0..4) {
        0 => None,
        1 => Some(random.random_range(0..20_000)),
        2 => Some(kinds::number(random)),
        _ => Some(0),
    };
    let choice = random.random_range(0..40);
    if choice == 0 {
        let seq = random.random_range(0..200) + asked.len() as u64;
        return Some(protocol::withdraw(object.number, seq));
    }
    if choice < 5 {
        return Some(protocol::cast(object.number, operation, &arguments));
    }
    let seq = client.next();
    asked.insert(seq);
    if grants.len() < 200 {
        grants.push(client.own(seq));
    } else {
        let place = random.random_range(0..grants.len());
        grants[place] = client.own(seq);
    }
    Some(match choice {
        5 => protocol::inspect(seq, protocol::all_above(random.random())),
        6 => protocol::inspect(seq, protocol::named("hostile lock 0")),
        7 => protocol::inspect(seq, Pack::variant("Contended", Pack::Number(0))),
        8 => protocol::inspect(seq, Pack::text("Deadlocks")),
        9 => {
            let name = format!("hostile lock {}", random.random_range(0..3));
            protocol::remove(seq, &name)
        }
        13 => protocol::beat(seq, random.random()),
        12 => protocol::report_pipe(seq, object.number, operation),
        10 => protocol::open(seq, "event", Some("hostile event 0"), None),
        11 => {
            let caller = kinds::number(random);
            let number = object.number;
            protocol::call_by(seq, number, operation, micros, &arguments, caller)
        }
        _ => protocol::call(seq, object.number, operation, micros, &arguments),
    })
}
