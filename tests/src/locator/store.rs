//! Pointers in SQLite, with their versions and statuses.

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use rusqlite::{
    Connection, ErrorCode, OptionalExtension, Row, Transaction, TransactionBehavior, named_params,
};
use serde_json::{Map, Value, json};

use super::{
    answer::Refusal,
    naming::{Condition, Naming},
    pointer::{Identifier, NewPointer, Target},
    query::{Kind, Selection},
};

/// How long one process waits for another that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A database of pointers. Its tables are a contract: tests look into them while the locator runs.
///
/// `pointer` holds one row for each pointer, in its newest version:
///
/// | column | holds |
/// |---|---|
/// | `id` | logical id |
/// | `version` | `meta.versionId`, from 1 |
/// | `status` | `current`, `superseded` or `entered-in-error` |
/// | `deleted` | 1 after a delete. The row stays, because a master identifier is never used again |
/// | `custodian` | the owner's ODS code |
/// | `nhs_number` | the patient |
/// | `master_system`, `master_value` | `masterIdentifier`, or null; unique for each patient |
/// | `indexed`, `last_updated` | RFC 3339 |
/// | `body` | the rest of the resource, as JSON |
///
/// `pointer_history` holds a row for each change in the order of `sequence`: `id`, `version` and `status` as they are
/// after it, `operation` (`create`, `supersede`, `update` or `delete`) and `at`.
pub struct Store {
    connection: Mutex<Connection>,
}

/// A pointer as the database has it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredPointer {
    /// Logical id.
    pub id: String,
    /// `meta.versionId`
    pub version: i64,
    /// `status`
    pub status: Status,
    /// Whether it was deleted.
    pub deleted: bool,
    /// The owner's ODS code.
    pub custodian: String,
    /// The patient's NHS number.
    pub nhs_number: String,
    /// `masterIdentifier`
    pub master: Option<Identifier>,
    indexed: String,
    last_updated: String,
    body: Map<String, Value>,
}

/// A change of a pointer, with what it made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// `create`, `supersede`, `update` or `delete`.
    pub operation: String,
    /// The version after it.
    pub version: i64,
    /// The status after it.
    pub status: Status,
}

/// The status of a pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// In force.
    Current,
    /// Another pointer took its place.
    Superseded,
    /// Withdrawn by an update.
    EnteredInError,
}

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The request is at fault.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The database is at fault.
    #[error(
        "the pointer database failed; see that it is a database, and that its folder exists, is writable and has space"
    )]
    Database(#[from] rusqlite::Error),
}

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS pointer (
        id            TEXT PRIMARY KEY,
        version       INTEGER NOT NULL CHECK (version >= 1),
        status        TEXT NOT NULL CHECK (status IN ('current', 'superseded', 'entered-in-error')),
        deleted       INTEGER NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1)),
        custodian     TEXT NOT NULL,
        nhs_number    TEXT NOT NULL,
        master_system TEXT,
        master_value  TEXT,
        indexed       TEXT NOT NULL,
        last_updated  TEXT NOT NULL,
        body          TEXT NOT NULL,
        CHECK ((master_system IS NULL) = (master_value IS NULL))
    ) STRICT;
    CREATE UNIQUE INDEX IF NOT EXISTS pointer_master ON pointer (nhs_number, master_system, master_value);
    CREATE TABLE IF NOT EXISTS pointer_history (
        sequence  INTEGER PRIMARY KEY AUTOINCREMENT,
        id        TEXT NOT NULL REFERENCES pointer (id),
        version   INTEGER NOT NULL,
        status    TEXT NOT NULL,
        operation TEXT NOT NULL CHECK (operation IN ('create', 'supersede', 'update', 'delete')),
        at        TEXT NOT NULL
    ) STRICT;
    CREATE INDEX IF NOT EXISTS pointer_history_id ON pointer_history (id);
";

