//! The peer PostgreSQL, with advisory locks: a server in a temporary folder, and blocking clients.
//!
//! The server runs without syncing to disk, because advisory locks are not stored there.

use crate::contest::{Executable, Side};
use crate::ours;
use crate::party::{self, Failure, Orders};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

// The roles of its parties, as the argument that starts each.
pub(crate) const SERVER: &str = "postgres-server";
pub(crate) const CLIENT: &str = "postgres-client";

/// Clients of one server. The server is asked to end, because a killed one leaves shared memory
/// allocated.
pub(crate) const POSTGRES: Side = Side {
    name: "PostgreSQL",
    needs: &["initdb", "postgres"],
    executable: Executable::Own,
    hosts: &[SERVER],
    worker: CLIENT,
    patience: Duration::from_secs(5),
};

/// The name of its user and of its database.
const USER: &str = "postgres";

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the server with a database in a new folder until the bench ends.
pub(crate) async fn serve(folder: &str) -> Result<(), Failure> {
    fs::create_dir(folder)?;
    let user = Unprivileged::find()?;
    if let Some(user) = &user {
        chown(folder, Some(user.user), Some(user.group))?;
        // The user needs access to the folder.
        let above = Path::new(folder).parent().ok_or("a folder in no folder")?;
        fs::set_permissions(above, Permissions::from_mode(0o711))?;
    }
    let data = format!("{folder}/data");
    let made = command("initdb", user.as_ref())
        .args(["--no-sync", "-A", "trust", "-U", USER, "-D", &data])
        .current_dir(folder)
        .status()?;
    if !made.success() {
        return Err(format!("initdb has failed: {made}").into());
    }
    let server = command("postgres", user.as_ref())
        .args(["-D", &data, "-k", folder, "-c", "listen_addresses="])
        .args(["-c", "fsync=off", "-c", "log_min_messages=panic"])
        .current_dir(folder)
        .spawn()?;
    let server = Server(server);
    let until = Instant::now() + PATIENCE;
    while let Err(failure) = Session::connect(folder) {
        if Instant::now() > until {
            return Err(format!("postgres accepts no connection: {failure}").into());
        }
        thread::sleep(Duration::from_millis(10));
    }
    let ended = Orders::announce()?.end().await;
    drop(server);
    ended
}

/// A server that does not outlive this value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // At SIGQUIT the server cleans up and ends at once.
        let _already_ended = kill_process(Pid::from_child(&self.0), Signal::QUIT);
        let _status = self.0.wait();
    }
}

/// The user that runs the server, which refuses to run as root.
struct Unprivileged {
    user: u32,
    group: u32,
}

impl Unprivileged {
    /// Returns the user, or `None` if this process does not run as root.
    fn find() -> Result<Option<Self>, Failure> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        let users = fs::read_to_string("/etc/passwd")?;
        let of = |name: &str| {
            let mut users = users
                .lines()
                .map(|line| line.split(':').collect::<Vec<_>>());
            users.find(|fields| fields.first() == Some(&name))
        };
        let fields = of("postgres").or_else(|| of("nobody"));
        match fields.as_deref() {
            Some([_, _, user, group, ..]) => Ok(Some(Self {
                user: user.parse()?,
                group: group.parse()?,
            })),
            _ => Err("PostgreSQL does not run as root, and there is no other user".into()),
        }
    }
}

fn command(program: &str, user: Option<&Unprivileged>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::null());
    if let Some(user) = user {
        command.uid(user.user).gid(user.group);
    }
    command
}

/// Runs a client, which counts cycles of an advisory lock.
pub(crate) async fn client(folder: &str, cycle: &str) -> Result<(), Failure> {
    let key = match cycle {
        ours::SHARED => 0,
        _ => process::id(),
    };
    let (acquire, release) = (
        format!("SELECT pg_advisory_lock({key})"),
        format!("SELECT pg_advisory_unlock({key})"),
    );
    let mut session = Session::connect(folder)?;
    party::repeat(async || {
        session.query(&acquire)?;
        session.query(&release)?;
        Ok(1)
    })
    .await
}

/// A connection to the server, with the necessary subset of its protocol.
struct Session(UnixStream);

impl Session {
    fn connect(folder: &str) -> Result<Self, Failure> {
        let mut session = Self(UnixStream::connect(format!("{folder}/.s.PGSQL.5432"))?);
        let hello = format!("user\0{USER}\0database\0{USER}\0\0");
        let version = 3_u32 << 16;
        let mut message = u32::try_from(hello.len() + 8)?.to_be_bytes().to_vec();
        message.extend(version.to_be_bytes());
        message.extend(hello.as_bytes());
        session.0.write_all(&message)?;
        session.read_until_ready()?;
        Ok(session)
    }

    fn query(&mut self, text: &str) -> Result<(), Failure> {
        let mut message = vec![b'Q'];
        message.extend(u32::try_from(text.len() + 5)?.to_be_bytes());
        message.extend(text.as_bytes());
        message.push(0);
        self.0.write_all(&message)?;
        self.read_until_ready()
    }

    /// Reads messages until the server waits for a query. The server sends them together, so there are
    /// few reads.
    fn read_until_ready(&mut self) -> Result<(), Failure> {
        let mut unread = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            while let [kind, a, b, c, d, ..] = unread[..] {
                let length = usize::try_from(u32::from_be_bytes([a, b, c, d]))? + 1;
                if unread.len() < length {
                    break;
                }
                let message: Vec<u8> = unread.drain(..length).collect();
                match kind {
                    b'Z' => return Ok(()),
                    b'E' => {
                        let text = String::from_utf8_lossy(&message).replace('\0', " ");
                        return Err(format!("PostgreSQL says {text:?}").into());
                    }
                    _ => {}
                }
            }
            match self.0.read(&mut chunk)? {
                0 => return Err("PostgreSQL has closed the connection".into()),
                length => unread.extend(&chunk[..length]),
            }
        }
    }
}
