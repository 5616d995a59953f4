//! The operator's tables of `ordinaut.toml`: read at start, read again when the file changes, published to Postgres.
//!
//! The file is small and read every two seconds: what it says is compared, so that no clock or file system can hide an
//! edit. A broken edit changes nothing: the last good tables stay in force, and the log says what is wrong, once.

use std::{path::PathBuf, sync::Arc, time::Duration};

use ordinaut_schema::operator::{Operator, told};
use ordinaut_store::Store;
use serde_json::{Map, Value};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// Twice within the five seconds that are promised.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Published again this often: another executor may have published its own file.
const REFRESH: Duration = Duration::from_mins(5);
const FILE_BYTES: u64 = 1024 * 1024;

/// The tables in force, for the actions that use them.
pub type Standing = watch::Receiver<Arc<Operator>>;

/// Reads the tables of a file's text.
///
/// # Errors
/// Every mistake, as a line each. None quotes the file: it holds credentials.
pub fn read(text: &str) -> Result<Operator, Vec<String>> {
    let table = parse(text).map_err(|why| vec![why])?;
    Operator::read(&table).map_err(|faults| told(&faults))
}

/// The file as JSON would have it.
fn parse(text: &str) -> Result<Map<String, Value>, String> {
    toml::from_str(text).map_err(|error| syntax(text, &error))
}

/// What is wrong and in which line. The error's own text quotes the line, which may hold a credential.
pub fn syntax(text: &str, error: &toml::de::Error) -> String {
    let at = error.span().and_then(|span| text.get(..span.start));
    let line = at.map_or_else(String::new, |before| format!(" in line {}", before.matches('\n').count() + 1));
    format!("it is no TOML{line}: {}", error.message())
}

/// Keeps the tables in force those of the file, until `stop`.
#[derive(Debug)]
pub struct Watch {
    path: Option<PathBuf>,
    store: Store,
    standing: watch::Sender<Arc<Operator>>,
    /// What the last look found; a mistake is said once.
    seen: Option<Result<String, String>>,
}

impl Watch {
    /// `now` is what the file said at start.
    pub fn new(path: Option<PathBuf>, now: Operator, store: Store) -> (Self, Standing) {
        let (standing, receiver) = watch::channel(Arc::new(now));
        (Self { path, store, standing, seen: None }, receiver)
    }

    /// Looks at the file every two seconds.
    pub async fn serve(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut published_at: Option<Instant> = None;
        while !stop.is_cancelled() {
            if self.look_again().await {
                published_at = None;
            }
            if published_at.is_none_or(|at| at.elapsed() >= REFRESH) && self.publish().await {
                published_at = Some(Instant::now());
            }
            stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await;
        }
        Ok(())
    }

    /// One look at the file; answers whether other tables are in force since.
    pub async fn look_again(&mut self) -> bool {
        let now = self.look().await;
        if self.seen.as_ref() == Some(&now) {
            return false;
        }
        let changed = self.take(&now);
        self.seen = Some(now);
        changed
    }

    /// The file's text, empty where there is none; or why it cannot be read.
    async fn look(&self) -> Result<String, String> {
        let Some(path) = &self.path else { return Ok(String::new()) };
        match tokio::fs::metadata(path).await {
            Ok(found) if found.len() > FILE_BYTES => return Err(format!("it is larger than {FILE_BYTES} bytes")),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
            Err(error) => return Err(error.to_string()),
        }
        tokio::fs::read_to_string(path).await.map_err(|error| error.to_string())
    }

    /// Puts in force what was read, if it is good and new; answers whether anything changed.
    fn take(&self, seen: &Result<String, String>) -> bool {
        let tables = seen.as_ref().map_err(|why| vec![why.clone()]).and_then(|text| read(text));
        match tables {
            Ok(tables) if tables == **self.standing.borrow() => false,
            Ok(tables) => {
                let (channels, models) = (tables.channels.len(), tables.models.len());
                info!(channels, models, "ordinaut.toml was read again: {channels} channels, {models} models");
                self.standing.send_replace(Arc::new(tables));
                true
            }
            Err(mistakes) => {
                let mistakes = mistakes.join("\n  ");
                error!("ordinaut.toml has mistakes, and what it said before stays in force:\n  {mistakes}");
                false
            }
        }
    }

    async fn publish(&self) -> bool {
        let offered = self.standing.borrow().offered();
        match self.store.set_offered(&offered).await {
            Ok(()) => true,
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "could not publish what the operator offers");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_file_is_read_as_it_is_and_with_every_line_in_force() {
        let example = include_str!("../../examples/ordinaut.toml");
        assert_eq!(read(example).unwrap(), Operator::default());
        // Prose begins with `# `, what could be in force with `#` alone.
        let uncommented = |line: &'static str| line.strip_prefix('#').filter(|rest| !rest.starts_with(' '));
        let in_force: Vec<_> = example.lines().map(|line| uncommented(line).unwrap_or(line)).collect();
        let in_force = in_force.join("\n");
        let all = read(&in_force).unwrap();
        assert_eq!(all.channels.len(), 9, "{:?}", all.channels.keys());
        assert_eq!((all.models.len(), all.commands.len(), all.servers.len()), (2, 1, 1));
    }

    #[test]
    fn a_mistake_in_the_file_never_quotes_it() {
        let mistakes = read("[channels.a]\nkind = \"slack\"\nurl = \"hunter2\n").unwrap_err();
        assert!(mistakes[0].contains("line 3") && !mistakes[0].contains("hunter2"), "{mistakes:?}");
    }
}
