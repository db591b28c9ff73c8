//! The parties of a measurement: child processes that work on orders, in windows of time.
//!
//! All parties, Rust or Python, use one line protocol. A party writes `ready` when it can be used. To each line
//! `START LENGTH` (Unix time and duration, in nanoseconds) it answers with `CYCLES ELAPSED` (a count and nanoseconds)
//! after the window. A party ends by itself when its standard input ends, so none outlives a killed bench.
//!
//! Invariant: after the drop of a `Party`, its process and all processes that it started have ended. This file does
//! not depend on what the parties do.

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process_group, setrlimit};
use std::env;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, Stdin};
use tokio::process::{ChildStdin, ChildStdout};

/// The first argument of this executable when it is started in a role.
pub(crate) const MARK: &str = "compare-party";

/// The time between an order and the opening of its window, so that all workers begin
/// together.
pub(crate) const LEAD: Duration = Duration::from_millis(10);

pub(crate) type Failure = Box<dyn std::error::Error>;

/// The bench's handle of a child process.
pub(crate) struct Party {
    process: Process,
    answers: Lines<BufReader<ChildStdout>>,
}

/// A process that does not outlive this value.
struct Process {
    child: Child,
    /// Closing it ends the party.
    orders: Option<ChildStdin>,
    /// How long it may take to end by itself, if killing it would leave files or processes.
    patience: Duration,
}

impl Drop for Process {
    /// Also waits for the process, so that it does not disturb the next contest. A killed process ends at once; if
    /// killing fails, it has ended already.
    fn drop(&mut self) {
        self.orders = None;
        let until = Instant::now() + self.patience;
        while Instant::now() < until {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        let _already_ended = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _status = self.child.wait();
    }
}

impl Party {
    /// Starts the process and waits until it reports that it is ready. Its standard error is inherited.
    pub(crate) async fn start(mut command: Command, patience: Duration) -> Result<Self, Failure> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // A new process group, so that the processes that it starts can be ended with it.
        let mut child = command.process_group(0).spawn()?;
        let orders = child.stdin.take();
        let answers = child.stdout.take();
        let mut process = Process {
            child,
            orders: None,
            patience,
        };
        process.orders = orders.map(ChildStdin::from_std).transpose()?;
        let answers = ChildStdout::from_std(answers.ok_or("a party has no output")?)?;
        let mut party = Self {
            process,
            answers: BufReader::new(answers).lines(),
        };
        match party.answer().await?.as_str() {
            "ready" => Ok(party),
            other => Err(format!(
                "process {} said {other:?} instead of \"ready\"",
                party.pid()
            )
            .into()),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.child.id()
    }

    pub(crate) async fn order(
        &mut self,
        opens: SystemTime,
        length: Duration,
    ) -> Result<(), Failure> {
        let opens = opens.duration_since(UNIX_EPOCH)?.as_nanos();
        let line = format!("{opens} {}\n", length.as_nanos());
        let orders = self.process.orders.as_mut();
        let orders = orders.ok_or("a party has no standard input")?;
        Ok(orders.write_all(line.as_bytes()).await?)
    }

    /// Returns the party's count in the last window, and the elapsed time.
    pub(crate) async fn count(&mut self) -> Result<(u64, Duration), Failure> {
        let (cycles, elapsed) = two_numbers(&self.answer().await?)?;
        Ok((cycles, Duration::from_nanos(elapsed)))
    }

    async fn answer(&mut self) -> Result<String, Failure> {
        let line = self.answers.next_line().await?;
        line.ok_or_else(|| format!("process {} ended unexpectedly", self.pid()).into())
    }
}

/// Raises the limit of this process's descriptors as far as the system permits. Returns the limit, if there is one.
pub(crate) fn raise_the_limit() -> Result<Option<u64>, Failure> {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: most,
            maximum: most,
        },
    )?;
    Ok(most)
}

