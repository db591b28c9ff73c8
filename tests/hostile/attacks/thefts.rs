//! Releases, adoptions and acknowledgements of other sessions' holds, with guessed proofs.
//!
//! The manager must refuse all of them: an `Ok` is a fault.

use rand::{Rng, seq::IndexedRandom};

use crate::{
    client::{Attacker, Ended, NO_OPERATION, Object, framed},
    honest::HELD_OBJECTS,
    pack::Pack,
    protocol::{self, Grant, Response},
};

/// The number of guesses in one write.
const BATCH: u64 = 50;

/// An operation that ends or takes a hold, and its arguments with a proof.
type Theft = (&'static str, fn(Pack) -> Vec<Pack>);

const THEFTS: [Theft; 14] = [
    ("release", only),
    ("release", |proof| vec![proof, Pack::Number(1)]),
    ("forget", |proof| vec![proof, Pack::Number(1)]),
    ("adopt", only),
    ("mark_consistent", only),
    ("notify", |proof| vec![proof, Pack::text(""), Pack::Nil]),
    ("wait", |proof| vec![proof, Pack::text("")]),
    ("upgrade", only),
    ("downgrade", |proof| vec![proof, Pack::text("Read")]),
    ("done", only),
    ("put_back", only),
    ("finish", only),
    // Objects accept this operation without a proof only if their release rule permits it.
    ("release_any", |_| Vec::new()),
    ("release_any", |_| vec![Pack::text("treasure")]),
];

fn only(proof: Pack) -> Vec<Pack> {
    vec![proof]
}

pub(crate) fn attack(attacker: &mut Attacker) -> Result<(), Ended> {
    let mut client = attacker.client()?;
    while attacker.is_running() {
        let (kind, name) = *HELD_OBJECTS.choose(&mut attacker.random).expect("some");
        let Some(object) = client.open(kind, Some(name), None)? else {
            attacker.fault(format!("{name} does not exist"));
            return Ok(());
        };
        let mut batch = Vec::new();
        let first = client.next();
        let mut last = first;
        for _ in 0..BATCH {
            let (operation, arguments) = guess(attacker, client.incarnation, &object);
            last = client.next();
            let call = protocol::call(last, object.number, operation, Some(0), &arguments);
            batch.extend(framed(&call.encoded()));
        }
        client.send_bytes(&batch)?;
        for seq in first + 1..=last {
            if let Response::Reply { body, .. } = client.answer(seq)? {
                attacker.count("thefts: tried");
                let reply = Pack::read(&body).ok_or(Ended::NotAFrame)?;
                match reply.variant_name() {
                    Some("Ok") => attacker.fault(format!("a hold of {name} was taken: {reply:?}")),
                    _ => attacker.count("thefts: refused"),
                }
            } else {
                attacker.count("thefts: bad arguments");
            }
        }
    }
    Ok(())
}

/// Makes a call with a guessed proof of another session's grant. Session numbers start at the
/// incarnation, and call numbers at one.
fn guess(attacker: &mut Attacker, incarnation: u64, object: &Object) -> (u64, Pack) {
    let random = &mut attacker.random;
    let fits = |(operation, _): &&Theft| object.operation(operation) != NO_OPERATION;
    let fitting: Vec<_> = THEFTS.iter().filter(fits).collect();
    let (operation, arguments) = fitting.choose(random).expect("each kind has an operation");
    // The honest client has one of the first session numbers.
    let grant = Grant {
        session: incarnation + random.random_range(0..4),
        seq: random.random_range(1..50),
    };
    let proof = protocol::guessed_proof(random, grant);
    (object.operation(operation), Pack::List(arguments(proof)))
}
