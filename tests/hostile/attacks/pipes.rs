//! Requests for foreign report pipes, with the process id of another client. The honest client has a pipe that no
//! manager may read: only the pipe that came with a stream can be one, and these streams have none.

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
        for _ in 0..40 {
            let seq = client.next();
            let put = queue.operation("put");
            let request = protocol::report_pipe(seq, queue.number, put);
            match client.ask(seq, &request)? {
                Response::Fault { fault, .. } if is_no_pipe(&fault) => {
                    attacker.count("pipes: refused");
                }
                // Another session may have removed the queue.
                Response::Fault { fault, .. } if fault.variant_name() == Some("Gone") => {}
                other => attacker.fault(format!("the answer to a report pipe is {other:?}")),
            }
        }
        // The manager reads the pipe at each chunk of frames.
        client.call(&queue, "status", &Pack::list([]))?;
        client.call(&queue, "status", &Pack::list([]))?;
        client.remove(&name)?;
    }
    Ok(())
}

/// Returns whether the manager has understood the request, and refuses it because the stream has no pipe.
fn is_no_pipe(fault: &Pack) -> bool {
    let why = fault.of_variant("BadArguments").and_then(Pack::as_text);
    why.is_some_and(|why| why.contains("no report pipe came with the stream"))
}
