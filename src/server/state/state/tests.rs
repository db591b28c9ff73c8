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
fn start_makes_four_files_and_waits_for_no_lock_of_another_program() {
    let (_above, folder) = folder();
    let names = || {
        let entries = fs::read_dir(&folder).expect("a folder");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        names.sort();
        names
    };
    drop(begin(&folder, 1, 1));
    assert_eq!(names(), [ENDED, FENCES, LEASE, "lock"]);
    let foreign = fs::File::create(folder.join("fences.lock")).expect("a file");
    foreign.lock().expect("no program has it locked");
    drop(begin(&folder, 1, 0));
    assert_eq!(open(&folder).previous_end(), PreviousEnd::Clean);
}

#[test]
fn nothing_is_reserved_before_the_start() {
    let (_above, folder) = folder();
    let state = open(&folder);
    assert!(!state.reserve().covers(CLOCK));
    assert_eq!(number_in(&folder, FENCES), None);
}

/// Opens the folder for a manager of `shards` shards, of which `running` serve.
fn begin(folder: &Path, shards: u32, running: u32) -> Arc<State> {
    let state = open(folder);
    state
        .begin(CLOCK, shards)
        .expect("the folder can be written to");
    for _ in 0..running {
        state.begin_shard();
    }
    Arc::new(state)
}

#[tokio::test]
async fn end_is_clean_once_all_shards_have_ended_and_until_the_next_start() {
    let (_above, folder) = folder();
    let previous = || open(&folder).previous_end();
    assert_eq!(previous(), PreviousEnd::Absent);
    assert_eq!(
        previous(),
        PreviousEnd::Absent,
        "a folder that was only opened is new"
    );
    for _ in 0..2 {
        let state = begin(&folder, 2, 2);
        assert_ne!(
            number_in(&folder, ENDED),
            number_in(&folder, FENCES),
            "it serves"
        );
        drop(state);
        assert_eq!(previous(), PreviousEnd::Unclean, "both have panicked");
        let state = begin(&folder, 2, 2);
        Arc::clone(&state).end_shard(false).await;
        drop(state);
        assert_eq!(previous(), PreviousEnd::Unclean, "one has panicked");
        let state = begin(&folder, 2, 2);
        Arc::clone(&state).end_shard(false).await;
        state.end_shard(false).await;
        assert_eq!(previous(), PreviousEnd::Clean);
        assert_eq!(
            previous(),
            PreviousEnd::Clean,
            "a start that fails early changes nothing"
        );
    }
}

#[tokio::test]
async fn start_that_fails_before_a_shard_serves_ends_cleanly() {
    let (_above, folder) = folder();
    let previous = || open(&folder).previous_end();
    drop(begin(&folder, 2, 0));
    assert_eq!(previous(), PreviousEnd::Clean);
    // The thread of the first shard could not be started, and the other one has ended.
    let state = begin(&folder, 2, 1);
    Arc::clone(&state).end_shard(false).await;
    assert_ne!(
        number_in(&folder, ENDED),
        number_in(&folder, FENCES),
        "the first shard may still begin"
    );
    drop(state);
    assert_eq!(previous(), PreviousEnd::Clean);
}

/// The paused clock advances when the task waits only for time and for the writing thread.
#[tokio::test(start_paused = true)]
async fn disk_that_does_not_answer_stops_neither_the_end_nor_its_reason() {
    let (_above, folder) = folder();
    let state = begin(&folder, 1, 1);
    let reserve = state.reserve();
    let first = reserve.reserved_until() - SMALL;
    let disk = state.hold_disk();
    assert!(reserve.covers(first + SMALL - 1));
    let reserving = keep_reserving(&state);
    time::sleep(10 * RETRY).await;
    assert!(!reserving.is_finished(), "it has fences left");
    assert_eq!(state.lost(), None);
    assert!(!reserve.covers(first + SMALL));
    let ended = time::timeout(RETRY, reserving).await;
    ended
        .expect("the manager has to end")
        .expect("it does not panic");
    let lost = state.lost().expect("the manager has to end");
    assert!(lost.ends_with(": the disk was too slow"), "{lost}");
    let ended = time::timeout(2 * END_PATIENCE, Arc::clone(&state).end_shard(true)).await;
    ended.expect("the end does not wait for the disk");
    assert_eq!(number_in(&folder, ENDED), Some(0), "no record was written");
    assert_eq!(number_in(&folder, FENCES), Some(first + SMALL));

    // The folder stays locked until the late writes are over.
    State::open_with(&folder, SMALL).expect_err("writes are under way");
    drop(disk);
    drop(state);
    let is_free = || State::open_with(&folder, SMALL).is_ok();
    until("the folder is unlocked", is_free).await;
}

