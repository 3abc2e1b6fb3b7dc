//! What is read from the database beside the writer: the audit trail, and the bytes of certificates.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};
use signet_identity::CertificateId;
use signet_registry::audit::{AuditRow, Head};
use signet_registry::{Change, DecodeError, Event};

use super::database::{audit_row, number, walk};
use super::schema;
use super::{RegistryService, StoreError};

/// The most rows of one [`AuditQuery`].
pub const AUDIT_ROWS_MAX: u32 = 10_000;

/// Which rows of the audit trail. Those given must all hold.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// Rows with a higher number only.
    pub after: Option<u64>,
    /// Rows about this name.
    pub name: Option<String>,
    /// Rows about this certificate.
    pub certificate: Option<CertificateId>,
    /// Rows of this kind: a [`Change::metric_label`].
    pub kind: Option<String>,
    /// The newest rows when false: the trail's end. With true the oldest that fit.
    pub oldest_first: bool,
    /// At most so many; no more than 10 000.
    pub at_most: u32,
}

/// A row and what it says.
#[derive(Debug)]
pub struct Recorded {
    /// The row.
    pub row: AuditRow,
    /// Its event; an error when the text was damaged.
    pub event: Result<Event, DecodeError>,
}

impl RegistryService {
    /// Rows of the audit trail, in their order. What was recorded or noted before the call is among them, unless the disk is so
    /// slow that the writer does not come to it. It reads from disk: not for threads that carry traffic.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be read.
    pub fn audit(&self, query: &AuditQuery) -> Result<Vec<Recorded>, StoreError> {
        self.settle();
        let path = self.database_path();
        let connection = schema::open_to_read(&path)?;
        select(&connection, query).map_err(|error| StoreError::reading(&path, &error))
    }

    /// Verifies the whole audit trail: that each row is the one that was recorded, up to the last one that this process
    /// stored. `known` is a row that is known from elsewhere. It reads from disk: not for threads that carry traffic.
    ///
    /// # Errors
    /// [`StoreError::Audit`] with the first row that is not right, [`StoreError::OlderCopy`] when the end is missing.
    pub fn verify_audit(&self, known: Option<Head>) -> Result<Head, StoreError> {
        let path = self.database_path();
        // Before the rows are read: what is stored meanwhile is no contradiction.
        let known: Vec<Head> = known.into_iter().chain([self.head()]).collect();
        let connection = schema::open_to_read(&path)?;
        schema::check(&connection, &path)?;
        walk(&connection, &path, &known, |_| Ok(()))
    }

    /// The bytes of a certificate that this broker issued, or that waits to be activated. It reads from disk: not for
    /// threads that carry traffic.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be read.
    pub fn certificate_der(&self, id: &CertificateId) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.database_path();
        let connection = schema::open_to_read(&path)?;
        certificate_der(&connection, &path, id)
    }
}

fn certificate_der(
    connection: &Connection,
    path: &Path,
    id: &CertificateId,
) -> Result<Option<Vec<u8>>, StoreError> {
    let row = connection
        .query_row(
            "SELECT seq, event, previous, hash FROM event
             WHERE certificate = ? AND kind = 'certificate_added' ORDER BY seq DESC LIMIT 1",
            [id.as_bytes()],
            audit_row,
        )
        .optional()
        .map_err(|error| StoreError::reading(path, &error))?;
    let Some(row) = row else { return Ok(None) };
    match row.decode() {
        Ok(Event { change: Change::CertificateAdded { der: Some(der), .. }, .. }) => {
            Ok(Some(der.as_bytes().to_vec()))
        }
        Ok(_) => Ok(None),
        Err(error) => {
            Err(StoreError::Corrupt { path: path.to_owned(), what: format!("event {}: {error}", row.seq) })
        }
    }
}

fn select(connection: &Connection, query: &AuditQuery) -> rusqlite::Result<Vec<Recorded>> {
    let order = if query.oldest_first { "ASC" } else { "DESC" };
    let mut statement = connection.prepare(&format!(
        "SELECT seq, event, previous, hash FROM event
         WHERE seq > ?1 AND (?2 IS NULL OR name = ?2) AND (?3 IS NULL OR certificate = ?3) AND (?4 IS NULL OR kind = ?4)
         ORDER BY seq {order} LIMIT ?5"
    ))?;
    let rows = statement.query_map(
        params![
            number(query.after.unwrap_or(0)),
            query.name,
            query.certificate.as_ref().map(CertificateId::as_bytes),
            query.kind,
            query.at_most.min(AUDIT_ROWS_MAX),
        ],
        |row| {
            let row = audit_row(row)?;
            let event = row.decode();
            Ok(Recorded { row, event })
        },
    )?;
    let mut rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    if !query.oldest_first {
        rows.reverse();
    }
    Ok(rows)
}
