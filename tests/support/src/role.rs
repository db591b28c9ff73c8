//! Child processes of the test binary, each in a role.
//!
//! A parent starts the test binary with only its test `children`, and the role in an environment
//! variable. That test adds the roles of all modules to a [`Roles`], which runs the requested one.
//! A child ends with its parent at the latest.

use std::{
    collections::BTreeSet,
    env,
    io::{self, BufRead, BufReader, Read},
    process::{self, Child, ChildStdout, Command, Stdio},
    thread,
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime::Builder;

/// The environment variables with a child's role and the role's argument.
const ROLE: &str = "LOCKKEEPER_TEST_ROLE";
const ARGUMENT: &str = "LOCKKEEPER_TEST_ARGUMENT";

/// The prefix of a report, which distinguishes it from the lines of the test harness.
const MARK: &str = "=> ";

/// A child process in a role. Dropping it kills the process.
#[derive(Debug)]
pub struct Role {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Role {
    /// Starts a process in the role of the given name.
    ///
    /// # Panics
    ///
    /// Panics when the process cannot be started.
    pub fn start(name: &str, argument: &impl Serialize) -> Self {
        Self::start_by(&mut this_program(), name, argument)
    }

    /// Starts a process in the role of that name, with only the given environment variables.
    ///
    /// # Panics
    ///
    /// Panics when the process cannot be started.
    pub fn start_in(environment: &[(&str, &str)], name: &str, argument: &impl Serialize) -> Self {
        let mut program = this_program();
        program.env_clear().envs(environment.iter().copied());
        Self::start_by(&mut program, name, argument)
    }

    /// Starts a process in the role of that name with a command that runs the test binary.
    ///
    /// # Panics
    ///
    /// Panics when the process cannot be started.
    pub fn start_by(command: &mut Command, name: &str, argument: &impl Serialize) -> Self {
        let argument = serde_json::to_string(argument).expect("an argument is plain data");
        let mut process = command
            .args(["--exact", "--nocapture", "--test-threads=1", "children"])
            .env(ROLE, name)
            .env(ARGUMENT, argument)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process can be started");
        let output = process.stdout.take().expect("the output is piped");
        Self {
            process,
            output: BufReader::new(output),
        }
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits for the next [`report`] of the role.
    ///
    /// # Panics
    ///
    /// Panics when the process ends without one.
    pub fn next_report(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            let length = self
                .output
                .read_line(&mut line)
                .expect("the pipe can be read");
            assert!(length > 0, "the child ended without a report");
            if let Some((_, text)) = line.trim_end().split_once(MARK) {
                return text.to_owned();
            }
        }
    }

    /// Kills the process with SIGKILL and waits until it is dead.
    ///
    /// # Panics
    ///
    /// Panics when the system cannot wait for the process.
    pub fn kill(&mut self) {
        // This fails only when the process has already ended.
        let _ = self.process.kill();
        self.process.wait().expect("a child can be waited for");
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        self.kill();
    }
}

fn this_program() -> Command {
    Command::new(env::current_exe().expect("the test binary has a path"))
}

/// Reports a line to the process that started this role.
pub fn report(text: &str) {
    println!("{MARK}{text}");
}

/// The roles of a test binary.
#[derive(Debug)]
pub struct Roles {
    /// The role of this process, unless the harness runs `children` as one of its tests.
    wanted: Option<String>,
    names: BTreeSet<&'static str>,
}

impl Roles {
    /// Makes an empty set of roles. Reads the role of this process.
    #[expect(
        clippy::new_without_default,
        reason = "it reads the environment, which a default should not"
    )]
    pub fn new() -> Self {
        Self {
            wanted: env::var(ROLE).ok(),
            names: BTreeSet::new(),
        }
    }

    /// Adds a role. If it is the role of this process, runs it and ends the process.
    ///
    /// # Panics
    ///
    /// Panics when another role has its name.
    pub fn add<A: DeserializeOwned, F: Future>(
        &mut self,
        name: &'static str,
        role: impl FnOnce(A) -> F,
    ) {
        assert!(self.names.insert(name), "two roles are named {name:?}");
        if self.wanted.as_deref() == Some(name) {
            thread::spawn(|| {
                // The parent writes nothing to it, so end of file means that the parent has ended.
                let _ = io::stdin().read(&mut [0]);
                process::exit(1);
            });
            let argument = env::var(ARGUMENT).expect("a role has an argument");
            let argument =
                serde_json::from_str(&argument).expect("the argument has the type of the role");
            Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("the system gives a runtime")
                .block_on(role(argument));
            process::exit(0);
        }
    }

    /// Ends the list of roles.
    ///
    /// # Panics
    ///
    /// Panics when the role of this process was not added.
    pub fn end(self) {
        if let Some(name) = self.wanted {
            panic!("this test binary has no role {name:?}");
        }
    }
}
