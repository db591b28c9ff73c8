//! The files that a manager creates and removes. A path has at most one manager.

mod leftovers;

use std::{
    fs,
    io::ErrorKind,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink},
            net::{SocketAddr, UnixListener},
        },
    },
    path::{Path, PathBuf},
    process::Command,
};

use lockkeeper::{Address, Manager, StartError};
use lockkeeper_test_support::{
    Role, Roles, act_as, in_own_process, may_act_as_others, report, until,
};
use rustix::fs::Mode;
use tempfile::TempDir;

use crate::run;

/// A user without files.
const OTHER_USER: u32 = 65534;

pub(crate) fn roles(roles: &mut Roles) {
    leftovers::roles(roles);
    roles.add("claims::host", host);
    roles.add("claims::parent_of_a_sleeper", parent_of_a_sleeper);
    roles.add("claims::starter_as", starter_as);
    roles.add("claims::squatter", name_taker);
}

/// Hosts a manager until it is killed, and reports when its address is lost.
async fn host(address: Address) {
    let manager = Manager::builder().address(address).start().await.unwrap();
    let lock = manager.named("held").lock().await.unwrap();
    let guard = lock.acquire().await.unwrap();
    report("serving");
    guard.lost().await;
    let why = lock.acquire().await.map(drop).unwrap_err();
    report(&why.to_string());
    drop(manager);
    report("ended");
    std::future::pending().await
}

/// Hosts a manager, and starts a child that outlives it.
#[expect(clippy::zombie_processes, reason = "this process is killed first")]
async fn parent_of_a_sleeper(address: Address) {
    let _manager = Manager::builder().address(address).start().await.unwrap();
    let sleeper = Command::new("sleep").arg("60").spawn().unwrap();
    report(&sleeper.id().to_string());
    std::future::pending().await
}

/// Starts a manager as another user, and reports the outcome.
async fn starter_as((uid, address): (u32, String)) {
    act_as(uid, uid, &[]);
    let started = Manager::builder().address(address).start().await;
    report(&match started {
        Ok(manager) => format!("serving at {}", manager.address()),
        Err(error) => error.to_string(),
    });
}

