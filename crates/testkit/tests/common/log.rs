//! What a provider logs while a test drives it.
use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};
use tracing_subscriber::filter::LevelFilter;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `play` brings, and the warnings meanwhile about objects that bear the provider's label and are in no Inventory.
pub(crate) fn unrecorded<T>(play: impl FnOnce() -> T) -> (T, Vec<String>) {
    warnings("in no inventory", play)
}

/// What `play` brings, and the warnings meanwhile with these words.
pub(crate) fn warnings<T>(words: &str, play: impl FnOnce() -> T) -> (T, Vec<String>) {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::WARN)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let played = tracing::subscriber::with_default(subscriber, play);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let told = text.lines().filter(|line| line.contains(words));
    (played, told.map(str::to_owned).collect())
}
