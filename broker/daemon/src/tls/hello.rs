//! What a client's first message says, read before rustls sees it: rustls shows neither
//! max_fragment_length nor record_size_limit, and a failed handshake should be able to say who asked for what.
//!
//! Pure: bytes in, a [`ClientHello`] out. Nothing here decides about trust.

use super::crl::sha256;

/// The most bytes that are looked at. A hello with post-quantum key shares is below 2 KiB.
pub const HELLO_BYTES_MAX: usize = 16 * 1024;
/// Protocol names kept.
const ALPN_NAMES_MAX: usize = 8;
/// A host name's bound (RFC 1035), in bytes.
const SNI_BYTES_MAX: usize = 255;

const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const RECORD_BYTES_MAX: usize = 16_384 + 256;

/// What the first bytes are, if they are not TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTls {
    /// An MQTT CONNECT without TLS.
    Mqtt,
    /// An HTTP request without TLS.
    Http,
    /// Something else.
    Other,
}

/// What is known after some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The hello is not complete.
    More,
    /// The hello.
    Complete(Box<ClientHello>),
    /// It is not TLS.
    NotTls(NotTls),
    /// It is TLS, but not a hello that we can read; rustls will say what is wrong with it.
    Unreadable,
}

/// What a ClientHello says (RFC 8446, 4.1.2; RFC 5246, 7.4.1.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The versions offered, as on the wire, in the client's order.
    pub versions: Vec<u16>,
    /// The server name asked for, if it is printable ASCII. An IP address literal, which RFC 6066 forbids and
    /// clients send, is kept as it is.
    pub sni: Option<String>,
    /// The protocol names offered, at most 8.
    pub alpn: Vec<Vec<u8>>,
    /// max_fragment_length (RFC 6066, 4), in bytes of plaintext.
    pub max_fragment_length: Option<u16>,
    /// record_size_limit (RFC 8449), in bytes.
    pub record_size_limit: Option<u16>,
    /// The first 8 bytes of a SHA-256 over what distinguishes client programs: version, suites, extensions,
    /// groups, signature schemes.
    pub fingerprint: [u8; 8],
}

impl ClientHello {
    /// The largest plaintext of a record that the client says it can take; `None` when it says nothing.
    #[must_use]
    pub fn fragment_bytes_max(&self) -> Option<u16> {
        // In TLS 1.3 the limit counts the content type as well (RFC 8449, 4).
        let limit = self.record_size_limit.map(|limit| limit.saturating_sub(1));
        match (self.max_fragment_length, limit) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// The newest version offered, in words; for a record.
    #[must_use]
    pub fn newest_version(&self) -> &'static str {
        // GREASE values look like versions of a far future (RFC 8701).
        match self.versions.iter().filter(|version| **version <= 0x0304).max() {
            Some(0x0304) => "TLS 1.3",
            Some(0x0303) => "TLS 1.2",
            Some(0x0302) => "TLS 1.1",
            Some(0x0301) => "TLS 1.0",
            _ => "unknown",
        }
    }
}

/// Collects the first bytes of a connection until the hello is complete.
#[derive(Debug, Default)]
pub struct HelloTap {
    bytes: Vec<u8>,
    done: Option<Progress>,
}

impl HelloTap {
    /// Takes the next bytes that the client sent, in order.
    pub fn push(&mut self, bytes: &[u8]) -> &Progress {
        if self.done.is_none() {
            let room = HELLO_BYTES_MAX.saturating_sub(self.bytes.len());
            self.bytes.extend_from_slice(bytes.get(..bytes.len().min(room)).unwrap_or(bytes));
            match parse(&self.bytes) {
                Progress::More if self.bytes.len() < HELLO_BYTES_MAX => {}
                Progress::More => self.done = Some(Progress::Unreadable),
                done => self.done = Some(done),
            }
            if self.done.is_some() {
                self.bytes = Vec::new();
            }
        }
        self.progress()
    }

    /// What is known so far.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        self.done.as_ref().unwrap_or(&Progress::More)
    }

    /// The hello, once it is complete.
    #[must_use]
    pub fn hello(&self) -> Option<&ClientHello> {
        match self.progress() {
            Progress::Complete(hello) => Some(hello),
            _ => None,
        }
    }

    /// Whether no byte has come yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.done.is_none()
    }
}

/// Reads the first bytes of a connection.
#[must_use]
pub fn parse(bytes: &[u8]) -> Progress {
    match bytes {
        [] => return Progress::More,
        [HANDSHAKE_RECORD, ..] => {}
        [first, ..] => return Progress::NotTls(not_tls(*first)),
    }
    let message = match join_records(bytes) {
        Ok(message) => message,
        Err(progress) => return progress,
    };
    match read_hello(&message) {
        Some(hello) => Progress::Complete(Box::new(hello)),
        None => Progress::Unreadable,
    }
}

fn not_tls(first: u8) -> NotTls {
    match first {
        // CONNECT with its reserved flags, right or wrong [MQTT5-2.1.3].
        0x10..=0x1f => NotTls::Mqtt,
        b'A'..=b'Z' => NotTls::Http,
        _ => NotTls::Other,
    }
}

