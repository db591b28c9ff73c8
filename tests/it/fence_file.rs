//! The guarantees of fence files, with writers in other processes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use lockkeeper::{Event, Fence, FenceFile, Lock, Manager, errors::FenceError};
use lockkeeper_test_support::{Role, Roles, kill, report, seeded, signal, stop};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rustix::process::Signal;

use crate::run;

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("fence_file::raiser", raise_on_and_on);
    roles.add("fence_file::crowd", write_at_random);
    roles.add("fence_file::holder", hold_and_write_late);
}

/// Raises the mark repeatedly, and reports each accepted token.
async fn raise_on_and_on((mark, first): (PathBuf, u64)) {
    let mark = FenceFile::at(mark);
    for number in first.. {
        mark.check(Fence::new(number)).unwrap();
        report(&number.to_string());
    }
}

/// Writes with tokens near the highest, and reports the number of accepted writes.
async fn write_at_random((page, seed): (PathBuf, u64)) {
    let mark = FenceFile::beside(&page);
    let mut random = StdRng::seed_from_u64(seed);
    let (mut written, mut refused) = (0, 0);
    for _ in 0..60 {
        let highest = mark.highest().unwrap().map_or(5, Fence::number);
        let token = Fence::new(highest + random.random_range(0..4) - 1);
        // Concurrent writes would lose a line.
        let write = || {
            let before = fs::read_to_string(&page).unwrap_or_default();
            fs::write(&page, format!("{before}{token}\n")).unwrap();
        };
        match mark.write(token, write) {
            Ok(()) => written += 1,
            Err(FenceError::Stale {
                fence: refused_token,
                highest,
            }) => {
                assert!(refused_token == token && highest > token);
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    report(&format!("{written} {refused}"));
}

/// Acquires the lock, and writes when the event is set, without checking whether it still holds the
/// lock.
async fn hold_and_write_late((lock, page, go): (Lock, PathBuf, Event)) {
    let guard = lock.acquire().await.unwrap();
    let mark = FenceFile::beside(&page);
    report(&guard.fence().to_string());
    go.wait().await.unwrap();
    let write = || fs::write(&page, "too late");
    match mark.write(guard.fence(), write) {
        Ok(written) => {
            written.unwrap();
            report("written");
        }
        Err(error) => report(&error.to_string()),
    }
}

fn page() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page");
    (folder, page)
}

fn tokens(page: &Path) -> Vec<u64> {
    let text = fs::read_to_string(page).unwrap();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

#[test]
fn concurrent_processes_never_write_after_a_higher_token() {
    run(async {
        let (_folder, page) = page();
        let mut random = seeded();
        let mut crowd: Vec<Role> = (0..4)
            .map(|_| Role::start("fence_file::crowd", &(&page, random.random::<u64>())))
            .collect();
        let (mut written, mut refused) = (0, 0);
        for writer in &mut crowd {
            let words = writer.next_report();
            let (of_those, others) = words.split_once(' ').unwrap();
            written += of_those.parse::<usize>().unwrap();
            refused += others.parse::<usize>().unwrap();
        }
        let tokens = tokens(&page);
        assert!(tokens.is_sorted(), "{tokens:?}");
        assert_eq!(
            tokens.len(),
            written,
            "the file contains each accepted write"
        );
        assert_eq!(written + refused, 240);
        assert!(refused > 0, "no write was refused");
        let highest = FenceFile::beside(&page).highest().unwrap();
        assert_eq!(highest.map(Fence::number), tokens.last().copied());
    });
}

#[test]
fn mark_never_decreases_when_the_raising_process_is_killed() {
    run(async {
        let (_folder, page) = page();
        let mark = FenceFile::beside(&page);
        let mut random = seeded();
        let mut next = 1;
        for _ in 0..20 {
            let mut raiser = Role::start("fence_file::raiser", &(mark.path(), next));
            let mut passed = 0;
            for _ in 0..random.random_range(1..30) {
                passed = raiser.next_report().parse().unwrap();
            }
            // The process is killed at any point of raising the mark.
            kill(raiser.pid());
            drop(raiser);
            let highest = mark.highest().unwrap().unwrap();
            assert!(highest.number() >= passed, "{highest} is below {passed}");
            assert_eq!(
                mark.check(highest),
                Ok(()),
                "its lock ended with the process"
            );
            next = highest.number() + 1;
        }
    });
}

#[test]
fn paused_holder_is_refused_by_the_file() {
    run(async {
        let (_folder, page) = page();
        let mark = FenceFile::beside(&page);
        let manager = Manager::start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let go = manager.event().await.unwrap();

        let mut paused = Role::start("fence_file::holder", &(&lock, &page, &go));
        let late = Fence::new(paused.next_report().parse().unwrap());
        stop(paused.pid()).await;
        assert!(lock.force_unlock().await.unwrap());
        let guard = lock.acquire().await.unwrap();
        assert!(guard.fence() > late);
        let written = mark.write(guard.fence(), || fs::write(&page, "in time"));
        written.unwrap().unwrap();

        go.set().await.unwrap();
        signal(paused.pid(), Signal::CONT);
        let refusal = FenceError::Stale {
            fence: late,
            highest: guard.fence(),
        };
        assert_eq!(paused.next_report(), refusal.to_string());
        assert_eq!(fs::read_to_string(&page).unwrap(), "in time");
    });
}
