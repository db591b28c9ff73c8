//! Names, programs, labels, specs and types that are too long, are not text, or contain terminal
//! control characters.

use rand::Rng;

use crate::{
    budget,
    client::{Attacker, Ended},
    kinds::{self, KINDS},
    pack::Pack,
    protocol,
};

pub(crate) fn attack(attacker: &mut Attacker) -> Result<(), Ended> {
    while attacker.is_running() {
        let [program, label] = [(); 2].map(|()| kinds::text(&mut attacker.random));
        let mut client = attacker.client_as(7, &program, &label)?;
        for _ in 0..60 {
            let random = &mut attacker.random;
            let name = match random.random_range(0..6) {
                0 => "n".repeat(budget::LARGE),
                1 => format!("#{:x}.{}", random.random::<u64>(), kinds::number(random)),
                _ => format!("hostile {}", kinds::text(random)),
            };
            let (kind, spec, _) = KINDS[random.random_range(0..KINDS.len())];
            let spec = match random.random_range(0..4) {
                0 => Pack::Raw(vec![0xff; random.random_range(0..9)]),
                1 => Pack::list([large(), large()]),
                _ => kinds::random_spec(random, spec),
            };
            let seq = client.next();
            let request = match random.random_range(0..6) {
                0 => protocol::remove(seq, &name),
                1 => protocol::inspect(seq, protocol::named(&name)),
                2 => protocol::open(seq, &name, None, Some(&spec)),
                3 => protocol::open(seq, kind, Some(&name), None),
                _ => protocol::open(seq, kind, Some(&name), Some(&spec)),
            };
            client.ask(seq, &request)?;
            attacker.count("names: answered");
            if !attacker.is_running() {
                break;
            }
        }
    }
    Ok(())
}

/// A text that is too long for every spec.
fn large() -> Pack {
    Pack::Text("t".repeat(100_000))
}