/// Makes the command that starts this executable in a role.
pub(crate) fn role(words: &[&str]) -> Result<Command, Failure> {
    let mut command = Command::new(env::current_exe()?);
    command.arg(MARK).args(words);
    Ok(command)
}

/// The party's side: its orders.
pub(crate) struct Orders {
    lines: Lines<BufReader<Stdin>>,
}

impl Orders {
    /// Reports to the bench that this party is ready.
    pub(crate) fn announce() -> Result<Self, Failure> {
        write_line("ready")?;
        Ok(Self {
            lines: BufReader::new(tokio::io::stdin()).lines(),
        })
    }

    /// Waits for the next order, or returns `None` when there are no more.
    pub(crate) async fn next(&mut self) -> Result<Option<Order>, Failure> {
        let Some(line) = self.lines.next_line().await? else {
            return Ok(None);
        };
        let (opens, length) = two_numbers(&line)?;
        Ok(Some(Order {
            opens: Duration::from_nanos(opens),
            length: Duration::from_nanos(length),
        }))
    }

    /// Waits until the bench ends this party. A host needs no orders.
    pub(crate) async fn end(mut self) -> Result<(), Failure> {
        while self.lines.next_line().await?.is_some() {}
        Ok(())
    }
}

/// A window that has not opened yet.
pub(crate) struct Order {
    /// Unix time.
    opens: Duration,
    length: Duration,
}

impl Order {
    /// Returns a name of this window, which is the same for all workers.
    pub(crate) fn name(&self) -> String {
        format!("window-{}", self.opens.as_nanos())
    }

    /// Blocks the thread until the window opens, because a runtime's timer is up to a millisecond late. No other
    /// task of a worker has to run before its window.
    pub(crate) fn opened(self) -> Window {
        let opens = UNIX_EPOCH + self.opens;
        if let Ok(ahead) = opens.duration_since(SystemTime::now()) {
            thread::sleep(ahead);
        }
        let left = (opens + self.length).duration_since(SystemTime::now());
        let opened = Instant::now();
        Window {
            opened,
            closes: opened + left.unwrap_or_default(),
        }
    }
}

/// The time in which a worker repeats its cycle.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    opened: Instant,
    closes: Instant,
}

impl Window {
    pub(crate) fn is_open(&self) -> bool {
        Instant::now() < self.closes
    }

    /// Reports to the bench how many cycles were completed from the opening until now.
    pub(crate) fn report(self, cycles: u64) -> Result<(), Failure> {
        report(cycles, self.opened.elapsed())
    }
}

/// Runs a worker that repeats a cycle until the end. The cycle returns for how many it counts.
pub(crate) async fn repeat(
    mut cycle: impl AsyncFnMut() -> Result<u64, Failure>,
) -> Result<(), Failure> {
    let mut orders = Orders::announce()?;
    while let Some(order) = orders.next().await? {
        let window = order.opened();
        let mut cycles = 0;
        while window.is_open() {
            cycles += cycle().await?;
        }
        window.report(cycles)?;
    }
    Ok(())
}

/// Runs a worker whose cycle returns the time to count. The result of a window is the median of these times.
pub(crate) async fn repeat_laps(
    mut cycle: impl AsyncFnMut() -> Result<Duration, Failure>,
) -> Result<(), Failure> {
    let mut orders = Orders::announce()?;
    while let Some(order) = orders.next().await? {
        let window = order.opened();
        let mut laps = vec![cycle().await?];
        while window.is_open() {
            laps.push(cycle().await?);
        }
        laps.sort_unstable();
        report(1, laps[laps.len() / 2])?;
    }
    Ok(())
}

fn report(cycles: u64, elapsed: Duration) -> Result<(), Failure> {
    write_line(&format!("{cycles} {}", elapsed.as_nanos()))
}

fn write_line(line: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn two_numbers(line: &str) -> Result<(u64, u64), Failure> {
    let (first, second) = line
        .split_once(' ')
        .ok_or_else(|| format!("expected two numbers, not {line:?}"))?;
    Ok((first.parse()?, second.parse()?))
}
