//! Tests of programs that fork without exec.
//!
//! Each test runs in its own process, which the runner kills when it takes too long. Forks copy all
//! descriptors and the locks of all threads, so tests in one process would disturb each other. A test that
//! cannot run on this machine prints this.

mod chaos;
mod ends;
mod gates;
mod guards;
mod managers;
mod odd;
mod pools;
mod races;
mod signals;
mod threads;

use std::{
    env,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

type Test = (&'static str, fn());

const TESTS: [&[Test]; 10] = [
    chaos::TESTS,
    ends::TESTS,
    gates::TESTS,
    guards::TESTS,
    managers::TESTS,
    odd::TESTS,
    pools::TESTS,
    races::TESTS,
    signals::TESTS,
    threads::TESTS,
];

/// The time limit of a test.
const PATIENCE: Duration = Duration::from_secs(150);

/// The first argument of a process that runs one test.
const ONE: &str = "--one";

fn main() -> ExitCode {
    if env::args().nth(2).as_deref() == Some(gates::WITH_HANDLERS) {
        gates::register_handlers();
    }
    ends::register(pools::register(lockkeeper::program())).init();
    let arguments: Vec<_> = env::args().skip(1).collect();
    let all = TESTS.into_iter().flatten();
    if let [mode, name] = &*arguments
        && mode == ONE
    {
        let test = all.into_iter().find(|(known, _)| known == name);
        let (_, test) = test.expect("a test of that name");
        test();
        return ExitCode::SUCCESS;
    }
    let filters: Vec<_> = arguments.iter().filter(|it| !it.starts_with('-')).collect();
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|it| name.contains(&**it));
    let wanted: Vec<_> = all.filter(|(name, _)| wanted(name)).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        wanted.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let mut failed = Vec::new();
    for (name, _) in &wanted {
        let outcome = run(name);
        let told = outcome.err();
        println!("test {name} ... {}", told.as_deref().unwrap_or("ok"));
        if told.is_some() {
            failed.push(name);
        }
    }
    println!(
        "{} of {} tests passed",
        wanted.len() - failed.len(),
        wanted.len()
    );
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs a test in its own process and process group.
fn run(name: &str) -> Result<(), String> {
    let program = env::current_exe().expect("this program");
    let mut test = Command::new(program)
        .args([ONE, name])
        .process_group(0)
        .spawn()
        .expect("a process");
    let deadline = Instant::now() + PATIENCE + chaos::length();
    let outcome = loop {
        match test.try_wait().expect("it is a child") {
            Some(status) if status.success() => break Ok(()),
            Some(status) => break Err(format!("FAILED ({status})")),
            None if Instant::now() > deadline => break Err("FAILED (it took too long)".to_owned()),
            None => thread::sleep(Duration::from_millis(2)),
        }
    };
    // The group also contains the processes that the test left behind.
    let group = i32::try_from(test.id()).expect("a process id");
    lockkeeper_test_forks::kill(-group);
    let _ = test.wait();
    outcome
}
