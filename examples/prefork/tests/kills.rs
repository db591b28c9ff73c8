//! The service under load while its processes are killed. The witness is the bank, which is not part of the service.

use std::{
    env,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use prefork::{Bank, Service};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Builder;

/// The charges that the bank permits at a time, and the processes of the service.
const CHARGES: usize = 4;
const PROCESSES: usize = 3;

/// The clients of the load, and the customers that they order for.
const CLIENTS: usize = 24;
const CUSTOMERS: usize = 12;

/// The time between two kills.
const BETWEEN_KILLS: Duration = Duration::from_secs(5);

/// A time that no step takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the load lasts: 12 seconds, in which there are two kills, or what the variable says.
fn load_time() -> Duration {
    let seconds = env::var("LOCKKEEPER_PREFORK_SECONDS");
    let seconds = seconds.ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(12))
}

fn program() {
    prefork::program().in_test("children");
}

/// The entry of the processes of the service.
#[test]
fn children() {
    program();
}

fn run<F: Future>(test: F) -> F::Output {
    program();
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(test)
}

/// A request: when it began and ended, and the reason if it failed.
#[derive(Debug)]
struct Request {
    begun: Instant,
    ended: Instant,
    failed: Option<String>,
}

/// The time from a kill until the process was gone. A request that is in progress in it may fail.
#[derive(Clone, Copy, Debug)]
struct Kill {
    killed: Instant,
    gone: Instant,
}

impl Request {
    fn overlaps(&self, kill: &Kill) -> bool {
        self.begun <= kill.gone && kill.killed <= self.ended
    }
}

/// Makes an order over a connection of its own.
fn order(service: SocketAddr, customer: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(service)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let head = "HTTP/1.1\r\nHost: orders\r\nConnection: close\r\nContent-Length: 0";
    write!(stream, "POST /orders/{customer} {head}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200 ") {
        return Ok(answer);
    }
    Err(io::Error::other(format!("{answer:?}")))
}

/// Orders for random customers until it is told to stop.
fn client(service: SocketAddr, is_over: &AtomicBool, seed: u64) -> Vec<Request> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut requests = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let customer = format!("customer{}", random.usize(..CUSTOMERS));
        let begun = Instant::now();
        let failed = order(service, &customer).err();
        requests.push(Request {
            begun,
            ended: Instant::now(),
            failed: failed.map(|error| error.to_string()),
        });
    }
    requests
}

/// Clients that order at the same time, each on a thread.
struct Load {
    is_over: Arc<AtomicBool>,
    clients: Vec<thread::JoinHandle<Vec<Request>>>,
}

impl Load {
    fn start(service: SocketAddr, seed: u64) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let client = |number| {
            let is_over = Arc::clone(&is_over);
            thread::spawn(move || client(service, &is_over, seed.wrapping_add(number)))
        };
        let clients = (0..).take(CLIENTS).map(client).collect();
        Self { is_over, clients }
    }

    fn end(self) -> Vec<Request> {
        self.is_over.store(true, Ordering::Relaxed);
        let clients = self.clients.into_iter();
        let requests = clients.flat_map(|client| client.join().expect("a client does not panic"));
        requests.collect()
    }
}

fn seed() -> u64 {
    let seed = env::var("LOCKKEEPER_SEED").ok();
    let seed = seed.and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("LOCKKEEPER_SEED={seed}");
    seed
}

async fn start(charges: u32) -> (Bank, SocketAddr, Service) {
    let bank = Bank::open().await.expect("a bank");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let service = Service::start(listener, bank.address(), charges, PROCESSES).await;
    (bank, address, service.expect("a service"))
}

fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next());
    !matches!(state, Some(Some('Z' | 'X')) | None)
}

