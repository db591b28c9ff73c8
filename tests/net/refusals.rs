//! Each bad input gets an error on the honest side that says which it was, within five seconds.

use std::{
    fs::{self, Permissions},
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    thread,
    time::{Duration, Instant},
};

use lockkeeper::{Address, Manager};
use lockkeeper_test_support::in_own_process;
use tokio::{io::AsyncReadExt, net::TcpSocket};

use crate::{Site, log::Log, port, run, unpinned};

/// The time in which each error has to come, with room for a slow machine.
const IN_TIME: Duration = Duration::from_millis(5_900);

/// Connects without success, and returns the error.
async fn refused(site: &Site, endpoint: &Address) -> String {
    let begun = Instant::now();
    let refused = site.connect(endpoint).await.map(drop);
    let shown = refused.unwrap_err().to_string();
    assert!(begun.elapsed() < IN_TIME, "{:?}: {shown}", begun.elapsed());
    assert!(
        shown.contains(&format!("no manager at {endpoint}")),
        "{shown}"
    );
    shown
}

#[test]
fn client_with_another_key_is_told_so() {
    run(async {
        let site = Site::new();
        let manager = site.start().await;
        let line = fs::read_to_string(site.key()).unwrap();
        let line = line.lines().last().unwrap();
        let (name, digits) = line.split_once(' ').unwrap();
        let reversed: String = digits.chars().rev().collect();
        for (keys, why) in [
            (
                format!("{name} {reversed}"),
                "differs from that of the manager",
            ),
            (
                format!("{name} {digits}01"),
                "differs from that of the manager",
            ),
            (format!("other {digits}"), "no key of the name \"other\""),
            (
                format!("new {reversed}\n{line}"),
                "no key of the name \"new\"",
            ),
        ] {
            let other = Site::new();
            fs::write(other.key(), keys).unwrap();
            let shown = refused(&other, &manager.endpoints()[0]).await;
            assert!(shown.contains(why), "{shown}");
            assert!(!shown.contains("start one"), "{shown}");
        }
        // Others are unharmed.
        site.connect(&manager.endpoints()[0]).await.unwrap();
    });
}

#[test]
fn client_without_a_key_is_told_where_it_was_looked_for() {
    run(async {
        let site = Site::new();
        let manager = site.start().await;
        let endpoint = unpinned(&manager.endpoints()[0]);
        let missing = Manager::connect(&endpoint).await.map(drop);
        let shown = missing.unwrap_err().to_string();
        assert!(shown.contains("LOCKKEEPER_KEY_FILE is not set"), "{shown}");
        let other = Site::new();
        for (mode, content, why) in [
            (0o640, None, "chmod 600"),
            (0o600, Some(""), "it has no key"),
            (0o600, Some("key 00ff"), "a key of 2 bytes"),
        ] {
            fs::set_permissions(other.key(), Permissions::from_mode(mode)).unwrap();
            if let Some(content) = content {
                fs::write(other.key(), content).unwrap();
            }
            let shown = refused(&other, &endpoint).await;
            assert!(shown.contains(why), "{shown}");
            assert!(shown.contains(other.key().to_str().unwrap()), "{shown}");
        }
        fs::remove_file(other.key()).unwrap();
        let shown = refused(&other, &endpoint).await;
        assert!(shown.contains("No such file"), "{shown}");
    });
}

#[test]
fn key_for_an_address_on_this_machine_is_an_error() {
    run(async {
        let site = Site::new();
        let socket = site.path("socket");
        for address in ["jobs", "memory:jobs", socket.to_str().unwrap()] {
            let address: Address = address.parse().unwrap();
            let shown = refused(&site, &address).await;
            assert!(shown.contains("leave out key_file"), "{shown}");
        }
    });
}

#[test]
fn fingerprint_of_another_manager_is_told_with_the_one_that_came() {
    run(async {
        let site = Site::new();
        let manager = site.start().await;
        let endpoint = &manager.endpoints()[0];
        let (plain, own) = (unpinned(endpoint), endpoint.to_string());
        let own = own.split_once('#').unwrap().1.to_owned();
        let last = own.chars().last().unwrap();
        let almost = format!(
            "{}{}",
            &own[..own.len() - 1],
            if last == '0' { '1' } else { '0' }
        );
        let zeros = format!("sha256:{}", "0".repeat(64));
        let other = Site::new().start().await.endpoints()[0].to_string();
        let other = other.split_once('#').unwrap().1.to_owned();
        for foreign in [almost, zeros, other] {
            let pinned: Address = format!("{plain}#{foreign}").parse().unwrap();
            let shown = refused(&site, &pinned).await;
            assert!(shown.contains(&format!("fingerprint {own}")), "{shown}");
            assert!(shown.contains(&format!("address has {foreign}")), "{shown}");
        }
    });
}

