//! Acts as another user, which only root can do.

use rustix::{
    process::{Gid, Uid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

/// Returns whether this process may act as other users. If not, prints that the calling test is
/// skipped.
pub fn may_act_as_others() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("skipped: only root can act as other users");
    }
    is_root
}

/// Makes this thread, and all threads and processes that it starts, act as another user with the given
/// supplementary groups.
///
/// Call it in the first line of a role, before any thread is started.
///
/// # Panics
///
/// Panics unless the process runs as root.
pub fn act_as(uid: u32, gid: u32, groups: &[u32]) {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let groups: Vec<_> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
    set_thread_groups(&groups).expect("root may");
    set_thread_res_gid(gid, gid, gid).expect("root may");
    set_thread_res_uid(uid, uid, uid).expect("root may");
}