impl Store {
    /// Opens a database, and makes its tables where they are missing. Several processes may have it open.
    ///
    /// # Errors
    /// If the file can't be opened or is no database.
    pub fn open(file: &Path) -> Result<Self, StoreError> {
        let connection = Connection::open(file)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        write_ahead(&connection)?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self {
            connection: Mutex::new(connection),
        })
    }

    /// Stores a new pointer as version 1, and with it supersedes the one that it replaces, or does neither.
    /// Gives the new id.
    ///
    /// The target's patient and custodian are not compared with the new pointer's: that is the gateway's business.
    ///
    /// # Errors
    /// If the master identifier was used before, or the target is missing or not current.
    pub fn create(&self, new: &NewPointer, now: SystemTime) -> Result<String, StoreError> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let at = timestamp(now);
        if let Some(target) = &new.replaces {
            let old = resolve(&transaction, target, new.nhs_number.as_str())?;
            change(&transaction, &old, Status::Superseded, "supersede", &at)?;
        }
        let id = insert(&transaction, new, &at)?;
        record(&transaction, &id, "create", &at)?;
        transaction.commit()?;
        Ok(id)
    }

    /// Sets a current pointer to `entered-in-error`, as its next version. Gives its id.
    ///
    /// # Errors
    /// If it does not exist, is not current or of another version.
    pub fn withdraw(
        &self,
        naming: &Naming,
        condition: &Condition,
        now: SystemTime,
    ) -> Result<String, StoreError> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let old = named(&transaction, naming, condition)?;
        change(
            &transaction,
            &old,
            Status::EnteredInError,
            "update",
            &timestamp(now),
        )?;
        transaction.commit()?;
        Ok(old.id)
    }

    /// Deletes a current pointer: it is found by nobody any more, but its row stays. Gives its id.
    ///
    /// # Errors
    /// If it does not exist, is not current or of another version.
    pub fn delete(
        &self,
        naming: &Naming,
        condition: &Condition,
        now: SystemTime,
    ) -> Result<String, StoreError> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let old = named(&transaction, naming, condition)?;
        transaction.execute("UPDATE pointer SET deleted = 1 WHERE id = ?1", [&old.id])?;
        record(&transaction, &old.id, "delete", &timestamp(now))?;
        transaction.commit()?;
        Ok(old.id)
    }

    /// A current pointer.
    ///
    /// # Errors
    /// If it does not exist or is not current.
    pub fn read(&self, id: &str) -> Result<StoredPointer, StoreError> {
        current(&self.lock(), id)
    }

    /// The current pointers of a selection, oldest first.
    pub(super) fn search(&self, selection: &Selection) -> Result<Vec<StoredPointer>, StoreError> {
        let (id, nhs_number, custodian, kind) = match selection {
            Selection::Id(id) => (Some(id.as_str()), None, None, None),
            Selection::Patient {
                nhs_number,
                custodian,
                kind,
            } => (
                None,
                Some(nhs_number.as_str()),
                custodian.as_deref(),
                kind.as_ref(),
            ),
        };
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT * FROM pointer WHERE deleted = 0 AND status = 'current'
                AND (:id IS NULL OR id = :id)
                AND (:nhs_number IS NULL OR nhs_number = :nhs_number)
                AND (:custodian IS NULL OR custodian = :custodian)
             ORDER BY indexed, rowid",
        )?;
        let found = statement
            .query_map(
                named_params! { ":id": id, ":nhs_number": nhs_number, ":custodian": custodian },
                StoredPointer::from_row,
            )?
            .collect::<Result<Vec<_>, _>>()?;
        Ok(found
            .into_iter()
            .filter(|pointer| kind.is_none_or(|kind| pointer.is_of(kind)))
            .collect())
    }

    /// A pointer in any state, also a deleted one: for tests, since no interaction gives this.
    ///
    /// # Errors
    /// If the database fails.
    pub fn stored(&self, id: &str) -> Result<Option<StoredPointer>, StoreError> {
        find(&self.lock(), id)
    }

    /// What happened to a pointer, in order.
    ///
    /// # Errors
    /// If the database fails.
    pub fn history(&self, id: &str) -> Result<Vec<Change>, StoreError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT operation, version, status FROM pointer_history WHERE id = ?1 ORDER BY sequence",
        )?;
        let changes = statement.query_map([id], |row| {
            Ok(Change {
                operation: row.get("operation")?,
                version: row.get("version")?,
                status: Status::from_row(row)?,
            })
        })?;
        Ok(changes.collect::<Result<_, _>>()?)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A thread that panicked left at most a transaction behind, and dropping that rolled it back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn find(connection: &Connection, id: &str) -> Result<Option<StoredPointer>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT * FROM pointer WHERE id = ?1")?;
    Ok(statement.query_row([id], StoredPointer::from_row).optional()?)
}