/// Binds an abstract name as another user.
async fn name_taker((uid, name): (u32, String)) {
    act_as(uid, uid, &[]);
    let address = SocketAddr::from_abstract_name(name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    report("bound");
    std::future::pending().await
}

fn path_in(folder: &TempDir) -> PathBuf {
    folder.path().join("jobs.sock")
}

fn claim_of(socket: &Path) -> PathBuf {
    let name = socket.file_name().unwrap().to_str().unwrap();
    socket.with_file_name(format!("{name}.lockkeeper"))
}

/// Returns the abstract name of a manager's path, as ARCHITECTURE.md describes it.
fn name_of(socket: &Path) -> String {
    let folder = fs::metadata(socket.parent().unwrap()).unwrap();
    let own = rustix::process::geteuid().as_raw();
    let claim = claim_of(socket);
    let file = claim.file_name().unwrap().to_str().unwrap();
    let (device, inode) = (folder.dev(), folder.ino());
    format!("lockkeeper/{own}/{device:x}/{inode:x}/{file}")
}

async fn start_at(path: &Path) -> Result<Manager, StartError> {
    Manager::builder().address(path).start().await
}

fn in_use(path: &Path) -> StartError {
    let address = Address::try_from(path).unwrap();
    StartError::AddressInUse { address }
}

/// Returns all names in a folder with their content, except sockets.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let files = files.filter(|entry| entry.file_type().unwrap().is_file());
    let mut files: Vec<_> = files
        .map(|entry| (entry.path(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn other_files_beside_a_socket_stay_unchanged() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("Cargo");
        for end in [
            "lock",
            "toml",
            "new",
            "tmp",
            "sock",
            "pid",
            "1",
            "2",
            "fence",
            "lockkeeper2",
            "lck",
        ] {
            fs::write(folder.path().join(format!("Cargo.{end}")), "precious").unwrap();
        }
        let before = contents(folder.path());
        let builder = Manager::builder().address(&socket);
        let manager = builder.start().await.unwrap();
        drop(manager.lock().await.unwrap().acquire().await.unwrap());
        manager.shutdown().await;
        assert_eq!(contents(folder.path()), before);
        // Shards would need names that are taken.
        let builder = Manager::builder().address(&socket).shards(3);
        let refused = builder.start().await.map(drop).unwrap_err().to_string();
        assert!(
            refused.contains("Cargo.1: it is a file of uid"),
            "{refused}"
        );
        assert_eq!(contents(folder.path()), before);
    });
}

#[test]
fn folders_of_a_manager_are_accessible_to_its_user_with_any_umask() {
    in_own_process(|| {
        let folder = TempDir::new().unwrap();
        let above = folder.path().join("above");
        let below = above.join("below");
        let address = Address::try_from(below.join("sock")).unwrap();
        rustix::process::umask(Mode::RWXU | Mode::RWXG | Mode::RWXO);
        run(async {
            let started = Manager::builder().address(address).start().await;
            rustix::process::umask(Mode::empty());
            drop(started.map(drop));
            for folder in [above, below] {
                assert_eq!(fs::metadata(folder).unwrap().mode() & 0o777, 0o700);
            }
        });
    });
}

/// Creates a file at a path that is not a claim file of this process, and returns the path of the file
/// that must stay unchanged.
fn plant(what: &str, path: &Path) -> PathBuf {
    let victim = path.with_file_name("victim");
    match what {
        "link" => {
            fs::write(&victim, "precious").unwrap();
            symlink(&victim, path).unwrap();
        }
        "empty link" => {
            fs::write(&victim, "").unwrap();
            symlink(&victim, path).unwrap();
        }
        "dangling link" => symlink(&victim, path).unwrap(),
        "second name" => {
            fs::write(&victim, "").unwrap();
            fs::hard_link(&victim, path).unwrap();
        }
        "pipe" => {
            let made = Command::new("mkfifo").arg(path).status().unwrap();
            assert!(made.success());
        }
        "folder" => fs::create_dir(path).unwrap(),
        "content" => fs::write(path, "precious").unwrap(),
        "another user's" => {
            fs::write(path, "").unwrap();
            chown(path, Some(OTHER_USER), None).unwrap();
        }
        other => panic!("{other}"),
    }
    victim
}

#[test]
fn foreign_claim_file_is_an_error_and_stays_unchanged() {
    run(async {
        let mut all = vec![
            "link",
            "empty link",
            "dangling link",
            "second name",
            "pipe",
            "folder",
            "content",
        ];
        if may_act_as_others() {
            all.push("another user's");
        }
        for what in all {
            let folder = tempfile::tempdir().unwrap();
            let socket = path_in(&folder);
            let claim = claim_of(&socket);
            let victim = plant(what, &claim);
            let before = (
                contents(folder.path()),
                fs::symlink_metadata(&claim).unwrap().ino(),
            );
            match start_at(&socket).await.map(drop) {
                Err(StartError::BadAddress { why, .. }) => {
                    let uid = fs::symlink_metadata(&claim).unwrap().uid();
                    assert!(why.contains(claim.to_str().unwrap()), "{what}: {why}");
                    assert!(why.contains(&format!("uid {uid}")), "{what}: {why}");
                    assert!(why.contains("use another path"), "{what}: {why}");
                }
                other => panic!("{what}: {other:?}"),
            }
            let after = (
                contents(folder.path()),
                fs::symlink_metadata(&claim).unwrap().ino(),
            );
            assert_eq!(after, before, "{what}");
            if what == "dangling link" {
                assert!(!victim.exists(), "the target was not made");
            }
            assert!(!socket.exists(), "{what}");
        }
    });
}

#[test]
fn names_of_other_programs_files_are_not_claims() {
    run(async {
        for what in [
            "link",
            "dangling link",
            "second name",
            "pipe",
            "folder",
            "content",
        ] {
            let folder = tempfile::tempdir().unwrap();
            let socket = path_in(&folder);
            let other = folder.path().join("jobs.sock.lock");
            plant(what, &other);
            let before = contents(folder.path());
            let manager = start_at(&socket).await.unwrap();
            manager.shutdown().await;
            assert_eq!(contents(folder.path()), before, "{what}");
            assert!(fs::symlink_metadata(other).is_ok(), "{what}");
        }
    });
}

#[test]
fn path_has_one_manager_even_if_its_files_are_removed() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let socket = path_in(&folder);
        let claim = claim_of(&socket);
        let manager = start_at(&socket).await.unwrap();
        let lock = manager.named("one").lock().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        let link = folder.path().join("link");
        symlink(folder.path(), &link).unwrap();
        for gone in [&[&claim][..], &[&socket], &[&claim, &socket]] {
            for path in gone {
                let _ = fs::remove_file(path);
            }
            // Also through a link to the folder, and in another process.
            for path in [&socket, &link.join("jobs.sock")] {
                let refused = start_at(path).await.map(drop);
                assert_eq!(refused, Err(in_use(path)), "without {gone:?}");
                let spawned = Manager::builder().address(path).spawn().await.map(drop);
                assert!(
                    matches!(spawned, Err(StartError::ChildFailed(_))),
                    "{spawned:?}"
                );
            }
        }
        assert!(guard.is_valid());
        // The manager restores its files.
        until("the socket exists again", async || {
            Manager::connect(&socket).await.is_ok() && claim.exists()
        })
        .await;
        let client = Manager::connect(&socket).await.unwrap();
        let same = client.named("one").lock().await.unwrap();
        assert!(same.try_acquire().await.unwrap().is_none());
        guard.release().await.unwrap();
        drop(client);
        manager.shutdown().await;
        assert!(!socket.exists() && !claim.exists());
        drop(start_at(&socket).await.unwrap());
    });
}