/// Joins the records that carry the first handshake message and returns that message's body.
fn join_records(bytes: &[u8]) -> Result<Vec<u8>, Progress> {
    let mut input = Reader(bytes);
    let mut joined = Vec::new();
    loop {
        if let Some(&[kind, a, b, c]) = joined.first_chunk::<4>() {
            let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            if kind != CLIENT_HELLO || length > HELLO_BYTES_MAX {
                return Err(Progress::Unreadable);
            }
            if let Some(body) = joined.get(4..4 + length) {
                return Ok(body.to_vec());
            }
        }
        let header = input.take(5).ok_or(Progress::More)?;
        let &[kind, major, _, high, low] = header else { return Err(Progress::Unreadable) };
        let length = usize::from(high) << 8 | usize::from(low);
        if kind != HANDSHAKE_RECORD || major != 3 || length == 0 || length > RECORD_BYTES_MAX {
            return Err(Progress::Unreadable);
        }
        // A part of a record is a part of the message, but its header may come with it later.
        match input.take(length) {
            Some(fragment) => joined.extend_from_slice(fragment),
            None => return Err(Progress::More),
        }
    }
}

fn read_hello(body: &[u8]) -> Option<ClientHello> {
    let mut input = Reader(body);
    let legacy_version = input.u16()?;
    input.take(32)?;
    input.vec8()?;
    let suites = input.vec16()?;
    input.vec8()?;
    let mut hello = ClientHello { versions: vec![legacy_version], ..ClientHello::default() };
    let mut fingerprint = Fingerprint::new(legacy_version, suites);
    if !input.0.is_empty() {
        let mut extensions = Reader(input.vec16()?);
        while !extensions.0.is_empty() {
            let kind = extensions.u16()?;
            let value = extensions.vec16()?;
            fingerprint.add(kind, value);
            read_extension(&mut hello, kind, value)?;
        }
    }
    hello.fingerprint = fingerprint.finish();
    Some(hello)
}

fn read_extension(hello: &mut ClientHello, kind: u16, value: &[u8]) -> Option<()> {
    let mut input = Reader(value);
    match kind {
        0 => {
            let mut names = Reader(input.vec16()?);
            let (kind, name) = (names.u8()?, names.vec16()?);
            let shown = name.len() <= SNI_BYTES_MAX && name.iter().all(u8::is_ascii_graphic);
            if kind == 0 && shown {
                hello.sni = String::from_utf8(name.to_vec()).ok();
            }
        }
        1 => {
            hello.max_fragment_length = match input.u8()? {
                code @ 1..=4 => Some(256 << code),
                _ => None,
            };
        }
        16 => {
            let mut names = Reader(input.vec16()?);
            while !names.0.is_empty() && hello.alpn.len() < ALPN_NAMES_MAX {
                hello.alpn.push(names.vec8()?.to_vec());
            }
        }
        28 => hello.record_size_limit = Some(input.u16()?),
        43 => {
            let mut versions = Reader(input.vec8()?);
            hello.versions.clear();
            while !versions.0.is_empty() {
                hello.versions.push(versions.u16()?);
            }
        }
        _ => {}
    }
    Some(())
}

/// GREASE (RFC 8701) is random and says nothing of the program.
fn is_grease(value: u16) -> bool {
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}

struct Fingerprint {
    version_and_suites: Vec<u8>,
    groups: Vec<u8>,
    signatures: Vec<u8>,
    kinds: Vec<u16>,
}

impl Fingerprint {
    fn new(version: u16, suites: &[u8]) -> Self {
        let version_and_suites = [&version.to_be_bytes()[..], &without_grease(suites)].concat();
        Self { version_and_suites, groups: Vec::new(), signatures: Vec::new(), kinds: Vec::new() }
    }

    fn add(&mut self, kind: u16, value: &[u8]) {
        // Some programs shuffle their extensions, and add padding and a resumed session's key as needed.
        if !is_grease(kind) && !matches!(kind, 21 | 41) {
            self.kinds.push(kind);
        }
        let list = value.get(2..).unwrap_or_default();
        match kind {
            10 => self.groups = without_grease(list),
            13 => self.signatures = without_grease(list),
            _ => {}
        }
    }

    fn finish(mut self) -> [u8; 8] {
        self.kinds.sort_unstable();
        let kinds: Vec<u8> = self.kinds.iter().flat_map(|kind| kind.to_be_bytes()).collect();
        let parts = [&self.version_and_suites, &self.groups, &self.signatures, &kinds];
        let hashes = parts.map(|part| sha256(&[part]));
        *sha256(&[hashes.as_flattened()]).first_chunk().unwrap_or(&[0; 8])
    }
}

/// The values of a list of two-byte values that say something.
fn without_grease(list: &[u8]) -> Vec<u8> {
    let (values, _odd) = list.as_chunks::<2>();
    values.iter().filter(|value| !is_grease(u16::from_be_bytes(**value))).flatten().copied().collect()
}

/// Takes from the front; `None` when there is not enough.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.first_chunk().map(|pair| u16::from_be_bytes(*pair))
    }

    fn vec8(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(length.into())
    }

    fn vec16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }
}
