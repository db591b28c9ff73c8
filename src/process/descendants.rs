//! `Descendants`: the processes that a process to be killed has started, and those that they have started.
//!
//! A stopped process starts no other one, so each process is stopped before its children are looked for. A process
//! whose parent has ended before is not found.

use std::{fs, os::fd::OwnedFd};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

/// Stopped processes, of which each is named by a descriptor, since the number of one may be used again.
#[derive(Debug)]
pub(crate) struct Descendants(Vec<OwnedFd>);

/// The most processes that are looked for.
const MOST: usize = 4096;

/// How often the children of a process are looked for: a process stops some time after the signal.
const LOOKS: usize = 3;

impl Descendants {
    /// Stops a child of this process and all processes below it.
    pub(crate) fn stop(root: u32) -> Self {
        let mut all = Vec::new();
        let mut parents = Vec::from_iter(pid_of(root));
        for parent in &parents {
            let _ = kill_process(*parent, Signal::STOP);
        }
        let mut known = parents.clone();
        while let Some(parent) = parents.pop() {
            for _ in 0..LOOKS {
                for child in children_of(parent) {
                    if all.len() >= MOST || known.contains(&child) {
                        continue;
                    }
                    known.push(child);
                    // The child may have ended, so that its number belongs to another process.
                    let opened = pidfd_open(child, PidfdFlags::empty());
                    if let Ok(process) = opened
                        && parent_of(child) == Some(parent)
                        && pidfd_send_signal(&process, Signal::STOP).is_ok()
                    {
                        all.push(process);
                        parents.push(child);
                    }
                }
            }
        }
        Self(all)
    }

    /// Kills the processes below the child.
    pub(crate) fn kill(self) {
        for process in self.0 {
            // It fails only when the process has ended.
            let _ = pidfd_send_signal(&process, Signal::KILL);
        }
    }
}

fn pid_of(number: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(number).ok()?)
}

/// The children that all threads of a process have started.
fn children_of(parent: Pid) -> Vec<Pid> {
    let threads = fs::read_dir(format!("/proc/{parent}/task"));
    let threads = threads.into_iter().flatten().flatten();
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let numbers = |list: String| -> Vec<Pid> {
        let numbers = list.split_ascii_whitespace();
        numbers
            .filter_map(|number| pid_of(number.parse().ok()?))
            .collect()
    };
    lists.flat_map(numbers).collect()
}

fn parent_of(process: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name is in parentheses, and may contain any character. The state and the parent follow it.
    let (_, rest) = stat.rsplit_once(") ")?;
    pid_of(rest.split(' ').nth(1)?.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        process::{Command, Stdio},
        thread,
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn children_and_their_children_end_with_the_process() {
        // Each shell prints its number, and the number of what it starts.
        let script =
            "echo $$; sleep 100 & echo $!; sh -c 'echo $$; sleep 100 & echo $!; wait' & wait";
        let mut shell = Command::new("sh");
        let mut shell = shell
            .args(["-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(shell.stdout.take().unwrap()).lines();
        let numbers: Vec<u32> = lines
            .take(4)
            .map(|line| line.unwrap().parse().unwrap())
            .collect();
        let descendants = Descendants::stop(shell.id());
        shell.kill().unwrap();
        shell.wait().unwrap();
        descendants.kill();
        let begin = Instant::now();
        let is_left = |number: &u32| {
            let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        while let Some(left) = numbers.iter().find(|number| is_left(number)) {
            assert!(
                begin.elapsed() < Duration::from_secs(20),
                "{left} of {numbers:?} is left"
            );
            thread::sleep(Duration::from_millis(1));
        }
    }
}
