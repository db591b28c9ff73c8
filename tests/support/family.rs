//! The processes that this one has started.

use std::{fs, process};

use crate::signals::is_running;

/// The process that a manager was started as.
pub(crate) fn child() -> u32 {
    let children = format!("/proc/{0}/task", process::id());
    fs::read_dir(children)
        .unwrap()
        .filter_map(|task| fs::read_to_string(task.unwrap().path().join("children")).ok())
        .flat_map(|pids| {
            let pids = pids.split_whitespace().map(|pid| pid.parse().unwrap());
            pids.collect::<Vec<u32>>()
        })
        .find(|pid| is_running(*pid))
        .expect("it runs")
}
