//! Two network namespaces that a pair of virtual devices connects, and the faults of this network.
//!
//! A namespace has no name: it exists as long as a process is in it. A process of this file waits in each of them
//! until the test process ends, so nothing is left behind even if the test is killed.
//!
//! The kernel here cannot delay packets (it has no netem). `delay` does that for single connections.

use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::LazyLock,
};

/// The programs that the tests need.
const PROGRAMS: [&str; 5] = ["ip", "nft", "nsenter", "ss", "unshare"];

/// The folders of programs for administrators, which the PATH of a user may lack.
const ADMINISTRATION: [&str; 2] = ["/usr/sbin", "/sbin"];

/// The port of the manager.
pub(crate) const PORT: u16 = 7000;

/// The address of the manager's namespace.
pub(crate) const NEAR: &str = "10.77.0.1";

/// The address of the other namespace.
const FAR: &str = "10.77.0.2";

/// The device of each namespace.
const DEVICE: &str = "veth0";

/// A namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The manager's.
    Near,
    /// That of clients on the other side of the network.
    Far,
}

/// Packets that a namespace does not receive as they were sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// A fifth of them is lost.
    Loss,
    /// All are lost.
    Silence,
    /// The sender gets a reset for each packet of a connection. Packets that begin a connection arrive.
    Reset,
}

/// Whether the devices transmit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Link {
    Up,
    Down,
}

/// Two namespaces. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Network {
    near: Namespace,
    far: Namespace,
}

/// A process that waits in a namespace of its own.
#[derive(Debug)]
struct Namespace(Child);

/// The reason why this machine cannot make namespaces, which is printed once.
static OBSTACLE: LazyLock<Option<String>> = LazyLock::new(|| {
    let obstacle = Network::make().err();
    if let Some(reason) = &obstacle {
        skip(&format!("the tests in network namespaces: {reason}"));
    }
    obstacle
});

/// Tells that something was not tested.
pub(crate) fn skip(what: &str) {
    // The harness would capture the output of `eprintln!`.
    let _ = writeln!(io::stderr(), "SKIPPED: {what}");
}

impl Network {
    /// Makes two connected namespaces, or returns `None` if this machine cannot make any.
    pub(crate) fn new() -> Option<Self> {
        let is_possible = OBSTACLE.is_none();
        is_possible.then(|| Self::make().expect("namespaces were made before"))
    }

    fn make() -> Result<Self, String> {
        let missing = PROGRAMS.iter().find(|program| find(program).is_none());
        if let Some(missing) = missing {
            return Err(format!("there is no program {missing:?}"));
        }
        let network = Self {
            near: Namespace::make()?,
            far: Namespace::make()?,
        };
        let far = network.far.0.id().to_string();
        let pair = [
            "link", "add", DEVICE, "type", "veth", "peer", "name", DEVICE, "netns", &far,
        ];
        network.on(Side::Near, "ip", &pair)?;
        for (side, address) in [(Side::Near, NEAR), (Side::Far, FAR)] {
            let address = format!("{address}/24");
            network.on(side, "ip", &["address", "add", &address, "dev", DEVICE])?;
            network.on(side, "ip", &["link", "set", "lo", "up"])?;
            network.try_link(side, Link::Up)?;
            // The kernel may lack what a fault needs.
            for fault in [Fault::Loss, Fault::Silence, Fault::Reset] {
                network.try_fault(side, fault)?;
            }
            network.on(side, "nft", &["flush", "ruleset"])?;
        }
        Ok(network)
    }

    /// The command that runs this executable in a namespace.
    pub(crate) fn this_program(&self, side: Side) -> Command {
        let program = env::current_exe().expect("the test binary has a path");
        self.command(side, &program)
    }

    /// Begins a fault of the packets that a namespace receives.
    pub(crate) fn begin(&self, receiver: Side, fault: Fault) {
        self.try_fault(receiver, fault).unwrap();
    }

    /// Sets the device of one namespace up or down, by which the other one loses its carrier.
    pub(crate) fn set_link(&self, side: Side, link: Link) {
        self.try_link(side, link).unwrap();
    }

