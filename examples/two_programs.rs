//! Shows separate programs that share only an address: a server that hosts a manager, and visitors
//! that share a lock by its name.
//!
//!     cargo run --release --example two_programs
//!
//! Without arguments the program starts itself as a server and as four visitors, and prints the
//! visitors' output. No visitor opens the guest book before the previous one has closed it:
//!
//!     serving at /tmp/lockkeeper-1000/museum-4711.sock
//!     Ada opens the guest book
//!     Ada closes the guest book
//!     ...
//!     4 visitors, one at a time
//!
//! To do the same by hand, run each line in its own terminal. The server runs until Ctrl-D:
//!
//!     cargo run --release --example two_programs -- serve museum
//!     cargo run --release --example two_programs -- visit museum Ada

use std::{
    env,
    error::Error,
    io::{self, BufRead, BufReader},
    process::{self, Command, Stdio},
    time::Duration,
};

use argh::FromArgs;
use lockkeeper::{Address, Manager};

const VISITORS: [&str; 4] = ["Ada", "Barbara", "Frances", "Grace"];

/// Separate programs that share a lock by an address and a name.
#[derive(FromArgs)]
struct Options {
    #[argh(subcommand)]
    role: Option<Role>,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Role {
    Serve(Serve),
    Visit(Visit),
}

/// Hosts a manager until its input ends.
#[derive(FromArgs)]
#[argh(subcommand, name = "serve")]
struct Serve {
    /// a name, or the path of a socket
    #[argh(positional)]
    address: Address,
}

/// Opens the guest book, writes a while, and closes it.
#[derive(FromArgs)]
#[argh(subcommand, name = "visit")]
struct Visit {
    /// a name, or the path of a socket
    #[argh(positional)]
    address: Address,
    /// the visitor's name
    #[argh(positional)]
    visitor: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options: Options = argh::from_env();
    match options.role {
        Some(Role::Serve(Serve { address })) => serve(address),
        Some(Role::Visit(Visit { address, visitor })) => visit(address, &visitor),
        None => run_all(),
    }
}

#[tokio::main]
async fn serve(address: Address) -> Result<(), Box<dyn Error>> {
    let manager = Manager::builder().address(address).start().await?;
    println!("serving at {}", manager.address());
    tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await?;
    manager.shutdown().await;
    Ok(())
}

#[tokio::main]
async fn visit(address: Address, visitor: &str) -> Result<(), Box<dyn Error>> {
    let manager = Manager::connect(address).await?;
    let book = manager.named("guest book").lock().await?;
    let open = book.acquire().await?;
    println!("{visitor} opens the guest book");
    let writing = fastrand::u64(20..100);
    tokio::time::sleep(Duration::from_millis(writing)).await;
    println!("{visitor} closes the guest book");
    open.release().await?;
    Ok(())
}

/// Runs all roles, each in a process that gets only its role and the address.
fn run_all() -> Result<(), Box<dyn Error>> {
    let program = env::current_exe()?;
    let address = format!("museum-{}", process::id());

    let mut server = Command::new(&program)
        .args(["serve", &address])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let server_says = server.stdout.take().expect("its output is piped");
    let ready = BufReader::new(server_says).lines().next();
    println!("{}", ready.ok_or("the server did not start")??);

    let (paper, pen) = io::pipe()?;
    let mut visitors = Vec::new();
    for visitor in VISITORS {
        let mut visit = Command::new(&program);
        visit.args(["visit", &address, visitor]);
        visitors.push(visit.stdout(pen.try_clone()?).spawn()?);
    }
    drop(pen);

    let mut inside = None;
    for line in BufReader::new(paper).lines() {
        let line = line?;
        println!("{line}");
        let visitor = line.split(' ').next().map(str::to_owned);
        inside = match inside {
            None => visitor,
            Some(_) if inside == visitor => None,
            Some(other) => return Err(format!("{other} was there already").into()),
        };
    }
    for mut visitor in visitors {
        if !visitor.wait()?.success() {
            return Err("a visit failed".into());
        }
    }

    // Waiting for the server closes its input first, which ends it.
    if !server.wait()?.success() {
        return Err("the server failed".into());
    }
    println!("{} visitors, one at a time", VISITORS.len());
    Ok(())
}