/// Kills some of the processes at once, and waits until they are replaced.
async fn kill_some(bank: &Bank, service: &Service, random: &mut fastrand::Rng) -> Kill {
    let mut victims = service.pids();
    random.shuffle(&mut victims);
    victims.truncate(random.usize(1..=PROCESSES));
    println!("kills {victims:?}");
    let killed = Instant::now();
    for victim in &victims {
        bank.kill(*victim);
    }
    let is_there = || victims.iter().any(|pid| is_running(*pid));
    while is_there() {
        assert!(killed.elapsed() < PATIENCE, "they live");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let kill = Kill {
        killed,
        gone: Instant::now(),
    };
    while service.pids().len() < PROCESSES {
        assert!(killed.elapsed() < PATIENCE, "they are not replaced");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    kill
}

#[test]
fn bank_sees_no_more_than_four_charges_and_only_requests_in_flight_fail() {
    run(async {
        let seed = seed();
        let mut random = fastrand::Rng::with_seed(seed);
        let (bank, address, service) = start(CHARGES.try_into().expect("four")).await;
        let load = Load::start(address, seed);
        let (begun, time) = (Instant::now(), load_time());
        let mut kills = Vec::new();
        while begun.elapsed() + BETWEEN_KILLS < time {
            tokio::time::sleep(BETWEEN_KILLS).await;
            kills.push(kill_some(&bank, &service, &mut random).await);
        }
        tokio::time::sleep(time.saturating_sub(begun.elapsed())).await;
        let requests = load.end();
        let pids = service.pids();
        service.end(PATIENCE).await;
        assert!(!pids.into_iter().any(is_running), "a process is left");

        let books = bank.books();
        let at_kills = |request: &&Request| kills.iter().any(|kill| request.overlaps(kill));
        let in_flight = requests.iter().filter(at_kills).count();
        let failed: Vec<_> = requests.iter().filter(|it| it.failed.is_some()).collect();
        println!(
            "{} requests, {in_flight} of them in flight at {} kills, {} failed; the bank saw {} charges, at most {} at \
             a time, and {} of a customer who had one",
            requests.len(),
            kills.len(),
            failed.len(),
            books.begun,
            books.most,
            books.doubled,
        );
        assert!(
            kills.len() >= 2 || time < 2 * BETWEEN_KILLS,
            "nothing was killed"
        );
        assert_eq!(books.most, CHARGES, "more, or not as many as are permitted");
        assert_eq!(books.doubled, 0, "two charges of a customer at a time");
        for request in &failed {
            assert!(
                at_kills(request),
                "it failed while nothing died: {request:?}"
            );
        }
        assert!(failed.len() <= kills.len() * CLIENTS);
        let done = requests.len() - failed.len();
        assert!(done > 100, "only {done} requests were served");
    });
}

/// Shows that the bank would see more than four charges if the service permitted them.
#[test]
fn bank_sees_the_charges_that_a_higher_limit_permits() {
    run(async {
        let (bank, address, service) = start(8).await;
        let load = Load::start(address, seed());
        let begun = Instant::now();
        while bank.books().most <= CHARGES {
            assert!(begun.elapsed() < PATIENCE, "{:?}", bank.books());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let failed = load.end().into_iter().find(|it| it.failed.is_some());
        assert!(failed.is_none(), "{failed:?}");
        service.end(PATIENCE).await;
    });
}

/// The program ends the requests that it has, and all of its processes, when it gets SIGTERM.
#[test]
fn program_ends_its_requests_on_a_signal() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_prefork"))
        .arg("127.0.0.1:0")
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut output = BufReader::new(program.stdout.take().expect("it is piped"));
    let mut line = String::new();
    output.read_line(&mut line).expect("a line");
    let address = line
        .strip_prefix("http://")
        .and_then(|it| it.split_once(','));
    let address = address.expect("an address").0.parse().expect("an address");
    let load = Load::start(address, seed());
    thread::sleep(Duration::from_millis(300));
    let pid = i32::try_from(program.id()).ok().and_then(Pid::from_raw);
    let signalled = Instant::now();
    kill_process(pid.expect("a process id"), Signal::TERM).expect("it runs");
    let status = program.wait().expect("its status");
    let ended = Instant::now();
    let requests = load.end();
    assert!(status.success(), "{status}");
    assert!(requests.iter().any(|request| request.failed.is_none()));
    let end = Kill {
        killed: signalled,
        gone: ended,
    };
    for request in requests.iter().filter(|it| it.failed.is_some()) {
        // Later ones find nobody, and those of the end may find a socket that is being closed.
        let is_late = request.ended >= signalled;
        assert!(is_late || request.overlaps(&end), "{request:?}");
    }
    line.clear();
    output.read_line(&mut line).expect("a line");
    assert!(line.contains("at most 4 at a time"), "{line}");
}
