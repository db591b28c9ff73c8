//! Shows programs that know nothing of each other but an address: a server that hosts a manager,
//! and visitors who share a lock of it by its name.
//!
//!     cargo run --release --example two_programs
//!
//! Without arguments it starts itself as a server and four visitors, and prints what the visitors
//! say: no process opens the guest book before another has closed it.
//!
//!     serving at /tmp/lockkeeper-1000/museum-4711.sock
//!     Ada opens the guest book
//!     Ada closes the guest book
//!     ...
//!     4 visitors, one at a time
//!
//! The same by hand, each line in a terminal of its own, the first until Ctrl-D:
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

/// Programs that share a lock and know nothing of each other but an address.
#[derive(FromArgs)]
struct Options {
    #[argh(subcommand)]
    part: Option<Part>,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Part {
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
    match options.part {
        Some(Part::Serve(Serve { address })) => serve(address),
        Some(Part::Visit(Visit { address, visitor })) => visit(address, &visitor),
        None => play(),
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

/// Plays all the parts, each in a process that is told its part and the address alone.
fn play() -> Result<(), Box<dyn Error>> {
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
        return Err("the server did not end well".into());
    }
    println!("{} visitors, one at a time", VISITORS.len());
    Ok(())
}
