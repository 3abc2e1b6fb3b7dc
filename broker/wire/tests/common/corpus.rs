//! How a table of packets with their expected outcome is checked.

use bytes::BytesMut;
use signet_wire::*;

use super::{whole, wire};

/// Who decodes the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// A server, as the first packet.
    First,
    /// A server, after CONNECT.
    Server,
    Client,
}

/// One packet and what must become of it: `None` is acceptance.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) packet: String,
    pub(crate) expected: Option<(DecodeErrorKind, u8, &'static str)>,
}

pub(crate) fn ok(name: &'static str, packet: impl Into<String>) -> Case {
    Case { name, packet: packet.into(), expected: None }
}

/// A packet that is refused, with the reason code that a 5.0 peer is told and the clause.
pub(crate) fn no(
    name: &'static str,
    packet: impl Into<String>,
    kind: DecodeErrorKind,
    reason: u8,
    clause: &'static str,
) -> Case {
    Case { name, packet: packet.into(), expected: Some((kind, reason, clause)) }
}

/// Checks all cases and reports every one that fails.
pub(crate) fn check(version: Version, reader: Reader, cases: &[Case]) {
    let mut names = std::collections::HashSet::new();
    let mut failures = Vec::new();
    for case in cases {
        assert!(names.insert(case.name), "two cases are called {:?}", case.name);
        if let Err(failure) = check_one(version, reader, case) {
            failures.push(format!("{}: {failure}", case.name));
        }
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

fn check_one(version: Version, reader: Reader, case: &Case) -> Result<(), String> {
    let bytes = wire(&case.packet);
    let decoded = decode(version, reader, &bytes);
    match (decoded, case.expected) {
        (Ok(packet), None) => {
            // What is accepted can be written again, and is then the same packet.
            let mut again = BytesMut::new();
            match encode(&packet, version, &mut again) {
                Ok(()) if decode(version, reader, &again) == Ok(packet.clone()) => Ok(()),
                Ok(()) => Err(format!("written again it differs: {packet:?}, {again:?}")),
                // A filter that is none has no text.
                Err(EncodeError::Contradiction("a filter that is none")) => Ok(()),
                Err(error) => Err(format!("cannot be written again: {error}")),
            }
        }
        (Err(error), Some((kind, reason, clause))) => {
            let got = (error.kind(), error.reason() as u8, error.clause());
            if got == (kind, reason, clause) { Ok(()) } else { Err(format!("refused as {got:?}")) }
        }
        (Ok(packet), Some(_)) => Err(format!("accepted as {packet:?}")),
        (Err(error), None) => Err(format!("refused: {error}")),
    }
}

fn decode(version: Version, reader: Reader, bytes: &[u8]) -> Result<Packet, DecodeError> {
    let frame = whole(bytes);
    match reader {
        Reader::Server => decode_from_client(frame, version),
        Reader::Client => decode_from_server(frame, version),
        Reader::First => match decode_connect(frame) {
            Ok(connect) => {
                assert_eq!(connect.version, version);
                Ok(Packet::Connect(Box::new(connect)))
            }
            Err(ConnectError::Malformed(error)) => Err(error),
            Err(other) => panic!("not a question of form: {other}"),
        },
    }
}
