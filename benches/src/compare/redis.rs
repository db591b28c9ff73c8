//! The peer Redis: a server, and blocking clients that lock in the ways that Redis users do.
//!
//! An uncontended lock is a key that is set if it does not exist, and deleted by a script if its value is
//! unchanged. A contended lock is a token in a list, for which clients wait in order of arrival.

use crate::contest::{Executable, Side};
use crate::ours;
use crate::party::{self, Failure, Orders};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

// The roles of its parties, as the argument that starts each.
pub(crate) const SERVER: &str = "redis-server";
pub(crate) const CLIENT: &str = "redis-client";

/// Clients of one server. The party that started the server ends it.
pub(crate) const REDIS: Side = Side {
    name: "Redis",
    needs: &["redis-server"],
    executable: Executable::Own,
    hosts: &[SERVER],
    worker: CLIENT,
    patience: Duration::from_secs(5),
};

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// Deletes a key if its value is still the one that was set.
const RELEASE: &str = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end";

/// The list with the token.
const TOKENS: &str = "tokens";

/// Runs the server, without storage on disk, until the bench ends.
pub(crate) async fn serve(folder: &str) -> Result<(), Failure> {
    fs::create_dir(folder)?;
    let server = Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--unixsocket", &socket(folder)])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    let server = Server(server);
    let until = Instant::now() + PATIENCE;
    let mut session = loop {
        match Session::connect(folder) {
            Ok(session) => break session,
            Err(failure) if Instant::now() > until => {
                return Err(format!("redis-server accepts no connection: {failure}").into());
            }
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    };
    session.ask(&["RPUSH", TOKENS, "token"])?;
    let ended = Orders::announce()?.end().await;
    drop(server);
    ended
}

/// A server that does not outlive this value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _already_ended = self.0.kill();
        let _status = self.0.wait();
    }
}

fn socket(folder: &str) -> String {
    format!("{folder}/redis")
}

/// Runs a client, which counts cycles of a lock.
pub(crate) async fn client(folder: &str, cycle: &str) -> Result<(), Failure> {
    let mut session = Session::connect(folder)?;
    if cycle == ours::SHARED {
        return party::repeat(async || {
            session.ask(&["BLPOP", TOKENS, "0"])?;
            session.ask(&["RPUSH", TOKENS, "token"])?;
            Ok(1)
        })
        .await;
    }
    let key = format!("lock-{}", process::id());
    party::repeat(async || {
        session.ask(&["SET", &key, "mine", "NX", "PX", "30000"])?;
        session.ask(&["EVAL", RELEASE, "1", &key, "mine"])?;
        Ok(1)
    })
    .await
}

/// A connection to the server, with the necessary subset of its protocol.
struct Session(BufReader<UnixStream>);

impl Session {
    fn connect(folder: &str) -> Result<Self, Failure> {
        let stream = UnixStream::connect(socket(folder))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a command and reads its answer. An error and a null answer are failures.
    fn ask(&mut self, words: &[&str]) -> Result<(), Failure> {
        let mut message = format!("*{}\r\n", words.len());
        for word in words {
            message.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.0.get_mut().write_all(message.as_bytes())?;
        self.read_answer()
    }

    fn read_answer(&mut self) -> Result<(), Failure> {
        // The number of answers to read. A list adds its elements.
        let mut left = 1;
        while left > 0 {
            left -= 1;
            let mut line = String::new();
            self.0.read_line(&mut line)?;
            let line = line.trim_end();
            match (line.get(..1), line.get(1..).map(str::parse::<i64>)) {
                (Some("+" | ":"), _) => {}
                (Some("$"), Some(Ok(length @ 0..))) => {
                    let mut text = vec![0; usize::try_from(length)? + 2];
                    self.0.read_exact(&mut text)?;
                }
                (Some("*"), Some(Ok(length @ 0..))) => left += length,
                _ => return Err(format!("Redis says {line:?}").into()),
            }
        }
        Ok(())
    }
}
