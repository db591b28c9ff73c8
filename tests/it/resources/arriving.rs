//! Messages that arrive in part take little memory, and do not delay those of other processes.

use lockkeeper::{Address, Limits, Manager, Queue};
use lockkeeper_test_support::{Role, report};

use super::{Host, Raw};
use crate::run;

const MEGABYTE: usize = 1 << 20;

/// The bytes of a message that the manager does not refuse.
const LONG: usize = 60_000;

/// Puts and takes long items, and reports their number.
pub(crate) async fn put_much(address: Address) {
    let manager = Manager::connect(address).await.unwrap();
    let queue: Queue<String> = manager.unbounded_queue().await.unwrap();
    for _ in 0..50 {
        queue.put("x".repeat(LONG)).await.unwrap();
        queue.get().await.unwrap().done().await.unwrap();
    }
    report("50");
}

#[test]
fn messages_that_have_arrived_in_part_take_little_memory_and_delay_no_other_process() {
    run(async {
        // Messages that have arrived in part may take a sixteenth, and one process half of that.
        let host = Host::start(Limits {
            stored_bytes: 32 * MEGABYTE,
            ..Limits::default()
        });
        let _manager = host.connect().await;
        let before = host.peak();
        let mut begun = Vec::new();
        for _ in 0..400 {
            let mut client = Raw::connect(&host.address);
            let length = u32::try_from(LONG).unwrap();
            client.write(&length.to_be_bytes());
            client.write(&vec![0x93; LONG - 1]);
            begun.push(client);
        }
        let mut putter = Role::start("resources::putter", &host.address);
        let put = tokio::task::spawn_blocking(move || putter.next_report());
        assert_eq!(put.await.unwrap(), "50");
        let more = host.peak() - before;
        assert!(
            more < 14 * MEGABYTE,
            "{more} bytes more for {} sessions",
            begun.len()
        );
    });
}
