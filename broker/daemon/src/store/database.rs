//! Events, the last event and last-seen data as rows.

use std::path::Path;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};
use signet_identity::{CertificateId, ThingName};
use signet_registry::audit::{AuditRow, Broken, Hash, Head, Verifier, Why};
use signet_registry::{Change, Event, Limits, Registry, Seen, TlsVersion, Wall};

use super::StoreError;
use super::schema;

/// An event with what it can be found by.
#[derive(Debug)]
pub(super) struct NewRow {
    pub(super) row: AuditRow,
    pub(super) at: Wall,
    pub(super) kind: &'static str,
    pub(super) name: Option<ThingName>,
    pub(super) certificate: Option<CertificateId>,
}

impl NewRow {
    /// The row of `event`, which follows `head`. `after` is the registry with the event applied.
    pub(super) fn new(head: &Head, event: &Event, after: &Registry) -> Self {
        let (name, certificate) = found_by(&event.change);
        let holder = || after.certificate(&certificate?)?.holder.as_ref().map(|holder| holder.name.clone());
        Self {
            row: head.next(event),
            at: event.at,
            kind: event.change.metric_label(),
            name: name.cloned().or_else(holder),
            certificate,
        }
    }
}

/// The name and the certificate that a change is about.
fn found_by(change: &Change) -> (Option<&ThingName>, Option<CertificateId>) {
    match change {
        Change::ThingAdded { thing } | Change::ThingChanged { thing, .. } => (Some(&thing.name), None),
        Change::ThingDeleted { thing }
        | Change::ThingApproved { thing, .. }
        | Change::ThingQuarantined { thing, .. }
        | Change::ThingReleased { thing } => (Some(thing), None),
        Change::CertificateAdded { facts, holder, .. } => {
            (holder.as_ref().map(|holder| &holder.name), Some(facts.id))
        }
        Change::CertificateBound { certificate, holder } => (Some(&holder.name), Some(*certificate)),
        Change::CertificateDeleted { certificate, holder, .. } => {
            (holder.as_ref().map(|holder| &holder.name), Some(*certificate))
        }
        Change::CertificateActivated { certificate, .. }
        | Change::CertificateSuspended { certificate, .. }
        | Change::CertificateRevoked { certificate, .. }
        | Change::TokenUsed { certificate, .. } => (None, Some(*certificate)),
        Change::RotationStarted { new, .. } | Change::RotationCompleted { new, .. } => (None, Some(*new)),
        Change::ClaimAdded { claim } | Change::ClaimChanged { claim } => (Some(&claim.name), None),
        Change::ClaimSuspended { claim, .. } | Change::ClaimSerialsAdded { claim, .. } => (Some(claim), None),
        Change::ClaimUsed { thing, .. } | Change::CaUsed { thing, .. } => (Some(thing), None),
        Change::ApprovalAsked { request, .. } => (Some(&request.device), None),
        Change::ApprovalDecided { device, .. } | Change::ApprovalEnded { device, .. } => (Some(device), None),
        Change::TokenAdded { token } => (Some(&token.thing.name), None),
        _ => (None, None),
    }
}

/// What the writer keeps open.
#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
}

impl Database {
    pub(super) const fn new(connection: Connection) -> Self {
        Self { connection }
    }

    /// Stores events, forgets what was seen of deleted certificates, and is on disk when it returns; or nothing is stored.
    pub(super) fn append(&mut self, rows: &[NewRow], deleted: &[CertificateId]) -> rusqlite::Result<()> {
        let Some(last) = rows.last() else { return Ok(()) };
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO event (seq, event, previous, hash, at, kind, name, certificate) VALUES (?,?,?,?,?,?,?,?)",
            )?;
            for new in rows {
                let row = &new.row;
                insert.execute(params![
                    number(row.seq),
                    row.event,
                    row.previous.as_bytes(),
                    row.hash.as_bytes(),
                    number(new.at.0),
                    new.kind,
                    new.name.as_deref(),
                    new.certificate.as_ref().map(CertificateId::as_bytes),
                ])?;
            }
            let mut forget = transaction.prepare_cached("DELETE FROM seen WHERE certificate = ?")?;
            for id in deleted {
                forget.execute([id.as_bytes()])?;
            }
            let mut head = transaction.prepare_cached(
                "INSERT INTO head (one, seq, hash) VALUES (1, ?, ?)
                 ON CONFLICT (one) DO UPDATE SET seq = excluded.seq, hash = excluded.hash",
            )?;
            head.execute(params![number(last.row.seq), last.row.hash.as_bytes()])?;
        }
        transaction.commit()
    }

    /// Stores what was seen of certificates.
    pub(super) fn store_seen(&mut self, entries: &[(CertificateId, Seen)]) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut upsert = transaction.prepare_cached(
                "INSERT INTO seen (certificate, first, last, address, tls, connects) VALUES (?,?,?,?,?,?)
                 ON CONFLICT (certificate) DO UPDATE SET first = excluded.first, last = excluded.last,
                 address = excluded.address, tls = excluded.tls, connects = excluded.connects",
            )?;
            for (id, seen) in entries {
                upsert.execute(params![
                    id.as_bytes(),
                    number(seen.first.0),
                    number(seen.last.0),
                    seen.address.to_string(),
                    seen.tls.as_str(),
                    number(seen.connects),
                ])?;
            }
        }
        transaction.commit()
    }

    /// Moves the write-ahead log into the database, as far as readers allow.
    pub(super) fn checkpoint(&self) -> rusqlite::Result<()> {
        self.connection.pragma_query(None, "wal_checkpoint", |_| Ok(()))
    }

    #[cfg(test)]
    pub(super) const fn connection(&self) -> &Connection {
        &self.connection
    }
}

