//! The record locator's database, read behind the gateway's back.

use std::path::PathBuf;

use anyhow::{Context, Result};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, TransactionBehavior};
use serde_json::Value;

/// A database that the record locator writes.
#[derive(Clone, Debug)]
pub struct Database {
    path: PathBuf,
}

/// A pointer as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Its logical id.
    pub id: String,
    /// Its version, from 1.
    pub version: i64,
    /// `current`, `superseded` or `entered-in-error`.
    pub status: String,
    /// Whether it was deleted.
    pub deleted: bool,
    /// The ODS code of its owner.
    pub custodian: String,
    /// The resource.
    pub body: Value,
}

impl Database {
    /// The database in this file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// A pointer by its logical id, also if it was deleted.
    ///
    /// # Errors
    /// The database can't be read.
    pub fn pointer(&self, id: &str) -> Result<Option<Stored>> {
        let connection = self.open()?;
        let row = connection
            .query_row(
                "SELECT id, version, status, deleted, custodian, body FROM pointer WHERE id = ?1",
                [id],
                stored,
            )
            .optional()?;
        row.transpose()
    }

    /// All pointers, deleted ones too, in the order of their ids: what a refused request must not have changed.
    ///
    /// # Errors
    /// The database can't be read.
    pub fn pointers(&self) -> Result<Vec<Stored>> {
        let connection = self.open()?;
        let mut statement = connection
            .prepare("SELECT id, version, status, deleted, custodian, body FROM pointer ORDER BY id")?;
        statement.query_map([], stored)?.map(|row| row?).collect()
    }

    /// Changes a pointer's version behind everybody's back, after something was done while nobody could write: what reads
    /// before the change and writes after it has a version that is no longer the newest.
    ///
    /// # Errors
    /// The database can't be written, or what was to be done failed.
    pub fn overtake<T>(&self, id: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut connection = self.open()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = act()?;
        transaction.execute("UPDATE pointer SET version = version + 1 WHERE id = ?1", [id])?;
        transaction.commit()?;
        Ok(done)
    }

    fn open(&self) -> Result<Connection> {
        Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .with_context(|| format!("can't open {}", self.path.display()))
    }
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Result<Stored>> {
    let body: String = row.get(5)?;
    let (id, version, status) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let (deleted, custodian) = (row.get(3)?, row.get(4)?);
    Ok(serde_json::from_str(&body)
        .context("a stored pointer is not JSON")
        .map(|body| Stored {
            id,
            version,
            status,
            deleted,
            custodian,
            body,
        }))
}