#[test]
fn damaged_and_missing_files_are_errors_that_name_the_file_and_stay_unchanged() {
    for name in [FENCES, ENDED] {
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
                assert_eq!(state.previous_end(), PreviousEnd::Unclean);
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
    let state = begin(&folder, 1, 1);
    let first = CLOCK;
    let reserving = keep_reserving(&state);
    let reserve = state.reserve();
    for number in first..first + 20 * SMALL {
        assert!(reserve.covers(number), "{number}");
        if number >= first + SMALL / 2 {
            let more = || reserve.reserved_until() > number + SMALL / 2;
            until("more fences are reserved", more).await;
            assert_eq!(number_in(&folder, FENCES), Some(reserve.reserved_until()));
        }
    }
    assert!(!reserving.is_finished());
    Arc::clone(&state).end_shard(false).await;
    let end = number_in(&folder, FENCES);
    assert_eq!(number_in(&folder, ENDED), end);
    assert!(!reserve.covers(u64::MAX >> 1));
    state.extend().expect_err("the manager has ended");
    assert_eq!(
        number_in(&folder, FENCES),
        end,
        "nothing is reserved after the end"
    );
    reserving.abort();
}

/// The paused clock advances also while an attempt is running.
#[tokio::test(start_paused = true)]
async fn reservation_is_tried_again_until_it_is_used_up() {
    let (_above, folder) = folder();
    let state = begin(&folder, 1, 1);
    let first = CLOCK;
    let reserve = state.reserve();
    let obstacle = folder.join("fences.new");
    fs::create_dir(&obstacle).expect("a folder");
    assert!(reserve.covers(first + SMALL - 1));
    let reserving = keep_reserving(&state);
    let has_failed = || lock(&state.failure).is_some();
    until("the first attempt has failed", has_failed).await;
    assert_eq!(reserve.reserved_until(), first + SMALL);
    fs::remove_dir(&obstacle).expect("the folder is empty");
    let has_more = || reserve.reserved_until() == first + 2 * SMALL - 1;
    until("there was another attempt", has_more).await;
    until("the failure is over", || !has_failed()).await;
    assert_eq!(number_in(&folder, FENCES), Some(reserve.reserved_until()));

    fs::create_dir(&obstacle).expect("a folder");
    assert!(reserve.covers(first + 2 * SMALL - 2));
    until("an attempt has failed", has_failed).await;
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

#[tokio::test]
async fn folder_that_was_replaced_is_left_alone() {
    let (above, folder) = folder();
    let state = begin(&folder, 1, 1);
    let first = CLOCK;
    fs::rename(&folder, above.path().join("moved")).expect("the folder can be renamed");
    assert!(state.reserve().covers(first + SMALL - 1));
    let why = state.extend().expect_err("there is no folder");
    assert!(why.contains("was removed or replaced"), "{why}");
    // Another manager makes the folder anew.
    let other = open(&folder);
    assert_eq!(other.begin(CLOCK, 1), Ok(CLOCK));
    state.extend().expect_err("it is another folder");
    state.end_shard(false).await;
    assert_eq!(number_in(&folder, FENCES), Some(CLOCK + SMALL));
    assert_eq!(number_in(&folder, ENDED), Some(0));
}

#[tokio::test]
async fn manager_after_an_unclean_end_is_silent_for_the_longest_lease() {
    let (_above, folder) = folder();
    let second = Duration::from_secs(1);
    for lease in [3 * second, 2 * second] {
        let state = begin(&folder, 2, 2);
        state.promise(lease).expect("the folder can be written to");
        Arc::clone(&state).end_shard(true).await;
        state.end_shard(false).await;
        assert_eq!(open(&folder).previous_end(), PreviousEnd::Unclean);
        assert_eq!(open(&folder).silence(), 3 * second);
    }
    let state = begin(&folder, 1, 1);
    state.end_shard(false).await;
    assert_eq!(open(&folder).silence(), Duration::ZERO);
}
