//! HTTPS as far as a device needs it: one question on a connection of its own, and an answer that is handed on as it comes.
//!
//! The address is read, the request is written and the head of the answer is parsed here; whoever drives the device moves the
//! bytes. The connection shows no certificate of the device, and checks the server's as every other connection does.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::platform::Secret;

/// The longest address, in bytes.
pub const URL_BYTES_MAX: usize = 256;
/// The longest head of an answer, in bytes. A longer one is no answer.
pub const HEAD_BYTES_MAX: usize = 4096;
/// How long a server may be silent, in milliseconds.
pub const SILENCE_MS: u32 = 30_000;

/// An address: `https://host[:port]/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    host: String,
    port: u16,
    path: String,
}

/// A question: to whom, and the exact bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The name that the server's certificate must have.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The request. It may carry a token.
    pub request: Secret,
    /// How long the server may be silent, connecting included, in milliseconds.
    pub timeout_ms: u32,
}

/// What comes of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// Its head.
    Begin {
        /// The status, 100 to 999.
        status: u16,
        /// How many bytes follow.
        length: u32,
    },
    /// The next bytes of it.
    Part(&'a [u8]),
    /// All of it came.
    End,
}

/// What the peer says is not an answer that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoAnswer;

impl Url {
    /// Reads an address. Only `https`, a name of letters, digits, `-` and `.`, and a path of printable ASCII without spaces; no user,
    /// no fragment.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > URL_BYTES_MAX {
            return None;
        }
        let rest = text.strip_prefix("https://")?;
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)?),
            None => (authority, 443),
        };
        let of_host = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
        let of_path = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        if host.is_empty() || !host.bytes().all(of_host) || !path.bytes().all(of_path) {
            return None;
        }
        Some(Self { host: host.into(), port, path: path.into() })
    }

    /// Asks for what is there, from the byte `from` on.
    #[must_use]
    pub fn get(&self, from: u32) -> Ask {
        let range = if from == 0 { String::new() } else { format!("Range: bytes={from}-\r\n") };
        self.ask(&format!("GET {} HTTP/1.1\r\nHost: {}\r\n{range}", self.path, self.authority()), b"")
    }

    /// Sends JSON there.
    #[must_use]
    pub fn post_json(&self, body: &[u8]) -> Ask {
        let (path, authority, length) = (&self.path, self.authority(), body.len());
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {authority}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n"
        );
        self.ask(&head, body)
    }

    fn ask(&self, head: &str, body: &[u8]) -> Ask {
        const END: &str = "Accept: */*\r\nUser-Agent: signet-device\r\nConnection: close\r\n\r\n";
        // Of its whole length from the start: what grows leaves copies, and the body may be a secret.
        let mut request = Vec::with_capacity(head.len() + END.len() + body.len());
        request.extend_from_slice(head.as_bytes());
        request.extend_from_slice(END.as_bytes());
        request.extend_from_slice(body);
        Ask { host: self.host.clone(), port: self.port, request: request.into(), timeout_ms: SILENCE_MS }
    }

    fn authority(&self) -> String {
        if self.port == 443 { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }
}

/// Reads an answer out of bytes as they come.
#[derive(Debug, Default)]
pub struct Reader {
    head: Vec<u8>,
    /// Bytes of the body that are still to come, once the head is complete.
    left: Option<u32>,
}

impl Reader {
    /// One that has read nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and tells `hear` what they are. Whether the answer is complete; what comes after it is not looked at.
    ///
    /// # Errors
    ///
    /// It is not HTTP/1.1, its head is too long, or it does not say how long it is.
    pub fn read(&mut self, bytes: &[u8], mut hear: impl FnMut(Answer<'_>)) -> Result<bool, NoAnswer> {
        let mut body = bytes;
        if self.left.is_none() {
            let before = self.head.len();
            let room = HEAD_BYTES_MAX - before;
            self.head.extend_from_slice(bytes.get(..bytes.len().min(room)).unwrap_or_default());
            let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n") else {
                return if self.head.len() < HEAD_BYTES_MAX { Ok(false) } else { Err(NoAnswer) };
            };
            let head = self.head.get(..end).ok_or(NoAnswer)?;
            let (status, length) = read_head(head).ok_or(NoAnswer)?;
            body = bytes.get(end + 4 - before..).unwrap_or_default();
            self.head = Vec::new();
            self.left = Some(length);
            hear(Answer::Begin { status, length });
        }
        let left = self.left.as_mut().ok_or(NoAnswer)?;
        let take = body.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
        if let Some(part) = body.get(..take).filter(|part| !part.is_empty()) {
            hear(Answer::Part(part));
            // Just bounded by it.
            *left -= take as u32;
        }
        if *left == 0 {
            hear(Answer::End);
            return Ok(true);
        }
        Ok(false)
    }
}

