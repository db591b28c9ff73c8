//! The events of this process as text, for tests that run in a process of their own.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use lockkeeper_test_support::until;
use tracing_subscriber::{filter::LevelFilter, fmt};

/// All events since the start. Its clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Begins to record the events of this process, down to the finest.
    pub(crate) fn start() -> Self {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
        log
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Waits until as many lines have all of the words.
    pub(crate) async fn wait_for(&self, lines: usize, words: &[&str]) {
        let what = format!("{lines} lines with {words:?}");
        until(&what, async || {
            let text = self.text();
            let has_all = |line: &&str| words.iter().all(|word| line.contains(word));
            text.lines().filter(has_all).count() >= lines
        })
        .await;
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