#[test]
fn shards_bind_removed_sockets_again() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("run").join("jobs.sock");
        let builder = Manager::builder().address(&socket).shards(3);
        let manager = builder.start().await.unwrap();
        // Removes the folder with all files.
        fs::remove_dir_all(socket.parent().unwrap()).unwrap();
        let there = [
            "jobs.sock",
            "jobs.sock.1",
            "jobs.sock.2",
            "jobs.sock.lockkeeper",
        ];
        until("all sockets exist again", async || {
            there
                .iter()
                .all(|name| socket.with_file_name(name).exists())
        })
        .await;
        assert_eq!(start_at(&socket).await.map(drop), Err(in_use(&socket)));
        manager.shutdown().await;
        assert_eq!(fs::read_dir(socket.parent().unwrap()).unwrap().count(), 0);
    });
}

#[test]
fn manager_ends_when_another_one_has_its_path_and_removes_none_of_its_files() {
    run(async {
        for what in ["another manager", "another socket", "a file"] {
            let folder = tempfile::tempdir().unwrap();
            let home = folder.path().join("run");
            fs::create_dir(&home).unwrap();
            let socket = home.join("jobs.sock");
            let address = Address::try_from(&socket).unwrap();
            let mut first = Role::start("claims::host", &address);
            assert_eq!(first.next_report(), "serving");
            let mut second = None;
            let mut foreign = None;
            match what {
                "another manager" => {
                    fs::rename(&home, folder.path().join("moved")).unwrap();
                    fs::create_dir(&home).unwrap();
                    second = Some(start_at(&socket).await.unwrap());
                }
                "another socket" => {
                    fs::remove_file(&socket).unwrap();
                    foreign = Some(UnixListener::bind(&socket).unwrap());
                }
                _ => {
                    fs::remove_file(&socket).unwrap();
                    fs::write(&socket, "precious").unwrap();
                }
            }
            let there = fs::symlink_metadata(&socket).unwrap().ino();
            let shown = tokio::task::spawn_blocking(move || {
                let shown = first.next_report();
                assert_eq!(first.next_report(), "ended");
                shown
            });
            let shown = shown.await.unwrap();
            assert!(shown.contains("it has lost its address"), "{what}: {shown}");
            assert!(shown.contains(home.to_str().unwrap()), "{what}: {shown}");
            assert_eq!(
                fs::symlink_metadata(&socket).unwrap().ino(),
                there,
                "{what}"
            );
            if let Some(second) = second {
                assert!(claim_of(&socket).exists());
                let lock = second.named("held").lock().await.unwrap();
                drop(lock.acquire().await.unwrap());
                assert_eq!(start_at(&socket).await.map(drop), Err(in_use(&socket)));
            }
            drop(foreign);
        }
    });
}

