//! What a power failure leaves at the end of the engine's journal.
//!
//! The engine takes back a last batch that ends too early. One that has its end but lost a page in the middle it takes for
//! damage. It was never confirmed, if it is the last one: the commit number that is noted beside the rows shows whether
//! it was. But that note may lag behind after a power failure, and the engine itself cuts off what is behind an entry that it
//! cannot read, so before anything is cut the journal is copied aside.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use signet_core::Now;

use super::MessagesError;
use super::key::Key;
use super::row::{Decoder, Row};

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
/// Copies of journals that are kept beside the rows; the oldest goes.
const COPIES_MAX: usize = 4;
/// The row of the commit number is no longer.
const SHORT_BYTES: u64 = 16;

/// Copies the newest journal in `rows` aside when it ends in something that is neither an entry nor room for one: the engine
/// cuts that off without a word. Where the copy is. Room is zeros up to the end of the file; the engine takes the first zero
/// for it, whatever is behind.
///
/// An entry that reaches beyond the end of the file is what a full disk or a kill leaves of a batch. When the batches before it
/// reach to `known`, the last commit that is known to have been confirmed, it was not, and needs no copy: a full disk has no
/// room for one.
pub(super) fn keep_damaged(
    rows: &Path,
    known: u64,
    moment_ms: u64,
) -> Result<Option<PathBuf>, MessagesError> {
    let Some(path) = newest(rows).map_err(|error| MessagesError::io(rows, error))? else { return Ok(None) };
    let read = read(&path).map_err(|error| MessagesError::io(&path, error))?;
    let unfinished = matches!(read.end, End::Short { complete } if complete >= known);
    if unfinished || matches!(read.end, End::Room) {
        return Ok(None);
    }
    copy_aside(rows, &path, moment_ms).map(Some)
}

/// Cuts the last batch off the newest journal in `rows`, if it is a commit after `known`, the last one that is known to have
/// been confirmed. Gives where the journal is as it was before; `None`: it is no such commit, and nothing was done.
pub(super) fn cut_unfinished(
    rows: &Path,
    known: u64,
    moment_ms: u64,
) -> Result<Option<PathBuf>, MessagesError> {
    let Some(path) = newest(rows).map_err(|error| MessagesError::io(rows, error))? else { return Ok(None) };
    let fail = |error| MessagesError::io(&path, error);
    let Some(Last { start, commit: Some(commit) }) = read(&path).map_err(fail)?.last else {
        return Ok(None);
    };
    if commit <= known {
        return Ok(None);
    }
    let copy = copy_aside(rows, &path, moment_ms)?;
    let file = OpenOptions::new().write(true).open(&path).map_err(fail)?;
    file.set_len(start).and_then(|()| file.sync_all()).map_err(fail)?;
    Ok(Some(copy))
}

/// Copies a journal to a place beside the rows. Without room for it nothing is cut.
fn copy_aside(rows: &Path, journal: &Path, moment_ms: u64) -> Result<PathBuf, MessagesError> {
    let prefix = format!("{}.journal-", rows.file_name().unwrap_or_default().to_string_lossy());
    let copy = rows.with_file_name(format!("{prefix}{moment_ms}"));
    let make_room = || -> std::io::Result<()> {
        let mut copies = Vec::new();
        for entry in std::fs::read_dir(rows.parent().unwrap_or(rows))? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            if let Some(moment) = name.and_then(|name| name.strip_prefix(&prefix)?.parse::<u64>().ok()) {
                copies.push((moment, path));
            }
        }
        copies.sort_unstable();
        let surplus = (copies.len() + 1).saturating_sub(COPIES_MAX);
        copies.iter().take(surplus).try_for_each(|(_, path)| std::fs::remove_file(path))
    };
    let copied = || std::fs::copy(journal, &copy).and_then(|_| File::open(&copy)?.sync_all());
    make_room().and_then(|()| copied()).map_err(|error| {
        // A part of a copy helps nobody and takes the room that is missing.
        let _ = std::fs::remove_file(&copy);
        MessagesError::io(&copy, error)
    })?;
    Ok(copy)
}

