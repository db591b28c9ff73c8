//! A relay between clients and a manager, which loses what a network may lose.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
};

/// What a relay does with the bytes of its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// All bytes arrive.
    Up,
    /// Nothing arrives at either side, and neither side learns of it.
    Down,
    /// The manager's streams have ended. The clients' streams have not, and nothing arrives there.
    CutAtManager,
    /// The clients' streams have ended. The manager's streams have not, and nothing arrives there.
    CutAtClient,
}

/// A relay at a port of its own. It relays until the test process ends.
#[derive(Clone, Debug)]
pub struct Relay {
    port: u16,
    link: Arc<(Mutex<Link>, Condvar)>,
    /// The streams to clients and to the manager.
    streams: Arc<Mutex<Vec<(TcpStream, TcpStream)>>>,
}

impl Relay {
    /// Starts a relay from a port, or from a free one in place of 0, to the port of a manager.
    pub fn start(port: u16, manager: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let relay = Self {
            port: listener.local_addr().unwrap().port(),
            link: Arc::new((Mutex::new(Link::Up), Condvar::new())),
            streams: Arc::default(),
        };
        let relaying = relay.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, manager)) else {
                    continue;
                };
                relaying.join(&client, &server);
                relaying.streams.lock().unwrap().push((client, server));
            }
        });
        relay
    }

    /// The port for clients.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Changes the link for all connections of now, and for later ones if it is up.
    pub fn set(&self, link: Link) {
        let (state, changed) = &*self.link;
        *state.lock().unwrap() = link;
        for (client, server) in &*self.streams.lock().unwrap() {
            let cut = match link {
                Link::CutAtManager => server,
                Link::CutAtClient => client,
                Link::Up | Link::Down => continue,
            };
            // It may have ended before.
            let _ = cut.shutdown(Shutdown::Both);
        }
        changed.notify_all();
    }

    /// Ends all connections of now, at both sides. Later ones are relayed.
    pub fn cut(&self) {
        for (client, server) in self.streams.lock().unwrap().drain(..) {
            // They may have ended before.
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        }
    }

    fn join(&self, client: &TcpStream, server: &TcpStream) {
        for (from, to) in [(client, server), (server, client)] {
            let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            to.set_nodelay(true).unwrap();
            let relay = self.clone();
            thread::spawn(move || {
                let mut bytes = [0; 1 << 14];
                loop {
                    let read = from.read(&mut bytes);
                    // While the link is down the bytes wait, as in the buffers of a network.
                    relay.until_up();
                    match read {
                        Ok(length) if length > 0 && to.write_all(&bytes[..length]).is_ok() => {}
                        _ => break,
                    }
                }
                let _ = to.shutdown(Shutdown::Write);
            });
        }
    }

    fn until_up(&self) {
        let (state, changed) = &*self.link;
        let is_down = |link: &mut Link| *link != Link::Up;
        drop(changed.wait_while(state.lock().unwrap(), is_down).unwrap());
    }
}
