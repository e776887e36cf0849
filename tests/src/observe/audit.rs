//! The agent's audit log: JSON lines, one for each decision.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{json::at, wait::wait_for};

/// How long a decision may take to reach the log.
const PATIENCE: Duration = Duration::from_secs(3);

/// An audit log that the agent appends to.
#[derive(Clone, Debug)]
pub struct Audit {
    path: PathBuf,
}

impl Audit {
    /// The log in this file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// How many lines there are by now.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn mark(&self) -> Result<usize> {
        Ok(self.lines()?.len())
    }

    /// The entries after a mark, oldest first.
    ///
    /// # Errors
    /// The file can't be read, or a line is not JSON.
    pub fn since(&self, mark: usize) -> Result<Vec<Value>> {
        let lines = self.lines()?;
        let later = lines.iter().skip(mark);
        later
            .map(|line| {
                serde_json::from_str(line)
                    .with_context(|| format!("not JSON in {}: {line:?}", self.path.display()))
            })
            .collect()
    }

    /// Those of them that are of requests.
    ///
    /// # Errors
    /// As [`Self::since`].
    pub fn requests(&self, mark: usize) -> Result<Vec<Value>> {
        let mut entries = self.since(mark)?;
        entries.retain(|entry| *at(entry, "/event") == "request");
        Ok(entries)
    }

    /// Waits for a refusal of a peer after a mark, and gives its reason.
    ///
    /// # Errors
    /// None comes in time.
    pub fn refusal(&self, mark: usize, peer: &str) -> Result<String> {
        wait_for(
            &format!("a refusal of {peer} in {}", self.path.display()),
            PATIENCE,
            || {
                let entries = self.since(mark)?;
                let refusal = entries
                    .iter()
                    .find(|entry| *at(entry, "/peer/ip") == peer && entry.get("reason").is_some());
                Ok(refusal
                    .and_then(|entry| at(entry, "/reason").as_str())
                    .map(str::to_owned))
            },
        )
    }

    fn lines(&self) -> Result<Vec<String>> {
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.with_context(|| format!("can't read {}", self.path.display()))?,
        };
        // The last line may still be being written.
        let whole = text
            .rfind('\n')
            .map_or("", |end| text.get(..end).unwrap_or_default());
        Ok(whole.lines().map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_of_a_peer_is_found_after_the_mark() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::new(folder.path().join("audit.jsonl"));
        assert_eq!(audit.mark().unwrap(), 0);
        fs::write(
            folder.path().join("audit.jsonl"),
            r#"{"reason":"old","peer":{"ip":"10.0.0.1","port":5}}
{"reason":"other","peer":{"ip":"10.0.0.2","port":5}}
{"decision":"allow","peer":{"ip":"fd00::1","port":4}}
{"peer":{"ip":"fd00::1","port":5},"reason":"new"}
{"half"#,
        )
        .unwrap();
        assert_eq!(audit.mark().unwrap(), 4);
        assert_eq!(audit.refusal(0, "10.0.0.1").unwrap(), "old");
        assert_eq!(audit.refusal(1, "fd00::1").unwrap(), "new");
    }
}