/// A service that is no manager, at a port of its own. It gets each connection, for as long as the test runs.
fn service(serve: impl Fn(TcpStream) + Send + 'static) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            serve(stream.unwrap());
        }
    });
    format!("tls://127.0.0.1:{port}").parse().unwrap()
}

#[test]
fn service_that_does_not_speak_tls_is_told_so() {
    run(async {
        let site = Site::new();
        for banner in [
            "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
            "SSH-2.0-OpenSSH_9.2p1 Debian\r\n",
            "-ERR unknown command\r\n",
            "\0\0\0\x2f\x17\x01lockkeeper",
        ] {
            let endpoint = service(move |mut stream| {
                let _ = stream.write_all(banner.as_bytes());
                let _ = stream.read_to_end(&mut Vec::new());
            });
            let shown = refused(&site, &endpoint).await;
            assert!(shown.contains("does not speak TLS"), "{banner:?}: {shown}");
        }
        // They close at once, when they have read, and in the middle of a record.
        let read = |mut stream: &TcpStream| drop(stream.read(&mut [0; 4096]));
        let endpoints = [
            service(drop),
            service(move |stream| read(&stream)),
            service(move |mut stream| {
                read(&stream);
                let _ = stream.write_all(&[22, 3, 3, 0, 122, 2]);
            }),
            service(move |stream| {
                read(&stream);
                let _ = stream.shutdown(Shutdown::Write);
                read(&stream);
            }),
        ];
        for endpoint in endpoints {
            let shown = refused(&site, &endpoint).await;
            assert!(shown.contains("it closed the connection"), "{shown}");
        }
    });
}

#[test]
fn silence_is_told_in_time() {
    run(async {
        let site = Site::new();
        let held = std::sync::Mutex::new(Vec::new());
        let accepts = service(move |stream| held.lock().unwrap().push(stream));
        // The system accepts for a program that does not.
        let queue = TcpListener::bind("127.0.0.1:0").unwrap();
        let queued = format!("tls://{}", queue.local_addr().unwrap());
        let held = std::sync::Mutex::new(Vec::new());
        let begins = service(move |mut stream| {
            stream.write_all(&[22, 3, 3, 0, 122, 2]).unwrap();
            held.lock().unwrap().push(stream);
        });
        // One byte at a time would never end.
        let drips = service(|mut stream| {
            thread::spawn(move || {
                let mut record = [22_u8, 3, 3, 0x40, 0].iter().chain([2].iter().cycle());
                while stream.write_all(&[*record.next().unwrap()]).is_ok() {
                    thread::sleep(Duration::from_millis(100));
                }
            });
        });
        let silent = [accepts, queued.parse().unwrap(), begins, drips];
        let all = silent.iter().map(|endpoint| refused(&site, endpoint));
        for shown in futures::future::join_all(all).await {
            assert!(shown.contains("it was silent for 5s"), "{shown}");
        }
        drop(queue);
    });
}

#[test]
fn place_without_a_manager_is_named() {
    run(async {
        let site = Site::new();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let free_port = free.local_addr().unwrap().port();
        drop(free);
        for (endpoint, why) in [
            (format!("tls://127.0.0.1:{free_port}"), "Connection refused"),
            (
                "tls://no-such-host.invalid:7000".to_owned(),
                "the name no-such-host.invalid is not resolved",
            ),
            (
                "tls://127.0.0.1:0".to_owned(),
                "port 0 is for listen() alone",
            ),
        ] {
            let shown = refused(&site, &endpoint.parse().unwrap()).await;
            assert!(shown.contains(why), "{shown}");
        }
    });
}