/// Status and length.
fn read_head(head: &[u8]) -> Option<(u16, u32)> {
    let mut lines = core::str::from_utf8(head).ok()?.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?;
    let status = status.get(2..5)?.parse().ok().filter(|status| *status >= 100)?;
    let mut length = None;
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            let value = value.parse().ok()?;
            if length.is_some_and(|before| before != value) {
                return None;
            }
            length = Some(value);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return None;
        }
    }
    Some((status, length?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;

    #[test]
    fn an_address_has_a_name_a_port_and_a_path() {
        let url = Url::parse("https://files.example:8443/ota/app.bin").expect("an address");
        let ask = url.get(0);
        assert_eq!((ask.host.as_str(), ask.port), ("files.example", 8443));
        let text = core::str::from_utf8(&ask.request).expect("text");
        assert!(
            text.starts_with("GET /ota/app.bin HTTP/1.1\r\nHost: files.example:8443\r\nAccept"),
            "{text}"
        );
        assert!(text.ends_with("Connection: close\r\n\r\n"), "{text}");
        let ask = Url::parse("https://files.example").expect("an address").get(2048);
        let text = core::str::from_utf8(&ask.request).expect("text");
        assert_eq!(ask.port, 443);
        assert!(
            text.starts_with("GET / HTTP/1.1\r\nHost: files.example\r\nRange: bytes=2048-\r\n"),
            "{text}"
        );
    }

    #[test]
    fn what_could_change_the_request_or_leave_tls_is_no_address() {
        for text in [
            "http://files.example/a",
            "https:///a",
            "https://user@files.example/a",
            "https://files.example:0/a",
            "https://files.example:99999/a",
            "https://files.example/a b",
            "https://files.example/a\r\nX: y",
            "https://files.example/a#b",
            "https://files\u{e4}.example/",
            "",
        ] {
            assert_eq!(Url::parse(text), None, "{text:?}");
        }
        let long = "https://files.example/".to_string() + &"a".repeat(URL_BYTES_MAX);
        assert_eq!(Url::parse(&long), None);
    }

    #[test]
    fn json_is_sent_with_its_length() {
        let ask = Url::parse("https://b.example/provision").expect("an address").post_json(b"{\"a\":1}");
        let text = core::str::from_utf8(&ask.request).expect("text");
        assert!(
            text.starts_with("POST /provision HTTP/1.1\r\n") && text.contains("Content-Length: 7\r\n"),
            "{text}"
        );
        assert!(text.ends_with("\r\n\r\n{\"a\":1}"), "{text}");
    }

    /// The answer, taken `step` bytes at a time: its status, its body, whether it was complete.
    fn taken(answer: &[u8], step: usize) -> Result<(u16, Vec<u8>, bool), NoAnswer> {
        let (mut reader, mut status, mut body) = (Reader::new(), 0, Vec::new());
        let mut over = false;
        for part in answer.chunks(step) {
            over = reader.read(part, |answer| match answer {
                Answer::Begin { status: said, .. } => status = said,
                Answer::Part(bytes) => body.extend_from_slice(bytes),
                Answer::End => {}
            })?;
            if over {
                break;
            }
        }
        Ok((status, body, over))
    }

    #[test]
    fn an_answer_is_the_same_however_its_bytes_come() {
        let answer = b"HTTP/1.1 206 Partial Content\r\ncontent-length: 5\r\nServer: x\r\n\r\nhello and more";
        for step in [1, 2, 7, 64, 1000] {
            assert_eq!(taken(answer, step), Ok((206, b"hello".to_vec(), true)), "{step}");
        }
        assert_eq!(
            taken(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 9),
            Ok((404, Vec::new(), true))
        );
        assert_eq!(
            taken(b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nhel", 5),
            Ok((200, b"hel".to_vec(), false))
        );
    }

    #[test]
    fn what_is_not_http_or_does_not_say_its_length_is_no_answer() {
        for answer in [
            &b"SSH-2.0-x\r\n\r\n"[..],
            b"HTTP/2 200\r\nContent-Length: 1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
            b"HTTP/1.1 20\r\nContent-Length: 1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            b"HTTP/1.1 \xff00 OK\r\n\r\n",
        ] {
            for step in [1, 1000] {
                assert_eq!(taken(answer, step), Err(NoAnswer), "{}", String::from_utf8_lossy(answer));
            }
        }
        let endless = [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), alloc::vec![b'y'; HEAD_BYTES_MAX]].concat();
        assert_eq!(taken(&endless, 100), Err(NoAnswer));
    }
}
