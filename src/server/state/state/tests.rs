use std::{fs, path::PathBuf};

use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;

/// Folders whose managers reserve that many fences at once.
const SMALL: u64 = 8;

/// A clock of the tests.
const CLOCK: u64 = 1_000_000;

fn folder() -> (TempDir, PathBuf) {
    let above = tempfile::tempdir().expect("a folder");
    let folder = above.path().join("state");
    (above, folder)
}

fn open(folder: &Path) -> State {
    State::open_with(folder, SMALL).expect("no manager uses the folder")
}

fn number_in(folder: &Path, name: &str) -> Option<u64> {
    let number = FenceFile::at(folder.join(name)).highest();
    number.expect("the file is whole").map(Fence::number)
}

/// Starts to keep fences reserved. The task ends when the manager has to end.
fn keep_reserving(state: &Arc<State>) -> JoinHandle<()> {
    tokio::spawn(Arc::clone(state).keep_reserving())
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    lockkeeper_test_support::until(what, async || condition()).await;
}

#[test]
fn fences_start_at_the_clock_or_above_all_reserved_ones() {
    let (_above, folder) = folder();
    let start = |clock| {
        let state = open(&folder);
        let first = state.begin(clock, 1).expect("the folder can be written to");
        assert!(state.reserve().covers(first));
        assert_eq!(
            number_in(&folder, FENCES),
            Some(first + SMALL),
            "it is on the disk"
        );
        first
    };
    assert_eq!(start(CLOCK), CLOCK);
    assert_eq!(start(CLOCK), CLOCK + SMALL, "the clock stood still");
    assert_eq!(start(5), CLOCK + 2 * SMALL, "the clock was set back");
    assert_eq!(start(2 * CLOCK), 2 * CLOCK);
    // Another manager, with another clock, has reserved fences of the far future.
    let far = FenceFile::at(folder.join(FENCES));
    far.check(Fence::new(1 << 62)).expect("it is higher");
    assert_eq!(start(CLOCK), 1 << 62);
}

#[test]
fn nothing_is_reserved_before_the_start() {
    let (_above, folder) = folder();
    let state = open(&folder);
    assert!(!state.reserve().covers(CLOCK));
    assert_eq!(number_in(&folder, FENCES), None);
}

#[test]
fn end_is_clean_once_all_shards_have_ended_and_until_the_next_start() {
    let (_above, folder) = folder();
    let unclean = Previous::Unclean {
        longest_lease: Duration::ZERO,
    };
    let previous = || open(&folder).previous();
    assert_eq!(previous(), Previous::Absent);
    assert_eq!(
        previous(),
        Previous::Absent,
        "a folder that was only opened is new"
    );
    for _ in 0..2 {
        let state = open(&folder);
        state.begin(CLOCK, 2).expect("the folder can be written to");
        drop(state);
        assert_eq!(previous(), unclean, "it was killed");
        let state = open(&folder);
        state.begin(CLOCK, 2).expect("the folder can be written to");
        state.end_shard();
        drop(state);
        assert_eq!(previous(), unclean, "one of two shards has panicked");
        let state = open(&folder);
        state.begin(CLOCK, 2).expect("the folder can be written to");
        state.end_shard();
        state.end_shard();
        drop(state);
        assert_eq!(previous(), Previous::Clean);
        assert_eq!(
            previous(),
            Previous::Clean,
            "a start that fails early changes nothing"
        );
    }
    let lease = FenceFile::at(folder.join(LONGEST_LEASE));
    lease.check(Fence::new(10_000)).expect("it is higher");
    let state = open(&folder);
    state.begin(CLOCK, 1).expect("the folder can be written to");
    drop(state);
    let longest_lease = Duration::from_secs(10);
    assert_eq!(previous(), Previous::Unclean { longest_lease });
}

#[test]
fn damaged_and_missing_files_are_errors_that_name_the_file_and_stay_unchanged() {
    for name in [FENCES, ENDED, LONGEST_LEASE] {
        let (_above, folder) = folder();
        open(&folder)
            .begin(CLOCK, 1)
            .expect("the folder can be written to");
        let path = folder.join(name);
        let whole = fs::read(&path).expect("the file exists");
        let mut damages: Vec<_> = (0..whole.len())
            .map(|length| whole.get(..length).expect("it is shorter").to_vec())
            .collect();
        damages.push(whole.repeat(2));
        damages.push(b"precious".to_vec());
        for damage in damages {
            fs::write(&path, &damage).expect("the file can be written");
            let refused = State::open_with(&folder, SMALL).expect_err("the file is damaged");
            assert!(matches!(refused, StartError::BadState { .. }), "{refused}");
            let (message, path) = (refused.to_string(), path.to_str().expect("UTF-8"));
            assert!(message.contains(&format!("{path} is damaged")), "{message}");
            assert!(
                message.contains("restore the folder, or remove it if"),
                "{message}"
            );
            assert_eq!(fs::read(path).expect("the file exists"), damage);
        }
        fs::remove_file(&path).expect("the file exists");
        match State::open_with(&folder, SMALL) {
            Ok(state) => {
                assert_eq!(name, ENDED, "a missing {name} is an error");
                assert_ne!(state.previous(), Previous::Clean);
                assert_eq!(state.begin(5, 1), Ok(CLOCK + SMALL));
            }
            Err(refused) => {
                let message = refused.to_string();
                assert!(
                    message.contains(&format!("its file {name} is missing")),
                    "{message}"
                );
                assert!(message.contains("restore the folder"), "{message}");
                assert!(!path.exists());
            }
        }
    }
}

