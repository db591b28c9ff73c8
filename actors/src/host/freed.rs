//! `FreedBlocks`: makes the allocator sort freed blocks while they are few.
//!
//! glibc keeps freed blocks in lists, and sorts them when a request needs it: a request for a large block, or
//! one without a free block of its size. While millions of objects end, freed blocks of the right sizes serve
//! all requests for a long time. The first other request then sorted millions of blocks, which took 25 ms
//! with one million locks and 160 ms while they were removed. Therefore the shard makes such a request itself
//! from time to time.
//!
//! A call frees few blocks, and the next ones use most of them again, so a sort costs little more than the
//! blocks that ends have freed. Other allocators lose only the time of one request in [`BLOCKS`] messages.

use std::{cell::Cell, hint::black_box};

/// The number of freed blocks, as estimated, after which a block is requested.
const BLOCKS: u32 = 1 << 15;

/// An estimate of the blocks that were freed and that later messages do not use again.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Freed {
    /// A message was handled.
    Message = 1,
    /// An object has ended, or a session at an object.
    End = 8,
    /// A slice of a hang-up is over, and others follow.
    Slice = 1024,
}

/// The sizes of the requests, which alternate. glibc treats requests of 1,024 bytes or more as large. The
/// sizes differ because a free block of exactly the requested size is taken without a sort, and the last
/// requested block is such a block.
const BYTES: [usize; 2] = [1800, 2300];

/// Counts the blocks that a shard frees.
#[derive(Debug, Default)]
pub(crate) struct FreedBlocks {
    blocks: Cell<u32>,
    is_other: Cell<bool>,
}

impl FreedBlocks {
    /// Counts what was freed.
    #[inline]
    pub(crate) fn count(&self, freed: Freed) {
        let blocks = self.blocks.get() + freed as u32;
        self.blocks.set(blocks);
        if blocks >= BLOCKS {
            self.sort();
        }
    }

    #[cold]
    fn sort(&self) {
        self.blocks.set(0);
        let [one, other] = BYTES;
        let is_other = self.is_other.replace(!self.is_other.get());
        let bytes = if is_other { other } else { one };
        // Without `black_box` the compiler would remove the unused request.
        drop(black_box(Vec::<u8>::with_capacity(bytes)));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        thread,
        time::{Duration, Instant},
    };

    use super::*;

    /// The time of a request after `BLOCKS` small blocks were freed, each by an end, and each between blocks
    /// in use. A new thread has an arena of its own.
    fn time_of_request(count: impl Fn(&FreedBlocks) + Send + 'static) -> Duration {
        const BLOCKS: usize = 300_000;
        let time = thread::spawn(move || {
            let small = || black_box(Box::new([1_u8; 48]));
            let (freed, kept): (Vec<_>, Vec<_>) = (0..BLOCKS).map(|_| (small(), small())).unzip();
            let blocks = FreedBlocks::default();
            for block in freed {
                drop(block);
                count(&blocks);
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
        let least = |count: fn(&FreedBlocks)| (0..5).map(|_| time_of_request(count)).min();
        let (counted, uncounted) = (least(|blocks| blocks.count(Freed::End)), least(|_| ()));
        assert!(
            counted < uncounted.map(|time| time / 5),
            "{counted:?}, and {uncounted:?} uncounted"
        );
    }
}
