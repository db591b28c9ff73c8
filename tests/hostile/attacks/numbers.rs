//! Sequence numbers that do not rise, casts that acquire, and withdrawals of anything. What a session
//! holds by its casts must be whole again after its end.

use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

use rand::Rng;

use crate::{
    client::{Attacker, Client, Ended, Object, framed},
    kinds,
    pack::Pack,
    protocol::{self, Response},
};

/// How many permits the semaphore of this attack has.
const PERMITS: u64 = 50;

/// How long the permits of an ended session may take to come back.
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
                    attacker.fault(format!("{second} after {first} is no offence"));
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

/// Permits are acquired by casts and through report pipes, and not released.
fn permits_by_casts(attacker: &mut Attacker, name: &str) -> Result<(), Ended> {
    let mut thief = attacker.client()?;
    let spec = kinds::semaphore_spec(PERMITS);
    let Some(semaphore) = thief.open("semaphore", Some(name), Some(&spec))? else {
        return Ok(());
    };
    for _ in 0..attacker.random.random_range(1..5) {
        if attacker.random.random() {
            acquire_by_pipe(attacker, &mut thief, &semaphore)?;
        } else {
            let one = Pack::list([Pack::Number(1)]);
            let acquire = semaphore.operation("acquire");
            let cast = protocol::cast(semaphore.number, acquire, &one);
            thief.send(&cast)?;
        }
    }
    thief.call(&semaphore, "count", &Pack::list([]))?;
    drop(thief);
    let mut other = attacker.client_with_retry()?;
    let Some(semaphore) = other.open("semaphore", Some(name), Some(&spec))? else {
        return Ok(());
    };
    let deadline = Instant::now() + RETURN;
    loop {
        let Response::Reply { body, .. } = other.call(&semaphore, "count", &Pack::list([]))? else {
            return Ok(());
        };
        let count = Pack::read(&body).ok_or(Ended::NotAFrame)?;
        if count.elements().first() == Some(&Pack::Number(PERMITS)) {
            attacker.count("numbers: permits came back");
            return Ok(());
        }
        if Instant::now() > deadline {
            attacker.fault(format!("permits of an ended session are lost: {count:?}"));
            // Otherwise each later round would wait for them too.
            other.remove(name)?;
            return Ok(());
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Acquires a permit by each of some records in a pipe. A second pipe takes the place of the first.
fn acquire_by_pipe(
    attacker: &mut Attacker,
    thief: &mut Client,
    semaphore: &Object,
) -> Result<(), Ended> {
    let (reader, mut writer) = std::io::pipe().expect("the system has pipes");
    let seq = thief.next();
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&reader);
    let descriptor = u64::try_from(descriptor).expect("an open descriptor");
    let acquire = semaphore.operation("acquire");
    let request = protocol::report_pipe(seq, semaphore.number, acquire, descriptor);
    let response = thief.ask(seq, &request)?;
    if !matches!(response, Response::Reply { .. }) {
        return Ok(());
    }
    let record = framed(&Pack::Number(1).encoded());
    for _ in 0..attacker.random.random_range(1..4) {
        writer.write_all(&record).expect("a pipe has room for this");
        // The pipe is read before the next frame is.
        thief.call(semaphore, "count", &Pack::list([]))?;
    }
    attacker.count("numbers: pipes");
    Ok(())
}
