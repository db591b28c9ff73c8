//! `FreedBlocks`: makes the allocator sort freed blocks while they are few.
//!
//! glibc keeps freed blocks in lists, and sorts them when a request needs it: a request for a large block, or
//! one without a free block of its size. While millions of objects end, freed blocks of the right sizes serve
//! all requests for a long time. The first other request then sorted millions of blocks, which took 25 ms
//! with one million locks and 160 ms while they were removed. Therefore the shard makes such a request itself
//! from time to time.
//!
//! Other allocators lose only the time of one request in [`TURNS`].

use std::{cell::Cell, hint::black_box};

/// The number of turns of hosts after which a block is requested.
const TURNS: u32 = 4096;

/// The sizes of the requests, which alternate. glibc treats requests of 1,024 bytes or more as large. The
/// sizes differ because a free block of exactly the requested size is taken without a sort, and the last
/// requested block is such a block.
const BYTES: [usize; 2] = [1800, 2300];

/// Counts the turns of a shard's hosts.
#[derive(Debug, Default)]
pub(crate) struct FreedBlocks {
    turns: Cell<u32>,
}

impl FreedBlocks {
    /// Counts a turn.
    #[inline]
    pub(crate) fn count_turn(&self) {
        let turns = self.turns.get().wrapping_add(1);
        self.turns.set(turns);
        if turns.is_multiple_of(TURNS) {
            sort(turns / TURNS);
        }
    }
}

#[cold]
fn sort(round: u32) {
    let [one, other] = BYTES;
    let bytes = if round.is_multiple_of(2) { one } else { other };
    // Without `black_box` the compiler would remove the unused request.
    drop(black_box(Vec::<u8>::with_capacity(bytes)));
}

#[cfg(test)]
mod tests {
    use std::{
        thread,
        time::{Duration, Instant},
    };

    use super::*;

    /// The time of a request after `BLOCKS` small blocks were freed, each in a turn, and each between blocks
    /// in use. A new thread has an arena of its own.
    fn time_of_request(end_turn: impl Fn(&FreedBlocks) + Send + 'static) -> Duration {
        const BLOCKS: usize = 300_000;
        let time = thread::spawn(move || {
            let small = || black_box(Box::new([1_u8; 48]));
            let (freed, kept): (Vec<_>, Vec<_>) = (0..BLOCKS).map(|_| (small(), small())).unzip();
            let blocks = FreedBlocks::default();
            for block in freed {
                drop(block);
                end_turn(&blocks);
            }
            let begun = Instant::now();
            for bytes in BYTES {
                drop(black_box(Vec::<u8>::with_capacity(bytes)));
            }
            let time = begun.elapsed();
            drop(kept);
            time
        });
        time.join().expect("it does not panic")
    }

    #[test]
    #[cfg_attr(not(target_env = "gnu"), ignore = "it tests what glibc does")]
    fn a_request_sorts_few_blocks_however_many_were_freed() {
        // The least of several times excludes the delays of a busy machine.
        let least = |end_turn: fn(&FreedBlocks)| (0..5).map(|_| time_of_request(end_turn)).min();
        let (counted, uncounted) = (least(FreedBlocks::count_turn), least(|_| ()));
        assert!(
            counted < uncounted.map(|time| time / 5),
            "{counted:?}, and {uncounted:?} without turns"
        );
    }
}
