//! The outside witness: who is inside an object, by a page in a file that is locked by the system.
//!
//! A process enters here after the library let it in, and leaves before it gives back. So whoever
//! is inside here is so there, and the dead are inside nowhere. The page is written at once: who is
//! killed meanwhile leaves the old one or the new one.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::ErrorKind,
    os::unix::fs::FileExt,
    process,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use lockkeeper::Fence;
use serde::{Deserialize, Serialize};

use super::notes::Notes;
use crate::signals::is_running;

/// The length of the file.
const PAGE: usize = 4096;

/// How many of the last fences are kept, to see that none comes twice.
const RECENT: usize = 40;

/// How much later than the manager the system may know that a process is dead: its sockets are
/// closed before.
const DYING: Duration = Duration::from_secs(5);

/// The ledger of one object.
#[derive(Debug)]
pub(crate) struct Ledger {
    name: String,
    /// How much may be inside at a time.
    most: u64,
    notes: Notes,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Page {
    highest: u64,
    recent: VecDeque<u64>,
    inside: Vec<Entry>,
}

/// Somebody who is inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use = "who is inside has to leave"]
pub(crate) struct Entry {
    pid: u32,
    serial: u64,
    amount: u64,
    fence: u64,
}

impl Page {
    fn sum(&self) -> u64 {
        self.inside.iter().map(|entry| entry.amount).sum()
    }

    /// Whether anybody of another process is inside, who may be about to be dead.
    fn is_others_doing(&self, entry: &Entry) -> bool {
        self.inside.iter().any(|inside| inside.pid != entry.pid)
    }

    fn bury_the_dead(&mut self) {
        self.inside.retain(|entry| is_running(entry.pid));
    }

    fn take_note(&mut self, fence: u64) {
        self.highest = self.highest.max(fence);
        self.recent.push_back(fence);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }
}

impl Ledger {
    pub(crate) fn new(name: &str, most: u64, notes: &Notes) -> Self {
        Self {
            name: name.to_owned(),
            most,
            notes: notes.clone(),
        }
    }

    /// The highest fence that was noted. A call that begins now is granted a higher one.
    pub(crate) fn highest(&self) -> u64 {
        self.update(|page| page.highest)
    }

    /// Enters with what was granted to a call that began when `highest` was the highest fence.
    pub(crate) fn enter(&self, amount: u64, fence: Fence, highest: u64) -> Entry {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let entry = Entry {
            pid: process::id(),
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            amount,
            fence: fence.number(),
        };
        self.update(|page| {
            page.bury_the_dead();
            let patience = Instant::now() + DYING;
            while page.sum() + amount > self.most
                && page.is_others_doing(&entry)
                && Instant::now() < patience
            {
                thread::sleep(Duration::from_millis(1));
                page.bury_the_dead();
            }
            if page.sum() + amount > self.most {
                let (most, inside) = (self.most, &page.inside);
                self.accuse(&format!("{entry:?} is above {most} with {inside:?}"));
            }
            self.check_order(page, entry.fence, highest);
            page.inside.push(entry.clone());
        });
        entry
    }

    /// Notes that who is inside entered once more, which changes nothing: nobody else is inside.
    pub(crate) fn enter_again(&self, entry: &Entry, fence: Fence) {
        self.update(|page| {
            let inside = &page.inside;
            if *inside != [entry.clone()] {
                self.accuse(&format!("{entry:?} entered again, with {inside:?} inside"));
            }
            if fence.number() != entry.fence {
                self.accuse(&format!("{entry:?} entered again with another {fence}"));
            }
        });
    }

    /// Leaves with a part of what was entered with.
    pub(crate) fn leave_in_part(&self, entry: &mut Entry, amount: u64) {
        self.update(|page| {
            match page.inside.iter_mut().find(|inside| *inside == entry) {
                Some(inside) => inside.amount -= amount,
                None => self.accuse(&format!("{entry:?} is not inside")),
            }
            entry.amount -= amount;
        });
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "who has left is inside no longer"
    )]
    pub(crate) fn leave(&self, entry: Entry) {
        self.update(|page| {
            let place = page.inside.iter().position(|inside| *inside == entry);
            match place {
                Some(place) => drop(page.inside.swap_remove(place)),
                None => self.accuse(&format!("{entry:?} is not inside")),
            }
        });
    }

    /// Notes a number that only grows, each time it is given to a new call.
    pub(crate) fn pass(&self, number: u64, highest: u64) {
        self.update(|page| self.check_order(page, number, highest));
    }

    /// Checks a fence, of a call that began when `highest` was the highest.
    ///
    /// To enter here comes after the grant. So where only one is inside, fences come in their
    /// order; where several are, those that were granted at about the same time may not.
    fn check_order(&self, page: &mut Page, fence: u64, highest: u64) {
        let highest = if self.most == 1 {
            page.highest
        } else {
            highest
        };
        if fence <= highest || page.recent.contains(&fence) {
            let recent = &page.recent;
            self.accuse(&format!("{fence} is not above {highest}, or in {recent:?}"));
        }
        page.take_note(fence);
    }

    fn accuse(&self, words: &str) {
        self.notes.violation(&format!("{}: {words}", self.name));
    }

    fn update<T>(&self, change: impl FnOnce(&mut Page) -> T) -> T {
        let path = self.notes.path("ledgers", &self.name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .expect("a ledger can be opened");
        lock(&file);
        let mut page = read(&file);
        let outcome = change(&mut page);
        let mut bytes = serde_json::to_vec(&page).expect("a page is plain data");
        assert!(bytes.len() <= PAGE, "the page is full: {page:?}");
        bytes.resize(PAGE, b' ');
        file.write_all_at(&bytes, 0).expect("a page can be written");
        outcome
    }
}

fn lock(file: &File) {
    loop {
        match file.lock() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            locked => return locked.expect("a file can be locked"),
        }
    }
}

fn read(file: &File) -> Page {
    let mut bytes = [b' '; PAGE];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Page::default(),
        outcome => {
            outcome.expect("a page can be read");
            serde_json::from_slice(&bytes).expect("a page is never written in part")
        }
    }
}
