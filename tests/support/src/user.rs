//! Acting as another user, which only root can.

use rustix::{
    process::{Gid, Uid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

/// Whether this process may act as other users. If not, says that the calling test is skipped.
pub fn may_act_as_others() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("skipped: only root can act as other users");
    }
    is_root
}

/// Acts as another user from now on, with these supplementary groups: this thread, and all that it starts.
///
/// It is for the first line of a role, before anything has started a thread.
///
/// # Panics
///
/// Panics unless the process is root's.
pub fn act_as(uid: u32, gid: u32, groups: &[u32]) {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let groups: Vec<_> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
    set_thread_groups(&groups).expect("root may");
    set_thread_res_gid(gid, gid, gid).expect("root may");
    set_thread_res_uid(uid, uid, uid).expect("root may");
}
