//! The events of this process as text, for tests that run in a process of their own.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use lockkeeper_test_support::until;
use tracing_subscriber::{filter::LevelFilter, fmt};

/// All events since the start. Its clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Log {
    text: Arc<Mutex<Vec<u8>>>,
    /// The next event with these words panics.
    panics_at: Arc<Mutex<Option<&'static str>>>,
}

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
        String::from_utf8(self.text.lock().unwrap().clone()).unwrap()
    }

    /// Makes the code panic that reports the next event with these words.
    pub(crate) fn panic_at(&self, words: &'static str) {
        *self.panics_at.lock().unwrap() = Some(words);
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
        self.text.lock().unwrap().extend_from_slice(bytes);
        let text = String::from_utf8_lossy(bytes);
        // The guard is dropped before the panic.
        let panics = {
            let mut panics = self.panics_at.lock().unwrap();
            panics.take_if(|words| text.contains(*words))
        };
        if let Some(words) = panics {
            panic!("injected at {words}");
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