/// The journal with the highest number.
fn newest(rows: &Path) -> std::io::Result<Option<PathBuf>> {
    let mut newest: Option<(u64, PathBuf)> = None;
    for entry in std::fs::read_dir(rows)? {
        let path = entry?.path();
        let number = path
            .extension()
            .filter(|end| *end == "jnl")
            .and_then(|_| path.file_stem()?.to_str()?.parse().ok());
        if let Some(number) = number
            && newest.as_ref().is_none_or(|(other, _)| *other < number)
        {
            newest = Some((number, path));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// The last batch of a journal.
struct Last {
    /// Where it begins.
    start: u64,
    /// The number of the commit that it is, if it says so.
    commit: Option<u64>,
}

/// What a journal shows.
struct Shown {
    last: Option<Last>,
    end: End,
}

/// What a journal ends in.
enum End {
    /// Room, or nothing.
    Room,
    /// Something that is no entry.
    Unreadable,
    /// An entry of an unfinished batch that reaches beyond the file.
    Short {
        /// The last commit before it that has its end; 0 when there is none.
        complete: u64,
    },
}

/// Batches are passed by their lengths alone.
fn read(path: &Path) -> std::io::Result<Shown> {
    let mut reader = BufReader::new(File::open(path)?);
    let bytes = reader.get_ref().metadata()?.len();
    let commit_key = Key::Commit.encode().len() as u64;
    let mut last: Option<Last> = None;
    let mut complete = 0;
    let mut open = false;
    let short = |open, complete| if open { End::Short { complete } } else { End::Unreadable };
    let end = loop {
        let start = reader.stream_position()?;
        let entry = match entry(&mut reader)? {
            Found::Entry(entry) => entry,
            Found::Unknown => break End::Unreadable,
            Found::Torn => break short(open, complete),
            // Room is what is zero up to the end: with anything behind, something was there that has gone.
            Found::Zero if !is_zero(&mut reader)? => break End::Unreadable,
            Found::Zero | Found::Nothing if open => break End::Short { complete },
            Found::Zero | Found::Nothing => break End::Room,
        };
        let skip = match entry {
            Entry::Start => {
                last = Some(Last { start, commit: None });
                open = true;
                0
            }
            Entry::End(skip) => {
                complete = last.as_ref().and_then(|last| last.commit).unwrap_or(complete);
                open = false;
                skip
            }
            Entry::Other(skip) => skip,
            Entry::Item { key, value } if key == commit_key && value <= SHORT_BYTES => {
                match commit(&mut reader, key, value)? {
                    Some(Ok(number)) => {
                        if let Some(last) = &mut last {
                            last.commit = Some(number);
                        }
                        0
                    }
                    Some(Err(NoCommit)) => 0,
                    None => break short(open, complete),
                }
            }
            Entry::Item { key, value } => key + value,
        };
        let next = reader.stream_position()?.checked_add(skip).filter(|next| *next <= bytes);
        let Some(next) = next else { break short(open, complete) };
        reader.seek(SeekFrom::Start(next))?;
    };
    Ok(Shown { last, end })
}

/// It is another row.
struct NoCommit;

/// Reads the key and the value of a short row: the number of a commit, if it is that. `None`: the file ends before.
fn commit(reader: &mut impl Read, key: u64, value: u64) -> std::io::Result<Option<Result<u64, NoCommit>>> {
    let key = usize::try_from(key).unwrap_or_default();
    let mut bytes = vec![0; key + usize::try_from(value).unwrap_or_default()];
    if !fill(reader, &mut bytes)? {
        return Ok(None);
    }
    let (key, value) = bytes.split_at(key);
    Ok(Some(match Decoder::new(Now::default()).row(key, value) {
        Ok(Row::Commit(number)) if key == Key::Commit.encode() => Ok(number),
        _ => Err(NoCommit),
    }))
}

/// Whether all that is left is zero.
fn is_zero(reader: &mut impl Read) -> std::io::Result<bool> {
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    let mut bytes = vec![0; ZEROS.len()];
    loop {
        let count = reader.read(&mut bytes)?;
        if count == 0 {
            return Ok(true);
        }
        if bytes.get(..count) != ZEROS.get(..count) {
            return Ok(false);
        }
    }
}

/// Reads as many bytes as there is place for; false when the file ends before.
fn fill(reader: &mut impl Read, bytes: &mut [u8]) -> std::io::Result<bool> {
    match reader.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

enum Entry {
    Start,
    /// So many bytes of key and value follow.
    Item {
        key: u64,
        value: u64,
    },
    /// The end of a batch; so many bytes follow.
    End(u64),
    /// So many bytes follow.
    Other(u64),
}

/// What comes next in a journal.
enum Found {
    Entry(Entry),
    /// The file ends here.
    Nothing,
    /// The file ends in the middle of an entry's header.
    Torn,
    /// A zero, where the tag of an entry should be.
    Zero,
    /// No entry.
    Unknown,
}

fn entry(reader: &mut impl Read) -> std::io::Result<Found> {
    let mut tag = [0];
    if !fill(reader, &mut tag)? {
        return Ok(Found::Nothing);
    }
    Ok(match tag[0] {
        0 => Found::Zero,
        START if fill(reader, &mut [0; 12])? => Found::Entry(Entry::Start),
        ITEM => {
            // Kind of value, compression, keyspace, length of the key, of the value, and of the value as it is stored.
            let mut header = [0; 20];
            if !fill(reader, &mut header)? {
                return Ok(Found::Torn);
            }
            let [.., k0, k1, _, _, _, _, v0, v1, v2, v3] = header;
            let key = u16::from_le_bytes([k0, k1]).into();
            Found::Entry(Entry::Item { key, value: u32::from_le_bytes([v0, v1, v2, v3]).into() })
        }
        START => Found::Torn,
        END => Found::Entry(Entry::End(12)),
        CLEAR => Found::Entry(Entry::Other(8)),
        _ => Found::Unknown,
    })
}