fn current(connection: &Connection, id: &str) -> Result<StoredPointer, StoreError> {
    match find(connection, id)? {
        Some(pointer) if pointer.deleted => Err(Refusal::NoRecordFound(id.to_owned()).into()),
        Some(pointer) if pointer.status != Status::Current => Err(Refusal::NotCurrent.into()),
        Some(pointer) => Ok(pointer),
        None => Err(Refusal::NoRecordFound(id.to_owned()).into()),
    }
}

/// The current pointer that a request names, in a version that it takes.
fn named(
    connection: &Connection,
    naming: &Naming,
    condition: &Condition,
) -> Result<StoredPointer, StoreError> {
    let pointer = match naming {
        Naming::Id(id) => current(connection, id)?,
        Naming::Identifier(nhs_number, identifier) => {
            match by_identifier(connection, nhs_number.as_str(), identifier)? {
                Some(found) => current(connection, &found.id)?,
                None => return Err(Refusal::NoRecordFound(identifier.value.clone()).into()),
            }
        }
    };
    if !condition.takes(pointer.version) {
        return Err(Refusal::OtherVersion.into());
    }
    Ok(pointer)
}

fn by_identifier(
    connection: &Connection,
    nhs_number: &str,
    Identifier { system, value }: &Identifier,
) -> Result<Option<StoredPointer>, StoreError> {
    Ok(connection
        .prepare_cached(
            "SELECT * FROM pointer WHERE nhs_number = ?1 AND master_system = ?2 AND master_value = ?3",
        )?
        .query_row([nhs_number, system, value], StoredPointer::from_row)
        .optional()?)
}

fn resolve(connection: &Connection, target: &Target, nhs_number: &str) -> Result<StoredPointer, StoreError> {
    let refuse = |why| Refusal::resource("relatesTo.target", why);
    let found = match target {
        Target::Reference(id) | Target::Both(id, _) => find(connection, id)?,
        Target::Identifier(identifier) => by_identifier(connection, nhs_number, identifier)?,
    };
    let Some(pointer) = found.filter(|pointer| !pointer.deleted) else {
        return Err(refuse("Referenced DocumentReference does not exist.").into());
    };
    if let Target::Both(_, identifier) = target
        && pointer.master.as_ref() != Some(identifier)
    {
        return Err(refuse(
            "The identifier is not the masterIdentifier of the referenced DocumentReference.",
        )
        .into());
    }
    if pointer.status != Status::Current {
        return Err(Refusal::NotCurrent.into());
    }
    Ok(pointer)
}

/// Write-ahead logging lets a test read while the locator writes. Of two processes that switch a new database to it at
/// once, SQLite tells one that it is busy without waiting (it could be a deadlock), so the waiting is done here.
fn write_ahead(connection: &Connection) -> Result<(), StoreError> {
    let deadline = Instant::now() + BUSY_TIMEOUT;
    loop {
        match connection.pragma_update(None, "journal_mode", "wal") {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            switched => return Ok(switched?),
        }
    }
}

fn insert(transaction: &Transaction<'_>, new: &NewPointer, at: &str) -> Result<String, StoreError> {
    let id = new_id();
    let inserted = transaction
        .prepare_cached(
            "INSERT INTO pointer (id, version, status, custodian, nhs_number, master_system, master_value,
                indexed, last_updated, body)
             VALUES (:id, 1, 'current', :custodian, :nhs_number, :master_system, :master_value, :at, :at, :body)",
        )?
        .execute(named_params! {
            ":id": id,
            ":custodian": new.custodian,
            ":nhs_number": new.nhs_number.as_str(),
            ":master_system": new.master.as_ref().map(|master| &master.system),
            ":master_value": new.master.as_ref().map(|master| &master.value),
            ":at": at,
            ":body": Value::Object(new.body.clone()).to_string(),
        });
    match (inserted, &new.master) {
        (Ok(_), _) => Ok(id),
        (Err(error), Some(Identifier { system, value }))
            if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) =>
        {
            Err(Refusal::Duplicate {
                system: system.clone(),
                value: value.clone(),
            }
            .into())
        }
        (Err(error), _) => Err(error.into()),
    }
}