    /// Ends all connections of the far namespace, and resets their other ends. Returns how many: none if the kernel
    /// cannot.
    pub(crate) fn reset_both(&self) -> usize {
        let port = PORT.to_string();
        let connections = ["-K", "-H", "-t", "-n", "dst", NEAR, "dport", "=", &port];
        let reset = self.on(Side::Far, "ss", &connections).unwrap();
        reset.lines().count()
    }

    /// Returns how many packets have met a fault since the network was healed.
    pub(crate) fn met(&self) -> u64 {
        let met = |side| {
            let rules = self.on(side, "nft", &["list", "ruleset"]).unwrap();
            let words: Vec<_> = rules.split_whitespace().collect();
            let counters = words.windows(2).filter(|pair| pair[0] == "packets");
            counters
                .map(|pair| pair[1].parse::<u64>().unwrap())
                .sum::<u64>()
        };
        met(Side::Near) + met(Side::Far)
    }

    /// Ends all faults.
    pub(crate) fn heal(&self) {
        for side in [Side::Near, Side::Far] {
            self.set_link(side, Link::Up);
            self.on(side, "nft", &["flush", "ruleset"]).unwrap();
        }
    }

    fn try_fault(&self, receiver: Side, fault: Fault) -> Result<(), String> {
        let port = match receiver {
            Side::Near => "dport",
            Side::Far => "sport",
        };
        let rule = match fault {
            Fault::Loss => "numgen random mod 100 < 20 counter drop",
            Fault::Silence => "counter drop",
            Fault::Reset => "tcp flags & syn == 0 counter reject with tcp reset",
        };
        // The local connections of the manager's namespace go through another device.
        let rules = format!(
            "add table inet faults; \
             add chain inet faults receives {{ type filter hook input priority 0; }}; \
             add rule inet faults receives iifname {DEVICE} tcp {port} {PORT} {rule}"
        );
        self.on(receiver, "nft", &[rules.as_str()]).map(drop)
    }

    fn try_link(&self, side: Side, link: Link) -> Result<(), String> {
        let state = match link {
            Link::Up => "up",
            Link::Down => "down",
        };
        self.on(side, "ip", &["link", "set", DEVICE, state])
            .map(drop)
    }

    /// Runs a program in a namespace, and returns its output.
    fn on(&self, side: Side, program: &str, arguments: &[&str]) -> Result<String, String> {
        let mut command = self.command(side, Path::new(program));
        let ran = output(command.args(arguments))?;
        if ran.status.success() {
            return Ok(String::from_utf8_lossy(&ran.stdout).into_owned());
        }
        let why = String::from_utf8_lossy(&ran.stderr);
        Err(format!("{command:?} failed: {}", why.trim()))
    }

    fn command(&self, side: Side, program: &Path) -> Command {
        let namespace = match side {
            Side::Near => &self.near,
            Side::Far => &self.far,
        };
        let program = find(program.to_str().expect("the path is text"));
        let mut command = Command::new(find("nsenter").expect("the program was found before"));
        command
            .arg(format!("--net=/proc/{}/ns/net", namespace.0.id()))
            .arg(program.expect("the program was found before"));
        command
    }
}

impl Namespace {
    fn make() -> Result<Self, String> {
        let unshare = find("unshare").expect("the program was found before");
        let mut process = Command::new(unshare)
            .args(["--net", "sh", "-c", "echo made; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("unshare cannot be started: {error}"))?;
        let output = process.stdout.take().expect("the output is piped");
        let mut line = String::new();
        let read = BufReader::new(output).read_line(&mut line);
        if read.is_ok() && line == "made\n" {
            return Ok(Self(process));
        }
        let ended = process.wait_with_output();
        let why = ended.map_or_else(
            |error| error.to_string(),
            |ended| String::from_utf8_lossy(&ended.stderr).trim().to_owned(),
        );
        Err(format!("no namespace can be made (are you root?): {why}"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // This fails only when the process has already ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command without an input.
fn output(command: &mut Command) -> Result<Output, String> {
    let run = command.stdin(Stdio::null()).output();
    run.map_err(|error| format!("{command:?} cannot be started: {error}"))
}

/// Returns the path of an installed program.
fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(ADMINISTRATION.map(PathBuf::from));
    folders
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}
