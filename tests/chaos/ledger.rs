//! Who is inside an object, in a page of a file that a file lock protects.
//!
//! A process enters here after the library let it in, and leaves before it gives back. So each
//! entry of a live process is true, and the entries of the dead do not count. A process that is
//! killed while it writes leaves the old page or the new one.

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
    inside: Vec<Entry>,
}

/// A process that is inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use = "who is inside has to leave"]
pub(crate) struct Entry {
    pid: u32,
    serial: u64,
    amount: u64,
    fence: u64,
    /// Which one of many things is held, of each of which there is as much: 0 where there is one.
    thing: u64,
}

impl Page {
    /// How much of what an entry is about others hold.
    fn sum_beside(&self, entry: &Entry) -> u64 {
        let beside = self.inside.iter().filter(|inside| {
            let is_itself = (inside.pid, inside.serial) == (entry.pid, entry.serial);
            !is_itself && inside.thing == entry.thing
        });
        beside.map(|inside| inside.amount).sum()
    }

    /// Whether anybody is inside who is about to be dead: the manager may know of a death before
    /// the system does, since sockets are closed first.
    fn has_the_dying(&self, notes: &Notes) -> bool {
        self.inside
            .iter()
            .any(|inside| notes.is_condemned(inside.pid))
    }

    fn bury_the_dead(&mut self) {
        self.inside.retain(|entry| is_running(entry.pid));
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
        self.enter_with(0, amount, fence, highest)
    }

    /// The same with one of many things.
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

    /// Sees that there is room for an entry beside all others.
    fn make_room(&self, page: &mut Page, entry: &Entry) {
        page.bury_the_dead();
        let fits = |page: &Page| page.sum_beside(entry) + entry.amount <= self.most;
        // Nobody else is waited for: who witnesses a fault may not live long enough to tell.
        while !fits(page) && page.has_the_dying(&self.notes) {
            thread::sleep(Duration::from_millis(1));
            page.bury_the_dead();
        }
        if !fits(page) {
            let (most, inside) = (self.most, &page.inside);
            self.accuse(&format!("{entry:?} is above {most} with {inside:?}"));
        }
    }

