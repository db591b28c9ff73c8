//! The notes of the processes of a chaos test: counts, records and violations.
//!
//! Each note is one write to the end of a file, so it is complete or missing.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process,
};

/// The length of a record. It divides the page size, because the write of a killed process may end
/// at a page boundary.
pub(crate) const RECORD: usize = 64;

const FOLDERS: [&str; 10] = [
    "condemned",
    "counts",
    "fences",
    "latches",
    "ledgers",
    "logs",
    "now",
    "spent",
    "sums",
    "tickets",
];

/// The folder of a test's notes.
#[derive(Clone, Debug)]
pub(crate) struct Notes {
    folder: PathBuf,
}

impl Notes {
    pub(crate) fn in_folder(folder: &Path) -> Self {
        for name in FOLDERS {
            fs::create_dir_all(folder.join(name)).expect("a folder can be made");
        }
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Returns the path of a file.
    pub(crate) fn path(&self, kind: &str, name: &str) -> PathBuf {
        self.folder.join(kind).join(name)
    }

    /// Increments a count.
    pub(crate) fn count(&self, what: &str) {
        append(&self.path("counts", what), b".");
    }

    /// Returns all counts with their names.
    pub(crate) fn counts(&self) -> Vec<(String, u64)> {
        let mut counts: Vec<_> = self
            .names("counts")
            .into_iter()
            .map(|name| {
                let length = fs::metadata(self.path("counts", &name)).expect("the file exists");
                (name, length.len())
            })
            .collect();
        counts.sort();
        counts
    }

    /// Adds a small number to a sum, completely or not at all.
    pub(crate) fn add(&self, sum: &str, addend: u32) {
        let bytes = vec![b'.'; addend.try_into().expect("a small number")];
        append(&self.path("sums", sum), &bytes);
    }

    pub(crate) fn sum(&self, sum: &str) -> u64 {
        fs::metadata(self.path("sums", sum)).map_or(0, |file| file.len())
    }

    /// Records a violation.
    pub(crate) fn violation(&self, words: &str) {
        let line = format!("process {}: {words}\n", process::id());
        append(&self.folder.join("violations"), line.as_bytes());
    }

    /// Returns all violations.
    pub(crate) fn violations(&self) -> String {
        match fs::read_to_string(self.folder.join("violations")) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            violations => violations.expect("notes can be read"),
        }
    }

    /// Records that a process is about to be killed.
    pub(crate) fn mark_killed(&self, pid: u32) {
        File::create(self.path("condemned", &pid.to_string())).expect("a file can be made");
    }

    /// Returns whether a process is dead or about to be killed: each is marked before its kill.
    pub(crate) fn is_marked_killed(&self, pid: u32) -> bool {
        self.path("condemned", &pid.to_string()).exists()
    }

    /// Records a fence that an object granted.
    pub(crate) fn fence(&self, object: &str, fence: u64) {
        append(&self.path("fences", object), &record(&fence.to_string()));
    }

    /// Returns the fences that were granted more than once, with their objects.
    pub(crate) fn repeated_fences(&self) -> Vec<String> {
        let mut repeated = Vec::new();
        for object in self.names("fences") {
            let mut seen = BTreeSet::new();
            for fence in self.read("fences", &object) {
                if !seen.insert(fence.clone()) {
                    repeated.push(format!("{object}: {fence} came twice"));
                }
            }
        }
        repeated
    }

    /// Adds a record to a log.
    pub(crate) fn record(&self, log: &str, words: &str) {
        append(&self.path("logs", log), &record(words));
    }

    /// Returns all records of a log.
    pub(crate) fn records(&self, log: &str) -> Vec<String> {
        self.read("logs", log)
    }

    fn read(&self, kind: &str, name: &str) -> Vec<String> {
        let records = fs::read(self.path(kind, name)).unwrap_or_default();
        records
            .chunks(RECORD)
            .map(|record| {
                assert_eq!(record.len(), RECORD, "a record is incomplete");
                let words = str::from_utf8(record).expect("a record is text");
                words.trim_end().to_owned()
            })
            .collect()
    }

    /// Records an event that may happen only once.
    pub(crate) fn once(&self, what: &str) {
        if File::create_new(self.path("spent", what)).is_err() {
            self.violation(&format!("{what} happened twice"));
        }
    }

    /// Returns the names of all files of a kind, in any order.
    pub(crate) fn names(&self, kind: &str) -> Vec<String> {
        fs::read_dir(self.folder.join(kind))
            .expect("the folder exists")
            .filter_map(|entry| {
                entry
                    .expect("the folder can be read")
                    .file_name()
                    .into_string()
                    .ok()
            })
            .collect()
    }

    /// Signals all processes to end.
    pub(crate) fn end_all(&self) {
        File::create(self.folder.join("over")).expect("a file can be made");
    }

    pub(crate) fn is_over(&self) -> bool {
        self.folder.join("over").exists()
    }
}

/// The current action of each task of this process, for the report of a test that hangs.
#[derive(Debug)]
pub(crate) struct Now {
    file: File,
    task: u64,
}

impl Now {
    pub(crate) fn of_task(task: u64, notes: &Notes) -> Self {
        let path = notes.path("now", &process::id().to_string());
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        Self {
            file: file.expect("a file can be made"),
            task,
        }
    }

    pub(crate) fn is(&self, words: &str) {
        let place = self.task * RECORD as u64;
        let written = self.file.write_all_at(&record(words), place);
        written.expect("a file can be written");
    }
}

fn record(words: &str) -> [u8; RECORD] {
    let mut record = [b' '; RECORD];
    record[RECORD - 1] = b'\n';
    assert!(words.len() < RECORD, "too long for a record: {words}");
    record[..words.len()].copy_from_slice(words.as_bytes());
    record
}

fn append(path: &Path, bytes: &[u8]) {
    let file = OpenOptions::new().append(true).create(true).open(path);
    let written = file.and_then(|mut file| file.write_all(bytes));
    written.expect("a file can be written");
}
