//! The memory of a manager for objects of each kind, and what they count in its limit.

use std::fs;

use futures::{StreamExt, stream};
use lockkeeper::{CallError, Limits, Manager};

use crate::{manager::process::pid_of, run};

/// The bytes that the objects of each kind may count.
const LIMIT: usize = 8 << 20;

/// Returns the resident bytes of a process.
fn resident(process: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    kilobytes.unwrap().parse::<usize>().unwrap() * 1024
}

/// Opens objects until the manager has no room for others. Returns how many, and the memory for each.
async fn fill<F: Future<Output = Result<(), CallError>>>(
    open: impl Fn(Manager, usize) -> F,
) -> (usize, usize) {
    let limits = Limits {
        stored_bytes: LIMIT,
        ..Limits::default()
    };
    let manager = Manager::builder().limits(limits).spawn().await.unwrap();
    let process = pid_of(&manager).await;
    let (mut opened, mut before) = (0, 0);
    loop {
        let some = stream::iter(opened..opened + 500);
        let some = some.map(|number| open(manager.clone(), number));
        let some: Vec<_> = some.buffer_unordered(100).collect().await;
        let made = some.iter().filter(|opened| opened.is_ok()).count();
        opened += made;
        // The first objects of a manager allocate memory that does not belong to them.
        if opened == 500 {
            before = resident(process);
        }
        if made < 500 {
            let each = resident(process).saturating_sub(before) / (opened - 500);
            return (opened, each);
        }
    }
}

macro_rules! fill {
    ($($kind:ident $(::<$item:ty>)? ($($spec:expr),*)),*) => {
        [$({
            let named = fill(async |manager, number| {
                let name = name(number);
                manager.named(&name).$kind$(::<$item>)?($($spec),*).await.map(drop)
            });
            (stringify!($kind), named.await)
        }),*]
    };
}

fn name(number: usize) -> String {
    format!("/corpus/record/{number:07}")
}

#[test]
fn objects_take_no_more_memory_than_they_count() {
    run(async {
        let anonymous = fill(async |manager, _| manager.lock().await.map(drop)).await;
        let named = fill! {
            lock(), reentrant_lock(), rw_lock(), semaphore(1), bounded_semaphore(1), event(), condition(),
            unbounded_queue::<u64>(), value(7_u64), barrier(2), keyed_lock(), keyed_semaphore(2), latch(2)
        };
        for (kind, (opened, each)) in [("anonymous lock", anonymous)].into_iter().chain(named) {
            // A client may open objects for half of what is left.
            let counted = LIMIT / 16 * 15 / 2 / opened;
            println!("{kind}: {each} bytes, {counted} counted");
            // The allocator takes memory from the system in steps.
            let about = counted * 4 / 5..=counted * 6 / 5;
            assert!(
                about.contains(&each),
                "{kind}: {each} bytes, {counted} counted"
            );
        }
    });
}
