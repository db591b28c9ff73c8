//! Children that do not read or end early, and signals during a read.
//!
//! A child runs one test of this test binary. In the child that test plays its role; in the test
//! suite it does nothing.

use std::{
    collections::VecDeque,
    env, fs,
    io::{self, ErrorKind, Read},
    os::unix::process::ExitStatusExt,
    process::{self, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use futures::executor::block_on;
use lockkeeper_protocol::{
    codec::{self, Blob},
    frame,
};
use rustix::process::{Signal, getpid, kill_process};

use crate::{
    error::StartError,
    process::{
        child::{Child, Launch, MARKER, READY_PATIENCE},
        executable::Build,
        lifeline::{Lifeline, MOST_BYTES, STOP, outlast, read_frames},
        not_ready::NotReady,
        output::Surroundings,
        role::Role,
    },
};

/// More than a socket takes at once.
const MANY_BYTES: usize = 8 << 20;

fn is_child() -> bool {
    env::args().any(|argument| argument.starts_with(MARKER))
}

fn start(test: &str) -> Child {
    start_of_build(test, &Build::of_this_process())
}

/// Starts a child, and sends it the given build as that of its parent.
fn start_of_build(test: &str, build: &Build) -> Child {
    let launch = Launch::Test(format!("process::tests::{test}"));
    Child::start_as(
        &launch,
        build,
        &Surroundings::default(),
        "part",
        &Blob::from(vec![7; MANY_BYTES]),
        &[],
    )
    .unwrap()
}

/// The child reads nothing, for longer than a parent waits.
#[test]
fn deaf_child() {
    if is_child() {
        thread::sleep(2 * READY_PATIENCE);
    }
}

/// The child reports how many bytes it received.
#[test]
fn attentive_child() {
    if is_child() {
        let mut role = Role::of_this_process().unwrap().unwrap();
        let Blob(bytes) = role.config().unwrap();
        role.lifeline.failed(format!("{} bytes", bytes.len()));
    }
}

/// The child ends if it receives no role.
#[test]
fn obedient_child() {
    if is_child() && Role::of_this_process().is_ok() {
        thread::sleep(2 * READY_PATIENCE);
    }
}

/// The child closes its lifeline and keeps running.
#[test]
fn stray_child() {
    if is_child() {
        let mut role = Role::of_this_process().unwrap().unwrap();
        role.lifeline.ready();
        drop(role);
        thread::sleep(2 * READY_PATIENCE);
    }
}

/// The child is ended by a signal before it has a handler.
fn end_by(signal: Signal) {
    if is_child() {
        kill_process(getpid(), signal).unwrap();
        thread::sleep(2 * READY_PATIENCE);
    }
}

#[test]
fn interrupted_child() {
    end_by(Signal::INT);
}

#[test]
fn terminated_child() {
    end_by(Signal::TERM);
}

#[test]
fn killed_child() {
    end_by(Signal::KILL);
}

/// The child reports a failure before it reads, and is killed when the parent has read the report.
#[test]
fn hasty_child() {
    if is_child() {
        Lifeline::of_input().unwrap().failed("in haste".to_owned());
        thread::sleep(2 * READY_PATIENCE);
    }
}

#[test]
fn start_does_not_wait_for_a_child_that_does_not_read() {
    let mut child = start("deaf_child");
    assert_eq!(child.process.try_wait().unwrap(), None);
}

#[test]
fn child_is_told_more_than_its_socket_takes_at_once() {
    let told = block_on(start("attentive_child").ready());
    let why = format!("{MANY_BYTES} bytes");
    assert_eq!(
        told,
        Err(NotReady::Cannot(StartError::ChildFailed(why), None))
    );
}

#[test]
fn child_is_heard_before_it_has_read_what_it_is_told() {
    let told = block_on(start("hasty_child").ready());
    let why = StartError::ChildFailed("in haste".to_owned());
    assert_eq!(told, Err(NotReady::Cannot(why, None)));
}

#[test]
fn child_of_another_build_takes_no_role_and_says_why() {
    let own = Build::of_this_process();
    let program = "another".to_owned();
    let image = Some("fe:00 1".to_owned());
    for build in [
        Build {
            program,
            ..own.clone()
        },
        Build {
            image,
            ..own.clone()
        },
        Build { image: None, ..own },
    ] {
        match block_on(start_of_build("obedient_child", &build).ready()) {
            Err(NotReady::Cannot(StartError::ChildFailed(why), None)) => {
                assert!(why.contains("another build"), "{why}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn child_that_has_lost_its_lifeline_is_killed() {
    let mut child = start("stray_child");
    assert_eq!(block_on(child.ready()), Ok(()));
    let ending = block_on(child.ended());
    assert_eq!(ending.exit.and_then(|exit| exit.signal()), Some(9));
}

/// Whether this process was started with SIGINT ignored, as a shell without job control does for what it starts in
/// the background.
fn is_sigint_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = u64::from_str_radix(ignored.unwrap().trim(), 16).unwrap();
    ignored & (1 << (Signal::INT.as_raw() - 1)) != 0
}

#[test]
fn signal_that_is_for_the_parent_is_told_from_other_ends_of_a_child() {
    let interrupted = ("interrupted_child", true);
    let interrupted = (!is_sigint_ignored()).then_some(interrupted);
    if interrupted.is_none() {
        println!("skipped for SIGINT, which this process was told to ignore");
    }
    for (test, is_for_parent) in interrupted.into_iter().chain([
        ("terminated_child", true),
        ("killed_child", false),
        ("no_such_child", false),
    ]) {
        let told = block_on(start(test).ready());
        assert_eq!(
            matches!(told, Err(NotReady::Signalled(_))),
            is_for_parent,
            "{told:?}"
        );
    }
}

/// Leaves this child's end of the lifeline to another process, whose id this returns.
fn bequeath() -> u32 {
    let mut inheritor = Command::new("sleep");
    // Only as long as the parent would wait too long.
    inheritor
        .arg("20")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let inheritor = inheritor.spawn();
    inheritor.unwrap().id()
}

#[test]
fn bequeathing_child() {
    if is_child() {
        bequeath();
        process::exit(3);
    }
}

#[test]
fn bequeathing_child_that_fails() {
    if is_child() {
        bequeath();
        Lifeline::of_input().unwrap().failed("no luck".to_owned());
        process::exit(3);
    }
}

/// The end of a child ends the wait for it, although another process keeps its end of the lifeline.
fn told_at_once(test: &str) -> NotReady {
    let since = Instant::now();
    let told = block_on(start(test).ready()).unwrap_err();
    assert!(since.elapsed() < Duration::from_secs(10), "{told:?}");
    told
}

#[test]
fn end_of_a_child_whose_lifeline_is_held_open_is_noticed() {
    match told_at_once("bequeathing_child") {
        NotReady::NotNow(StartError::ChildFailed(why)) => {
            assert!(why.contains("exit status: 3"), "{why}")
        }
        other => panic!("{other:?}"),
    }
    let why = StartError::ChildFailed("no luck".to_owned());
    assert_eq!(
        told_at_once("bequeathing_child_that_fails"),
        NotReady::Cannot(why, None)
    );
}

#[test]
fn child_that_a_signal_has_ended_is_told_of_with_advice() {
    match block_on(start("killed_child").ready()) {
        Err(NotReady::NotNow(StartError::ChildFailed(why))) => {
            assert!(why.contains("signal: 9") && why.contains("dmesg"), "{why}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn child_that_ends_before_it_reads_is_no_failure_to_write() {
    match block_on(start("no_such_child").ready()) {
        Err(NotReady::NotNow(StartError::ChildFailed(why))) => {
            assert!(why.contains("ended before it was ready"), "{why}");
        }
        other => panic!("{other:?}"),
    }
}

/// A stream in which each read returns the next piece, or an error.
#[derive(Debug)]
struct Pieces(VecDeque<io::Result<Vec<u8>>>);

impl Read for Pieces {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let piece = self.0.pop_front().unwrap_or(Ok(Vec::new()))?;
        bytes[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
}

fn signal<T>() -> io::Result<T> {
    Err(ErrorKind::Interrupted.into())
}

#[test]
fn signal_does_not_end_the_reading_of_an_assignment() {
    let mut message = Vec::new();
    frame::append(&mut message, &"build", MOST_BYTES).unwrap();
    frame::append(&mut message, &"assignment", MOST_BYTES).unwrap();
    let (first, second) = message.split_at(5);
    let pieces = [signal(), Ok(first.to_vec()), signal(), Ok(second.to_vec())];
    let (build, assignment) = read_frames(Pieces(pieces.into())).unwrap();
    assert_eq!(codec::decode::<String>(&build).unwrap(), "build");
    assert_eq!(codec::decode::<String>(&assignment).unwrap(), "assignment");
}

#[test]
fn signal_does_not_end_the_watch_over_a_lifeline() {
    let pieces = [signal(), Ok(vec![STOP]), signal(), signal()];
    let mut pieces = Pieces(pieces.into());
    let mut stops = 0;
    outlast(&mut pieces, || stops += 1);
    assert_eq!(stops, 1);
    assert!(
        pieces.0.is_empty(),
        "it ended with {} to come",
        pieces.0.len()
    );
}
