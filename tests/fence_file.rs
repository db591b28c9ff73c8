//! What the resource's side of fences promises, with writers that are processes of their own.

#[path = "support/parts.rs"]
mod parts;
#[path = "support/seed.rs"]
mod seed;
#[path = "support/signals.rs"]
mod signals;
#[path = "support/stopped.rs"]
mod stopped;
mod support;
#[path = "support/until.rs"]
mod until;

use std::{
    fs,
    future::Future,
    path::{Path, PathBuf},
};

use lockkeeper::{Event, Fence, FenceError, FenceFile, Lock, Manager};
use parts::{Part, play, say};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rustix::process::Signal;
use seed::seeded;

fn run<F: Future>(test: F) -> F::Output {
    lockkeeper::program().in_test("children");
    support::run(test)
}

#[test]
fn children() {
    lockkeeper::program().in_test("children");
    play("raiser", raise_on_and_on);
    play("crowd", write_at_random);
    play("holder", hold_and_write_late);
}

/// Raises the mark again and again, and says each token that has passed.
async fn raise_on_and_on((mark, first): (PathBuf, u64)) {
    let mark = FenceFile::at(mark);
    for number in first.. {
        mark.check(Fence::new(number)).unwrap();
        say(&number.to_string());
    }
}

/// Writes under tokens round the highest, and says how often it was let.
async fn write_at_random((page, seed): (PathBuf, u64)) {
    let mark = FenceFile::beside(&page);
    let mut random = StdRng::seed_from_u64(seed);
    let (mut written, mut refused) = (0, 0);
    for _ in 0..60 {
        let highest = mark.highest().unwrap().map_or(5, Fence::number);
        let token = Fence::new(highest + random.random_range(0..4) - 1);
        // Two that do this at a time would lose a line.
        let write = || {
            let before = fs::read_to_string(&page).unwrap_or_default();
            fs::write(&page, format!("{before}{token}\n")).unwrap();
        };
        match mark.write(token, write) {
            Ok(()) => written += 1,
            Err(FenceError::Stale {
                token: refused_token,
                highest,
            }) => {
                assert!(refused_token == token && highest > token);
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    say(&format!("{written} {refused}"));
}

/// Takes the lock, and writes once it is told to, without a look at whether it has the lock still.
async fn hold_and_write_late((lock, page, go): (Lock, PathBuf, Event)) {
    let guard = lock.acquire().await.unwrap();
    let mark = FenceFile::beside(&page);
    say(&guard.fence().to_string());
    go.wait().await.unwrap();
    let write = || fs::write(&page, "too late");
    match mark.write(guard.fence(), write) {
        Ok(written) => {
            written.unwrap();
            say("written");
        }
        Err(error) => say(&error.to_string()),
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
fn processes_that_write_at_once_never_write_behind_a_higher_token() {
    run(async {
        let (_folder, page) = page();
        let mut random = seeded();
        let mut crowd: Vec<Part> = (0..4)
            .map(|_| Part::start("crowd", &(&page, random.random::<u64>())))
            .collect();
        let (mut written, mut refused) = (0, 0);
        for part in &mut crowd {
            let words = part.hear();
            let (of_those, others) = words.split_once(' ').unwrap();
            written += of_those.parse::<usize>().unwrap();
            refused += others.parse::<usize>().unwrap();
        }
        let tokens = tokens(&page);
        assert!(tokens.is_sorted(), "{tokens:?}");
        assert_eq!(tokens.len(), written, "each write that was let is there");
        assert_eq!(written + refused, 240);
        assert!(refused > 0, "there was nothing to refuse");
        let highest = FenceFile::beside(&page).highest().unwrap();
        assert_eq!(highest.map(Fence::number), tokens.last().copied());
    });
}

#[test]
fn mark_never_falls_when_whoever_raises_it_is_killed() {
    run(async {
        let (_folder, page) = page();
        let mark = FenceFile::beside(&page);
        let mut random = seeded();
        let mut next = 1;
        for _ in 0..20 {
            let mut raiser = Part::start("raiser", &(mark.path(), next));
            let mut passed = 0;
            for _ in 0..random.random_range(1..30) {
                passed = raiser.hear().parse().unwrap();
            }
            // It is in the middle of raising the mark, wherever that is.
            signals::kill(raiser.pid());
            drop(raiser);
            let highest = mark.highest().unwrap().unwrap();
            assert!(highest.number() >= passed, "{highest} is below {passed}");
            assert_eq!(mark.check(highest), Ok(()), "its turn ended with it");
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

        let mut paused = Part::start("holder", &(&lock, &page, &go));
        let late = Fence::new(paused.hear().parse().unwrap());
        stopped::stop(paused.pid()).await;
        assert!(lock.force_unlock().await.unwrap());
        let guard = lock.acquire().await.unwrap();
        assert!(guard.fence() > late);
        let written = mark.write(guard.fence(), || fs::write(&page, "in time"));
        written.unwrap().unwrap();

        go.set().await.unwrap();
        signals::signal(paused.pid(), Signal::CONT);
        let refusal = FenceError::Stale {
            token: late,
            highest: guard.fence(),
        };
        assert_eq!(paused.hear(), refusal.to_string());
        assert_eq!(fs::read_to_string(&page).unwrap(), "in time");
    });
}