    /// Takes up all there is, with a new fence, without having left.
    pub(crate) fn take_all(&self, entry: &mut Entry, fence: Fence) {
        self.update(|page| {
            let before = entry.clone();
            if !page.inside.contains(&before) {
                self.accuse(&format!("{before:?} is not inside"));
            }
            entry.amount = self.most;
            entry.fence = fence.number();
            self.make_room(page, entry);
            self.check_order(page, entry, 0);
            // The dead are gone, so it may stand elsewhere.
            page.inside.retain(|inside| *inside != before);
            page.inside.push(entry.clone());
        });
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

    /// Enters once more with what was held all the time: nobody else was inside meanwhile.
    pub(crate) fn come_back(&self, entry: &Entry) {
        self.update(|page| {
            let Page { highest, inside } = page;
            if *highest != entry.fence || !inside.is_empty() {
                self.accuse(&format!(
                    "{entry:?} was held, and {highest} came meanwhile, with {inside:?} inside"
                ));
            }
            inside.push(entry.clone());
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
        self.update(|page| self.note(page, number, highest));
    }

    /// Checks a fence, of a call that began when `highest` was the highest.
    ///
    /// To enter here comes after the grant. So who takes all there is was granted after all who
    /// have entered before; where several are inside, those that were granted at about the same
    /// time may come in another order.
    fn check_order(&self, page: &mut Page, entry: &Entry, highest: u64) {
        let takes_all = entry.amount == self.most && entry.thing == 0;
        let highest = if takes_all { page.highest } else { highest };
        self.note(page, entry.fence, highest);
    }

    fn note(&self, page: &mut Page, number: u64, highest: u64) {
        if number <= highest {
            self.accuse(&format!("{number} is not above {highest}"));
        }
        self.notes.fence(&self.name, number);
        page.highest = page.highest.max(number);
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

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn ledger(most: u64) -> (tempfile::TempDir, Notes, Ledger) {
        let folder = tempfile::tempdir().unwrap();
        let notes = Notes::in_folder(folder.path());
        let ledger = Ledger::new("it", most, &notes);
        (folder, notes, ledger)
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
    fn one_too_many_is_told_of_at_once_if_nobody_is_to_die() {
        let (_folder, notes, ledger) = ledger(2);
        // The parent of this process lives, and does not know of this.
        let other = std::os::unix::process::parent_id();
        ledger.take_in(inside(other, 1, 1), 0);
        assert_eq!(notes.violations(), "");
        ledger.take_in(inside(process::id(), 2, 2), 0);
        assert!(notes.violations().contains("is above 2"));
    }

    #[test]
    fn who_was_condemned_is_inside_until_it_is_dead() {
        let (_folder, notes, ledger) = ledger(1);
        let mut dying = Command::new("sleep").arg("60").spawn().unwrap();
        ledger.take_in(inside(dying.id(), 1, 1), 0);
        notes.condemn(dying.id());
        let killer = thread::spawn(move || {
            dying.kill().unwrap();
            dying.wait().unwrap();
        });
        ledger.take_in(inside(process::id(), 1, 2), 0);
        killer.join().unwrap();
        assert_eq!(notes.violations(), "");
    }

    #[test]
    fn who_comes_back_without_a_sleep_has_held_the_lock_alone() {
        let (_folder, notes, ledger) = ledger(1);
        let stays = inside(process::id(), 1, 1);
        ledger.take_in(stays.clone(), 0);
        ledger.leave(stays.clone());
        ledger.come_back(&stays);
        assert_eq!(notes.violations(), "");
        assert_eq!(notes.repeated_fences(), [""; 0]);
        ledger.leave(stays.clone());
        let other = inside(process::id(), 1, 2);
        ledger.take_in(other.clone(), 0);
        ledger.leave(other);
        ledger.come_back(&stays);
        assert!(notes.violations().contains("2 came meanwhile"));
    }

    #[test]
    fn each_thing_has_room_of_its_own() {
        let (_folder, notes, ledger) = ledger(1);
        let about = |thing, fence| Entry {
            serial: fence,
            thing,
            ..inside(process::id(), 1, fence)
        };
        ledger.take_in(about(7, 2), 0);
        ledger.take_in(about(8, 1), 0);
        assert_eq!(notes.violations(), "");
        ledger.take_in(about(7, 3), 0);
        assert!(notes.violations().contains("is above 1"));
    }

    #[test]
    fn who_takes_all_is_alone_and_above_all_fences_before() {
        let (_folder, notes, ledger) = ledger(10);
        let mut rises = inside(process::id(), 6, 1);
        ledger.take_in(rises.clone(), 0);
        ledger.take_all(&mut rises, Fence::new(2));
        assert_eq!(notes.violations(), "");
        let mut beside = Entry {
            serial: 1,
            ..inside(process::id(), 1, 3)
        };
        ledger.leave_in_part(&mut rises, 9);
        ledger.take_in(beside.clone(), 2);
        assert_eq!(notes.violations(), "");
        ledger.take_all(&mut beside, Fence::new(3));
        let violations = notes.violations();
        assert!(violations.contains("is above 10"), "{violations}");
        assert!(violations.contains("3 is not above 3"), "{violations}");
    }

    #[test]
    fn fence_that_repeats_is_found_however_many_came_between() {
        let (_folder, notes, ledger) = ledger(1_000);
        for fence in (1..=100).chain([1]) {
            ledger.pass(fence, 0);
        }
        assert_eq!(
            notes.violations(),
            "",
            "where many are inside, they may come late"
        );
        assert_eq!(notes.repeated_fences(), ["it: 1 came twice"]);
        ledger.pass(50, 50);
        assert!(notes.violations().contains("50 is not above 50"));
    }
}