#[test]
fn shutdown_removes_only_what_was_bound() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("run");
        fs::create_dir(&home).unwrap();
        let socket = home.join("jobs.sock");
        let first = start_at(&socket).await.unwrap();
        fs::rename(&home, folder.path().join("moved")).unwrap();
        fs::create_dir(&home).unwrap();
        let second = start_at(&socket).await.unwrap();
        let lock = second.named("one").lock().await.unwrap();
        let _guard = lock.acquire().await.unwrap();
        first.shutdown().await;
        assert!(socket.exists() && claim_of(&socket).exists());
        assert_eq!(start_at(&socket).await.map(drop), Err(in_use(&socket)));
    });
}

#[test]
fn abstract_name_of_another_user_is_no_obstacle_because_the_file_protects_the_path() {
    run(async {
        if !may_act_as_others() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let socket = path_in(&folder);
        let mut name_taker = Role::start("claims::squatter", &(OTHER_USER, name_of(&socket)));
        assert_eq!(name_taker.next_report(), "bound");
        let manager = start_at(&socket).await.unwrap();
        assert_eq!(start_at(&socket).await.map(drop), Err(in_use(&socket)));
        manager.shutdown().await;
        name_taker.kill();
        drop(start_at(&socket).await.unwrap());
    });
}

#[test]
fn claim_ends_with_its_process_even_if_a_child_is_running() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let socket = path_in(&folder);
        let address = Address::try_from(&socket).unwrap();
        for _ in 0..5 {
            let mut host = Role::start("claims::parent_of_a_sleeper", &address);
            let sleeper: u32 = host.next_report().parse().unwrap();
            assert_eq!(start_at(&socket).await.map(drop), Err(in_use(&socket)));
            host.kill();
            // Before its exec, the child still has the manager's open files.
            until("the claim has ended", async || {
                start_at(&socket).await.is_ok()
            })
            .await;
            lockkeeper_test_support::kill(sleeper);
        }
    });
}

#[test]
fn folder_of_names_that_other_users_can_access_is_an_error() {
    run(async {
        if !may_act_as_others() {
            return;
        }
        let uid = 3_000_000 + std::process::id();
        let folder = PathBuf::from(format!("/tmp/lockkeeper-{uid}"));
        let elsewhere = tempfile::tempdir().unwrap();
        chown(elsewhere.path(), Some(uid), None).unwrap();
        let start = |address: &str| {
            Role::start("claims::starter_as", &(uid, address.to_owned())).next_report()
        };
        for what in ["another user's", "a link", "open to others", "a file"] {
            match what {
                "another user's" => fs::create_dir(&folder).unwrap(),
                "a link" => symlink(elsewhere.path(), &folder).unwrap(),
                "open to others" => {
                    fs::create_dir(&folder).unwrap();
                    chown(&folder, Some(uid), None).unwrap();
                    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
                }
                _ => fs::write(&folder, "precious").unwrap(),
            }
            let owner = fs::symlink_metadata(&folder).unwrap().uid();
            let shown = start("jobs");
            for part in [folder.to_str().unwrap(), &format!("of uid {owner}"), "use"] {
                assert!(shown.contains(part), "{what}: {part} is not in {shown}");
            }
            let files = fs::read_dir(elsewhere.path()).unwrap().count();
            assert_eq!(files, 0, "{what}");
            let removed = match fs::remove_dir(&folder) {
                Err(error) if error.kind() == ErrorKind::NotADirectory => fs::remove_file(&folder),
                removed => removed,
            };
            removed.unwrap();
        }
        // A folder that the manager creates is accepted.
        let shown = start("jobs");
        assert_eq!(shown, format!("serving at {}/jobs.sock", folder.display()));
        let made = fs::symlink_metadata(&folder).unwrap();
        assert_eq!((made.uid(), made.mode() & 0o777), (uid, 0o700));
        assert!(!made.file_type().is_socket());
        fs::remove_dir(&folder).unwrap();
    });
}
