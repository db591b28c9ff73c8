//! Child processes that play a part in a test: this test binary once more, told by its environment.
//!
//! Knows nothing of the library. A part ends with the process that started it, at the latest.

use std::{
    env,
    io::{self, BufRead, BufReader, Read},
    process::{self, Child, ChildStdout, Command, Stdio},
    thread,
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime::Builder;

/// Where a child finds the part that it plays, and what it needs for it.
const PART: &str = "LOCKKEEPER_TEST_PART";
const PROPS: &str = "LOCKKEEPER_TEST_PROPS";

/// What precedes words for the parent, since the test harness prints words of its own.
const CUE: &str = "=> ";

/// A child process that plays a part. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Part {
    process: Child,
    words: BufReader<ChildStdout>,
}

impl Part {
    /// Starts a process that plays the part of that name.
    pub(crate) fn start(name: &str, props: &impl Serialize) -> Self {
        let props = serde_json::to_string(props).expect("props are plain data");
        let mut process = Command::new(env::current_exe().expect("a test has a file"))
            .args(["--exact", "--nocapture", "--test-threads=1", "children"])
            .env(PART, name)
            .env(PROPS, props)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process can be started");
        let words = process.stdout.take().expect("it is piped");
        Self {
            process,
            words: BufReader::new(words),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits for what the part says next.
    pub(crate) fn hear(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            let length = self.words.read_line(&mut line).expect("a pipe can be read");
            assert!(length > 0, "the part ended without a word");
            if let Some((_, words)) = line.trim_end().split_once(CUE) {
                return words.to_owned();
            }
        }
    }

    /// Kills the part with SIGKILL and waits until it is dead.
    pub(crate) fn kill(&mut self) {
        // It fails only when the process has ended already.
        let _ = self.process.kill();
        self.process.wait().expect("a child can be waited for");
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Says something to the process that started this part.
pub(crate) fn say(words: &str) {
    println!("{CUE}{words}");
}

/// Plays the part of that name and ends the process, if that is the part of this process.
pub(crate) fn play<P: DeserializeOwned, F: Future>(name: &str, part: impl FnOnce(P) -> F) {
    if env::var(PART).is_ok_and(|mine| mine == name) {
        thread::spawn(|| {
            // Nothing is ever written there, so its end is the end of the parent.
            let _ = io::stdin().read(&mut [0]);
            process::exit(1);
        });
        let props = env::var(PROPS).expect("a part has props");
        let props = serde_json::from_str(&props).expect("they are for this part");
        Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be had")
            .block_on(part(props));
        process::exit(0);
    }
}
