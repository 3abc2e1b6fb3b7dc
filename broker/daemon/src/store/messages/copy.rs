//! Copies of sessions and messages: while they are in use, whole, and verified before they count.
//!
//! A copy is one file: a line that says what it is, every row (length of the key in two bytes, length of the value in four,
//! key, value), a key of length 0, the number of rows in eight bytes, and the SHA-256 of all before it.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use signet_core::Now;

use super::MessagesError;
use super::disk::Staged;
use super::key::Key;
use super::place::Place;
use super::row::{Decoder, Row};
use super::store::{Batch, EachRow, Snapshot};

/// What a copy begins with.
const HEAD: &[u8] = b"signet messages 1\n";
/// The longest key in a copy, in bytes.
const KEY_BYTES_MAX: usize = 4096;
/// The longest value in a copy, in bytes: more than the largest packet.
const VALUE_BYTES_MAX: usize = 512 << 20;
/// Rows are put back in batches of so many bytes.
const BATCH_BYTES: usize = 4 << 20;

/// A copy that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedMessages {
    /// Where.
    pub path: PathBuf,
    /// Its rows.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
}

/// A copy that was put in place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoredMessages {
    /// Its rows.
    pub rows: u64,
    /// Its sessions.
    pub sessions: u64,
    /// Its retained messages.
    pub retained: u64,
    /// Where the store that was there is now.
    pub replaced: Option<PathBuf>,
}

/// Writes all rows of a moment to the file `to`, which must not exist, of mode 0600. It is on disk when this returns.
///
/// # Errors
/// [`MessagesError`]; then there is no file at `to`.
pub fn write_copy(snapshot: &dyn Snapshot, to: &Path) -> Result<CopiedMessages, MessagesError> {
    if to.exists() {
        return Err(MessagesError::Exists(to.to_owned()));
    }
    let mut part = to.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let copied = fill(snapshot, &part).and_then(|(rows, bytes)| {
        // A link fails when the name was taken meanwhile, where a rename would overwrite.
        std::fs::hard_link(&part, to).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => MessagesError::Exists(to.to_owned()),
            _ => MessagesError::io(to, error),
        })?;
        Ok(CopiedMessages { path: to.to_owned(), rows, bytes })
    });
    if !matches!(&copied, Err(MessagesError::Exists(path)) if *path == part) {
        std::fs::remove_file(&part).map_err(|error| MessagesError::io(&part, error))?;
    }
    let copied = copied?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| MessagesError::io(folder, error))?;
    Ok(copied)
}

fn fill(snapshot: &dyn Snapshot, part: &Path) -> Result<(u64, u64), MessagesError> {
    let fail = |error: std::io::Error| match error.kind() {
        ErrorKind::AlreadyExists => MessagesError::Exists(part.to_owned()),
        _ => MessagesError::io(part, error),
    };
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(part).map_err(fail)?;
    let mut out = Hashed { inner: BufWriter::new(file), hash: Context::new(&SHA256), bytes: 0 };
    out.write_all(HEAD).map_err(fail)?;
    let mut rows = 0_u64;
    snapshot.for_each(&mut |key, value| {
        // How often the store was written is its own affair.
        if matches!(Key::decode(key), Ok(Key::Commit)) {
            return Ok(());
        }
        let (Ok(key_len), Ok(value_len)) = (u16::try_from(key.len()), u32::try_from(value.len())) else {
            return Err(MessagesError::corrupt(part, "a row is longer than rows are"));
        };
        rows += 1;
        let all = [&key_len.to_be_bytes()[..], &value_len.to_be_bytes(), key, value];
        all.into_iter().try_for_each(|bytes| out.write_all(bytes)).map_err(fail)
    })?;
    out.write_all(&[0; 6]).and_then(|()| out.write_all(&rows.to_be_bytes())).map_err(fail)?;
    let Hashed { mut inner, hash, bytes } = out;
    let hash = hash.finish();
    inner.write_all(hash.as_ref()).map_err(fail)?;
    let file = inner.into_inner().map_err(|error| fail(error.into_error()))?;
    file.sync_all().map_err(fail)?;
    Ok((rows, bytes + hash.as_ref().len() as u64))
}

