//! The parties of a measurement: child processes that work when told to, and the windows in which they do.
//!
//! One protocol of lines serves every party, Rust or Python. A party writes `ready` when it can be used. To each line
//! `START LENGTH` (Unix time and duration, in nanoseconds) it answers with `CYCLES ELAPSED` (a count and nanoseconds)
//! after the window. A party whose standard input ends goes away by itself, so none outlives a killed bench.
//!
//! Invariant: when a `Party` is dropped its process is gone, with all that it started, not merely told to go. Knows
//! nothing of what the parties do.

use rustix::process::{Pid, Signal, kill_process_group};
use std::env;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, Stdin};
use tokio::process::{ChildStdin, ChildStdout};

/// The first argument of an executable that is started to play a role.
pub(crate) const MARK: &str = "compare-party";

/// Orders are sent this long before their window opens, so that all workers of a crew begin together.
pub(crate) const LEAD: Duration = Duration::from_millis(10);

pub(crate) type Failure = Box<dyn std::error::Error>;

/// A child process, from the bench's side.
pub(crate) struct Party {
    process: Process,
    answers: Lines<BufReader<ChildStdout>>,
}

/// A process that does not outlive this value.
struct Process {
    child: Child,
    /// Open for as long as the party shall live.
    orders: Option<ChildStdin>,
    /// How long it may take to end by itself, where killing it would leave something behind.
    patience: Duration,
}

impl Drop for Process {
    /// Waits as well, so that the next contest, and whoever looks after the run, finds no remains. A process that was
    /// killed ends at once; where killing fails it has ended already.
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
    /// Starts the process and waits until it says that it is ready. What it writes to standard error is shown.
    pub(crate) async fn start(mut command: Command, patience: Duration) -> Result<Self, Failure> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // A group of its own, so that what it starts can be ended with it.
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

    /// What the party counted in the window it was last given, and how long it took.
    pub(crate) async fn count(&mut self) -> Result<(u64, Duration), Failure> {
        let (cycles, elapsed) = two_numbers(&self.answer().await?)?;
        Ok((cycles, Duration::from_nanos(elapsed)))
    }

    async fn answer(&mut self) -> Result<String, Failure> {
        let line = self.answers.next_line().await?;
        line.ok_or_else(|| format!("process {} ended before its time", self.pid()).into())
    }
}

/// The command that starts this same executable in a role.
pub(crate) fn role(words: &[&str]) -> Result<Command, Failure> {
    let mut command = Command::new(env::current_exe()?);
    command.arg(MARK).args(words);
    Ok(command)
}

/// What a party is told, from the party's side.
pub(crate) struct Orders {
    lines: Lines<BufReader<Stdin>>,
}

impl Orders {
    /// Tells the bench that this party is ready: from here on it may be used.
    pub(crate) fn announce() -> Result<Self, Failure> {
        say("ready")?;
        Ok(Self {
            lines: BufReader::new(tokio::io::stdin()).lines(),
        })
    }

    /// Waits for the next order; `None` when there are no more.
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

    /// Waits until the bench has no more use for this party: a host's whole duty, besides hosting.
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
    /// What all workers of a crew know this window by, and no other window.
    pub(crate) fn name(&self) -> String {
        format!("window-{}", self.opens.as_nanos())
    }

    /// Sleeps until the window opens, on the thread itself, because a runtime's timer is up to a millisecond late;
    /// nothing else has to run in a worker before its window.
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

    /// Tells the bench how many cycles were completed from the opening until now.
    pub(crate) fn report(self, cycles: u64) -> Result<(), Failure> {
        report(cycles, self.opened.elapsed())
    }
}

/// A worker's life, where all that it does is to repeat a cycle, which says for how many it counts.
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

/// The same where a cycle says itself how long its part that counts took: the window's figure is the median of these.
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
    say(&format!("{cycles} {}", elapsed.as_nanos()))
}

fn say(line: &str) -> Result<(), Failure> {
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