#[test]
fn fences_that_are_used_up_are_an_error() {
    let (_above, folder) = folder();
    open(&folder)
        .begin(CLOCK, 1)
        .expect("the folder can be written to");
    let far = FenceFile::at(folder.join(FENCES));
    far.check(Fence::new(MOST - SMALL)).expect("it is higher");
    let last = open(&folder).begin(CLOCK, 1);
    assert_eq!(last, Ok(MOST - SMALL));
    for above in [MOST, u64::MAX] {
        far.check(Fence::new(above)).expect("it is not lower");
        let message = open(&folder)
            .begin(CLOCK, 1)
            .expect_err("no fence is left")
            .to_string();
        assert!(
            message.contains("are used up: use another folder"),
            "{message}"
        );
        assert_eq!(number_in(&folder, FENCES), Some(above));
    }
}

#[tokio::test]
async fn reservation_is_extended_once_half_of_it_is_used() {
    let (_above, folder) = folder();
    let state = Arc::new(open(&folder));
    let first = state.begin(CLOCK, 1).expect("the folder can be written to");
    let reserving = keep_reserving(&state);
    let reserve = state.reserve();
    for number in first..first + 20 * SMALL {
        assert!(reserve.covers(number), "{number}");
        if number >= first + SMALL / 2 {
            let more = || reserve.end() > number + SMALL / 2;
            until("more fences are reserved", more).await;
            assert_eq!(number_in(&folder, FENCES), Some(reserve.end()));
        }
    }
    assert!(!reserving.is_finished());
    state.end_shard();
    let end = number_in(&folder, FENCES);
    assert_eq!(number_in(&folder, ENDED), end);
    assert!(!reserve.covers(u64::MAX >> 1));
    assert_eq!(state.extend(), Ok(()));
    assert_eq!(
        number_in(&folder, FENCES),
        end,
        "nothing is reserved after the end"
    );
    reserving.abort();
}

/// The paused clock advances only when no attempt is running.
#[tokio::test(start_paused = true)]
async fn reservation_is_tried_again_until_it_is_used_up() {
    let (_above, folder) = folder();
    let state = Arc::new(open(&folder));
    let first = state.begin(CLOCK, 1).expect("the folder can be written to");
    let reserve = state.reserve();
    let obstacle = folder.join("fences.new");
    fs::create_dir(&obstacle).expect("a folder");
    assert!(reserve.covers(first + SMALL - 1));
    let reserving = keep_reserving(&state);
    time::sleep(RETRY / 2).await;
    assert_eq!(reserve.end(), first + SMALL, "the first attempt has failed");
    fs::remove_dir(&obstacle).expect("the folder is empty");
    time::sleep(RETRY).await;
    assert_eq!(reserve.end(), first + 2 * SMALL - 1, "there was another");
    assert_eq!(number_in(&folder, FENCES), Some(reserve.end()));

    fs::create_dir(&obstacle).expect("a folder");
    assert!(reserve.covers(first + 2 * SMALL - 2));
    time::sleep(10 * RETRY).await;
    assert!(!reserving.is_finished(), "it has fences left");
    assert_eq!(state.lost(), None);
    assert!(!reserve.covers(first + 2 * SMALL));
    // It does not wait for the next attempt.
    let ended = time::timeout(RETRY / 100, reserving).await;
    ended
        .expect("the manager has to end")
        .expect("it does not panic");
    let lost = state.lost().expect("the manager has to end");
    let begin = "it has used up the fences that it had reserved in its state folder";
    assert!(lost.starts_with(begin), "{lost}");
    for path in [&folder, &obstacle] {
        assert!(lost.contains(path.to_str().expect("UTF-8")), "{lost}");
    }
}

#[test]
fn folder_that_was_replaced_is_left_alone() {
    let (above, folder) = folder();
    let state = open(&folder);
    let first = state.begin(CLOCK, 1).expect("the folder can be written to");
    fs::rename(&folder, above.path().join("moved")).expect("the folder can be renamed");
    assert!(state.reserve().covers(first + SMALL - 1));
    let why = state.extend().expect_err("there is no folder");
    assert!(why.contains("was removed or replaced"), "{why}");
    // Another manager makes the folder anew.
    let other = open(&folder);
    assert_eq!(other.begin(CLOCK, 1), Ok(CLOCK));
    state.extend().expect_err("it is another folder");
    state.end_shard();
    assert_eq!(number_in(&folder, FENCES), Some(CLOCK + SMALL));
    assert_eq!(number_in(&folder, ENDED), Some(0));
}
