//! Connections without a hello, with half a hello, and with other bytes.

use std::{io::Write, thread, time::Duration};

use rand::Rng;

use crate::{
    client::{Attacker, Ended, framed},
    protocol,
};

/// The number of connections at a time.
const CONNECTIONS: usize = 40;

pub(crate) fn attack(attacker: &mut Attacker) -> Result<(), Ended> {
    let hello = framed(&protocol::hello(1, "hostile", "\u{1b}[31m").encoded());
    let mut connections = Vec::new();
    while attacker.is_running() {
        let mut stream = attacker.connect()?;
        let bytes: &[u8] = match attacker.random.random_range(0..5) {
            0 => &hello[..attacker.random.random_range(0..hello.len())],
            1 => &hello,
            2 => b"GET / HTTP/1.1\r\n\r\n",
            3 => &[0xff; 70_000],
            _ => &[],
        };
        // An error means that the manager has already refused the connection.
        let _ = stream.write_all(bytes);
        connections.push(stream);
        attacker.count("connections: made");
        if connections.len() >= CONNECTIONS {
            // Only the time is random.
            let pause = attacker.random.random_range(0..100);
            thread::sleep(Duration::from_millis(pause));
            let left = attacker.random.random_range(0..CONNECTIONS);
            connections.truncate(left);
        }
    }
    Ok(())
}
