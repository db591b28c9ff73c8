//! Sequence numbers that do not increase, casts that acquire, and withdrawals of any number. The
//! permits that a session acquired by casts must be free after its end.

use std::{
    thread,
    time::{Duration, Instant},
};

use rand::Rng;

use crate::{
    client::{Attacker, Ended, framed},
    kinds,
    pack::Pack,
    protocol::{self, Response},
};

/// The number of permits of this attack's semaphore.
const PERMITS: u64 = 50;

/// The time limit for the release of an ended session's permits.
const RETURN: Duration = Duration::from_secs(5);

pub(crate) fn attack(attacker: &mut Attacker) -> Result<(), Ended> {
    let name = format!("hostile permits {}", attacker.random.random::<u32>());
    while attacker.is_running() {
        match attacker.random.random_range(0..3) {
            0 => numbers_that_do_not_rise(attacker)?,
            1 => withdrawals_of_anything(attacker)?,
            _ => permits_by_casts(attacker, &name)?,
        }
    }
    attacker.client_with_retry()?.remove(&name)?;
    Ok(())
}

fn numbers_that_do_not_rise(attacker: &mut Attacker) -> Result<(), Ended> {
    let falls = [
        (1, 1),
        (2, 1),
        (1, 0),
        (1, 1 << 63),
        ((1 << 63) - 1, 5),
        (1, u64::MAX),
    ];
    for (first, second) in falls {
        let mut client = attacker.client()?;
        client.send(&protocol::remove(first, "hostile nothing"))?;
        client.send(&protocol::remove(second, "hostile nothing"))?;
        loop {
            match client.receive(Duration::from_secs(10)) {
                Ok(Some(Response::Bye(_))) | Err(Ended::HungUp) => break,
                Ok(Some(_)) => {}
                Ok(None) => {
                    attacker.fault(format!("{second} after {first} was accepted"));
                    break;
                }
                Err(ended) => return Err(ended),
            }
        }
        attacker.count("numbers: hung up");
    }
    Ok(())
}

fn withdrawals_of_anything(attacker: &mut Attacker) -> Result<(), Ended> {
    let mut client = attacker.client()?;
    let Some(lock) = client.open("lock", Some("hostile lock 0"), Some(&kinds::lock_spec()))? else {
        return Ok(());
    };
    let mut batch = Vec::new();
    for _ in 0..2_000 {
        let random = &mut attacker.random;
        let object = kinds::count(random);
        let withdraw = protocol::withdraw(object, kinds::number(random));
        batch.extend(framed(&withdraw.encoded()));
    }
    client.send_bytes(&batch)?;
    client.call(&lock, "status", &Pack::list([]))?;
    attacker.add("numbers: withdrawals", 2_000);
    Ok(())
}

/// Permits are acquired by casts, and not released.
fn permits_by_casts(attacker: &mut Attacker, name: &str) -> Result<(), Ended> {
    let mut client = attacker.client()?;
    let spec = kinds::semaphore_spec(PERMITS);
    let Some(semaphore) = client.open("semaphore", Some(name), Some(&spec))? else {
        return Ok(());
    };
    for _ in 0..attacker.random.random_range(1..5) {
        let one = Pack::list([Pack::Number(1)]);
        let acquire = semaphore.operation("acquire");
        let cast = protocol::cast(semaphore.number, acquire, &one);
        client.send(&cast)?;
    }
    client.call(&semaphore, "status", &Pack::list([]))?;
    drop(client);
    let mut other = attacker.client_with_retry()?;
    let Some(semaphore) = other.open("semaphore", Some(name), Some(&spec))? else {
        return Ok(());
    };
    let deadline = Instant::now() + RETURN;
    loop {
        let Response::Reply { body, .. } = other.call(&semaphore, "status", &Pack::list([]))?
        else {
            return Ok(());
        };
        let count = Pack::read(&body).ok_or(Ended::NotAFrame)?;
        if count.elements().first() == Some(&Pack::Number(PERMITS)) {
            attacker.count("numbers: permits released");
            return Ok(());
        }
        if Instant::now() > deadline {
            attacker.fault(format!("permits of an ended session are lost: {count:?}"));
            // Otherwise each later round would also wait for these permits.
            other.remove(name)?;
            return Ok(());
        }
        thread::sleep(Duration::from_millis(1));
    }
}
