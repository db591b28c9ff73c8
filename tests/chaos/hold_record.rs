//! The hold record of an object: its holders, in a page of a file that a file lock protects.
//!
//! A process adds an entry after the library has granted its call, and removes it before it
//! releases. So each entry of a running process is correct, and entries of dead processes do not
//! count. A process that is killed while it writes leaves the old page or the new one.

use std::{
    fs::{File, OpenOptions},
    io::ErrorKind,
    os::unix::fs::FileExt,
    process,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use lockkeeper::Fence;
use lockkeeper_test_support::is_running;
use serde::{Deserialize, Serialize};

use super::notes::Notes;

/// The length of the file.
const PAGE: usize = 4096;

/// The hold record of one object.
#[derive(Debug)]
pub(crate) struct HoldRecord {
    name: String,
    /// The maximum amount that may be held at a time.
    most: u64,
    notes: Notes,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Page {
    highest: u64,
    inside: Vec<Entry>,
}

/// A hold of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use = "an entry must be removed from the hold_record"]
pub(crate) struct Entry {
    pid: u32,
    serial: u64,
    amount: u64,
    fence: u64,
    /// The part that is held, if the object has several parts, each with the same amount; otherwise
    /// 0.
    thing: u64,
}

impl Page {
    /// Returns the amount of an entry's part that others hold.
    fn sum_beside(&self, entry: &Entry) -> u64 {
        let beside = self.inside.iter().filter(|inside| {
            let is_itself = (inside.pid, inside.serial) == (entry.pid, entry.serial);
            !is_itself && inside.thing == entry.thing
        });
        beside.map(|inside| inside.amount).sum()
    }

    /// Returns whether a process with an entry is about to die. The manager may notice a death
    /// before the process has ended, because sockets are closed first.
    fn has_marked(&self, notes: &Notes) -> bool {
        self.inside
            .iter()
            .any(|inside| notes.is_marked_killed(inside.pid))
    }

    fn remove_dead(&mut self) {
        self.inside.retain(|entry| is_running(entry.pid));
    }
}

impl HoldRecord {
    pub(crate) fn new(name: &str, most: u64, notes: &Notes) -> Self {
        Self {
            name: name.to_owned(),
            most,
            notes: notes.clone(),
        }
    }

    /// Returns the highest recorded fence. A call that begins now must be granted a higher one.
    pub(crate) fn highest(&self) -> u64 {
        self.update(|page| page.highest)
    }

    /// Adds an entry for a grant. Its call began when `highest` was the highest fence.
    pub(crate) fn enter(&self, amount: u64, fence: Fence, highest: u64) -> Entry {
        self.enter_with(0, amount, fence, highest)
    }

    /// Adds an entry for a grant of one part.
    pub(crate) fn enter_with(&self, thing: u64, amount: u64, fence: Fence, highest: u64) -> Entry {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let entry = Entry {
            pid: process::id(),
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            amount,
            fence: fence.number(),
            thing,
        };
        self.take_in(entry.clone(), highest);
        entry
    }

    fn take_in(&self, entry: Entry, highest: u64) {
        self.update(|page| {
            self.make_room(page, &entry);
            self.check_order(page, &entry, highest);
            page.inside.push(entry);
        });
    }

    /// Checks that an entry fits beside all others.
    fn make_room(&self, page: &mut Page, entry: &Entry) {
        page.remove_dead();
        let fits = |page: &Page| page.sum_beside(entry) + entry.amount <= self.most;
        // Only for marked processes does this wait: a process that finds a fault may be killed
        // before it reports it.
        while !fits(page) && page.has_marked(&self.notes) {
            thread::sleep(Duration::from_millis(1));
            page.remove_dead();
        }
        if !fits(page) {
            let (most, inside) = (self.most, &page.inside);
            self.violation(&format!("{entry:?} is above {most} with {inside:?}"));
        }
    }

    /// Changes an entry to the whole amount with a new fence.
    pub(crate) fn take_all(&self, entry: &mut Entry, fence: Fence) {
        self.update(|page| {
            let before = entry.clone();
            if !page.inside.contains(&before) {
                self.violation(&format!("{before:?} has no entry"));
            }
            entry.amount = self.most;
            entry.fence = fence.number();
            self.make_room(page, entry);
            self.check_order(page, entry, 0);
            // Dead entries were removed, so the entry may have another index.
            page.inside.retain(|inside| *inside != before);
            page.inside.push(entry.clone());
        });
    }

    /// Records that a holder has acquired again. Nothing else may have an entry.
    pub(crate) fn enter_again(&self, entry: &Entry, fence: Fence) {
        self.update(|page| {
            let inside = &page.inside;
            if *inside != [entry.clone()] {
                self.violation(&format!("{entry:?} entered again, with {inside:?} inside"));
            }
            if fence.number() != entry.fence {
                self.violation(&format!("{entry:?} entered again with another {fence}"));
            }
        });
    }

    /// Adds an entry for a hold that has existed throughout: no other process may have had an entry
    /// meanwhile.
    pub(crate) fn come_back(&self, entry: &Entry) {
        self.update(|page| {
            let Page { highest, inside } = page;
            if *highest != entry.fence || !inside.is_empty() {
                self.violation(&format!(
                    "{entry:?} was held, and {highest} came meanwhile, with {inside:?} inside"
                ));
            }
            inside.push(entry.clone());
        });
    }

    /// Reduces the amount of an entry.
    pub(crate) fn leave_in_part(&self, entry: &mut Entry, amount: u64) {
        self.update(|page| {
            match page.inside.iter_mut().find(|inside| *inside == entry) {
                Some(inside) => inside.amount -= amount,
                None => self.violation(&format!("{entry:?} has no entry")),
            }
            entry.amount -= amount;
        });
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "the entry is removed, so it must not be used again"
    )]
    pub(crate) fn leave(&self, entry: Entry) {
        self.update(|page| {
            let place = page.inside.iter().position(|inside| *inside == entry);
            match place {
                Some(place) => drop(page.inside.swap_remove(place)),
                None => self.violation(&format!("{entry:?} has no entry")),
            }
        });
    }

    /// Records a number that must increase with each new call.
    pub(crate) fn pass(&self, number: u64, highest: u64) {
        self.update(|page| self.note(page, number, highest));
    }

    /// Checks the fence of a call that began when `highest` was the highest fence.
    ///
    /// An entry is added after its grant. So the holder of the whole amount was granted after all
    /// earlier entries. If several may hold at a time, entries of about the same time may be added
    /// in another order.
    fn check_order(&self, page: &mut Page, entry: &Entry, highest: u64) {
        let takes_all = entry.amount == self.most && entry.thing == 0;
        let highest = if takes_all { page.highest } else { highest };
        self.note(page, entry.fence, highest);
    }

    fn note(&self, page: &mut Page, number: u64, highest: u64) {
        if number <= highest {
            self.violation(&format!("{number} is not above {highest}"));
        }
        self.notes.fence(&self.name, number);
        page.highest = page.highest.max(number);
    }

    fn violation(&self, words: &str) {
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
            .expect("the hold_record can be opened");
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

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn hold_record(most: u64) -> (tempfile::TempDir, Notes, HoldRecord) {
        let folder = tempfile::tempdir().unwrap();
        let notes = Notes::in_folder(folder.path());
        let hold_record = HoldRecord::new("it", most, &notes);
        (folder, notes, hold_record)
    }

    fn inside(pid: u32, amount: u64, fence: u64) -> Entry {
        Entry {
            pid,
            serial: 0,
            amount,
            fence,
            thing: 0,
        }
    }

    #[test]
    fn one_holder_too_many_is_reported_at_once_unless_a_process_is_marked() {
        let (_folder, notes, hold_record) = hold_record(2);
        // The parent of this process is running.
        let other = std::os::unix::process::parent_id();
        hold_record.take_in(inside(other, 1, 1), 0);
        assert_eq!(notes.violations(), "");
        hold_record.take_in(inside(process::id(), 2, 2), 0);
        assert!(notes.violations().contains("is above 2"));
    }

    #[test]
    fn entry_of_a_marked_process_counts_until_it_is_dead() {
        let (_folder, notes, hold_record) = hold_record(1);
        let mut dying = Command::new("sleep").arg("60").spawn().unwrap();
        hold_record.take_in(inside(dying.id(), 1, 1), 0);
        notes.mark_killed(dying.id());
        let killer = thread::spawn(move || {
            dying.kill().unwrap();
            dying.wait().unwrap();
        });
        hold_record.take_in(inside(process::id(), 1, 2), 0);
        killer.join().unwrap();
        assert_eq!(notes.violations(), "");
    }

    #[test]
    fn waiter_that_did_not_sleep_has_held_the_lock_alone() {
        let (_folder, notes, hold_record) = hold_record(1);
        let stays = inside(process::id(), 1, 1);
        hold_record.take_in(stays.clone(), 0);
        hold_record.leave(stays.clone());
        hold_record.come_back(&stays);
        assert_eq!(notes.violations(), "");
        assert_eq!(notes.repeated_fences(), [""; 0]);
        hold_record.leave(stays.clone());
        let other = inside(process::id(), 1, 2);
        hold_record.take_in(other.clone(), 0);
        hold_record.leave(other);
        hold_record.come_back(&stays);
        assert!(notes.violations().contains("2 came meanwhile"));
    }

    #[test]
    fn each_part_has_its_own_maximum() {
        let (_folder, notes, hold_record) = hold_record(1);
        let about = |thing, fence| Entry {
            serial: fence,
            thing,
            ..inside(process::id(), 1, fence)
        };
        hold_record.take_in(about(7, 2), 0);
        hold_record.take_in(about(8, 1), 0);
        assert_eq!(notes.violations(), "");
        hold_record.take_in(about(7, 3), 0);
        assert!(notes.violations().contains("is above 1"));
    }

    #[test]
    fn holder_of_the_whole_amount_is_alone_and_has_the_highest_fence() {
        let (_folder, notes, hold_record) = hold_record(10);
        let mut rises = inside(process::id(), 6, 1);
        hold_record.take_in(rises.clone(), 0);
        hold_record.take_all(&mut rises, Fence::new(2));
        assert_eq!(notes.violations(), "");
        let mut beside = Entry {
            serial: 1,
            ..inside(process::id(), 1, 3)
        };
        hold_record.leave_in_part(&mut rises, 9);
        hold_record.take_in(beside.clone(), 2);
        assert_eq!(notes.violations(), "");
        hold_record.take_all(&mut beside, Fence::new(3));
        let violations = notes.violations();
        assert!(violations.contains("is above 10"), "{violations}");
        assert!(violations.contains("3 is not above 3"), "{violations}");
    }

    #[test]
    fn repeated_fence_is_found_after_any_number_of_others() {
        let (_folder, notes, hold_record) = hold_record(1_000);
        for fence in (1..=100).chain([1]) {
            hold_record.pass(fence, 0);
        }
        assert_eq!(
            notes.violations(),
            "",
            "with several holders an entry may be late"
        );
        assert_eq!(notes.repeated_fences(), ["it: 1 came twice"]);
        hold_record.pass(50, 50);
        assert!(notes.violations().contains("50 is not above 50"));
    }
}
