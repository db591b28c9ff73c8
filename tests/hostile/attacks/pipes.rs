//! Requests for foreign report pipes, with the process id of another client and with any descriptor.
//! The honest client has a pipe that no manager may read.

use rand::Rng;

use crate::{
    client::{Attacker, Ended},
    kinds,
    pack::Pack,
    protocol::{self, Response},
};

pub(crate) fn attack(attacker: &mut Attacker) -> Result<(), Ended> {
    while attacker.is_running() {
        let pid = match attacker.random.random_range(0..4) {
            0 => 1,
            1 => attacker.random.random(),
            _ => attacker.honest,
        };
        let mut client = attacker.client_as(pid, "honest", "")?;
        let spec = kinds::queue_spec(None);
        let name = format!("hostile loot {}", attacker.random.random_range(0..4));
        let Some(queue) = client.open("queue", Some(&name), Some(&spec))? else {
            return Ok(());
        };
        // The first three are skipped, because the manager would read the attacker's own standard
        // output.
        for descriptor in (3..40).chain([u64::from(u32::MAX), 1 << 31]) {
            let seq = client.next();
            let put = queue.operation("put");
            let request = protocol::report_pipe(seq, queue.number, put, descriptor);
            match client.ask(seq, &request)? {
                Response::Reply { .. } => attacker.count("pipes: opened"),
                _ => attacker.count("pipes: refused"),
            }
        }
        // The manager reads the pipe at each chunk of frames.
        client.call(&queue, "status", &Pack::list([]))?;
        client.call(&queue, "status", &Pack::list([]))?;
        client.remove(&name)?;
    }
    Ok(())
}