#[test]
fn caller_that_proves_no_key_is_told_to_the_manager_and_harms_nobody() {
    in_own_process(|| {
        run(async {
            let log = Log::start();
            let site = Site::new();
            let manager = site.start().await;
            let endpoint = &manager.endpoints()[0];
            let client = site.connect(endpoint).await.unwrap();
            let lock = client.named("lock").lock().await.unwrap();
            let guard = lock.acquire().await.unwrap();
            let connect = || TcpStream::connect(("127.0.0.1", port(endpoint))).unwrap();
            // A plain client of this protocol, and others.
            for bytes in [
                b"\0\0\0\x2f\x97\x01\xaalockkeeper".as_slice(),
                b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                &[0; 100],
                &[0xff; 5000],
            ] {
                let mut caller = connect();
                caller.write_all(bytes).unwrap();
                caller.set_read_timeout(Some(IN_TIME)).unwrap();
                let begun = Instant::now();
                // An alert of TLS, and the end.
                let _ = caller.read_to_end(&mut Vec::new());
                assert!(begun.elapsed() < IN_TIME);
            }
            log.wait_for(4, &["client refused", "127.0.0.1", "does not speak TLS"])
                .await;
            // A port scanner.
            for _ in 0..3 {
                drop(connect());
            }
            log.wait_for(7, &["client refused", "127.0.0.1"]).await;
            // Half-open connections, one with the beginning of a record that would be long.
            let mut silent: Vec<_> = (0..3).map(|_| connect()).collect();
            silent[0].write_all(&[22, 3, 1, 0x40, 0, 1]).unwrap();
            log.wait_for(3, &["client refused", "has not proved a key within 5s"])
                .await;
            // They are closed.
            for caller in &mut silent {
                caller.set_read_timeout(Some(IN_TIME)).unwrap();
                assert_eq!(caller.read(&mut [0; 64]).unwrap_or(0), 0);
            }
            assert!(guard.is_valid());
            lock.status().await.unwrap();
            let again = Manager::client().key_file(site.key()).label("again");
            again.connect(endpoint).await.unwrap();
        });
    });
}

#[test]
fn panic_where_keys_are_checked_is_told_and_the_endpoint_stays_open() {
    in_own_process(|| {
        run(async {
            let log = Log::start();
            let site = Site::new();
            let manager = site.start().await;
            let endpoint = &manager.endpoints()[0];
            let client = site.connect(endpoint).await.unwrap();
            let connect = || TcpStream::connect(("127.0.0.1", port(endpoint))).unwrap();
            // In the task of one caller.
            log.panic_at("does not speak TLS");
            connect().write_all(&[0; 100]).unwrap();
            let failed = ["check of keys failed", "injected at does not speak TLS"];
            log.wait_for(1, &failed).await;
            // In the code that accepts all callers.
            log.panic_at("more were closed");
            let silent: Vec<_> = (0..66).map(|_| connect()).collect();
            let failed = ["check of keys failed", "injected at", "more were closed"];
            log.wait_for(1, &failed).await;
            drop(silent);
            client.lock().await.unwrap();
            let again = Manager::client().key_file(site.key()).label("again");
            again.connect(endpoint).await.unwrap();
            manager.shutdown().await;
        });
    });
}

#[test]
fn flood_of_callers_keeps_no_other_machine_waiting() {
    run(async {
        let site = Site::new();
        let manager = site.start().await;
        let endpoint = &manager.endpoints()[0];
        let address = format!("127.0.0.1:{}", port(endpoint)).parse().unwrap();
        let mut callers = Vec::new();
        for _ in 0..300 {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
            callers.push(socket.connect(address).await.unwrap());
        }
        let begun = Instant::now();
        site.connect(endpoint).await.unwrap();
        assert!(
            begun.elapsed() < Duration::from_secs(4),
            "{:?}",
            begun.elapsed()
        );
        // All but 64 of them are closed at once, and those in time. On a busy machine the time of the first ones may be
        // over by now, so they are closed too.
        let closed = callers.iter_mut().map(async |caller| {
            let mut buffer = [0; 8];
            let read = tokio::time::timeout(2 * IN_TIME, caller.read(&mut buffer));
            assert_eq!(read.await.expect("it is closed").unwrap_or(0), 0);
            begun.elapsed() < Duration::from_secs(4)
        });
        let at_once = futures::future::join_all(closed).await;
        let at_once = at_once.into_iter().filter(|at_once| *at_once).count();
        assert!(at_once >= 300 - 64, "{at_once}");
    });
}