/// Puts the copy `from` in place of the store in `directory`, of which no broker may be running. What is there is moved
/// aside, and only with `replace`. `table_bytes` as in [`super::DiskStore::open_bounded`].
///
/// # Errors
/// [`MessagesError`]. When the copy is no good, nothing has changed; a power cut leaves the old store, or none that a broker
/// would start with, or the whole new one.
pub fn restore_copy(
    from: &Path,
    directory: &Path,
    replace: bool,
    table_bytes: usize,
) -> Result<RestoredMessages, MessagesError> {
    verify_copy(from)?;
    let place = Place::take(directory)?;
    if !replace && place.rows().exists() {
        return Err(MessagesError::Exists(place.rows()));
    }
    let mut staged = Staged::new(&place, table_bytes)?;
    let mut batch = Batch::default();
    read_copy(from, &mut |key, value| {
        if matches!(Key::decode(key), Ok(Key::Schema)) {
            return Ok(());
        }
        batch.put(key.to_vec(), value.to_vec());
        if batch.bytes() >= BATCH_BYTES {
            staged.write(&std::mem::take(&mut batch))?;
        }
        Ok(())
    })?;
    staged.write(&batch)?;
    let mut restored = verify_copy(from)?;
    restored.replaced = staged.put_in_place()?;
    Ok(restored)
}

/// Reads a whole copy and every row in it.
///
/// # Errors
/// [`MessagesError::NotABackup`] for anything but a whole copy that this program can read.
pub fn verify_copy(from: &Path) -> Result<RestoredMessages, MessagesError> {
    let mut found = RestoredMessages::default();
    let mut decoder = Decoder::new(Now::default());
    found.rows = read_copy(from, &mut |key, value| {
        let row = decoder
            .row(key, value)
            .map_err(|error| not_whole(from, format!("a row cannot be read: {error}")))?;
        match row {
            Row::Schema(schema) if schema > super::SCHEMA => {
                return Err(MessagesError::Newer {
                    path: from.to_owned(),
                    found: schema,
                    supported: super::SCHEMA,
                });
            }
            Row::Session(..) => found.sessions += 1,
            Row::Retained(_) => found.retained += 1,
            _ => {}
        }
        Ok(())
    })?;
    Ok(found)
}

fn not_whole(path: &Path, what: impl Into<String>) -> MessagesError {
    MessagesError::NotABackup { path: path.to_owned(), what: what.into() }
}

/// Calls `each` with every row, and then says whether the copy is whole: how many rows it has.
fn read_copy(from: &Path, each: &mut EachRow<'_>) -> Result<u64, MessagesError> {
    let file = File::open(from).map_err(|error| MessagesError::io(from, error))?;
    let mut input = Hashed { inner: BufReader::new(file), hash: Context::new(&SHA256), bytes: 0 };
    let fail = |error: std::io::Error| match error.kind() {
        ErrorKind::UnexpectedEof => not_whole(from, "it ends too early"),
        _ => MessagesError::io(from, error),
    };
    let mut head = [0; HEAD.len()];
    input.read_exact(&mut head).map_err(fail)?;
    if head != HEAD {
        return Err(not_whole(from, "it does not begin as one"));
    }
    let mut rows = 0;
    let (mut key, mut value) = (Vec::new(), Vec::new());
    loop {
        let (mut key_len, mut value_len) = ([0; 2], [0; 4]);
        input.read_exact(&mut key_len).and_then(|()| input.read_exact(&mut value_len)).map_err(fail)?;
        let key_len = usize::from(u16::from_be_bytes(key_len));
        let value_len = usize::try_from(u32::from_be_bytes(value_len)).unwrap_or(usize::MAX);
        if key_len == 0 {
            break;
        }
        if key_len > KEY_BYTES_MAX || value_len > VALUE_BYTES_MAX {
            return Err(not_whole(from, "a row is longer than rows are"));
        }
        input
            .take_into(&mut key, key_len)
            .and_then(|()| input.take_into(&mut value, value_len))
            .map_err(fail)?;
        each(&key, &value)?;
        rows += 1;
    }
    let mut said = [0; 8];
    input.read_exact(&mut said).map_err(fail)?;
    let Hashed { mut inner, hash, .. } = input;
    let mut expected = [0; 32];
    inner.read_exact(&mut expected).map_err(fail)?;
    if hash.finish().as_ref() != expected || u64::from_be_bytes(said) != rows {
        return Err(not_whole(from, "its content is not what was written"));
    }
    Ok(rows)
}

/// Hashes what passes.
struct Hashed<T> {
    inner: T,
    hash: Context,
    bytes: u64,
}

impl<W: Write> Hashed<W> {
    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.inner.write_all(bytes)
    }
}

impl<R: Read> Hashed<R> {
    fn read_exact(&mut self, to: &mut [u8]) -> std::io::Result<()> {
        self.inner.read_exact(to)?;
        self.hash.update(to);
        Ok(())
    }

    /// Room is made for what is there, not for what a length says.
    fn take_into(&mut self, to: &mut Vec<u8>, len: usize) -> std::io::Result<()> {
        to.clear();
        let read = self.inner.by_ref().take(len as u64).read_to_end(to)?;
        if read != len {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.hash.update(to);
        Ok(())
    }
}