fn change(
    transaction: &Transaction<'_>,
    pointer: &StoredPointer,
    status: Status,
    operation: &str,
    at: &str,
) -> Result<(), StoreError> {
    transaction.execute(
        "UPDATE pointer SET status = ?2, version = version + 1, last_updated = ?3 WHERE id = ?1",
        [&pointer.id, status.as_str(), at],
    )?;
    record(transaction, &pointer.id, operation, at)
}

fn record(transaction: &Transaction<'_>, id: &str, operation: &str, at: &str) -> Result<(), StoreError> {
    transaction.execute(
        "INSERT INTO pointer_history (id, version, status, operation, at)
         SELECT id, version, status, ?2, ?3 FROM pointer WHERE id = ?1",
        [id, operation, at],
    )?;
    Ok(())
}

/// A UUID, a hyphen and twenty characters, as the logical ids in the NRL's examples are.
fn new_id() -> String {
    let mut suffix = uuid::Uuid::new_v4().simple().to_string();
    suffix.truncate(20);
    format!("{}-{suffix}", uuid::Uuid::new_v4())
}

fn timestamp(now: SystemTime) -> String {
    humantime::format_rfc3339_millis(now).to_string()
}

impl StoredPointer {
    /// The whole resource, with what the locator sets.
    #[must_use]
    pub fn resource(&self) -> Value {
        let mut resource = self.body.clone();
        resource.insert("id".to_owned(), json!(self.id));
        resource.insert("status".to_owned(), json!(self.status.as_str()));
        resource.insert("indexed".to_owned(), json!(self.indexed));
        let mut meta = match resource.remove("meta") {
            Some(Value::Object(meta)) => meta,
            _ => Map::new(),
        };
        meta.insert("versionId".to_owned(), json!(self.version.to_string()));
        meta.insert("lastUpdated".to_owned(), json!(self.last_updated));
        resource.insert("meta".to_owned(), Value::Object(meta));
        Value::Object(resource)
    }

    fn is_of(&self, kind: &Kind) -> bool {
        let codings = self
            .body
            .get("type")
            .and_then(|kind| kind.get("coding"))
            .and_then(Value::as_array);
        codings.into_iter().flatten().any(|coding| {
            coding.get("code").and_then(Value::as_str) == Some(&kind.code)
                && kind
                    .system
                    .as_deref()
                    .is_none_or(|system| coding.get("system") == Some(&json!(system)))
        })
    }

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let system: Option<String> = row.get("master_system")?;
        let value: Option<String> = row.get("master_value")?;
        let body: String = row.get("body")?;
        Ok(Self {
            id: row.get("id")?,
            version: row.get("version")?,
            status: Status::from_row(row)?,
            deleted: row.get("deleted")?,
            custodian: row.get("custodian")?,
            nhs_number: row.get("nhs_number")?,
            master: system
                .zip(value)
                .map(|(system, value)| Identifier { system, value }),
            indexed: row.get("indexed")?,
            last_updated: row.get("last_updated")?,
            body: serde_json::from_str(&body).map_err(|fault| unreadable(row, "body", fault))?,
        })
    }
}

impl Status {
    /// As it stands in the resource and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Superseded => "superseded",
            Self::EnteredInError => "entered-in-error",
        }
    }

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let text: String = row.get("status")?;
        [Self::Current, Self::Superseded, Self::EnteredInError]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| unreadable(row, "status", format!("{text:?} is no status of a pointer")))
    }
}

/// A value that only another program can have written.
fn unreadable(
    row: &Row<'_>,
    column: &str,
    fault: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> rusqlite::Error {
    let index = row.as_ref().column_index(column).unwrap_or_default();
    rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, fault.into())
}