/// SQLite's integers have a sign. Numbers beyond it, which count events or milliseconds, do not occur.
pub(super) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    u64::try_from(row.get::<_, i64>(column)?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Integer, error.into()))
}

/// Columns `seq, event, previous, hash`.
pub(super) fn audit_row(row: &Row<'_>) -> rusqlite::Result<AuditRow> {
    Ok(AuditRow {
        seq: unsigned(row, 0)?,
        event: row.get(1)?,
        previous: Hash::from_bytes(row.get(2)?),
        hash: Hash::from_bytes(row.get(3)?),
    })
}

/// The last event, as the database says.
fn stored_head(connection: &Connection) -> rusqlite::Result<Head> {
    let head = connection
        .query_row("SELECT seq, hash FROM head", [], |row| {
            Ok(Head { seq: unsigned(row, 0)?, hash: Hash::from_bytes(row.get(1)?) })
        })
        .optional()?;
    Ok(head.unwrap_or(Head::EMPTY))
}

/// Goes through the whole trail in its order, and verifies that it is the one that was recorded: every row follows from the one
/// before, the last one is the last one that was stored, and the rows in `known` are in it.
pub(super) fn walk(
    connection: &Connection,
    path: &Path,
    known: &[Head],
    mut each: impl FnMut(&AuditRow) -> Result<(), StoreError>,
) -> Result<Head, StoreError> {
    let reading = |error: rusqlite::Error| StoreError::reading(path, &error);
    let broken = |broken| StoreError::Audit { path: path.to_owned(), broken };
    // One transaction, so that the rows and the last event belong together while the broker goes on writing.
    let transaction = connection.unchecked_transaction().map_err(reading)?;
    let last = stored_head(&transaction).map_err(reading)?;
    let mut verifier = Verifier::new(Head::EMPTY, Some(last));
    let mut statement =
        transaction.prepare("SELECT seq, event, previous, hash FROM event ORDER BY seq").map_err(reading)?;
    let mut rows = statement.query([]).map_err(reading)?;
    while let Some(row) = rows.next().map_err(reading)? {
        let row = audit_row(row).map_err(reading)?;
        verifier.push(&row).map_err(broken)?;
        if known.iter().any(|known| known.seq == row.seq && known.hash != row.hash) {
            return Err(broken(Broken { seq: row.seq, why: Why::Rewritten }));
        }
        each(&row)?;
    }
    let head = verifier.finish().map_err(broken)?;
    if head.seq > last.seq {
        return Err(broken(Broken { seq: last.seq.saturating_add(1), why: Why::Edited }));
    }
    match known.iter().find(|known| known.seq > head.seq) {
        Some(known) => Err(StoreError::OlderCopy { path: path.to_owned(), found: head.seq, known: *known }),
        None => Ok(head),
    }
}

/// The registry that the events make. `known` is a row that must be among them.
pub(super) fn load(
    connection: &Connection,
    path: &Path,
    limits: Limits,
    known: Option<Head>,
) -> Result<(Registry, Head), StoreError> {
    let mut registry = Registry::new(limits);
    let head = walk(connection, path, known.as_slice(), |row| {
        let event = row.decode().map_err(|error| StoreError::Corrupt {
            path: path.to_owned(),
            what: format!("event {}: {error}", row.seq),
        })?;
        registry.apply(&event);
        Ok(())
    })?;
    Ok((registry, head))
}

/// Verifies the audit trail in a database file of which no broker may be running. `known` is a row that must be in it.
///
/// # Errors
/// [`StoreError::Audit`] with the first row that is not right, and whatever keeps the file from being read.
pub fn verify_file(path: &Path, known: Option<Head>) -> Result<Head, StoreError> {
    let connection = schema::open_to_read(path)?;
    schema::check(&connection, path)?;
    walk(&connection, path, known.as_slice(), |_| Ok(()))
}

/// The registry in the folder `directory`, for looking at it only. A broker that runs has a newer one in memory.
///
/// # Errors
/// [`StoreError::Audit`] with the first row that is not right, and whatever keeps the file from being read.
pub fn read_registry(directory: &Path) -> Result<Registry, StoreError> {
    let path = super::place::database_in(directory);
    let connection = schema::open_to_read(&path)?;
    schema::check(&connection, &path)?;
    load(&connection, &path, Limits::default(), None).map(|(registry, _)| registry)
}

/// What was seen of certificates. A row that cannot be read is left out: nothing is decided by it.
pub(super) fn load_seen(
    connection: &Connection,
    path: &Path,
) -> Result<Vec<(CertificateId, Seen)>, StoreError> {
    let reading = |error: rusqlite::Error| StoreError::reading(path, &error);
    let mut statement = connection
        .prepare("SELECT certificate, first, last, address, tls, connects FROM seen")
        .map_err(reading)?;
    let rows = statement.query_map([], |row| Ok(seen(row).ok())).map_err(reading)?;
    rows.filter_map(Result::transpose).collect::<Result<_, _>>().map_err(reading)
}

fn seen(row: &Row<'_>) -> rusqlite::Result<(CertificateId, Seen)> {
    let unknown = |column| rusqlite::Error::InvalidColumnType(column, String::new(), Type::Text);
    let tls: String = row.get(4)?;
    let seen = Seen {
        first: Wall(unsigned(row, 1)?),
        last: Wall(unsigned(row, 2)?),
        address: row.get::<_, String>(3)?.parse().map_err(|_| unknown(3))?,
        tls: [TlsVersion::V12, TlsVersion::V13]
            .into_iter()
            .find(|version| version.as_str() == tls)
            .ok_or_else(|| unknown(4))?,
        connects: unsigned(row, 5)?,
    };
    Ok((CertificateId::from_bytes(row.get(0)?), seen))
}
